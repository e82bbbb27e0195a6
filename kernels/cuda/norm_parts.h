/* SPDX-License-Identifier: MIT
 * Partial sums over rows that a normalisation needs, as kernels leave them in memory on their way, and the second pass that
 * adds them in the order of their index (norm.cu). Each starts one launch, whose error is left to the caller. */
#ifndef KERNELS_CUDA_NORM_PARTS_H
#define KERNELS_CUDA_NORM_PARTS_H

#include "kernels/cuda/compat.h"
#include "kernels/ops.h"

/* mean, var (C) = from part (parts, C): mean and squared deviations of `unit` rows each, of what is left in the last. */
void norm_finish_stats(int rows, int unit, int C, const float2 *part, float *mean, float *var,
                       cudaStream_t stream);
/* What norm_sums makes of part (parts, C): the sums of dn and of dn*(x - mean) over parts of `rows` rows. */
void norm_finish_sums(int rows, int parts, int C, const float2 *part, const struct ops_norm *norm,
                      cudaStream_t stream);

#endif
