/* SPDX-License-Identifier: MIT
 * The end of a Net1D block, y = gate*h + expand(pool(x)), and with it the statistics of y that the next block's
 * normalisation wants: each thread sums y - s and its square over its rows, s being the first of them, so that nothing
 * cancels; a block adds its threads' means and squared deviations in double. */
#include "kernels/cuda/norm_parts.h"
#include "kernels/cuda/shortcut.cuh"

/* Rows of a thread, and how many of them it loads at once. */
enum { ROWS = 16, AT_ONCE = 2 };

enum ecg_status cuda_check_shortcut(const char *op, enum ops_dtype dtype, struct ops_blc s, int Li,
                                    int Ci, int S) {
    const struct ops_blc in = {s.B, Li, Ci};
    TRY(cuda_check_blc(op, dtype, s));
    TRY(cuda_check_blc(op, dtype, in));
    if (S >= 1 && Ci <= s.C && s.L == (Li - 1) / S + 1) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "cuda: %s: no such shape: (%d, %d, %d) from L %d, C %d, S %d", op,
                    s.B, s.L, s.C, Li, Ci, S);
}

/* y of V channels c.. of a row. */
template <int BF16, int V>
DEVICE void tail_row(struct shortcut k, int row, int c, const float h[V], const float *gate,
                     const void *x, float y[V]) {
    const int b = row / k.s.L, from = c - k.c0;
    float pooled[V] = {}, g[V];
    int at[V];
    if (from >= 0 && from < k.Ci) window_max<BF16, V>(k, x, b, row - b * k.s.L, from, pooled, at);
    if (gate) load_floats<V>(gate + (size_t)b * k.s.C + c, g);
#pragma unroll
    for (int j = 0; j < V; j++) y[j] = as_factor<BF16>((gate ? g[j] * h[j] : h[j]) + pooled[j]);
}

/* From the threads' means and squared deviations of V channels to the block's. */
template <int V>
DEVICE void store_parts(int C, int n_rows, const float mean[V], const float squares[V],
                        float2 *part) {
    SHARED(float2, s_part, COVER_THREADS * V);
    const int across = (int)blockDim.x * V, down = (int)blockDim.y;
    const int tid = (int)(threadIdx.y * blockDim.x + threadIdx.x);
#pragma unroll
    for (int j = 0; j < V; j++)
        s_part[(int)threadIdx.y * across + (int)threadIdx.x * V + j] =
            make_float2(mean[j], squares[j]);
    __syncthreads();
    for (int i = tid; i < across; i += (int)blockDim.x * down) {
        const int c = (int)blockIdx.y * across + i;
        double sum = 0, square = 0;
        if (c >= C) continue;
        for (int y = 0; y < down && y < n_rows; y++) {
            const float2 v = s_part[y * across + i];
            const double n = (n_rows - 1 - y) / down + 1; /* the thread's rows */
            sum += n * (double)v.x;
            square += (double)v.y + n * (double)v.x * (double)v.x;
        }
        part[(size_t)blockIdx.x * C + c] =
            make_float2((float)(sum / n_rows), (float)fmax(square - sum * sum / n_rows, 0.0));
    }
}

template <int BF16, int V, int STATS>
static __global__ void __launch_bounds__(COVER_THREADS)
    tail_kernel(struct shortcut k, int rows, const void *h, const float *gate, const void *x,
                void *y, float2 *part) {
    const int c = (int)(blockIdx.y * blockDim.x + threadIdx.x) * V, down = (int)blockDim.y;
    const int first = (int)blockIdx.x * down * ROWS, end = min(rows, first + down * ROWS);
    float start[V] = {}, sum[V] = {}, square[V] = {};
    int n = 0;

    for (int r = first + (int)threadIdx.y; r < end && c < k.s.C; r += AT_ONCE * down) {
        float v[AT_ONCE][V];
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++)
            if (r + u * down < end) load_some<BF16, V>(h, (size_t)(r + u * down) * k.s.C + c, v[u]);
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            const int row = r + u * down;
            if (row >= end) break;
            tail_row<BF16, V>(k, row, c, v[u], gate, x, v[u]);
            store_some<BF16, V>(y, (size_t)row * k.s.C + c, v[u]);
            if constexpr (STATS) {
#pragma unroll
                for (int j = 0; j < V; j++) {
                    if (n == 0) start[j] = v[u][j];
                    const float d = v[u][j] - start[j];
                    sum[j] += d, square[j] += d * d;
                }
                n++;
            }
        }
    }
    if constexpr (STATS) {
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float mean = n > 0 ? sum[j] / (float)n : 0;
            square[j] -= sum[j] * mean, sum[j] = start[j] + mean;
        }
        store_parts<V>(k.s.C, end - first, sum, square, part);
    }
}

template <int BF16, int V>
static void launch(struct ops_dev *dev, struct shortcut k, const void *h, const float *gate,
                   const void *x, void *y, float2 *part) {
    const int rows = k.s.B * k.s.L;
    const struct cover by = cover_of(rows, k.s.C / V, ROWS);
    if (part)
        LAUNCH((tail_kernel<BF16, V, 1>), by.grid, by.block, 0, dev->stream, k, rows, h, gate, x, y,
               part);
    else
        LAUNCH((tail_kernel<BF16, V, 0>), by.grid, by.block, 0, dev->stream, k, rows, h, gate, x, y,
               part);
}

static void launch_any(struct ops_dev *dev, enum ops_dtype dtype, int width, struct shortcut k,
                       const void *h, const float *gate, const void *x, void *y, float2 *part) {
    if (dtype == OPS_F32 && width == 8)
        launch<0, 8>(dev, k, h, gate, x, y, part);
    else if (dtype == OPS_F32)
        launch<0, 1>(dev, k, h, gate, x, y, part);
    else if (width == 8)
        launch<1, 8>(dev, k, h, gate, x, y, part);
    else
        launch<1, 1>(dev, k, h, gate, x, y, part);
}

size_t cuda_tail_ws(struct ops_blc s) {
    const int rows = s.B * s.L, one = cover_of(rows, s.C, ROWS).rows,
              eight = cover_of(rows, cuda_ceil_div(s.C, 8), ROWS).rows;
    return cuda_room((size_t)cuda_ceil_div(rows, cuda_min(one, eight)) * s.C * sizeof(float2));
}

enum ecg_status cuda_tail_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s, int Li,
                              int Ci, int S, const void *h, const float *gate, const void *x,
                              void *y, float *mean, float *var, struct ops_ws ws) {
    static const char *const op = "tail_fwd";
    TRY(cuda_check_shortcut(op, dtype, s, Li, Ci, S));
    const struct shortcut k = {s, Li, Ci, S, (s.C - Ci) / 2};
    const int width = cuda_width(s.C, Ci, k.c0), rows = s.B * s.L;
    float2 *part = mean ? (float2 *)cuda_take(&ws, cuda_tail_ws(s)) : NULL;
    if (mean && !part) return cuda_too_small(op, ws);
    launch_any(dev, dtype, width, k, h, gate, x, y, part);
    if (mean)
        norm_finish_stats(rows, cover_of(rows, s.C / width, ROWS).rows, s.C, part, mean, var,
                          dev->stream);
    return cuda_done_blc(dev, op, dtype, s);
}

enum ecg_status cuda_shortcut_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                  int Li, int Ci, int S, const void *h, const float *gate,
                                  const void *x, void *y) {
    const struct ops_ws none = {};
    return cuda_tail_fwd(dev, dtype, s, Li, Ci, S, h, gate, x, y, NULL, NULL, none);
}
