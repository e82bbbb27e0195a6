/* SPDX-License-Identifier: MIT
 * Everything is checked against the signal's number of rows on opening, so that a map that does
 * not fit the file fails before any record is made. Small columns are read whole, the signal in
 * runs of rows. */
#include "data/readers/arrays.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "data/h5.h"
#include "data/readers/array_map.h"

struct arrays {
    char *path;
    struct h5_file *file;
    struct array_map map;
    size_t n, length; /* N, L */
    size_t block;     /* rows of a stored chunk */
    double factor;    /* stored value to mV */
    bool is_integer;
    double *rates; /* (N) when the rate is a column; else map.rate */
};

/* A dataset that the map names, with N rows and at most max_ndim axes. */
static enum ecg_status column_info(struct arrays *a, const char *name, int max_ndim,
                                   struct h5_info *info) {
    if (!h5_has(a->file, name))
        return ecg_fail(ECG_ERR_CONFIG, "%s: no dataset %s, which the map names", a->path, name);
    TRY(h5_dataset_info(a->file, name, info));
    if (info->ndim < 1 || info->ndim > max_ndim)
        return ecg_fail(ECG_ERR_DATA, "%s: %s has %d axes, 1%s wanted", a->path, name, info->ndim,
                        max_ndim > 1 ? " or 2" : "");
    if (info->shape[0] != a->n)
        return ecg_fail(ECG_ERR_DATA, "%s: %s has %llu rows, the signal has %zu", a->path, name,
                        (unsigned long long)info->shape[0], a->n);
    return ECG_OK;
}

static enum ecg_status open_signal(struct arrays *a) {
    const struct array_map *m = &a->map;
    struct h5_info info;
    if (!h5_has(a->file, m->signal))
        return ecg_fail(ECG_ERR_CONFIG, "%s: no dataset %s, which the map names as signal", a->path,
                        m->signal);
    TRY(h5_dataset_info(a->file, m->signal, &info));
    if (info.type != H5_INT && info.type != H5_FLOAT)
        return ecg_fail(ECG_ERR_DATA, "%s: %s holds no numbers", a->path, m->signal);
    bool is_2d = info.ndim == 2 && m->leads.n == 1;
    if (info.ndim != 3 && !is_2d)
        return ecg_fail(ECG_ERR_DATA, "%s: %s has %d axes, 3 wanted (%s)", a->path, m->signal,
                        info.ndim, m->channels_first ? "NCL" : "NLC");
    uint64_t channels = is_2d ? 1 : info.shape[m->channels_first ? 1 : 2];
    uint64_t length = is_2d ? info.shape[1] : info.shape[m->channels_first ? 2 : 1];
    if (channels != (uint64_t)m->leads.n)
        return ecg_fail(ECG_ERR_CONFIG,
                        "%s: %s has %llu channels in layout %s, the map names %d leads", a->path,
                        m->signal, (unsigned long long)channels, m->channels_first ? "NCL" : "NLC",
                        m->leads.n);
    if (info.shape[0] == 0 || length == 0)
        return ecg_fail(ECG_ERR_DATA, "%s: %s is empty", a->path, m->signal);
    if (length > SIZE_MAX / sizeof(double) / LEADS_MAX || info.shape[0] > SIZE_MAX / sizeof(double))
        return ecg_fail(ECG_ERR_DATA, "%s: %s is too large", a->path, m->signal);
    a->n = (size_t)info.shape[0];
    a->length = (size_t)length;
    a->block = info.chunk[0] > 1 && info.chunk[0] < info.shape[0] ? (size_t)info.chunk[0] : 1;
    a->is_integer = info.type == H5_INT;
    a->factor = m->scale;
    if (strcmp(m->units, "uV") == 0) a->factor = m->scale / 1000;
    if (strcmp(m->units, "V") == 0) a->factor = m->scale * 1000;
    return ECG_OK;
}

/* The rate by name: a dataset of one value or of N, an attribute of the file or of the signal. */
static enum ecg_status open_rate(struct arrays *a) {
    const char *name = a->map.rate_name;
    struct h5_info info;
    bool found = false;
    if (!name) return ECG_OK;
    if (h5_has(a->file, name)) {
        TRY(h5_dataset_info(a->file, name, &info));
        bool is_one = info.ndim == 0 || (info.ndim == 1 && info.shape[0] == 1);
        if (is_one) return h5_read_f64(a->file, name, 0, 1, &a->map.rate);
        TRY(column_info(a, name, 1, &info));
        TRY(MEM_NEW(&a->rates, a->n));
        return h5_read_f64(a->file, name, 0, a->n, a->rates);
    }
    TRY(h5_attr_number(a->file, "/", name, &a->map.rate, &found));
    if (!found) TRY(h5_attr_number(a->file, a->map.signal, name, &a->map.rate, &found));
    if (!found)
        return ecg_fail(ECG_ERR_CONFIG, "%s: sampling_rate: no dataset or attribute %s", a->path,
                        name);
    return ECG_OK;
}

static enum ecg_status check_columns(struct arrays *a) {
    const struct array_map *m = &a->map;
    struct h5_info info;
    if (m->record_id) TRY(column_info(a, m->record_id, 1, &info));
    if (m->patient_id) TRY(column_info(a, m->patient_id, 1, &info));
    if (m->fold) TRY(column_info(a, m->fold, 1, &info));
    if (m->codes) TRY(column_info(a, m->codes, 1, &info));
    for (int i = 0; i < m->targets.n; i++) TRY(column_info(a, m->targets.v[i].source, 1, &info));
    for (int i = 0; i < m->derived.n; i++) TRY(column_info(a, m->derived.v[i].source, 1, &info));
    for (int i = 0; i < m->n_labels; i++) {
        const struct array_label *l = &m->labels[i];
        TRY(column_info(a, l->dataset, 2, &info));
        uint64_t columns = info.ndim == 2 ? info.shape[1] : 1;
        if (columns != (uint64_t)l->columns.n)
            return ecg_fail(ECG_ERR_CONFIG, "%s: labels: %s has %llu columns, the map names %d",
                            a->path, l->dataset, (unsigned long long)columns, l->columns.n);
    }
    return ECG_OK;
}

enum ecg_status arrays_open(struct arrays **out, const char *path, const char *map_path) {
    struct arrays *a;
    *out = NULL;
    TRY(MEM_NEW(&a, 1));
    enum ecg_status status;
    TRY_OUT(mem_strdup(&a->path, path));
    TRY_OUT(array_map_read(&a->map, map_path));
    TRY_OUT(h5_open(&a->file, path));
    TRY_OUT(open_signal(a));
    TRY_OUT(open_rate(a));
    TRY_OUT(check_columns(a));
    *out = a;
    return ECG_OK;
out:
    arrays_close(a);
    return status;
}

void arrays_close(struct arrays *a) {
    if (!a) return;
    h5_close(a->file);
    array_map_free(&a->map);
    free(a->rates);
    free(a->path);
    free(a);
}

size_t arrays_count(const struct arrays *a) {
    return a->n;
}

size_t arrays_row_size(const struct arrays *a) {
    return a->length * (size_t)a->map.leads.n;
}

size_t arrays_block(const struct arrays *a) {
    return a->block;
}

/* Text as it is, integers as decimals; floats must hold integers. */
static enum ecg_status read_ids(struct arrays *a, const char *name, char ***out) {
    struct h5_info info;
    uint64_t n;
    TRY(h5_dataset_info(a->file, name, &info));
    if (info.type != H5_FLOAT) {
        TRY(h5_read_strings(a->file, name, out, &n));
        if (n == a->n) return ECG_OK;
        h5_free_strings(*out, n);
        return ecg_fail(ECG_ERR_DATA, "%s: %s has %llu rows, the signal has %zu", a->path, name,
                        (unsigned long long)n, a->n);
    }
    double *values;
    char **ids = NULL;
    TRY(MEM_NEW(&values, a->n));
    enum ecg_status status;
    TRY_OUT(h5_read_f64(a->file, name, 0, a->n, values));
    TRY_OUT(MEM_NEW(&ids, a->n));
    for (size_t i = 0; i < a->n; i++) {
        char text[32];
        if (!(fabs(values[i]) < 1e15 && values[i] == floor(values[i]))) {
            status = ecg_fail(ECG_ERR_DATA, "%s: %s, row %zu: %g is no integer", a->path, name, i,
                              values[i]);
            goto out;
        }
        snprintf(text, sizeof text, "%.0f", values[i]);
        TRY_OUT(mem_strdup(&ids[i], text));
    }
    *out = ids;
    ids = NULL;
out:
    free(values);
    if (ids) h5_free_strings(ids, a->n);
    return status;
}

enum ecg_status arrays_ids(struct arrays *a, char ***ids) {
    if (a->map.record_id) return read_ids(a, a->map.record_id, ids);
    char **v;
    TRY(MEM_NEW(&v, a->n));
    for (size_t i = 0; i < a->n; i++) {
        char text[32];
        snprintf(text, sizeof text, "%zu", i);
        enum ecg_status status = mem_strdup(&v[i], text);
        if (status == ECG_OK) continue;
        h5_free_strings(v, a->n);
        return status;
    }
    *ids = v;
    return ECG_OK;
}

/* One label dataset into the columns from `column` on; `values` holds (N, its columns). */
static enum ecg_status read_label(struct arrays *a, const struct array_label *l, int column,
                                  struct annotations *out, double *values) {
    size_t k = (size_t)l->columns.n;
    TRY(h5_read_f64(a->file, l->dataset, 0, a->n, values));
    for (size_t i = 0; i < a->n * k; i++) {
        size_t row = i / k, to = row * (size_t)out->labels.n + (size_t)column + i % k;
        if (!annotations_label(values[i], &out->label[to]))
            return ecg_fail(ECG_ERR_DATA,
                            "%s: label %s (%s), row %zu: %g is not 0, 1 or unknown (255, -1, NaN)",
                            a->path, l->columns.v[i % k], l->dataset, row, values[i]);
    }
    return ECG_OK;
}

static enum ecg_status read_target(struct arrays *a, int k, struct annotations *out,
                                   double *values) {
    const struct column_rule *r = &a->map.targets.v[k];
    TRY(h5_read_f64(a->file, r->source, 0, a->n, values));
    for (size_t i = 0; i < a->n; i++)
        out->target[i * (size_t)out->targets.n + (size_t)k] = column_rule_apply(r, values[i]);
    return ECG_OK;
}

static enum ecg_status read_derived(struct arrays *a, int k, int column, struct annotations *out,
                                    double *values) {
    const struct column_rule *r = &a->map.derived.v[k];
    TRY(h5_read_f64(a->file, r->source, 0, a->n, values));
    for (size_t i = 0; i < a->n; i++)
        out->label[i * (size_t)out->labels.n + (size_t)column] =
            column_rule_apply_label(r, values[i]);
    return ECG_OK;
}

static enum ecg_status read_fold(struct arrays *a, struct annotations *out, double *values) {
    TRY(h5_read_f64(a->file, a->map.fold, 0, a->n, values));
    for (size_t i = 0; i < a->n; i++) {
        if (isnan(values[i])) continue;
        if (!(values[i] >= -1 && values[i] <= INT16_MAX) || values[i] != floor(values[i]))
            return ecg_fail(ECG_ERR_DATA, "%s: %s, row %zu: %g is no fold", a->path, a->map.fold, i,
                            values[i]);
        out->fold[i] = (int16_t)values[i];
    }
    return ECG_OK;
}

enum ecg_status arrays_annotations(struct arrays *a, struct annotations *out) {
    const struct array_map *m = &a->map;
    double *values = NULL;
    size_t widest = 1;
    *out = (struct annotations){0};
    enum ecg_status status;
    for (int i = 0; i < m->n_labels; i++) {
        if ((size_t)m->labels[i].columns.n > widest) widest = (size_t)m->labels[i].columns.n;
        for (int k = 0; k < m->labels[i].columns.n; k++)
            TRY_OUT(annotations_add_name(&out->labels, m->labels[i].columns.v[k]));
    }
    int first_derived = out->labels.n;
    for (int i = 0; i < m->derived.n; i++)
        TRY_OUT(annotations_add_name(&out->labels, m->derived.v[i].name));
    for (int i = 0; i < m->targets.n; i++)
        TRY_OUT(annotations_add_name(&out->targets, m->targets.v[i].name));
    TRY_OUT(annotations_init(out, a->n, false, m->fold != NULL));
    TRY_OUT(mem_alloc((void **)&values, a->n * widest, sizeof *values));
    for (int i = 0, column = 0; i < m->n_labels; column += m->labels[i++].columns.n)
        TRY_OUT(read_label(a, &m->labels[i], column, out, values));
    for (int k = 0; k < m->derived.n; k++)
        TRY_OUT(read_derived(a, k, first_derived + k, out, values));
    for (int k = 0; k < m->targets.n; k++) TRY_OUT(read_target(a, k, out, values));
    if (m->codes) TRY_OUT(read_ids(a, m->codes, &out->codes));
    if (m->fold) TRY_OUT(read_fold(a, out, values));
    if (m->patient_id) TRY_OUT(read_ids(a, m->patient_id, &out->patient));
    TRY_OUT(annotations_check(out, a->path));
out:
    free(values);
    if (status != ECG_OK) annotations_free(out);
    return status;
}

enum ecg_status arrays_read(struct arrays *a, size_t first, size_t n, double *rows) {
    return h5_read_f64(a->file, a->map.signal, first, n, rows);
}

enum ecg_status arrays_record(const struct arrays *a, size_t row, const double *values,
                              struct record *out) {
    size_t channels = (size_t)a->map.leads.n, n = arrays_row_size(a);
    *out = (struct record){.sampling_rate = a->rates ? a->rates[row] : a->map.rate,
                           .length = a->length,
                           .leads = a->map.leads,
                           .gain = 1 / a->factor,
                           .has_adc = a->is_integer && a->factor > 0};
    strcpy(out->units, strcmp(a->map.units, "none") == 0 ? "none" : "mV");
    TRY(MEM_NEW(&out->signal, n));
    for (size_t c = 0; c < channels; c++)
        for (size_t t = 0; t < a->length; t++) {
            double v = values[a->map.channels_first ? c * a->length + t : t * channels + c];
            if (!(v >= INT16_MIN && v <= INT16_MAX)) out->has_adc = false;
            out->signal[c * a->length + t] = v * a->factor;
        }
    return ECG_OK;
}
