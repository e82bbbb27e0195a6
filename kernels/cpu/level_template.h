/* SPDX-License-Identifier: MIT
 * The body of a SIMD level: included once by each level_*.c, which defines LEVEL_NAME, LEVEL_TEXT,
 * LEVEL_VECTOR (floats of a vector), LEVEL_TILE_ROWS (rows of a tile two vectors wide), the type level_vec
 * and vec_set1/fma/min/max/load/store/load_n/store_n/product32 (min and max give the second argument when either is
 * NaN), with LEVEL_HAS_BF16 vec_dot_at and vec_to_half, and with LEVEL_HAS_AVX512 vec_split, vec_scale,
 * vec_half_bits and vec_transpose; LEVEL_FP32 names a level whose products of fp32 are taken over. The rest is written with those and
 * with the compiler's operators on vectors, without contraction. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/level.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define UNROLL        _Pragma("GCC unroll 32")

enum {
    PANEL = 2 * LEVEL_VECTOR,
    NARROW_ROWS = 2 * LEVEL_TILE_ROWS, /* rows of a tile one vector wide */
    SUM_ROWS = 32,                     /* rows added in fp32 before they join a double sum */
    SUM_COLS = 64                      /* columns summed side by side */
};


/* ------------------------------------------------------------------------------------- vectors of either type */

typedef int level_int __attribute__((vector_size(4 * LEVEL_VECTOR)));
typedef uint32_t level_uint __attribute__((vector_size(4 * LEVEL_VECTOR)));
typedef uint16_t level_half __attribute__((vector_size(2 * LEVEL_VECTOR)));
typedef uint16_t level_half_anywhere
    __attribute__((vector_size(2 * LEVEL_VECTOR), aligned(2), may_alias));

ALWAYS_INLINE level_vec vec_choose(level_int first, level_vec a, level_vec b) {
    return (level_vec)(((level_int)a & first) | ((level_int)b & ~first));
}

#ifdef LEVEL_HAS_AVX512
ALWAYS_INLINE level_uint half_bits(const uint16_t *p, int n) {
    return (level_uint)vec_half_bits(p, n);
}
#else
/* The bits of n halves, each in the low half of a lane. */
ALWAYS_INLINE level_uint half_bits(const uint16_t *p, int n) {
    if (n == LEVEL_VECTOR)
        return __builtin_convertvector((level_half)*(const level_half_anywhere *)p, level_uint);
    level_half part = {0};
    for (int i = 0; i < n; i++) part[i] = p[i];
    return __builtin_convertvector(part, level_uint);
}
#endif

#ifdef LEVEL_HAS_BF16
#define VEC_TO_HALF(v)     ((level_half)vec_to_half(v))
#else
/* By shift and multiplication: a bf16 is the upper half of a float. */
ALWAYS_INLINE level_vec vec_dot_at(level_vec acc, const char *p, level_vec b) {
    uint32_t pair;
    memcpy(&pair, p, sizeof pair);
    const level_uint a = (level_uint){0} + pair, w = (level_uint)b;
    acc = vec_fma((level_vec)(a & 0xffff0000u), (level_vec)(w & 0xffff0000u), acc);
    return vec_fma((level_vec)(a << 16), (level_vec)(w << 16), acc);
}

/* kernels/bf16.h in vectors */
ALWAYS_INLINE level_half to_half_emulated(level_vec v) {
    const level_uint bits = (level_uint)v;
    const level_uint rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    const level_uint is_nan = (level_uint)((level_int)(bits & 0x7fffffffu) > 0x7f800000);
    return __builtin_convertvector((rounded & ~is_nan) | ((bits >> 16 | 0x40) & is_nan),
                                   level_half);
}
#define VEC_TO_HALF(v)     to_half_emulated(v)
#endif

ALWAYS_INLINE const void *element(const int half, const void *x, ptrdiff_t i) {
    return half ? (const void *)((const uint16_t *)x + i) : (const void *)((const float *)x + i);
}

ALWAYS_INLINE void *element_of(const int half, void *x, ptrdiff_t i) {
    return half ? (void *)((uint16_t *)x + i) : (void *)((float *)x + i);
}

/* n elements from the i-th on, as floats; n is a constant LEVEL_VECTOR but at the end of a row. */
ALWAYS_INLINE level_vec load_part(const int half, const void *x, ptrdiff_t i, int n) {
    if (half) return (level_vec)(half_bits((const uint16_t *)x + i, n) << 16);
    const float *p = (const float *)x + i;
    return n == LEVEL_VECTOR ? vec_load(p) : vec_load_n(p, n);
}

ALWAYS_INLINE void store_part(const int half, void *x, ptrdiff_t i, level_vec v, int n) {
    if (!half) {
        float *p = (float *)x + i;
        if (n == LEVEL_VECTOR)
            vec_store(p, v);
        else
            vec_store_n(p, v, n);
        return;
    }
    const level_half bits = VEC_TO_HALF(v);
    uint16_t *p = (uint16_t *)x + i;
    if (n == LEVEL_VECTOR)
        *(level_half_anywhere *)p = bits;
    else
        for (int k = 0; k < n; k++) p[k] = bits[k];
}

/* Runs `step(c, n)` over the columns [from, to), vector by vector. */
#define FOR_COLUMNS(from, to, step)                                                                \
    do {                                                                                           \
        ptrdiff_t c_ = (from);                                                                     \
        for (; c_ + LEVEL_VECTOR <= (ptrdiff_t)(to); c_ += LEVEL_VECTOR) step(c_, LEVEL_VECTOR);   \
        if (c_ < (ptrdiff_t)(to)) step(c_, (int)((ptrdiff_t)(to)-c_));                             \
    } while (0)

#include "kernels/cpu/level_gemm_template.h"

#include "kernels/cpu/level_act_template.h"

#include "kernels/cpu/level_rows_template.h"

#include "kernels/cpu/level_dropout_template.h"

static void adam(const struct level_adam *s, size_t n, float *restrict p, const float *restrict g,
                 float *restrict m, float *restrict v) {
    for (size_t i = 0; i < n; i++) {
        const float grad = g[i] + s->l2 * p[i];
        m[i] = m[i] * s->beta1 + s->one_minus_beta1 * grad;
        v[i] = v[i] * s->beta2 + s->one_minus_beta2 * grad * grad;
        p[i] = p[i] * s->keep - s->step_size * (m[i] / (sqrtf(v[i]) / s->root_correct + s->eps));
    }
}

const struct level LEVEL_NAME = {
    .name = LEVEL_TEXT,
    .vector = LEVEL_VECTOR,
    .panel_cols = PANEL,
    .gemm = gemm,
    .transpose = transpose,
    .act_fwd = act_fwd,
    .act_bwd = act_bwd,
    .sigmoid = sigmoid,
    .zip = zip,
    .act_zip = act_zip,
    .widen = widen,
    .pair_rows = pair_rows,
    .sum_pairs = sum_pairs,
    .sum_rows = sum_rows,
    .dot_rows = dot_rows,
    .deviation_dot_rows = deviation_dot_rows,
    .deviation_rows = deviation_rows,
    .affine_rows = affine_rows,
    .dropout = dropout,
    .pool_row = pool_row,
    .gated_row = gated_row,
    .spread_row = spread_row,
    .route_row = route_row,
    .adam = adam,
};
