/* SPDX-License-Identifier: MIT
 * The network over a whole source in its own order: what validation, evaluate, predict and embed share. */
#ifndef TRAIN_RUN_INFER_H
#define TRAIN_RUN_INFER_H

#include <stdint.h>

#include "core/status.h"
#include "train/model/net1d.h"
#include "train/run/source.h"

/* Receives one batch's outputs: records [first, first + b->B) of the source, host memory. */
typedef enum ecg_status infer_fn(void *context, size_t first, const struct batch *b,
                                 const float *logits, const float *features);

/* Runs in evaluation mode, net->max_batch records at a time, and hands each batch to fn. `what` names the progress line;
 * NULL: none. */
enum ecg_status infer_each(struct net1d *net, const struct source *s, enum ops_normalize normalize,
                           int workers, const char *what, infer_fn *fn, void *context);

/* All outputs at once, with the source's columns. */
struct inferred {
    size_t n;        /* records */
    int k;           /* outputs */
    float *logits;   /* (n, k) */
    int n_labels, n_targets; /* of the source */
    uint8_t *labels; /* (n, n_labels) or NULL */
    float *targets;  /* (n, n_targets) or NULL */
};
enum ecg_status infer_all(struct inferred *out, struct net1d *net, const struct source *s,
                          enum ops_normalize normalize, int workers, const char *what);
/* Bytes that infer_all takes; the network may be a plan. */
size_t infer_bytes(const struct net1d *net, const struct source *s, int workers);
void inferred_free(struct inferred *out); /* idempotent, zeroed is fine */

#endif
