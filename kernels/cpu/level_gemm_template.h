/* SPDX-License-Identifier: MIT
 * Part of level_template.h: the product of fp32 or of pairs of bf16, and transposition for packing. */

/* acc + the products of a place of A, at p, with a vector of places of B. */
ALWAYS_INLINE level_vec product(const int half, level_vec acc, const char *p, level_vec b) {
    if (half) return vec_dot_at(acc, p, b);
    float a;
    memcpy(&a, p, LEVEL_PLACE);
    return vec_fma(vec_set1(a), b, acc);
}

/* One tile: `rows` x `vectors` accumulators stay in registers over the whole depth. Half, rows, vectors and
 * dense (A's rows are neighbours: a_row is a place) are constants wherever it is inlined. Otherwise four rows
 * share one pointer, and the step of one place is a constant. */
ALWAYS_INLINE void tile(const int half, const int rows, const int vectors, const int dense,
                        const struct level_gemm *g, const char *a, const float *init, char *c) {
    level_vec acc[NARROW_ROWS][2];
    const char *quad[NARROW_ROWS / 4 + 1];                   /* rows 4q, 4q+1, 4q+2, 4q+3 */
    const int last = g->cols - (vectors - 1) * LEVEL_VECTOR; /* columns of the last vector */
    const ptrdiff_t a_row = dense ? LEVEL_PLACE : g->a_row, a_step = dense ? g->a_step : LEVEL_PLACE;
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
    for (int k0 = 0, run = g->run > 0 ? g->run : g->depth; k0 < g->depth; k0 += run) {
        for (int k = 0; k < run; k++) {
            level_vec w[2];
            UNROLL for (int v = 0; v < vectors; v++) w[v] = vec_load(b + v * LEVEL_VECTOR);
            UNROLL for (int i = 0; i < rows; i++) {
                UNROLL for (int v = 0; v < vectors; v++)
                    acc[i][v] = product(half, acc[i][v], quad[i / 4] + (i % 4) * a_row, w[v]);
            }
            b += g->b_step;
            UNROLL for (int q = 0; q <= (rows - 1) / 4; q++) quad[q] += a_step;
        }
        b += g->b_skip;
    }
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            const ptrdiff_t at = i * g->c_row + v * LEVEL_VECTOR;
            const int n = v == vectors - 1 && last < LEVEL_VECTOR ? last : LEVEL_VECTOR;
            store_part(half && g->c_half, c, at, acc[i][v], n);
        }
    }
}

#define TILE_CASE(R, V, D)                                                                         \
    case R:                                                                                        \
        tile(HALF, R, V, D, g, a, init, c);                                                             \
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
    static void name(int rows, const struct level_gemm *g, const char *a, const float *init,       \
                     char *c) {                                                                    \
        switch (rows) { CASES(V, D) }                                                              \
    }
#ifndef LEVEL_FP32
#define HALF 0
TILE_SWITCH(tile_wide, TILE_CASES_WIDE, 2, 0)
TILE_SWITCH(tile_wide_dense, TILE_CASES_WIDE, 2, 1)
TILE_SWITCH(tile_narrow, TILE_CASES_NARROW, 1, 0)
TILE_SWITCH(tile_narrow_dense, TILE_CASES_NARROW, 1, 1)
#undef HALF
#endif
#define HALF 1
TILE_SWITCH(tile_half_wide, TILE_CASES_WIDE, 2, 0)
TILE_SWITCH(tile_half_wide_dense, TILE_CASES_WIDE, 2, 1)
TILE_SWITCH(tile_half_narrow, TILE_CASES_NARROW, 1, 0)
TILE_SWITCH(tile_half_narrow_dense, TILE_CASES_NARROW, 1, 1)
#undef HALF

typedef void tile_fn(int, const struct level_gemm *, const char *, const float *, char *);
static tile_fn *const half_tiles[2][2] = {/* narrow, dense */
                                          {tile_half_wide, tile_half_wide_dense},
                                          {tile_half_narrow, tile_half_narrow_dense}};

/* All rows of a panel, in tiles of nearly equal height. */
static void run_tiles(const struct level_gemm *g, tile_fn *const tiles[2][2]) {
    const int narrow = g->cols <= LEVEL_VECTOR;
    const int most = narrow ? NARROW_ROWS : LEVEL_TILE_ROWS;
    const int n_tiles = (g->rows + most - 1) / most;
    tile_fn *const run = tiles[narrow][g->a_row == LEVEL_PLACE];
    const size_t c_size = g->half && g->c_half ? sizeof(uint16_t) : sizeof(float);
    const ptrdiff_t c_row = g->c_row * (ptrdiff_t)c_size;
    for (int t = 0; t < n_tiles; t++) {
        const ptrdiff_t r0 = (ptrdiff_t)t * g->rows / n_tiles;
        const ptrdiff_t r1 = (ptrdiff_t)(t + 1) * g->rows / n_tiles;
        run((int)(r1 - r0), g, (const char *)g->a + r0 * g->a_row,
            g->init ? g->init + r0 * g->init_row : NULL, (char *)g->c + r0 * c_row);
    }
}

static void gemm(const struct level_gemm *g) {
    if (g->half) {
        run_tiles(g, half_tiles);
        return;
    }
#ifdef LEVEL_FP32
    LEVEL_FP32.gemm(g);
#else
    static tile_fn *const tiles[2][2] = {/* narrow, dense */
                                         {tile_wide, tile_wide_dense},
                                         {tile_narrow, tile_narrow_dense}};
    run_tiles(g, tiles);
#endif
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
static void transpose_small(int rows, int cols, const float *in, ptrdiff_t in_row, float *out,
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

static void transpose(int rows, int cols, const float *in, ptrdiff_t in_row, float *out,
                      ptrdiff_t out_row) {
    int full_rows = 0, full_cols = 0;
#ifdef LEVEL_HAS_AVX512
    full_rows = rows - rows % LEVEL_VECTOR, full_cols = cols - cols % LEVEL_VECTOR;
    for (int r = 0; r < full_rows; r += LEVEL_VECTOR) {
        for (int c = 0; c < full_cols; c += LEVEL_VECTOR)
            vec_transpose(in + r * in_row + c, in_row, out + c * out_row + r, out_row);
    }
#endif
    transpose_small(full_rows, cols - full_cols, in + full_cols, in_row, out + full_cols * out_row,
                    out_row);
    transpose_small(rows - full_rows, cols, in + full_rows * in_row, in_row, out + full_rows,
                    out_row);
}
