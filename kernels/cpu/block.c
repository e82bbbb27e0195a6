/* SPDX-License-Identifier: MIT
 * The end of a Net1D block: means over time, the shortcut y = gate*h + expand(pool(x)), and their backward
 * passes. All of it is bound by memory; the loops run along the channels. */
#include "kernels/cpu/cpu.h"

#include <string.h>

enum {
    STRIP = 256,       /* channels handled at once; their sums lie on the stack */
    TASK_FLOATS = 8192 /* elements of a task, about */
};

struct block {
    const struct level *v;
    struct ops_blc s;
    int Li, Ci, S; /* shortcut's input */
    const float *x, *h, *dy, *gate, *dm;
    float *out;
    size_t n_tasks, n_strips;
};

static double elements(const struct block *j) {
    return (double)j->s.B * j->s.L * j->s.C;
}

/* Cuts n rows into tasks of about TASK_FLOATS elements. */
static void run_rows(struct ops_dev *dev, struct block *j, size_t n_rows, pool_fn *fn) {
    const size_t wanted = (size_t)(elements(j) / TASK_FLOATS) + 1;
    j->v = dev->level;
    j->n_tasks = wanted < n_rows ? wanted : n_rows;
    cpu_run(dev, j->n_tasks, 4 * elements(j), fn, j);
}

/* ------------------------------------------------------------------------------------- sums over time */

/* out(B, C) = sum over l of h, or of h * dy: one task for a sample and a strip of channels. */
static void sum_task(void *context, size_t task, int worker) {
    const struct block *j = context;
    const int b = (int)(task / j->n_strips), c0 = (int)(task % j->n_strips) * STRIP, C = j->s.C;
    const int cols = cpu_min(STRIP, C - c0);
    const size_t start = (size_t)b * j->s.L * C + c0;
    double sum[STRIP] = {0};
    (void)worker;
    if (j->dy)
        j->v->dot_rows(j->s.L, cols, j->h + start, j->dy + start, C, sum);
    else
        j->v->sum_rows(j->s.L, cols, j->h + start, C, sum);
    for (int c = 0; c < cols; c++) {
        j->out[(size_t)b * C + c0 + c] = (float)(j->dy ? sum[c] : sum[c] / j->s.L);
    }
}

static void run_sums(struct ops_dev *dev, struct block *j) {
    j->v = dev->level;
    j->n_strips = cpu_ceil_div((size_t)j->s.C, STRIP);
    cpu_run(dev, (size_t)j->s.B * j->n_strips, 2 * elements(j), sum_task, j);
}

enum ecg_status cpu_mean_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const void *x, float *m) {
    TRY(cpu_check_blc("mean_fwd", dtype, s));
    struct block j = {.s = s, .h = x, .out = m};
    run_sums(dev, &j);
    return ECG_OK;
}

enum ecg_status cpu_gate_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const void *dy, const void *h, float *dgate) {
    TRY(cpu_check_blc("gate_bwd", dtype, s));
    struct block j = {.s = s, .h = h, .dy = dy, .out = dgate};
    run_sums(dev, &j);
    return ECG_OK;
}

/* ------------------------------------------------------------------------------------- spread over time */

/* dh = gate*dy + dm/L for some rows (b, l); without dy only dm/L. */
static void spread_task(void *context, size_t task, int worker) {
    const struct block *j = context;
    const struct cpu_part rows = cpu_part((size_t)j->s.B * j->s.L, j->n_tasks, task);
    const int C = j->s.C;
    const float L = (float)j->s.L;
    (void)worker;
    for (size_t r = rows.from; r < rows.to; r++) {
        const size_t b = r / (size_t)j->s.L;
        const float *dm = j->dm + b * (size_t)C;
        float *out = j->out + r * (size_t)C;
        if (!j->dy) {
            for (int c = 0; c < C; c++) out[c] = dm[c] / L;
            continue;
        }
        const float *gate = j->gate + b * (size_t)C, *dy = j->dy + r * (size_t)C;
        _Pragma("GCC ivdep") for (int c = 0; c < C; c++) out[c] = gate[c] * dy[c] + dm[c] / L;
    }
}

enum ecg_status cpu_mean_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const float *dm, void *dx) {
    TRY(cpu_check_blc("mean_bwd", dtype, s));
    struct block j = {.s = s, .dm = dm, .out = dx};
    run_rows(dev, &j, (size_t)s.B * s.L, spread_task);
    return ECG_OK;
}

enum ecg_status cpu_branch_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                               const void *dy, const float *gate, const float *dm, void *dh) {
    TRY(cpu_check_blc("branch_bwd", dtype, s));
    struct block j = {.s = s, .dy = dy, .gate = gate, .dm = dm, .out = dh};
    run_rows(dev, &j, (size_t)s.B * s.L, spread_task);
    return ECG_OK;
}

/* ------------------------------------------------------------------------------------- shortcut */

static enum ecg_status check_shortcut(const char *op, enum ops_dtype dtype, const struct block *j) {
    const struct ops_blc s = j->s;
    TRY(cpu_check_blc(op, dtype, s));
    if (j->Li >= 1 && j->Ci >= 1 && j->S >= 1 && j->Ci <= s.C && s.L == (j->Li - 1) / j->S + 1)
        return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "cpu: %s: no such shape: (%d, %d, %d) from L %d, C %d, S %d", op,
                    s.B, s.L, s.C, j->Li, j->Ci, j->S);
}

/* Row i of sample b of the input; NULL outside the record, where samples are zero. */
static const float *input_row(const struct block *j, size_t b, int i) {
    return i >= 0 && i < j->Li ? j->x + (b * (size_t)j->Li + (size_t)i) * (size_t)j->Ci : NULL;
}

static int window_start(const struct block *j, int l) {
    return l * j->S - (j->S - 1) / 2;
}

static void pool_row(const struct block *j, size_t b, int l, float *restrict pooled) {
    const int start = window_start(j, l), n = j->Ci;
    const float *first = input_row(j, b, start);
    if (first)
        memcpy(pooled, first, (size_t)n * sizeof *pooled);
    else
        memset(pooled, 0, (size_t)n * sizeof *pooled);
    for (int i = start + 1; i < start + j->S; i++) {
        const float *restrict x = input_row(j, b, i);
        if (x)
            for (int c = 0; c < n; c++) pooled[c] = x[c] > pooled[c] ? x[c] : pooled[c];
        else
            for (int c = 0; c < n; c++) pooled[c] = 0 > pooled[c] ? 0 : pooled[c];
    }
}

static void shortcut_task(void *context, size_t task, int worker) {
    const struct block *j = context;
    const struct cpu_part rows = cpu_part((size_t)j->s.B * j->s.L, j->n_tasks, task);
    const int C = j->s.C, c0 = (C - j->Ci) / 2;
    (void)worker;
    for (size_t r = rows.from; r < rows.to; r++) {
        const size_t b = r / (size_t)j->s.L;
        const float *restrict h = j->h + r * (size_t)C;
        float *restrict y = j->out + r * (size_t)C;
        memset(y, 0, (size_t)c0 * sizeof *y);
        pool_row(j, b, (int)(r % (size_t)j->s.L), y + c0);
        memset(y + c0 + j->Ci, 0, (size_t)(C - c0 - j->Ci) * sizeof *y);
        if (!j->gate) {
            for (int c = 0; c < C; c++) y[c] += h[c];
            continue;
        }
        const float *restrict gate = j->gate + b * (size_t)C;
        for (int c = 0; c < C; c++) y[c] += gate[c] * h[c];
    }
}

enum ecg_status cpu_shortcut_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                 int Li, int Ci, int S, const void *h, const float *gate,
                                 const void *x, void *y) {
    struct block j = {.s = s, .Li = Li, .Ci = Ci, .S = S, .x = x, .h = h, .gate = gate, .out = y};
    TRY(check_shortcut("shortcut_fwd", dtype, &j));
    run_rows(dev, &j, (size_t)s.B * s.L, shortcut_task);
    return ECG_OK;
}

/* Row k of window l from channel c0 on; zeros outside the record. */
static const float *window_row(const struct block *j, size_t b, int l, int k, int c0) {
    static const float zeros[STRIP];
    const float *row = input_row(j, b, window_start(j, l) + k);
    return row ? row + c0 : zeros;
}

/* dx's rows of window l, channels [c0, c0 + n): dy where the row holds the window's first maximum, else 0. The
 * winner is found from behind, in loops of one choice each, which the compiler vectorises. */
static void route_strip(const struct block *j, size_t b, int l, int c0, int n) {
    const float *restrict dy =
        j->dy + (b * (size_t)j->s.L + (size_t)l) * (size_t)j->s.C + (j->s.C - j->Ci) / 2 + c0;
    float best[STRIP];
    int winner[STRIP] = {0};

    memcpy(best, window_row(j, b, l, 0, c0), (size_t)n * sizeof *best);
    for (int k = 1; k < j->S; k++) {
        const float *restrict x = window_row(j, b, l, k, c0);
        for (int c = 0; c < n; c++) best[c] = x[c] > best[c] ? x[c] : best[c];
    }
    for (int k = j->S - 1; k >= 0; k--) {
        const float *restrict x = window_row(j, b, l, k, c0);
        for (int c = 0; c < n; c++) winner[c] = x[c] == best[c] ? k : winner[c];
    }
    for (int k = 0; k < j->S; k++) {
        const int i = window_start(j, l) + k;
        if (i < 0 || i >= j->Li) continue;
        float *restrict dx = j->out + (b * (size_t)j->Li + (size_t)i) * (size_t)j->Ci + c0;
        for (int c = 0; c < n; c++) {
            const float d = dy[c];
            dx[c] = winner[c] == k ? d : 0;
        }
    }
}

static void route_task(void *context, size_t task, int worker) {
    const struct block *j = context;
    const struct cpu_part rows = cpu_part((size_t)j->s.B * j->s.L, j->n_tasks, task);
    (void)worker;
    for (size_t r = rows.from; r < rows.to; r++) {
        const size_t b = r / (size_t)j->s.L;
        const int l = (int)(r % (size_t)j->s.L);
        if (j->S == 1) {
            memcpy(j->out + r * (size_t)j->Ci, j->dy + r * (size_t)j->s.C + (j->s.C - j->Ci) / 2,
                   (size_t)j->Ci * sizeof(float));
            continue;
        }
        for (int c0 = 0; c0 < j->Ci; c0 += STRIP)
            route_strip(j, b, l, c0, cpu_min(STRIP, j->Ci - c0));
        if (l < j->s.L - 1) continue;
        for (int i = cpu_max(window_start(j, l) + j->S, 0); i < j->Li;
             i++) { /* behind the last window */
            memset(j->out + (b * (size_t)j->Li + (size_t)i) * (size_t)j->Ci, 0,
                   (size_t)j->Ci * sizeof(float));
        }
    }
}

enum ecg_status cpu_shortcut_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                 int Li, int Ci, int S, const void *x, const void *dy, void *dx) {
    struct block j = {.s = s, .Li = Li, .Ci = Ci, .S = S, .x = x, .dy = dy, .out = dx};
    TRY(check_shortcut("shortcut_bwd", dtype, &j));
    run_rows(dev, &j, (size_t)s.B * s.L, route_task);
    return ECG_OK;
}
