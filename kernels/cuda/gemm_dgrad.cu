/* SPDX-License-Identifier: MIT
 * The 1x1 convolution's data gradient kernels: one per tile and per kind of epilogue. */
#include "kernels/cuda/compat.h"

#include "kernels/cuda/gemm_tiles.cuh"

template <class T> static void fill(struct gemm_instance *to) {
    gemm_describe<T>(to);
    to->kernel[0] = gemm_kernel<T, GEMM_BWD, 0>;
    to->kernel[GEMM_STATS] = gemm_kernel<T, GEMM_BWD, GEMM_STATS>;
    to->kernel[GEMM_SIDE] = gemm_kernel<T, GEMM_BWD, GEMM_SIDE>;
    to->kernel[GEMM_SUMS | GEMM_SIDE] = gemm_kernel<T, GEMM_BWD, GEMM_SUMS | GEMM_SIDE>;
    to->kernel[GEMM_SUMS] =
        to->kernel[GEMM_SUMS | GEMM_SIDE]; /* sums are wanted beside a shortcut */
}

static void list(struct gemm_instance *tiles) {
    struct gemm_instance none = {};
#define X(name, ...) tiles[GEMM_##name] = none, fill<gemm_tile<__VA_ARGS__>>(&tiles[GEMM_##name]);
    GEMM_TILES(X)
#undef X
}

enum ecg_status gemm_bwd_allow(const struct gemm_gpu *gpu) {
    struct gemm_instance tiles[GEMM_N_TILES];
    list(tiles);
    return gemm_allow_all(gpu, tiles);
}

enum ecg_status gemm_bwd_product(const struct gemm_gpu *gpu, const struct gemm_args *a,
                                 struct gemm_conv s, cudaStream_t stream) {
    struct gemm_instance tiles[GEMM_N_TILES];
    const int extra = gemm_bwd_extra(a);

    list(tiles);
    const enum gemm_tile_id id = gemm_pick(gpu, tiles, a->M, a->N, a->K);
    return gemm_start("1x1 data gradient", gpu, &tiles[id], extra, a, s, stream);
}
