/* SPDX-License-Identifier: MIT
 * The tensor-core 1x1 convolution: Y[M][N] = f(A)[M][K] * W[N][K]^T, in two directions.
 *   forward        A = x, f = act, Y = y = . + bias; sums for batch statistics and for means over L; the block's tail
 *   data gradient  A = dy, f = the gated branch, W transposed, Y = dn = . * act'(x) + the shortcut's gradient; sums of dn*h, or of
 *                  dn and dn*(x - mean)
 * A block goes through several row tiles of its columns. Slices of BK
 * channels of A pass through a ring that runs on from tile to tile, so that memory is busy during the epilogue too. */
#ifndef KERNELS_CUDA_GEMM_KERNEL_CUH
#define KERNELS_CUDA_GEMM_KERNEL_CUH

#include "kernels/cuda/gemm_epilogue.cuh"

/* What an instance can do beyond the plain product, bits. */
enum { GEMM_STATS = 1, GEMM_SUMS = 2, GEMM_SIDE = 4, GEMM_BEHIND = 8 };

static inline int gemm_bwd_extra(const struct gemm_args *a) {
    return (a->stats ? GEMM_STATS : 0) | (a->sums ? GEMM_SUMS : 0) |
           (a->side_grad.dy ? GEMM_SIDE : 0);
}

/* Starts to copy slice k0 of row tile m0 (and of W where that is streamed). */
template <class T>
DEVICE void gemm_fetch(char *stage, const struct gemm_args &p, int m0, int n0, int k0) {
    constexpr int CHUNKS = T::BK / 8;
    const int chunks = (p.K - k0) / 8;
    gemm_copy<T::BM, CHUNKS, T::THREADS>(stage, p.a + (size_t)m0 * p.K + k0, p.K, p.M - m0, chunks);
    if (!T::RES)
        gemm_copy_w<T::BN, CHUNKS, T::NT, T::THREADS>(
            stage + T::A_BYTES, T::PITCH, p.w + (size_t)n0 * p.K + k0, p.K, p.N - n0, chunks);
}

template <int BACK, int EXTRA, int MT, int NT>
DEVICE void gemm_finish(float (&acc)[MT][NT][4], const struct gemm_args &p, struct gemm_place at) {
    if (BACK == GEMM_FWD) {
        gemm_store_y(acc, at, p.bias, p.y);
        if (EXTRA & GEMM_STATS) gemm_unit_stats(acc, at, p.stats);
        if (EXTRA & GEMM_SIDE) gemm_store_tail(acc, at, p.side, p.out_gate, p.out);
    } else if (EXTRA & GEMM_STATS) {
        gemm_store_dn(acc, at, p.act, p.x, p.mean, p.y, p.stats);
    } else {
        gemm_slope(acc, at, p.act, p.x);
        if ((EXTRA & GEMM_SIDE) && p.side_grad.dy) gemm_add_side(acc, at, p.side_grad, p.x);
        gemm_store_y(acc, at, NULL, p.y);
    }
    if (EXTRA & GEMM_SUMS) gemm_sample_sums<BACK == GEMM_BWD>(acc, at, p.L, p.h, p.sums);
}

/* Blocks an SM is to hold: beside the plain product there is no room in the registers for more than this. */
template <class T> static constexpr int gemm_blocks(int back, int extra) {
    const int most = back == GEMM_BWD && (extra & GEMM_SUMS) && T::MT > 2 ? 1 : 2;
    return extra && T::CTAS > most ? most : T::CTAS;
}

/* Row tiles first, first + step, ... of the columns of block by. */
template <class T, int BACK, int EXTRA>
DEVICE void gemm_rows(const struct gemm_args &p, char *shared, int first, int step, int by) {
    constexpr int CHUNKS = T::BK / 8;
    const int warp = (int)threadIdx.x >> 5, wm = warp / T::WN, wn = warp % T::WN;
    const int n0 = by * T::BN, slices = (p.K + T::BK - 1) / T::BK;
    const int w_pitch = T::RES ? gemm_w_pitch(p.K, T::BK) : T::PITCH;
    const int tiles = (p.M + T::BM - 1) / T::BM;
    const int total = ((tiles - 1 - first) / step + 1) * slices;
    char *const ring = shared + (T::RES ? T::BN * w_pitch : 0);

    if (T::RES) {
        for (int s = 0; s < slices; s++)
            gemm_copy_w<T::BN, CHUNKS, T::NT, T::THREADS>(shared + s * T::BK * 2, w_pitch,
                                                          p.w + (size_t)n0 * p.K + s * T::BK, p.K,
                                                          p.N - n0, (p.K - s * T::BK) / 8);
    }
    /* The slice that is fetched next, and the one that is worked on: its place in the ring, row tile and slice. */
    int in_m = first * T::BM, in_slice = 0, in = 0, fetched = 0;
    int m0 = in_m, slice = 0, at = 0;
    for (int s = 0; s < T::ST - 1; s++) {
        if (fetched++ < total) {
            gemm_fetch<T>(ring + in * T::STAGE, p, in_m, n0, in_slice * T::BK);
            if (++in_slice == slices) in_slice = 0, in_m += step * T::BM;
        }
        in++;
        cp_commit();
    }
    /* What stands between memory and the products, on this thread's chunks of the slice at rows m. */
    auto transform = [&](char *a, int m, int k) {
        if (BACK == GEMM_FWD)
            gemm_act<T::BM, CHUNKS, T::THREADS, T::DEEP>(a, p.act, k, p.M - m, (p.K - k) / 8);
        else
            gemm_branch<T::BM, CHUNKS, T::THREADS, T::DEEP>(a, p.branch, m, k, p.M - m,
                                                            (p.K - k) / 8);
    };
    float acc[T::MT][T::NT][4];
    if (T::AHEAD) {
        cp_wait<T::ST - 2>();
        transform(ring, m0, 0);
    }
    for (int i = 0; i < total; i++) {
        char *const a = ring + at * T::STAGE;
        if (!T::AHEAD) {
            cp_wait<T::ST - 2>();
            transform(a, m0, slice * T::BK);
        }
        __syncthreads();
        if (fetched++ < total) {
            gemm_fetch<T>(ring + in * T::STAGE, p, in_m, n0, in_slice * T::BK);
            if (++in_slice == slices) in_slice = 0, in_m += step * T::BM;
        }
        if (++in == T::ST) in = 0;
        cp_commit();
        if (++at == T::ST) at = 0;

        const bool last = slice + 1 == slices, next = T::AHEAD && i + 1 < total;
        auto prepare = [&]() {
            transform(ring + at * T::STAGE, last ? m0 + step * T::BM : m0,
                      last ? 0 : (slice + 1) * T::BK);
        };
        if (T::AHEAD) cp_wait<T::ST - 2>();
        if (next && gemm_goes_ahead(warp)) prepare();
        if (slice == 0) gemm_zero(acc);
        const char *const w = T::RES ? shared + slice * T::BK * 2 : a + T::A_BYTES;
        gemm_products<T::BK / 16, T::PIPE>(acc, a + wm * T::MT * 16 * T::PITCH, T::PITCH,
                                           w + wn * T::NT * 8 * w_pitch, w_pitch);
        if (next && !gemm_goes_ahead(warp)) prepare();
        slice++;
        if (!last) continue;
        struct gemm_place place;
        place.row = m0 + wm * T::MT * 16, place.col = n0 + wn * T::NT * 8;
        place.M = p.M, place.N = p.N;
        gemm_finish<BACK, EXTRA>(acc, p, place);
        slice = 0, m0 += step * T::BM;
    }
}

template <class T, int BACK, int EXTRA>
static __global__ void __launch_bounds__(T::THREADS, gemm_blocks<T>(BACK, EXTRA))
    gemm_kernel(const struct gemm_args p) {
    DYN_SHARED(char, shared);
    gemm_rows<T, BACK, EXTRA>(p, shared, (int)blockIdx.x, (int)gridDim.x, (int)blockIdx.y);
}

#endif
