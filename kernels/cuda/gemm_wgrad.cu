/* SPDX-License-Identifier: MIT
 * The 1x1 convolution's weight gradient kernels. Splits of the rows (blockIdx.z) leave their sums side by side in memory; a
 * second pass adds them in order. */
#include "kernels/cuda/compat.h"

#include "kernels/cuda/gemm_wgrad.cuh"

template <class T>
static __global__ void __launch_bounds__(T::THREADS, T::CTAS)
    gemm_wgrad_kernel(const struct gemm_wgrad_args p) {
    DYN_SHARED(char, shared);
    wgrad_block<T>(p, shared, (int)blockIdx.x, (int)blockIdx.y, (int)blockIdx.z);
}

/* Starts, or (gpu given) only allows its shared memory to, a tile's kernel. */
template <class T>
static enum ecg_status serve(const struct gemm_gpu *gpu, const struct gemm_wgrad_args *a,
                             struct gemm_conv s, cudaStream_t stream) {
    if (gpu) return gemm_allow(gpu, (const void *)gemm_wgrad_kernel<T>);
    const dim3 grid((unsigned)gemm_ceil(a->K, T::BK), (unsigned)gemm_ceil(a->N, T::BN),
                    (unsigned)gemm_ceil(a->M, a->rows));
    LAUNCH(gemm_wgrad_kernel<T>, grid, dim3(T::THREADS), T::SHARED_BYTES, stream, *a);
    return gemm_launched("1x1 weight gradient", s);
}

enum wgrad_id { W64, W160_64, W160, W400, W256_80, W128 };

static enum wgrad_id pick(int N, int K) {
    if (N <= 64 && K <= 64) return W64;
    if (N <= 160 && N > 80 && K <= 64) return W160_64;
    if (N <= 160 && N > 80 && K <= 160) return W160;
    if (N <= 400 && N > 320 && K % 80 == 0) return W400;
    if (N > 400 && K % 80 == 0) return W256_80;
    return N > 64 && K > 64 ? W128 : W64;
}

enum ecg_status gemm_wgrad_product(const struct gemm_wgrad_args *a, struct gemm_conv s,
                                   cudaStream_t stream) {
    switch (pick(a->N, a->K)) {
    case W64:
        return serve<wgrad_64>(NULL, a, s, stream);
    case W160_64:
        return serve<wgrad_160_64>(NULL, a, s, stream);
    case W160:
        return serve<wgrad_160>(NULL, a, s, stream);
    case W400:
        return serve<wgrad_400>(NULL, a, s, stream);
    case W256_80:
        return serve<wgrad_256_80>(NULL, a, s, stream);
    case W128:
        return serve<wgrad_128>(NULL, a, s, stream);
    }
    return ecg_fail(ECG_ERR_FAIL, "cuda: 1x1 weight gradient: no tile for %d -> %d", a->K, a->N);
}

enum ecg_status gemm_wgrad_allow(const struct gemm_gpu *gpu) {
    const struct gemm_conv none = {};
    TRY(serve<wgrad_64>(gpu, NULL, none, NULL));
    TRY(serve<wgrad_160_64>(gpu, NULL, none, NULL));
    TRY(serve<wgrad_160>(gpu, NULL, none, NULL));
    TRY(serve<wgrad_400>(gpu, NULL, none, NULL));
    TRY(serve<wgrad_256_80>(gpu, NULL, none, NULL));
    return serve<wgrad_128>(gpu, NULL, none, NULL);
}

/* Enough splits to fill a GPU, few enough that their partial sums stay a small part of what is read. */
int gemm_split_rows(struct gemm_conv s) {
    const long weights = (long)s.N * s.K;
    const int least = weights <= 160 * 160 ? 512 : weights <= 400 * 400 ? 1024 : 2048;
    const int most = weights <= 64 * 64 ? 384 : weights <= 160 * 160 ? 128 : 48;
    const int rows = gemm_ceil(gemm_ceil(s.B * s.L, most), 64) * 64;
    return rows < least ? least : rows;
}
