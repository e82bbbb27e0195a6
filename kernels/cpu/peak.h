/* SPDX-License-Identifier: MIT
 * What this processor can do at most, measured: the ceilings that bench holds every figure against.
 *
 *     struct peak p;
 *     TRY(peak_measure(&p, 0, 0.2));
 *
 * Arithmetic peaks run independent multiply-adds on registers, in as many threads as asked for, and no memory; they follow
 * the SIMD level that the backend itself would take (EINTHOVEN_CPU), so that a figure of avx2 is held against avx2.
 * Each is the best of many short runs: a neighbour on the machine can only lower it. */
#ifndef KERNELS_CPU_PEAK_H
#define KERNELS_CPU_PEAK_H

#include "core/status.h"

struct peak {
    const char *level; /* "avx512" */
    int n_threads;
    double share;  /* (0, 1] of the processor time that its threads could have had while the fp32 peak was measured; well below
                      1: the machine is busy with other things, or has fewer cores, and peaks may be too low */
    double fp32;   /* GFLOP/s of fused multiply-adds (portable: multiplications and additions), 2 FLOP each */
    double bf16;   /* GFLOP/s of dot products of bf16 pairs into fp32 (vdpbf16ps); 0: this level has no such instruction */
    double memory; /* GB/s over arrays larger than any cache, each read or written once: the best of a = b + s c with ordinary
                      and with streaming stores (12 bytes an element) and a = s a + t in place (8 bytes) */
};

/* n_threads 0 = all allowed cores; about `seconds` for each of the figures. Same errors as opening the cpu backend. */
enum ecg_status peak_measure(struct peak *peak, int n_threads, double seconds);

#endif
