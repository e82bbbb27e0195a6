/* SPDX-License-Identifier: MIT
 * A data set is a folder of HDF5 shards (format: DESIGN/README "Data sets"). The writer fills shards of at most
 * 4096 records under temporary names and renames each when whole; the reader takes any folder of valid shards, made by
 * hand or by us, and checks that they agree. */
#ifndef DATA_SHARD_H
#define DATA_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "data/leads.h"
#include "data/names.h"

#define SHARD_MAX_RECORDS   4096
#define SHARD_MAX_RATE      1e6 /* Hz */
#define SHARD_LABEL_UNKNOWN 255

/* What all records of a data set share. */
struct shard_schema {
    double sampling_rate;         /* Hz */
    int length;                   /* L, samples */
    struct leads leads;           /* C = leads.n */
    char units[8];                /* "mV" or "none" */
    char preprocessing[64];       /* the preset's name; "none" = raw */
    struct names labels, targets; /* columns; n 0 = none */
    bool has_fold;
};
void shard_schema_free(struct shard_schema *s);
enum ecg_status shard_schema_copy(struct shard_schema *out, const struct shard_schema *s);
/* What differs first ("sampling_rate", "labels" ...); NULL when all is equal. */
const char *shard_schema_difference(const struct shard_schema *a, const struct shard_schema *b);

/* One record on its way in. */
struct shard_record {
    const char *record_id, *patient_id;
    const int16_t *ecg;    /* (C, L) */
    float scale;           /* physical value = ecg * scale */
    const uint8_t *labels; /* (K) 1, 0, 255 unknown; NULL when K == 0 */
    const float *targets;  /* (T) NaN unknown; NULL when T == 0 */
    int16_t fold;
};

struct shard_writer;
/* Makes the folder (ECG_ERR_CREATE when it can't be, or holds anything already). The schema is copied. */
enum ecg_status shard_writer_open(struct shard_writer **w, const char *dir,
                                  const struct shard_schema *schema);
/* Copies the record. A record_id seen before is ECG_ERR_DATA and changes nothing. Not thread-safe. */
enum ecg_status shard_writer_add(struct shard_writer *w, const struct shard_record *r);
size_t shard_writer_count(const struct shard_writer *w);
/* Writes the last shard and dataset.json (totals, per-shard xxhash64, label counts, `made_by`: the command line). */
enum ecg_status shard_writer_finish(struct shard_writer *w, const char *made_by);
/* Without a finish before it: removes everything that was written, the folder too when we made it. NULL is fine. */
void shard_writer_close(struct shard_writer *w);

/* ------------------------------------------------------------------ reading */

/* Records are numbered through all shards, shards by name, in the file's order. */
struct dataset {
    char *path;
    struct shard_schema schema;
    size_t n_records;
    size_t n_shards;
    uint64_t *patient_hash; /* (n_records) xxhash64 of patient_id, of record_id where there is none */
    int16_t *fold;     /* (n_records) or NULL */
    struct dataset_private *p;
};
/* Path: a folder of shards (its *.h5 and *.hdf5, by name; other files are not looked at) or one shard file. A
 * record without patient_id, or with an empty one, is its own patient. Reads what all records share, folds and
 * patients; records stay on disk and cost 8 bytes of memory each (10 with folds). No folder: ECG_ERR_NOINPUT; no shard in it: ECG_ERR_NOINPUT; shards that
 * disagree, a wrong shape, type or attribute, a truncated file: ECG_ERR_DATA naming the file. */
enum ecg_status dataset_open(struct dataset **d, const char *path);
void dataset_close(struct dataset *d); /* NULL is fine */

/* All thread-safe. Record i: ecg (C, L) and scale; a non-finite scale is ECG_ERR_DATA naming shard and record. */
enum ecg_status dataset_read(struct dataset *d, size_t i, int16_t *ecg, float *scale);
enum ecg_status dataset_labels(struct dataset *d, size_t i,
                               uint8_t *labels); /* (K); a value not 0, 1, 255: ECG_ERR_DATA */
enum ecg_status dataset_targets(struct dataset *d, size_t i, float *targets); /* (T) */
enum ecg_status dataset_record_id(struct dataset *d, size_t i, char **id);    /* fresh string */
enum ecg_status dataset_patient_id(struct dataset *d, size_t i, char **id);   /* fresh string */
/* Shard and row that hold record i, for messages. */
const char *dataset_shard_name(const struct dataset *d, size_t i, size_t *row);

#endif
