/* SPDX-License-Identifier: MIT
 * New heads on the training part: what they start from, and what their losses are weighed by. */
#ifndef TRAIN_RUN_HEAD_H
#define TRAIN_RUN_HEAD_H

#include "core/status.h"
#include "train/run/source.h"

struct trainer;

/* loss.pos_weight of each head into t->total; inverse: absent / present records of a label, and records / (classes x
 * records of the class) of classes and ordinal. */
enum ecg_status head_weigh(struct trainer *t, const struct source_counts *counts);

/* For each regression target: mean and sd over the training part. The fresh head starts as that mean (weights 0, so that its
 * first steps tell the backbone nothing wrong; gaussian also as the variance), the loss divides by sd (t->total, column_scale),
 * the optimiser works in sd (optim_unit_rows): the same training as on standardised targets, but the file's weights give
 * years, not sd. */
enum ecg_status head_fit_targets(struct trainer *t);
/* Only measures: t->total. What a head that was trained before needs for its loss. */
enum ecg_status head_measure_targets(struct trainer *t);

#endif
