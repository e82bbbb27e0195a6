/* SPDX-License-Identifier: MIT
 * The operations of augment.h on one record, in the file's integers as floats. */
#ifndef DATA_AUGMENT_OPS_H
#define DATA_AUGMENT_OPS_H

#include <stdbool.h>

#include "core/rng.h"
#include "data/augment.h"

struct augment_work {
    const struct augment_scratch *s; /* x: the record */
    int n_leads, length;
    double sampling_rate;
    double sd; /* of the record; only where augment_op_wants_sd */
};

/* Draws how far it goes and does it; magnitude > 0. */
void augment_op_run(enum augment_op op, struct augment_work *w, struct rng *r, double magnitude);
bool augment_op_is_exact(enum augment_op op); /* whole numbers stay whole, and no larger */
bool augment_op_wants_sd(enum augment_op op);

/* Reads every row at other times: out[t] = x(t + depth * (sin(2 pi waves t / (length - 1) + phase) - sin(phase))), between samples
 * by the cubic through four (Catmull-Rom; ends repeated). depth in samples. */
void augment_warp(struct augment_work *w, double depth, int waves, double phase);

#endif
