/* SPDX-License-Identifier: MIT
 * A data set as a run uses it: the records selected, the leads taken by name, the columns used. */
#ifndef TRAIN_RUN_SOURCE_H
#define TRAIN_RUN_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"
#include "data/loader.h"
#include "data/shard.h"
#include "train/run/config.h"
#include "train/run/embeddings.h"
#include "train/run/feed.h"

struct source {
    struct dataset *data;
    size_t *index; /* (n) records selected */
    size_t n;
    int n_leads;
    int lead[LEADS_MAX]; /* file lead that becomes channel c */
    int n_labels, n_targets; /* columns taken */
    int *labels, *targets;   /* their places in the data set */
    struct embeddings embeddings; /* rows NULL: the records themselves are read */
};

/* What the selection knows of the columns taken. */
struct source_counts {
    size_t *present, *absent; /* (n_labels) records */
    size_t *known;            /* (n_targets) records */
};

/* Opens spec's data set and selects. No columns yet: source_columns. `key` is for messages ("data.train"). */
enum ecg_status source_open(struct source *s, const struct selection_spec *spec, const char *key);
void source_close(struct source *s); /* idempotent, zeroed is fine */

/* Takes `leads` by name, all of the data set's when leads->n == 0. A lead that is not there: ECG_ERR_CONFIG. */
enum ecg_status source_take_leads(struct source *s, const struct leads *leads, const char *key);
/* Takes label columns, or target columns, by name, in this order; none when wanted->n == 0. A column that is not there:
 * ECG_ERR_CONFIG naming the nearest. */
enum ecg_status source_take_columns(struct source *s, bool targets, const struct names *wanted,
                                    const char *key);
/* The columns of all heads, one after the other. */
enum ecg_status source_take_heads(struct source *s, const struct heads *heads, const char *key);
/* Reads every label and target taken. */
enum ecg_status source_count(struct source *s, struct source_counts *counts);
void source_counts_free(struct source_counts *counts); /* idempotent, zeroed is fine */
/* A column unknown in all records is ECG_ERR_DATA and named; so is a label that none has, or, with allow_absent, a warning. */
enum ecg_status source_check_counts(const struct source *s, const struct source_counts *counts,
                                    bool allow_absent, const char *key);
/* The times of events must be above 0: else ECG_ERR_DATA naming the record. */
enum ecg_status source_check_times(struct source *s, const struct heads *heads, const char *key);

/* Fresh rows of the columns taken, (n, n_labels) and (n, n_targets); NULL for none. */
enum ecg_status source_truth(struct source *s, uint8_t **labels, float **targets);

/* How many records at a time of `wanted`: never more than there are. */
int source_batch(const struct source *s, int wanted);
/* Loader options for this source: index, columns; the rest is the caller's. */
struct loader_options source_loader(const struct source *s, int batch_size, int workers);
/* What a feed must know of its batches; points into s. with_truth: labels or targets go to the device, of which there may
 * be one kind. */
struct feed_format source_format(const struct source *s, bool with_truth);
/* The name of label or target column i of those taken; belongs to the schema. */
const char *source_label_name(const struct source *s, int i);
const char *source_target_name(const struct source *s, int i);

#endif
