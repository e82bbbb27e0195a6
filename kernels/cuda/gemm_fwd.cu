/* SPDX-License-Identifier: MIT
 * The 1x1 convolution's forward kernels: one per tile and per kind of epilogue. */
#include "kernels/cuda/compat.h"

#include "kernels/cuda/gemm_tiles.cuh"

template <class T> static void fill(struct gemm_instance *to) {
    gemm_describe<T>(to);
    to->kernel[0] = gemm_kernel<T, GEMM_FWD, 0>;
    to->kernel[GEMM_STATS] = gemm_kernel<T, GEMM_FWD, GEMM_STATS>;
    to->kernel[GEMM_SIDE] = gemm_kernel<T, GEMM_FWD, GEMM_SIDE>;
    if constexpr (T::BN != 208 || !T::RES) { /* there the sums do not fit the registers of sm_100 */
        to->kernel[GEMM_SUMS] = gemm_kernel<T, GEMM_FWD, GEMM_SUMS>;
        to->kernel[GEMM_STATS | GEMM_SUMS] = gemm_kernel<T, GEMM_FWD, GEMM_STATS | GEMM_SUMS>;
    }
}

static void list(struct gemm_instance *tiles) {
    struct gemm_instance none = {};
#define X(name, ...) tiles[GEMM_##name] = none, fill<gemm_tile<__VA_ARGS__>>(&tiles[GEMM_##name]);
    GEMM_TILES(X)
#undef X
}

enum ecg_status gemm_fwd_allow(const struct gemm_gpu *gpu) {
    struct gemm_instance tiles[GEMM_N_TILES];
    list(tiles);
    return gemm_allow_all(gpu, tiles);
}

enum ecg_status gemm_fwd_product(const struct gemm_gpu *gpu, const struct gemm_args *a,
                                 struct gemm_conv s, cudaStream_t stream) {
    struct gemm_instance tiles[GEMM_N_TILES];
    const int extra =
        (a->stats ? GEMM_STATS : 0) | (a->sums ? GEMM_SUMS : 0) | (a->out ? GEMM_SIDE : 0);

    list(tiles);
    enum gemm_tile_id id = gemm_pick(gpu, tiles, a->M, a->N, a->K);
    if (a->sums && id == GEMM_N208_80) id = GEMM_N80_80;
    return gemm_start("1x1 forward", gpu, &tiles[id], extra, a, s, stream);
}
