/* SPDX-License-Identifier: MIT
 * One SIMD level: the inner loops, and nothing but the inner loops, that gain from a wider instruction
 * set. level_template.h writes them once; level_avx512bf16.c, level_avx512.c, level_avx2.c and level_portable.c
 * compile them with their own flags; dispatch.c picks one table when a device is opened. Data lie in row-major
 * blocks: element (r, c) of block x stands at x[r * x_row + c]. Where a function takes `half`, its void pointers
 * are to bf16 (uint16_t) when half is set and to float when not; all between reading and writing is fp32. No
 * function allocates or fails. */
#ifndef KERNELS_CPU_LEVEL_H
#define KERNELS_CPU_LEVEL_H

#include <stddef.h>
#include <stdint.h>

enum { LEVEL_PLACE = 4 }; /* bytes of a place of a product's factor */

/* C(rows, cols) = init + A(rows, depth) B(depth, cols): the one product that all convolutions and linear
 * layers are made of. Every output is one sequential loop over `depth`, so its bits do not depend on where
 * the tile edges fall. A place of A and B has 4 bytes: a float, or with `half` a pair of bf16, the product of
 * two places then being the sum of both products of the pair's members. */
struct level_gemm {
    int rows, cols, depth; /* cols <= panel_cols */
    int half;
    const void *a; /* A(i, k) stands at i * a_row + k * a_step bytes; one of the two is 4 */
    ptrdiff_t a_row, a_step;
    const void *b; /* B(k, j) at k * b_step + j places; a whole panel of columns is readable */
    ptrdiff_t b_step;
    const float *init; /* element (i, j) at init[i * init_row + j]: a bias (init_row 0), C itself; NULL: 0 */
    ptrdiff_t init_row;
    void *c; /* c_half: bf16, else float */
    ptrdiff_t c_row;
    int c_half;
};

/* A block of activations: n = x * scale + shift, a = factor * swish(n). */
struct level_act {
    int rows, cols;
    int half; /* x, and what is made of it */
    const void *x;
    ptrdiff_t x_row;
    const float *scale, *shift; /* (cols), or both NULL */
    int swish;
    const float *factor; /* dropout's factors, (rows, cols) dense, or NULL */
};

/* Pairs of rows for products whose depth are rows: place (i, c) of the result holds elements c of rows i * step and
 * i * step + distance of `in`, rows from n_in on being zero; cut into panels of columns as act_fwd does it. */
struct level_zip {
    int rows, cols; /* of the result */
    const uint16_t *in;
    ptrdiff_t in_row;
    int n_in, step, distance;
};

/* Dropout's factors of a sample: of element i, 0 where word i % 4 of Philox's block i / 4 is below `least`, else keep
 * (kernels/dropout.h). */
struct level_dropout {
    uint32_t key[2], counter[4]; /* counter[0] is the block's */
    uint32_t least;
    float keep;
};

/* One step of Adam or AdamW with everything that is the same for all elements worked out. */
struct level_adam {
    float beta1, beta2, one_minus_beta1, one_minus_beta2;
    float keep;         /* p *= keep: 1 - lr * weight_decay when decoupled, else 1 */
    float l2;           /* g += l2 * p */
    float step_size;    /* lr / (1 - beta1^step) */
    float root_correct; /* sqrt(1 - beta2^step) */
    float eps;
};

struct level {
    const char *name;
    int vector;     /* floats of a vector: panels of no more columns than this are packed so wide */
    int panel_cols; /* columns of every other packed panel */

    void (*gemm)(const struct level_gemm *g);

    /* out(cols, rows) = in(rows, cols)^T */
    void (*transpose)(int rows, int cols, const float *in, ptrdiff_t in_row, float *out,
                      ptrdiff_t out_row);

    /* a = act(x), cut into panels of columns: column c of row r goes to
     * a[r * a_row + c / panel * panel_step + c % panel]. */
    void (*act_fwd)(const struct level_act *t, void *a, ptrdiff_t a_row, int panel,
                    ptrdiff_t panel_step);
    /* dn = da * factor * swish'(n), `add`: dn +=; dn == da allowed when !add and !half */
    void (*act_bwd)(const struct level_act *t, const float *da, ptrdiff_t da_row, int add, void *dn,
                    ptrdiff_t dn_row);
    void (*sigmoid)(size_t n, const float *x, float *y); /* y == x allowed */
    void (*zip)(const struct level_zip *z, uint32_t *out, ptrdiff_t out_row, int panel,
                ptrdiff_t panel_step);
    /* Every two rows of a dense (rows, cols) become a row of pairs of bf16; cols is a multiple of `vector`, the row that an
     * odd last one lacks is zero. */
    void (*pair_rows)(int rows, int cols, const float *x, float *pairs);
    void (*widen)(size_t n, const uint16_t *x, float *y);

    /* Sums over the rows of a block, (cols) each, added to double accumulators; up to SUM_ROWS rows are
     * added in fp32 first. */
    void (*sum_rows)(int half, int rows, int cols, const void *x, ptrdiff_t x_row, double *sum);
    /* dot += sum of x * y */
    void (*dot_rows)(int half, int rows, int cols, const void *x, const void *y, ptrdiff_t row,
                     double *dot);
    /* dot += sum of x * (y - mean[c]) */
    void (*deviation_dot_rows)(int half, int rows, int cols, const void *x, const void *y,
                               ptrdiff_t row, const float *mean, double *dot);
    /* square += sum of (x - mean[c])^2 */
    void (*deviation_rows)(int half, int rows, int cols, const void *x, ptrdiff_t x_row,
                           const float *mean, double *square);

    /* dx = a[c]*dn + b[c]*(x - mean[c]) + shift[c] on dense (rows, cols); `add`: dx +=; dx == dn allowed when
     * !add */
    void (*affine_rows)(int half, int rows, int cols, const void *dn, const void *x,
                        const float *mean, const float *a, const float *b, const float *shift,
                        int add, void *dx);

    /* Those of elements [first, first + n). */
    void (*dropout)(const struct level_dropout *d, uint32_t first, int n, float *factor);

    /* One row of n channels. y = max over the n_rows of x (a row that is NULL counts as zeros), y fp32. */
    void (*pool_row)(int half, int n, int n_rows, const void *const *x, float *y);
    /* y = gate * h + x; gate NULL: 1. x is bf16 with x_half, else fp32 */
    void (*gated_row)(int half, int n, const float *gate, const void *h, int x_half, const void *x,
                      void *y);
    /* y = gate * x + shift; gate NULL: y = shift, x is not read. x == y allowed */
    void (*spread_row)(int half, int n, const float *gate, const void *x, const float *shift,
                       void *y);
    /* dx[k] = dy where row k of x is the first to hold the largest of its column, else 0; rows as in pool_row, what
     * falls to those without a dx is dropped */
    void (*route_row)(int half, int n, int n_rows, const void *const *x, const void *dy,
                      void *const *dx);
    void (*adam)(const struct level_adam *s, size_t n, float *p, const float *g, float *m,
                 float *v);
};

extern const struct level level_avx512bf16, level_avx512, level_avx2, level_portable;

#endif
