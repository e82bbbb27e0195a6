/* SPDX-License-Identifier: MIT
 * Packs the weights of a list of 1x1 convolutions: fp32 (N, K) to bf16 in the same order, and for the data gradient
 * transposed (K, N) behind it. Once per step: the master weights stay fp32. */
#include "kernels/cuda/compat.h"

#include "kernels/cuda/gemm_internal.h"
#include "kernels/cuda/ptx.h"

enum { SIDE = 32, ROWS = 8, BLOCKS = 64 };

/* Block: every gridDim.x-th tile of 32 x 32 weights of convolution blockIdx.y; a thread has 4 rows of one column, then, for
 * the transposed copy, 4 columns of one row. */
static __global__ void __launch_bounds__(SIDE *ROWS)
    gemm_pack_kernel(const struct gemm_weights *list, int backward) {
    SHARED(float, s_tile, SIDE *(SIDE + 1));
    const struct gemm_weights p = list[blockIdx.y];
    const int x = (int)threadIdx.x % SIDE, y = (int)threadIdx.x / SIDE;
    const int across = (p.K + SIDE - 1) / SIDE, tiles = across * ((p.N + SIDE - 1) / SIDE);
    uint16_t *const fwd = (uint16_t *)p.packed;
    uint16_t *const bwd = fwd + gemm_up((size_t)p.N * p.K * 2) / 2;

    for (int t = (int)blockIdx.x; t < tiles; t += (int)gridDim.x) {
        const int n0 = t / across * SIDE, k0 = t % across * SIDE;
        for (int j = y; j < SIDE; j += ROWS) {
            const int n = n0 + j, k = k0 + x;
            if (n >= p.N || k >= p.K) continue;
            const float v = p.w[(size_t)n * p.K + k];
            bf16_store(&fwd[(size_t)n * p.K + k], v);
            s_tile[j * (SIDE + 1) + x] = v;
        }
        if (!backward) continue;
        __syncthreads();
        for (int j = y; j < SIDE; j += ROWS) {
            const int n = n0 + x, k = k0 + j;
            if (n < p.N && k < p.K)
                bf16_store(&bwd[(size_t)k * p.N + n], s_tile[x * (SIDE + 1) + j]);
        }
        __syncthreads();
    }
}

size_t gemm_packed_bytes(int N, int K, int backward) {
    return gemm_up((size_t)N * (size_t)K * 2) * (backward ? 2 : 1);
}

enum ecg_status gemm_pack(int n, const struct gemm_weights *list, int backward,
                          cudaStream_t stream) {
    const struct gemm_conv none = {};
    if (n <= 0) return ECG_OK;
    LAUNCH(gemm_pack_kernel, dim3(BLOCKS, (unsigned)n), dim3(SIDE * ROWS), 0, stream, list,
           backward);
    return gemm_launched("1x1 packing of weights", none);
}
