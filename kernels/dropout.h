/* SPDX-License-Identifier: MIT
 * The dropout mask, the same for every backend: a pure function of where the element stands. */
#ifndef KERNELS_DROPOUT_H
#define KERNELS_DROPOUT_H

#include <stdint.h>

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Factors (0 or 1/(1-drop)) of elements [i0, i0+n) of sample `b` of the micro-batch. Philox key = seed, counter =
 * (i/4, stream, step, sample0 + b); word i%4 of the block, as u/2^32, keeps the element when >= drop. i0 need
 * not be a multiple of 4. */
void ops_dropout_factors(const struct ops_act *act, int b, uint32_t i0, uint32_t n, float *factor);

#ifdef __cplusplus
}
#endif
#endif
