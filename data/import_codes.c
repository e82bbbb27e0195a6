/* SPDX-License-Identifier: MIT
 * On one thread before the recordings are read, so that a map that does not fit fails at once. */
#include "data/import_codes.h"

#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "core/mem.h"
#include "data/label_map.h"
#include "data/readers/codes.h"

enum { NAMES_SHOWN = 5 };

enum ecg_status import_codes_headers(struct annotations *a, char *const *paths, size_t n,
                                     const char *field) {
    size_t found = 0;
    if (a->n == 0) TRY(annotations_init(a, n, false, false));
    TRY(MEM_NEW(&a->codes, n));
    for (size_t i = 0; i < n; i++) {
        TRY(codes_of_header(&a->codes[i], paths[i], field));
        found += a->codes[i] != NULL;
    }
    if (found > 0) return ECG_OK;
    return ecg_fail(ECG_ERR_DATA,
                    "none of the %zu headers has a line \"#%s:\" with codes; codes in a CSV need "
                    "--labels CSV --code-column NAME",
                    n, field);
}

/* The codes met, for the message. */
struct tally {
    size_t n_codes, n_unmatched; /* occurrences */
    struct names examples;       /* of codes that no row is about */
};

static enum ecg_status note_unmatched(struct tally *t, const char *code) {
    t->n_unmatched++;
    if (t->examples.n == NAMES_SHOWN || names_find(&t->examples, code) >= 0) return ECG_OK;
    return strchr(code, '\n') != NULL ? ECG_OK : annotations_add_name(&t->examples, code);
}

static enum ecg_status one_record(const struct label_map *m, const char *text, uint8_t *labels,
                                  struct tally *t) {
    struct codes c;
    TRY(codes_parse(&c, text));
    if (c.known) memset(labels, 0, (size_t)m->labels.n);
    enum ecg_status status = ECG_OK;
    for (size_t i = 0; i < c.n && status == ECG_OK; i++) {
        t->n_codes++;
        if (!label_map_add(m, c.v[i].text, c.v[i].is_unstated, labels))
            status = note_unmatched(t, c.v[i].text);
    }
    codes_free(&c);
    return status;
}

static enum ecg_status all_records(struct annotations *a, const struct label_map *m, int first,
                                   char *const *ids, const char *where, struct tally *t) {
    for (size_t i = 0; i < a->n; i++) {
        if (a->codes[i] == NULL) continue;
        uint8_t *labels = a->label + i * (size_t)a->labels.n + first;
        enum ecg_status status = one_record(m, a->codes[i], labels, t);
        if (status != ECG_OK)
            return ecg_fail_prefix(status, "%s: record %s: \"%.60s\": ", where, ids[i],
                                   a->codes[i]);
    }
    return ECG_OK;
}

/* "A, B, ..." of the labels that no record has, or of the examples. */
static void put_name(char *text, size_t size, int i, const char *name) {
    size_t n = strlen(text);
    snprintf(text + n, size - n, "%s%.40s", i > 0 ? ", " : "", name);
}

static void say(const struct annotations *a, const struct label_map *m, int first,
                const struct tally *t) {
    char text[256] = "";
    int n_empty = 0;
    for (int i = 0; i < t->examples.n; i++) put_name(text, sizeof text, i, t->examples.v[i]);
    log_info("%s: %d labels from %zu codes in the records; no row is about %zu of them%s%s",
             m->path, m->labels.n, t->n_codes, t->n_unmatched, *text ? ": " : "", text);
    *text = '\0';
    for (int k = 0; k < m->labels.n; k++) {
        bool has = false;
        for (size_t i = 0; i < a->n && !has; i++)
            has = a->label[i * (size_t)a->labels.n + (size_t)(first + k)] == 1;
        if (!has && n_empty++ < NAMES_SHOWN)
            put_name(text, sizeof text, n_empty - 1, m->labels.v[k]);
    }
    if (n_empty > 0)
        log_warn("%d of the %d labels have no record: %s%s", n_empty, m->labels.n, text,
                 n_empty > NAMES_SHOWN ? ", ..." : "");
}

enum ecg_status import_codes_labels(struct annotations *a, const char *map_path, char *const *ids,
                                    const char *where) {
    struct label_map m;
    struct tally t = {0};
    int first;
    TRY(label_map_read(&m, map_path));
    enum ecg_status status;
    if ((status = annotations_add_labels(a, &m.labels, &first)) != ECG_OK) {
        status = ecg_fail_prefix(status, "%s: ", map_path);
        goto out;
    }
    TRY_OUT(all_records(a, &m, first, ids, where, &t));
    TRY_OUT(annotations_check(a, where));
    say(a, &m, first, &t);
out:
    names_free(&t.examples);
    label_map_free(&m);
    return status;
}
