/* SPDX-License-Identifier: MIT
 * Host code that the files of the 16-tap convolutions share (gconv_shape.cu). */
#ifndef KERNELS_CUDA_GCONV_HOST_H
#define KERNELS_CUDA_GCONV_HOST_H

#include "kernels/cuda/gconv.h"

/* Groups of 16 channels that one CTA takes: 4, 5, 2 or 1, the first of these that divides n_groups. Published widths have
 * 4 (64, 1024) or 5 (160, 400): enough work for each load of a row, and no more than registers hold. */
int gconv_groups_per_cta(int n_groups);
/* Its place among the instances of a kernel template: 0 .. 3 for 1, 2, 4, 5 groups. */
int gconv_instance(int groups);

/* CTAs in a row over n_tiles tiles, none with more tiles than it takes when `slots` CTAs run at once, n_chunks of them side
 * by side on the same tiles. Slots are those of an H100, GCONV_SMS times what a multiprocessor holds of the kernel, on
 * every GPU: cuts follow from the shape alone. */
enum { GCONV_SMS = 132, GCONV_SM_SHARED = 228 * 1024, GCONV_CTA_SHARED = 1024 /* the system's own, of each CTA */ };
int gconv_ctas(int n_tiles, int n_chunks, int slots);

/* ECG_ERR_FAIL, naming op and shape: unless `has`, act drops nothing (NULL: no activation) and ws holds `needed` bytes. */
enum ecg_status gconv_check(const char *op, struct ops_conv s, int has, const struct ops_act *act, struct ops_ws ws,
                            size_t needed);
/* The shape in a message to what CUDA says of the last launch. */
enum ecg_status gconv_check_launch(const char *op, struct ops_conv s);
/* Shared memory that a CTA can have on the present GPU; 0 when that can't be told. */
size_t gconv_max_shared(void);
/* Lets a kernel have that many bytes of dynamic shared memory. */
enum ecg_status gconv_allow_shared(const char *op, struct ops_conv s, const void *kernel, size_t bytes);

/* dn of a stride-1 convolution, its arguments checked (gconv.cu); see gconv_bwd. */
enum ecg_status gconv_data_stride1(struct ops_conv s, const struct ops_act *act, const void *x, const void *packed,
                                   const void *dy, void *dn, cudaStream_t stream);

#endif
