/* SPDX-License-Identifier: MIT
 * The loop of one level. The file that includes this defines PEAK_NAME, the accumulator's type PEAK_VEC of fp32, the
 * number PEAK_SUMS of independent accumulators (enough to cover the instruction's latency on all its pipes, and few
 * enough for the registers), FLOP of one step PEAK_FLOP, and
 *     static inline PEAK_VEC peak_start(float x)         all elements x
 *     static inline PEAK_VEC peak_step(PEAK_VEC sum)     one instruction's work; the results must stay normal numbers */
#include "kernels/cpu/peak_kernel.h"

static void run(size_t rounds, float *out) {
    PEAK_VEC sum[PEAK_SUMS];
    float total = 0;
#pragma GCC unroll 32
    for (int i = 0; i < PEAK_SUMS; i++) sum[i] = peak_start((float)i);
    for (size_t r = 0; r < rounds; r++) {
#pragma GCC unroll 32
        for (int i = 0; i < PEAK_SUMS; i++) sum[i] = peak_step(sum[i]);
    }
    for (int i = 0; i < PEAK_SUMS; i++) {
        const PEAK_VEC s = sum[i];
        total += s[0];
    }
    *out = total;
}

const struct peak_kernel PEAK_NAME = {.flop = (double)PEAK_SUMS * PEAK_FLOP, .run = run};
