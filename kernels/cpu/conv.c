/* SPDX-License-Identifier: MIT
 * Forward pass and data gradient of a convolution, both as passes of windows (windows.h) against packed
 * weights: y is one pass, dx one pass for each phase of the stride.
 *
 * A pass is cut into items: some groups of one sample, a block of windows, a share of the panels of output
 * channels. An item fills its slabs once and multiplies them with its panels, one after the other. A panel's
 * outputs go straight to the result, or, on the way back through an activation, by a buffer that still lies
 * in a near cache. */
#include "kernels/cpu/windows.h"

#include <string.h>

enum {
    SLAB_BYTES = 512 * 1024,  /* of single rows: half of a second-level cache */
    WINDOW_BYTES = 64 * 1024, /* of a group's overlapping windows, which are read taps times */
    MOST_WINDOWS = 256,
    LEAST_WINDOWS = 56,
    BUFFER_COLS = 64,
    PANEL_MOST = 32, /* columns of a panel, at any level */
    SPAN = 64,       /* neighbouring taps turned over at once */
    TOGETHER = 4     /* passes that run side by side at most */
};
#define TASK_WORK 1e6 /* operations that a task should hold at least */

/* Where the weight of (group, tap, channel in, channel out) of a pass lies in w. */
struct weight_map {
    ptrdiff_t base, group, tap, in, out;
};

struct pass {
    struct windows win;
    struct weight_map map;
    int out; /* output channels of a group */
    /* window m's output is row dst_first + m * dst_step of a sample */
    int dst_rows, dst_first, dst_step;
    int dst_L; /* the result's true rows of a sample, for dropout */

    int batch, n_batches; /* groups of an item */
    int panel, n_panels;  /* columns of a packed panel; panels of a group */
    int block, n_blocks;  /* windows of a block at most; blocks of a sample */
    int n_shares;         /* shares of the panels */
    size_t n_items, n_tasks;
    double work;
};

struct job {
    struct ops_dev *dev;
    struct pass p;
    const struct ops_act *act;     /* on the source, or NULL */
    const struct ops_act *act_out; /* backward through this activation of x, or NULL */
    const void *src, *x;
    const float *w, *bias;
    float *packed; /* places: floats, or pairs of bf16 */
    void *dst;
    int in_place;                /* the source is read where it lies */
    int direct, add;             /* results need no buffer; dst += */
    char *scratch;               /* per thread: slabs, buffer, dropout's factors */
    size_t slab, buffer, factor; /* bytes of each */
    size_t stride;               /* bytes of a thread's scratch */
    int buffer_cols;
};

/* Passes that run side by side, the phases of a stride: one waking of the threads serves all of them. */
struct jobs {
    struct job job[TOGETHER];
    int n;
};

static struct pass forward_pass(enum ops_dtype dtype, struct ops_conv s) {
    struct pass p = {
        .win = windows_fwd(dtype, s), .out = s.Cout / s.G, .dst_step = 1, .dst_L = s.Lout};
    const ptrdiff_t in = s.Cin / s.G, out = p.out;
    p.dst_rows = p.win.n;
    p.map = (struct weight_map){.group = out * in * s.K, .tap = 1, .in = s.K, .out = in * s.K};
    return p;
}

/* Tap j of phase r is the convolution's tap r + (J-1-j) S. */
static struct pass backward_pass(enum ops_dtype dtype, struct ops_conv s, int phase) {
    struct pass p = {.out = s.Cin / s.G, .dst_step = s.S, .dst_L = s.Lin};
    p.win = windows_bwd(dtype, s, phase, &p.dst_first);
    const ptrdiff_t in = s.Cin / s.G, out = s.Cout / s.G;
    p.dst_rows = p.win.B == s.B ? s.Lin : p.win.n;
    p.map = (struct weight_map){.base = phase + (ptrdiff_t)(p.win.taps - 1) * s.S,
                                .group = out * in * s.K,
                                .tap = -s.S,
                                .in = in * s.K,
                                .out = s.K};
    return p;
}

/* Cuts the pass into items and tasks. Every output is one task's, so threads may have a say in the cut. */
static void cut(const struct ops_dev *dev, struct pass *p) {
    const struct windows *w = &p->win;
    const size_t window_bytes = (size_t)(w->row * w->step) * cpu_size(w->dtype);
    const size_t budget = w->taps > 1 ? WINDOW_BYTES : SLAB_BYTES;
    const int fit =
        budget / window_bytes < MOST_WINDOWS ? (int)(budget / window_bytes) : MOST_WINDOWS;
    const int most = cpu_max(fit, LEAST_WINDOWS);
    const int wanted = 4 * dev->n_threads; /* items, for balance */

    p->panel = p->out <= dev->level->vector ? dev->level->vector : dev->level->panel_cols;
    p->n_panels = (int)cpu_ceil_div((size_t)p->out, (size_t)p->panel);
    p->batch = windows_batch(w->dtype, w->in, p->out, w->G);
    p->n_batches = (int)cpu_ceil_div((size_t)w->G, (size_t)p->batch);
    p->n_blocks = (int)cpu_ceil_div((size_t)w->n, (size_t)most);
    const int64_t lanes = (int64_t)w->B * p->n_batches;
    while (lanes * p->n_blocks < wanted && w->n / (p->n_blocks + 1) >= LEAST_WINDOWS) p->n_blocks++;
    p->block = (int)cpu_ceil_div((size_t)w->n, (size_t)p->n_blocks);
    p->n_shares = 1;
    while (lanes * p->n_blocks * p->n_shares < wanted && p->n_panels / (p->n_shares + 1) >= 2)
        p->n_shares++;

    p->n_items = (size_t)lanes * (size_t)p->n_blocks * (size_t)p->n_shares;
    p->work = 2.0 * w->B * w->G * w->n * ((double)w->taps * w->in * p->out + 8.0 * w->in);
    p->n_tasks = (size_t)(p->work / TASK_WORK) + 1;
    if (p->n_tasks > p->n_items) p->n_tasks = p->n_items;
}

static int is_half(const struct pass *p) {
    return p->win.dtype == OPS_BF16;
}

/* Rows of a panel while it is packed, all of them floats; as bf16 there are pairs of them. */
static int panel_rows(const struct pass *p) {
    const int rows = p->win.taps * p->win.in;
    return is_half(p) ? rows + rows % 2 : rows;
}

static int depth(const struct pass *p) {
    return is_half(p) ? panel_rows(p) / 2 : panel_rows(p);
}

static size_t packed_floats(const struct pass *p) {
    return (size_t)p->win.G * p->n_panels * panel_rows(p) * p->panel;
}

/* The weights of a pass that was cut, and the sizes of a thread's scratch. */
static void carve_job(struct job *job, struct arena *arena) {
    const struct pass *p = &job->p;
    job->slab = cpu_round_up(
        windows_slab(&p->win, p->block) * (size_t)p->batch * cpu_size(p->win.dtype), MEM_ALIGN);
    job->buffer_cols = cpu_max(p->panel, BUFFER_COLS);
    job->buffer =
        cpu_round_up((size_t)p->block * (size_t)job->buffer_cols * sizeof(float), MEM_ALIGN);
    job->factor = cpu_round_up(
        (size_t)cpu_max(p->win.in * p->batch, job->buffer_cols) * sizeof(float), MEM_ALIGN);
    job->packed = arena_carve(arena, packed_floats(p) * sizeof(float));
}

/* Scratch memory of all; carves it when the arena has a base. A thread works on one item at a time. */
static void carve(struct jobs *all, struct arena *arena) {
    size_t stride = 0;
    for (int i = 0; i < all->n; i++) {
        const struct job *job = &all->job[i];
        carve_job(&all->job[i], arena);
        if (job->slab + job->buffer + job->factor > stride)
            stride = job->slab + job->buffer + job->factor;
    }
    if (all->n == 0) return;
    char *scratch = arena_carve(arena, stride * (size_t)all->job[0].dev->n_threads);
    for (int i = 0; i < all->n; i++) {
        all->job[i].scratch = scratch;
        all->job[i].stride = stride;
    }
}

/* ------------------------------------------------------------------------------------- weights */

/* Row by row, where channels out are neighbours: `cols` of them from w on, for every tap and channel in. */
static void pack_rows(const struct pass *p, const float *w, int cols, float *to) {
    const struct weight_map *map = &p->map;
    for (int t = 0; t < p->win.taps; t++) {
        for (int i = 0; i < p->win.in; i++, to += p->panel) {
            memcpy(to, w + t * map->tap + i * map->in, (size_t)cols * sizeof *to);
        }
    }
}

/* Every map->tap-th tap: a span of neighbours is turned over, and the rows wanted are taken from it. */
static void pack_spans(const struct job *job, const float *w, int cols, float *to) {
    const struct pass *p = &job->p;
    const struct weight_map *map = &p->map;
    const int in = p->win.in, taps = p->win.taps;
    const int stride = (int)(map->tap > 0 ? map->tap : -map->tap), most = (SPAN - 1) / stride + 1;
    float turned[SPAN * PANEL_MOST];
    for (int i = 0; i < in; i++) {
        for (int t0 = 0; t0 < taps; t0 += most) {
            const int n = cpu_min(most, taps - t0);
            const int least = map->tap > 0 ? t0 : t0 + n - 1;
            job->dev->level->transpose(cols, (n - 1) * stride + 1,
                                       w + least * map->tap + i * map->in, map->out, turned,
                                       PANEL_MOST);
            for (int k = 0; k < n; k++) {
                const int row = (map->tap > 0 ? k : n - 1 - k) * stride;
                memcpy(to + ((ptrdiff_t)(t0 + k) * in + i) * p->panel, turned + row * PANEL_MOST,
                       (size_t)cols * sizeof *to);
            }
        }
    }
}

/* packed(G, n_panels, panel_rows, panel); columns past the last channel are zero. One task a panel. */
static void pack_panel(const struct job *job, size_t task) {
    const struct pass *p = &job->p;
    const struct weight_map *map = &p->map;
    const struct level *v = job->dev->level;
    const int g = (int)(task / (size_t)p->n_panels);
    const int first = (int)(task % (size_t)p->n_panels) * p->panel;
    const int cols = cpu_min(p->panel, p->out - first), in = p->win.in, taps = p->win.taps;
    const float *w = job->w + map->base + g * map->group + first * map->out;
    float *to = job->packed + task * (size_t)panel_rows(p) * (size_t)p->panel;

    if (cols < p->panel) {
        for (ptrdiff_t d = 0; d < (ptrdiff_t)taps * in; d++) {
            for (int j = cols; j < p->panel; j++) to[d * p->panel + j] = 0;
        }
    }
    if (taps == 1 && map->in == 1) {
        v->transpose(cols, in, w, map->out, to, p->panel);
    } else if (map->out > 1 &&
               (map->tap == 1 || map->tap == -1)) { /* taps lie side by side, in order or not */
        const float *least = map->tap > 0 ? w : w - (taps - 1);
        float *row = map->tap > 0 ? to : to + (ptrdiff_t)(taps - 1) * in * p->panel;
        for (int i = 0; i < in; i++)
            v->transpose(cols, taps, least + i * map->in, map->out, row + i * p->panel,
                         map->tap * in * p->panel);
    } else if (map->out > 1) {
        pack_spans(job, w, cols, to);
    } else {
        pack_rows(p, w, cols, to);
    }
    if (is_half(p)) v->pair_rows(taps * in, p->panel, to);
}

/* ------------------------------------------------------------------------------------- products */

/* What an item works on: windows [m0, m0 + n) of sample b; its first output is the result's row row0. */
struct item {
    int b, m0, n;
    int64_t row0;
    const void *slab; /* of its first group */
    size_t next_slab; /* elements from one group's slab to the next one's */
    float *buffer, *factor;
};

/* C (rows c_row apart) = one group's slab against one panel. */
static void multiply(const struct job *job, const struct item *t, const void *slab, int g,
                     int panel, void *c, ptrdiff_t c_row) {
    const struct pass *p = &job->p;
    const int first = panel * p->panel;
    const ptrdiff_t a_row = job->in_place ? p->win.G * p->win.in : p->win.step * p->win.row;
    const struct level_gemm product = {.rows = t->n,
                                       .cols = cpu_min(p->panel, p->out - first),
                                       .depth = depth(p),
                                       .half = is_half(p),
                                       .a = slab,
                                       .a_row = a_row * (ptrdiff_t)cpu_size(p->win.dtype),
                                       .a_step = sizeof(float),
                                       .b = job->packed + ((size_t)g * p->n_panels + panel) *
                                                              panel_rows(p) * p->panel,
                                       .b_step = p->panel,
                                       .init = job->bias ? job->bias + g * p->out + first : NULL,
                                       .c = c,
                                       .c_row = c_row,
                                       .c_half = job->direct && is_half(p)};
    job->dev->level->gemm(&product);
}

/* Columns [c0, c1) of the buffer on to the result, through the activation. */
static void flush(const struct job *job, const struct item *t, int c0, int c1) {
    const struct pass *p = &job->p;
    const struct cpu_rows out = {.act = job->act_out,
                                 .dtype = p->win.dtype,
                                 .x = job->x,
                                 .C = p->win.G * p->out,
                                 .L = p->dst_L,
                                 .row0 = t->row0,
                                 .row_step = p->dst_step,
                                 .n = t->n,
                                 .c0 = c0,
                                 .cols = c1 - c0,
                                 .factor = t->factor};
    cpu_act_rows_bwd(job->dev->level, &out, t->buffer, job->buffer_cols, job->add, job->dst);
}

/* Groups [g0, g1), panels [from, to) of each; the columns that these make up lie side by side. */
static void multiply_all(const struct job *job, const struct item *t, int g0, int g1,
                         struct cpu_part panels) {
    const struct pass *p = &job->p;
    const int C = p->win.G * p->out;
    int begin = g0 * p->out + (int)panels.from * p->panel, end = begin; /* columns in the buffer */
    for (int g = g0; g < g1; g++) {
        const void *slab =
            cpu_at(p->win.dtype, t->slab, (int64_t)((size_t)(g - g0) * t->next_slab));
        for (int panel = (int)panels.from; panel < (int)panels.to; panel++) {
            const int c0 = g * p->out + panel * p->panel,
                      cols = cpu_min(p->panel, p->out - panel * p->panel);
            if (job->direct) {
                multiply(job, t, slab, g, panel, cpu_out(p->win.dtype, job->dst, t->row0 * C + c0),
                         (ptrdiff_t)p->dst_step * C);
                continue;
            }
            if (c0 + cols - begin > job->buffer_cols) {
                flush(job, t, begin, end);
                begin = c0;
            }
            multiply(job, t, slab, g, panel, t->buffer + (c0 - begin), job->buffer_cols);
            end = c0 + cols;
        }
    }
    if (!job->direct) flush(job, t, begin, end);
}

/* Item = (sample, batch of groups, block, share), share fastest. */
static void run_item(const struct job *job, size_t item, int worker) {
    const struct pass *p = &job->p;
    char *slab = job->scratch + (size_t)worker * job->stride;
    const size_t share = item % (size_t)p->n_shares, block = item / (size_t)p->n_shares;
    const size_t lane = block / (size_t)p->n_blocks;
    const int g0 = (int)(lane % (size_t)p->n_batches) * p->batch,
              g1 = cpu_min(p->win.G, g0 + p->batch);
    const struct cpu_part m =
        cpu_part((size_t)p->win.n, (size_t)p->n_blocks, block % (size_t)p->n_blocks);
    struct item t = {.b = (int)(lane / (size_t)p->n_batches),
                     .m0 = (int)m.from,
                     .n = (int)(m.to - m.from),
                     .slab = slab,
                     .buffer = (float *)(void *)(slab + job->slab),
                     .factor = (float *)(void *)(slab + job->slab + job->buffer)};
    t.row0 = (int64_t)t.b * p->dst_rows + p->dst_first + (int64_t)t.m0 * p->dst_step;
    if (job->in_place) {
        t.slab =
            cpu_at(p->win.dtype, job->src,
                   ((int64_t)t.b * p->win.rows + t.m0) * p->win.G * p->win.in + g0 * p->win.in);
        t.next_slab = (size_t)p->win.in;
    } else {
        t.next_slab = windows_slab(&p->win, t.n);
        windows_fill(job->dev->level, &p->win, job->act, job->src, t.b, g0, g1 - g0, t.m0, t.n,
                     t.factor, slab);
    }
    multiply_all(job, &t, g0, g1, cpu_part((size_t)p->n_panels, (size_t)p->n_shares, share));
}

static size_t n_panels(const struct job *job) {
    return (size_t)job->p.win.G * (size_t)job->p.n_panels;
}

static void pack_task(void *context, size_t task, int worker) {
    const struct jobs *all = context;
    int i = 0;
    (void)worker;
    for (; task >= n_panels(&all->job[i]); i++) task -= n_panels(&all->job[i]);
    pack_panel(&all->job[i], task);
}

static void pass_task(void *context, size_t task, int worker) {
    const struct jobs *all = context;
    int i = 0;
    for (; task >= all->job[i].p.n_tasks; i++) task -= all->job[i].p.n_tasks;
    const struct job *job = &all->job[i];
    const struct cpu_part items = cpu_part(job->p.n_items, job->p.n_tasks, task);
    for (size_t k = items.from; k < items.to; k++) run_item(job, k, worker);
}

static void run_passes(struct jobs *all) {
    size_t panels = 0, tasks = 0;
    double floats = 0, work = 0;
    for (int i = 0; i < all->n; i++) {
        struct job *job = &all->job[i];
        job->in_place = windows_in_place(&job->p.win, job->act);
        panels += n_panels(job);
        tasks += job->p.n_tasks;
        floats += (double)packed_floats(&job->p);
        work += job->p.work;
    }
    if (all->n == 0) return;
    cpu_run(all->job[0].dev, panels, 4.0 * floats, pack_task, all);
    cpu_run(all->job[0].dev, tasks, work, pass_task, all);
}

/* ------------------------------------------------------------------------------------- entries */

static size_t jobs_ws(struct jobs *all) {
    struct arena counted = {0};
    carve(all, &counted);
    return counted.used;
}

static struct jobs forward_jobs(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s) {
    struct jobs all = {.job = {{.dev = dev, .p = forward_pass(dtype, s), .direct = 1}}, .n = 1};
    cut(dev, &all.job[0].p);
    return all;
}

size_t cpu_conv_fwd_ws(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s) {
    struct jobs all = forward_jobs(dev, dtype, s);
    return jobs_ws(&all);
}

/* The passes of the next phases from *phase on, which moves on; phases of rows that no tap reaches are left out. */
static struct jobs backward_jobs(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                 int *phase) {
    struct jobs all = {.n = 0};
    for (; *phase < s.S && all.n < TOGETHER; ++*phase) {
        struct job job = {.dev = dev, .p = backward_pass(dtype, s, *phase)};
        if (job.p.win.n == 0 || job.p.win.taps == 0) continue;
        cut(dev, &job.p);
        all.job[all.n++] = job;
    }
    return all;
}

size_t cpu_conv_bwd_x_ws(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s) {
    size_t most = 0;
    for (int phase = 0; phase < s.S;) {
        struct jobs all = backward_jobs(dev, dtype, s, &phase);
        const size_t bytes = jobs_ws(&all);
        if (bytes > most) most = bytes;
    }
    return most;
}

enum ecg_status cpu_conv_fwd_act(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                 const struct ops_act *act, const void *x, const float *w,
                                 const float *b, void *y, struct ops_ws ws) {
    struct jobs all = forward_jobs(dev, dtype, s);
    struct job *job = &all.job[0];
    struct arena arena;
    job->act = act;
    job->src = x;
    job->w = w;
    job->bias = b;
    job->dst = y;
    TRY(cpu_scratch("conv_fwd", ws, jobs_ws(&all), &arena));
    carve(&all, &arena);
    run_passes(&all);
    return ECG_OK;
}

/* Rows that no tap reaches, those of phases beyond the last tap, have gradient zero. */
static void clear_unreached(enum ops_dtype dtype, struct ops_conv s, void *dn) {
    for (int phase = s.K; phase < s.S; phase++) {
        const struct pass p = backward_pass(dtype, s, phase);
        for (int64_t i = 0; i < (int64_t)s.B * p.win.n; i++) {
            const int64_t row = i / p.win.n * s.Lin + p.dst_first + i % p.win.n * s.S;
            memset(cpu_out(dtype, dn, row * s.Cin), 0, (size_t)s.Cin * cpu_size(dtype));
        }
    }
}

enum ecg_status cpu_conv_bwd_x_act(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                   const struct ops_act *act, const void *x, const void *dy,
                                   const float *w, int add, void *dn, struct ops_ws ws) {
    const int plain =
        !act || (!act->swish && !(act->drop > 0)); /* the slope of n itself is not wanted */
    struct arena arena;
    TRY(cpu_scratch("conv_bwd_x", ws, cpu_conv_bwd_x_ws(dev, dtype, s), &arena));
    if (!add) clear_unreached(dtype, s, dn);
    for (int phase = 0; phase < s.S;) {
        struct jobs all = backward_jobs(dev, dtype, s, &phase);
        for (int i = 0; i < all.n; i++) {
            struct job *job = &all.job[i];
            job->act_out = act;
            job->src = dy;
            job->w = w;
            job->x = x;
            job->dst = dn;
            job->direct = plain && !add;
            job->add = add;
        }
        arena.used = 0;
        carve(&all, &arena);
        run_passes(&all);
    }
    return ECG_OK;
}

enum ecg_status cpu_conv_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                             const void *x, const float *w, const float *b, void *y,
                             struct ops_ws ws) {
    TRY(cpu_check_conv("conv_fwd", dtype, s));
    return cpu_conv_fwd_act(dev, dtype, s, NULL, x, w, b, y, ws);
}

enum ecg_status cpu_conv_bwd_x(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                               const void *dy, const float *w, void *dx, struct ops_ws ws) {
    TRY(cpu_check_conv("conv_bwd_x", dtype, s));
    return cpu_conv_bwd_x_act(dev, dtype, s, NULL, NULL, dy, w, 0, dx, ws);
}
