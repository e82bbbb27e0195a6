/* SPDX-License-Identifier: MIT
 * What kernels around a block's shortcut share, and how those that stay with their channels cover a tensor. */
#ifndef KERNELS_CUDA_SHORTCUT_CUH
#define KERNELS_CUDA_SHORTCUT_CUH

#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/element.cuh"

/* ECG_ERR_FAIL, naming op and shape, unless there is a shortcut from (Li, Ci) by S to s (tail.cu). */
enum ecg_status cuda_check_shortcut(const char *op, enum ops_dtype dtype, struct ops_blc s, int Li,
                                    int Ci, int S);

/* A shortcut's shapes: output s, input (Li, Ci), c0 = (C - Ci) / 2 channels of zeros before. */
struct shortcut {
    struct ops_blc s;
    int Li, Ci, S, c0;
};

/* Maxima of V channels c.. of x over window l of sample b, and where the first of each lies: -1 for a sample outside
 * the record, which is a zero. A NaN wins. */
template <int BF16, int V>
DEVICE void window_max(struct shortcut k, const void *x, int b, int l, int c, float best[V],
                       int at[V]) {
    const int first = l * k.S - (k.S - 1) / 2;
    for (int j = 0; j < k.S; j++) {
        const int i = first + j, inside = i >= 0 && i < k.Li;
        float v[V] = {};
        if (inside) load_some<BF16, V>(x, ((size_t)b * k.Li + i) * k.Ci + c, v);
#pragma unroll
        for (int q = 0; q < V; q++) {
            if (j > 0 && (v[q] <= best[q] || best[q] != best[q])) continue;
            best[q] = v[q];
            at[q] = inside ? i : -1;
        }
    }
}

/* Row i of x lies in one window at most: d = dy there, for channels c.. whose first maximum the row holds, else 0. */
template <int BF16, int V>
DEVICE void shortcut_gradient(struct shortcut k, const void *x, const void *dy, int b, int i, int c,
                              float d[V]) {
    const int l = (i + (k.S - 1) / 2) / k.S;
#pragma unroll
    for (int j = 0; j < V; j++) d[j] = 0.0f;
    if (l >= k.s.L) return;
    load_some<BF16, V>(dy, ((size_t)b * k.s.L + l) * k.s.C + k.c0 + c, d);
    if (k.S == 1) return;
    float best[V] = {};
    int at[V] = {};
    window_max<BF16, V>(k, x, b, l, c, best, at);
#pragma unroll
    for (int j = 0; j < V; j++)
        if (at[j] != i) d[j] = 0.0f;
}

/* ------------------------------------------------------------------ threads that stay with their channels */

/* Most threads of a block. */
enum { COVER_THREADS = 256 };

/* A block has threadIdx.x = groups of V channels, at most 64, threadIdx.y = rows at a time; each thread goes through
 * `rows_a_thread` rows, blockDim.y apart. So what a channel needs is loaded once for many rows. */
struct cover {
    dim3 grid, block;
    int rows; /* of a block */
};

static inline struct cover cover_of(int rows, int groups, int rows_a_thread) {
    struct cover k;
    const int across = cuda_min(groups, 64), down = COVER_THREADS / across;
    k.rows = down * rows_a_thread;
    k.block = dim3((unsigned)across, (unsigned)down);
    k.grid = dim3((unsigned)cuda_ceil_div(rows, k.rows), (unsigned)cuda_ceil_div(groups, across));
    return k;
}

#endif
