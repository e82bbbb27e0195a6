/* SPDX-License-Identifier: MIT
 * Data sets: a folder of shards opened as one list of records. Opening reads each shard's header, its folds and its
 * patients (as hashes) and closes it again; reads go by record number to the shard that holds it. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/mem.h"
#include "data/dataset_private.h"

#define SPARE_FILES 128 /* descriptors left to the rest of the program */

/* ------------------------------------------------------------------ opening */

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static enum ecg_status add_shard(struct dataset *d, const char *dir, const char *name) {
    struct shard *s = &d->p->shards[d->p->n_shards];
    TRY(dir != NULL ? file_join(&s->path, dir, name) : mem_strdup(&s->path, name));
    const char *slash = strrchr(s->path, '/');
    s->name = slash != NULL ? slash + 1 : s->path;
    s->fd = -1;
    d->n_shards = ++d->p->n_shards;
    return ECG_OK;
}

static enum ecg_status list_shards(struct dataset *d) {
    if (!file_exists(d->path)) return ecg_fail(ECG_ERR_NOINPUT, "%s: is not there", d->path);
    if (!file_is_dir(d->path)) {
        TRY(MEM_NEW(&d->p->shards, 1));
        return add_shard(d, NULL, d->path);
    }
    struct file_list list = {0};
    enum ecg_status status;
    TRY_OUT(file_list_dir(&list, d->path, "", false));
    TRY_OUT(MEM_NEW(&d->p->shards, list.n));
    for (size_t i = 0; i < list.n; i++)
        if (ends_with(list.names[i], ".h5") || ends_with(list.names[i], ".hdf5"))
            TRY_OUT(add_shard(d, d->path, list.names[i]));
    if (d->n_shards == 0)
        status = ecg_fail(ECG_ERR_NOINPUT, "%s: holds no shard (*.h5, *.hdf5)", d->path);
out:
    file_list_free(&list);
    return status;
}

static enum ecg_status guard_shards(const struct dataset *d) {
    const char **paths;
    TRY(MEM_NEW(&paths, d->n_shards));
    for (size_t i = 0; i < d->n_shards; i++) paths[i] = d->p->shards[i].path;
    enum ecg_status status = h5_guard(paths, d->n_shards);
    free(paths);
    return status;
}

struct hashing {
    uint64_t *to; /* of row 0 */
    bool only_missing;
};

/* The hash of the empty text marks rows still without a patient. */
static enum ecg_status hash_row(void *context, uint64_t row, const char *text, size_t n_bytes) {
    struct hashing *h = context;
    if (!h->only_missing || h->to[row] == hash_bytes("", 0)) h->to[row] = hash_bytes(text, n_bytes);
    return ECG_OK;
}

static enum ecg_status read_patients(struct h5_file *f, const struct shard *s, uint64_t *to) {
    struct hashing h = {to, false};
    if (!s->has_patient_id) return h5_each_string(f, "/record_id", 0, s->n, hash_row, &h);
    TRY(h5_each_string(f, "/patient_id", 0, s->n, hash_row, &h));
    h.only_missing = true;
    for (size_t i = 0; i < s->n; i++)
        if (to[i] == hash_bytes("", 0))
            return h5_each_string(f, "/record_id", 0, s->n, hash_row, &h);
    return ECG_OK;
}

struct capacity {
    size_t hashes, folds;
};

static enum ecg_status read_rows(struct dataset *d, struct h5_file *f, struct shard *s,
                                 struct capacity *cap) {
    s->first = d->n_records;
    size_t n;
    if (__builtin_add_overflow(d->n_records, s->n, &n))
        return ecg_fail(ECG_ERR_DATA, "%s: too many records", s->path);
    TRY(mem_grow((void **)&d->patient_hash, &cap->hashes, n, sizeof(uint64_t)));
    TRY(read_patients(f, s, d->patient_hash + s->first));
    if (d->schema.has_fold) {
        TRY(mem_grow((void **)&d->fold, &cap->folds, n, sizeof(int16_t)));
        TRY(h5_read_i16(f, "/fold", 0, s->n, d->fold + s->first));
    }
    d->n_records = n;
    return ECG_OK;
}

static enum ecg_status open_shard(struct dataset *d, struct shard *s, struct capacity *cap) {
    struct shard_schema schema = {0};
    struct h5_file *f = NULL;
    bool first = s == d->p->shards;
    enum ecg_status status;
    TRY_OUT(dataset_header_read(s, &schema, first, &f));
    if (first) {
        d->schema = schema;
        schema = (struct shard_schema){0};
    } else {
        const char *what = shard_schema_difference(&d->schema, &schema);
        if (what != NULL) {
            status = ecg_fail(ECG_ERR_DATA, "%s: its %s differs from that of %s", s->path, what,
                              d->p->shards[0].name);
            goto out;
        }
    }
    status = read_rows(d, f, s, cap);
out:
    h5_close(f);
    shard_schema_free(&schema);
    return status;
}

/* How many shards may be open at once; the soft limit is raised for large data sets as far as the system lets us. */
static size_t open_limit(size_t n_shards) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return SPARE_FILES;
    rlim_t wanted = (rlim_t)n_shards + 2 * SPARE_FILES;
    if (limit.rlim_cur < wanted) {
        struct rlimit raised = limit;
        raised.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
    }
    return limit.rlim_cur > 2 * SPARE_FILES ? (size_t)limit.rlim_cur - SPARE_FILES
                                            : (size_t)limit.rlim_cur / 2;
}

enum ecg_status dataset_open(struct dataset **out, const char *path) {
    struct dataset *d;
    struct capacity cap = {0};
    enum ecg_status status;
    *out = NULL;
    TRY(MEM_NEW(&d, 1));
    TRY_OUT(MEM_NEW(&d->p, 1));
    pthread_mutex_init(&d->p->fd_lock, NULL);
    pthread_mutex_init(&d->p->slow_lock, NULL);
    pthread_mutex_init(&d->p->scratch_lock, NULL);
    TRY_OUT(mem_strdup(&d->path, path));
    TRY_OUT(list_shards(d));
    TRY_OUT(guard_shards(d));
    for (size_t i = 0; i < d->n_shards; i++) TRY_OUT(open_shard(d, &d->p->shards[i], &cap));
    d->p->record_values = (size_t)d->schema.leads.n * (size_t)d->schema.length;
    d->p->max_open = open_limit(d->n_shards);
    *out = d;
    return ECG_OK;
out:
    dataset_close(d);
    return status;
}

static void free_shard(struct shard *s) {
    free(s->path);
    free(s->chunks.v);
    for (int c = 0; c < COLUMNS; c++) free(s->columns[c].cached);
}

void dataset_close(struct dataset *d) {
    if (d == NULL) return;
    struct dataset_private *p = d->p;
    if (p != NULL) {
        dataset_files_close(p);
        dataset_chunks_close(p);
        for (size_t i = 0; i < p->n_shards; i++) free_shard(&p->shards[i]);
        free(p->shards);
        pthread_mutex_destroy(&p->fd_lock);
        pthread_mutex_destroy(&p->slow_lock);
        pthread_mutex_destroy(&p->scratch_lock);
        free(p);
    }
    shard_schema_free(&d->schema);
    free(d->patient_hash);
    free(d->fold);
    free(d->path);
    free(d);
}

/* ------------------------------------------------------------------ reading */

/* The last shard that begins at or before record i (empty shards begin where the next one does). */
static struct shard *find_shard(const struct dataset *d, size_t i, size_t *row) {
    size_t low = 0, high = d->n_shards;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (d->p->shards[middle].first <= i)
            low = middle;
        else
            high = middle;
    }
    *row = i - d->p->shards[low].first;
    return &d->p->shards[low];
}

const char *dataset_shard_name(const struct dataset *d, size_t i, size_t *row) {
    return find_shard(d, i, row)->name;
}

enum ecg_status dataset_read(struct dataset *d, size_t i, int16_t *ecg, float *scale) {
    size_t row, n_bytes = d->p->record_values * sizeof(int16_t);
    struct shard *s = find_shard(d, i, &row);
    TRY(dataset_column_row(d, s, COLUMN_SCALE, row, scale));
    if (s->layout != ECG_CONTIGUOUS) return dataset_chunked_record(d, s, row, ecg);
    return dataset_pread(d->p, s, ecg, n_bytes, s->ecg.offset + (uint64_t)row * n_bytes);
}

enum ecg_status dataset_labels(struct dataset *d, size_t i, uint8_t *labels) {
    if (d->schema.labels.n == 0) return ECG_OK;
    size_t row;
    struct shard *s = find_shard(d, i, &row);
    return dataset_column_row(d, s, COLUMN_LABELS, row, labels);
}

enum ecg_status dataset_targets(struct dataset *d, size_t i, float *targets) {
    if (d->schema.targets.n == 0) return ECG_OK;
    size_t row;
    struct shard *s = find_shard(d, i, &row);
    return dataset_column_row(d, s, COLUMN_TARGETS, row, targets);
}

static enum ecg_status keep_text(void *context, uint64_t row, const char *text, size_t n_bytes) {
    (void)row, (void)n_bytes;
    return mem_strdup(context, text);
}

static enum ecg_status read_id(struct dataset_private *p, const struct shard *s, const char *name,
                               size_t row, char **id) {
    *id = NULL;
    pthread_mutex_lock(&p->slow_lock);
    struct h5_file *f;
    enum ecg_status status = dataset_slow_file(p, s, &f);
    if (status == ECG_OK) status = h5_each_string(f, name, row, 1, keep_text, id);
    pthread_mutex_unlock(&p->slow_lock);
    return status;
}

enum ecg_status dataset_record_id(struct dataset *d, size_t i, char **id) {
    size_t row;
    const struct shard *s = find_shard(d, i, &row);
    return read_id(d->p, s, "/record_id", row, id);
}

enum ecg_status dataset_patient_id(struct dataset *d, size_t i, char **id) {
    size_t row;
    const struct shard *s = find_shard(d, i, &row);
    *id = NULL;
    if (s->has_patient_id) {
        TRY(read_id(d->p, s, "/patient_id", row, id));
        if ((*id)[0] != 0) return ECG_OK;
        free(*id);
    }
    return dataset_record_id(d, i, id);
}
