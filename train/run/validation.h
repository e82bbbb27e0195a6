/* SPDX-License-Identifier: MIT
 * The network as it stands over the validation part: loss, macro AUROC, and the thresholds that go with the weights. */
#ifndef TRAIN_RUN_VALIDATION_H
#define TRAIN_RUN_VALIDATION_H

#include <stddef.h>

#include "core/status.h"
#include "train/run/journal.h"

struct trainer;

struct validation {
    double loss;        /* over all known entries of the part; NaN without any */
    double macro_auroc; /* mean over labels and classes with both kinds of records; NaN without any */
    struct journal_figures losses; /* of each head, where there are several */
    struct journal_figures accuracy, c_index, mae; /* of classes, times to event, targets; names are t->heads' */
};
/* Also puts the labels' Youden thresholds, chosen on this part, into t->meta. */
enum ecg_status validation_run(struct trainer *t, struct validation *v);
/* Bytes that it takes; t may be planned. */
size_t validation_bytes(const struct trainer *t);

#endif
