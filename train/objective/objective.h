/* SPDX-License-Identifier: MIT
 * What one head of a run minimises, by its name in the config. Every loss is the sum over known entries of the step's
 * whole batch divided by their number, whatever the number of micro-batches. The elementwise losses are the device's own op:
 *
 *     known = objective_known(whole batch)      on the host's copies of labels or targets
 *     per micro-batch: objective_add(..., known ? 1.0 / known : 0.0, &sum, dlogits)
 *     loss = sum / known
 *
 * All others, several heads and weights of columns are train/objective/total.h's business, on the host. Cox' partial likelihood compares
 * samples with each other, so it takes the logits of the whole batch at once.
 */
#ifndef TRAIN_OBJECTIVE_OBJECTIVE_H
#define TRAIN_OBJECTIVE_OBJECTIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "kernels/ops.h"

/* In the order of OBJECTIVE_CHOICES, which the option table shows. */
enum objective_kind {
    OBJECTIVE_BCE,
    OBJECTIVE_HILL,
    OBJECTIVE_FOCAL,
    OBJECTIVE_ASL,
    OBJECTIVE_MSE,
    OBJECTIVE_HUBER,
    OBJECTIVE_SOFTMAX,
    OBJECTIVE_ORDINAL,
    OBJECTIVE_GAUSSIAN,
    OBJECTIVE_COX,
    OBJECTIVE_HAZARD
};
#define OBJECTIVE_CHOICES "bce hill focal asl mse huber softmax ordinal gaussian cox hazard"

/* Which columns of the data an objective reads. */
enum objective_reads {
    OBJECTIVE_LABELS,  /* uint8: 1, 0, 255 unknown */
    OBJECTIVE_TARGETS, /* float: NaN unknown */
    OBJECTIVE_SURVIVAL /* one label (the event) and one target (the time) */
};

struct objective {
    enum objective_kind kind;
    enum objective_reads reads;
    struct ops_loss loss; /* of the elementwise ones */
};

/* Every output has a column of its own: the losses that kernels/ops.h computes. */
bool objective_is_elementwise(enum objective_kind kind);

/* `parameters`: lambda, margin, gamma ... as read from the config (its `kind` is ignored); NULL = the published ones
 * of this loss. A value that can't be is ECG_ERR_CONFIG and names the key. */
enum ecg_status objective_init(struct objective *o, enum objective_kind kind,
                               const struct ops_loss *parameters);

/* Known entries of B x N labels or targets (the one that `o` reads; the other may be NULL), host memory. For cox:
 * the events, N = 1. */
size_t objective_known(const struct objective *o, int B, int N, const uint8_t *labels,
                       const float *targets);

/* One micro-batch through ops->loss (all pointers in ops memory): *loss_sum += sum over known entries (there when
 * ops->sync returns), dlogits (B,N) =
 * gradient of the batch's loss, or NULL. column_scale (N): a target's standard deviation, or NULL. Elementwise losses only. */
enum ecg_status objective_add(const struct objective *o, const struct ops *ops, struct ops_dev *dev,
                              int B, int N, const float *logits, const uint8_t *labels,
                              const float *targets, const float *column_scale, double inv_known,
                              double *loss_sum, float *dlogits);

/* Bytes of scratch that objective_cox needs for n samples. */
size_t objective_cox_bytes(size_t n);

/* Cox' negative log partial likelihood, ties after Breslow: sum over events i of log sum_{j: time_j >= time_i} exp z_j - z_i,
 * divided by the number of events, in double. Samples with an unknown event (255) or time (NaN) are left out (dz 0);
 * without an event the loss is 0. z, dz: host arrays (n); dz may be NULL. *loss_sum = the sum, *n_events its divisor;
 * dz = gradient of their quotient. */
void objective_cox(size_t n, const float *z, const uint8_t *event, const float *time, void *scratch,
                   double *loss_sum, size_t *n_events, float *dz);

#endif
