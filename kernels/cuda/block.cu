/* SPDX-License-Identifier: MIT
 * Around the end of a Net1D block (tail.cu): the mean over time, and the backward pass of it, of the gate and of the
 * shortcut.
 *
 * Elementwise kernels give a thread V neighbouring channels of one row. Means and the gate's gradient give a block 32
 * channels of one sample: 8 threads a channel, each every eighth row; the 8 sums are added in order. */
#include "kernels/cuda/cuda.cuh"

#include "kernels/cuda/shortcut.cuh"

#define THREADS 256
#define LANES   8 /* rows at a time of a column sum */

/* ------------------------------------------------------------------ means */

/* out[b, c] = sum over l of x (* h) times `factor`. */
template <int BF16, int DOT>
static __global__ void __launch_bounds__(32 * LANES)
    sample_sum_kernel(struct ops_blc s, const void *x, const void *h, float factor, float *out) {
    SHARED(float, s_sum, 32 * LANES);
    const int b = (int)blockIdx.x, c = (int)(blockIdx.y * 32 + threadIdx.x),
              lane = (int)threadIdx.y;
    const size_t start = (size_t)b * s.L * s.C;
    float sum = 0.0f;
    if (c < s.C) {
        for (int l = lane; l < s.L; l += LANES) {
            const size_t i = start + (size_t)l * s.C + c;
            const float v = load_one<BF16>(x, i);
            sum += DOT ? v * load_one<BF16>(h, i) : v;
        }
    }
    s_sum[lane * 32 + threadIdx.x] = sum;
    __syncthreads();
    if (lane > 0 || c >= s.C) return;
    for (int j = 1; j < LANES; j++) sum += s_sum[j * 32 + threadIdx.x];
    out[(size_t)b * s.C + c] = sum * factor;
}

template <int DOT>
static void launch_sample_sum(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                              const void *x, const void *h, float factor, float *out) {
    const dim3 grid((unsigned)s.B, (unsigned)cuda_ceil_div(s.C, 32)), block(32, LANES);
    if (dtype == OPS_F32)
        LAUNCH((sample_sum_kernel<0, DOT>), grid, block, 0, dev->stream, s, x, h, factor, out);
    else
        LAUNCH((sample_sum_kernel<1, DOT>), grid, block, 0, dev->stream, s, x, h, factor, out);
}

enum ecg_status cuda_mean_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                              const void *x, float *m) {
    TRY(cuda_check_blc("mean_fwd", dtype, s));
    launch_sample_sum<0>(dev, dtype, s, x, NULL, (float)(1.0 / s.L), m);
    return cuda_done_blc(dev, "mean_fwd", dtype, s);
}

enum ecg_status cuda_gate_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                              const void *dy, const void *h, float *dgate) {
    TRY(cuda_check_blc("gate_bwd", dtype, s));
    launch_sample_sum<1>(dev, dtype, s, dy, h, 1.0f, dgate);
    return cuda_done_blc(dev, "gate_bwd", dtype, s);
}

/* dh = gate*dy + dm/L; without dy (gate NULL too) dm/L. */
template <int BF16, int V>
static __global__ void __launch_bounds__(THREADS)
    branch_bwd_kernel(struct ops_blc s, unsigned n, const void *dy, const float *gate,
                      const float *dm, void *dh) {
    const unsigned t = blockIdx.x * THREADS + threadIdx.x;
    if (t >= n) return;
    const unsigned C = (unsigned)s.C / V, b = t / ((unsigned)s.L * C);
    const size_t at = (size_t)t * V, of = (size_t)b * s.C + t % C * V;
    float d[V] = {}, g[V] = {}, m[V];
    load_floats<V>(dm + of, m);
    if (dy) {
        load_some<BF16, V>(dy, at, d);
        load_floats<V>(gate + of, g);
    }
#pragma unroll
    for (int j = 0; j < V; j++) d[j] = g[j] * d[j] + m[j] / (float)s.L;
    store_some<BF16, V>(dh, at, d);
}

static void launch_branch(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                          const void *dy, const float *gate, const float *dm, void *dh) {
    const int width = cuda_width(s.C, 0, 0);
    const unsigned n = (unsigned)(cuda_elements(s) / width);
    const int blocks = cuda_blocks(n, THREADS);
    if (dtype == OPS_F32 && width == 8)
        LAUNCH((branch_bwd_kernel<0, 8>), blocks, THREADS, 0, dev->stream, s, n, dy, gate, dm, dh);
    else if (dtype == OPS_F32)
        LAUNCH((branch_bwd_kernel<0, 1>), blocks, THREADS, 0, dev->stream, s, n, dy, gate, dm, dh);
    else if (width == 8)
        LAUNCH((branch_bwd_kernel<1, 8>), blocks, THREADS, 0, dev->stream, s, n, dy, gate, dm, dh);
    else
        LAUNCH((branch_bwd_kernel<1, 1>), blocks, THREADS, 0, dev->stream, s, n, dy, gate, dm, dh);
}

enum ecg_status cuda_mean_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                              const float *dm, void *dx) {
    TRY(cuda_check_blc("mean_bwd", dtype, s));
    launch_branch(dev, dtype, s, NULL, NULL, dm, dx);
    return cuda_done_blc(dev, "mean_bwd", dtype, s);
}

enum ecg_status cuda_branch_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                const void *dy, const float *gate, const float *dm, void *dh) {
    TRY(cuda_check_blc("branch_bwd", dtype, s));
    launch_branch(dev, dtype, s, dy, gate, dm, dh);
    return cuda_done_blc(dev, "branch_bwd", dtype, s);
}

/* ------------------------------------------------------------------ shortcut */

template <int BF16, int V>
static __global__ void __launch_bounds__(THREADS)
    shortcut_bwd_kernel(struct shortcut k, unsigned n, const void *x, const void *dy, int add,
                        void *dx) {
    const unsigned t = blockIdx.x * THREADS + threadIdx.x;
    if (t >= n) return;
    const unsigned C = (unsigned)k.Ci / V, row = t / C, b = row / (unsigned)k.Li;
    const int c = (int)(t - row * C) * V;
    float d[V], before[V];
    shortcut_gradient<BF16, V>(k, x, dy, (int)b, (int)(row - b * (unsigned)k.Li), c, d);
    if (add) {
        load_some<BF16, V>(dx, (size_t)t * V, before);
#pragma unroll
        for (int j = 0; j < V; j++) d[j] += before[j];
    }
    store_some<BF16, V>(dx, (size_t)t * V, d);
}

static enum ecg_status launch_shortcut_bwd(struct ops_dev *dev, enum ops_dtype dtype,
                                           struct ops_blc s, int Li, int Ci, int S, const void *x,
                                           const void *dy, int add, void *dx) {
    TRY(cuda_check_shortcut("shortcut_bwd", dtype, s, Li, Ci, S));
    const struct shortcut k = {s, Li, Ci, S, (s.C - Ci) / 2};
    const int width = cuda_width(s.C, Ci, k.c0);
    const struct ops_blc in = {s.B, Li, Ci};
    const unsigned n = (unsigned)(cuda_elements(in) / width);
    const int blocks = cuda_blocks(n, THREADS);
    if (dtype == OPS_F32 && width == 8)
        LAUNCH((shortcut_bwd_kernel<0, 8>), blocks, THREADS, 0, dev->stream, k, n, x, dy, add, dx);
    else if (dtype == OPS_F32)
        LAUNCH((shortcut_bwd_kernel<0, 1>), blocks, THREADS, 0, dev->stream, k, n, x, dy, add, dx);
    else if (width == 8)
        LAUNCH((shortcut_bwd_kernel<1, 8>), blocks, THREADS, 0, dev->stream, k, n, x, dy, add, dx);
    else
        LAUNCH((shortcut_bwd_kernel<1, 1>), blocks, THREADS, 0, dev->stream, k, n, x, dy, add, dx);
    return cuda_done_blc(dev, "shortcut_bwd", dtype, s);
}

enum ecg_status cuda_shortcut_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                  int Li, int Ci, int S, const void *x, const void *dy, void *dx) {
    return launch_shortcut_bwd(dev, dtype, s, Li, Ci, S, x, dy, 0, dx);
}

enum ecg_status cuda_shortcut_add(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                  int Li, int Ci, int S, const void *x, const void *dy, void *dx) {
    return launch_shortcut_bwd(dev, dtype, s, Li, Ci, S, x, dy, 1, dx);
}
