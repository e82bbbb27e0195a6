/* SPDX-License-Identifier: MIT
 * Parts of the tensor-core 1x1 convolutions: a tile's constants, copies of rows into shared memory, what is done to a
 * chunk between the copy and the products, the products.
 *
 * A row is one position (b, l) of the flattened B*L, a chunk 16 bytes = 8 channels of one row. Slabs in shared memory have
 * a pitch of an odd number of chunks, so that the 8 rows an ldmatrix reads lie in 8 different groups of banks.
 * The thread that copies a chunk (cp.async) also transforms it, after its own wait and before the barrier that shows it to
 * the others: every loop over a slab's chunks here therefore shares them out in the same way (gemm_share).
 *
 * Fragments, lane = 4*g + q: results c0, c1 are row g, columns 2q, 2q+1 of an n8 tile, c2, c3 row g+8. Rows of W are placed
 * so (gemm_w_row) that the two n8 tiles of a pair give a lane 4 neighbouring channels: 8 bytes a store, a quad of lanes one
 * whole sector of 32 bytes. */
#ifndef KERNELS_CUDA_GEMM_TILE_CUH
#define KERNELS_CUDA_GEMM_TILE_CUH

#include "kernels/cuda/compat.h"
#include "kernels/cuda/gemm_internal.h"
#include "kernels/cuda/ptx.h"

/* BM x BN results a block, in slices of BK along the sum, ST slices in flight, WM x WN warps; RES: the block's BN rows of W
 * stay in shared memory, else their slices ride in the ring; CTAS: blocks that share an SM. */
template <int BM_, int BN_, int BK_, int ST_, int WM_, int WN_, int RES_, int CTAS_>
struct gemm_tile {
    static constexpr int BM = BM_, BN = BN_, BK = BK_, ST = ST_, WM = WM_, WN = WN_, RES = RES_;
    static constexpr int CTAS = CTAS_, THREADS = WM * WN * 32;
    static constexpr int MT = BM / WM / 16, NT = BN / WN / 8;
    static constexpr int PITCH = BK * 2 + 16;
    static constexpr int A_BYTES = BM * PITCH, STAGE = A_BYTES + (RES ? 0 : BN * PITCH);
    static constexpr bool AHEAD = ST >= 3 && THREADS <= 256; /* more warps have too few registers */
    static constexpr int DEEP = THREADS * CTAS > 256 ? 1 : 2;
    static constexpr int PIPE = THREADS * CTAS <= 256;
    static_assert(MT * WM * 16 == BM && NT * WN * 8 == BN, "warps cover the tile");
    static_assert(MT % 2 == 0, "a warp's rows are whole units of GEMM_UNIT");
    static_assert(BK % 16 == 0 && ST >= 2, "slices are whole k-steps, one is in flight");
};

/* With three slices or more, a thread transforms its chunks of the next slice while others multiply the present one. Of
 * the warps that share a quarter of an SM (0, 4, 8 ..), half do it before their products and half behind: the quarter then has
 * both kinds of work at any time. */
DEVICE bool gemm_goes_ahead(int warp) {
    return warp & 4;
}

/* Bytes between rows of a resident W. */
static __host__ __device__ inline int gemm_w_pitch(int K, int BK) {
    return (K + BK - 1) / BK * BK * 2 + 16;
}

/* The row of W that row r of a tile's shared memory holds: in each 16 rows of a warp's share, n8 tile j, column c is
 * channel 4*(c >> 1) + 2*j + (c & 1). An odd last n8 tile is in its own order. */
template <int NT> DEVICE int gemm_w_row(int r) {
    const int in = r % (NT * 8), j = in >> 3 & 1, c = in & 7;
    if (in >= NT / 2 * 16) return r;
    return r - (in & 15) + 4 * (c >> 1) + 2 * j + (c & 1);
}

/* How threads share ROWS x CHUNKS chunks: a thread keeps its column, so that what belongs to a channel is read once, and
 * its rows are LANES apart; the threads beyond whole rows have none. */
template <int ROWS, int CHUNKS, int THREADS> struct gemm_share {
    static constexpr int LANES = THREADS / CHUNKS, SWEEPS = (ROWS + LANES - 1) / LANES;
    static_assert(LANES >= 1, "a row has no more chunks than there are threads");

    /* The thread's first row; ROWS: none. */
    DEVICE int row() {
        const int r = (int)threadIdx.x / CHUNKS;
        return LANES * CHUNKS < THREADS && r >= LANES ? ROWS : r;
    }
    DEVICE int chunk() {
        return (int)threadIdx.x % CHUNKS;
    }
};

/* ROWS x CHUNKS chunks from a row-major matrix of `stride` channels a row; zeros beyond `rows` and `chunks`. */
template <int ROWS, int CHUNKS, int THREADS>
DEVICE void gemm_copy(char *to, const uint16_t *from, int stride, int rows, int chunks) {
    typedef gemm_share<ROWS, CHUNKS, THREADS> share;
    const int row = share::row(), chunk = share::chunk();
#pragma unroll 1
    for (int i = 0; i < share::SWEEPS; i++) {
        const int r = row + i * share::LANES;
        if (r >= ROWS) break;
        const bool ok = r < rows && chunk < chunks;
        cp16(to + r * (CHUNKS * 16 + 16) + chunk * 16,
             ok ? from + (size_t)r * stride + chunk * 8 : from, ok);
    }
}

/* A slice of the tile's W, BN rows of `pitch` bytes, rows in gemm_w_row's order. */
template <int BN, int CHUNKS, int NT, int THREADS>
DEVICE void gemm_copy_w(char *to, int pitch, const uint16_t *from, int stride, int rows,
                        int chunks) {
    typedef gemm_share<BN, CHUNKS, THREADS> share;
    const int row = share::row(), chunk = share::chunk();
#pragma unroll 1
    for (int i = 0; i < share::SWEEPS; i++) {
        const int r = row + i * share::LANES, n = gemm_w_row<NT>(r);
        if (r >= BN) break;
        const bool ok = n < rows && chunk < chunks;
        cp16(to + r * pitch + chunk * 16, ok ? from + (size_t)n * stride + chunk * 8 : from, ok);
    }
}

DEVICE void gemm_unpack(float v[8], uint4 u) {
    const uint32_t w[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
    for (int i = 0; i < 4; i++) v[2 * i] = lo_bf16(w[i]), v[2 * i + 1] = hi_bf16(w[i]);
}

DEVICE uint4 gemm_pack8(const float v[8]) {
    uint4 u;
    u.x = pack_bf16(v[0], v[1]), u.y = pack_bf16(v[2], v[3]);
    u.z = pack_bf16(v[4], v[5]), u.w = pack_bf16(v[6], v[7]);
    return u;
}

/* In place on the thread's own chunks of a slab: act(x). k: the slab's first channel. Chunks beyond `rows` and `chunks`
 * stay zero. DEEP: rows at a time, as the registers allow. */
template <int ROWS, int CHUNKS, int THREADS, int DEEP>
DEVICE void gemm_act(char *slab, struct gemm_norm act, int k, int rows, int chunks) {
    typedef gemm_share<ROWS, CHUNKS, THREADS> share;
    const int row = share::row(), chunk = share::chunk();
    if ((!act.scale && !act.swish) || chunk >= chunks) return;
#pragma unroll
    for (int h = 0; h < 8; h += 4) { /* 4 channels at a time: the registers are few */
        float4 scale = make_float4(1, 1, 1, 1), shift = make_float4(0, 0, 0, 0);
        if (act.scale) {
            scale = *(const float4 *)(act.scale + k + chunk * 8 + h);
            shift = *(const float4 *)(act.shift + k + chunk * 8 + h);
        }
#pragma unroll DEEP
        for (int i = 0; i < share::SWEEPS; i++) {
            const int r = row + i * share::LANES;
            if (r >= ROWS || r >= rows) break;
            uint2 *to = (uint2 *)(slab + r * (CHUNKS * 16 + 16) + chunk * 16 + h * 2);
            float v[4] = {lo_bf16(to->x) * scale.x + shift.x, hi_bf16(to->x) * scale.y + shift.y,
                          lo_bf16(to->y) * scale.z + shift.z, hi_bf16(to->y) * scale.w + shift.w};
            if (act.swish) {
#pragma unroll
                for (int j = 0; j < 4; j++) v[j] = swish_fast(v[j]);
            }
            *to = make_uint2(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]));
        }
    }
}

/* In place on the thread's own chunks of a slab of dy that begins at row m, channel k. */
template <int ROWS, int CHUNKS, int THREADS, int DEEP>
DEVICE void gemm_branch(char *slab, struct gemm_gate g, int m, int k, int rows, int chunks) {
    typedef gemm_share<ROWS, CHUNKS, THREADS> share;
    const int row = share::row(), chunk = share::chunk();
    if (!g.gate || chunk >= chunks) return;
    const float f = 1.0f / (float)g.L;
    int b = (m + row) / g.L, l = m + row - b * g.L;
#pragma unroll(DEEP + 1) / 2
    for (int i = 0; i < share::SWEEPS; i++) {
        const int r = row + i * share::LANES;
        if (r >= ROWS || r >= rows) break;
        uint4 *to = (uint4 *)(slab + r * (CHUNKS * 16 + 16) + chunk * 16);
        const size_t o = (size_t)b * g.C + k + chunk * 8;
        float v[8];
        gemm_unpack(v, *to);
#pragma unroll
        for (int h = 0; h < 8; h += 4) {
            const float4 s = *(const float4 *)(g.gate + o + h), t = *(const float4 *)(g.dm + o + h);
            v[h] = v[h] * s.x + t.x * f, v[h + 1] = v[h + 1] * s.y + t.y * f;
            v[h + 2] = v[h + 2] * s.z + t.z * f, v[h + 3] = v[h + 3] * s.w + t.w * f;
        }
        *to = gemm_pack8(v);
        for (l += share::LANES; l >= g.L; l -= g.L) b++;
    }
}

/* What a thread's own chunks of a slab need of y, on its way from memory while the slab before is worked on. */
template <int ROWS, int CHUNKS, int THREADS> struct gemm_held {
    typedef gemm_share<ROWS, CHUNKS, THREADS> share;
    uint4 y[share::SWEEPS];

    __device__ __forceinline__ void load(const uint16_t *from, int stride, int rows, int chunks) {
        const int row = share::row(), chunk = share::chunk();
#pragma unroll
        for (int i = 0; i < share::SWEEPS; i++) {
            const int r = row + i * share::LANES;
            if (r < rows && chunk < chunks && r < ROWS)
                y[i] = *(const uint4 *)(from + (size_t)r * stride + chunk * 8);
        }
    }

    /* In place on the thread's own chunks of a slab of dy: dy'. */
    __device__ __forceinline__ void take(char *slab, struct gemm_behind b, int C, int rows,
                                         int chunks) const {
        const int row = share::row(), chunk = share::chunk(), c = chunk * 8;
        if (chunk >= chunks) return;
#pragma unroll
        for (int i = 0; i < share::SWEEPS; i++) {
            const int r = row + i * share::LANES;
            if (r >= rows || r >= ROWS) continue;
            uint4 *at = (uint4 *)(slab + r * (CHUNKS * 16 + 16) + chunk * 16);
            float v[8], h[8];
            gemm_unpack(v, *at);
            gemm_unpack(h, y[i]);
#pragma unroll
            for (int k = 0; k < 8; k++)
                v[k] = v[k] * b.k[c + k] + b.k[2 * C + c + k] +
                       b.k[C + c + k] * (h[k] - b.mean[c + k]);
            *at = gemm_pack8(v);
        }
    }
};

template <int MT, int NT> DEVICE void gemm_zero(float (&acc)[MT][NT][4]) {
#pragma unroll
    for (int m = 0; m < MT; m++) {
#pragma unroll
        for (int n = 0; n < NT; n++) {
#pragma unroll
            for (int k = 0; k < 4; k++) acc[m][n][k] = 0;
        }
    }
}

/* The fragments that gemm_products and gemm_outer multiply: `load_b` fetches those of k-step k, `load_a` of row m of it. PIPE:
 * the next ones are on their way while the present ones are multiplied; that takes 2*NT + 6 registers more. */
template <int STEPS, int PIPE, int MT, int NT, class LoadA, class LoadB, class Multiply>
DEVICE void gemm_steps(const LoadA &load_a, const LoadB &load_b, const Multiply &multiply) {
    uint32_t a[PIPE + 1][4], b[PIPE + 1][NT + 1][2];
    if constexpr (PIPE) {
        load_b(b[0], 0);
        load_a(a[0], 0, 0);
#pragma unroll
        for (int i = 0; i < STEPS * MT; i++) {
            const int k = i / MT, m = i % MT;
            if (m == 0 && k + 1 < STEPS) load_b(b[(k + 1) & 1], k + 1);
            if (i + 1 < STEPS * MT) load_a(a[(i + 1) & 1], (i + 1) / MT, (i + 1) % MT);
            multiply(m, a[i & 1], b[k & 1]);
        }
    } else {
#pragma unroll 1
        for (int k = 0; k < STEPS; k++) {
            load_b(b[0], k);
#pragma unroll
            for (int m = 0; m < MT; m++) {
                load_a(a[0], k, m);
                multiply(m, a[0], b[0]);
            }
        }
    }
}

/* acc += rows of A times rows of W over STEPS k-steps; both [row][channel], at the warp's first rows. */
template <int STEPS, int PIPE, int MT, int NT>
DEVICE void gemm_products(float (&acc)[MT][NT][4], const char *a, int a_pitch, const char *w,
                          int w_pitch) {
    const int lane = (int)threadIdx.x & 31;
    const char *ap = a + (lane & 15) * a_pitch + (lane >> 4) * 16;
    const char *wp = w + ((lane & 7) + (lane >> 4) * 8) * w_pitch + (lane >> 3 & 1) * 16;
    const char *wl = w + ((lane & 7) + NT / 2 * 16) * w_pitch + (lane >> 3 & 1) * 16;
    gemm_steps<STEPS, PIPE, MT, NT>(
        [&](uint32_t(&x)[4], int k, int m) { ldsm4(x, ap + m * 16 * a_pitch + k * 32); },
        [&](uint32_t(&b)[NT + 1][2], int k) {
#pragma unroll
            for (int p = 0; p < NT / 2; p++) {
                uint32_t t[4];
                ldsm4(t, wp + p * 16 * w_pitch + k * 32);
                b[2 * p][0] = t[0], b[2 * p][1] = t[1];
                b[2 * p + 1][0] = t[2], b[2 * p + 1][1] = t[3];
            }
            if (NT & 1) ldsm2(b[NT - 1], wl + k * 32);
        },
        [&](int m, const uint32_t(&x)[4], const uint32_t(&b)[NT + 1][2]) {
#pragma unroll
            for (int n = 0; n < NT; n++) mma_bf16(acc[m][n], x, b[n][0], b[n][1]);
        });
}

/* acc += G^T X over STEPS k-steps of 16 positions; g, x [position][channel] at the warp's first channels. BIAS: `sums` is
 * the column sums of G, by products with ones (column 0 of an n8 tile; all columns are alike). */
template <int STEPS, int PIPE, int MT, int NT>
DEVICE void gemm_outer(float (&acc)[MT][NT][4], float (&sums)[MT][4], bool bias, const char *g,
                       int g_pitch, const char *x, int x_pitch) {
    const int lane = (int)threadIdx.x & 31;
    const uint32_t ones = 0x3f803f80u;
    const char *gp = g + ((lane & 7) + (lane >> 4) * 8) * g_pitch + (lane >> 3 & 1) * 16;
    const char *xp = x + (lane & 15) * x_pitch + (lane >> 4) * 16;
    const char *xl = x + (lane & 15) * x_pitch + NT / 2 * 32;
    gemm_steps<STEPS, PIPE, MT, NT>(
        [&](uint32_t(&a)[4], int k, int m) { ldsm4t(a, gp + k * 16 * g_pitch + m * 32); },
        [&](uint32_t(&b)[NT + 1][2], int k) {
#pragma unroll
            for (int p = 0; p < (NT + 1) / 2; p++) {
                uint32_t t[4];
                ldsm4t(t, (2 * p + 1 < NT ? xp + p * 32 : xl) + k * 16 * x_pitch);
                b[2 * p][0] = t[0], b[2 * p][1] = t[1];
                b[2 * p + 1 < NT ? 2 * p + 1 : NT][0] = t[2];
                b[2 * p + 1 < NT ? 2 * p + 1 : NT][1] = t[3];
            }
        },
        [&](int m, const uint32_t(&a)[4], const uint32_t(&b)[NT + 1][2]) {
            if (bias) mma_bf16(sums[m], a, ones, ones);
#pragma unroll
            for (int n = 0; n < NT; n++) mma_bf16(acc[m][n], a, b[n][0], b[n][1]);
        });
}

#endif
