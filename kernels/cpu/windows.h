/* SPDX-License-Identifier: MIT
 * A convolution as a product of matrices without unrolling its input. A group's channels of a sample are
 * copied, through the activation and with their zero padding, into a dense slab of rows (the "windows"
 * below overlap in it). The taps * in values that output m sums are then neighbours in the slab, starting
 * at row m * step: a matrix whose rows overlap, and the packed weights are the other factor. A 1x1
 * convolution is the case of one tap, with all samples as one. */
#ifndef KERNELS_CPU_WINDOWS_H
#define KERNELS_CPU_WINDOWS_H

#include "kernels/cpu/cpu.h"

struct windows {
    enum ops_dtype dtype; /* of the source and of a slab */
    int B, G;       /* samples (1 when all are seen as one), groups */
    int rows, in;   /* source rows of a sample, channels of a group; the source has G * in */
    int taps, step; /* rows of a window, rows from one window to the next */
    int first;      /* source row of window 0's first tap; windows reach over both ends */
    int n;          /* windows of a sample */
    int L;          /* the source's true rows of a sample, for dropout */
    ptrdiff_t row;  /* elements from a slab's row to the next */
};

/* The windows of a convolution's forward pass. */
struct windows windows_fwd(enum ops_dtype dtype, struct ops_conv s);
/* Those of dx's rows of one phase, over dy: rows l with (l + P) % S == phase. *l0: the first such row;
 * n == 0 or taps == 0 when there are none or nothing reaches them. */
struct windows windows_bwd(enum ops_dtype dtype, struct ops_conv s, int phase, int *l0);

/* Whether a convolution's samples may be seen as one long sample: one tap, step 1, no padding. */
int windows_mergeable(struct ops_conv s);

/* Whether a tensor whose rows have C elements can be a factor of a product as it lies there. Rows a multiple of a
 * page apart would drive each other out of the nearest cache: those are worth a copy; and bf16 is read in pairs. */
int windows_readable(enum ops_dtype dtype, int C);
/* Whether the windows need no slab: single rows, all inside, of a readable tensor, with no activation. */
int windows_in_place(const struct windows *w, const struct ops_act *act);

/* How many neighbouring groups are worth doing together, so that rows are read and written by more than one
 * cache line. */
int windows_batch(enum ops_dtype dtype, int in, int out, int G);

/* Elements of the slab of n windows of one group: whole places of a product, the last window's last one included. */
size_t windows_slab(const struct windows *w, int n);
/* Fills the slabs of windows [m0, m0 + n) of sample b, groups [g0, g0 + n_groups), `next` elements from one to the next;
 * factor: scratch of n_groups * in floats. */
void windows_fill(const struct level *v, const struct windows *w, const struct ops_act *act,
                  const void *src, int b, int g0, int n_groups, int m0, int n, float *factor,
                  void *slab, size_t next);

#endif
