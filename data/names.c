/* SPDX-License-Identifier: MIT
 * Lists of column names. */
#include "data/names.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

int names_find(const struct names *s, const char *name) {
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->v[i], name) == 0) return i;
    return -1;
}

void names_free(struct names *s) {
    for (int i = 0; i < s->n; i++) free(s->v[i]);
    free(s->v);
    *s = (struct names){0};
}

static enum ecg_status add(struct names *s, const char *line, size_t n, const char *where) {
    if (n > 0 && line[n - 1] == '\r') n--;
    if (n == 0) return ecg_fail(ECG_ERR_DATA, "%s: line %d is empty", where, s->n + 1);
    char *name;
    TRY(MEM_NEW(&name, n + 1));
    memcpy(name, line, n);
    if (names_find(s, name) >= 0) {
        enum ecg_status status = ecg_fail(ECG_ERR_DATA, "%s: \"%s\" stands twice", where, name);
        free(name);
        return status;
    }
    s->v[s->n++] = name;
    return ECG_OK;
}

enum ecg_status names_parse(struct names *s, const char *text, const char *where) {
    size_t n_lines = 1;
    *s = (struct names){0};
    for (const char *c = text; *c != 0; c++) n_lines += *c == '\n';
    TRY(MEM_NEW(&s->v, n_lines));
    enum ecg_status status = ECG_OK;
    do {
        size_t n = strcspn(text, "\n");
        status = add(s, text, n, where);
        text += n + (text[n] == '\n');
    } while (status == ECG_OK && *text != 0);
    if (status != ECG_OK) names_free(s);
    return status;
}

enum ecg_status names_join(const struct names *s, char **text) {
    size_t total = 1;
    for (int i = 0; i < s->n; i++) {
        if (strchr(s->v[i], '\n') != NULL)
            return ecg_fail(ECG_ERR_DATA, "\"%s\": a column's name can't hold a newline", s->v[i]);
        total += strlen(s->v[i]) + 1;
    }
    TRY(MEM_NEW(text, total));
    char *to = *text;
    for (int i = 0; i < s->n; i++) {
        if (i > 0) *to++ = '\n';
        to = stpcpy(to, s->v[i]);
    }
    return ECG_OK;
}

enum ecg_status names_copy(struct names *out, const struct names *s) {
    struct names copy = {0};
    *out = copy;
    TRY(MEM_NEW(&copy.v, (size_t)s->n));
    for (; copy.n < s->n; copy.n++) {
        enum ecg_status status = mem_strdup(&copy.v[copy.n], s->v[copy.n]);
        if (status != ECG_OK) {
            names_free(&copy);
            return status;
        }
    }
    *out = copy;
    return ECG_OK;
}

bool names_equal(const struct names *a, const struct names *b) {
    if (a->n != b->n) return false;
    for (int i = 0; i < a->n; i++)
        if (strcmp(a->v[i], b->v[i]) != 0) return false;
    return true;
}
