/* SPDX-License-Identifier: MIT
 * The AVX2 + FMA level: 8 floats a vector, 16 registers: a tile of 6 rows x 2 vectors or 12 rows x 1. */
#include <immintrin.h>

#define LEVEL_NAME      level_avx2
#define LEVEL_TEXT      "avx2"
#define LEVEL_VECTOR    8
#define LEVEL_TILE_ROWS 6

typedef __m256 level_vec;

static inline level_vec vec_set1(float x) {
    return _mm256_set1_ps(x);
}

static inline level_vec vec_fma(level_vec a, level_vec b, level_vec c) {
    return _mm256_fmadd_ps(a, b, c);
}

static inline level_vec vec_min(level_vec a, level_vec b) {
    return _mm256_min_ps(a, b);
}

static inline level_vec vec_max(level_vec a, level_vec b) {
    return _mm256_max_ps(a, b);
}

static inline level_vec vec_load(const float *p) {
    return _mm256_loadu_ps(p);
}

static inline void vec_store(float *p, level_vec v) {
    _mm256_storeu_ps(p, v);
}

static inline __m256i first_lanes(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* The first n floats; the rest reads as 0 and is not written. */
static inline level_vec vec_load_n(const float *p, int n) {
    return _mm256_maskload_ps(p, first_lanes(n));
}

static inline void vec_store_n(float *p, level_vec v, int n) {
    _mm256_maskstore_ps(p, first_lanes(n), v);
}

/* The products of the low halves of lanes of 64 bits. */
#define vec_product32(a, b) ((level_long)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))

#include "kernels/cpu/level_template.h"
