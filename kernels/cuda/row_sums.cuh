/* SPDX-License-Identifier: MIT
 * Sums over the 8 rows that a warp's lanes 4*g + q hold (g the row) of the numbers of a normalisation's gradient: of dn and of
 * dn*(x - mean), 4 neighbouring channels a lane. */
#ifndef KERNELS_CUDA_ROW_SUMS_CUH
#define KERNELS_CUDA_ROW_SUMS_CUH

#include "kernels/cuda/compat.h"

struct row_sums {
    float dn[4], dot[4];
};

/* One row's dn and x of the 4 channels. */
DEVICE void row_sums_add(struct row_sums *s, const float dn[4], const float x[4],
                         const float mean[4]) {
#pragma unroll
    for (int k = 0; k < 4; k++) s->dn[k] += dn[k], s->dot[k] += dn[k] * (x[k] - mean[k]);
}

/* Each lane ends with one of the 8 sums over all rows: of channel row_sums_channel, dn's or (row_sums_is_dot) the other. What
 * is kept is halved at each step: 7 exchanges where whole sums would take 24. */
DEVICE int row_sums_channel(int lane) {
    return lane >> 2 & 3;
}

DEVICE int row_sums_is_dot(int lane) {
    return lane >> 4 & 1;
}

DEVICE float row_sums_over(const struct row_sums &s) {
    const int lane = (int)threadIdx.x & 31;
    const bool dot = lane & 16, upper = lane & 8, odd = lane & 4;
    float four[4], two[2];
#pragma unroll
    for (int k = 0; k < 4; k++)
        four[k] = (dot ? s.dot[k] : s.dn[k]) + __shfl_xor_sync(~0u, dot ? s.dn[k] : s.dot[k], 16);
#pragma unroll
    for (int k = 0; k < 2; k++)
        two[k] = (upper ? four[2 + k] : four[k]) +
                 __shfl_xor_sync(~0u, upper ? four[k] : four[2 + k], 8);
    return (odd ? two[1] : two[0]) + __shfl_xor_sync(~0u, odd ? two[0] : two[1], 4);
}

#endif
