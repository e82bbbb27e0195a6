/* SPDX-License-Identifier: MIT
 * Convolutions that tensor cores take, all in bf16: the 1x1 ones (gemm.h), those of 16 taps with 16 channels a group, and
 * the stem (gconv.h). Here they get what those kernels leave to their caller: dropout, packing, a shortcut's gradient. */
#ifndef KERNELS_CUDA_CONV_TENSOR_CUH
#define KERNELS_CUDA_CONV_TENSOR_CUH

#include "kernels/cuda/cuda.cuh"

/* Whether they have the shape. Never when EINTHOVEN_CUDA_CONV=general was set as the device was opened. */
int conv_tensor_has(const struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s);
size_t conv_tensor_packed_bytes(struct ops_conv s, int backward);
/* Scratch of all that follows. */
size_t conv_tensor_ws(struct ops_conv s, int packed, int backward);

/* As conv_pack, act_conv_fwd and act_conv_bwd; conv_tensor_pack passes over shapes that it has not. */
enum ecg_status conv_tensor_pack(struct ops_dev *dev, enum ops_dtype dtype, size_t n,
                                 const struct ops_pack *list, struct ops_ws ws);
enum ecg_status conv_tensor_fwd(struct ops_dev *dev, struct ops_conv s, const struct ops_act *act,
                                const void *x, const float *w, const void *packed, const float *b,
                                void *y, float *mean, float *var, float *y_mean, struct ops_ws ws);
enum ecg_status conv_tensor_bwd(struct ops_dev *dev, struct ops_conv s, const struct ops_act *act,
                                const void *x, const float *w, const void *packed, const void *dy,
                                const struct ops_branch *branch, const struct ops_behind *behind,
                                float *dw, float *db, const struct ops_side *side, void *dn,
                                const struct ops_norm *norm, struct ops_ws ws);

#endif
