/* SPDX-License-Identifier: MIT
 * Second passes of the 1x1 convolutions: partial sums that blocks left in memory are added in the order of their index. */
#include "kernels/cuda/compat.h"

#include "kernels/cuda/gemm_internal.h"
#include "kernels/cuda/norm_parts.h"

enum { COLUMNS = 32, SPLIT_PARTS = 8 };

enum ecg_status gemm_finish_stats(int M, int N, const float2 *part, float *mean, float *var,
                                  struct gemm_conv s, cudaStream_t stream) {
    norm_finish_stats(M, GEMM_UNIT, N, part, mean, var, stream);
    return gemm_launched("1x1 statistics", s);
}

/* Thread: column c of sample blockIdx.y. */
static __global__ void __launch_bounds__(64)
    gemm_means_kernel(int L, int N, const double *part, float factor, float *out) {
    const int c = (int)(blockIdx.x * blockDim.x + threadIdx.x), b = (int)blockIdx.y;
    const int slots = gemm_slots(L);
    const int from = b * L / GEMM_UNIT, to = (b * L + L - 1) / GEMM_UNIT;
    double sum = 0;

    if (c >= N) return;
    for (int u = from; u <= to; u++)
        sum += part[((size_t)u * slots + (b - u * GEMM_UNIT / L)) * N + c];
    out[(size_t)b * N + c] = (float)(sum * (double)factor);
}

enum ecg_status gemm_finish_sums(int B, int L, int N, const double *part, float factor, float *out,
                                 struct gemm_conv s, cudaStream_t stream) {
    LAUNCH(gemm_means_kernel, dim3((unsigned)gemm_ceil(N, 64), (unsigned)B), dim3(64), 0, stream, L,
           N, part, factor, out);
    return gemm_launched("1x1 sums over L", s);
}

/* n numbers of each split, a multiple of 4, and what their sums are added to. */
struct split_sums {
    size_t n;
    const float *part;
    float *out;
};

/* Block: 32 times 4 numbers x 8 ranges of the splits, each added in order, then the ranges; first those of a, then those of
 * b. */
static __global__ void __launch_bounds__(COLUMNS *SPLIT_PARTS)
    gemm_splits_kernel(int splits, struct split_sums a, struct split_sums b) {
    SHARED(float4, s_sum, COLUMNS * SPLIT_PARTS);
    const int column = (int)threadIdx.x % COLUMNS, range = (int)threadIdx.x / COLUMNS;
    const size_t a_blocks = (a.n + 4 * COLUMNS - 1) / (4 * COLUMNS);
    const bool is_b = blockIdx.x >= a_blocks;
    const struct split_sums of = is_b ? b : a;
    const size_t i = ((is_b ? blockIdx.x - a_blocks : blockIdx.x) * COLUMNS + column) * 4;
    const int each = (splits + SPLIT_PARTS - 1) / SPLIT_PARTS;
    const int end = (range + 1) * each < splits ? (range + 1) * each : splits;
    float4 sum = make_float4(0, 0, 0, 0);
    auto add = [&](float4 v) { sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w; };

#pragma unroll 4
    for (int s = range * each; s < end && i < of.n; s++)
        add(*(const float4 *)(of.part + (size_t)s * of.n + i));
    s_sum[threadIdx.x] = sum;
    __syncthreads();
    if (range > 0 || i >= of.n) return;
    for (int r = 1; r < SPLIT_PARTS; r++) add(s_sum[r * COLUMNS + column]);
    add(*(const float4 *)(of.out + i));
    *(float4 *)(of.out + i) = sum;
}

enum ecg_status gemm_finish_splits(int splits, const struct gemm_wgrad_args *a, float *dw,
                                   float *db, struct gemm_conv s, cudaStream_t stream) {
    const struct split_sums weights = {(size_t)a->N * a->K, a->dw, dw};
    const struct split_sums bias = {db ? (size_t)a->N : 0, a->db, db};
    const size_t each = 4 * COLUMNS;
    const size_t blocks = (weights.n + each - 1) / each + (bias.n + each - 1) / each;

    LAUNCH(gemm_splits_kernel, dim3((unsigned)blocks), dim3(COLUMNS * SPLIT_PARTS), 0, stream,
           splits, weights, bias);
    return gemm_launched("1x1 weight gradient, second pass", s);
}
