/* SPDX-License-Identifier: MIT
 * Files of `predict` and `embed`: one row a record, in the data's order, written as they come. The path's ending chooses:
 *   .csv          record_id and a column per output: the label's probability, the target's value
 *   .h5, .hdf5    record_id; `logits` (N, K) float32 with the attribute `names` (newline-separated), and for labels `prob`
 *                 (N, K) float32; for embeddings `embedding` (N, D) float32 alone
 * Of other heads what they say (train/model/heads.h: heads_values) is the CSV's columns, and in HDF5 `values` (N, V) with names.
 * Rows of an HDF5 file wait in a file beside it until commit, so memory holds the record ids and nothing else. */
#ifndef TRAIN_REPORT_PREDICTIONS_H
#define TRAIN_REPORT_PREDICTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/file.h"
#include "core/status.h"
#include "data/names.h"

enum predictions_kind {
    PREDICTIONS_LABELS,
    PREDICTIONS_TARGETS,
    PREDICTIONS_EMBEDDING,
    PREDICTIONS_HEADS /* any others: outputs, and beside them what they say */
};

struct predictions_out {
    enum predictions_kind kind;
    bool is_h5;
    size_t n_columns;            /* K or D */
    char *names;                 /* newline-separated; NULL for embeddings */
    size_t n_values;             /* V, of heads */
    char *value_names;           /* newline-separated */
    struct file_out out;         /* the file itself, under a temporary name until commit */
    struct file_out rows, beside; /* HDF5: float32 rows so far: outputs; prob or values */
    char **ids;                  /* HDF5: (n) */
    size_t n, capacity;
};

/* names: the n_columns outputs; NULL for embeddings. values: names of what heads say, else NULL. Another ending, or embeddings as CSV: ECG_ERR_USAGE. */
enum ecg_status predictions_open(struct predictions_out *p, const char *path,
                                 enum predictions_kind kind, const struct names *names,
                                 size_t n_columns, const struct names *values);
/* outputs (n_columns): logits, target values or features of one record; values (n_values): of heads, else NULL. */
enum ecg_status predictions_add(struct predictions_out *p, const char *record_id,
                                const float *outputs, const float *values);
enum ecg_status predictions_commit(struct predictions_out *p); /* the file is there, whole; closes */
void predictions_close(struct predictions_out *p);             /* discards what was not committed; idempotent */

/* A predictions file in HDF5, read whole. */
struct predictions {
    size_t n, n_columns;
    char **ids;    /* (n) */
    float *logits; /* (n, n_columns) */
    char *names;   /* newline-separated; NULL when the file has none (not ours) */
};

/* Needs `record_id` (N) and `logits` (N, K); anything else is ECG_ERR_DATA. */
enum ecg_status predictions_read(struct predictions *p, const char *path);
void predictions_free(struct predictions *p); /* idempotent */

#endif
