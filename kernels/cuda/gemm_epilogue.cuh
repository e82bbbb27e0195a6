/* SPDX-License-Identifier: MIT
 * What happens to a warp's results between the products and memory. All of it works on the accumulators in place: they
 * become the values as rounded and stored, so that sums over them match what the next kernel reads.
 *
 * A warp owns MT*16 rows and NT*8 columns. Lane 4*g + q has rows e*8 + g of each 16 (e = 0, 1), and of each pair p of n8
 * tiles 4 neighbouring columns from 16*p + 4*q; of an odd last n8 tile 2, from 16*p + 2*q. */
#ifndef KERNELS_CUDA_GEMM_EPILOGUE_CUH
#define KERNELS_CUDA_GEMM_EPILOGUE_CUH

#include "kernels/cuda/gemm_tile.cuh"
#include "kernels/cuda/row_sums.cuh"

/* Where a warp's results lie in the (M, N) matrix. */
struct gemm_place {
    int row, col; /* of the warp's first result */
    int M, N;
};

/* Where pair p of a lane begins, and of how many columns it is. */
template <int NT> DEVICE int gemm_width(int p) {
    return 2 * p + 1 < NT ? 4 : 2;
}

template <int NT> DEVICE int gemm_col(struct gemm_place at, int p) {
    return at.col + p * 16 + ((int)threadIdx.x & 3) * gemm_width<NT>(p);
}

DEVICE int gemm_row(struct gemm_place at, int m, int e) {
    return at.row + m * 16 + e * 8 + ((int)threadIdx.x >> 2 & 7);
}

/* The k-th value of pair p, row e of m. */
#define GEMM_AT(acc, NT, m, p, e, k)                                                               \
    acc[m][2 * (p) + ((k) >> 1) < (NT) ? 2 * (p) + ((k) >> 1) : (NT)-1][2 * (e) + ((k)&1)]

/* Four (width 2: two) bf16 or float. */
DEVICE void gemm_load(float v[4], const uint16_t *from, int width) {
    if (width == 4) {
        const uint2 u = *(const uint2 *)from;
        v[0] = lo_bf16(u.x), v[1] = hi_bf16(u.x), v[2] = lo_bf16(u.y), v[3] = hi_bf16(u.y);
    } else {
        const uint32_t u = *(const uint32_t *)from;
        v[0] = lo_bf16(u), v[1] = hi_bf16(u), v[2] = v[3] = 0;
    }
}

DEVICE void gemm_load_f(float v[4], const float *from, int width) {
    const float2 a = *(const float2 *)from;
    v[0] = a.x, v[1] = a.y, v[2] = v[3] = 0;
    if (width == 4) {
        const float2 b = *(const float2 *)(from + 2);
        v[2] = b.x, v[3] = b.y;
    }
}

/* Rounds v in place, and stores it where `live`. */
DEVICE void gemm_store(uint16_t *to, float v[4], int width, bool live) {
    uint2 u;
    u.x = pack_bf16(v[0], v[1]), u.y = pack_bf16(v[2], v[3]);
    v[0] = lo_bf16(u.x), v[1] = hi_bf16(u.x), v[2] = lo_bf16(u.y), v[3] = hi_bf16(u.y);
    if (!live) return;
    if (width == 4)
        *(uint2 *)to = u;
    else
        *(uint32_t *)to = u.x;
}

/* y = round(acc + bias) */
template <int MT, int NT>
DEVICE void gemm_store_y(float (&acc)[MT][NT][4], struct gemm_place at, const float *bias,
                         uint16_t *y) {
#pragma unroll
    for (int p = 0; p < (NT + 1) / 2; p++) {
        const int c = gemm_col<NT>(at, p), width = gemm_width<NT>(p);
        float b[4] = {0, 0, 0, 0};
        if (bias && c < at.N) gemm_load_f(b, bias + c, width);
#pragma unroll
        for (int m = 0; m < MT; m++) {
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int row = gemm_row(at, m, e);
                float v[4];
#pragma unroll
                for (int k = 0; k < 4; k++) v[k] = GEMM_AT(acc, NT, m, p, e, k) + b[k];
                gemm_store(y + (size_t)row * at.N + c, v, width, row < at.M && c < at.N);
#pragma unroll
                for (int k = 0; k < width; k++) GEMM_AT(acc, NT, m, p, e, k) = v[k];
            }
        }
    }
}

/* out = gate(b, c) * h + shortcut(x), h being the results as stored. gate NULL: 1. */
template <int MT, int NT>
DEVICE void gemm_store_tail(float (&acc)[MT][NT][4], struct gemm_place at, struct gemm_side s,
                            const float *gate, uint16_t *out) {
    const int pad = (s.C - s.Ci) / 2;
#pragma unroll
    for (int m = 0; m < MT; m++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int row = gemm_row(at, m, e);
            if (row >= at.M) continue;
            const int b = row / s.L, l = (row - b * s.L) * s.S;
            const uint16_t *x = s.x + ((size_t)b * s.Li + l) * s.Ci;
#pragma unroll
            for (int p = 0; p < (NT + 1) / 2; p++) {
                const int c = gemm_col<NT>(at, p), width = gemm_width<NT>(p);
                if (c >= at.N) continue;
                float v[4], g[4] = {1, 1, 1, 1}, first[4] = {0, 0, 0, 0}, next[4] = {0, 0, 0, 0};
                if (gate) gemm_load_f(g, gate + (size_t)b * s.C + c, width);
                if (c >= pad && c < pad + s.Ci) {
                    gemm_load(first, x + c - pad, width);
                    if (s.S == 2 && l + 1 < s.Li) gemm_load(next, x + s.Ci + c - pad, width);
                    if (s.S == 2) {
#pragma unroll
                        for (int k = 0; k < 4; k++) {
                            if (next[k] > first[k]) first[k] = next[k];
                        }
                    }
                }
#pragma unroll
                for (int k = 0; k < 4; k++) v[k] = g[k] * GEMM_AT(acc, NT, m, p, e, k) + first[k];
                gemm_store(out + (size_t)row * at.N + c, v, width, true);
            }
        }
    }
}

/* acc *= d act / dn at x: the gradient at n = x*scale + shift. x (M, N). */
template <int MT, int NT>
DEVICE void gemm_slope(float (&acc)[MT][NT][4], struct gemm_place at, struct gemm_norm act,
                       const uint16_t *x) {
    if (!act.swish) return;
#pragma unroll
    for (int p = 0; p < (NT + 1) / 2; p++) {
        const int c = gemm_col<NT>(at, p), width = gemm_width<NT>(p);
        float s[4] = {1, 1, 1, 1}, t[4] = {0, 0, 0, 0};
        if (c >= at.N) continue;
        if (act.scale) {
            gemm_load_f(s, act.scale + c, width);
            gemm_load_f(t, act.shift + c, width);
        }
#pragma unroll
        for (int m = 0; m < MT; m++) {
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int row = gemm_row(at, m, e);
                if (row >= at.M) continue;
                float v[4];
                gemm_load(v, x + (size_t)row * at.N + c, width);
#pragma unroll
                for (int k = 0; k < width; k++)
                    GEMM_AT(acc, NT, m, p, e, k) *= swish_slope_fast(v[k] * s[k] + t[k]);
            }
        }
    }
}

/* dn = round(acc * d act / dn at x), and over each unit of GEMM_UNIT rows the sums of dn and of dn*(x - mean):
 * part[unit][column]. */
template <int MT, int NT>
DEVICE void gemm_store_dn(float (&acc)[MT][NT][4], struct gemm_place at, struct gemm_norm act,
                          const uint16_t *x, const float *mean, uint16_t *dn, float2 *part) {
    const int lane = (int)threadIdx.x & 31, own = row_sums_channel(lane);
#pragma unroll
    for (int p = 0; p < (NT + 1) / 2; p++) {
        const int c = gemm_col<NT>(at, p), width = gemm_width<NT>(p);
        float s[4] = {1, 1, 1, 1}, t[4] = {0, 0, 0, 0}, mu[4] = {0, 0, 0, 0};
        if (c < at.N) gemm_load_f(mu, mean + c, width);
        if (c < at.N && act.scale) {
            gemm_load_f(s, act.scale + c, width);
            gemm_load_f(t, act.shift + c, width);
        }
#pragma unroll
        for (int u = 0; u < MT / 2; u++) {
            const int first = at.row + u * GEMM_UNIT;
            if (first >= at.M) break;
            struct row_sums sums = {{0, 0, 0, 0}, {0, 0, 0, 0}};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int m = 2 * u + (i >> 1), e = i & 1, row = gemm_row(at, m, e);
                float v[4], d[4];
                if (row >= at.M || c >= at.N) continue;
                gemm_load(v, x + (size_t)row * at.N + c, width);
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    d[k] = GEMM_AT(acc, NT, m, p, e, k);
                    if (act.swish) d[k] *= swish_slope_fast(v[k] * s[k] + t[k]);
                }
                gemm_store(dn + (size_t)row * at.N + c, d, width, true);
                row_sums_add(&sums, d, v, mu);
            }
            const float sum = row_sums_over(sums);
            if (c < at.N && own < width)
                ((float *)(part + (size_t)(first / GEMM_UNIT) * at.N + c +
                           own))[row_sums_is_dot(lane)] = sum;
        }
    }
}

/* acc += shortcut_bwd(x, dy); x (M, N) is what the shortcut read, N = Ci. */
template <int MT, int NT>
DEVICE void gemm_add_side(float (&acc)[MT][NT][4], struct gemm_place at, struct gemm_side_grad s,
                          const uint16_t *x) {
    const int pad = (s.C - s.Ci) / 2;
#pragma unroll
    for (int m = 0; m < MT; m++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int row = gemm_row(at, m, e);
            if (row >= at.M) continue;
            const int b = row / s.Li, l = row - b * s.Li, odd = s.S == 2 ? l & 1 : 0;
            const uint16_t *dy = s.dy + ((size_t)b * s.L + (s.S == 2 ? l >> 1 : l)) * s.C + pad;
            const uint16_t *own = x + (size_t)row * at.N;
            const int other = odd ? -at.N : at.N;
#pragma unroll
            for (int p = 0; p < (NT + 1) / 2; p++) {
                const int c = gemm_col<NT>(at, p), width = gemm_width<NT>(p);
                if (c >= at.N) continue;
                float d[4], v[4], w[4] = {0, 0, 0, 0};
                gemm_load(d, dy + c, width);
                if (s.S == 2) {
                    gemm_load(v, own + c, width);
                    if (odd || l + 1 < s.Li) gemm_load(w, own + other + c, width);
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        if (odd ? !(v[k] > w[k]) : w[k] > v[k]) d[k] = 0;
                    }
                }
#pragma unroll
                for (int k = 0; k < width; k++) GEMM_AT(acc, NT, m, p, e, k) += d[k];
            }
        }
    }
}

/* Over the lanes that share q. */
DEVICE float gemm_over_rows(float v) {
#pragma unroll
    for (int o = 4; o < 32; o <<= 1) v += __shfl_xor_sync(~0u, v, o);
    return v;
}

/* Sums of 4 values over the lanes that share q: each lane ends with one, number gemm_own(lane), lanes 0..3 and 4..7 of
 * eight with the same. Halving what is kept at each step takes 4 exchanges where 4 whole sums would take 12. */
DEVICE int gemm_own(int lane) {
    return lane >> 3 & 3;
}

DEVICE double gemm_over_rows4(const double v[4]) {
    const int own = gemm_own((int)threadIdx.x & 31);
    const bool upper = own & 2, odd = own & 1;
    const double a = (upper ? v[2] : v[0]) + __shfl_xor_sync(~0u, upper ? v[0] : v[2], 16);
    const double b = (upper ? v[3] : v[1]) + __shfl_xor_sync(~0u, upper ? v[1] : v[3], 16);
    const double c = (odd ? b : a) + __shfl_xor_sync(~0u, odd ? a : b, 8);
    return c + __shfl_xor_sync(~0u, c, 4);
}

/* Mean and sum of squared deviations of each column over each unit of GEMM_UNIT rows: part[unit][column]. */
template <int MT, int NT>
DEVICE void gemm_unit_stats(const float (&acc)[MT][NT][4], struct gemm_place at, float2 *part) {
    const bool writes = ((int)threadIdx.x & 31) < 4;
#pragma unroll
    for (int u = 0; u < MT / 2; u++) {
        const int first = at.row + u * GEMM_UNIT;
        if (first >= at.M) break;
        const float n = (float)(at.M - first < GEMM_UNIT ? at.M - first : GEMM_UNIT);
#pragma unroll
        for (int p = 0; p < (NT + 1) / 2; p++) {
            const int c = gemm_col<NT>(at, p), width = gemm_width<NT>(p);
#pragma unroll
            for (int k = 0; k < width; k++) {
                float s = 0, d = 0;
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int m = 2 * u + (i >> 1), e = i & 1;
                    if (gemm_row(at, m, e) < at.M) s += GEMM_AT(acc, NT, m, p, e, k);
                }
                const float mean = gemm_over_rows(s) / n;
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int m = 2 * u + (i >> 1), e = i & 1;
                    const float v = GEMM_AT(acc, NT, m, p, e, k) - mean;
                    if (gemm_row(at, m, e) < at.M) d += v * v;
                }
                d = gemm_over_rows(d);
                if (writes && c < at.N)
                    part[(size_t)(first / GEMM_UNIT) * at.N + c + k] = make_float2(mean, d);
            }
        }
    }
}

/* Sums of each column (TIMES: of its products with h (M, N)) over the rows that a unit has of each sample it touches:
 * part[unit][slot][column], slot 0 the unit's first sample. In double: bf16 values then add up exactly but for extreme
 * spreads, so that a sample's mean does not depend on where its rows lie in the units. */
template <int TIMES, int MT, int NT>
DEVICE void gemm_sample_sums(const float (&acc)[MT][NT][4], struct gemm_place at, int L,
                             const uint16_t *h, double *part) {
    const int own = gemm_own((int)threadIdx.x & 31);
    const bool writes = ((int)threadIdx.x & 4) == 0;
    const int slots = gemm_slots(L);
#pragma unroll
    for (int u = 0; u < MT / 2; u++) {
        const int first = at.row + u * GEMM_UNIT;
        if (first >= at.M) break;
        const int end = at.M - first < GEMM_UNIT ? at.M : first + GEMM_UNIT;
        const int b0 = first / L, b1 = (end - 1) / L;
        for (int b = b0; b <= b1; b++) {
            const int from = b * L, to = end - from < L ? end : from + L;
            double *slot = part + ((size_t)(first / GEMM_UNIT) * slots + (b - b0)) * at.N;
#pragma unroll
            for (int p = 0; p < (NT + 1) / 2; p++) {
                const int c = gemm_col<NT>(at, p), width = gemm_width<NT>(p);
                double s[4] = {0, 0, 0, 0};
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int m = 2 * u + (i >> 1), e = i & 1, row = gemm_row(at, m, e);
                    if (row < from || row >= to || c >= at.N) continue;
                    float v[4] = {1, 1, 1, 1};
                    if (TIMES) gemm_load(v, h + (size_t)row * at.N + c, width);
#pragma unroll
                    for (int k = 0; k < width; k++)
                        s[k] += (double)(GEMM_AT(acc, NT, m, p, e, k) * v[k]);
                }
                const double sum = gemm_over_rows4(s);
                if (writes && own < width && c < at.N) slot[c + own] = sum;
                __syncwarp(); /* keeps the pairs apart: all at once would not fit the registers */
            }
        }
    }
}

#endif
