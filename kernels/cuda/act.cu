/* SPDX-License-Identifier: MIT
 * Elementwise: the activation in front of a convolution with its gradient, and the functions of the SE branch. A thread
 * takes 8 neighbouring channels, 16 bytes of bf16, or one where the channels are no multiple of 8. */
#include "kernels/cuda/cuda.cuh"

#include "kernels/cuda/element.cuh"

#define THREADS 256

/* The V channels that a thread owns: element i of sample b, channels c.. */
struct place {
    int b, c;
    uint32_t i;
    size_t at;
};

template <int V> DEVICE struct place place_of(struct ops_blc s, unsigned n) {
    const unsigned C = (unsigned)s.C / V, size = (unsigned)s.L * C, b = n / size;
    struct place p;
    p.b = (int)b;
    p.c = (int)(n % C) * V;
    p.i = (n - b * size) * V;
    p.at = (size_t)n * V;
    return p;
}

/* ------------------------------------------------------------------ activation */

template <int BF16, int V>
static __global__ void __launch_bounds__(THREADS)
    act_fwd_kernel(struct ops_blc s, unsigned n, struct cuda_act act, const void *x, void *a) {
    const unsigned t = blockIdx.x * THREADS + threadIdx.x;
    if (t >= n) return;
    const struct place p = place_of<V>(s, t);
    float v[V];
    load_some<BF16, V>(x, p.at, v);
    act_apply<V>(&act, p.b, p.i, p.c, v);
    store_some<BF16, V>(a, p.at, v);
}

template <int BF16, int V>
static __global__ void __launch_bounds__(THREADS)
    act_bwd_kernel(struct ops_blc s, unsigned n, struct cuda_act act, const void *x, const void *da,
                   int add, void *dn) {
    const unsigned t = blockIdx.x * THREADS + threadIdx.x;
    if (t >= n) return;
    const struct place p = place_of<V>(s, t);
    float v[V], d[V], before[V];
    load_some<BF16, V>(x, p.at, v);
    load_some<BF16, V>(da, p.at, d);
    act_slope<V>(&act, p.b, p.i, p.c, v);
    if (add) load_some<BF16, V>(dn, p.at, before);
#pragma unroll
    for (int j = 0; j < V; j++) d[j] = d[j] * v[j] + (add ? before[j] : 0.0f);
    store_some<BF16, V>(dn, p.at, d);
}

enum ecg_status cuda_act_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const struct ops_act *act, const void *x, void *a) {
    TRY(cuda_check_blc("act_fwd", dtype, s));
    const int width = cuda_width(s.C, 0, 0);
    const unsigned n = (unsigned)(cuda_elements(s) / width);
    const int blocks = cuda_blocks(n, THREADS);
    const struct cuda_act k = cuda_act_of(act);
    if (dtype == OPS_F32 && width == 8)
        LAUNCH((act_fwd_kernel<0, 8>), blocks, THREADS, 0, dev->stream, s, n, k, x, a);
    else if (dtype == OPS_F32)
        LAUNCH((act_fwd_kernel<0, 1>), blocks, THREADS, 0, dev->stream, s, n, k, x, a);
    else if (width == 8)
        LAUNCH((act_fwd_kernel<1, 8>), blocks, THREADS, 0, dev->stream, s, n, k, x, a);
    else
        LAUNCH((act_fwd_kernel<1, 1>), blocks, THREADS, 0, dev->stream, s, n, k, x, a);
    return cuda_done_blc(dev, "act_fwd", dtype, s);
}

enum ecg_status cuda_act_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const struct ops_act *act, const void *x, const void *da, int add,
                             void *dn) {
    TRY(cuda_check_blc("act_bwd", dtype, s));
    const int width = cuda_width(s.C, 0, 0);
    const unsigned n = (unsigned)(cuda_elements(s) / width);
    const int blocks = cuda_blocks(n, THREADS);
    const struct cuda_act k = cuda_act_of(act);
    if (dtype == OPS_F32 && width == 8)
        LAUNCH((act_bwd_kernel<0, 8>), blocks, THREADS, 0, dev->stream, s, n, k, x, da, add, dn);
    else if (dtype == OPS_F32)
        LAUNCH((act_bwd_kernel<0, 1>), blocks, THREADS, 0, dev->stream, s, n, k, x, da, add, dn);
    else if (width == 8)
        LAUNCH((act_bwd_kernel<1, 8>), blocks, THREADS, 0, dev->stream, s, n, k, x, da, add, dn);
    else
        LAUNCH((act_bwd_kernel<1, 1>), blocks, THREADS, 0, dev->stream, s, n, k, x, da, add, dn);
    return cuda_done_blc(dev, "act_bwd", dtype, s);
}

/* ------------------------------------------------------------------ functions of vectors */

enum { SWISH, SWISH_BWD, SIGMOID, SIGMOID_BWD };

/* x is the function's argument, for SIGMOID_BWD its value; dy counts in the gradients only. */
template <int FUNCTION>
static __global__ void __launch_bounds__(THREADS)
    vector_kernel(size_t n, const float *x, const float *dy, float *out) {
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    const float v = x[i];
    if (FUNCTION == SWISH) out[i] = swish_of(v);
    if (FUNCTION == SWISH_BWD) out[i] = dy[i] * swish_slope_of(v);
    if (FUNCTION == SIGMOID) out[i] = sigmoid_of(v);
    if (FUNCTION == SIGMOID_BWD) out[i] = dy[i] * v * (1.0f - v);
}

enum ecg_status cuda_swish_fwd(struct ops_dev *dev, size_t n, const float *x, float *y) {
    if (n == 0) return ECG_OK;
    LAUNCH((vector_kernel<SWISH>), cuda_blocks(n, THREADS), THREADS, 0, dev->stream, n, x, NULL, y);
    return cuda_done_n(dev, "swish_fwd", n);
}

enum ecg_status cuda_swish_bwd(struct ops_dev *dev, size_t n, const float *x, const float *dy,
                               float *dx) {
    if (n == 0) return ECG_OK;
    LAUNCH((vector_kernel<SWISH_BWD>), cuda_blocks(n, THREADS), THREADS, 0, dev->stream, n, x, dy,
           dx);
    return cuda_done_n(dev, "swish_bwd", n);
}

enum ecg_status cuda_sigmoid_fwd(struct ops_dev *dev, size_t n, const float *x, float *y) {
    if (n == 0) return ECG_OK;
    LAUNCH((vector_kernel<SIGMOID>), cuda_blocks(n, THREADS), THREADS, 0, dev->stream, n, x, NULL,
           y);
    return cuda_done_n(dev, "sigmoid_fwd", n);
}

enum ecg_status cuda_sigmoid_bwd(struct ops_dev *dev, size_t n, const float *y, const float *dy,
                                 float *dx) {
    if (n == 0) return ECG_OK;
    LAUNCH((vector_kernel<SIGMOID_BWD>), cuda_blocks(n, THREADS), THREADS, 0, dev->stream, n, y, dy,
           dx);
    return cuda_done_n(dev, "sigmoid_bwd", n);
}
