/* SPDX-License-Identifier: MIT
 * The body of a SIMD level: included once by each level_*.c, which defines LEVEL_NAME, LEVEL_TEXT,
 * LEVEL_VECTOR (floats of a vector), LEVEL_TILE_ROWS (rows of a tile two vectors wide), the type level_vec
 * and vec_set1/fma/min/max/load/store/load_n/store_n (min and max give the second argument when either is
 * NaN). The product below is written with those; everything else is
 * in plain loops that the compiler vectorises for the level's instructions, without contraction, so that
 * they give the same bits at every level. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/level.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define UNROLL        _Pragma("GCC unroll 32")

enum {
    PANEL = 2 * LEVEL_VECTOR,
    NARROW_ROWS = 2 * LEVEL_TILE_ROWS, /* rows of a tile one vector wide */
    SUM_ROWS = 64,                     /* rows added in fp32 before they join a double sum */
    SUM_COLS = 64                      /* columns summed side by side */
};

/* ------------------------------------------------------------------------------------- the product */

/* One tile: `rows` x `vectors` accumulators stay in registers over the whole depth. Rows, vectors and
 * dense (A's rows are neighbours: a_row == 1) are constants wherever it is inlined. Otherwise four rows
 * share one pointer, and a_step == 1 makes the step a constant. */
ALWAYS_INLINE void tile(const int rows, const int vectors, const int dense,
                        const struct level_gemm *g, const float *a, const float *init, float *c) {
    level_vec acc[NARROW_ROWS][2];
    const float *quad[NARROW_ROWS / 4 + 1];                  /* rows 4q, 4q+1, 4q+2, 4q+3 */
    const int last = g->cols - (vectors - 1) * LEVEL_VECTOR; /* columns of the last vector */
    const ptrdiff_t a_row = dense ? 1 : g->a_row, a_step = dense ? g->a_step : 1;
    const float *b = g->b;

    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            const float *p = init ? init + i * g->init_row + v * LEVEL_VECTOR : NULL;
            acc[i][v] =
                !p ? vec_set1(0)
                   : (v == vectors - 1 && last < LEVEL_VECTOR ? vec_load_n(p, last) : vec_load(p));
        }
    }
    UNROLL for (int q = 0; q <= (rows - 1) / 4; q++) quad[q] = a + 4 * q * a_row;
    for (int k = 0; k < g->depth; k++) {
        level_vec w[2];
        UNROLL for (int v = 0; v < vectors; v++) w[v] = vec_load(b + v * LEVEL_VECTOR);
        UNROLL for (int i = 0; i < rows; i++) {
            const level_vec x = vec_set1(quad[i / 4][(i % 4) * a_row]);
            UNROLL for (int v = 0; v < vectors; v++) acc[i][v] = vec_fma(x, w[v], acc[i][v]);
        }
        b += g->b_step;
        UNROLL for (int q = 0; q <= (rows - 1) / 4; q++) quad[q] += a_step;
    }
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            float *p = c + i * g->c_row + v * LEVEL_VECTOR;
            if (v == vectors - 1 && last < LEVEL_VECTOR)
                vec_store_n(p, acc[i][v], last);
            else
                vec_store(p, acc[i][v]);
        }
    }
}

#define TILE_CASE(R, V, D)                                                                         \
    case R:                                                                                        \
        tile(R, V, D, g, a, init, c);                                                              \
        break;
#define TILE_CASES_6(V, D)                                                                         \
    TILE_CASE(1, V, D) TILE_CASE(2, V, D) TILE_CASE(3, V, D) TILE_CASE(4, V, D)                    \
    TILE_CASE(5, V, D) TILE_CASE(6, V, D)
#define TILE_CASES_12(V, D)                                                                        \
    TILE_CASES_6(V, D)                                                                             \
    TILE_CASE(7, V, D) TILE_CASE(8, V, D) TILE_CASE(9, V, D) TILE_CASE(10, V, D)                   \
    TILE_CASE(11, V, D) TILE_CASE(12, V, D)
#define TILE_CASES_14(V, D)                                                                        \
    TILE_CASES_12(V, D)                                                                            \
    TILE_CASE(13, V, D) TILE_CASE(14, V, D)
#define TILE_CASES_28(V, D)                                                                        \
    TILE_CASES_14(V, D)                                                                            \
    TILE_CASE(15, V, D) TILE_CASE(16, V, D) TILE_CASE(17, V, D) TILE_CASE(18, V, D)                \
    TILE_CASE(19, V, D) TILE_CASE(20, V, D) TILE_CASE(21, V, D) TILE_CASE(22, V, D)                \
    TILE_CASE(23, V, D) TILE_CASE(24, V, D) TILE_CASE(25, V, D) TILE_CASE(26, V, D)                \
    TILE_CASE(27, V, D) TILE_CASE(28, V, D)
#if LEVEL_TILE_ROWS == 14
#define TILE_CASES_WIDE   TILE_CASES_14
#define TILE_CASES_NARROW TILE_CASES_28
#elif LEVEL_TILE_ROWS == 6
#define TILE_CASES_WIDE   TILE_CASES_6
#define TILE_CASES_NARROW TILE_CASES_12
#else
#error "no list of tiles for this LEVEL_TILE_ROWS"
#endif

#define TILE_SWITCH(name, CASES, V, D)                                                             \
    static void name(int rows, const struct level_gemm *g, const float *a, const float *init,      \
                     float *c) {                                                                   \
        switch (rows) { CASES(V, D) }                                                              \
    }
TILE_SWITCH(tile_wide, TILE_CASES_WIDE, 2, 0)
TILE_SWITCH(tile_wide_dense, TILE_CASES_WIDE, 2, 1)
TILE_SWITCH(tile_narrow, TILE_CASES_NARROW, 1, 0)
TILE_SWITCH(tile_narrow_dense, TILE_CASES_NARROW, 1, 1)

/* All rows of a panel, in tiles of nearly equal height. */
static void gemm(const struct level_gemm *g) {
    const int narrow = g->cols <= LEVEL_VECTOR;
    const int most = narrow ? NARROW_ROWS : LEVEL_TILE_ROWS;
    const int n_tiles = (g->rows + most - 1) / most;
    void (*const run)(int, const struct level_gemm *, const float *, const float *, float *) =
        g->a_row == 1 ? (narrow ? tile_narrow_dense : tile_wide_dense)
                      : (narrow ? tile_narrow : tile_wide);
    for (int t = 0; t < n_tiles; t++) {
        const ptrdiff_t r0 = (ptrdiff_t)t * g->rows / n_tiles;
        const ptrdiff_t r1 = (ptrdiff_t)(t + 1) * g->rows / n_tiles;
        run((int)(r1 - r0), g, g->a + r0 * g->a_row, g->init ? g->init + r0 * g->init_row : NULL,
            g->c + r0 * g->c_row);
    }
}

typedef float level_quad __attribute__((vector_size(16)));
typedef float level_quad_anywhere __attribute__((vector_size(16), aligned(4), may_alias));

/* A block of 4 x 4. */
ALWAYS_INLINE void transpose_block(const float *in, ptrdiff_t in_row, float *out,
                                   ptrdiff_t out_row) {
    level_quad r[4], pair[4];
    UNROLL for (int i = 0; i < 4; i++) r[i] = *(const level_quad_anywhere *)(in + i * in_row);
    pair[0] = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
    pair[1] = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
    pair[2] = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
    pair[3] = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    r[0] = __builtin_shufflevector(pair[0], pair[2], 0, 1, 4, 5);
    r[1] = __builtin_shufflevector(pair[0], pair[2], 2, 3, 6, 7);
    r[2] = __builtin_shufflevector(pair[1], pair[3], 0, 1, 4, 5);
    r[3] = __builtin_shufflevector(pair[1], pair[3], 2, 3, 6, 7);
    UNROLL for (int i = 0; i < 4; i++) * (level_quad_anywhere *)(out + i * out_row) = r[i];
}

/* By whole cache lines of `in`, which may be rows of a power of two apart and so drive each other out. */
static void transpose(int rows, int cols, const float *in, ptrdiff_t in_row, float *out,
                      ptrdiff_t out_row) {
    enum { LINE = 16 };
    const int full_rows = rows - rows % 4, full_cols = cols - cols % LINE;
    for (int c0 = 0; c0 < full_cols; c0 += LINE) {
        for (int r = 0; r < full_rows; r += 4) {
            for (int c = c0; c < c0 + LINE; c += 4)
                transpose_block(in + r * in_row + c, in_row, out + c * out_row + r, out_row);
        }
    }
    for (int r = 0; r < rows; r++) {
        for (int c = r < full_rows ? full_cols : 0; c < cols; c++)
            out[c * out_row + r] = in[r * in_row + c];
    }
}

/* ------------------------------------------------------------------------------------- activations */

typedef int level_int __attribute__((vector_size(4 * LEVEL_VECTOR)));

/* e^x within 2 units in the last place: x = n ln 2 + r with |r| <= ln(2)/2, then the polynomial of Cephes'
 * expf and n into the exponent's bits. Adding 1.5 * 2^23 rounds x / ln 2 to the integer that then stands
 * in the low bits of the sum. Beyond the range of normal numbers the result stays at its end; NaN stays. */
ALWAYS_INLINE level_vec vec_exp(level_vec x) {
    const level_vec magic = vec_set1(12582912.0f);
    x = vec_min(vec_set1(88.0f), vec_max(vec_set1(-87.0f), x));
    const level_vec shifted = vec_fma(x, vec_set1(1.44269504f), magic), n = shifted - magic;
    const level_vec r =
        vec_fma(n, vec_set1(2.12194440e-4f), vec_fma(n, vec_set1(-0.693359375f), x));
    level_vec p = vec_set1(1.9875691500e-4f);
    p = vec_fma(p, r, vec_set1(1.3981999507e-3f));
    p = vec_fma(p, r, vec_set1(8.3334519073e-3f));
    p = vec_fma(p, r, vec_set1(4.1665795894e-2f));
    p = vec_fma(p, r, vec_set1(1.6666665459e-1f));
    p = vec_fma(p, r, vec_set1(5.0000001201e-1f));
    p = vec_fma(p * r, r, r + vec_set1(1.0f));
    return (level_vec)((level_int)p + ((level_int)shifted << 23));
}

ALWAYS_INLINE level_vec vec_sigmoid(level_vec x) {
    return vec_set1(1.0f) / (vec_set1(1.0f) + vec_exp(-x));
}

/* d (n sigmoid(n)) / dn */
ALWAYS_INLINE level_vec swish_slope(level_vec n) {
    const level_vec s = vec_sigmoid(n);
    return vec_fma(n * s, vec_set1(1.0f) - s, s);
}

/* n floats, n a constant LEVEL_VECTOR but at the end of a row */
ALWAYS_INLINE level_vec load_part(const float *p, int n) {
    return n == LEVEL_VECTOR ? vec_load(p) : vec_load_n(p, n);
}

ALWAYS_INLINE void store_part(float *p, level_vec v, int n) {
    if (n == LEVEL_VECTOR)
        vec_store(p, v);
    else
        vec_store_n(p, v, n);
}

/* Runs `step(c, n)` over the columns [from, to), vector by vector. */
#define FOR_COLUMNS(from, to, step)                                                                \
    do {                                                                                           \
        ptrdiff_t c_ = (from);                                                                     \
        for (; c_ + LEVEL_VECTOR <= (ptrdiff_t)(to); c_ += LEVEL_VECTOR) step(c_, LEVEL_VECTOR);   \
        if (c_ < (ptrdiff_t)(to)) step(c_, (int)((ptrdiff_t)(to)-c_));                             \
    } while (0)

static void sigmoid(size_t n, const float *x, float *y) {
#define STEP(c, n) store_part(y + c, vec_sigmoid(load_part(x + c, n)), n)
    FOR_COLUMNS(0, n, STEP);
#undef STEP
}

/* n = x * scale + shift of columns [c, c+n). */
ALWAYS_INLINE level_vec normed(const int norm, const struct level_act *t, const float *x,
                               ptrdiff_t c, int n) {
    const level_vec v = load_part(x + c, n);
    return norm ? vec_fma(v, load_part(t->scale + c, n), load_part(t->shift + c, n)) : v;
}

/* norm, swish and drop are constants wherever the two loops are inlined: no branch is left inside. */
ALWAYS_INLINE void act_fwd_part(const int norm, const int swish, const int drop,
                                const struct level_act *t, const float *x, const float *factor,
                                float *a, ptrdiff_t c, int n) {
    level_vec v = normed(norm, t, x, c, n);
    if (swish) v *= vec_sigmoid(v);
    if (drop) v *= load_part(factor + c, n);
    store_part(a + c, v, n);
}

ALWAYS_INLINE void act_fwd_loop(const int norm, const int swish, const int drop,
                                const struct level_act *t, float *a, ptrdiff_t a_row, int panel,
                                ptrdiff_t panel_step) {
    for (int r = 0; r < t->rows; r++) {
        const float *x = t->x + r * t->x_row,
                    *factor = drop ? t->factor + (ptrdiff_t)r * t->cols : NULL;
        float *out = a + r * a_row;
        for (ptrdiff_t c = 0; c < t->cols; c += panel, out += panel_step - panel) {
            const ptrdiff_t end = c + panel < t->cols ? c + panel : t->cols;
#define STEP(c, n) act_fwd_part(norm, swish, drop, t, x, factor, out, c, n)
            FOR_COLUMNS(c, end, STEP);
#undef STEP
        }
    }
}

ALWAYS_INLINE void act_bwd_part(const int norm, const int swish, const int drop,
                                const struct level_act *t, const float *x, const float *factor,
                                const float *da, int add, float *dn, ptrdiff_t c, int n) {
    level_vec d = load_part(da + c, n);
    if (drop) d *= load_part(factor + c, n);
    if (swish) d *= swish_slope(normed(norm, t, x, c, n));
    if (add) d += load_part(dn + c, n);
    store_part(dn + c, d, n);
}

ALWAYS_INLINE void act_bwd_loop(const int norm, const int swish, const int drop,
                                const struct level_act *t, const float *da, ptrdiff_t da_row,
                                int add, float *dn, ptrdiff_t dn_row) {
    for (int r = 0; r < t->rows; r++) {
        const float *x = t->x + r * t->x_row,
                    *factor = drop ? t->factor + (ptrdiff_t)r * t->cols : NULL;
#define STEP(c, n)                                                                                 \
    act_bwd_part(norm, swish, drop, t, x, factor, da + r * da_row, add, dn + r * dn_row, c, n)
        FOR_COLUMNS(0, t->cols, STEP);
#undef STEP
    }
}

#define ACT_FLAGS(t) (((t)->scale ? 4 : 0) + ((t)->swish ? 2 : 0) + ((t)->factor ? 1 : 0))
#define ACT_CASE(loop, flags, ...)                                                                 \
    case flags:                                                                                    \
        loop((flags) >> 2, (flags) >> 1 & 1, (flags)&1, __VA_ARGS__);                              \
        break;
#define ACT_CASES(loop, ...)                                                                       \
    ACT_CASE(loop, 0, __VA_ARGS__)                                                                 \
    ACT_CASE(loop, 1, __VA_ARGS__)                                                                 \
    ACT_CASE(loop, 2, __VA_ARGS__)                                                                 \
    ACT_CASE(loop, 3, __VA_ARGS__)                                                                 \
    ACT_CASE(loop, 4, __VA_ARGS__)                                                                 \
    ACT_CASE(loop, 5, __VA_ARGS__)                                                                 \
    ACT_CASE(loop, 6, __VA_ARGS__)                                                                 \
    ACT_CASE(loop, 7, __VA_ARGS__)

static void act_fwd(const struct level_act *t, float *a, ptrdiff_t a_row, int panel,
                    ptrdiff_t panel_step) {
    switch (ACT_FLAGS(t)) { ACT_CASES(act_fwd_loop, t, a, a_row, panel, panel_step) }
}

static void act_bwd(const struct level_act *t, const float *da, ptrdiff_t da_row, int add,
                    float *dn, ptrdiff_t dn_row) {
    switch (ACT_FLAGS(t)) { ACT_CASES(act_bwd_loop, t, da, da_row, add, dn, dn_row) }
}

/* ------------------------------------------------------------------------------------- sums over rows */

/* Adds the sum over the rows of `term` to total (cols). The term is an expression in x and y, pointers to the
 * row's part of a strip of columns that begins at c0, and c, the column in the strip. */
#define SUM_OVER_ROWS(total, x_row, y_row, term)                                                   \
    for (int c0 = 0; c0 < cols; c0 += SUM_COLS) {                                                  \
        const int n = cols - c0 < SUM_COLS ? cols - c0 : SUM_COLS;                                 \
        for (int r0 = 0; r0 < rows; r0 += SUM_ROWS) {                                              \
            const int r1 = rows - r0 < SUM_ROWS ? rows : r0 + SUM_ROWS;                            \
            float part[SUM_COLS] = {0};                                                            \
            for (int r = r0; r < r1; r++) {                                                        \
                const float *restrict x = (x_row), *restrict y = (y_row);                          \
                for (int c = 0; c < n; c++) part[c] += (term);                                     \
                (void)y;                                                                           \
            }                                                                                      \
            for (int c = 0; c < n; c++) (total)[c0 + c] += (double)part[c];                        \
        }                                                                                          \
    }

static void sum_rows(int rows, int cols, const float *in, ptrdiff_t row, double *sum) {
    SUM_OVER_ROWS(sum, in + r * row + c0, NULL, x[c])
}

static void dot_rows(int rows, int cols, const float *in, const float *in2, ptrdiff_t row,
                     double *dot) {
    SUM_OVER_ROWS(dot, in + r * row + c0, in2 + r * row + c0, x[c] * y[c])
}

static void deviation_dot_rows(int rows, int cols, const float *in, const float *in2, ptrdiff_t row,
                               const float *mean, double *dot) {
    SUM_OVER_ROWS(dot, in + r * row + c0, in2 + r * row + c0, x[c] * (y[c] - mean[c0 + c]))
}

static void deviation_rows(int rows, int cols, const float *in, ptrdiff_t row, const float *mean,
                           double *square) {
    SUM_OVER_ROWS(square, in + r * row + c0, mean + c0, (x[c] - y[c]) * (x[c] - y[c]))
}

static void affine_rows(int rows, int cols, const float *dn, const float *x, const float *mean,
                        const float *a, const float *b, const float *shift, int add, float *dx) {
    for (int r = 0; r < rows; r++) {
        const ptrdiff_t at = (ptrdiff_t)r * cols;
        _Pragma("GCC ivdep") for (int c = 0; c < cols; c++) {
            const float d = a[c] * dn[at + c] + b[c] * (x[at + c] - mean[c]) + shift[c];
            dx[at + c] = add ? dx[at + c] + d : d;
        }
    }
}

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
    .sum_rows = sum_rows,
    .dot_rows = dot_rows,
    .deviation_dot_rows = deviation_dot_rows,
    .deviation_rows = deviation_rows,
    .affine_rows = affine_rows,
    .adam = adam,
};
