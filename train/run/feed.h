/* SPDX-License-Identifier: MIT
 * From a loader's batch into the network: uploads a slice of it and makes the input tensor. */
#ifndef TRAIN_RUN_FEED_H
#define TRAIN_RUN_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "data/loader.h"
#include "train/model/net1d.h"

/* What the batches hold. */
struct feed_format {
    int n_file_leads, length;
    const int *lead; /* file lead of each of the network's channels */
    int n_columns;   /* labels or targets a record, 0 = none */
    bool targets;
};

struct feed {
    struct net1d *net;
    enum ops_normalize normalize;
    struct feed_format format;
    void *memory; /* of ops, for net->max_batch records: all below */
    int16_t *ecg;
    float *scale;
    uint8_t *labels;
    float *targets;
};

/* format->lead must outlive the feed. */
enum ecg_status feed_create(struct feed *f, struct net1d *net, const struct feed_format *format,
                            enum ops_normalize normalize);
/* Bytes of its memory; the network may be a plan. */
size_t feed_bytes(const struct net1d *net, const struct feed_format *format);
void feed_free(struct feed *f); /* idempotent, zeroed is fine */

/* Records [first, first+n) of the batch, n <= net->max_batch: fills net->x, labels, targets. */
enum ecg_status feed_put(struct feed *f, const struct batch *b, int first, int n);

#endif
