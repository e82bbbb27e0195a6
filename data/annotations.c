/* SPDX-License-Identifier: MIT
 * The table of labels, targets, patients and folds that an import joins to its records. */
#include "data/annotations.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

enum ecg_status annotations_init(struct annotations *a, size_t n, bool has_patient, bool has_fold) {
    size_t n_labels = n * (size_t)a->labels.n, n_targets = n * (size_t)a->targets.n;
    a->n = n;
    TRY(MEM_NEW(&a->label, n_labels));
    TRY(MEM_NEW(&a->target, n_targets));
    memset(a->label, SHARD_LABEL_UNKNOWN, n_labels);
    for (size_t i = 0; i < n_targets; i++) a->target[i] = NAN;
    if (has_patient) TRY(MEM_NEW(&a->patient, n));
    if (has_fold) TRY(MEM_NEW(&a->fold, n));
    for (size_t i = 0; has_fold && i < n; i++) a->fold[i] = -1;
    return ECG_OK;
}

void annotations_free(struct annotations *a) {
    names_free(&a->labels);
    names_free(&a->targets);
    for (size_t i = 0; a->patient && i < a->n; i++) free(a->patient[i]);
    free(a->label);
    free(a->target);
    free(a->patient);
    for (size_t i = 0; a->codes && i < a->n; i++) free(a->codes[i]);
    free(a->codes);
    free(a->fold);
    *a = (struct annotations){0};
}

enum ecg_status annotations_add_name(struct names *names, const char *name) {
    if (!*name || strchr(name, '\n'))
        return ecg_fail(ECG_ERR_CONFIG, "\"%s\" can't be the name of a column", name);
    if (names_find(names, name) >= 0)
        return ecg_fail(ECG_ERR_CONFIG, "the column %s stands twice", name);
    char **v = realloc(names->v, ((size_t)names->n + 1) * sizeof *v);
    if (!v) return ecg_fail(ECG_ERR_NOMEM, "out of memory");
    names->v = v;
    TRY(mem_strdup(&v[names->n], name));
    names->n++;
    return ECG_OK;
}

enum ecg_status annotations_add_labels(struct annotations *a, const struct names *more,
                                       int *first) {
    size_t old = (size_t)a->labels.n, k = old + (size_t)more->n;
    uint8_t *label;
    *first = a->labels.n;
    for (int i = 0; i < more->n; i++) TRY(annotations_add_name(&a->labels, more->v[i]));
    TRY(mem_alloc((void **)&label, a->n * k, 1));
    memset(label, SHARD_LABEL_UNKNOWN, a->n * k);
    for (size_t i = 0; i < a->n && old > 0; i++) memcpy(label + i * k, a->label + i * old, old);
    free(a->label);
    a->label = label;
    return ECG_OK;
}

bool annotations_label(double v, uint8_t *out) {
    if (v == 0 || v == 1)
        *out = (uint8_t)v;
    else if (isnan(v) || v == -1 || v == SHARD_LABEL_UNKNOWN)
        *out = SHARD_LABEL_UNKNOWN;
    else
        return false;
    return true;
}

enum ecg_status annotations_check(const struct annotations *a, const char *where) {
    for (int k = 0; k < a->labels.n; k++) {
        bool known = false;
        for (size_t i = 0; i < a->n && !known; i++)
            known = a->label[i * (size_t)a->labels.n + (size_t)k] != SHARD_LABEL_UNKNOWN;
        if (!known)
            return ecg_fail(ECG_ERR_DATA, "%s: label %s is unknown for every record", where,
                            a->labels.v[k]);
    }
    for (int k = 0; k < a->targets.n; k++) {
        bool known = false;
        for (size_t i = 0; i < a->n && !known; i++)
            known = !isnan(a->target[i * (size_t)a->targets.n + (size_t)k]);
        if (!known)
            return ecg_fail(ECG_ERR_DATA, "%s: target %s is unknown for every record", where,
                            a->targets.v[k]);
    }
    return ECG_OK;
}
