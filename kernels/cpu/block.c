/* SPDX-License-Identifier: MIT
 * The end of a Net1D block: means over time, the shortcut y = gate*h + expand(pool(x)), and their backward
 * passes. All of it is bound by memory; the loops run along the channels. */
#include "kernels/cpu/cpu.h"

#include <string.h>

enum {
    STRIP = 256,       /* channels handled at once; what is worked out for them lies on the stack */
    TASK_FLOATS = 8192 /* elements of a task, about */
};

struct block {
    const struct level *v;
    enum ops_dtype dtype;
    struct ops_blc s;
    int Li, Ci, S; /* shortcut's input */
    const void *x, *h, *dy;
    const float *gate, *dm;
    float *sum; /* (B, C) */
    void *out;
    size_t n_tasks, n_strips;
};

static double elements(const struct block *j) {
    return (double)j->s.B * j->s.L * j->s.C;
}

static int is_half(const struct block *j) {
    return j->dtype == OPS_BF16;
}

/* Cuts n rows into tasks of about TASK_FLOATS elements. */
static void run_rows(struct ops_dev *dev, struct block *j, size_t n_rows, pool_fn *fn) {
    const size_t wanted = (size_t)(elements(j) / TASK_FLOATS) + 1;
    j->v = dev->level;
    j->n_tasks = wanted < n_rows ? wanted : n_rows;
    cpu_run(dev, j->n_tasks, 4 * elements(j), fn, j);
}

/* ------------------------------------------------------------------------------------- sums over time */

/* sum(B, C) = sum over l of h * dy, or the mean of h: one task for a sample and a strip of channels. */
static void sum_task(void *context, size_t task, int worker) {
    const struct block *j = context;
    const int b = (int)(task / j->n_strips), c0 = (int)(task % j->n_strips) * STRIP, C = j->s.C;
    const int cols = cpu_min(STRIP, C - c0);
    const int64_t start = (int64_t)b * j->s.L * C + c0;
    const void *h = cpu_at(j->dtype, j->h, start);
    double sum[STRIP] = {0};
    (void)worker;
    if (j->dy)
        j->v->dot_rows(is_half(j), j->s.L, cols, h, cpu_at(j->dtype, j->dy, start), C, sum);
    else
        j->v->sum_rows(is_half(j), j->s.L, cols, h, C, sum);
    for (int c = 0; c < cols; c++) {
        j->sum[(size_t)b * C + c0 + c] = (float)(j->dy ? sum[c] : sum[c] / j->s.L);
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
    struct block j = {.dtype = dtype, .s = s, .h = x, .sum = m};
    run_sums(dev, &j);
    return ECG_OK;
}

enum ecg_status cpu_gate_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const void *dy, const void *h, float *dgate) {
    TRY(cpu_check_blc("gate_bwd", dtype, s));
    struct block j = {.dtype = dtype, .s = s, .h = h, .dy = dy, .sum = dgate};
    run_sums(dev, &j);
    return ECG_OK;
}

/* ------------------------------------------------------------------------------------- spread over time */

/* Rows [from, to) of one sample: dh = gate*dy + dm/L; without dy only dm/L. */
static void spread_rows(const struct block *j, size_t b, size_t from, size_t to) {
    const int C = j->s.C;
    const float *gate = j->dy ? j->gate + b * (size_t)C : NULL, *dm = j->dm + b * (size_t)C;
    const float L = (float)j->s.L;
    float share[STRIP];
    for (int c0 = 0; c0 < C; c0 += STRIP) {
        const int n = cpu_min(STRIP, C - c0);
        for (int c = 0; c < n; c++) share[c] = dm[c0 + c] / L;
        for (size_t r = from; r < to; r++) {
            const int64_t at = (int64_t)r * C + c0;
            const void *dy = j->dy ? cpu_at(j->dtype, j->dy, at) : NULL;
            j->v->spread_row(is_half(j), n, gate ? gate + c0 : NULL, dy, share,
                             cpu_out(j->dtype, j->out, at));
        }
    }
}

static void spread_task(void *context, size_t task, int worker) {
    const struct block *j = context;
    const struct cpu_part rows = cpu_part((size_t)j->s.B * j->s.L, j->n_tasks, task);
    (void)worker;
    for (size_t r = rows.from; r < rows.to;) {
        const size_t b = r / (size_t)j->s.L, end = (b + 1) * (size_t)j->s.L;
        const size_t to = end < rows.to ? end : rows.to;
        spread_rows(j, b, r, to);
        r = to;
    }
}

enum ecg_status cpu_mean_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const float *dm, void *dx) {
    TRY(cpu_check_blc("mean_bwd", dtype, s));
    struct block j = {.dtype = dtype, .s = s, .dm = dm, .out = dx};
    run_rows(dev, &j, (size_t)s.B * s.L, spread_task);
    return ECG_OK;
}

enum ecg_status cpu_branch_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                               const void *dy, const float *gate, const float *dm, void *dh) {
    TRY(cpu_check_blc("branch_bwd", dtype, s));
    struct block j = {.dtype = dtype, .s = s, .dy = dy, .gate = gate, .dm = dm, .out = dh};
    run_rows(dev, &j, (size_t)s.B * s.L, spread_task);
    return ECG_OK;
}

/* ------------------------------------------------------------------------------------- shortcut */

enum { MOST_WINDOW = 64 }; /* rows of a pooling window */

static enum ecg_status check_shortcut(const char *op, enum ops_dtype dtype, const struct block *j) {
    const struct ops_blc s = j->s;
    TRY(cpu_check_blc(op, dtype, s));
    if (j->Li >= 1 && j->Ci >= 1 && j->S >= 1 && j->S <= MOST_WINDOW && j->Ci <= s.C &&
        s.L == (j->Li - 1) / j->S + 1)
        return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "cpu: %s: no such shape: (%d, %d, %d) from L %d, C %d, S %d", op,
                    s.B, s.L, s.C, j->Li, j->Ci, j->S);
}

static int window_start(const struct block *j, int l) {
    return l * j->S - (j->S - 1) / 2;
}

/* Where channel c0 of the rows of window l of sample b lies in a tensor like the input; NULL outside the record. */
static void window_rows(const struct block *j, const void *x, size_t b, int l, int c0,
                        const void **row) {
    for (int k = 0; k < j->S; k++) {
        const int i = window_start(j, l) + k;
        row[k] =
            i >= 0 && i < j->Li ? cpu_at(j->dtype, x, ((int64_t)b * j->Li + i) * j->Ci + c0) : NULL;
    }
}

/* pooled[c] of channels [from, to) of the output: 0 where the input has none. */
static void pool_strip(const struct block *j, size_t b, int l, int from, int to, float *pooled) {
    const int left = (j->s.C - j->Ci) / 2;
    const int first = cpu_max(from, left), last = cpu_min(to, left + j->Ci);
    const void *row[MOST_WINDOW];
    if (first > from || last < to) memset(pooled, 0, (size_t)(to - from) * sizeof *pooled);
    if (first >= last) return;
    window_rows(j, j->x, b, l, first - left, row);
    j->v->pool_row(is_half(j), last - first, j->S, row, pooled + (first - from));
}

static void shortcut_task(void *context, size_t task, int worker) {
    const struct block *j = context;
    const struct cpu_part rows = cpu_part((size_t)j->s.B * j->s.L, j->n_tasks, task);
    const int C = j->s.C, is_same = j->S == 1 && j->Ci == C; /* nothing is pooled or padded */
    float pooled[STRIP];
    (void)worker;
    for (size_t r = rows.from; r < rows.to; r++) {
        const size_t b = r / (size_t)j->s.L;
        for (int c0 = 0; c0 < C; c0 += STRIP) {
            const int n = cpu_min(STRIP, C - c0);
            const int64_t at = (int64_t)r * C + c0;
            const void *x = is_same ? cpu_at(j->dtype, j->x, at) : pooled;
            if (!is_same) pool_strip(j, b, (int)(r % (size_t)j->s.L), c0, c0 + n, pooled);
            j->v->gated_row(is_half(j), n, j->gate ? j->gate + b * (size_t)C + c0 : NULL,
                            cpu_at(j->dtype, j->h, at), is_same && is_half(j), x,
                            cpu_out(j->dtype, j->out, at));
        }
    }
}

enum ecg_status cpu_shortcut_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                 int Li, int Ci, int S, const void *h, const float *gate,
                                 const void *x, void *y) {
    struct block j = {
        .dtype = dtype, .s = s, .Li = Li, .Ci = Ci, .S = S, .x = x, .h = h, .gate = gate, .out = y};
    TRY(check_shortcut("shortcut_fwd", dtype, &j));
    run_rows(dev, &j, (size_t)s.B * s.L, shortcut_task);
    return ECG_OK;
}

/* dx's rows of window l, channels [c0, c0 + n): dy where the row holds the window's first maximum, else 0. */
static void route_strip(const struct block *j, size_t b, int l, int c0, int n) {
    const int64_t at = ((int64_t)b * j->s.L + l) * j->s.C + (j->s.C - j->Ci) / 2 + c0;
    const void *x[MOST_WINDOW];
    void *dx[MOST_WINDOW];
    window_rows(j, j->x, b, l, c0, x);
    for (int k = 0; k < j->S; k++) {
        const int64_t row = (int64_t)b * j->Li + window_start(j, l) + k;
        dx[k] = x[k] ? cpu_out(j->dtype, j->out, row * j->Ci + c0) : NULL;
    }
    j->v->route_row(is_half(j), n, j->S, x, cpu_at(j->dtype, j->dy, at), dx);
}

static void route_task(void *context, size_t task, int worker) {
    const struct block *j = context;
    const struct cpu_part rows = cpu_part((size_t)j->s.B * j->s.L, j->n_tasks, task);
    const size_t row_bytes = (size_t)j->Ci * cpu_size(j->dtype);
    (void)worker;
    for (size_t r = rows.from; r < rows.to; r++) {
        const size_t b = r / (size_t)j->s.L;
        const int l = (int)(r % (size_t)j->s.L);
        if (j->S == 1) {
            memcpy(cpu_out(j->dtype, j->out, (int64_t)r * j->Ci),
                   cpu_at(j->dtype, j->dy, (int64_t)r * j->s.C + (j->s.C - j->Ci) / 2), row_bytes);
            continue;
        }
        for (int c0 = 0; c0 < j->Ci; c0 += STRIP)
            route_strip(j, b, l, c0, cpu_min(STRIP, j->Ci - c0));
        if (l < j->s.L - 1) continue;
        for (int i = cpu_max(window_start(j, l) + j->S, 0); i < j->Li; i++) /* behind the last */
            memset(cpu_out(j->dtype, j->out, ((int64_t)b * j->Li + i) * j->Ci), 0, row_bytes);
    }
}

enum ecg_status cpu_shortcut_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                 int Li, int Ci, int S, const void *x, const void *dy, void *dx) {
    struct block j = {
        .dtype = dtype, .s = s, .Li = Li, .Ci = Ci, .S = S, .x = x, .dy = dy, .out = dx};
    TRY(check_shortcut("shortcut_bwd", dtype, &j));
    run_rows(dev, &j, (size_t)s.B * s.L, route_task);
    return ECG_OK;
}
