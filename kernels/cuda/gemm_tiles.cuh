/* SPDX-License-Identifier: MIT
 * The tiles that are built, and which one serves a shape on a GPU. A result is one sum over K in ascending order whatever
 * the tile, and sums over rows are kept by units of rows: the choice changes no bit. */
#ifndef KERNELS_CUDA_GEMM_TILES_CUH
#define KERNELS_CUDA_GEMM_TILES_CUH

#include "kernels/cuda/gemm_kernel.cuh"

/* name, then gemm_tile's numbers. N = 400 has no good divisor: 208 columns with 16 of the last tile's unused, or 80 where
 * a GPU has not the shared memory. Slices of 80 divide K = 160 and 400, of 64 the others. */
#define GEMM_TILES(X)                                                                              \
    X(N64, 128, 64, 64, 3, 4, 2, 1, 3)       /* 64 -> 64 */                                        \
    X(N64_80, 128, 64, 80, 2, 4, 2, 1, 3)    /* 160 -> 64 */                                       \
    X(N64_W, 128, 64, 64, 3, 4, 2, 0, 2)     /* any K -> 64 */                                     \
    X(N80_80, 128, 80, 80, 2, 4, 2, 1, 2)    /* 160, 400 -> 400, little shared memory */           \
    X(N128_W, 128, 128, 64, 3, 2, 4, 0, 2)   /* any, 1024 -> 400 too */                            \
    X(N160, 64, 160, 64, 3, 2, 4, 1, 2)      /* 64 -> 160 */                                       \
    X(N160_80, 64, 160, 80, 3, 2, 4, 1, 2)   /* 160, 400 -> 160 */                                 \
    X(N208_80, 128, 208, 80, 2, 4, 2, 1, 1)  /* 160, 400 -> 400 */                                 \
    X(N256_W, 128, 256, 64, 3, 2, 4, 0, 1)   /* 1024 -> 1024 */                                    \
    X(N256_80W, 128, 256, 80, 2, 2, 4, 0, 1) /* 400 -> 1024 */

#define X(name, ...) GEMM_##name,
enum gemm_tile_id { GEMM_TILES(X) GEMM_N_TILES };
#undef X

typedef void (*gemm_kernel_fn)(const struct gemm_args);

enum { GEMM_N_EXTRA = 8 };

/* A tile's kernels, by what they do beyond the product (NULL: not built). */
struct gemm_instance {
    gemm_kernel_fn kernel[GEMM_N_EXTRA];
    int BM, BN, BK, threads, ctas, res, ring, w_rows;
};

template <class T> static inline void gemm_describe(struct gemm_instance *to) {
    to->BM = T::BM, to->BN = T::BN, to->BK = T::BK, to->threads = T::THREADS, to->ctas = T::CTAS;
    to->res = T::RES, to->ring = T::ST * T::STAGE, to->w_rows = T::RES ? T::BN : 0;
}

static inline size_t gemm_shared(const struct gemm_instance *t, int K) {
    return (size_t)t->ring + (size_t)t->w_rows * (size_t)gemm_w_pitch(K, t->BK);
}

static inline enum gemm_tile_id gemm_pick(const struct gemm_gpu *gpu,
                                          const struct gemm_instance *tiles, int M, int N, int K) {
    const int by80 = K % 80 == 0;
    enum gemm_tile_id id;

    if (N <= 64)
        id = by80 ? GEMM_N64_80 : GEMM_N64;
    else if (N <= 160)
        id = by80 ? GEMM_N160_80 : GEMM_N160;
    else if (N <= 416)
        id = by80 ? GEMM_N208_80 : GEMM_N128_W;
    else
        id = by80 ? GEMM_N256_80W : GEMM_N256_W;
    /* blocks of 128 x 256 that would not fill the GPU once and a half */
    if (N > 416 && 2 * gemm_ceil(M, 128) * gemm_ceil(N, 256) < 3 * gpu->sms) id = GEMM_N128_W;
    if (gemm_shared(&tiles[id], K) <= gpu->shared_block) return id;
    if (N <= 64) return GEMM_N64_W;
    if (N <= 416 && N > 160 && gemm_shared(&tiles[GEMM_N80_80], K) <= gpu->shared_block)
        return GEMM_N80_80;
    return GEMM_N128_W;
}

/* Starts kernel `extra` of the tile on blocks that stay for all their row tiles. */
static inline enum ecg_status gemm_start(const char *op, const struct gemm_gpu *gpu,
                                         const struct gemm_instance *t, int extra,
                                         const struct gemm_args *a, struct gemm_conv s,
                                         cudaStream_t stream) {
    const size_t shared = gemm_shared(t, a->K);
    const int tiles = gemm_ceil(a->M, t->BM), columns = gemm_ceil(a->N, t->BN);
    const int fit = (int)(gpu->shared_sm / (shared + 1024));
    const int room = gpu->sms * (fit < 1 ? 1 : fit < t->ctas ? fit : t->ctas);
    const int rows = room / columns < 1 ? 1 : room / columns < tiles ? room / columns : tiles;
    const gemm_kernel_fn kernel = t->kernel[extra];

    if (!kernel) return ecg_fail(ECG_ERR_FAIL, "cuda: %s: no kernel for this combination", op);
    LAUNCH(kernel, dim3((unsigned)rows, (unsigned)columns), dim3((unsigned)t->threads), shared,
           stream, *a);
    return gemm_launched(op, s);
}

static inline enum ecg_status gemm_allow_all(const struct gemm_gpu *gpu,
                                             const struct gemm_instance *tiles) {
    for (int i = 0; i < GEMM_N_TILES; i++) {
        for (int e = 0; e < GEMM_N_EXTRA; e++) {
            if (tiles[i].kernel[e]) TRY(gemm_allow(gpu, (const void *)tiles[i].kernel[e]));
        }
    }
    return ECG_OK;
}

#endif
