/* SPDX-License-Identifier: MIT
 * The loops that peak.c times: one object a SIMD level, each in a file compiled with that level's flags. */
#ifndef KERNELS_CPU_PEAK_KERNEL_H
#define KERNELS_CPU_PEAK_KERNEL_H

#include <stddef.h>

struct peak_kernel {
    double flop;                              /* of one round */
    void (*run)(size_t rounds, float *out);   /* *out depends on all that was computed */
};

extern const struct peak_kernel peak_portable;
extern const struct peak_kernel peak_avx2;
extern const struct peak_kernel peak_avx512;
extern const struct peak_kernel peak_avx512bf16; /* dot products of bf16 pairs */

#endif
