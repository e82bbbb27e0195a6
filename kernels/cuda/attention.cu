/* SPDX-License-Identifier: MIT
 * Attention pooling over the last block's output.
 *
 *   attention_fwd   scores, their softmax a                          one launch, a block a sample
 *                   m = sum over L of a*x                            one launch, a block 32 channels of a sample
 *   attention_bwd   u = dm.x, de = a*(u - sum a*u), dx               one launch, a block a sample
 *                   dw += sum over B and L of de*x                   norm.cu's sums over rows
 *
 * A row's sum over C is a warp's: 32 lanes, each V channels at a time, added in a fixed tree. */
#include "kernels/cuda/cuda.cuh"

#include "kernels/cuda/element.cuh"

#define THREADS 256
#define WARPS   (THREADS / 32)
#define LANES   8 /* rows at a time of a weighted sum */

/* ------------------------------------------------------------------ a row's sum */

/* out(L) = sum over C of v*x for each row of sample b; the whole block may read it afterwards. */
template <int BF16, int V>
DEVICE void row_dots(struct ops_blc s, const void *x, int b, const float *v, float *out) {
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    for (int l = warp; l < s.L; l += WARPS) {
        const size_t start = ((size_t)b * s.L + l) * s.C;
        float sum = 0.0f;
        for (int c = lane * V; c < s.C; c += 32 * V) {
            float xs[V], vs[V];
            load_some<BF16, V>(x, start + c, xs);
            load_floats<V>(v + c, vs);
#pragma unroll
            for (int j = 0; j < V; j++) sum += xs[j] * vs[j];
        }
        for (int half = 16; half > 0; half /= 2) sum += __shfl_xor_sync(~0u, sum, half);
        if (lane == 0) out[l] = sum;
    }
    __syncthreads();
}

/* ------------------------------------------------------------------ forward */

/* The largest of e(n), to all threads; s is shared, THREADS long. */
DEVICE float block_most(int n, const float *e, float *s) {
    const int tid = (int)threadIdx.x;
    float most = e[0];
    for (int i = tid; i < n; i += THREADS) most = fmaxf(most, e[i]);
    s[tid] = most;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (tid < half) s[tid] = fmaxf(s[tid], s[tid + half]);
        __syncthreads();
    }
    return s[0];
}

/* a(B,L): the largest score is taken off, so that no exponential overflows. */
template <int BF16, int V>
static __global__ void __launch_bounds__(THREADS)
    attention_kernel(struct ops_blc s, const void *x, const float *w, float *a) {
    SHARED(float, s_most, THREADS);
    SHARED(double, s_sum, THREADS);
    const int b = (int)blockIdx.x, tid = (int)threadIdx.x;
    float *const e = a + (size_t)b * s.L;

    row_dots<BF16, V>(s, x, b, w, e);
    const float most = block_most(s.L, e, s_most);
    double sum = 0;
    for (int l = tid; l < s.L; l += THREADS) {
        e[l] = expf(e[l] - most);
        sum += (double)e[l];
    }
    sum = block_sum(sum, s_sum);
    for (int l = tid; l < s.L; l += THREADS) e[l] = (float)((double)e[l] / sum);
}

/* m(B,C) = sum over L of a*x. */
template <int BF16>
static __global__ void __launch_bounds__(32 * LANES)
    weighted_mean_kernel(struct ops_blc s, const void *x, const float *a, float *m) {
    SHARED(float, s_sum, 32 * LANES);
    const int b = (int)blockIdx.x, c = (int)(blockIdx.y * 32 + threadIdx.x),
              lane = (int)threadIdx.y;
    const size_t row = (size_t)b * s.L;
    float sum = 0.0f;
    if (c < s.C) {
        for (int l = lane; l < s.L; l += LANES)
            sum += a[row + l] * load_one<BF16>(x, (row + l) * s.C + c);
    }
    s_sum[lane * 32 + threadIdx.x] = sum;
    __syncthreads();
    if (lane > 0 || c >= s.C) return;
    for (int j = 1; j < LANES; j++) sum += s_sum[j * 32 + threadIdx.x];
    m[(size_t)b * s.C + c] = sum;
}

enum ecg_status cuda_attention_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                   const void *x, const float *w, float *a, float *m) {
    static const char *const op = "attention_fwd";
    TRY(cuda_check_blc(op, dtype, s));
    const dim3 grid((unsigned)s.B, (unsigned)cuda_ceil_div(s.C, 32)), block(32, LANES);
    const int width = cuda_width(s.C, 0, 0);
    if (dtype == OPS_F32 && width == 8)
        LAUNCH((attention_kernel<0, 8>), s.B, THREADS, 0, dev->stream, s, x, w, a);
    else if (dtype == OPS_F32)
        LAUNCH((attention_kernel<0, 1>), s.B, THREADS, 0, dev->stream, s, x, w, a);
    else if (width == 8)
        LAUNCH((attention_kernel<1, 8>), s.B, THREADS, 0, dev->stream, s, x, w, a);
    else
        LAUNCH((attention_kernel<1, 1>), s.B, THREADS, 0, dev->stream, s, x, w, a);
    TRY(cuda_done_blc(dev, op, dtype, s));
    if (dtype == OPS_F32)
        LAUNCH((weighted_mean_kernel<0>), grid, block, 0, dev->stream, s, x, a, m);
    else
        LAUNCH((weighted_mean_kernel<1>), grid, block, 0, dev->stream, s, x, a, m);
    return cuda_done_blc(dev, op, dtype, s);
}

/* ------------------------------------------------------------------ backward */

template <int BF16, int V>
static __global__ void __launch_bounds__(THREADS)
    attention_bwd_kernel(struct ops_blc s, const void *x, const float *w, const float *a,
                         const float *dm, float *de, void *dx) {
    SHARED(double, s_sum, THREADS);
    const int b = (int)blockIdx.x, tid = (int)threadIdx.x;
    const size_t row = (size_t)b * s.L;
    const float *const d = dm + (size_t)b * s.C;

    row_dots<BF16, V>(s, x, b, d, de + row);
    double mean = 0;
    for (int l = tid; l < s.L; l += THREADS) mean += (double)a[row + l] * (double)de[row + l];
    mean = block_sum(mean, s_sum);
    for (int l = tid; l < s.L; l += THREADS)
        de[row + l] = (float)((double)a[row + l] * ((double)de[row + l] - mean));
    if (!dx) return;
    __syncthreads();
    const int C = s.C / V;
    for (int i = tid; i < s.L * C; i += THREADS) {
        const int l = i / C, c = (i - l * C) * V;
        float ds[V], ws[V];
        load_floats<V>(d + c, ds);
        load_floats<V>(w + c, ws);
        const float weight = a[row + l], slope = de[row + l];
#pragma unroll
        for (int j = 0; j < V; j++) ds[j] = weight * ds[j] + slope * ws[j];
        store_some<BF16, V>(dx, (row + l) * s.C + c, ds);
    }
}

enum ecg_status cuda_attention_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                   const void *x, const float *w, const float *a, const float *dm,
                                   float *de, float *dw, void *dx, struct ops_ws ws) {
    static const char *const op = "attention_bwd";
    TRY(cuda_check_blc(op, dtype, s));
    const int width = cuda_width(s.C, 0, 0);
    if (dtype == OPS_F32 && width == 8)
        LAUNCH((attention_bwd_kernel<0, 8>), s.B, THREADS, 0, dev->stream, s, x, w, a, dm, de, dx);
    else if (dtype == OPS_F32)
        LAUNCH((attention_bwd_kernel<0, 1>), s.B, THREADS, 0, dev->stream, s, x, w, a, dm, de, dx);
    else if (width == 8)
        LAUNCH((attention_bwd_kernel<1, 8>), s.B, THREADS, 0, dev->stream, s, x, w, a, dm, de, dx);
    else
        LAUNCH((attention_bwd_kernel<1, 1>), s.B, THREADS, 0, dev->stream, s, x, w, a, dm, de, dx);
    TRY(cuda_done_blc(dev, op, dtype, s));
    return dw ? cuda_weighted_sums(dev, op, dtype, s.B * s.L, s.C, x, de, dw, ws) : ECG_OK;
}
