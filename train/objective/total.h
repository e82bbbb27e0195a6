/* SPDX-License-Identifier: MIT
 * What a run minimises: the weighted sum of its heads' losses, each the sum over the known entries of the step's whole
 * batch divided by their number. An entry is a label or a target (elementwise losses, gaussian), a record (softmax, ordinal,
 * hazard) or an event (cox). Computed on the host in double from the logits; a total of one elementwise loss is left to the
 * device (objective_add).
 *
 *     total_known(&t, &truth, known);                              whole batch
 *     per micro-batch: total_add(&t, &truth, known, first, n, logits, all, sum, dlogits);
 *     loss = total_value(&t, known, sum);
 *
 * Losses: kernels/loss.h; softmax -log p(class); ordinal, hazard, gaussian, cox as train/model/heads.h describes the
 * likelihoods. gaussian is in standard deviations of the target, its variance at least 1e-6 there (as torch.nn.GaussianNLLLoss).
 * hazard: an event in interval k counts intervals 0 .. k-1 as lived through and k as its own; a record without an event counts
 * those that ended before its time.
 */
#ifndef TRAIN_OBJECTIVE_TOTAL_H
#define TRAIN_OBJECTIVE_TOTAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "train/model/heads.h"
#include "train/objective/objective.h"

struct total_head {
    const struct head *head; /* outlives the total */
    struct objective objective;
    double weight;
    int label, target;     /* where its columns begin in a row of the truth */
    double *column_weight; /* (labels) factor of a present label's loss, of a class'; NULL: 1 */
    double *sd;            /* (targets) a target's sd in the training part; NULL: 1 */
};

struct total {
    int n;
    struct total_head v[HEADS_MAX];
    int n_labels, n_targets; /* a row of the truth */
    int n_outputs;
    void *scratch; /* of cox, grown to the largest batch */
    size_t n_scratch;
};

/* A whole batch. */
struct total_truth {
    int B;
    const uint8_t *labels; /* (B, n_labels) */
    const float *targets;  /* (B, n_targets) */
    const float *mix;      /* (B) mixup: this share of the record's own loss, the rest of its partner's; NULL: 1 */
    const int *partner;    /* (B) */
};

/* Appends a head with the next columns of the truth's rows. */
void total_add_head(struct total *t, const struct head *head, const struct objective *objective,
                    double weight);
void total_free(struct total *t); /* idempotent, zeroed is fine */

/* One elementwise loss with no weights of columns: ops->loss does it. */
bool total_is_plain(const struct total *t);
/* A loss that compares records: total_add needs all logits of the batch. */
bool total_is_joint(const struct total *t);

/* Known entries of each head, known[t->n]; mixup counts parts. Returns whether there is any. */
bool total_known(const struct total *t, const struct total_truth *truth, double *known);
/* Records [first, first + n): logits (n, n_outputs) host memory; all (B, n_outputs): those of the whole batch, where the total is
 * joint. sum[t->n] +=; dlogits (n, n_outputs), =, gradient of the loss, may be NULL. */
enum ecg_status total_add(struct total *t, const struct total_truth *truth, const double *known,
                          int first, int n, const float *logits, const float *all, double *sum,
                          float *dlogits);
/* NaN where nothing is known. */
double total_value(const struct total *t, const double *known, const double *sum);

#endif
