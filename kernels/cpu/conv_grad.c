/* SPDX-License-Identifier: MIT
 * Weight gradient of a convolution: dw[n][k] = sum over windows m of dy[m][n] * window[m][k], k = (tap, in): a
 * product whose depth is the B * Lout windows.
 *
 * The windows are walked in units of at most UNIT of one sample. A task owns a rectangle of dw (a group; a
 * share of its output channels; for 1x1 convolutions also a share of the input channels) and a chunk of the
 * units, for which it fills the slab and a copy of dy's rows, and adds the unit's product to its own partial
 * sum. The shape fixes the shares and chunks, and the partial sums of the chunks are added to dw in their
 * order, so the result is the same for any number of threads. Where there is one chunk and dw's layout is
 * the product's (one tap), dw itself is the sum.
 *
 * In bf16 a place of the product holds a pair of windows, m and m + 1: dy's rows are taken by twos, and rows r and
 * r + step of the slab, which tap by tap belong to two windows one after the other, become one row of pairs. */
#include "kernels/cpu/windows.h"

/* UNIT: windows summed in fp32 before a tile's registers are stored. SHARE_OUT: output channels of a share at
 * most, so that dy's rows of a unit fit a second-level cache. SHARE_WEIGHTS: weights of a share, about, so
 * that its sum does. FINISH_*: weights finished by one task, and at once. */
enum { UNIT = 128, UNIT_HALF = 256, SHARE_OUT = 512, SHARE_WEIGHTS = 65536, ENOUGH_TASKS = 16 };
enum { FINISH_WORK = 32768, FINISH_TAPS = 16, FINISH_COLS = 128 };

struct grad {
    struct ops_dev *dev;
    struct windows win;
    const struct ops_act *act;
    const void *x, *dy;
    float *dw, *db;
    int half;
    int out, depth; /* of a group: output channels, taps * in */
    int merged, direct;
    int dy_in_place;      /* dy is read where it lies */
    int panel;            /* columns of a product */
    int batch, n_batches; /* groups of a task */
    int units;            /* of a sample */
    int unit;             /* windows of a unit at most */
    int in_panels;        /* panels of a group's input channels; 1 unless merged */
    int n_out, n_in;      /* shares */
    int n_chunks;
    int most_out;       /* channels of a share at most */
    ptrdiff_t dy_row;   /* places between the rows of the copy of dy, or of dy itself */
    float *partial;     /* (n_chunks, G * out, depth) */
    double *db_partial; /* (n_chunks, G * out) */
    char *scratch;
    size_t slab, dy_copy, factor, unpaired; /* bytes of a thread's scratch */
};

static struct grad plan(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s) {
    struct grad j = {.dev = dev,
                     .win = windows_fwd(dtype, s),
                     .half = dtype == OPS_BF16,
                     .out = s.Cout / s.G,
                     .merged = windows_mergeable(s)};
    const struct level *v = dev->level;
    j.depth = j.win.taps * j.win.in;
    j.panel = j.depth <= v->vector ? v->vector : v->panel_cols;
    j.batch = windows_batch(OPS_F32, j.win.in, j.out, j.win.G);
    j.n_batches = (int)cpu_ceil_div((size_t)j.win.G, (size_t)j.batch);
    j.units = (int)cpu_ceil_div((size_t)j.win.n, j.half ? UNIT_HALF : UNIT);
    j.unit = (int)cpu_ceil_div((size_t)j.win.n, (size_t)j.units);
    j.n_out = (int)cpu_ceil_div((size_t)j.out, SHARE_OUT);
    j.most_out = (int)cpu_ceil_div((size_t)j.out, (size_t)j.n_out);
    j.in_panels = j.merged ? (int)cpu_ceil_div((size_t)j.win.in, (size_t)j.panel) : 1;
    j.n_in = cpu_min(j.in_panels,
                     (int)cpu_ceil_div((size_t)j.win.in * (size_t)j.most_out, SHARE_WEIGHTS));
    const int64_t rectangles = (int64_t)j.n_batches * j.n_out * j.n_in;
    const int64_t all_units = (int64_t)j.win.B * j.units;
    const int64_t wanted = (ENOUGH_TASKS + rectangles - 1) / rectangles;
    j.n_chunks = (int)(wanted < all_units ? wanted : all_units);
    j.direct = j.n_chunks == 1 && j.win.taps == 1;
    j.dy_in_place = !j.half && windows_readable(dtype, s.Cout);
    j.dy_row = j.dy_in_place
                   ? s.Cout
                   : (ptrdiff_t)(cpu_ceil_div((size_t)j.most_out * (size_t)j.batch, 16) | 1) * 16;
    return j;
}

/* Rows of a product's depth that n windows make: as many, or half as many pairs. */
static int places(const struct grad *j, int n) {
    return j->half ? (n + 1) / 2 : n;
}

/* n, or as many windows as there are in whole pairs. */
static int even(const struct grad *j, int n) {
    return j->half ? n + n % 2 : n;
}

static size_t thread_bytes(const struct grad *j) {
    return j->slab + j->dy_copy + j->factor + j->unpaired;
}

static void carve(struct grad *j, struct arena *arena) {
    const size_t weights = (size_t)j->win.G * j->out * j->depth;
    const size_t panels = cpu_ceil_div((size_t)j->in_panels, (size_t)j->n_in);
    const size_t rows = (size_t)places(j, j->unit);
    const size_t in_slab =
        j->merged ? panels * rows * (size_t)j->panel * (size_t)j->batch
                  : windows_slab(&j->win, even(j, j->unit)) * (size_t)j->batch + (size_t)j->panel;
    j->slab = cpu_round_up(in_slab * LEVEL_PLACE, MEM_ALIGN);
    j->dy_copy =
        j->dy_in_place ? 0 : cpu_round_up(rows * (size_t)j->dy_row * LEVEL_PLACE, MEM_ALIGN);
    j->factor = cpu_round_up((size_t)j->win.in * (size_t)j->batch * sizeof(float), MEM_ALIGN);
    j->unpaired = 0;
    if (j->half) {
        const size_t row = j->merged ? panels * (size_t)j->panel : 0;
        const size_t elements = j->merged
                                    ? (size_t)j->unit * row
                                    : windows_slab(&j->win, even(j, j->unit)) * (size_t)j->batch;
        j->unpaired = cpu_round_up(elements * sizeof(uint16_t), MEM_ALIGN);
    }
    j->partial = arena_carve(arena, j->direct ? 0 : (size_t)j->n_chunks * weights * sizeof(float));
    j->db_partial =
        arena_carve(arena, (size_t)j->n_chunks * (size_t)j->win.G * j->out * sizeof(double));
    j->scratch = arena_carve(arena, thread_bytes(j) * (size_t)j->dev->n_threads);
}

size_t cpu_conv_bwd_w_ws(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s) {
    struct arena counted = {0};
    struct grad j = plan(dev, dtype, s);
    carve(&j, &counted);
    return counted.used;
}

/* A thread's scratch. */
struct thread {
    char *slab;
    void *dy_copy;
    float *factor;
    uint16_t *unpaired;
};

/* What a task owns. Several groups only where each is one share. */
struct rectangle {
    int g0, n_groups;
    int out0, n_out, in0, n_in; /* channels within a group; n_in: columns of the product */
    float *c;                   /* the sum: (n_groups, out, depth), from (out0, in0) of group g0 */
    double *db;                 /* (n_groups * n_out) or NULL */
};

/* Places of the slab of one group in a unit of n windows. */
static size_t slab_of(const struct grad *j, const struct rectangle *r, int n) {
    const size_t panels = cpu_ceil_div((size_t)r->n_in, (size_t)j->panel);
    return j->merged ? panels * (size_t)j->panel * (size_t)places(j, n)
                     : windows_slab(&j->win, even(j, n));
}

/* Element c0 of window m0 of sample b in dy. */
static const void *dy_at(const struct grad *j, const struct rectangle *r, int b, int m0) {
    const int64_t row = (int64_t)b * j->win.n + m0;
    return cpu_at(j->win.dtype, j->dy, row * j->win.G * j->out + r->g0 * j->out + r->out0);
}

/* dy's rows of windows [m0, m0 + n) of sample b, where they lie, or copied or paired in `copy`. */
static const void *dy_rows(const struct grad *j, const struct rectangle *r, int b, int m0, int n,
                           void *copy) {
    if (j->dy_in_place) return dy_at(j, r, b, m0);
    if (j->half) {
        const struct level_zip pairs = {.rows = places(j, n),
                                        .cols = r->n_groups * r->n_out,
                                        .in = dy_at(j, r, b, m0),
                                        .in_row = (ptrdiff_t)j->win.G * j->out,
                                        .n_in = n,
                                        .step = 2,
                                        .distance = 1};
        j->dev->level->zip(&pairs, copy, j->dy_row, pairs.cols, 0);
        return copy;
    }
    const struct cpu_rows rows = {.x = j->dy,
                                  .C = j->win.G * j->out,
                                  .L = j->win.n,
                                  .row0 = (int64_t)b * j->win.n + m0,
                                  .row_step = 1,
                                  .n = n,
                                  .c0 = r->g0 * j->out + r->out0,
                                  .cols = r->n_groups * r->n_out};
    cpu_act_rows(j->dev->level, &rows, copy, j->dy_row, rows.cols, 0);
    return copy;
}

/* A merged slab of group g, panel by panel. */
static void fill_merged(const struct grad *j, const struct rectangle *r, int g, int m0, int n,
                        const struct thread *mine) {
    const struct level *v = j->dev->level;
    char *slab = mine->slab + (size_t)g * slab_of(j, r, n) * LEVEL_PLACE;
    const struct cpu_rows in = {.act = j->act,
                                .dtype = j->win.dtype,
                                .x = j->x,
                                .C = j->win.G * j->win.in,
                                .L = j->win.L,
                                .row0 = m0,
                                .row_step = 1,
                                .n = n,
                                .c0 = (r->g0 + g) * j->win.in + r->in0,
                                .cols = r->n_in,
                                .factor = mine->factor};
    if (!j->half) {
        cpu_act_rows(v, &in, slab, j->panel, j->panel, (ptrdiff_t)j->panel * n);
        return;
    }
    const struct level_zip pairs = {.rows = places(j, n),
                                    .cols = r->n_in,
                                    .in = mine->unpaired,
                                    .in_row = r->n_in,
                                    .n_in = n,
                                    .step = 2,
                                    .distance = 1};
    cpu_act_rows(v, &in, mine->unpaired, r->n_in, r->n_in, 0);
    v->zip(&pairs, (uint32_t *)(void *)slab, j->panel, j->panel,
           (ptrdiff_t)j->panel * places(j, n));
}

/* The slabs of windows [m0, m0 + n) of sample b. */
static void fill_slabs(const struct grad *j, const struct rectangle *r, int b, int m0, int n,
                       const struct thread *mine) {
    const struct level *v = j->dev->level;
    const int n_groups = r->n_groups, windows = even(j, n);
    if (j->merged) {
        for (int g = 0; g < n_groups; g++) fill_merged(j, r, g, m0, n, mine);
        return;
    }
    windows_fill(v, &j->win, j->act, j->x, b, r->g0, n_groups, m0, windows, mine->factor,
                 j->half ? (void *)mine->unpaired : (void *)mine->slab);
    if (!j->half) return;
    /* Rows that lie side by side are one long row, paired with itself a step further on. */
    const size_t each = windows_slab(&j->win, windows);
    const int rows = (windows - 2) * j->win.step + j->win.taps;
    for (int g = 0; g < n_groups; g++) {
        const struct level_zip pairs = {.rows = 1,
                                        .cols = rows * (int)j->win.row,
                                        .in = mine->unpaired + (size_t)g * each,
                                        .in_row = j->win.row * j->win.step,
                                        .n_in = 2,
                                        .distance = 1};
        v->zip(&pairs, (uint32_t *)(void *)mine->slab + (size_t)g * each, 0, pairs.cols, 0);
    }
}

/* Adds one group's product over the unit. */
static void add_group(const struct grad *j, const struct rectangle *r, int g, int n, int is_first,
                      const char *slab, const char *dy) {
    const int depth = places(j, n);
    const ptrdiff_t step = j->win.step * j->win.row * (j->half ? 2 : 1);
    for (int k = 0; k < r->n_in; k += j->panel) {
        float *c = r->c + (ptrdiff_t)g * j->out * j->depth + k;
        const struct level_gemm product = {.rows = r->n_out,
                                           .cols = cpu_min(j->panel, r->n_in - k),
                                           .depth = depth,
                                           .half = j->half,
                                           .a = dy + (ptrdiff_t)g * j->out * LEVEL_PLACE,
                                           .a_row = LEVEL_PLACE,
                                           .a_step = j->dy_row * LEVEL_PLACE,
                                           .b = slab + (j->merged ? (ptrdiff_t)k * depth : k) *
                                                           LEVEL_PLACE,
                                           .b_step = j->merged ? j->panel : step,
                                           .init = is_first && !j->direct ? NULL : c,
                                           .init_row = j->depth,
                                           .c = c,
                                           .c_row = j->depth};
        j->dev->level->gemm(&product);
    }
}

/* Task = (batch of groups, share of out, share of in, chunk), chunk fastest. */
static struct rectangle rectangle_of(const struct grad *j, size_t task, size_t *chunk) {
    *chunk = task % (size_t)j->n_chunks;
    task /= (size_t)j->n_chunks;
    struct rectangle r = {.n_in = j->depth};
    if (j->merged) {
        const struct cpu_part panels =
            cpu_part((size_t)j->in_panels, (size_t)j->n_in, task % (size_t)j->n_in);
        r.in0 = (int)panels.from * j->panel;
        r.n_in = cpu_min((int)panels.to * j->panel, j->depth) - r.in0;
    }
    task /= (size_t)j->n_in;
    const struct cpu_part out = cpu_part((size_t)j->out, (size_t)j->n_out, task % (size_t)j->n_out);
    r.g0 = (int)(task / (size_t)j->n_out) * j->batch;
    r.n_groups = cpu_min(j->batch, j->win.G - r.g0);
    r.out0 = (int)out.from;
    r.n_out = (int)(out.to - out.from);

    const size_t rows = (size_t)j->win.G * j->out, row = (size_t)r.g0 * j->out + out.from;
    r.c = (j->direct ? j->dw : j->partial + *chunk * rows * j->depth) + row * j->depth + r.in0;
    r.db = j->db && r.in0 == 0 ? j->db_partial + *chunk * rows + row : NULL;
    return r;
}

/* sum(n_t, n) = the chunks' sums of some taps' neighbouring inputs, rows FINISH_COLS apart; `part`: the first
 * chunk's. */
static void add_chunks(const struct grad *j, const float *part, int n_t, int n, float *sum) {
    const size_t weights = (size_t)j->win.G * j->out * j->depth;
    for (int t = 0; t < n_t; t++) {
        float *row = sum + t * FINISH_COLS;
        for (int k = 0; k < n; k++) row[k] = 0;
        for (int q = 0; q < j->n_chunks; q++) {
            const float *from = part + (size_t)q * weights + (size_t)t * j->win.in;
            for (int k = 0; k < n; k++) row[k] += from[k];
        }
    }
}

/* dw[n][i][t] += the chunks' sums of (t, i). */
static void finish_row(const struct grad *j, size_t n) {
    const int in = j->win.in, taps = j->win.taps;
    const float *part = j->partial + n * (size_t)j->depth;
    float *dw = j->dw + n * (size_t)j->depth;
    float sum[FINISH_TAPS * FINISH_COLS], turned[FINISH_COLS * FINISH_TAPS];
    for (int i0 = 0; i0 < in; i0 += FINISH_COLS) {
        const int n_i = cpu_min(FINISH_COLS, in - i0);
        for (int t0 = 0; t0 < taps; t0 += FINISH_TAPS) {
            const int n_t = cpu_min(FINISH_TAPS, taps - t0);
            add_chunks(j, part + (ptrdiff_t)t0 * in + i0, n_t, n_i, sum);
            if (taps == 1) {
                for (int i = 0; i < n_i; i++) dw[i0 + i] += sum[i];
                continue;
            }
            j->dev->level->transpose(n_t, n_i, sum, FINISH_COLS, turned, FINISH_TAPS);
            for (int i = 0; i < n_i; i++) {
                float *row = dw + (ptrdiff_t)(i0 + i) * taps + t0;
                for (int t = 0; t < n_t; t++) row[t] += turned[i * FINISH_TAPS + t];
            }
        }
    }
}

/* Where there is one chunk, and rectangles hold whole rows, a task's sum is complete and still near at its end. */
static int finishes_itself(const struct grad *j) {
    return !j->direct && j->n_chunks == 1 && j->n_in == 1;
}

static void finish_rectangle(const struct grad *j, const struct rectangle *r) {
    for (int g = r->g0; g < r->g0 + r->n_groups; g++) {
        for (int n = r->out0; n < r->out0 + r->n_out; n++)
            finish_row(j, (size_t)g * (size_t)j->out + (size_t)n);
    }
}

static void grad_task(void *context, size_t task, int worker) {
    const struct grad *j = context;
    char *base = j->scratch + (size_t)worker * thread_bytes(j);
    const struct thread mine = {.slab = base,
                                .dy_copy = base + j->slab,
                                .factor = (float *)(void *)(base + j->slab + j->dy_copy),
                                .unpaired =
                                    (uint16_t *)(void *)(base + j->slab + j->dy_copy + j->factor)};
    size_t chunk;
    const struct rectangle r = rectangle_of(j, task, &chunk);
    const struct cpu_part units =
        cpu_part((size_t)j->win.B * (size_t)j->units, (size_t)j->n_chunks, chunk);

    const int channels = r.n_groups * r.n_out;
    for (int n = 0; r.db && n < channels; n++) r.db[n] = 0;
    for (size_t u = units.from; u < units.to; u++) {
        const struct cpu_part m =
            cpu_part((size_t)j->win.n, (size_t)j->units, u % (size_t)j->units);
        const int b = (int)(u / (size_t)j->units), n = (int)(m.to - m.from);
        const void *dy = dy_rows(j, &r, b, (int)m.from, n, mine.dy_copy);
        fill_slabs(j, &r, b, (int)m.from, n, &mine);
        for (int g = 0; g < r.n_groups; g++)
            add_group(j, &r, g, n, u == units.from,
                      mine.slab + (size_t)g * slab_of(j, &r, n) * LEVEL_PLACE, dy);
        if (r.db)
            j->dev->level->sum_rows(j->half, n, channels, dy_at(j, &r, b, (int)m.from),
                                    (ptrdiff_t)j->win.G * j->out, r.db);
    }
    if (finishes_itself(j)) finish_rectangle(j, &r);
}

static size_t finish_tasks(const struct grad *j) {
    const size_t rows = (size_t)j->win.G * j->out;
    const size_t tasks = rows * (size_t)j->depth / FINISH_WORK + 1;
    return tasks < rows ? tasks : rows;
}

static void finish_task(void *context, size_t task, int worker) {
    const struct grad *j = context;
    const struct cpu_part rows = cpu_part((size_t)j->win.G * j->out, finish_tasks(j), task);
    (void)worker;
    for (size_t n = rows.from; n < rows.to; n++) finish_row(j, n);
}

static void finish_db(const struct grad *j) {
    const size_t rows = (size_t)j->win.G * j->out;
    for (size_t n = 0; n < rows; n++) {
        double sum = 0;
        for (int q = 0; q < j->n_chunks; q++) sum += j->db_partial[(size_t)q * rows + n];
        j->db[n] = (float)(j->db[n] + sum);
    }
}

enum ecg_status cpu_conv_bwd_w_act(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                   const struct ops_act *act, const void *x, const void *dy,
                                   float *dw, float *db, struct ops_ws ws) {
    struct grad j = plan(dev, dtype, s);
    struct arena arena;
    TRY(cpu_scratch("conv_bwd_w", ws, cpu_conv_bwd_w_ws(dev, dtype, s), &arena));
    carve(&j, &arena);
    j.act = act;
    j.x = x;
    j.dy = dy;
    j.dw = dw;
    j.db = db;

    const double weights = (double)j.win.G * j.out * j.depth;
    const size_t n_tasks = (size_t)j.n_batches * j.n_out * j.n_in * j.n_chunks;
    cpu_run(dev, n_tasks, 2.0 * j.win.B * j.win.n * weights, grad_task, &j);
    if (!j.direct && !finishes_itself(&j))
        cpu_run(dev, finish_tasks(&j), weights * j.n_chunks, finish_task, &j);
    if (db) finish_db(&j);
    return ECG_OK;
}

enum ecg_status cpu_conv_bwd_w(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                               const void *x, const void *dy, float *dw, float *db,
                               struct ops_ws ws) {
    TRY(cpu_check_conv("conv_bwd_w", dtype, s));
    return cpu_conv_bwd_w_act(dev, dtype, s, NULL, x, dy, dw, db, ws);
}
