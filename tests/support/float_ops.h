/* SPDX-License-Identifier: MIT
 * A backend as another would write it: bf16 activations, sums and functions in float, act_conv in one piece, which
 * rounds neither y before its statistics nor da before act's backward pass. What it does not have is the oracle's.
 * On demand it makes one mistake. */
#ifndef TESTS_SUPPORT_FLOAT_OPS_H
#define TESTS_SUPPORT_FLOAT_OPS_H

#include "kernels/ops.h"

enum mistake {
    MISTAKE_NONE,
    MISTAKE_TAP,            /* the first tap is left out */
    MISTAKE_LAST_TAP,       /* the last one */
    MISTAKE_LEAD,           /* the group's channels are read one further */
    MISTAKE_MIRROR,         /* taps in the wrong order */
    MISTAKE_TRANSPOSED,     /* weights of (ci, k) taken as (k, ci) */
    MISTAKE_RAW_WEIGHTS,    /* weights not rounded to bf16 */
    MISTAKE_RAW_ACT,        /* act(x) not rounded */
    MISTAKE_CUT_WEIGHTS,    /* weights cut off instead of rounded */
    MISTAKE_CUT_OUTPUT,     /* bf16 outputs cut off instead of rounded */
    MISTAKE_BF16_SUMS,      /* sums kept in bf16 */
    MISTAKE_NO_BIAS,        /* bias left out; db too */
    MISTAKE_LAST_ROW,       /* the last sample is not in dw, db, mean, var and y_mean */
    MISTAKE_SLOPE,          /* swish'(n) = sigmoid(n) */
    MISTAKE_NO_ADD,         /* "=" instead of "+=" */
    MISTAKE_NAN,            /* one NaN in y and dn */
    N_MISTAKES
};

const char *mistake_name(enum mistake mistake);

/* The table; the mistake holds until the next call. */
const struct ops *float_ops(enum mistake mistake);

#endif
