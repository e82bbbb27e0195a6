/* SPDX-License-Identifier: MIT
 * A normalisation's gradient element by element, dx = k[0]*dn + k[1]*(x - mean) + k[2], with what a shortcut adds. */
#include "kernels/cuda/shortcut.cuh"

/* Rows of a thread. */
enum { ROWS = 8 };

/* SIDE: dx += the shortcut's gradient from dy. */
template <int BF16, int V, int SIDE>
static __global__ void __launch_bounds__(COVER_THREADS)
    norm_dx_kernel(struct shortcut side, int rows, int C, const void *x, const void *dn,
                   const float *mean, const float *k, const void *dy, void *dx) {
    constexpr int AT_ONCE = SIDE ? 2 : 4;
    const int c = (int)(blockIdx.y * blockDim.x + threadIdx.x) * V, down = (int)blockDim.y;
    const int first = (int)blockIdx.x * down * ROWS, end = min(rows, first + down * ROWS);
    float mu[V], k0[V], k1[V], k2[V];
    if (c >= C) return;
    load_floats<V>(mean + c, mu);
    load_floats<V>(k + c, k0);
    load_floats<V>(k + C + c, k1);
    load_floats<V>(k + 2 * C + c, k2);
    for (int r = first + (int)threadIdx.y; r < end; r += AT_ONCE * down) {
        float v[AT_ONCE][V], d[AT_ONCE][V], add[AT_ONCE][V];
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            const int row = r + u * down;
            if (row >= end) break;
            load_some<BF16, V>(x, (size_t)row * C + c, v[u]);
            load_some<BF16, V>(dn, (size_t)row * C + c, d[u]);
            if (SIDE)
                shortcut_gradient<BF16, V>(side, x, dy, row / side.Li, row % side.Li, c, add[u]);
        }
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            const int row = r + u * down;
            if (row >= end) break;
#pragma unroll
            for (int j = 0; j < V; j++)
                d[u][j] =
                    k0[j] * d[u][j] + k1[j] * (v[u][j] - mu[j]) + k2[j] + (SIDE ? add[u][j] : 0.0f);
            store_some<BF16, V>(dx, (size_t)row * C + c, d[u]);
        }
    }
}

template <int BF16, int V>
static void launch(struct ops_dev *dev, struct ops_blc s, struct shortcut side, const void *x,
                   const void *dn, const struct ops_norm *norm, const void *dy, void *dx) {
    const int rows = s.B * s.L;
    const struct cover by = cover_of(rows, s.C / V, ROWS);
    if (dy)
        LAUNCH((norm_dx_kernel<BF16, V, 1>), by.grid, by.block, 0, dev->stream, side, rows, s.C, x,
               dn, norm->mean, norm->k, dy, dx);
    else
        LAUNCH((norm_dx_kernel<BF16, V, 0>), by.grid, by.block, 0, dev->stream, side, rows, s.C, x,
               dn, norm->mean, norm->k, dy, dx);
}

enum ecg_status cuda_norm_dx(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const void *x, const void *dn, const struct ops_norm *norm,
                             const struct ops_side *side, void *dx) {
    struct shortcut k = {s, s.L, s.C, 1, 0};
    TRY(cuda_check_blc("norm_dx", dtype, s));
    if (side) {
        const struct shortcut beside = {side->s, s.L, s.C, side->S, (side->s.C - s.C) / 2};
        TRY(cuda_check_shortcut("norm_dx", dtype, side->s, s.L, s.C, side->S));
        k = beside;
    }
    const void *dy = side ? side->dy : NULL;
    const int width = cuda_width(s.C, k.s.C, k.c0);
    if (dtype == OPS_F32 && width == 8)
        launch<0, 8>(dev, s, k, x, dn, norm, dy, dx);
    else if (dtype == OPS_F32)
        launch<0, 1>(dev, s, k, x, dn, norm, dy, dx);
    else if (width == 8)
        launch<1, 8>(dev, s, k, x, dn, norm, dy, dx);
    else
        launch<1, 1>(dev, s, k, x, dn, norm, dy, dx);
    return cuda_done_blc(dev, "norm_dx", dtype, s);
}
