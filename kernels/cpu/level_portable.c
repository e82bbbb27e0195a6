/* SPDX-License-Identifier: MIT
 * The level for every processor: vectors of 4 floats in the compiler's own vector type (SSE2, NEON), with a
 * multiplication and an addition in place of the fused operation. */
#define LEVEL_NAME      level_portable
#define LEVEL_TEXT      "portable"
#define LEVEL_VECTOR    4
#define LEVEL_TILE_ROWS 6

typedef float level_vec __attribute__((vector_size(16)));
typedef float level_unaligned __attribute__((vector_size(16), aligned(4), may_alias));

static inline level_vec vec_set1(float x) {
    return (level_vec){x, x, x, x};
}

static inline level_vec vec_fma(level_vec a, level_vec b, level_vec c) {
    return a * b + c;
}

typedef int level_mask __attribute__((vector_size(16)));

static inline level_vec choose(level_mask first, level_vec a, level_vec b) {
    return (level_vec)(((level_mask)a & first) | ((level_mask)b & ~first));
}

static inline level_vec vec_min(level_vec a, level_vec b) {
    return choose(a < b, a, b);
}

static inline level_vec vec_max(level_vec a, level_vec b) {
    return choose(a > b, a, b);
}

static inline level_vec vec_load(const float *p) {
    return *(const level_unaligned *)p;
}

static inline void vec_store(float *p, level_vec v) {
    *(level_unaligned *)p = v;
}

/* The first n floats; the rest reads as 0 and is not written. */
static inline level_vec vec_load_n(const float *p, int n) {
    level_vec v = {0};
    for (int i = 0; i < n; i++) v[i] = p[i];
    return v;
}

static inline void vec_store_n(float *p, level_vec v, int n) {
    for (int i = 0; i < n; i++) p[i] = v[i];
}

/* The products of the low halves of lanes of 64 bits, whose high halves are 0 here. */
#define vec_product32(a, b) ((a) * (b))

#include "kernels/cpu/level_template.h"
