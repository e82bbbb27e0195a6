/* SPDX-License-Identifier: MIT
 * Convolutions by NVIDIA's libraries (vendor.h), with the same arguments as the general kernels (conv_general.cuh): 1x1 ones
 * as products by cuBLAS, all others by cuDNN. What stands around them is done by kernels of our own.
 *
 * bf16: products take bf16 and sum in fp32. cuDNN gets the same factors as fp32 numbers, for it has no bf16 convolution
 * with fp32 results; TF32 holds them exactly, so that its tensor cores change nothing. Padding that differs left and right,
 * as SAME does, is written into scratch memory. */
#ifndef KERNELS_CUDA_CONV_VENDOR_CUH
#define KERNELS_CUDA_CONV_VENDOR_CUH

#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/vendor.h"

/* y = conv(act(x), w) + b; packed: gemm_pack's, or NULL. act NULL: none. */
enum ecg_status conv_vendor_fwd(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                struct ops_conv s, const struct ops_act *act, const void *x,
                                const float *w, const void *packed, const float *b, void *y,
                                struct ops_ws ws);
/* dn = act_bwd(conv_bwd_x(dy)), `add`: +=; x is act's input and unused without one. */
enum ecg_status conv_vendor_bwd_x(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                  struct ops_conv s, const void *dy, const float *w,
                                  const void *packed, const struct ops_act *act, const void *x,
                                  int add, void *dn, struct ops_ws ws);
/* dw +=, db += */
enum ecg_status conv_vendor_bwd_w(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                  struct ops_conv s, const struct ops_act *act, const void *x,
                                  const void *dy, float *dw, float *db, struct ops_ws ws);
/* Scratch of any of them. */
size_t conv_vendor_ws(enum ops_dtype dtype, struct ops_conv s, int backward);

#endif
