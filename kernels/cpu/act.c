/* SPDX-License-Identifier: MIT
 * What stands between a stored tensor and a convolution: normalisation folded to scale and shift, Swish,
 * dropout; for whole tensors, and for the rows that a convolution takes as it goes. */
#include "kernels/cpu/cpu.h"

#include <math.h>

int cpu_act_is_none(const struct ops_act *act) {
    return !act || (!act->scale && !act->swish && !(act->drop > 0));
}

static struct level_act block_of(const struct cpu_rows *t) {
    struct level_act a = {.rows = t->n,
                          .cols = t->cols,
                          .half = t->dtype == OPS_BF16,
                          .x = cpu_at(t->dtype, t->x, t->row0 * t->C + t->c0),
                          .x_row = (ptrdiff_t)t->row_step * t->C};
    if (!t->act) return a;
    a.swish = t->act->swish;
    if (t->act->scale) {
        a.scale = t->act->scale + t->c0;
        a.shift = t->act->shift + t->c0;
    }
    return a;
}

static int drops(const struct cpu_rows *t) {
    return t->act && t->act->drop > 0;
}

/* The factors of elements [first, first + n) of sample b. */
static void dropout_factors(const struct level *v, const struct ops_act *act, int b, uint32_t first,
                            int n, float *factor) {
    const struct level_dropout d = {
        .key = {(uint32_t)act->seed, (uint32_t)(act->seed >> 32)},
        .counter = {0, act->stream, act->step, (uint32_t)(act->sample0 + (uint64_t)b)},
        .least = (uint32_t)ceil((double)act->drop * 0x1p32),
        .keep = (float)(1.0 / (1.0 - (double)act->drop))};
    v->dropout(&d, first, n, factor);
}

/* Makes `block` the one row i of the rows, with its dropout factors. */
static void take_row(const struct level *v, const struct cpu_rows *t, int i,
                     struct level_act *block) {
    const int64_t row = t->row0 + (int64_t)i * t->row_step;
    const uint32_t first = (uint32_t)(row % t->L * t->C + t->c0);
    dropout_factors(v, t->act, (int)(row / t->L), first, t->cols, t->factor);
    block->rows = 1;
    block->x = cpu_at(t->dtype, t->x, row * t->C + t->c0);
    block->factor = t->factor;
}

void cpu_act_zip(const struct level *v, const struct cpu_rows *t, uint32_t *pairs, ptrdiff_t row,
                 int panel, ptrdiff_t panel_step) {
    const struct level_act block = block_of(t);
    v->act_zip(&block, pairs, row, panel, panel_step);
}

void cpu_act_rows(const struct level *v, const struct cpu_rows *t, void *a, ptrdiff_t a_row,
                  int panel, ptrdiff_t panel_step) {
    struct level_act block = block_of(t);
    if (!drops(t)) {
        v->act_fwd(&block, a, a_row, panel, panel_step);
        return;
    }
    for (int i = 0; i < t->n; i++) {
        take_row(v, t, i, &block);
        v->act_fwd(&block, cpu_out(t->dtype, a, i * a_row), a_row, panel, panel_step);
    }
}

void cpu_act_rows_bwd(const struct level *v, const struct cpu_rows *t, const float *da,
                      ptrdiff_t da_row, int add, void *dn) {
    struct level_act block = block_of(t);
    void *out = cpu_out(t->dtype, dn, t->row0 * t->C + t->c0);
    const ptrdiff_t out_row = (ptrdiff_t)t->row_step * t->C;
    if (!drops(t)) {
        v->act_bwd(&block, da, da_row, add, out, out_row);
        return;
    }
    for (int i = 0; i < t->n; i++) {
        take_row(v, t, i, &block);
        v->act_bwd(&block, da + i * da_row, da_row, add, cpu_out(t->dtype, out, i * out_row),
                   out_row);
    }
}

/* ------------------------------------------------------------------------------------- whole tensors */

enum {
    STRIP = 1024,      /* columns taken at once; the dropout factors of a strip lie on the stack */
    TASK_FLOATS = 8192 /* elements of a task, about */
};

struct whole {
    const struct level *v;
    enum ops_dtype dtype;
    struct ops_blc s;
    const struct ops_act *act;
    const void *x, *da;
    void *out;
    int add;
    size_t n_tasks;
};

/* Row by row, the gradient from above being made fp32 first. */
static void bwd_widened(const struct whole *w, struct cpu_rows t) {
    float da[STRIP];
    const int n_rows = t.n;
    t.n = 1;
    for (int i = 0; i < n_rows; i++, t.row0++) {
        w->v->widen((size_t)t.cols, (const uint16_t *)w->da + t.row0 * t.C + t.c0, da);
        cpu_act_rows_bwd(w->v, &t, da, t.cols, w->add, w->out);
    }
}

static void whole_task(void *context, size_t task, int worker) {
    const struct whole *w = context;
    const struct cpu_part rows = cpu_part((size_t)w->s.B * w->s.L, w->n_tasks, task);
    const ptrdiff_t C = w->s.C;
    float factor[STRIP];
    (void)worker;
    for (int c0 = 0; c0 < C; c0 += STRIP) {
        const struct cpu_rows t = {.act = w->act,
                                   .dtype = w->dtype,
                                   .x = w->x,
                                   .C = w->s.C,
                                   .L = w->s.L,
                                   .row0 = (int64_t)rows.from,
                                   .row_step = 1,
                                   .n = (int)(rows.to - rows.from),
                                   .c0 = c0,
                                   .cols = cpu_min(STRIP, w->s.C - c0),
                                   .factor = factor};
        const ptrdiff_t start = (ptrdiff_t)rows.from * C + c0;
        if (!w->da)
            cpu_act_rows(w->v, &t, cpu_out(w->dtype, w->out, start), C, t.cols, 0);
        else if (w->dtype == OPS_F32)
            cpu_act_rows_bwd(w->v, &t, (const float *)w->da + start, C, w->add, w->out);
        else
            bwd_widened(w, t);
    }
}

static enum ecg_status run_whole(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                 struct whole *w) {
    TRY(cpu_check_blc(op, dtype, w->s));
    const size_t rows = (size_t)w->s.B * w->s.L, n = rows * (size_t)w->s.C;
    w->v = dev->level;
    w->dtype = dtype;
    w->n_tasks = cpu_ceil_div(n, TASK_FLOATS) < rows ? cpu_ceil_div(n, TASK_FLOATS) : rows;
    cpu_run(dev, w->n_tasks, 10.0 * (double)n, whole_task, w);
    return ECG_OK;
}

enum ecg_status cpu_act_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                            const struct ops_act *act, const void *x, void *a) {
    struct whole w = {.s = s, .act = act, .x = x, .out = a};
    return run_whole(dev, "act_fwd", dtype, &w);
}

enum ecg_status cpu_act_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                            const struct ops_act *act, const void *x, const void *da, int add,
                            void *dn) {
    struct whole w = {.s = s, .act = act, .x = x, .da = da, .out = dn, .add = add};
    return run_whole(dev, "act_bwd", dtype, &w);
}

/* ------------------------------------------------------------------------------------- vectors */

/* The four below see a vector as one row of a tensor with a channel for each element. */
static enum ecg_status run_vector(struct ops_dev *dev, size_t n, struct whole *w) {
    const size_t cols = n < STRIP ? n : STRIP, full = cols ? n / cols * cols : 0;
    if (full) {
        w->s = (struct ops_blc){1, (int)(full / cols), (int)cols};
        TRY(run_whole(dev, "vector", OPS_F32, w));
    }
    if (full == n) return ECG_OK;
    struct whole rest = *w;
    rest.s = (struct ops_blc){1, 1, (int)(n - full)};
    rest.x = (const float *)rest.x + full;
    rest.out = (float *)rest.out + full;
    if (rest.da) rest.da = (const float *)rest.da + full;
    return run_whole(dev, "vector", OPS_F32, &rest);
}

enum ecg_status cpu_swish_fwd(struct ops_dev *dev, size_t n, const float *x, float *y) {
    const struct ops_act act = {.swish = 1};
    struct whole w = {.act = &act, .x = x, .out = y};
    return run_vector(dev, n, &w);
}

enum ecg_status cpu_swish_bwd(struct ops_dev *dev, size_t n, const float *x, const float *dy,
                              float *dx) {
    const struct ops_act act = {.swish = 1};
    struct whole w = {.act = &act, .x = x, .da = dy, .out = dx};
    return run_vector(dev, n, &w);
}

enum ecg_status cpu_sigmoid_fwd(struct ops_dev *dev, size_t n, const float *x, float *y) {
    dev->level->sigmoid(n, x, y);
    return ECG_OK;
}

enum ecg_status cpu_sigmoid_bwd(struct ops_dev *dev, size_t n, const float *y, const float *dy,
                                float *dx) {
    (void)dev;
    for (size_t i = 0; i < n; i++) dx[i] = dy[i] * y[i] * (1.0f - y[i]);
    return ECG_OK;
}
