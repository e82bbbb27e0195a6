/* SPDX-License-Identifier: MIT
 * The backward kernel of the 16-tap convolutions: data gradient, weight gradient, or both in one reading of x and dy. See
 * gback.cu; instances are made there and in stem_back.cu.
 *
 * Rows of a launch: with the data gradient at stride 2, L = n_pairs rows a sample, row j standing for the two inputs
 * 2j - 7 and 2j - 6; otherwise the Lout rows of dy. Rows j >= Lout have no dy: zeros, so that the weights' gradients do not
 * see them. */
#ifndef KERNELS_CUDA_GCONV_BACK_CUH
#define KERNELS_CUDA_GCONV_BACK_CUH

#include "kernels/cuda/gconv_host.h"

#include "kernels/cuda/gconv_slab.cuh"
#include "kernels/cuda/row_sums.cuh"

enum { BACK_THREADS = 256, BACK_WARPS = 8, BACK_TAPS = GCONV_TAPS / BACK_WARPS };

enum back_kind {
    BACK_WEIGHTS,
    BACK_DATA, /* stride 2; stride 1 is FWD_DATA's */
    BACK_BOTH,
    BACK_STEM /* weights, all groups of the CTA reading one slab of 16 channels */
};

struct back_args {
    struct gconv_rows g;
    struct gconv_source x, dy;
    struct gconv_act act;
    const uint4 *packed; /* backward; unused for weights alone */
    uint16_t *dn;        /* (B, Lin, C) */
    float *weights;      /* (gridDim.y, C/16, tap, 16 co, 16 ci), partial sums */
    float *bias;         /* (gridDim.y, C) */
    const uint16_t
        *behind_y; /* as dy, or NULL: dy' = k[0]*dy + k[1]*(y - mean) + k[2] is the gradient at y */
    const float *behind_mean, *behind_k; /* (C), (3, C) */
    const float *mean;                   /* (C) of x where sums are wanted, or NULL */
    float2 *sums; /* (gridDim.y, C): of dn and of dn*(x - mean), partial sums */
    int C;        /* Cout */
    int n_stages; /* slabs in shared memory: 2 when there is room, so that the next tile comes while one is worked on */
};

/* What a kind at a stride needs. */
static constexpr __host__ __device__ bool back_has_data(int kind) {
    return kind == BACK_DATA || kind == BACK_BOTH;
}

/* CTAs of a multiprocessor, as far as registers allow. */
static constexpr __host__ __device__ int back_ctas_per_sm(int kind) {
    return kind == BACK_BOTH ? 1 : 2;
}

/* Halo of dy's slab. dx at l (the pair j) meets dy at l+7 .. l-8 (j .. j-7). */
static constexpr __host__ __device__ int back_halo(int step, int kind) {
    return !back_has_data(kind) ? 0 : step == 1 ? GCONV_TAPS - 1 : GCONV_TAPS / 2 - 1;
}

/* Slab rows from a row's first to the row's own dy. */
static constexpr __host__ __device__ int back_pad(int step, int kind) {
    return !back_has_data(kind) ? 0 : step == 1 ? GCONV_TAPS - 1 - GCONV_PAD : GCONV_TAPS / 2 - 1;
}

template <int STEP, int GROUPS, int KIND>
static constexpr __host__ __device__ int back_dy_bytes(struct gconv_rows g) {
    return gconv_slab_rows(g, 1, back_halo(STEP, KIND)) * gconv_pitch(GROUPS);
}

template <int STEP, int GROUPS, int KIND>
static constexpr __host__ __device__ int back_stage_bytes(struct gconv_rows g) {
    return back_dy_bytes<STEP, GROUPS, KIND>(g) +
           (KIND == BACK_DATA ? 0
                              : gconv_slab_rows(g, STEP, GCONV_TAPS - STEP) *
                                    gconv_pitch(KIND == BACK_STEM ? 1 : GROUPS));
}

/* Floats of a channel: the fold, and for both gradients what a normalisation behind needs. */
static constexpr __host__ __device__ int back_floats(int kind) {
    return kind == BACK_BOTH ? 6 : 2;
}

/* Shared memory before the stages: weights, those floats, a row of zeros. */
template <int GROUPS, int KIND> static constexpr __host__ __device__ int back_fixed_bytes(void) {
    return (back_has_data(KIND) ? GROUPS * GCONV_GROUP_BYTES : 0) +
           GROUPS * 16 * back_floats(KIND) * 4 + gconv_pitch(GROUPS);
}

/* Begins to copy a tile's slabs, dy's and behind it x's. */
template <int STEP, int GROUPS, int KIND>
DEVICE void back_copy(const struct back_args &a, int tile, int channel0, char *s_stage) {
    const struct gconv_tile t = gconv_tile_at(a.g, tile);
    char *const s_x = s_stage + back_dy_bytes<STEP, GROUPS, KIND>(a.g);

    gconv_copy<1, back_halo(STEP, KIND), GROUPS * 2, BACK_THREADS>(a.g, t, a.dy, channel0, s_stage);
    if (KIND == BACK_STEM)
        stem_copy<STEP, GCONV_TAPS - STEP, BACK_THREADS>(a.g, t, a.x, s_x);
    else if (KIND != BACK_DATA)
        gconv_copy<STEP, GCONV_TAPS - STEP, GROUPS * 2, BACK_THREADS>(a.g, t, a.x, channel0, s_x);
}

/* A normalisation behind: mean, k[0], k[1] and k[2] of the CTA's channels. */
template <int GROUPS>
DEVICE void back_load_behind(const struct back_args &a, int channel0, float *s_behind) {
    constexpr int WIDTH = GROUPS * 16;
    for (int i = (int)threadIdx.x; i < 4 * WIDTH; i += BACK_THREADS) {
        const int c = channel0 + i % WIDTH, which = i / WIDTH;
        s_behind[i] = which == 0 ? a.behind_mean[c] : a.behind_k[(which - 1) * a.C + c];
    }
}

/* dy' of channels c, c+1. */
DEVICE uint32_t back_behind_pair(const float *s_behind, int width, int c, uint32_t dy, uint32_t y) {
    const float d[2] = {lo_bf16(dy), hi_bf16(dy)}, h[2] = {lo_bf16(y), hi_bf16(y)};
    float v[2];
#pragma unroll
    for (int k = 0; k < 2; k++) {
        const float *s = s_behind + c + k;
        v[k] = s[width] * d[k] + s[2 * width] * (h[k] - s[0]) + s[3 * width];
    }
    return pack_bf16(v[0], v[1]);
}

/* The thread's own chunks of dy's slab become dy'; padding stays zero. Several loads of y are on their way at once. */
template <int STEP, int GROUPS, int KIND>
DEVICE void back_behind(const struct back_args &a, const struct gconv_tile &t, int channel0,
                        const float *s_behind, char *s_dy) {
    constexpr int AT_ONCE = 3, CHUNKS = GROUPS * 2, HALO = back_halo(STEP, KIND);
    const int n = gconv_n_chunks<1, HALO, CHUNKS>(t);

#pragma unroll 1
    for (int i = (int)threadIdx.x; i < n; i += AT_ONCE * BACK_THREADS) {
        uint4 y[AT_ONCE];
        int offset[AT_ONCE], channel[AT_ONCE];
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            const struct gconv_chunk at =
                gconv_chunk_at<1, HALO, CHUNKS>(a.g, t, a.dy, i + u * BACK_THREADS);
            offset[u] = i + u * BACK_THREADS < n && at.is_inside ? at.offset : -1;
            channel[u] = at.channel;
            if (offset[u] >= 0)
                y[u] = *(const uint4 *)(a.behind_y + at.row * a.C + channel0 + at.channel);
        }
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            if (offset[u] < 0) continue;
            uint4 *const p = (uint4 *)(s_dy + offset[u]);
            const int c = channel[u];
            uint4 v = *p;
            v.x = back_behind_pair(s_behind, GROUPS * 16, c, v.x, y[u].x);
            v.y = back_behind_pair(s_behind, GROUPS * 16, c + 2, v.y, y[u].y);
            v.z = back_behind_pair(s_behind, GROUPS * 16, c + 4, v.z, y[u].z);
            v.w = back_behind_pair(s_behind, GROUPS * 16, c + 6, v.w, y[u].w);
            *p = v;
        }
    }
}

/* Stores a warp's 16 rows of the data gradient: at stride 2 the inputs 2j - 7 + phase. `own`: what each lane has of the
 * normalisation's sums, row_sums of each group. */
template <int STEP, int GROUPS, int KIND>
DEVICE void back_store_data(const struct back_args &a, const struct gconv_tile &t, int channel0,
                            int phase, float acc[GROUPS][2][4], float own[GROUPS]) {
    const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
    const bool sums = KIND == BACK_BOTH && a.mean;
    size_t at[2];
    bool live[2];

#pragma unroll
    for (int e = 0; e < 2; e++) {
        const int r = warp * 16 + e * 8 + (lane >> 2), segment = gconv_segment(a.g, t, r);
        const int row = t.l0 + r - segment * a.g.L;
        const int l = STEP == 1 ? row : 2 * row + phase - GCONV_PAD;
        live[e] = r < t.n && l >= 0 && l < a.x.L;
        at[e] = ((size_t)(t.b0 + segment) * a.x.L + l) * a.C;
    }
#pragma unroll
    for (int j = 0; j < GROUPS; j++) {
        const int c = channel0 + j * 16 + (lane & 3) * 4;
        struct row_sums s = {{0, 0, 0, 0}, {0, 0, 0, 0}};
#pragma unroll
        for (int e = 0; e < 2; e++) {
            if (!live[e]) continue;
            float v[4] = {acc[j][0][2 * e], acc[j][0][2 * e + 1], acc[j][1][2 * e],
                          acc[j][1][2 * e + 1]},
                  x[4] = {0, 0, 0, 0};
            /* x itself: the slab holds act(x) */
            if (a.act.swish || sums) gconv_load(a.x.x + at[e] + c, x);
            if (a.act.swish) gconv_times_slope(a.act, x, c, v);
            gconv_store(a.dn + at[e] + c, v);
            if (sums) row_sums_add(&s, v, x, a.mean + c);
        }
        if (sums) own[j] += row_sums_over(s);
    }
}

/* The data gradient of a tile: each warp 16 rows, all groups of the CTA. */
template <int STEP, int GROUPS, int KIND>
DEVICE void back_data(const struct back_args &a, const struct gconv_tile &t, int channel0,
                      const char *s_weights, const char *s_dy, float own[GROUPS]) {
    constexpr int HALO = back_halo(STEP, KIND), PITCH = gconv_pitch(GROUPS);
    const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
    const uint4 *weights = (const uint4 *)s_weights + lane;
    const int r = min(warp * 16 + (lane & 15), t.n - 1);
    /* the slab row under tap 0, the last that this row meets */
    const char *row =
        s_dy + (r + HALO * gconv_segment(a.g, t, r) + HALO) * PITCH + (lane >> 4) * 16;

    if (warp * 16 >= t.n) return;
#pragma unroll 1
    for (int phase = 0; phase < STEP; phase++) {
        float acc[GROUPS][2][4] = {};
#pragma unroll 2
        for (int u = 0; u < GCONV_TAPS / STEP; u++) {
            const int tap = STEP * u + phase;
#pragma unroll
            for (int j = 0; j < GROUPS; j++) {
                const uint4 w = weights[(j * GCONV_TAPS + tap) * 32];
                uint32_t rows[4];
                ldsm4(rows, row - u * PITCH + j * 32);
                mma_bf16(acc[j][0], rows, w.x, w.y);
                mma_bf16(acc[j][1], rows, w.z, w.w);
            }
        }
        back_store_data<STEP, GROUPS, KIND>(a, t, channel0, phase, acc, own);
    }
}

/* The weights' gradients of a tile, on top of those before: the rows are mma's k, in steps of 16; a warp has 2 taps of all
 * groups, and warp j also the bias of group j, by a product with ones. Dead rows (past the tile's last) read zeros for dy and
 * some live row for x, whose product is 0 unless x is no number, and then that row spoils the sum anyway. */
template <int STEP, int GROUPS, int KIND>
DEVICE void back_weights(const struct back_args &a, const struct gconv_tile &t, const char *s_zero,
                         const char *s_dy, const char *s_x, float acc[GROUPS][BACK_TAPS][2][4],
                         float bias[4]) {
    constexpr int X_HALO = GCONV_TAPS - STEP, HALO = back_halo(STEP, KIND);
    constexpr int PITCH = gconv_pitch(GROUPS),
                  X_PITCH = gconv_pitch(KIND == BACK_STEM ? 1 : GROUPS);
    constexpr uint32_t ONES = 0x3f803f80u;
    const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;

#pragma unroll 1
    for (int m = 0; m < t.n; m += 16) {
        const int r = m + (lane & 7) + (lane >> 4) * 8, rx = min(m + (lane & 15), t.n - 1);
        const char *dy = s_zero;
        if (r < t.n)
            dy = s_dy + (r + HALO * gconv_segment(a.g, t, r) + back_pad(STEP, KIND)) * PITCH;
        dy += (lane >> 3 & 1) * 16;
        const char *x =
            s_x + (rx + X_HALO / STEP * gconv_segment(a.g, t, rx)) * X_PITCH + (lane >> 4) * 16;
        uint32_t b[BACK_TAPS][4];
#pragma unroll
        for (int j = 0; j < GROUPS; j++) {
            uint32_t dy_t[4]; /* transposed: rows are output channels */
            ldsm4t(dy_t, dy + j * 32);
            if (warp == j) mma_bf16(bias, dy_t, ONES, ONES);
#pragma unroll
            for (int k = 0; k < BACK_TAPS; k++) {
                const int at = gconv_tap<STEP, X_HALO, X_PITCH>(a.g, warp * BACK_TAPS + k);
                if (KIND != BACK_STEM || j == 0) ldsm4t(b[k], x + at + j * 32);
                mma_bf16(acc[j][k][0], dy_t, b[k][0], b[k][1]);
                mma_bf16(acc[j][k][1], dy_t, b[k][2], b[k][3]);
            }
        }
    }
}

/* A CTA's partial sums of the weights' gradients. */
template <int GROUPS>
DEVICE void back_store_weights(const struct back_args &a, const float acc[GROUPS][BACK_TAPS][2][4],
                               const float bias[4]) {
    const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5, row = lane >> 2;
    const size_t group0 = (size_t)blockIdx.y * (a.C / 16) + blockIdx.x * GROUPS;

#pragma unroll
    for (int j = 0; j < GROUPS; j++) {
        float *out = a.weights + ((group0 + j) * GCONV_TAPS + warp * BACK_TAPS) * 256;
        for (int k = 0; k < BACK_TAPS; k++)
            for (int half = 0; half < 2; half++)
                for (int e = 0; e < 2; e++) {
                    const int at = k * 256 + (row + 8 * e) * 16 + half * 8 + (lane & 3) * 2;
                    *(float2 *)(out + at) =
                        make_float2(acc[j][k][half][2 * e], acc[j][k][half][2 * e + 1]);
                }
        if (warp == j && (lane & 3) == 0) {
            a.bias[(group0 + j) * 16 + row] = bias[0];
            a.bias[(group0 + j) * 16 + row + 8] = bias[2];
        }
    }
}

/* A CTA's partial sums of the normalisation: the warps' in their order. */
template <int GROUPS>
DEVICE void back_store_sums(const struct back_args &a, int channel0, const float own[GROUPS],
                            float *s_own) {
    const int tid = (int)threadIdx.x, lane = tid & 31, warp = tid >> 5;

    for (int j = 0; j < GROUPS; j++) s_own[(warp * GROUPS + j) * 32 + lane] = own[j];
    __syncthreads();
    if (tid >= GROUPS * 32) return;
    const int c = channel0 + warp * 16 + (lane & 3) * 4 + row_sums_channel(lane); /* warp: group */
    float sum = 0;
    for (int w = 0; w < BACK_WARPS; w++) sum += s_own[w * GROUPS * 32 + tid];
    ((float *)(a.sums + (size_t)blockIdx.y * a.C + c))[row_sums_is_dot(lane)] = sum;
}

/* Grid: (C / 16 / GROUPS, splits), 256 threads. A CTA owns 16*GROUPS channels of every gridDim.y-th tile, and the split of
 * the weights' gradients that these tiles make. */
template <int STEP, int GROUPS, int KIND>
static __global__ void __launch_bounds__(BACK_THREADS, back_ctas_per_sm(KIND))
    gconv_back_kernel(struct back_args a) {
    constexpr bool HAS_DATA = back_has_data(KIND), HAS_WEIGHTS = KIND != BACK_DATA;
    DYN_SHARED(char, s_weights);
    float *const s_fold = (float *)(s_weights + (HAS_DATA ? GROUPS * GCONV_GROUP_BYTES : 0));
    float *const s_behind = s_fold + GROUPS * 16 * 2;
    char *const s_zero = (char *)(s_fold + GROUPS * 16 * back_floats(KIND));
    char *const s_stages = s_zero + gconv_pitch(GROUPS);
    const int stage_bytes = back_stage_bytes<STEP, GROUPS, KIND>(a.g);
    const int channel0 = (int)blockIdx.x * GROUPS * 16;
    float acc[HAS_WEIGHTS ? GROUPS : 1][BACK_TAPS][2][4] = {}, bias[4] = {};
    float own[HAS_DATA ? GROUPS : 1] = {};
    char *s_stage = s_stages;

    if (HAS_DATA)
        gconv_copy_weights(a.packed + (size_t)blockIdx.x * GROUPS * (GCONV_GROUP_BYTES / 16),
                           GROUPS, BACK_THREADS, s_weights);
    back_copy<STEP, GROUPS, KIND>(a, (int)blockIdx.y, channel0, s_stage);
    cp_commit();
    if (KIND == BACK_WEIGHTS || KIND == BACK_BOTH)
        gconv_load_fold(a.act, channel0, GROUPS * 16, BACK_THREADS, s_fold);
    if (KIND == BACK_BOTH && a.behind_y) back_load_behind<GROUPS>(a, channel0, s_behind);
    for (int i = (int)threadIdx.x; i < gconv_pitch(GROUPS) / 16; i += BACK_THREADS)
        ((uint4 *)s_zero)[i] = make_uint4(0, 0, 0, 0);
    __syncthreads();
    for (int tile = (int)blockIdx.y; tile < a.g.n_tiles; tile += (int)gridDim.y) {
        const struct gconv_tile t = gconv_tile_at(a.g, tile);
        const int next = tile + (int)gridDim.y;
        char *const s_x = s_stage + back_dy_bytes<STEP, GROUPS, KIND>(a.g);
        char *s_next = s_stage;
        if (a.n_stages == 2) {
            s_next = s_stage == s_stages ? s_stages + stage_bytes : s_stages;
            if (next < a.g.n_tiles) back_copy<STEP, GROUPS, KIND>(a, next, channel0, s_next);
            cp_commit();
            cp_wait<1>();
        } else {
            cp_wait<0>();
        }
        if (KIND == BACK_BOTH && a.behind_y)
            back_behind<STEP, GROUPS, KIND>(a, t, channel0, s_behind, s_stage);
        if (KIND == BACK_WEIGHTS || KIND == BACK_BOTH)
            gconv_activate<STEP, GCONV_TAPS - STEP, GROUPS * 2, BACK_THREADS>(a.g, t, a.x, a.act,
                                                                              s_fold, s_x);
        __syncthreads();
        if (HAS_DATA) back_data<STEP, GROUPS, KIND>(a, t, channel0, s_weights, s_stage, own);
        if (HAS_WEIGHTS) back_weights<STEP, GROUPS, KIND>(a, t, s_zero, s_stage, s_x, acc, bias);
        __syncthreads();
        if (a.n_stages == 1) {
            if (next < a.g.n_tiles) back_copy<STEP, GROUPS, KIND>(a, next, channel0, s_stage);
            cp_commit();
        }
        s_stage = s_next;
    }
    if (HAS_WEIGHTS) back_store_weights<GROUPS>(a, acc, bias);
    if (KIND == BACK_BOTH && a.mean) back_store_sums<GROUPS>(a, channel0, own, (float *)s_stages);
}

/* CTAs in a row over the tiles, which is also the number of splits of the weights' gradients. */
static inline int back_ctas(struct gconv_rows g, int C, int kind) {
    const int n_chunks = C / (16 * gconv_groups_per_cta(C / 16));
    return gconv_ctas(g.n_tiles, n_chunks, GCONV_SMS * back_ctas_per_sm(kind));
}

/* Launches an instance: a.g, its tensors and places are complete. Two stages for a kernel that has a multiprocessor to
 * itself, where the GPU has the room; two CTAs hide the copies of one behind the other's work. Results are the same. */
template <int STEP, int GROUPS, int KIND>
static enum ecg_status back_launch(const char *op, struct ops_conv s, struct back_args a,
                                   cudaStream_t stream) {
    const size_t fixed = back_fixed_bytes<GROUPS, KIND>();
    const size_t stage = back_stage_bytes<STEP, GROUPS, KIND>(a.g);
    a.n_stages = KIND == BACK_BOTH && fixed + 2 * stage <= gconv_max_shared() ? 2 : 1;
    const size_t shared = fixed + a.n_stages * stage;
    const dim3 grid((unsigned)(a.C / (16 * GROUPS)), (unsigned)back_ctas(a.g, a.C, KIND));

    TRY(gconv_allow_shared(op, s, (const void *)gconv_back_kernel<STEP, GROUPS, KIND>, shared));
    LAUNCH((gconv_back_kernel<STEP, GROUPS, KIND>), grid, BACK_THREADS, shared, stream, a);
    return gconv_check_launch(op, s);
}

/* The instance for the shape's number of groups. */
template <int STEP, int KIND>
static enum ecg_status back_launch_any(const char *op, struct ops_conv s, const struct back_args &a,
                                       cudaStream_t stream) {
    switch (gconv_groups_per_cta(a.C / 16)) {
    case 5:
        return back_launch<STEP, 5, KIND>(op, s, a, stream);
    case 4:
        return back_launch<STEP, 4, KIND>(op, s, a, stream);
    case 2:
        return back_launch<STEP, 2, KIND>(op, s, a, stream);
    default:
        return back_launch<STEP, 1, KIND>(op, s, a, stream);
    }
}

/* Bytes of the partial sums: weights, bias, and those of a normalisation. */
static inline size_t back_partial_bytes(int n_splits, int C) {
    return (size_t)n_splits * C * (GCONV_TAPS * 16 + 1 + 2) * sizeof(float);
}

/* dw +=, db += (or NULL) from the partial sums (gconv_sums.cu). */
enum ecg_status back_finish(const char *op, struct ops_conv s, int n_splits, const float *weights,
                            const float *bias, float *dw, float *db, cudaStream_t stream);

#endif
