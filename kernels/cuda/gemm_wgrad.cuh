/* SPDX-License-Identifier: MIT
 * One block of the 1x1 convolution's weight gradient: dw[N][K] = dy'^T * act(x), db[N] = column sums of dy', over the rows of
 * a split. The products' sum runs along the rows, both operands come through transposing loads. */
#ifndef KERNELS_CUDA_GEMM_WGRAD_CUH
#define KERNELS_CUDA_GEMM_WGRAD_CUH

#include "kernels/cuda/gemm_kernel.cuh"

/* BN x BK weights a block, RM rows a stage, ST stages in flight, WM x WN warps. */
template <int BN_, int BK_, int RM_, int ST_, int WM_, int WN_, int CTAS_> struct wgrad_tile {
    static constexpr int BN = BN_, BK = BK_, RM = RM_, ST = ST_, WM = WM_, WN = WN_, CTAS = CTAS_;
    static constexpr int THREADS = WM * WN * 32, MT = BN / WM / 16, NT = BK / WN / 8;
    static constexpr int PITCH_G = BN * 2 + 16, PITCH_X = BK * 2 + 16;
    static constexpr int G_BYTES = RM * PITCH_G, STAGE = G_BYTES + RM * PITCH_X;
    static constexpr int SHARED_BYTES = ST * STAGE;
    static constexpr bool AHEAD = THREADS <= 256; /* as in gemm_tile */
    static constexpr int DEEP = THREADS * CTAS > 256 ? 1 : 4;
    static constexpr int PIPE = THREADS * CTAS <= 256;
    static_assert(MT * WM * 16 == BN && NT * WN * 8 == BK && RM % 16 == 0, "warps cover the tile");
    static_assert(ST >= 3, "one stage is multiplied, one transformed, one in flight");
};

/* The column sums' accumulators. */
template <int MT> DEVICE void gemm_zero_sums(float (&sums)[MT][4]) {
#pragma unroll
    for (int m = 0; m < MT; m++) sums[m][0] = sums[m][1] = sums[m][2] = sums[m][3] = 0;
}

/* A warp's sums, from (n0, k0) on, to the split's (N, K) and (N). */
template <int MT, int NT>
DEVICE void wgrad_store(const float (&acc)[MT][NT][4], const float (&sums)[MT][4],
                        const struct gemm_wgrad_args &p, int split, int n0, int k0, bool bias) {
    const int g = (int)threadIdx.x >> 2 & 7, q = (int)threadIdx.x & 3;
    float *const dw = p.dw + (size_t)split * p.N * p.K;
#pragma unroll
    for (int m = 0; m < MT; m++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int n = n0 + m * 16 + e * 8 + g;
            if (n >= p.N) continue;
#pragma unroll
            for (int j = 0; j < NT; j++) {
                const int k = k0 + j * 8 + q * 2;
                if (k >= p.K) continue;
                *(float2 *)(dw + (size_t)n * p.K + k) =
                    make_float2(acc[m][j][2 * e], acc[m][j][2 * e + 1]);
            }
            if (bias && p.db && q == 0) p.db[(size_t)split * p.N + n] = sums[m][2 * e];
        }
    }
}

/* Rows of split `split`, weights of block (bx, by) of the tile. */
template <class T>
DEVICE void wgrad_block(const struct gemm_wgrad_args &p, char *shared, int bx, int by, int split) {
    const int warp = (int)threadIdx.x >> 5, wm = warp / T::WN, wn = warp % T::WN;
    const int k0 = bx * T::BK, n0 = by * T::BN;
    const int r0 = split * p.rows, r1 = p.M - r0 < p.rows ? p.M : r0 + p.rows;
    const int total = (r1 - r0 + T::RM - 1) / T::RM;
    const int n_chunks = (p.N - n0) / 8, k_chunks = (p.K - k0) / 8;
    const bool bias = p.db && bx == 0 && wn == 0;
    float acc[T::MT][T::NT][4], sums[T::MT][4];

    auto fetch = [&](int i) {
        if (i < total) {
            char *const stage = shared + i % T::ST * T::STAGE;
            const int m = r0 + i * T::RM;
            gemm_copy<T::RM, T::BN / 8, T::THREADS>(stage, p.g + (size_t)m * p.N + n0, p.N, r1 - m,
                                                    n_chunks);
            gemm_copy<T::RM, T::BK / 8, T::THREADS>(stage + T::G_BYTES, p.a + (size_t)m * p.K + k0,
                                                    p.K, r1 - m, k_chunks);
        }
        cp_commit();
    };
    auto transform = [&](int i) {
        char *const stage = shared + i % T::ST * T::STAGE;
        const int m = r0 + i * T::RM;
        gemm_branch<T::RM, T::BN / 8, T::THREADS, T::DEEP>(stage, p.branch, m, n0, r1 - m,
                                                           n_chunks);
        gemm_act<T::RM, T::BK / 8, T::THREADS, T::DEEP>(stage + T::G_BYTES, p.act, k0, r1 - m,
                                                        k_chunks);
    };
    for (int i = 0; i < T::ST - 1; i++) fetch(i);
    gemm_zero(acc);
    gemm_zero_sums(sums);
    if (T::AHEAD) {
        cp_wait<T::ST - 2>();
        transform(0);
    }
    for (int i = 0; i < total; i++) {
        char *const stage = shared + i % T::ST * T::STAGE;
        const bool next = T::AHEAD && i + 1 < total;
        if (!T::AHEAD) {
            cp_wait<T::ST - 2>();
            transform(i);
        }
        __syncthreads();
        fetch(i + T::ST - 1);
        if (T::AHEAD) cp_wait<T::ST - 2>();
        if (next && gemm_goes_ahead(warp)) transform(i + 1);
        gemm_outer<T::RM / 16, T::PIPE>(acc, sums, bias, stage + wm * T::MT * 32, T::PITCH_G,
                                        stage + T::G_BYTES + wn * T::NT * 16, T::PITCH_X);
        if (next && !gemm_goes_ahead(warp)) transform(i + 1);
    }
    wgrad_store(acc, sums, p, split, n0 + wm * T::MT * 16, k0 + wn * T::NT * 8, bias);
}

/* The side whose chunks take the activation is read once where a block holds all of N. */
typedef wgrad_tile<64, 64, 64, 3, 2, 2, 4>
    wgrad_64; /* and all shapes that no other serves better */
typedef wgrad_tile<160, 64, 32, 3, 2, 4, 2> wgrad_160_64;
typedef wgrad_tile<160, 160, 32, 3, 2, 4, 1> wgrad_160;
typedef wgrad_tile<400, 80, 32, 3, 5, 2, 1> wgrad_400;
typedef wgrad_tile<256, 80, 32, 3, 4, 2, 1> wgrad_256_80; /* 400 -> 1024 */
typedef wgrad_tile<128, 128, 64, 3, 2, 4, 1> wgrad_128;

#endif
