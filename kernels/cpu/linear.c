/* SPDX-License-Identifier: MIT
 * Linear layers. For few rows x, as the head and SE have them, weights are the larger factor by far: they are read once,
 * where they lie, and x is packed instead. For many rows a linear layer is a 1x1 convolution. Every output is the same
 * loop over K in either case, so its bits do not depend on the number of rows. */
#include <string.h>

#include "kernels/cpu/cpu.h"

enum {
    FEW = 64,       /* rows x of which the weights stay in place */
    TASK_ROWS = 32, /* outputs, or inputs, of a task */
    TILE_ROWS =
        8 /* rows of weights read side by side: more would drive each other out of the nearest cache */
};

struct linear {
    const struct level *v;
    int M, K, N;
    const float *x, *w, *b;
    float *y;
    int panel, n_panels; /* columns of packed x, panels */
    float *packed;       /* (n_panels, K, panel) */
    float *out;          /* per thread (TASK_ROWS, panel) */
};

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

/* The convolution over M samples in a row. */
static enum ecg_status as_conv(const char *op, int M, int K, int N, struct ops_conv *s) {
    *s =
        (struct ops_conv){.B = 1, .Lin = M, .Lout = M, .Cin = K, .Cout = N, .K = 1, .S = 1, .G = 1};
    return cpu_check_conv(op, OPS_F32, *s);
}

/* ------------------------------------------------------------------ forward: y^T = w x^T */

static struct linear forward_plan(struct ops_dev *dev, int M, int K, int N, struct arena *arena) {
    struct linear j = {.v = dev->level, .M = M, .K = K, .N = N};
    j.panel = M <= j.v->vector ? j.v->vector : j.v->panel_cols;
    j.n_panels = (int)cpu_ceil_div((size_t)M, (size_t)j.panel);
    j.packed = arena_carve(arena, (size_t)j.n_panels * (size_t)K * (size_t)j.panel * sizeof(float));
    j.out =
        arena_carve(arena, (size_t)dev->n_threads * TASK_ROWS * (size_t)j.panel * sizeof(float));
    return j;
}

static void pack_x(const struct linear *j) {
    for (int p = 0; p < j->n_panels; p++) {
        const int m0 = p * j->panel, cols = cpu_min(j->panel, j->M - m0);
        float *to = j->packed + (size_t)p * (size_t)j->K * (size_t)j->panel;
        if (cols < j->panel) memset(to, 0, (size_t)j->K * (size_t)j->panel * sizeof(*to));
        j->v->transpose(cols, j->K, j->x + (size_t)m0 * (size_t)j->K, j->K, to, j->panel);
    }
}

/* Outputs [n0, n0 + n) of the panel's rows x, by way of their transpose in `out`. */
static void forward_tile(const struct linear *j, int n0, int n, int p, float *out) {
    const int m0 = p * j->panel, cols = cpu_min(j->panel, j->M - m0);
    for (int i = 0; i < n; i++) {
        for (int c = 0; c < j->panel; c++) out[i * j->panel + c] = j->b ? j->b[n0 + i] : 0;
    }
    for (int i = 0; i < n; i += TILE_ROWS) {
        const struct level_gemm g = {.rows = cpu_min(TILE_ROWS, n - i),
                                     .cols = cols,
                                     .depth = j->K,
                                     .a = j->w + (size_t)(n0 + i) * (size_t)j->K,
                                     .a_row = (ptrdiff_t)j->K * (ptrdiff_t)sizeof(float),
                                     .a_step = sizeof(float),
                                     .b = j->packed + (size_t)p * (size_t)j->K * (size_t)j->panel,
                                     .b_step = j->panel,
                                     .init = out + i * j->panel,
                                     .init_row = j->panel,
                                     .c = out + i * j->panel,
                                     .c_row = j->panel};
        j->v->gemm(&g);
    }
    j->v->transpose(n, cols, out, j->panel, j->y + (size_t)m0 * (size_t)j->N + n0, j->N);
}

static void forward_task(void *context, size_t task, int worker) {
    const struct linear *j = context;
    const int n0 = (int)task * TASK_ROWS, n = cpu_min(TASK_ROWS, j->N - n0);
    for (int p = 0; p < j->n_panels; p++)
        forward_tile(j, n0, n, p, j->out + (size_t)worker * TASK_ROWS * (size_t)j->panel);
}

enum ecg_status cpu_linear_fwd(struct ops_dev *dev, int M, int K, int N, const float *x,
                               const float *w, const float *b, float *y, struct ops_ws ws) {
    struct ops_conv s;
    struct arena counted = {0}, arena;
    TRY(as_conv("linear_fwd", M, K, N, &s));
    if (M > FEW) return cpu_conv_fwd_act(dev, OPS_F32, s, NULL, x, w, NULL, b, y, ws);
    forward_plan(dev, M, K, N, &counted);
    TRY(cpu_scratch("linear_fwd", ws, counted.used, &arena));
    struct linear j = forward_plan(dev, M, K, N, &arena);
    j.x = x;
    j.w = w;
    j.b = b;
    j.y = y;
    pack_x(&j);
    cpu_run(dev, cpu_ceil_div((size_t)N, TASK_ROWS), 2.0 * M * K * N, forward_task, &j);
    return ECG_OK;
}

/* ------------------------------------------------------------------ gradient at x: dx = dy w */

static void backward_task(void *context, size_t task, int worker) {
    const struct linear *j = context;
    const int k0 = (int)task * j->panel;
    const struct level_gemm g = {.rows = j->M,
                                 .cols = j->panel,
                                 .depth = j->N,
                                 .a = j->x,
                                 .a_row = (ptrdiff_t)j->N * (ptrdiff_t)sizeof(float),
                                 .a_step = sizeof(float),
                                 .b = j->w + k0,
                                 .b_step = j->K,
                                 .c = j->y + k0,
                                 .c_row = j->K};
    (void)worker;
    j->v->gemm(&g);
}

/* Columns of w read together: whole ones only, since a product reads whole panels. 0: w has to be packed. */
static int whole_panel(const struct level *v, int K) {
    return K % v->panel_cols == 0 ? v->panel_cols : K % v->vector == 0 ? v->vector : 0;
}

enum ecg_status cpu_linear_bwd_x(struct ops_dev *dev, int M, int K, int N, const float *dy,
                                 const float *w, float *dx, struct ops_ws ws) {
    struct ops_conv s;
    struct linear j = {.v = dev->level, .M = M, .K = K, .N = N, .x = dy, .w = w, .y = dx};
    TRY(as_conv("linear_bwd_x", M, K, N, &s));
    j.panel = whole_panel(dev->level, K);
    if (M > FEW || j.panel == 0)
        return cpu_conv_bwd_x_act(dev, OPS_F32, s, NULL, NULL, dy, w, NULL, 0, dx, ws);
    cpu_run(dev, (size_t)(K / j.panel), 2.0 * M * K * N, backward_task, &j);
    return ECG_OK;
}

enum ecg_status cpu_linear_bwd_w(struct ops_dev *dev, int M, int K, int N, const float *x,
                                 const float *dy, float *dw, float *db, struct ops_ws ws) {
    struct ops_conv s;
    TRY(as_conv("linear_bwd_w", M, K, N, &s));
    return cpu_conv_bwd_w_act(dev, OPS_F32, s, NULL, x, dy, dw, db, ws);
}

size_t cpu_linear_ws(struct ops_dev *dev, int M, int K, int N) {
    struct ops_conv s;
    struct arena few = {0};
    if (as_conv("linear_ws", M, K, N, &s) != ECG_OK) return 0;
    forward_plan(dev, M, K, N, &few);
    return larger(
        larger(few.used, cpu_conv_fwd_ws(dev, OPS_F32, s, 0)),
        larger(cpu_conv_bwd_x_ws(dev, OPS_F32, s, 0), cpu_conv_bwd_w_ws(dev, OPS_F32, s)));
}
