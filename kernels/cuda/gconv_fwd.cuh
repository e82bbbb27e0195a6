/* SPDX-License-Identifier: MIT
 * The forward kernel of the 16-tap convolutions, which is also their data gradient at stride 1: see gconv.cu. Instances
 * are made in gconv.cu and stem.cu. */
#ifndef KERNELS_CUDA_GCONV_FWD_CUH
#define KERNELS_CUDA_GCONV_FWD_CUH

#include "kernels/cuda/gconv_host.h"

#include "kernels/cuda/gconv_slab.cuh"

enum {
    FWD_THREADS = 128,
    FWD_WARPS = 4,
    FWD_M = 2
}; /* a warp: 2 m16 tiles of rows, all the CTA's groups */

enum fwd_kind {
    FWD_CONV, /* y = conv(act(x)) + b */
    FWD_STEM, /* the same, all groups of the CTA reading one slab of 16 channels, those of x padded */
    FWD_DATA /* dn = conv_bwd_x(dy) * swish'(n) at stride 1: source dy, its taps in reverse order */
};

struct fwd_args {
    struct gconv_rows g;     /* rows of the output */
    struct gconv_source src; /* x, or dy */
    struct gconv_act act;
    const uint4 *weights; /* packed */
    const float *b;       /* (C) or NULL */
    const uint16_t *x;    /* FWD_DATA with Swish: (rows, C) */
    uint16_t *y;          /* (rows, C): y, or dn */
    int C;                /* Cout */
    float2 *stats;        /* (n_tiles, C): sum of y, sum of (y - the tile's mean)^2; or NULL */
    double *sums;         /* (n_tiles, max_segments, C), or NULL */
    enum gconv_sum sum;
};

/* CTAs of a multiprocessor, as far as registers allow: 128 a thread, or 168 for 80 accumulators. */
static constexpr __host__ __device__ int fwd_ctas(int groups) {
    return groups == 5 ? 3 : 4;
}

/* Bytes of dynamic shared memory: weights, fold, slab, and what the sums of four warps need. */
template <int STEP, int GROUPS, int KIND> static size_t fwd_shared(const struct fwd_args &a) {
    const int halo = GCONV_TAPS - STEP, in = KIND == FWD_STEM ? 1 : GROUPS;
    size_t bytes = (size_t)GROUPS * GCONV_GROUP_BYTES + (size_t)in * 16 * 2 * sizeof(float);
    bytes += (size_t)gconv_slab_rows(a.g, STEP, halo) * gconv_pitch(in);
    if (a.stats) bytes += (size_t)FWD_WARPS * GROUPS * 16 * sizeof(float2);
    if (a.sums) bytes += (size_t)FWD_WARPS * 3 * GROUPS * 16 * sizeof(double);
    return bytes;
}

/* Row m*16 + e*8 + g of a warp's 32, of lane 4g + q. */
DEVICE int fwd_row(int i, int lane) {
    return i * 8 + (lane >> 2);
}

/* Sums of a channel over a warp: the lanes of the same q hold the same channels. */
template <typename T> DEVICE T fwd_sum_rows(T v) {
    v += __shfl_xor_sync(0xffffffffu, v, 4);
    v += __shfl_xor_sync(0xffffffffu, v, 8);
    v += __shfl_xor_sync(0xffffffffu, v, 16);
    return v;
}

/* Sum and sum of squared deviations from its mean, of a warp's n rows: 4 channels a lane into s_out[channel]. */
DEVICE void fwd_warp_stats(const float z[4][4], int n, int lane, float2 *s_out) {
    for (int k = 0; k < 4; k++) {
        float sum = 0, squares = 0;
        for (int i = 0; i < 4; i++)
            if (fwd_row(i, lane) < n) sum += z[i][k];
        sum = fwd_sum_rows(sum);
        const float mean = sum / (float)n;
        for (int i = 0; i < 4; i++) {
            const float d = z[i][k] - mean;
            if (fwd_row(i, lane) < n) squares = fmaf(d, d, squares);
        }
        squares = fwd_sum_rows(squares);
        if (lane < 4) s_out[lane * 4 + k] = make_float2(sum, squares);
    }
}

/* Sums of a warp's n rows from row0 of the tile by sample, at most 3 of them: s_out[sample of the warp][channel]. */
template <int GROUPS>
DEVICE void fwd_warp_sums(const struct gconv_rows &g, const struct gconv_tile &t,
                          const float z[4][4], int row0, int n, double *s_out) {
    const int lane = (int)threadIdx.x & 31;
    const int first = gconv_segment(g, t, row0), last = gconv_segment(g, t, row0 + n - 1);

    for (int segment = first; segment <= last; segment++) {
        const int from = segment * g.L - t.l0 - row0, to = min(from + g.L, n);
        for (int k = 0; k < 4; k++) {
            double sum = 0;
            for (int i = 0; i < 4; i++) {
                const int row = fwd_row(i, lane);
                if (row >= from && row < to) sum += z[i][k];
            }
            sum = fwd_sum_rows(sum);
            if (lane < 4) s_out[(segment - first) * GROUPS * 16 + lane * 4 + k] = sum;
        }
    }
}

/* The four warps' statistics as one (Chan, Golub and LeVeque), in order. */
template <int GROUPS>
DEVICE void fwd_write_stats(const struct fwd_args &a, const struct gconv_tile &t, int tile,
                            int channel0, const float2 *s_stats) {
    for (int c = (int)threadIdx.x; c < GROUPS * 16; c += FWD_THREADS) {
        float sum = 0, squares = 0;
        int n = 0;
        for (int w = 0; w < FWD_WARPS; w++) {
            const int more = min(a.g.per_warp, t.n - w * a.g.per_warp);
            if (more <= 0) break;
            const float2 v = s_stats[w * GROUPS * 16 + c];
            if (n > 0) {
                const float d = v.x / (float)more - sum / (float)n;
                squares += d * d * ((float)n * (float)more / (float)(n + more));
            }
            squares += v.y;
            sum += v.x;
            n += more;
        }
        a.stats[(size_t)tile * a.C + channel0 + c] = make_float2(sum, squares);
    }
}

/* The four warps' sums of each of the tile's samples, in order. */
template <int GROUPS>
DEVICE void fwd_write_sums(const struct fwd_args &a, const struct gconv_tile &t, int tile,
                           int channel0, const double *s_sums) {
    for (int i = (int)threadIdx.x; i < t.n_segments * GROUPS * 16; i += FWD_THREADS) {
        const int segment = i / (GROUPS * 16), c = i - segment * GROUPS * 16;
        double sum = 0;
        for (int w = 0; w < FWD_WARPS; w++) {
            const int row = w * a.g.per_warp, n = min(a.g.per_warp, t.n - row);
            if (n <= 0) break;
            const int first = gconv_segment(a.g, t, row);
            const int last = gconv_segment(a.g, t, row + n - 1);
            if (segment >= first && segment <= last)
                sum += s_sums[(w * 3 + segment - first) * GROUPS * 16 + c];
        }
        a.sums[((size_t)tile * a.g.max_segments + segment) * a.C + channel0 + c] = sum;
    }
}

/* Four channels c .. c+3 of one row: bias or swish' to the accumulators, rounded, stored. v: as rounded. */
template <int KIND>
DEVICE void fwd_store(const struct fwd_args &a, size_t row, int c, const float bias[4],
                      float v[4]) {
    const size_t at = row * a.C + c;

    for (int k = 0; k < 4; k++) v[k] += bias[k];
    if (KIND == FWD_DATA && a.act.swish) {
        float x[4];
        gconv_load(a.x + at, x);
        gconv_times_slope(a.act, x, c, v);
    }
    gconv_store(a.y + at, v);
}

/* A warp's accumulators of one group to y, and their sums to shared memory. */
template <int GROUPS, int KIND>
DEVICE void fwd_finish_group(const struct fwd_args &a, const struct gconv_tile &t, int channel0,
                             int j, float acc[FWD_M][2][4], float2 *s_stats, double *s_sums) {
    const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
    const int row0 = warp * a.g.per_warp, n = min(a.g.per_warp, t.n - row0);
    const int c = channel0 + j * 16 + (lane & 3) * 4;
    float bias[4] = {0, 0, 0, 0}, z[4][4];

    if (n <= 0) return;
    if (KIND != FWD_DATA && a.b)
        for (int k = 0; k < 4; k++) bias[k] = a.b[c + k];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 4; k++) z[i][k] = acc[i >> 1][k >> 1][2 * (i & 1) + (k & 1)];
        if (fwd_row(i, lane) < n)
            fwd_store<KIND>(a, (size_t)(t.r0 + row0 + fwd_row(i, lane)), c, bias, z[i]);
    }
    if (KIND == FWD_DATA) return;
    if (a.stats) fwd_warp_stats(z, n, lane, s_stats + (warp * GROUPS + j) * 16);
    if (!a.sums) return;
    if (a.sum == GCONV_SUM_SWISH)
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < 4; k += 2) {
                const uint32_t pair = pack_bf16(swish_fast(z[i][k]), swish_fast(z[i][k + 1]));
                z[i][k] = lo_bf16(pair), z[i][k + 1] = hi_bf16(pair);
            }
    fwd_warp_sums<GROUPS>(a.g, t, z, row0, n, s_sums + warp * 3 * GROUPS * 16 + j * 16);
}

/* Begins to copy a tile's slab. */
template <int STEP, int GROUPS, int KIND>
DEVICE void fwd_copy(const struct fwd_args &a, int tile, int channel0, char *s_slab) {
    const struct gconv_tile t = gconv_tile_at(a.g, tile);

    if (KIND == FWD_STEM)
        stem_copy<STEP, GCONV_TAPS - STEP, FWD_THREADS>(a.g, t, a.src, s_slab);
    else
        gconv_copy<STEP, GCONV_TAPS - STEP, GROUPS * 2, FWD_THREADS>(a.g, t, a.src, channel0,
                                                                     s_slab);
}

/* acc[m][group][half][..] = the products of all 16 taps: rows of the slab times packed weights. */
template <int STEP, int GROUPS, int KIND>
DEVICE void fwd_products(const struct fwd_args &a, const struct gconv_tile &t,
                         const char *s_weights, const char *s_slab,
                         float acc[FWD_M][GROUPS][2][4]) {
    constexpr int HALO = GCONV_TAPS - STEP, PITCH = gconv_pitch(KIND == FWD_STEM ? 1 : GROUPS);
    const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
    const uint4 *weights = (const uint4 *)s_weights + lane;
    const char *row[FWD_M]; /* this lane's slab row under tap 0 */

    for (int m = 0; m < FWD_M; m++) {
        const int r = min(warp * a.g.per_warp + m * 16 + (lane & 15), t.n - 1);
        const int segment = gconv_segment(a.g, t, r);
        row[m] = s_slab + (r + HALO / STEP * segment) * PITCH + (lane >> 4) * 16;
    }
#pragma unroll(GROUPS == 5 ? 1 : 2)
    for (int tap = 0; tap < GCONV_TAPS; tap++) {
        const int at =
            gconv_tap<STEP, HALO, PITCH>(a.g, KIND == FWD_DATA ? GCONV_TAPS - 1 - tap : tap);
        uint32_t rows[FWD_M][4];
#pragma unroll
        for (int j = 0; j < GROUPS; j++) {
            const uint4 w = weights[(j * GCONV_TAPS + tap) * 32];
#pragma unroll
            for (int m = 0; m < FWD_M; m++) {
                if (KIND != FWD_STEM || j == 0) ldsm4(rows[m], row[m] + at + j * 32);
                mma_bf16(acc[m][j][0], rows[m], w.x, w.y);
                mma_bf16(acc[m][j][1], rows[m], w.z, w.w);
            }
        }
    }
}

/* Grid: (C / 16 / GROUPS, CTAs in a row over the tiles), 128 threads. A CTA owns 16*GROUPS channels of every gridDim.y-th
 * tile; a warp a quarter of the tile's rows. The next tile is on its way while a tile's results are written. */
template <int STEP, int GROUPS, int KIND>
static __global__ void __launch_bounds__(FWD_THREADS, fwd_ctas(GROUPS))
    gconv_fwd_kernel(struct fwd_args a) {
    constexpr int IN = KIND == FWD_STEM ? 1 : GROUPS, HALO = GCONV_TAPS - STEP;
    DYN_SHARED(char, s_weights);
    float *const s_fold = (float *)(s_weights + GROUPS * GCONV_GROUP_BYTES);
    char *const s_slab = (char *)(s_fold + IN * 16 * 2);
    char *const s_end = s_slab + gconv_slab_rows(a.g, STEP, HALO) * gconv_pitch(IN);
    float2 *const s_stats = (float2 *)s_end;
    double *const s_sums = (double *)(s_end + (a.stats ? FWD_WARPS * GROUPS * 16 * 8 : 0));
    const int channel0 = (int)blockIdx.x * GROUPS * 16;

    gconv_copy_weights(a.weights + (size_t)blockIdx.x * GROUPS * (GCONV_GROUP_BYTES / 16), GROUPS,
                       FWD_THREADS, s_weights);
    fwd_copy<STEP, GROUPS, KIND>(a, (int)blockIdx.y, channel0, s_slab);
    cp_commit();
    if (KIND == FWD_CONV) gconv_load_fold(a.act, channel0, IN * 16, FWD_THREADS, s_fold);
    __syncthreads();
    for (int tile = (int)blockIdx.y; tile < a.g.n_tiles; tile += (int)gridDim.y) {
        const struct gconv_tile t = gconv_tile_at(a.g, tile);
        float acc[FWD_M][GROUPS][2][4] = {};
        cp_wait<0>();
        if (KIND == FWD_CONV)
            gconv_activate<STEP, HALO, IN * 2, FWD_THREADS>(a.g, t, a.src, a.act, s_fold, s_slab);
        __syncthreads();
        fwd_products<STEP, GROUPS, KIND>(a, t, s_weights, s_slab, acc);
        __syncthreads();
        const int next = tile + (int)gridDim.y;
        if (next < a.g.n_tiles) fwd_copy<STEP, GROUPS, KIND>(a, next, channel0, s_slab);
        cp_commit();
#pragma unroll
        for (int j = 0; j < GROUPS; j++) {
            float one[FWD_M][2][4];
            for (int m = 0; m < FWD_M; m++)
                for (int k = 0; k < 8; k++) one[m][k >> 2][k & 3] = acc[m][j][k >> 2][k & 3];
            fwd_finish_group<GROUPS, KIND>(a, t, channel0, j, one, s_stats, s_sums);
        }
        if (!a.stats && !a.sums) continue;
        __syncthreads();
        if (a.stats) fwd_write_stats<GROUPS>(a, t, tile, channel0, s_stats);
        if (a.sums) fwd_write_sums<GROUPS>(a, t, tile, channel0, s_sums);
    }
}

/* Launches an instance: a.g and the rest are complete. */
template <int STEP, int GROUPS, int KIND>
static enum ecg_status fwd_launch(const char *op, struct ops_conv s, const struct fwd_args &a,
                                  cudaStream_t stream) {
    const size_t shared = fwd_shared<STEP, GROUPS, KIND>(a);
    const int n_chunks = a.C / (16 * GROUPS);
    const int fit = (int)(GCONV_SM_SHARED / (shared + GCONV_CTA_SHARED));
    const int slots = GCONV_SMS * (fit < fwd_ctas(GROUPS) ? fit : fwd_ctas(GROUPS));
    const dim3 grid((unsigned)n_chunks, (unsigned)gconv_ctas(a.g.n_tiles, n_chunks, slots));

    TRY(gconv_allow_shared(op, s, (const void *)gconv_fwd_kernel<STEP, GROUPS, KIND>, shared));
    LAUNCH((gconv_fwd_kernel<STEP, GROUPS, KIND>), grid, FWD_THREADS, shared, stream, a);
    return gconv_check_launch(op, s);
}

/* The instance for the shape's number of groups. */
template <int STEP, int KIND>
static enum ecg_status fwd_launch_any(const char *op, struct ops_conv s, const struct fwd_args &a,
                                      cudaStream_t stream) {
    switch (gconv_groups_per_cta(a.C / 16)) {
    case 5:
        return fwd_launch<STEP, 5, KIND>(op, s, a, stream);
    case 4:
        return fwd_launch<STEP, 4, KIND>(op, s, a, stream);
    case 2:
        return fwd_launch<STEP, 2, KIND>(op, s, a, stream);
    default:
        return fwd_launch<STEP, 1, KIND>(op, s, a, stream);
    }
}

/* Scratch memory of the sums, and the passes that finish them (gconv_sums.cu). */
size_t fwd_sums_bytes(struct gconv_rows g, int C);
enum ecg_status fwd_finish_sums(const char *op, struct ops_conv s, const struct fwd_args &a,
                                const struct gconv_fwd_out *out, cudaStream_t stream);
/* Points a.stats and a.sums into ws as `out` asks, and copies the rest of it. */
void fwd_place_sums(struct fwd_args *a, const struct gconv_fwd_out *out, struct ops_ws ws);

#endif
