/* SPDX-License-Identifier: MIT
 * One SIMD level: the inner loops, and nothing but the inner loops, that gain from a wider instruction
 * set. level_template.h writes them once; level_avx512.c, level_avx2.c and level_portable.c compile them
 * with their own flags; dispatch.c picks one table when a device is opened. All data are fp32 in row-major
 * blocks: element (r, c) of block x stands at x[r * x_row + c]. No function allocates or fails. */
#ifndef KERNELS_CPU_LEVEL_H
#define KERNELS_CPU_LEVEL_H

#include <stddef.h>

/* C(rows, cols) = init + A(rows, depth) B(depth, cols): the one product that all convolutions and linear
 * layers are made of. Every output is one sequential loop over `depth`, so its bits do not depend on where
 * the tile edges fall. */
struct level_gemm {
    int rows, cols, depth; /* cols <= panel_cols */
    const float *a;        /* A(i, k) = a[i * a_row + k * a_step]; one of the two is 1 */
    ptrdiff_t a_row, a_step;
    const float *b; /* B(k, j) = b[k * b_step + j]; a whole panel of columns is readable */
    ptrdiff_t b_step;
    const float *init; /* element (i, j) at init[i * init_row + j]: a bias (init_row 0), C itself; NULL: 0 */
    ptrdiff_t init_row;
    float *c;
    ptrdiff_t c_row;
};

/* A block of activations: n = x * scale + shift, a = factor * swish(n). */
struct level_act {
    int rows, cols;
    const float *x;
    ptrdiff_t x_row;
    const float *scale, *shift; /* (cols), or both NULL */
    int swish;
    const float *factor; /* dropout's factors, (rows, cols) dense, or NULL */
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
    void (*act_fwd)(const struct level_act *t, float *a, ptrdiff_t a_row, int panel,
                    ptrdiff_t panel_step);
    /* dn = da * factor * swish'(n), `add`: dn +=; dn == da allowed when !add */
    void (*act_bwd)(const struct level_act *t, const float *da, ptrdiff_t da_row, int add,
                    float *dn, ptrdiff_t dn_row);
    void (*sigmoid)(size_t n, const float *x, float *y); /* y == x allowed */

    /* Sums over the rows of a block, (cols) each, added to double accumulators; up to SUM_ROWS rows are
     * added in fp32 first. */
    void (*sum_rows)(int rows, int cols, const float *x, ptrdiff_t x_row, double *sum);
    /* dot += sum of x * y */
    void (*dot_rows)(int rows, int cols, const float *x, const float *y, ptrdiff_t row,
                     double *dot);
    /* dot += sum of x * (y - mean[c]) */
    void (*deviation_dot_rows)(int rows, int cols, const float *x, const float *y, ptrdiff_t row,
                               const float *mean, double *dot);
    /* square += sum of (x - mean[c])^2 */
    void (*deviation_rows)(int rows, int cols, const float *x, ptrdiff_t x_row, const float *mean,
                           double *square);

    /* dx = a[c]*dn + b[c]*(x - mean[c]) + shift[c] on dense (rows, cols); `add`: dx +=; dx == dn allowed when
     * !add */
    void (*affine_rows)(int rows, int cols, const float *dn, const float *x, const float *mean,
                        const float *a, const float *b, const float *shift, int add, float *dx);
    void (*adam)(const struct level_adam *s, size_t n, float *p, const float *g, float *m,
                 float *v);
};

extern const struct level level_avx512, level_avx2, level_portable;

#endif
