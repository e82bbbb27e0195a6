/* SPDX-License-Identifier: MIT
 * The 1x1 convolution's whole backward pass in one kernel, for up to 160 channels: dy and x are read once, dn is written, dw
 * and db stay in registers. A block goes through the rows of one split (gemm_split_rows): W transposed and slabs of dy
 * and x over all channels lie in shared memory; of each slab first the data gradient, then the weights' products. The sums
 * run in the same order as in gemm_dgrad.cu and gemm_wgrad.cu: the same bits. */
#include "kernels/cuda/compat.h"

#include "kernels/cuda/gemm_wgrad.cuh"

/* Up to N x K weights, BM rows a slab, ST slabs in flight, WM x WN warps. */
template <int N_, int K_, int BM_, int ST_, int WM_, int WN_, int CTAS_> struct fused_tile {
    static constexpr int N = N_, K = K_, BM = BM_, ST = ST_, WM = WM_, WN = WN_, CTAS = CTAS_;
    static constexpr int THREADS = WM * WN * 32;
    static constexpr int MT = BM / WM / 16, NT = K / WN / 8; /* data gradient: BM x K */
    static constexpr int MW = N / WM / 16;                   /* weights: N x K */
    static constexpr int PITCH_G = N * 2 + 16, PITCH_X = K * 2 + 16;
    static constexpr int G_BYTES = BM * PITCH_G, STAGE = G_BYTES + BM * PITCH_X;
    static constexpr int W_BYTES = K * PITCH_G, SHARED_BYTES = W_BYTES + ST * STAGE;
    static constexpr bool AHEAD = ST >= 3;
    static constexpr int DEEP = 2;
    static constexpr int PIPE = 0;
    static_assert(MT * WM * 16 == BM && NT * WN * 8 == K && MW * WM * 16 == N, "warps cover");
    static_assert(MT % 2 == 0 && 64 % BM == 0, "slabs are whole units, splits whole slabs");
};

template <class T, int EXTRA>
static __global__ void __launch_bounds__(T::THREADS, T::CTAS)
    gemm_backward_kernel(const struct gemm_args p, const struct gemm_wgrad_args q) {
    constexpr int G_CHUNKS = T::N / 8, X_CHUNKS = T::K / 8;
    DYN_SHARED(char, shared);
    char *const ring = shared + T::W_BYTES;
    const int warp = (int)threadIdx.x >> 5, wm = warp / T::WN, wn = warp % T::WN;
    const int r0 = (int)blockIdx.x * q.rows, r1 = q.M - r0 < q.rows ? q.M : r0 + q.rows;
    const int total = (r1 - r0 + T::BM - 1) / T::BM, g_chunks = q.N / 8, x_chunks = q.K / 8;
    float dw[T::MW][T::NT][4], db[T::MW][4];

    auto fetch = [&](int i) {
        if (i < total) {
            char *const stage = ring + i % T::ST * T::STAGE;
            const int m = r0 + i * T::BM;
            gemm_copy<T::BM, G_CHUNKS, T::THREADS>(stage, q.g + (size_t)m * q.N, q.N, r1 - m,
                                                   g_chunks);
            gemm_copy<T::BM, X_CHUNKS, T::THREADS>(stage + T::G_BYTES, q.a + (size_t)m * q.K, q.K,
                                                   r1 - m, x_chunks);
        }
        cp_commit();
    };
    struct gemm_held<T::BM, G_CHUNKS, T::THREADS> own;
    auto fetch_own = [&](int i) {
        const int m = r0 + i * T::BM;
        if (i < total) own.load(q.behind.y + (size_t)m * q.N, q.N, r1 - m, g_chunks);
    };
    gemm_copy_w<T::K, G_CHUNKS, T::NT, T::THREADS>(shared, T::PITCH_G, p.w, q.N, q.K, g_chunks);
    auto transform = [&](int i) {
        char *const g = ring + i % T::ST * T::STAGE;
        const int m = r0 + i * T::BM;
        if constexpr (EXTRA & GEMM_BEHIND) {
            own.take(g, q.behind, q.N, r1 - m, g_chunks);
            fetch_own(i + 1);
        } else {
            gemm_branch<T::BM, G_CHUNKS, T::THREADS, T::DEEP>(g, q.branch, m, 0, r1 - m, g_chunks);
        }
        gemm_act<T::BM, X_CHUNKS, T::THREADS, T::DEEP>(g + T::G_BYTES, q.act, 0, r1 - m, x_chunks);
    };
    if constexpr (EXTRA & GEMM_BEHIND) fetch_own(0);
    for (int i = 0; i < T::ST - 1; i++) fetch(i);
    gemm_zero(dw);
    gemm_zero_sums(db);
    if (T::AHEAD) {
        cp_wait<T::ST - 2>();
        transform(0);
    }
    for (int i = 0; i < total; i++) {
        char *const g = ring + i % T::ST * T::STAGE, *const x = g + T::G_BYTES;
        const int m = r0 + i * T::BM;
        const bool next = T::AHEAD && i + 1 < total;
        if (!T::AHEAD) {
            cp_wait<T::ST - 2>();
            transform(i);
        }
        __syncthreads();
        fetch(i + T::ST - 1);
        if (T::AHEAD) cp_wait<T::ST - 2>();
        if (next && gemm_goes_ahead(warp)) transform(i + 1);
        gemm_outer<T::BM / 16, T::PIPE>(dw, db, wn == 0, g + wm * T::MW * 32, T::PITCH_G,
                                        x + wn * T::NT * 16, T::PITCH_X);
        float acc[T::MT][T::NT][4];
        gemm_zero(acc);
        gemm_products<T::N / 16, T::PIPE>(acc, g + wm * T::MT * 16 * T::PITCH_G, T::PITCH_G,
                                          shared + wn * T::NT * 8 * T::PITCH_G, T::PITCH_G);
        struct gemm_place place;
        place.row = m + wm * T::MT * 16, place.col = wn * T::NT * 8, place.M = p.M, place.N = p.N;
        gemm_finish<GEMM_BWD, EXTRA>(acc, p, place);
        if (next && !gemm_goes_ahead(warp)) transform(i + 1);
    }
    wgrad_store(dw, db, q, (int)blockIdx.x, wm * T::MW * 16, wn * T::NT * 8, wn == 0);
}

typedef fused_tile<64, 64, 64, 3, 2, 4, 2> tile_64;
typedef fused_tile<160, 64, 64, 2, 2, 4, 1> tile_160_64;
typedef fused_tile<160, 160, 64, 2, 2, 4, 1> tile_160;

enum { N_EXTRA = 16 };
typedef void (*fused_fn)(const struct gemm_args, const struct gemm_wgrad_args);
struct fused_instance {
    fused_fn kernel[N_EXTRA];
    int N, K, threads;
    size_t shared;
};

template <class T> static struct fused_instance describe(void) {
    struct fused_instance t = {};
    t.N = T::N, t.K = T::K, t.threads = T::THREADS, t.shared = T::SHARED_BYTES;
    t.kernel[0] = gemm_backward_kernel<T, 0>;
    t.kernel[GEMM_STATS] = gemm_backward_kernel<T, GEMM_STATS>;
    t.kernel[GEMM_BEHIND | GEMM_STATS] = gemm_backward_kernel<T, GEMM_BEHIND | GEMM_STATS>;
    t.kernel[GEMM_BEHIND | GEMM_SIDE] = gemm_backward_kernel<T, GEMM_BEHIND | GEMM_SIDE>;
    t.kernel[GEMM_BEHIND] =
        t.kernel[GEMM_BEHIND | GEMM_SIDE]; /* asks whether there is a shortcut */
    t.kernel[GEMM_SIDE] = gemm_backward_kernel<T, GEMM_SIDE>;
    t.kernel[GEMM_SUMS | GEMM_SIDE] = gemm_backward_kernel<T, GEMM_SUMS | GEMM_SIDE>;
    t.kernel[GEMM_SUMS] = t.kernel[GEMM_SUMS | GEMM_SIDE]; /* sums are wanted beside a shortcut */
    return t;
}

static struct fused_instance pick(int N, int K) {
    if (N <= 64 && K <= 64) return describe<tile_64>();
    if (N <= 160 && K <= 64) return describe<tile_160_64>();
    return describe<tile_160>();
}

int gemm_fused_has(const struct gemm_gpu *gpu, struct gemm_conv s) {
    if (s.N > 160 || s.K > 160) return 0;
    return pick(s.N, s.K).shared <= gpu->shared_block;
}

enum ecg_status gemm_fused_allow(const struct gemm_gpu *gpu) {
    const struct fused_instance all[] = {describe<tile_64>(), describe<tile_160_64>(),
                                         describe<tile_160>()};
    for (const struct fused_instance &t : all) {
        for (int e = 0; e < N_EXTRA; e++) {
            if (t.kernel[e]) TRY(gemm_allow(gpu, (const void *)t.kernel[e]));
        }
    }
    return ECG_OK;
}

enum ecg_status gemm_fused_product(const struct gemm_args *d, const struct gemm_wgrad_args *w,
                                   struct gemm_conv s, cudaStream_t stream) {
    const struct fused_instance t = pick(s.N, s.K);
    const int extra = gemm_bwd_extra(d) | (w->behind.y ? GEMM_BEHIND : 0);
    const fused_fn kernel = t.kernel[extra];

    if (!kernel)
        return ecg_fail(ECG_ERR_FAIL, "cuda: 1x1 backward: no kernel for this combination");
    LAUNCH(kernel, dim3((unsigned)gemm_ceil(w->M, w->rows)), dim3((unsigned)t.threads), t.shared,
           stream, *d, *w);
    return gemm_launched("1x1 backward", s);
}
