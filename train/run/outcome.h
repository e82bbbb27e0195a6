/* SPDX-License-Identifier: MIT
 * A network's outputs head by head, beside what is known, as train/report/evaluation.h takes them: labels' logits, classes'
 * log-odds, targets with their predicted spread, risks. */
#ifndef TRAIN_RUN_OUTCOME_H
#define TRAIN_RUN_OUTCOME_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "train/model/heads.h"
#include "train/report/evaluation.h"
#include "train/run/infer.h"

struct outcome {
    struct evaluation_input in; /* all but record_ids, patients, intervals and seed */
    struct names labels, targets; /* borrowed names */
    float *logits, *predictions, *sds, *target_truth;
    uint8_t *label_truth;
    double *thresholds;
    struct evaluation_classes *groups;
    struct evaluation_survival *survivals;
    void **memory; /* of the groups and survivals */
    size_t n_memory;
};

/* r: outputs and truth with the heads' columns in their order; thresholds (n_outputs) or NULL. What is made may point into
 * heads. */
enum ecg_status outcome_make(struct outcome *o, const struct heads *heads, const struct inferred *r,
                             const double *thresholds);
void outcome_free(struct outcome *o); /* idempotent, zeroed is fine */
/* Bytes a record that it takes. */
size_t outcome_bytes(const struct heads *heads);

#endif
