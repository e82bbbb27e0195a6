/* SPDX-License-Identifier: MIT
 * Vectors of the AVX-512 levels: 16 floats a vector, 32 registers: a tile of 14 rows x 2 vectors or 28 rows x 1. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define LEVEL_VECTOR 16
#ifndef __SANITIZE_ADDRESS__
#define LEVEL_TILE_ROWS 14
#else /* the same bits from a fifth of the code, which would take minutes to instrument */
#define LEVEL_TILE_ROWS 6
#endif

typedef __m512 level_vec;

static inline level_vec vec_set1(float x) {
    return _mm512_set1_ps(x);
}

static inline level_vec vec_fma(level_vec a, level_vec b, level_vec c) {
    return _mm512_fmadd_ps(a, b, c);
}

static inline level_vec vec_min(level_vec a, level_vec b) {
    return _mm512_min_ps(a, b);
}

static inline level_vec vec_max(level_vec a, level_vec b) {
    return _mm512_max_ps(a, b);
}

static inline level_vec vec_load(const float *p) {
    return _mm512_loadu_ps(p);
}

static inline void vec_store(float *p, level_vec v) {
    _mm512_storeu_ps(p, v);
}

/* The first n floats; the rest reads as 0 and is not written. */
static inline level_vec vec_load_n(const float *p, int n) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}

static inline void vec_store_n(float *p, level_vec v, int n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v);
}

#define LEVEL_HAS_AVX512 1

/* The fraction of x above the next lower integer; *whole: what vec_scale makes that integer of. */
static inline level_vec vec_split(level_vec x, level_vec *whole) {
    *whole = x;
    return _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);
}

/* x 2^floor(n) */
static inline level_vec vec_scale(level_vec x, level_vec n) {
    return _mm512_scalef_ps(x, n);
}

/* The bits of n bf16, each in the low half of a lane; the rest 0. */
static inline __m512i vec_half_bits(const uint16_t *p, int n) {
    return _mm512_cvtepu16_epi32(
        n == LEVEL_VECTOR ? _mm256_loadu_si256((const __m256i *)(const void *)p)
                          : _mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p));
}

/* out = the transpose of 16 x 16 floats: pairs of rows, of pairs, then quarters of vectors change places. */
static inline void vec_transpose(const float *in, ptrdiff_t in_row, float *out, ptrdiff_t out_row) {
    __m512 r[16], t[16];
    for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_ps(in + i * in_row);
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) { /* r[i + k]: column k of rows i .. i + 3, in each quarter */
        r[i] = (__m512)_mm512_unpacklo_pd((__m512d)t[i], (__m512d)t[i + 2]);
        r[i + 1] = (__m512)_mm512_unpackhi_pd((__m512d)t[i], (__m512d)t[i + 2]);
        r[i + 2] = (__m512)_mm512_unpacklo_pd((__m512d)t[i + 1], (__m512d)t[i + 3]);
        r[i + 3] = (__m512)_mm512_unpackhi_pd((__m512d)t[i + 1], (__m512d)t[i + 3]);
    }
    for (int k = 0; k < 4; k++) {
        const __m512 low02 = _mm512_shuffle_f32x4(r[k], r[4 + k], 0x88),
                     low13 = _mm512_shuffle_f32x4(r[k], r[4 + k], 0xdd),
                     high02 = _mm512_shuffle_f32x4(r[8 + k], r[12 + k], 0x88),
                     high13 = _mm512_shuffle_f32x4(r[8 + k], r[12 + k], 0xdd);
        _mm512_storeu_ps(out + k * out_row, _mm512_shuffle_f32x4(low02, high02, 0x88));
        _mm512_storeu_ps(out + (4 + k) * out_row, _mm512_shuffle_f32x4(low13, high13, 0x88));
        _mm512_storeu_ps(out + (8 + k) * out_row, _mm512_shuffle_f32x4(low02, high02, 0xdd));
        _mm512_storeu_ps(out + (12 + k) * out_row, _mm512_shuffle_f32x4(low13, high13, 0xdd));
    }
}

/* The products of the low halves of lanes of 64 bits. */
#define vec_product32(a, b) ((level_long)_mm512_mul_epu32((__m512i)(a), (__m512i)(b)))
