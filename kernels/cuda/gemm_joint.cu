/* SPDX-License-Identifier: MIT
 * The 1x1 convolution's whole backward pass in one launch where the weights are too many for one block's registers: blocks
 * of the data gradient and of the weight gradient, ordered by the rows they read. Split c of the rows (gemm_split_rows) is a
 * group of blocks: first its weight gradient, whose blocks run longest, then its data gradient. Groups that run together
 * find dy and x of their rows in L2, so that memory is read about once. No block waits for another. */
#include "kernels/cuda/compat.h"

#include "kernels/cuda/gemm_wgrad.cuh"

/* D: the data gradient's tile, W: the weight gradient's; of one number of threads. */
template <class D_, class W_> struct joint_tile {
    typedef D_ D;
    typedef W_ W;
    static constexpr int THREADS = D::THREADS;
    static constexpr int D_BYTES = D::ST * D::STAGE, W_BYTES = W::SHARED_BYTES;
    static constexpr int SHARED_BYTES = D_BYTES > W_BYTES ? D_BYTES : W_BYTES;
    static_assert(!D::RES && D::THREADS == W::THREADS, "one launch for both");
};

/* Row tiles of BM that begin before row r. */
static __host__ __device__ inline int tiles_before(int r, int BM) {
    return (r + BM - 1) / BM;
}

/* Block: number blockIdx.x of the list [weights of split 0][data of split 0][weights of split 1]... */
template <class T, int EXTRA>
static __global__ void __launch_bounds__(T::THREADS, 1)
    gemm_joint_kernel(const struct gemm_args p, const struct gemm_wgrad_args q) {
    DYN_SHARED(char, shared);
    const int w_across = (q.K + T::W::BK - 1) / T::W::BK;
    const int w_blocks = w_across * ((q.N + T::W::BN - 1) / T::W::BN);
    const int columns = (p.N + T::D::BN - 1) / T::D::BN;
    const int tiles = tiles_before(p.M, T::D::BM), splits = (q.M + q.rows - 1) / q.rows;
    int split = 0, done = 0, left = (int)blockIdx.x;

    for (; split < splits; split++) {
        const int before =
            split + 1 < splits ? tiles_before((split + 1) * q.rows, T::D::BM) : tiles;
        const int group = w_blocks + (before - done) * columns;
        if (left < group) break;
        left -= group, done = before;
    }
    if (left < w_blocks) {
        wgrad_block<typename T::W>(q, shared, left % w_across, left / w_across, split);
    } else {
        left -= w_blocks;
        gemm_rows<typename T::D, GEMM_BWD, EXTRA>(p, shared, done + left / columns, tiles,
                                                  left % columns);
    }
}

typedef joint_tile<gemm_tile<160, 160, 80, 2, 5, 2, 0, 1>, wgrad_400> joint_160_400;
typedef joint_tile<gemm_tile<160, 144, 80, 3, 5, 2, 0, 1>, wgrad_400> joint_400_400;
typedef joint_tile<gemm_tile<128, 208, 64, 3, 4, 2, 0, 1>, wgrad_256_80> joint_400_1024;
typedef joint_tile<gemm_tile<128, 256, 64, 3, 2, 4, 0, 1>, wgrad_128> joint_1024;

enum { N_EXTRA = 8 };
typedef void (*joint_fn)(const struct gemm_args, const struct gemm_wgrad_args);
struct joint_instance {
    joint_fn kernel[N_EXTRA];
    int threads, BM, BN, w_BN, w_BK;
    size_t shared;
};

template <class T> static struct joint_instance describe(void) {
    struct joint_instance t = {};
    t.threads = T::THREADS, t.shared = T::SHARED_BYTES, t.BM = T::D::BM, t.BN = T::D::BN;
    t.w_BN = T::W::BN, t.w_BK = T::W::BK;
    t.kernel[GEMM_STATS] = gemm_joint_kernel<T, GEMM_STATS>;
    t.kernel[GEMM_SIDE] = gemm_joint_kernel<T, GEMM_SIDE>;
    t.kernel[0] = t.kernel[GEMM_SIDE]; /* it asks whether there is a shortcut */
    t.kernel[GEMM_SUMS | GEMM_SIDE] = gemm_joint_kernel<T, GEMM_SUMS | GEMM_SIDE>;
    t.kernel[GEMM_SUMS] = t.kernel[GEMM_SUMS | GEMM_SIDE]; /* sums are wanted beside a shortcut */
    return t;
}

/* The shapes that are worth it; threads is 0 for others. */
static struct joint_instance pick(int N, int K) {
    const struct joint_instance none = {};
    if (N > 320 && N <= 400 && N % 80 == 0)
        return K % 80 || K > 400 ? none
               : K > 160         ? describe<joint_400_400>()
                                 : describe<joint_160_400>();
    if (N <= 400) return none;
    if (K > 320 && K <= 400 && K % 80 == 0) return describe<joint_400_1024>();
    return K > 416 ? describe<joint_1024>() : none;
}

int gemm_joint_has(const struct gemm_gpu *gpu, struct gemm_conv s) {
    const struct joint_instance t = pick(s.N, s.K);
    return t.threads && t.shared <= gpu->shared_block;
}

enum ecg_status gemm_joint_allow(const struct gemm_gpu *gpu) {
    const struct joint_instance all[] = {describe<joint_160_400>(), describe<joint_400_400>(),
                                         describe<joint_400_1024>(), describe<joint_1024>()};
    for (const struct joint_instance &t : all) {
        for (int e = 0; e < N_EXTRA; e++) {
            if (t.kernel[e]) TRY(gemm_allow(gpu, (const void *)t.kernel[e]));
        }
    }
    return ECG_OK;
}

enum ecg_status gemm_joint_product(const struct gemm_args *d, const struct gemm_wgrad_args *w,
                                   struct gemm_conv s, cudaStream_t stream) {
    const struct joint_instance t = pick(s.N, s.K);
    const int extra = gemm_bwd_extra(d);
    const joint_fn kernel = t.kernel[extra];
    const int blocks =
        gemm_ceil(w->M, w->rows) * gemm_ceil(w->K, t.w_BK) * gemm_ceil(w->N, t.w_BN) +
        gemm_ceil(d->M, t.BM) * gemm_ceil(d->N, t.BN);

    LAUNCH(kernel, dim3((unsigned)blocks), dim3((unsigned)t.threads), t.shared, stream, *d, *w);
    return gemm_launched("1x1 backward", s);
}
