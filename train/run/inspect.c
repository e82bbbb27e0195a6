/* SPDX-License-Identifier: MIT
 * Each kind of thing prints its own sheet; what a path is, is decided by what lies there. */
#include "train/run/inspect.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/folder.h"
#include "checkpoints/pth.h"
#include "checkpoints/seal.h"
#include "core/file.h"
#include "core/mem.h"
#include "data/shard.h"
#include "train/run/network.h"
#include "train/run/sheet.h"

/* ------------------------------------------------------------------ data sets */

struct counts {
    size_t present, absent, unknown;
    double sum, low, high;
};

static enum ecg_status count_columns(struct dataset *d, struct counts *labels,
                                     struct counts *targets) {
    int K = d->schema.labels.n, T = d->schema.targets.n;
    uint8_t *l = NULL;
    float *t = NULL;
    enum ecg_status status;
    TRY_OUT(MEM_NEW(&l, (size_t)K));
    TRY_OUT(MEM_NEW(&t, (size_t)T));
    for (size_t i = 0; i < d->n_records; i++) {
        if (K > 0) TRY_OUT(dataset_labels(d, i, l));
        if (T > 0) TRY_OUT(dataset_targets(d, i, t));
        for (int k = 0; k < K; k++) {
            labels[k].present += l[k] == 1;
            labels[k].absent += l[k] == 0;
            labels[k].unknown += l[k] == SHARD_LABEL_UNKNOWN;
        }
        for (int k = 0; k < T; k++) {
            struct counts *c = &targets[k];
            if (isnan(t[k])) {
                c->unknown++;
                continue;
            }
            c->low = c->present == 0 || t[k] < c->low ? t[k] : c->low;
            c->high = c->present == 0 || t[k] > c->high ? t[k] : c->high;
            c->sum += t[k];
            c->present++;
        }
    }
out:
    free(l);
    free(t);
    return status;
}

static void put_label(struct sheet *s, const char *name, const struct counts *c) {
    char text[96];
    if (s->json) {
        sheet_section(s, name);
        sheet_integer(s, "present", (int64_t)c->present);
        sheet_integer(s, "absent", (int64_t)c->absent);
        sheet_integer(s, "unknown", (int64_t)c->unknown);
        sheet_end_section(s);
        return;
    }
    snprintf(text, sizeof(text), "%zu present, %zu absent, %zu unknown", c->present, c->absent,
             c->unknown);
    sheet_text(s, name, text);
}

static void put_target(struct sheet *s, const char *name, const struct counts *c) {
    double mean = c->present > 0 ? c->sum / (double)c->present : (double)NAN;
    char text[128];
    if (s->json) {
        sheet_section(s, name);
        sheet_integer(s, "known", (int64_t)c->present);
        sheet_integer(s, "unknown", (int64_t)c->unknown);
        sheet_number(s, "mean", mean);
        sheet_number(s, "min", c->present > 0 ? c->low : (double)NAN);
        sheet_number(s, "max", c->present > 0 ? c->high : (double)NAN);
        sheet_end_section(s);
        return;
    }
    snprintf(text, sizeof(text), "%zu known, %zu unknown, mean %.6g, %.6g to %.6g", c->present,
             c->unknown, mean, c->low, c->high);
    sheet_text(s, name, text);
}

static enum ecg_status put_columns(struct sheet *s, struct dataset *d) {
    const struct names *labels = &d->schema.labels, *targets = &d->schema.targets;
    struct counts *l = NULL, *t = NULL;
    enum ecg_status status;
    TRY_OUT(MEM_NEW(&l, (size_t)labels->n));
    TRY_OUT(MEM_NEW(&t, (size_t)targets->n));
    TRY_OUT(count_columns(d, l, t));
    sheet_section(s, "labels");
    for (int i = 0; i < labels->n; i++) put_label(s, labels->v[i], &l[i]);
    sheet_end_section(s);
    sheet_section(s, "targets");
    for (int i = 0; i < targets->n; i++) put_target(s, targets->v[i], &t[i]);
    sheet_end_section(s);
out:
    free(l);
    free(t);
    return status;
}

static int compare_hash(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static enum ecg_status count_patients(const struct dataset *d, int64_t *n) {
    uint64_t *h = NULL;
    *n = 0;
    TRY(MEM_NEW(&h, d->n_records));
    if (d->n_records > 0) memcpy(h, d->patient_hash, d->n_records * sizeof(*h));
    qsort(h, d->n_records, sizeof(*h), compare_hash);
    for (size_t i = 0; i < d->n_records; i++) *n += i == 0 || h[i] != h[i - 1];
    free(h);
    return ECG_OK;
}

static enum ecg_status inspect_dataset(const char *path, struct sheet *s) {
    struct dataset *d = NULL;
    char *leads = NULL;
    int64_t patients;
    enum ecg_status status;
    TRY_OUT(dataset_open(&d, path));
    TRY_OUT(leads_format(&d->schema.leads, &leads));
    TRY_OUT(count_patients(d, &patients));
    sheet_text(s, "kind", "data set");
    sheet_integer(s, "records", (int64_t)d->n_records);
    sheet_integer(s, "patients", patients);
    sheet_integer(s, "shards", (int64_t)d->n_shards);
    sheet_text(s, "leads", leads);
    sheet_number(s, "sampling_rate", d->schema.sampling_rate);
    sheet_integer(s, "length", d->schema.length);
    sheet_text(s, "units", d->schema.units);
    sheet_text(s, "preprocessing", d->schema.preprocessing);
    sheet_text(s, "fold", d->fold != NULL ? "yes" : "no");
    TRY_OUT(put_columns(s, d));
out:
    free(leads);
    dataset_close(d);
    return status;
}

/* ------------------------------------------------------------------ weights */

static void put_tensor(struct sheet *s, const struct safetensors_entry *e) {
    char text[160];
    int n = snprintf(text, sizeof(text), "%s [", e->dtype_name);
    for (int i = 0; i < e->ndim && n < 140; i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n, "%s%lld", i > 0 ? ", " : "",
                      (long long)e->shape[i]);
    snprintf(text + n, sizeof(text) - (size_t)n, "]");
    sheet_text(s, e->name, text);
}

static void put_stages(struct sheet *s, const char *key, const int *v, int n) {
    char text[NET1D_MAX_STAGES * 8 + 8] = "";
    size_t at = 0;
    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%d", i > 0 ? " " : "", v[i]);
    sheet_text(s, key, text);
}

static void put_network(struct sheet *s, const struct network *n) {
    const struct net1d_config *m = &n->model;
    sheet_section(s, "net1d");
    sheet_integer(s, "leads", m->n_leads);
    sheet_integer(s, "length", m->length);
    sheet_integer(s, "base_filters", m->base_filters);
    put_stages(s, "filters", m->filters, m->n_stages);
    put_stages(s, "blocks", m->blocks, m->n_stages);
    sheet_integer(s, "kernel_size", m->kernel_size);
    sheet_integer(s, "stride", m->stride);
    sheet_integer(s, "group_width", m->group_width);
    sheet_text(s, "batch_norm", m->batch_norm ? "true" : "false");
    sheet_integer(s, "outputs", m->n_outputs);
    sheet_end_section(s);
}

static enum ecg_status inspect_weights(const char *path, struct sheet *s) {
    struct network n;
    struct safetensors plain = {0}, *file = &n.file;
    bool is_net1d = network_read(&n, path) == ECG_OK;
    enum ecg_status status = ECG_OK;
    if (!is_net1d) {
        network_free(&n);
        file = &plain;
        TRY_OUT(pth_or_safetensors_open(&plain, path));
    }
    sheet_text(s, "kind", is_net1d ? "Net1D weights" : "file of tensors");
    sheet_text(s, "file", file->path);
    if (is_net1d) put_network(s, &n);
    int64_t elements = 0;
    for (size_t i = 0; i < file->n_entries; i++) elements += (int64_t)file->entries[i].n;
    sheet_integer(s, "elements", elements);
    sheet_section(s, "metadata");
    for (size_t i = 0; i < file->n_meta; i++)
        sheet_text(s, file->meta_keys[i], file->meta_values[i]);
    sheet_end_section(s);
    sheet_section(s, "tensors");
    for (size_t i = 0; i < file->n_entries; i++) put_tensor(s, &file->entries[i]);
    sheet_end_section(s);
out:
    safetensors_close(&plain);
    network_free(&n);
    return status;
}

/* ------------------------------------------------------------------ runs */

/* The last line of metrics.jsonl of a kind, as it stands there; NULL without one. */
static char *last_line(const char *text, const char *kind) {
    char mark[32];
    snprintf(mark, sizeof(mark), "\"kind\":\"%s\"", kind);
    const char *found = NULL;
    for (const char *at = text; (at = strstr(at, mark)) != NULL; at++) found = at;
    if (found == NULL) return NULL;
    const char *begin = found, *end = strchr(found, '\n');
    while (begin > text && begin[-1] != '\n') begin--;
    return end != NULL ? strndup(begin, (size_t)(end - begin)) : NULL;
}

static enum ecg_status put_link(struct sheet *s, const char *run, const char *link) {
    char *path = NULL;
    TRY(folder_resolve(run, link, &path));
    sheet_text(s, link, path != NULL ? strrchr(path, '/') + 1 : NULL);
    free(path);
    return ECG_OK;
}

/* What a run can go on from, newest first, each read whole. */
static enum ecg_status put_checkpoints(struct sheet *s, const char *run) {
    struct file_list dirs;
    TRY(folder_list(run, &dirs));
    sheet_section(s, "checkpoints");
    for (size_t i = 0; i < dirs.n; i++) {
        bool whole = seal_check(dirs.names[i]) == ECG_OK;
        sheet_text(s, strrchr(dirs.names[i], '/') + 1, whole ? "whole" : ecg_message());
    }
    sheet_end_section(s);
    file_list_free(&dirs);
    return ECG_OK;
}

static enum ecg_status inspect_run_folder(const char *path, const char *metrics, struct sheet *s) {
    char *text = NULL;
    size_t size = 0;
    TRY(file_read(metrics, (size_t)4 << 30, &text, &size));
    char *train = last_line(text, "train"), *valid = last_line(text, "valid");
    sheet_text(s, "kind", "run");
    sheet_text(s, "last_train", train);
    sheet_text(s, "last_valid", valid);
    free(train);
    free(valid);
    free(text);
    TRY(put_link(s, path, "last"));
    TRY(put_link(s, path, "best"));
    return put_checkpoints(s, path);
}

/* ------------------------------------------------------------------ what is it? */

static bool has_suffix(const char *path, const char *suffix) {
    size_t n = strlen(path), m = strlen(suffix);
    return n >= m && strcmp(path + n - m, suffix) == 0;
}

static enum ecg_status inspect_any(const char *path, struct sheet *s) {
    if (!file_exists(path)) return ecg_fail(ECG_ERR_NOINPUT, "%s: no such file or folder", path);
    if (!file_is_dir(path))
        return has_suffix(path, ".safetensors") || has_suffix(path, ".pth") ||
                       has_suffix(path, ".pt")
                   ? inspect_weights(path, s)
                   : inspect_dataset(path, s);
    char *metrics = NULL, *model = NULL;
    enum ecg_status status;
    TRY_OUT(file_join(&metrics, path, "metrics.jsonl"));
    TRY_OUT(file_join(&model, path, "model.safetensors"));
    if (file_exists(metrics))
        TRY_OUT(inspect_run_folder(path, metrics, s));
    else if (file_exists(model))
        TRY_OUT(inspect_weights(model, s));
    else
        TRY_OUT(inspect_dataset(path, s));
out:
    free(metrics);
    free(model);
    return status;
}

enum ecg_status inspect_run(const char *path, bool json) {
    struct sheet s;
    sheet_begin(&s, json);
    enum ecg_status status = inspect_any(path, &s);
    if (status == ECG_OK) return sheet_finish(&s);
    json_writer_free(&s.w);
    return status;
}
