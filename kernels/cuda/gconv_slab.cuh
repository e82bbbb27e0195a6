/* SPDX-License-Identifier: MIT
 * What the 16-tap convolution kernels share: the cut of a batch into tiles of rows, and the slab, the part of a source
 * tensor that a tile reads, in shared memory.
 *
 * ROWS. A row is one (b, l); the rows of all samples stand in one line, r = b*L + l, and a tile is 128 consecutive ones,
 * wherever samples begin. The part of a tile in one sample is a segment; segment 0 is the tile's first. Samples shorter
 * than 16 rows would make slabs of almost nothing but halo: there a tile is 8 whole samples.
 *
 * SLAB. A row of the convolution reads 16 source rows, one a tap, and neighbours share them. The slab holds each
 * segment's source rows once, the halo of `HALO` rows included, segment after segment:
 *
 *     row r of the tile (counted from its first), segment seg, tap t
 *     STEP 1: slab row r + HALO*seg + t
 *     STEP 2: plane t&1, row r + HALO/2*seg + (t>>1): source rows of even and of odd number lie in two planes, since in one
 *             a step of two rows would let ldmatrix meet the same shared memory banks twice
 *
 * Source rows outside the sample are zeros: padding. A slab row is CHUNKS chunks of 16 bytes (8 channels) and 16 bytes
 * more: with an odd number of chunks from row to row, 8 neighbouring rows lie in 8 different groups of banks.
 *
 * The thread that copies a chunk (cp.async) is also the one that puts it through the activation, in place: it may do so
 * after its own cp_wait, with no barrier. So gconv_copy and gconv_activate must cut chunks alike: both use gconv_chunk_at. */
#ifndef KERNELS_CUDA_GCONV_SLAB_CUH
#define KERNELS_CUDA_GCONV_SLAB_CUH

#include "kernels/cuda/compat.h"
#include "kernels/cuda/ptx.h"

#include "kernels/ops.h"

enum { GCONV_TAPS = 16, GCONV_TILE = 128, GCONV_PAD = 7 };
/* Packed weights of 16 output channels: 16 taps, 32 lanes, 16 bytes. */
enum { GCONV_GROUP_BYTES = GCONV_TAPS * 32 * 16 };

/* Bytes from slab row to slab row. */
static constexpr __host__ __device__ int gconv_pitch(int groups) {
    return groups * 32 + 16;
}

/* Divides small numbers by d: n / d is the upper half of n * gconv_per(d), exact while n * d < 2^32; the tile's rows of any
 * slab are fewer than 512, samples shorter than 2^22. */
static inline uint32_t gconv_per(uint32_t d) {
    return (uint32_t)((((uint64_t)1 << 32) + d - 1) / d);
}

/* d == 1 has no factor of 32 bits: 0 stands for it. */
DEVICE int gconv_divide(int n, uint32_t per) {
    return per == 0 ? n : (int)__umulhi((uint32_t)n, per);
}

/* The rows of a launch: B samples of L. */
struct gconv_rows {
    int L, n;       /* n = B*L */
    uint32_t per_L; /* gconv_per(L) */
    int tile;       /* rows of a tile: 128, or 8 samples */
    int per_warp;   /* a quarter of that: the rows of one of four warps; at most 3 samples */
    int n_tiles;
    int max_segments; /* of any tile */
};

static inline struct gconv_rows gconv_rows_of(int B, int L) {
    struct gconv_rows g;
    g.L = L;
    g.n = B * L;
    g.per_L = gconv_per((uint32_t)L);
    g.tile = L >= 16 ? GCONV_TILE : 8 * L;
    g.per_warp = g.tile / 4;
    g.n_tiles = (g.n - 1) / g.tile + 1;
    g.max_segments = g.tile % L == 0 ? g.tile / L : (g.tile - 2) / L + 2;
    return g;
}

/* Rows of the largest slab of a launch. */
static constexpr __host__ __device__ int gconv_slab_rows(struct gconv_rows g, int step, int halo) {
    return g.tile * step + g.max_segments * halo;
}

/* A tensor (.., L, C) that fills a slab. */
struct gconv_source {
    const uint16_t *x;
    int L, C;
    int pad;              /* slab row 0 of a whole sample is source row -pad */
    uint32_t per_segment; /* gconv_per(slab rows of a whole sample) */
};

static inline struct gconv_source gconv_source_of(const void *x, int L, int C, int pad,
                                                  struct gconv_rows g, int step, int halo) {
    const struct gconv_source src = {(const uint16_t *)x, L, C, pad,
                                     gconv_per((uint32_t)(g.L * step + halo))};
    return src;
}

/* One tile: n rows from row r0, which is row l0 of sample b0. */
struct gconv_tile {
    int r0, n, b0, l0, n_segments;
};

DEVICE struct gconv_tile gconv_tile_at(const struct gconv_rows &g, int tile) {
    struct gconv_tile t;
    t.r0 = tile * g.tile;
    t.n = min(g.tile, g.n - t.r0);
    t.b0 = t.r0 / g.L;
    t.l0 = t.r0 - t.b0 * g.L;
    t.n_segments = (t.l0 + t.n - 1) / g.L + 1;
    return t;
}

/* Segment of row r of the tile. */
DEVICE int gconv_segment(const struct gconv_rows &g, const struct gconv_tile &t, int r) {
    const int after = r - (g.L - t.l0); /* segment 0 */
    return after < 0 ? 0 : 1 + gconv_divide(after, g.per_L);
}

/* One chunk: its place in the slab, and where it comes from. */
struct gconv_chunk {
    int offset;     /* bytes into the slab */
    int channel;    /* its first one, counted from the slab's */
    bool is_inside; /* not padding */
    size_t row;     /* of the source, if inside */
};

template <int STEP, int HALO, int CHUNKS>
DEVICE struct gconv_chunk gconv_chunk_at(const struct gconv_rows &g, const struct gconv_tile &t,
                                         const struct gconv_source &src, int i) {
    struct gconv_chunk at;
    const int row = i / CHUNKS, chunk = i - row * CHUNKS;
    const int first = (g.L - t.l0) * STEP + HALO; /* slab rows of segment 0, were it whole */
    const int each = g.L * STEP + HALO;
    const int segment = row < first ? 0 : 1 + gconv_divide(row - first, src.per_segment);
    const int l = (segment == 0 ? row + t.l0 * STEP : row - first - (segment - 1) * each) - src.pad;
    const int place =
        STEP == 1 ? row : (row & 1) * (gconv_slab_rows(g, STEP, HALO) / 2) + (row >> 1);
    at.offset = place * (CHUNKS * 16 + 16) + chunk * 16;
    at.channel = chunk * 8;
    at.is_inside = l >= 0 && l < src.L;
    at.row = (size_t)(t.b0 + segment) * src.L + l;
    return at;
}

/* Chunks of the slab that a tile has. */
template <int STEP, int HALO, int CHUNKS> DEVICE int gconv_n_chunks(const struct gconv_tile &t) {
    return (t.n * STEP + t.n_segments * HALO) * CHUNKS;
}

/* Bytes from the slab row of tap 0 to that of tap t. */
template <int STEP, int HALO, int PITCH> DEVICE int gconv_tap(const struct gconv_rows &g, int t) {
    return STEP == 1 ? t * PITCH
                     : ((t & 1) * (gconv_slab_rows(g, STEP, HALO) / 2) + (t >> 1)) * PITCH;
}

/* Begins to copy the slab's channels [channel0, ..) by cp.async; the caller commits and waits. */
template <int STEP, int HALO, int CHUNKS, int THREADS>
DEVICE void gconv_copy(const struct gconv_rows &g, const struct gconv_tile &t,
                       const struct gconv_source &src, int channel0, char *slab) {
    const int n = gconv_n_chunks<STEP, HALO, CHUNKS>(t);

#pragma unroll 1
    for (int i = (int)threadIdx.x; i < n; i += THREADS) {
        const struct gconv_chunk at = gconv_chunk_at<STEP, HALO, CHUNKS>(g, t, src, i);
        const size_t from = at.is_inside ? at.row * src.C + channel0 + at.channel : 0;
        cp16(slab + at.offset, src.x + from, at.is_inside);
    }
}

/* The activation of a launch. scale and shift (C) or both NULL. */
struct gconv_act {
    const float *scale, *shift;
    int swish;
};

/* act of channels c, c+1, a pair of x; s_fold: the slab's scale, then its shift, `width` each. */
template <bool FOLD, bool SWISH>
DEVICE uint32_t gconv_act_pair(const float *s_fold, int width, int c, uint32_t pair) {
    float n[2] = {lo_bf16(pair), hi_bf16(pair)};

    if (FOLD) {
        n[0] = fmaf(n[0], s_fold[c], s_fold[width + c]);
        n[1] = fmaf(n[1], s_fold[c + 1], s_fold[width + c + 1]);
    }
    if (SWISH) n[0] = swish_fast(n[0]), n[1] = swish_fast(n[1]);
    return pack_bf16(n[0], n[1]);
}

template <int STEP, int HALO, int CHUNKS, int THREADS, bool FOLD, bool SWISH>
DEVICE void gconv_activate_as(const struct gconv_rows &g, const struct gconv_tile &t,
                              const struct gconv_source &src, const float *s_fold, char *slab) {
    const int n = gconv_n_chunks<STEP, HALO, CHUNKS>(t);

#pragma unroll 1
    for (int i = (int)threadIdx.x; i < n; i += THREADS) {
        const struct gconv_chunk at = gconv_chunk_at<STEP, HALO, CHUNKS>(g, t, src, i);
        if (!at.is_inside) continue;
        uint4 *p = (uint4 *)(slab + at.offset);
        uint4 v = *p;
        v.x = gconv_act_pair<FOLD, SWISH>(s_fold, CHUNKS * 8, at.channel, v.x);
        v.y = gconv_act_pair<FOLD, SWISH>(s_fold, CHUNKS * 8, at.channel + 2, v.y);
        v.z = gconv_act_pair<FOLD, SWISH>(s_fold, CHUNKS * 8, at.channel + 4, v.z);
        v.w = gconv_act_pair<FOLD, SWISH>(s_fold, CHUNKS * 8, at.channel + 6, v.w);
        *p = v;
    }
}

/* Puts the chunks that this thread copied through the activation; padding stays zero. */
template <int STEP, int HALO, int CHUNKS, int THREADS>
DEVICE void gconv_activate(const struct gconv_rows &g, const struct gconv_tile &t,
                           const struct gconv_source &src, const struct gconv_act &act,
                           const float *s_fold, char *slab) {
    if (act.scale && act.swish)
        gconv_activate_as<STEP, HALO, CHUNKS, THREADS, true, true>(g, t, src, s_fold, slab);
    else if (act.scale)
        gconv_activate_as<STEP, HALO, CHUNKS, THREADS, true, false>(g, t, src, s_fold, slab);
    else if (act.swish)
        gconv_activate_as<STEP, HALO, CHUNKS, THREADS, false, true>(g, t, src, s_fold, slab);
}

/* A CTA's part of the folded normalisation into shared memory; ready after the next barrier. */
DEVICE void gconv_load_fold(const struct gconv_act &act, int channel0, int width, int threads,
                            float *s_fold) {
    if (!act.scale) return;
    for (int i = (int)threadIdx.x; i < width; i += threads) {
        s_fold[i] = act.scale[channel0 + i];
        s_fold[width + i] = act.shift[channel0 + i];
    }
}

/* Begins to copy a CTA's packed weights, n groups of them. */
DEVICE void gconv_copy_weights(const uint4 *weights, int n_groups, int threads, char *s_weights) {
    for (int i = (int)threadIdx.x; i < n_groups * (GCONV_GROUP_BYTES / 16); i += threads)
        cp16(s_weights + (size_t)i * 16, weights + i, true);
}

/* Four channels of a row. */
DEVICE void gconv_load(const uint16_t *x, float v[4]) {
    const uint2 pairs = *(const uint2 *)x;
    v[0] = lo_bf16(pairs.x), v[1] = hi_bf16(pairs.x);
    v[2] = lo_bf16(pairs.y), v[3] = hi_bf16(pairs.y);
}

/* v[0..4) *= swish'(n) of four channels c .. c+3 of x. */
DEVICE void gconv_times_slope(const struct gconv_act &act, const float x[4], int c, float v[4]) {
    for (int k = 0; k < 4; k++) {
        const float n = act.scale ? fmaf(x[k], act.scale[c + k], act.shift[c + k]) : x[k];
        v[k] *= swish_slope_fast(n);
    }
}

/* Four channels of a row, rounded; v becomes what was stored. */
DEVICE void gconv_store(uint16_t *y, float v[4]) {
    const uint2 rounded = make_uint2(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]));
    *(uint2 *)y = rounded;
    v[0] = lo_bf16(rounded.x), v[1] = hi_bf16(rounded.x);
    v[2] = lo_bf16(rounded.y), v[3] = hi_bf16(rounded.y);
}

/* The stem's slab: rows of C = 1 .. 16 channels stand without gaps, so most are not aligned to 16 bytes; plain loads,
 * zeros for the channels that do not exist. 4 channels at once where rows allow it. */
DEVICE uint2 stem_load(const uint16_t *row, int C, int c) {
    uint2 v = make_uint2(0, 0);

    if (c >= C) return v;
    if (C % 4 == 0) return *(const uint2 *)(row + c);
    v.x = row[c];
    if (c + 1 < C) v.x |= (uint32_t)row[c + 1] << 16;
    if (c + 2 < C) v.y = row[c + 2];
    if (c + 3 < C) v.y |= (uint32_t)row[c + 3] << 16;
    return v;
}

template <int STEP, int HALO, int THREADS>
DEVICE void stem_copy(const struct gconv_rows &g, const struct gconv_tile &t,
                      const struct gconv_source &src, char *slab) {
    const int n = gconv_n_chunks<STEP, HALO, 2>(t);

    for (int i = (int)threadIdx.x; i < n; i += THREADS) {
        const struct gconv_chunk at = gconv_chunk_at<STEP, HALO, 2>(g, t, src, i);
        uint2 a = make_uint2(0, 0), b = make_uint2(0, 0);
        if (at.is_inside) {
            const uint16_t *row = src.x + at.row * src.C;
            a = stem_load(row, src.C, at.channel);
            b = stem_load(row, src.C, at.channel + 4);
        }
        *(uint4 *)(slab + at.offset) = make_uint4(a.x, a.y, b.x, b.y);
    }
}

#endif
