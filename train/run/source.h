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
    bool targets;        /* columns are targets, else labels */
    int n_columns;
    int *columns;
    struct embeddings embeddings; /* rows NULL: the records themselves are read */
};

/* Opens spec's data set and selects. No columns yet: source_columns. `key` is for messages ("data.train"). */
enum ecg_status source_open(struct source *s, const struct selection_spec *spec, const char *key);
void source_close(struct source *s); /* idempotent, zeroed is fine */

/* Takes `leads` by name, all of the data set's when leads->n == 0. A lead that is not there: ECG_ERR_CONFIG. */
enum ecg_status source_take_leads(struct source *s, const struct leads *leads, const char *key);
/* Takes columns by name, in this order; wanted->n == 0: all of the kind. A column that is not there:
 * ECG_ERR_CONFIG naming the nearest. */
enum ecg_status source_take_columns(struct source *s, bool targets, const struct names *wanted,
                                    const char *key);
/* All columns taken must be known somewhere in the selection, else ECG_ERR_DATA names the column. */
enum ecg_status source_check_known(struct source *s, const char *key);

/* How many records at a time of `wanted`: never more than there are. */
int source_batch(const struct source *s, int wanted);
/* Loader options for this source: index, columns; the rest is the caller's. */
struct loader_options source_loader(const struct source *s, int batch_size, int workers);
/* What a feed must know of its batches; points into s. */
struct feed_format source_format(const struct source *s);
/* The name of column i of those taken; belongs to the schema. */
const char *source_column_name(const struct source *s, int i);
/* All their names; a copy, freed by names_free. */
enum ecg_status source_column_names(const struct source *s, struct names *out);

#endif
