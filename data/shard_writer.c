/* SPDX-License-Identifier: MIT
 * Shards out. Each is begun with room for 4096 records, which go straight to their place on disk, so that memory holds
 * only the small tables. The last shard is usually not full: HDF5 can't shrink a dataset in one piece, so its records
 * are copied into a file of the right size. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"
#include "data/dataset_json.h"
#include "data/id_set.h"
#include "data/shard_room.h"

#define MAX_ID 1024 /* bytes */

struct shard_writer {
    char *dir;
    bool made_dir, finished;
    struct shard_schema schema;
    struct id_set ids;

    /* the shard being filled: n_rows records so far */
    struct shard_room room;
    size_t n_rows;
    char **record_id, **patient_id; /* (4096) */
    float *scale;                   /* (4096) */
    uint8_t *labels;                /* (4096, K) */
    float *targets;                 /* (4096, T) */
    int16_t *fold;                  /* (4096) */

    /* what was written */
    size_t n_records, n_shards, shards_cap;
    struct shard_written *shards;
    struct label_count *label_counts; /* (K) */
    size_t *targets_known;            /* (T) */
};

static enum ecg_status check_schema(const struct shard_schema *s) {
    if (s->leads.n < 1 || s->length < 1 || !(s->sampling_rate > 0) || !isfinite(s->sampling_rate))
        return ecg_fail(ECG_ERR_DATA,
                        "a data set needs leads, a length and a sampling rate: %d, "
                        "%d, %g can't be",
                        s->leads.n, s->length, s->sampling_rate);
    return ECG_OK;
}

static enum ecg_status make_tables(struct shard_writer *w) {
    const size_t n = SHARD_MAX_RECORDS;
    size_t K = (size_t)w->schema.labels.n, T = (size_t)w->schema.targets.n;
    TRY(MEM_NEW(&w->record_id, n));
    TRY(MEM_NEW(&w->patient_id, n));
    TRY(MEM_NEW(&w->scale, n));
    TRY(MEM_NEW(&w->labels, n * K));
    TRY(MEM_NEW(&w->targets, n * T));
    TRY(MEM_NEW(&w->fold, n));
    TRY(MEM_NEW(&w->label_counts, K));
    return MEM_NEW(&w->targets_known, T);
}

enum ecg_status shard_writer_open(struct shard_writer **out, const char *dir,
                                  const struct shard_schema *schema) {
    struct shard_writer *w;
    enum ecg_status status;
    *out = NULL;
    TRY(check_schema(schema));
    TRY(MEM_NEW(&w, 1));
    w->room.fd = -1;
    TRY_OUT(mem_strdup(&w->dir, dir));
    TRY_OUT(shard_schema_copy(&w->schema, schema));
    TRY_OUT(make_tables(w));
    if (file_exists(dir) && (!file_is_dir(dir) || !file_dir_is_empty(dir))) {
        status = ecg_fail(ECG_ERR_CREATE, "%s: is there already and not an empty folder", dir);
        goto out;
    }
    w->made_dir = !file_exists(dir);
    TRY_OUT(file_mkdirs(dir));
    *out = w;
    return ECG_OK;
out:
    w->finished = true; // nothing was written, so nothing is to be removed
    shard_writer_close(w);
    return status;
}

size_t shard_writer_count(const struct shard_writer *w) {
    return w->n_records;
}

/* ------------------------------------------------------------------ a record */

static enum ecg_status check_record(const struct shard_writer *w, const struct shard_record *r) {
    if (r->record_id == NULL || r->record_id[0] == 0)
        return ecg_fail(ECG_ERR_DATA, "a record has no record_id");
    if (strlen(r->record_id) > MAX_ID || (r->patient_id != NULL && strlen(r->patient_id) > MAX_ID))
        return ecg_fail(ECG_ERR_DATA, "record \"%.40s...\": an id of more than %d bytes",
                        r->record_id, MAX_ID);
    if (id_set_has(&w->ids, r->record_id))
        return ecg_fail(ECG_ERR_DATA, "record_id \"%s\" stands twice", r->record_id);
    if (!isfinite(r->scale))
        return ecg_fail(ECG_ERR_DATA, "record \"%s\": scale %g", r->record_id, (double)r->scale);
    for (int i = 0; i < w->schema.labels.n; i++)
        if (r->labels[i] > 1 && r->labels[i] != SHARD_LABEL_UNKNOWN)
            return ecg_fail(ECG_ERR_DATA, "record \"%s\": label %s is %d; 0, 1 or 255 wanted",
                            r->record_id, w->schema.labels.v[i], r->labels[i]);
    for (int i = 0; i < w->schema.targets.n; i++)
        if (isinf(r->targets[i]))
            return ecg_fail(ECG_ERR_DATA, "record \"%s\": target %s is infinite", r->record_id,
                            w->schema.targets.v[i]);
    return ECG_OK;
}

static void count(struct shard_writer *w, const struct shard_record *r) {
    for (int i = 0; i < w->schema.labels.n; i++) {
        struct label_count *c = &w->label_counts[i];
        ++*(r->labels[i] == 1 ? &c->present : r->labels[i] == 0 ? &c->absent : &c->unknown);
    }
    for (int i = 0; i < w->schema.targets.n; i++) w->targets_known[i] += !isnan(r->targets[i]);
}

static enum ecg_status keep_row(struct shard_writer *w, const struct shard_record *r) {
    size_t row = w->n_rows, K = (size_t)w->schema.labels.n, T = (size_t)w->schema.targets.n;
    const char *patient = r->patient_id != NULL ? r->patient_id : r->record_id;
    TRY(shard_room_write(&w->room, row, r->ecg));
    free(w->record_id[row]); // of an attempt that failed half-way
    free(w->patient_id[row]);
    w->patient_id[row] = NULL;
    TRY(mem_strdup(&w->record_id[row], r->record_id));
    TRY(mem_strdup(&w->patient_id[row], patient));
    TRY(id_set_add(&w->ids, r->record_id));
    w->scale[row] = r->scale;
    w->fold[row] = r->fold;
    if (K > 0) memcpy(w->labels + row * K, r->labels, K);
    if (T > 0) memcpy(w->targets + row * T, r->targets, T * sizeof(float));
    count(w, r);
    w->n_rows++;
    w->n_records++;
    return ECG_OK;
}

/* ------------------------------------------------------------------ a shard */

static enum ecg_status put_names(struct h5_file *f, const char *table, const struct names *names) {
    char *text;
    TRY(names_join(names, &text));
    enum ecg_status status = h5_put_attr_text(f, table, "names", text);
    free(text);
    return status;
}

static enum ecg_status put_tables(const struct shard_writer *w) {
    struct h5_file *f = w->room.file;
    uint64_t n = w->n_rows;
    const uint64_t labels[2] = {n, (uint64_t)w->schema.labels.n};
    const uint64_t targets[2] = {n, (uint64_t)w->schema.targets.n};
    TRY(h5_put_f32(f, "/scale", 1, &n, w->scale));
    if (labels[1] > 0) {
        TRY(h5_put_u8(f, "/labels", 2, labels, w->labels));
        TRY(put_names(f, "/labels", &w->schema.labels));
    }
    if (targets[1] > 0) {
        TRY(h5_put_f32(f, "/targets", 2, targets, w->targets));
        TRY(put_names(f, "/targets", &w->schema.targets));
    }
    TRY(h5_put_strings(f, "/record_id", n, w->record_id));
    TRY(h5_put_strings(f, "/patient_id", n, w->patient_id));
    if (w->schema.has_fold) TRY(h5_put_i16(f, "/fold", 1, &n, w->fold));
    return ECG_OK;
}

/* Replaces the room by one of just n_rows records. */
static enum ecg_status fit_room(struct shard_writer *w) {
    struct shard_room exact;
    TRY(shard_room_open(&exact, w->dir, "last-shard.h5", w->n_rows, &w->schema));
    enum ecg_status status = shard_room_copy(&exact, &w->room, w->n_rows);
    shard_room_close(status == ECG_OK ? &w->room : &exact);
    if (status == ECG_OK) w->room = exact;
    return status;
}

static enum ecg_status end_shard(struct shard_writer *w) {
    char name[SHARD_NAME_BYTES], *path;
    if (w->n_rows < SHARD_MAX_RECORDS) TRY(fit_room(w));
    TRY(put_tables(w));
    TRY(mem_grow((void **)&w->shards, &w->shards_cap, w->n_shards + 1, sizeof *w->shards));
    dataset_shard_file_name(w->n_shards, name);
    TRY(file_join(&path, w->dir, name));
    struct shard_written *s = &w->shards[w->n_shards];
    s->n_records = w->n_rows;
    enum ecg_status status = shard_room_commit(&w->room, path, &s->hash);
    free(path);
    if (status == ECG_OK) w->n_shards++;
    w->n_rows = 0;
    return status;
}

static enum ecg_status begin_shard(struct shard_writer *w) {
    char name[SHARD_NAME_BYTES];
    dataset_shard_file_name(w->n_shards, name);
    return shard_room_open(&w->room, w->dir, name, SHARD_MAX_RECORDS, &w->schema);
}

/* ------------------------------------------------------------------ the data set */

enum ecg_status shard_writer_add(struct shard_writer *w, const struct shard_record *r) {
    TRY(check_record(w, r));
    if (w->room.path == NULL) TRY(begin_shard(w));
    TRY(keep_row(w, r));
    return w->n_rows == SHARD_MAX_RECORDS ? end_shard(w) : ECG_OK;
}

static enum ecg_status put_summary(const struct shard_writer *w, const char *made_by) {
    const struct dataset_summary s = {.schema = &w->schema,
                                      .made_by = made_by,
                                      .n_records = w->n_records,
                                      .n_shards = w->n_shards,
                                      .shards = w->shards,
                                      .labels = w->label_counts,
                                      .targets_known = w->targets_known};
    char *path;
    TRY(file_join(&path, w->dir, "dataset.json"));
    enum ecg_status status = dataset_json_write(path, &s);
    free(path);
    return status;
}

enum ecg_status shard_writer_finish(struct shard_writer *w, const char *made_by) {
    if (w->n_records == 0) return ecg_fail(ECG_ERR_DATA, "%s: no record to write", w->dir);
    if (w->n_rows > 0) TRY(end_shard(w));
    TRY(put_summary(w, made_by)); // its atomic write also syncs the folder, shards included
    w->finished = true;
    return ECG_OK;
}

static void remove_file(const struct shard_writer *w, const char *name) {
    char *path;
    if (file_join(&path, w->dir, name) != ECG_OK) return;
    unlink(path);
    free(path);
}

static void remove_written(const struct shard_writer *w) {
    char name[SHARD_NAME_BYTES];
    for (size_t i = 0; i < w->n_shards; i++) {
        dataset_shard_file_name(i, name);
        remove_file(w, name);
    }
    remove_file(w, "dataset.json");
    if (w->made_dir) rmdir(w->dir); // stays when somebody else has put something into it
}

void shard_writer_close(struct shard_writer *w) {
    if (w == NULL) return;
    shard_room_close(&w->room);
    if (!w->finished) remove_written(w);
    for (size_t i = 0; w->record_id != NULL && i < SHARD_MAX_RECORDS; i++) free(w->record_id[i]);
    for (size_t i = 0; w->patient_id != NULL && i < SHARD_MAX_RECORDS; i++) free(w->patient_id[i]);
    free(w->record_id);
    free(w->patient_id);
    free(w->scale);
    free(w->labels);
    free(w->targets);
    free(w->fold);
    free(w->shards);
    free(w->label_counts);
    free(w->targets_known);
    id_set_free(&w->ids);
    shard_schema_free(&w->schema);
    free(w->dir);
    free(w);
}
