/* SPDX-License-Identifier: MIT
 * A new regression head that speaks in the targets' own units and learns in standard deviations. */
#ifndef TRAIN_RUN_HEAD_H
#define TRAIN_RUN_HEAD_H

#include "core/status.h"

struct trainer;

/* For each target: mean and sd over the training part. The fresh head starts as that mean (weights 0, so that its first
 * steps tell the backbone nothing wrong), the loss divides by sd (column_scale), the optimiser works in sd
 * (optim_unit_rows): the same training as on standardised targets, but the file's weights give years, not sd. */
enum ecg_status head_fit_targets(struct trainer *t);

#endif
