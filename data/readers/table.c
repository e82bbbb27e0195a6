/* SPDX-License-Identifier: MIT
 * The join is two sorted lists of the CSV's rows, by whole id and by last path component, searched
 * by bisection. */
#include "data/readers/table.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/conf.h"
#include "core/csv.h"
#include "core/mem.h"

struct entry {
    const char *key;
    size_t row;
};

static int compare(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    return order ? order : (x->row > y->row) - (x->row < y->row);
}

/* Entries with this key: how many, and the first. */
static size_t find(const struct entry *list, size_t n, const char *key,
                   const struct entry **first) {
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(list[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    size_t count = 0;
    while (low + count < n && strcmp(list[low + count].key, key) == 0) count++;
    *first = list + low;
    return count;
}

static const char *last_component(const char *id) {
    const char *slash = strrchr(id, '/');
    return slash ? slash + 1 : id;
}

/* Drops the ".0" of an integer that went through a float column ("15709.0"). */
static void tidy_integer(char *cell) {
    size_t n = strlen(cell);
    if (n > 2 && strcmp(cell + n - 2, ".0") == 0 && strspn(cell, "0123456789") == n - 2)
        cell[n - 2] = '\0';
}

/* The CSV with its columns found. */
struct table {
    const struct table_spec *spec;
    struct csv csv;
    int id, patient, fold, code;
    int *label, *target;           /* columns, those of the derived ones after the plain ones */
    struct entry *by_id, *by_tail; /* rows */
    struct entry *records_by_tail; /* records */
    size_t n_records;
};

static void table_close(struct table *t) {
    csv_free(&t->csv);
    free(t->label);
    free(t->target);
    free(t->by_id);
    free(t->by_tail);
    free(t->records_by_tail);
}

static const char *cell(const struct table *t, size_t row, int column) {
    return t->csv.cells[row * t->csv.n_columns + (size_t)column];
}

static enum ecg_status bad_cell(const struct table *t, size_t row, int column, const char *wanted) {
    return ecg_fail(ECG_ERR_DATA, "%s:%zu: column %s holds \"%.40s\": %s wanted", t->spec->path,
                    t->csv.lines[row], t->csv.header[column], cell(t, row, column), wanted);
}

static enum ecg_status find_column(const struct table *t, const char *name, int *out) {
    *out = -1;
    if (!name) return ECG_OK;
    *out = csv_column(&t->csv, name);
    if (*out >= 0) return ECG_OK;
    char hint[CONF_HINT_MAX];
    return ecg_fail(
        ECG_ERR_CONFIG, "%s: no column %s%s", t->spec->path, name,
        conf_did_you_mean(hint, name, (const char *const *)t->csv.header, (int)t->csv.n_columns));
}

static enum ecg_status find_columns(struct table *t) {
    const struct table_spec *s = t->spec;
    TRY(find_column(t, s->id_column ? s->id_column : t->csv.header[0], &t->id));
    TRY(find_column(t, s->patient_column, &t->patient));
    TRY(find_column(t, s->fold_column, &t->fold));
    TRY(find_column(t, s->code_column, &t->code));
    TRY(MEM_NEW(&t->label, (size_t)s->n_labels + (size_t)s->derived_labels.n));
    TRY(MEM_NEW(&t->target, (size_t)s->n_targets + (size_t)s->derived_targets.n));
    for (int i = 0; i < s->n_labels; i++) TRY(find_column(t, s->label_columns[i], &t->label[i]));
    for (int i = 0; i < s->n_targets; i++) TRY(find_column(t, s->target_columns[i], &t->target[i]));
    for (int i = 0; i < s->derived_labels.n; i++)
        TRY(find_column(t, s->derived_labels.v[i].source, &t->label[s->n_labels + i]));
    for (int i = 0; i < s->derived_targets.n; i++)
        TRY(find_column(t, s->derived_targets.v[i].source, &t->target[s->n_targets + i]));
    return ECG_OK;
}

static enum ecg_status index_rows(struct table *t) {
    size_t n = t->csv.n_rows;
    TRY(MEM_NEW(&t->by_id, n));
    TRY(MEM_NEW(&t->by_tail, n));
    for (size_t i = 0; i < n; i++) {
        char *id = t->csv.cells[i * t->csv.n_columns + (size_t)t->id];
        tidy_integer(id);
        t->by_id[i] = (struct entry){id, i};
        t->by_tail[i] = (struct entry){last_component(id), i};
    }
    qsort(t->by_id, n, sizeof *t->by_id, compare);
    qsort(t->by_tail, n, sizeof *t->by_tail, compare);
    for (size_t i = 1; i < n; i++)
        if (strcmp(t->by_id[i].key, t->by_id[i - 1].key) == 0)
            return ecg_fail(ECG_ERR_DATA, "%s:%zu: the id \"%s\" stands in line %zu already",
                            t->spec->path, t->csv.lines[t->by_id[i].row], t->by_id[i].key,
                            t->csv.lines[t->by_id[i - 1].row]);
    return ECG_OK;
}

static enum ecg_status index_records(struct table *t, char *const *ids, size_t n) {
    t->n_records = n;
    TRY(MEM_NEW(&t->records_by_tail, n));
    for (size_t i = 0; i < n; i++)
        t->records_by_tail[i] = (struct entry){last_component(ids[i]), i};
    qsort(t->records_by_tail, n, sizeof *t->records_by_tail, compare);
    return ECG_OK;
}

/* The row of a record, or false. */
static bool find_row(const struct table *t, const char *id, size_t *row) {
    const struct entry *e, *other;
    const char *tail = last_component(id);
    if (find(t->by_id, t->csv.n_rows, id, &e) != 1 &&
        (find(t->records_by_tail, t->n_records, tail, &other) != 1 ||
         find(t->by_tail, t->csv.n_rows, tail, &e) != 1))
        return false;
    *row = e->row;
    return true;
}

static enum ecg_status read_label(const struct table *t, size_t row, int column, uint8_t *out) {
    const char *text = cell(t, row, column);
    char *end;
    if (!*text) return ECG_OK;
    if (strcasecmp(text, "true") == 0 || strcasecmp(text, "false") == 0) {
        *out = strcasecmp(text, "true") == 0;
        return ECG_OK;
    }
    double v = strtod(text, &end);
    if (*end || !annotations_label(v, out))
        return bad_cell(t, row, column, "0, 1, true, false or blank");
    return ECG_OK;
}

/* NaN when blank; beyond what a float holds is an error. */
static enum ecg_status read_number(const struct table *t, size_t row, int column, double *out) {
    const char *text = cell(t, row, column);
    char *end;
    *out = NAN;
    if (!*text) return ECG_OK;
    double v = strtod(text, &end);
    if (*end || fabs(v) > (double)FLT_MAX) return bad_cell(t, row, column, "a number or blank");
    *out = v;
    return ECG_OK;
}

static enum ecg_status read_fold(const struct table *t, size_t row, int16_t *out) {
    const char *text = cell(t, row, t->fold);
    char *end;
    if (!*text) return ECG_OK;
    double v = strtod(text, &end);
    if (*end || !(v >= 0 && v <= INT16_MAX) || v != floor(v))
        return bad_cell(t, row, t->fold, "an integer or blank");
    *out = (int16_t)v;
    return ECG_OK;
}

static enum ecg_status read_derived(const struct table *t, size_t row, uint8_t *labels,
                                    float *targets) {
    const struct table_spec *s = t->spec;
    double v;
    for (int i = 0; i < s->derived_labels.n; i++) {
        TRY(read_number(t, row, t->label[s->n_labels + i], &v));
        labels[s->n_labels + i] = column_rule_apply_label(&s->derived_labels.v[i], v);
    }
    for (int i = 0; i < s->derived_targets.n; i++) {
        TRY(read_number(t, row, t->target[s->n_targets + i], &v));
        targets[s->n_targets + i] = column_rule_apply(&s->derived_targets.v[i], v);
    }
    return ECG_OK;
}

static enum ecg_status read_row(struct table *t, size_t row, struct annotations *a, size_t record) {
    uint8_t *labels = a->label + record * (size_t)a->labels.n;
    float *targets = a->target + record * (size_t)a->targets.n;
    for (int k = 0; k < t->spec->n_labels; k++) TRY(read_label(t, row, t->label[k], &labels[k]));
    for (int k = 0; k < t->spec->n_targets; k++) {
        double v;
        TRY(read_number(t, row, t->target[k], &v));
        targets[k] = (float)v;
    }
    TRY(read_derived(t, row, labels, targets));
    if (t->code >= 0) TRY(mem_strdup(&a->codes[record], cell(t, row, t->code)));
    if (t->fold >= 0) TRY(read_fold(t, row, &a->fold[record]));
    if (t->patient >= 0 && *cell(t, row, t->patient)) {
        TRY(mem_strdup(&a->patient[record], cell(t, row, t->patient)));
        tidy_integer(a->patient[record]);
    }
    return ECG_OK;
}

static enum ecg_status join(struct table *t, struct annotations *a, char *const *ids, size_t n,
                            size_t *n_unmatched) {
    *n_unmatched = 0;
    for (size_t i = 0; i < n; i++) {
        size_t row;
        if (find_row(t, ids[i], &row))
            TRY(read_row(t, row, a, i));
        else
            ++*n_unmatched;
    }
    if (*n_unmatched == n)
        return ecg_fail(
            ECG_ERR_DATA,
            "%s: no record's id stands in column %s: records are like \"%s\", cells like \"%s\"",
            t->spec->path, t->csv.header[t->id], n > 0 ? ids[0] : "",
            t->csv.n_rows > 0 ? cell(t, 0, t->id) : "");
    return ECG_OK;
}

enum ecg_status table_read(struct annotations *a, const struct table_spec *spec, char *const *ids,
                           size_t n, size_t *n_unmatched) {
    struct table t = {.spec = spec};
    enum ecg_status status;
    *a = (struct annotations){0};
    TRY_OUT(csv_read(&t.csv, spec->path));
    TRY_OUT(find_columns(&t));
    for (int i = 0; i < spec->n_labels; i++)
        TRY_OUT(annotations_add_name(&a->labels, spec->label_columns[i]));
    for (int i = 0; i < spec->n_targets; i++)
        TRY_OUT(annotations_add_name(&a->targets, spec->target_columns[i]));
    for (int i = 0; i < spec->derived_labels.n; i++)
        TRY_OUT(annotations_add_name(&a->labels, spec->derived_labels.v[i].name));
    for (int i = 0; i < spec->derived_targets.n; i++)
        TRY_OUT(annotations_add_name(&a->targets, spec->derived_targets.v[i].name));
    TRY_OUT(annotations_init(a, n, t.patient >= 0, t.fold >= 0));
    if (t.code >= 0) TRY_OUT(MEM_NEW(&a->codes, n));
    TRY_OUT(index_rows(&t));
    TRY_OUT(index_records(&t, ids, n));
    TRY_OUT(join(&t, a, ids, n, n_unmatched));
    TRY_OUT(annotations_check(a, spec->path));
out:
    table_close(&t);
    if (status != ECG_OK) annotations_free(a);
    return status;
}
