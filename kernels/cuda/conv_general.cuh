/* SPDX-License-Identifier: MIT
 * Convolutions of every shape in both precisions, by conv_general.cu (output and data gradient) and
 * conv_general_grad.cu (weight gradient): products of matrices through shared memory, sums in fp32. `act` NULL: none. */
#ifndef KERNELS_CUDA_CONV_GENERAL_CUH
#define KERNELS_CUDA_CONV_GENERAL_CUH

#include "kernels/cuda/cuda.cuh"

#include "kernels/cuda/element.cuh"

/* Terms of a sum that go through shared memory at a time. */
#define CONV_STEP 16

/* acc (TM, TN) += the products of CONV_STEP columns of s_a (CONV_STEP, pitch_a) and s_b (CONV_STEP, pitch_b), from
 * their elements a0 and b0 on. */
template <int TM, int TN>
DEVICE void conv_multiply(const float *s_a, int pitch_a, int a0, const float *s_b, int pitch_b,
                          int b0, float acc[TM * TN]) {
#pragma unroll
    for (int p = 0; p < CONV_STEP; p++) {
        float a[TM], b[TN];
        load_floats<TM>(s_a + p * pitch_a + a0, a);
        load_floats<TN>(s_b + p * pitch_b + b0, b);
#pragma unroll
        for (int i = 0; i < TM; i++) {
#pragma unroll
            for (int j = 0; j < TN; j++) acc[i * TN + j] += a[i] * b[j];
        }
    }
}

/* y = conv(act(x), w) + b. With an activation K must be 1. */
enum ecg_status conv_general_fwd(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                 struct ops_conv s, const struct ops_act *act, const void *x,
                                 const float *w, const float *b, void *y);
/* dn = act_bwd(conv_bwd_x(dy)), `add`: +=; x is act's input and unused without one. */
enum ecg_status conv_general_bwd_x(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                   struct ops_conv s, const void *dy, const float *w,
                                   const struct ops_act *act, const void *x, int add, void *dn);
/* dw +=, db +=. With an activation K must be 1. */
enum ecg_status conv_general_bwd_w(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                   struct ops_conv s, const struct ops_act *act, const void *x,
                                   const void *dy, float *dw, float *db, struct ops_ws ws);
/* Scratch of bwd_w; the others need none. */
size_t conv_general_ws(struct ops_conv s);

#endif
