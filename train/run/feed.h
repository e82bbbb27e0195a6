/* SPDX-License-Identifier: MIT
 * From a loader's batch into the network: uploads a slice of it and makes the input tensor. On a backend that works beside
 * the host (ops->upload_ahead) there are two sets of memory, so that the next slice can be uploaded while the one before is still
 * being read. Where the head's input is kept in memory (embeddings), that goes up instead of the records. */
#ifndef TRAIN_RUN_FEED_H
#define TRAIN_RUN_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "data/loader.h"
#include "train/model/net1d.h"
#include "train/run/embeddings.h"

/* What the batches hold. */
struct feed_format {
    int n_file_leads, length;
    const int *lead; /* file lead of each of the network's channels */
    int n_columns;   /* labels or targets a record, 0 = none */
    bool targets;
    const struct embeddings *embeddings; /* what goes up instead of the records; NULL: the records */
};

/* A slice of a batch, in ops memory, for net->max_batch records. */
struct feed_set {
    int16_t *ecg;
    float *scale;
    uint8_t *labels;
    float *targets;
    float *features; /* instead of ecg and scale */
};

struct feed {
    struct net1d *net;
    enum ops_normalize normalize;
    struct feed_format format;
    void *memory; /* of all sets */
    struct feed_set sets[2];
    int filled;      /* the set of the last upload */
    uint8_t *labels; /* of the records in net->x */
    float *targets;
    const float *features; /* of the records entered, for struct net1d_pass; NULL: they are in net->x */
    float *gathered;       /* (max_batch, width) host: rows of format.embeddings */
};

/* format->lead and embeddings must outlive the feed. */
enum ecg_status feed_create(struct feed *f, struct net1d *net, const struct feed_format *format,
                            enum ops_normalize normalize);
/* Bytes of its memory; the network may be a plan. */
size_t feed_bytes(const struct net1d *net, const struct feed_format *format);
void feed_free(struct feed *f); /* idempotent, zeroed is fine */

/* Uploads records [first, first+n) of the batch, n <= net->max_batch; it may change on return. What reads the slice entered
 * before must have been launched. */
enum ecg_status feed_upload(struct feed *f, const struct batch *b, int first, int n);
/* The n records of the last upload: fills net->x or features, labels, targets. */
enum ecg_status feed_enter(struct feed *f, int n);
/* Both. */
enum ecg_status feed_put(struct feed *f, const struct batch *b, int first, int n);

#endif
