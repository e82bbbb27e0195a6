/* SPDX-License-Identifier: MIT
 * Part of level_template.h: sums over rows, and what is done to a tensor row by row. */

/* Adds to total (cols) the sum over the rows of `term`, an expression in c, the first of m columns from the strip's
 * first one, c0, on; r, the row; and m. The columns of a whole strip are summed in registers. */
#define SUM_OVER_ROWS(total, term)                                                                 \
    for (int c0 = 0; c0 < cols; c0 += SUM_COLS) {                                                  \
        const int n = cols - c0 < SUM_COLS ? cols - c0 : SUM_COLS;                                 \
        for (int r0 = 0; r0 < rows; r0 += SUM_ROWS) {                                              \
            const int r1 = rows - r0 < SUM_ROWS ? rows : r0 + SUM_ROWS;                            \
            float part[SUM_COLS] = {0};                                                            \
            if (n == SUM_COLS) {                                                                   \
                level_vec sum[SUM_COLS / LEVEL_VECTOR];                                            \
                UNROLL for (int v = 0; v < SUM_COLS / LEVEL_VECTOR; v++) sum[v] = vec_set1(0);     \
                for (ptrdiff_t r = r0; r < r1; r++) {                                              \
                    UNROLL for (int v = 0; v < SUM_COLS / LEVEL_VECTOR; v++) {                     \
                        const ptrdiff_t c = v * LEVEL_VECTOR;                                      \
                        enum { m = LEVEL_VECTOR };                                                 \
                        sum[v] += (term);                                                          \
                    }                                                                              \
                }                                                                                  \
                UNROLL for (int v = 0; v < SUM_COLS / LEVEL_VECTOR; v++)                           \
                    vec_store(part + v * LEVEL_VECTOR, sum[v]);                                    \
            } else {                                                                               \
                for (ptrdiff_t r = r0; r < r1; r++) {                                              \
                    for (ptrdiff_t c = 0; c < n; c += LEVEL_VECTOR) {                              \
                        const int m = n - c < LEVEL_VECTOR ? (int)(n - c) : LEVEL_VECTOR;          \
                        store_part(0, part, c, load_part(0, part, c, m) + (term), m);              \
                    }                                                                              \
                }                                                                                  \
            }                                                                                      \
            for (int c = 0; c < n; c++) (total)[c0 + c] += (double)part[c];                        \
        }                                                                                          \
    }

/* Calls function(half, ...) with half a constant. */
#define BY_TYPE(function, ...)                                                                     \
    if (half)                                                                                      \
        function(1, __VA_ARGS__);                                                                  \
    else                                                                                           \
        function(0, __VA_ARGS__)

ALWAYS_INLINE level_vec square_of(level_vec x) {
    return x * x;
}

ALWAYS_INLINE void sum_rows_of(const int half, int rows, int cols, const void *x, ptrdiff_t row,
                               double *total) {
    SUM_OVER_ROWS(total, load_part(half, x, r * row + c0 + c, m))
}

ALWAYS_INLINE void dot_rows_of(const int half, int rows, int cols, const void *x, const void *y,
                               ptrdiff_t row, double *dot) {
    SUM_OVER_ROWS(dot, load_part(half, x, r *row + c0 + c, m) *
                           load_part(half, y, r *row + c0 + c, m))
}

ALWAYS_INLINE void deviation_dot_rows_of(const int half, int rows, int cols, const void *x,
                                         const void *y, ptrdiff_t row, const float *mean,
                                         double *dot) {
    SUM_OVER_ROWS(dot,
                  load_part(half, x, r *row + c0 + c, m) *
                      (load_part(half, y, r * row + c0 + c, m) - load_part(0, mean, c0 + c, m)))
}

ALWAYS_INLINE void deviation_rows_of(const int half, int rows, int cols, const void *x,
                                     ptrdiff_t row, const float *mean, double *square) {
    SUM_OVER_ROWS(square, square_of(load_part(half, x, r * row + c0 + c, m) -
                                    load_part(0, mean, c0 + c, m)))
}

static void sum_rows(int half, int rows, int cols, const void *x, ptrdiff_t row, double *sum) {
    BY_TYPE(sum_rows_of, rows, cols, x, row, sum);
}

static void dot_rows(int half, int rows, int cols, const void *x, const void *y, ptrdiff_t row,
                     double *dot) {
    BY_TYPE(dot_rows_of, rows, cols, x, y, row, dot);
}

static void deviation_dot_rows(int half, int rows, int cols, const void *x, const void *y,
                               ptrdiff_t row, const float *mean, double *dot) {
    BY_TYPE(deviation_dot_rows_of, rows, cols, x, y, row, mean, dot);
}

static void deviation_rows(int half, int rows, int cols, const void *x, ptrdiff_t row,
                           const float *mean, double *square) {
    BY_TYPE(deviation_rows_of, rows, cols, x, row, mean, square);
}

ALWAYS_INLINE void affine_rows_of(const int half, int rows, int cols, const void *dn, const void *x,
                                  const float *mean, const float *a, const float *b,
                                  const float *shift, int add, void *dx) {
    for (int r = 0; r < rows; r++) {
        const ptrdiff_t row = (ptrdiff_t)r * cols;
#define STEP(c, n)                                                                                 \
    do {                                                                                           \
        level_vec d =                                                                              \
            load_part(0, a, c, n) * load_part(half, dn, row + c, n) +                              \
            load_part(0, b, c, n) * (load_part(half, x, row + c, n) - load_part(0, mean, c, n)) +  \
            load_part(0, shift, c, n);                                                             \
        if (add) d = load_part(half, dx, row + c, n) + d;                                          \
        store_part(half, dx, row + c, d, n);                                                       \
    } while (0)
        FOR_COLUMNS(0, cols, STEP);
#undef STEP
    }
}

static void affine_rows(int half, int rows, int cols, const void *dn, const void *x,
                        const float *mean, const float *a, const float *b, const float *shift,
                        int add, void *dx) {
    BY_TYPE(affine_rows_of, rows, cols, dn, x, mean, a, b, shift, add, dx);
}

/* ------------------------------------------------------------------------------------- the end of a block */

/* Columns [c, c + n) of a row that may be one of zeros. */
ALWAYS_INLINE level_vec window_part(const int half, const void *row, ptrdiff_t c, int n) {
    return row ? load_part(half, row, c, n) : vec_set1(0);
}

ALWAYS_INLINE level_vec larger(level_vec x, level_vec best) {
    return vec_choose(x > best, x, best);
}

ALWAYS_INLINE void pool_row_of(const int half, int n, int n_rows, const void *const *x, float *y) {
    for (ptrdiff_t c = 0; c < n; c += LEVEL_VECTOR) {
        const int m = n - c < LEVEL_VECTOR ? (int)(n - c) : LEVEL_VECTOR;
        level_vec best = window_part(half, x[0], c, m);
        for (int k = 1; k < n_rows; k++) best = larger(window_part(half, x[k], c, m), best);
        store_part(0, y, c, best, m);
    }
}

static void pool_row(int half, int n, int n_rows, const void *const *x, float *y) {
    BY_TYPE(pool_row_of, n, n_rows, x, y);
}

ALWAYS_INLINE void gated_row_of(const int half, const int x_half, int n, const float *gate,
                                const void *h, const void *x, void *y) {
#define STEP(c, m)                                                                                 \
    do {                                                                                           \
        level_vec branch = load_part(half, h, c, m);                                               \
        if (gate) branch *= load_part(0, gate, c, m);                                              \
        store_part(half, y, c, load_part(x_half, x, c, m) + branch, m);                            \
    } while (0)
    FOR_COLUMNS(0, n, STEP);
#undef STEP
}

static void gated_row(int half, int n, const float *gate, const void *h, int x_half, const void *x,
                      void *y) {
    if (x_half)
        gated_row_of(1, 1, n, gate, h, x, y);
    else
        BY_TYPE(gated_row_of, 0, n, gate, h, x, y);
}

ALWAYS_INLINE void spread_row_of(const int half, int n, const float *gate, const void *x,
                                 const float *shift, void *y) {
#define STEP(c, m)                                                                                 \
    do {                                                                                           \
        level_vec v = load_part(0, shift, c, m);                                                   \
        if (gate) v = load_part(0, gate, c, m) * load_part(half, x, c, m) + v;                     \
        store_part(half, y, c, v, m);                                                              \
    } while (0)
    FOR_COLUMNS(0, n, STEP);
#undef STEP
}

static void spread_row(int half, int n, const float *gate, const void *x, const float *shift,
                       void *y) {
    BY_TYPE(spread_row_of, n, gate, x, shift, y);
}

/* A NaN is never the largest; where all are, the first row wins. */
ALWAYS_INLINE void route_row_of(const int half, int n, int n_rows, const void *const *x,
                                const void *dy, void *const *dx) {
    for (ptrdiff_t c = 0; c < n; c += LEVEL_VECTOR) {
        const int m = n - c < LEVEL_VECTOR ? (int)(n - c) : LEVEL_VECTOR;
        level_vec best = window_part(half, x[0], c, m);
        level_int winner = {0};
        for (int k = 1; k < n_rows; k++) {
            const level_vec v = window_part(half, x[k], c, m);
            const level_int beats = v > best;
            best = vec_choose(beats, v, best);
            winner = (winner & ~beats) | (((level_int){0} + k) & beats);
        }
        const level_vec d = load_part(half, dy, c, m);
        for (int k = 0; k < n_rows; k++) {
            if (!dx[k]) continue;
            const level_int wins = winner == ((level_int){0} + k);
            store_part(half, dx[k], c, (level_vec)((level_int)d & wins), m);
        }
    }
}

static void route_row(int half, int n, int n_rows, const void *const *x, const void *dy,
                      void *const *dx) {
    BY_TYPE(route_row_of, n, n_rows, x, dy, dx);
}

/* ------------------------------------------------------------------------------------- bf16 */

static void widen(size_t n, const uint16_t *x, float *y) {
#define STEP(c, m) store_part(0, y, c, load_part(1, x, c, m), m)
    FOR_COLUMNS(0, n, STEP);
#undef STEP
}

static void pair_rows(int rows, int cols, const float *x, float *pairs) {
    for (ptrdiff_t d = 0; 2 * d < rows; d++) {
        for (ptrdiff_t c = 0; c < cols; c += LEVEL_VECTOR) {
            const float *first = x + 2 * d * cols + c;
            const level_vec second = 2 * d + 1 < rows ? vec_load(first + cols) : vec_set1(0);
            const level_uint lo = __builtin_convertvector(VEC_TO_HALF(vec_load(first)), level_uint),
                             hi = __builtin_convertvector(VEC_TO_HALF(second), level_uint);
            vec_store(pairs + d * cols + c, (level_vec)(lo | hi << 16));
        }
    }
}

static void zip(const struct level_zip *z, uint32_t *out, ptrdiff_t out_row, int panel,
                ptrdiff_t panel_step) {
    static const uint16_t zeros[LEVEL_VECTOR];
    for (int i = 0; i < z->rows; i++) {
        const int first = i * z->step, second = first + z->distance;
        const uint16_t *lo = first < z->n_in ? z->in + first * z->in_row : NULL;
        const uint16_t *hi = second < z->n_in ? z->in + second * z->in_row : NULL;
        uint32_t *to = out + i * out_row;
        for (ptrdiff_t c = 0; c < z->cols; c += panel, to += panel_step - panel) {
            const ptrdiff_t end = c + panel < z->cols ? c + panel : z->cols;
#define STEP(c, m)                                                                                 \
    store_part(0, to, c,                                                                           \
               (level_vec)(half_bits(lo ? lo + c : zeros, m) |                                     \
                           half_bits(hi ? hi + c : zeros, m) << 16),                               \
               m)
            FOR_COLUMNS(c, end, STEP);
#undef STEP
        }
    }
}

