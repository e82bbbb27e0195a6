/* SPDX-License-Identifier: MIT
 * The 1x1 convolution's weight gradient: dw[N][K] = dy'^T * act(x), db[N] = column sums of dy', over the rows of a split
 * (blockIdx.z); splits lie side by side in memory and are added by a second pass. The products' sum runs along the rows,
 * both operands come through transposing loads. */
#include "kernels/cuda/compat.h"

#include "kernels/cuda/gemm_tile.cuh"

/* BN x BK weights a block, RM rows a stage, ST stages in flight, WM x WN warps. */
template <int BN_, int BK_, int RM_, int ST_, int WM_, int WN_, int CTAS_> struct wgrad_tile {
    static constexpr int BN = BN_, BK = BK_, RM = RM_, ST = ST_, WM = WM_, WN = WN_, CTAS = CTAS_;
    static constexpr int THREADS = WM * WN * 32, MT = BN / WM / 16, NT = BK / WN / 8;
    static constexpr int PITCH_G = BN * 2 + 16, PITCH_X = BK * 2 + 16;
    static constexpr int G_BYTES = RM * PITCH_G, STAGE = G_BYTES + RM * PITCH_X;
    static constexpr int SHARED_BYTES = ST * STAGE;
    static_assert(MT * WM * 16 == BN && NT * WN * 8 == BK && RM % 16 == 0, "warps cover the tile");
};

/* A warp's sums to the split's (N, K) and (N). */
template <class T>
DEVICE void wgrad_store(const float (&acc)[T::MT][T::NT][4], const float (&sums)[T::MT][4],
                        const struct gemm_wgrad_args &p, int n0, int k0, bool bias) {
    const int g = (int)threadIdx.x >> 2 & 7, q = (int)threadIdx.x & 3;
    float *const dw = p.dw + (size_t)blockIdx.z * p.N * p.K;
#pragma unroll
    for (int m = 0; m < T::MT; m++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int n = n0 + m * 16 + e * 8 + g;
            if (n >= p.N) continue;
#pragma unroll
            for (int j = 0; j < T::NT; j++) {
                const int k = k0 + j * 8 + q * 2;
                if (k >= p.K) continue;
                *(float2 *)(dw + (size_t)n * p.K + k) =
                    make_float2(acc[m][j][2 * e], acc[m][j][2 * e + 1]);
            }
            if (bias && q == 0) p.db[(size_t)blockIdx.z * p.N + n] = sums[m][2 * e];
        }
    }
}

template <class T>
static __global__ void __launch_bounds__(T::THREADS, T::CTAS)
    gemm_wgrad_kernel(const struct gemm_wgrad_args p) {
    DYN_SHARED(char, shared);
    const int warp = (int)threadIdx.x >> 5, wm = warp / T::WN, wn = warp % T::WN;
    const int k0 = (int)blockIdx.x * T::BK, n0 = (int)blockIdx.y * T::BN;
    const int r0 = (int)blockIdx.z * p.rows, r1 = p.M - r0 < p.rows ? p.M : r0 + p.rows;
    const int total = (r1 - r0 + T::RM - 1) / T::RM;
    const int n_chunks = (p.N - n0) / 8, k_chunks = (p.K - k0) / 8;
    const bool bias = p.db && blockIdx.x == 0 && wn == 0;
    float acc[T::MT][T::NT][4], sums[T::MT][4];

    auto fetch = [&](int i) {
        if (i < total) {
            char *const stage = shared + i % T::ST * T::STAGE;
            const int m = r0 + i * T::RM;
            gemm_copy<T::RM, T::BN / 8, T::THREADS>(stage, p.g + (size_t)m * p.N + n0, p.N, r1 - m,
                                                    n_chunks);
            gemm_copy<T::RM, T::BK / 8, T::THREADS>(
                stage + T::G_BYTES, p.a + (size_t)m * p.K + k0, p.K, r1 - m, k_chunks);
        }
        cp_commit();
    };
    for (int i = 0; i < T::ST - 1; i++) fetch(i);
    gemm_zero(acc);
#pragma unroll
    for (int m = 0; m < T::MT; m++) sums[m][0] = sums[m][1] = sums[m][2] = sums[m][3] = 0;
    for (int i = 0; i < total; i++) {
        char *const stage = shared + i % T::ST * T::STAGE;
        const int m = r0 + i * T::RM;
        cp_wait<T::ST - 2>();
        gemm_branch<T::RM, T::BN / 8, T::THREADS>(stage, p.branch, m, n0, r1 - m, n_chunks);
        gemm_act<T::RM, T::BK / 8, T::THREADS>(stage + T::G_BYTES, p.act, k0, r1 - m, k_chunks);
        __syncthreads();
        fetch(i + T::ST - 1);
        gemm_outer<T::RM / 16>(acc, sums, bias, stage + wm * T::MT * 32, T::PITCH_G,
                               stage + T::G_BYTES + wn * T::NT * 16, T::PITCH_X);
    }
    wgrad_store<T>(acc, sums, p, n0 + wm * T::MT * 16, k0 + wn * T::NT * 8, bias);
}

/* The side whose chunks take the activation is read once where a block holds all of N. */
typedef wgrad_tile<64, 64, 64, 3, 2, 2, 4> tile_64;    /* and all shapes that no other serves better */
typedef wgrad_tile<160, 64, 32, 3, 2, 4, 2> tile_160_64;
typedef wgrad_tile<160, 160, 32, 3, 2, 4, 1> tile_160;
typedef wgrad_tile<400, 80, 32, 3, 5, 2, 1> tile_400;
typedef wgrad_tile<256, 80, 32, 3, 4, 2, 1> tile_256_80; /* 400 -> 1024 */
typedef wgrad_tile<128, 128, 64, 3, 2, 4, 2> tile_128;

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
    case W64: return serve<tile_64>(NULL, a, s, stream);
    case W160_64: return serve<tile_160_64>(NULL, a, s, stream);
    case W160: return serve<tile_160>(NULL, a, s, stream);
    case W400: return serve<tile_400>(NULL, a, s, stream);
    case W256_80: return serve<tile_256_80>(NULL, a, s, stream);
    case W128: return serve<tile_128>(NULL, a, s, stream);
    }
    return ecg_fail(ECG_ERR_FAIL, "cuda: 1x1 weight gradient: no tile for %d -> %d", a->K, a->N);
}

enum ecg_status gemm_wgrad_allow(const struct gemm_gpu *gpu) {
    const struct gemm_conv none = {};
    TRY(serve<tile_64>(gpu, NULL, none, NULL));
    TRY(serve<tile_160_64>(gpu, NULL, none, NULL));
    TRY(serve<tile_160>(gpu, NULL, none, NULL));
    TRY(serve<tile_400>(gpu, NULL, none, NULL));
    TRY(serve<tile_256_80>(gpu, NULL, none, NULL));
    return serve<tile_128>(gpu, NULL, none, NULL);
}

/* Enough splits to fill a GPU, few enough that their partial sums stay a small part of what is read. */
int gemm_split_rows(struct gemm_conv s) {
    const long weights = (long)s.N * s.K;
    const int least = weights <= 64 * 64 ? 512 : weights <= 160 * 160 ? 1024 : 2048;
    const int most_splits = weights <= 64 * 64 ? 384 : weights <= 160 * 160 ? 160 : 32;
    const int rows = gemm_ceil(gemm_ceil(s.B * s.L, most_splits), 64) * 64;
    return rows < least ? least : rows;
}
