/* SPDX-License-Identifier: MIT
 * Is the backward pass of a case the derivative of its forward pass? By central differences on a backend itself.
 *
 * F = sum over outputs of output * upstream, summed in double. For each input with a gradient g, F is differentiated
 * along a random direction v and along 16 single entries by the four-point formula
 *     F' = (8 (F(x+hv) - F(x-hv)) - (F(x+2hv) - F(x-2hv))) / 12h,   error O(h^4),
 * and compared with <g, v>. x and h*v lie on a binary grid, so x + hv is exact in float; what is left is the curvature
 * for long steps and the rounding of the float outputs, 6e-8 of each over h, for short ones. So h = 1/32 is followed
 * by 1/8 and 1/128 where it does not reach a quarter of the bound, and the best counts. */
#ifndef TESTS_SUPPORT_GRADIENT_H
#define TESTS_SUPPORT_GRADIENT_H

#include <stdbool.h>

#include "kernels/cases.h"

#define GRADIENT_BOUND 1e-4

/* Whether the check can be made: a forward pass small enough to be called some hundred times, and differences that mean
 * something. In bf16 they do not: the steps leave its grid, and an output rounded to 2^-9 of itself moves by whole
 * roundings or not at all. There the oracle in fp32, which is checked, says what is right (tests/test_bf16.c). */
bool gradient_applies(const struct op_case *c);

struct gradient_result {
    double worst; /* largest error, relative to <g, v> or to its usual size |g| |v| / sqrt(n) if that is larger */
    const char *input; /* where */
    int n_checked;     /* derivatives compared */
};

enum ecg_status gradient_check(const struct op_case *c, const struct ops *ops, struct ops_dev *dev,
                               struct gradient_result *result);

#endif
