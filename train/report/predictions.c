/* SPDX-License-Identifier: MIT
 * Outputs of a network to CSV and HDF5, and back from HDF5. Everything is written under temporary names: what is at the
 * path is a whole file or the one that was there before. */
#include "train/report/predictions.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/csv.h"
#include "core/mem.h"
#include "data/h5.h"
#include "train/report/evaluation.h"

static bool ends_with(const char *path, const char *ending) {
    size_t n = strlen(path), k = strlen(ending);
    return n > k && !strcasecmp(path + n - k, ending);
}

static enum ecg_status choose_format(struct predictions_out *p, const char *path) {
    p->is_h5 = ends_with(path, ".h5") || ends_with(path, ".hdf5");
    if (p->is_h5 || (ends_with(path, ".csv") && p->kind != PREDICTIONS_EMBEDDING)) return ECG_OK;
    return ecg_fail(ECG_ERR_USAGE, "%s: the output's name must end in %s.h5", path,
                    p->kind == PREDICTIONS_EMBEDDING ? "" : ".csv or ");
}

static void put_csv_header(FILE *f, const struct names *names) {
    csv_put(f, "record_id");
    for (int i = 0; i < names->n; i++) {
        fputc(',', f);
        csv_put(f, names->v[i]);
    }
    fputc('\n', f);
}

/* The spool of one dataset, beside the file: "p.h5.logits.tmp-...", removed by close. */
static enum ecg_status open_rows(struct file_out *rows, const char *path, const char *dataset) {
    size_t bytes = strlen(path) + strlen(dataset) + 2;
    char *name;
    TRY(MEM_NEW(&name, bytes));
    snprintf(name, bytes, "%s.%s", path, dataset);
    enum ecg_status status = file_out_open(rows, name);
    free(name);
    return status;
}

/* What an HDF5 file holds beside the outputs. */
static const char *beside_name(const struct predictions_out *p) {
    if (p->kind == PREDICTIONS_HEADS) return "values";
    return p->kind == PREDICTIONS_LABELS ? "prob" : NULL;
}

enum ecg_status predictions_open(struct predictions_out *p, const char *path,
                                 enum predictions_kind kind, const struct names *names,
                                 size_t n_columns, const struct names *values) {
    *p = (struct predictions_out){.kind = kind, .n_columns = n_columns};
    enum ecg_status status = ECG_OK;
    TRY_OUT(choose_format(p, path));
    if (names) TRY_OUT(names_join(names, &p->names));
    if (values) {
        p->n_values = (size_t)values->n;
        TRY_OUT(names_join(values, &p->value_names));
    }
    TRY_OUT(file_out_open(&p->out, path));
    if (!p->is_h5) put_csv_header(p->out.stream, values ? values : names);
    if (p->is_h5) TRY_OUT(open_rows(&p->rows, path, "logits"));
    if (p->is_h5 && beside_name(p)) TRY_OUT(open_rows(&p->beside, path, beside_name(p)));
out:
    if (status != ECG_OK) predictions_close(p);
    return status;
}

static enum ecg_status full(const struct predictions_out *p) {
    return ecg_fail(ECG_ERR_IO, "%s: writing failed (is the disk full?)", p->out.path);
}

static enum ecg_status add_csv(struct predictions_out *p, const char *record_id,
                               const float *outputs, const float *values) {
    FILE *f = p->out.stream;
    const float *row = values ? values : outputs;
    csv_put(f, record_id);
    for (size_t i = 0; i < (values ? p->n_values : p->n_columns); i++) {
        double v = (double)row[i];
        fprintf(f, ",%.9g", p->kind == PREDICTIONS_LABELS ? evaluation_prob(v) : v);
    }
    fputc('\n', f);
    return ferror(f) ? full(p) : ECG_OK;
}

static enum ecg_status add_h5(struct predictions_out *p, const char *record_id,
                              const float *outputs, const float *values) {
    TRY(mem_grow((void **)&p->ids, &p->capacity, p->n + 1, sizeof *p->ids));
    TRY(mem_strdup(&p->ids[p->n], record_id));
    p->n++;
    bool ok = fwrite(outputs, sizeof *outputs, p->n_columns, p->rows.stream) == p->n_columns;
    if (values)
        ok = ok && fwrite(values, sizeof *values, p->n_values, p->beside.stream) == p->n_values;
    for (size_t i = 0; ok && p->kind == PREDICTIONS_LABELS && i < p->n_columns; i++) {
        float prob = (float)evaluation_prob((double)outputs[i]);
        ok = fwrite(&prob, sizeof prob, 1, p->beside.stream) == 1;
    }
    return ok ? ECG_OK : full(p);
}

enum ecg_status predictions_add(struct predictions_out *p, const char *record_id,
                                const float *outputs, const float *values) {
    return p->is_h5 ? add_h5(p, record_id, outputs, values)
                    : add_csv(p, record_id, outputs, values);
}

/* A spool's rows as a dataset. */
static enum ecg_status put_rows(struct h5_file *h5, const struct predictions_out *p,
                                const struct file_out *rows, size_t n_columns,
                                const char *dataset) {
    static const float none = 0;
    uint64_t shape[2] = {p->n, n_columns};
    if (fflush(rows->stream)) return full(p);
    struct file_map map;
    TRY(file_map_open(&map, rows->temporary));
    const void *data = map.data ? (const void *)map.data : &none;
    enum ecg_status status = h5_put_f32(h5, dataset, 2, shape, data);
    file_map_close(&map);
    return status;
}

static enum ecg_status put_datasets(struct h5_file *h5, const struct predictions_out *p) {
    const char *rows = p->kind == PREDICTIONS_EMBEDDING ? "embedding" : "logits";
    TRY(h5_put_strings(h5, "record_id", p->n, p->ids));
    TRY(put_rows(h5, p, &p->rows, p->n_columns, rows));
    if (p->names) TRY(h5_put_attr_text(h5, rows, "names", p->names));
    if (!p->beside.stream) return ECG_OK;
    size_t width = p->value_names ? p->n_values : p->n_columns;
    TRY(put_rows(h5, p, &p->beside, width, beside_name(p)));
    return p->value_names ? h5_put_attr_text(h5, beside_name(p), "names", p->value_names) : ECG_OK;
}

static enum ecg_status write_h5(const struct predictions_out *p) {
    struct h5_file *h5;
    TRY(h5_create(&h5, p->out.temporary));
    enum ecg_status status = put_datasets(h5, p);
    enum ecg_status closed = h5_close(h5);
    return status != ECG_OK ? status : closed;
}

enum ecg_status predictions_commit(struct predictions_out *p) {
    enum ecg_status status = ECG_OK;
    if (p->is_h5) TRY_OUT(write_h5(p));
    TRY_OUT(file_out_commit(&p->out));
out:
    predictions_close(p);
    return status;
}

static void free_ids(char **ids, size_t n) {
    for (size_t i = 0; ids && i < n; i++) free(ids[i]);
    free(ids);
}

void predictions_close(struct predictions_out *p) {
    file_out_close(&p->rows);
    file_out_close(&p->beside);
    file_out_close(&p->out);
    free_ids(p->ids, p->n);
    free(p->names);
    free(p->value_names);
    *p = (struct predictions_out){0};
}

static enum ecg_status read_datasets(struct predictions *p, struct h5_file *h5, const char *path) {
    struct h5_info info;
    uint64_t n_ids = 0;
    if (!h5_has(h5, "record_id") || !h5_has(h5, "logits"))
        return ecg_fail(ECG_ERR_DATA,
                        "%s: no predictions: it needs the datasets record_id and logits", path);
    TRY(h5_dataset_info(h5, "logits", &info));
    if (info.ndim != 2 || info.type != H5_FLOAT)
        return ecg_fail(ECG_ERR_DATA, "%s: dataset logits is no (N, K) array of floats", path);
    TRY(h5_read_strings(h5, "record_id", &p->ids, &n_ids));
    p->n = (size_t)n_ids;
    p->n_columns = (size_t)info.shape[1];
    if (info.shape[0] != n_ids)
        return ecg_fail(ECG_ERR_DATA, "%s: %llu record_ids, but %llu rows of logits", path,
                        (unsigned long long)n_ids, (unsigned long long)info.shape[0]);
    size_t total;
    if (__builtin_mul_overflow(p->n, p->n_columns, &total))
        return ecg_fail(ECG_ERR_DATA, "%s: the size of dataset logits overflows", path);
    TRY(MEM_NEW(&p->logits, total));
    TRY(h5_read_f32(h5, "logits", 0, n_ids, p->logits));
    bool found;
    return h5_attr_text(h5, "logits", "names", &p->names, &found);
}

enum ecg_status predictions_read(struct predictions *p, const char *path) {
    *p = (struct predictions){0};
    struct h5_file *h5;
    TRY(h5_open(&h5, path));
    enum ecg_status status = read_datasets(p, h5, path);
    enum ecg_status closed = h5_close(h5);
    if (status == ECG_OK) status = closed;
    if (status != ECG_OK) predictions_free(p);
    return status;
}

void predictions_free(struct predictions *p) {
    free_ids(p->ids, p->n);
    free(p->logits);
    free(p->names);
    *p = (struct predictions){0};
}
