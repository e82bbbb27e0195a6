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

/* Block: 32 elements x 8 ranges of the splits; each range is added in order, then the ranges. */
static __global__ void __launch_bounds__(COLUMNS *SPLIT_PARTS)
    gemm_splits_kernel(int splits, size_t n, const float *part, float *out) {
    SHARED(float, s_sum, COLUMNS *SPLIT_PARTS);
    const int column = (int)threadIdx.x % COLUMNS, range = (int)threadIdx.x / COLUMNS;
    const size_t i = (size_t)blockIdx.x * COLUMNS + column;
    const int each = (splits + SPLIT_PARTS - 1) / SPLIT_PARTS;
    const int end = (range + 1) * each < splits ? (range + 1) * each : splits;
    float sum = 0;

    for (int s = range * each; s < end && i < n; s++) sum += part[(size_t)s * n + i];
    s_sum[threadIdx.x] = sum;
    __syncthreads();
    if (range > 0 || i >= n) return;
    for (int r = 1; r < SPLIT_PARTS; r++) sum += s_sum[r * COLUMNS + column];
    out[i] += sum;
}

enum ecg_status gemm_finish_splits(int splits, size_t n, const float *part, float *out,
                                   struct gemm_conv s, cudaStream_t stream) {
    LAUNCH(gemm_splits_kernel, dim3((unsigned)((n + COLUMNS - 1) / COLUMNS)),
           dim3(COLUMNS * SPLIT_PARTS), 0, stream, splits, n, part, out);
    return gemm_launched("1x1 weight gradient, second pass", s);
}
