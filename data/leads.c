/* SPDX-License-Identifier: MIT
 * Lead names and the limb leads' algebra. All six limb leads are combinations of I and II
 * (Einthoven: III = II - I; Goldberger: aVR = -(I + II)/2, aVL = I - II/2, aVF = II - I/2), any
 * two of them are independent, so any two give the other four. */
#include "data/leads.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/mem.h"

const struct leads leads_standard12 = {
    12, {"I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"}};

/* Spellings of data sets that differ by more than case. */
static const struct {
    const char *synonym, *name;
} synonyms[] = {{"DI", "I"},   {"DII", "II"},   {"DIII", "III"},   {"D1", "I"},        {"D2", "II"},
                {"D3", "III"}, {"lead I", "I"}, {"lead II", "II"}, {"lead III", "III"}};

/* Each limb lead as a*I + b*II. */
static const struct {
    const char *name;
    double a, b;
} limb[] = {{"I", 1, 0},         {"II", 0, 1},     {"III", -1, 1},
            {"aVR", -0.5, -0.5}, {"aVL", 1, -0.5}, {"aVF", -0.5, 1}};

enum { N_SYNONYMS = sizeof synonyms / sizeof *synonyms, N_LIMB = sizeof limb / sizeof *limb };

/* Trimmed copy, cut at what fits. Commas and control characters become '_': lead names are kept in
 * a comma-separated attribute. */
static void tidy(const char *name, char out[LEAD_NAME_MAX]) {
    while (isspace((unsigned char)*name)) name++;
    size_t n = strlen(name);
    if (n > LEAD_NAME_MAX - 1) n = LEAD_NAME_MAX - 1;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)name[i];
        out[i] = c == ',' || iscntrl(c) ? '_' : (char)c;
    }
    while (n > 0 && (out[n - 1] == '_' || isspace((unsigned char)out[n - 1]))) n--;
    out[n] = '\0';
}

void leads_canonical(const char *name, char out[LEAD_NAME_MAX]) {
    char text[LEAD_NAME_MAX];
    tidy(name, text);
    const char *known = NULL;
    for (int i = 0; i < leads_standard12.n; i++)
        if (strcasecmp(text, leads_standard12.name[i]) == 0) known = leads_standard12.name[i];
    for (int i = 0; i < N_SYNONYMS; i++)
        if (strcasecmp(text, synonyms[i].synonym) == 0) known = synonyms[i].name;
    strcpy(out, known ? known : text);
}

int leads_find(const struct leads *set, const char *name) {
    char wanted[LEAD_NAME_MAX], have[LEAD_NAME_MAX];
    leads_canonical(name, wanted);
    for (int i = 0; i < set->n; i++) {
        leads_canonical(set->name[i], have);
        if (strcasecmp(wanted, have) == 0) return i;
    }
    return -1;
}

enum ecg_status leads_parse(struct leads *out, const char *text) {
    *out = (struct leads){0};
    for (const char *p = text;; p++) {
        size_t n = strcspn(p, ",");
        char *name = strndup(p, n);
        if (!name) return ecg_fail(ECG_ERR_NOMEM, "out of memory");
        char canonical[LEAD_NAME_MAX];
        leads_canonical(name, canonical);
        free(name);
        if (!canonical[0]) return ecg_fail(ECG_ERR_DATA, "leads \"%s\": an empty name", text);
        if (leads_find(out, canonical) >= 0)
            return ecg_fail(ECG_ERR_DATA, "leads \"%s\": %s stands twice", text, canonical);
        if (out->n == LEADS_MAX)
            return ecg_fail(ECG_ERR_DATA, "leads: more than %d names", LEADS_MAX);
        strcpy(out->name[out->n++], canonical);
        p += n;
        if (!*p) return ECG_OK;
    }
}

enum ecg_status leads_format(const struct leads *set, char **text) {
    char *out;
    TRY(MEM_NEW(&out, (size_t)LEADS_MAX * LEAD_NAME_MAX));
    char *end = out;
    for (int i = 0; i < set->n; i++) end += sprintf(end, "%s%s", i ? "," : "", set->name[i]);
    *text = out;
    return ECG_OK;
}

static int limb_index(const char *name) {
    for (int i = 0; i < N_LIMB; i++)
        if (strcmp(limb[i].name, name) == 0) return i;
    return -1;
}

enum ecg_status leads_mix(const struct leads *source, const char *wanted, struct lead_mix *mix) {
    int direct = leads_find(source, wanted);
    if (direct >= 0) {
        *mix = (struct lead_mix){.n = 1, .source = {direct}, .weight = {1}};
        return ECG_OK;
    }
    char name[LEAD_NAME_MAX];
    leads_canonical(wanted, name);
    int w = limb_index(name);
    for (int i = 0; w >= 0 && i < N_LIMB; i++) {
        int si = leads_find(source, limb[i].name);
        for (int j = i + 1; si >= 0 && j < N_LIMB; j++) {
            int sj = leads_find(source, limb[j].name);
            if (sj < 0) continue;
            /* Cramer: weight_i * limb_i + weight_j * limb_j = limb_w */
            double det = limb[i].a * limb[j].b - limb[i].b * limb[j].a;
            double wi = (limb[w].a * limb[j].b - limb[w].b * limb[j].a) / det;
            double wj = (limb[i].a * limb[w].b - limb[i].b * limb[w].a) / det;
            *mix = (struct lead_mix){.n = 2, .source = {si, sj}, .weight = {wi, wj}};
            return ECG_OK;
        }
    }
    return ecg_fail(ECG_ERR_DATA, "lead %s is not there%s", name,
                    w >= 0 ? " and can't be derived: that takes two other limb leads" : "");
}
