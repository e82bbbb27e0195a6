/* SPDX-License-Identifier: MIT
 * Forward pass and data gradient of a convolution, both as passes of windows against packed weights (pass.h).
 *
 * A pass is cut into items: some groups of one sample, a block of windows, a share of the panels of output
 * channels. An item fills its slabs once and multiplies them with its panels, one after the other. A panel's
 * outputs go straight to the result, or, on the way back through an activation, by a buffer that still lies
 * in a near cache. */
#include "kernels/cpu/pass.h"

#include <string.h>

enum {
    BUFFER_COLS = 64,
    TOGETHER = 4 /* passes that run side by side at most */
};

struct job {
    struct ops_dev *dev;
    struct pass p;
    const struct ops_act *act;     /* on the source, or NULL */
    const struct ops_act *act_out; /* backward through this activation of x, or NULL */
    const void *src, *x;
    const void *packed;
    const float *bias;
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

static int is_half(const struct pass *p) {
    return p->win.dtype == OPS_BF16;
}

/* The sizes of a thread's scratch. */
static void size_job(struct job *job) {
    const struct pass *p = &job->p;
    job->slab = cpu_round_up(
        windows_slab(&p->win, p->block) * (size_t)p->batch * cpu_size(p->win.dtype), MEM_ALIGN);
    job->buffer_cols = cpu_max(p->panel, BUFFER_COLS);
    job->buffer =
        cpu_round_up((size_t)p->block * (size_t)job->buffer_cols * sizeof(float), MEM_ALIGN);
    job->factor = cpu_round_up(
        (size_t)cpu_max(p->win.in * p->batch, job->buffer_cols) * sizeof(float), MEM_ALIGN);
}

/* Scratch memory of all; carves it when the arena has a base. A thread works on one item at a time. */
static void carve(struct jobs *all, struct arena *arena) {
    size_t stride = 0;
    for (int i = 0; i < all->n; i++) {
        const struct job *job = &all->job[i];
        size_job(&all->job[i]);
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
                                       .depth = pass_depth(p),
                                       .half = is_half(p),
                                       .a = slab,
                                       .a_row = a_row * (ptrdiff_t)cpu_size(p->win.dtype),
                                       .a_step = sizeof(float),
                                       .b = pass_panel(p, job->packed, g, panel),
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
                     t.factor, slab, t.next_slab);
    }
    multiply_all(job, &t, g0, g1, cpu_part((size_t)p->n_panels, (size_t)p->n_shares, share));
}

/* The job of a task, and the task's number in it. The passes take turns: their tasks of one number read the same rows
 * and write neighbouring ones. */
static const struct job *job_of(const struct jobs *all, size_t *task) {
    size_t each = all->job[0].p.n_tasks;
    for (int i = 1; i < all->n; i++)
        if (all->job[i].p.n_tasks < each) each = all->job[i].p.n_tasks;
    const size_t turns = each * (size_t)all->n;
    if (*task < turns) {
        const struct job *job = &all->job[*task % (size_t)all->n];
        *task /= (size_t)all->n;
        return job;
    }
    *task -= turns;
    int i = 0;
    for (; *task >= all->job[i].p.n_tasks - each; i++) *task -= all->job[i].p.n_tasks - each;
    *task += each;
    return &all->job[i];
}

static void pass_task(void *context, size_t task, int worker) {
    const struct jobs *all = context;
    const struct job *job = job_of(all, &task);
    const struct cpu_part items = cpu_part(job->p.n_items, job->p.n_tasks, task);
    for (size_t k = items.from; k < items.to; k++) run_item(job, k, worker);
}

static void run_passes(struct jobs *all) {
    size_t tasks = 0;
    double work = 0;
    for (int i = 0; i < all->n; i++) {
        struct job *job = &all->job[i];
        job->in_place = windows_in_place(&job->p.win, job->act);
        tasks += job->p.n_tasks;
        work += job->p.work;
    }
    if (all->n == 0) return;
    cpu_run(all->job[0].dev, tasks, work, pass_task, all);
}

/* ------------------------------------------------------------------------------------- entries */

static size_t jobs_ws(struct jobs *all) {
    struct arena counted = {0};
    carve(all, &counted);
    return counted.used;
}

static struct jobs forward_jobs(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s) {
    return (struct jobs){.job = {{.dev = dev, .p = pass_forward(dev, dtype, s), .direct = 1}},
                         .n = 1};
}

/* The passes of the next phases from *phase on, which moves on, as does *packed through the weights of all phases;
 * phases of rows that no tap reaches are left out. */
static struct jobs backward_jobs(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                 int *phase, const char **packed) {
    struct jobs all = {.n = 0};
    for (; *phase < s.S && all.n < TOGETHER; ++*phase) {
        struct job job = {.dev = dev, .p = pass_backward(dev, dtype, s, *phase), .packed = *packed};
        if (*packed) *packed += pass_packed(&job.p);
        if (!pass_is_empty(&job.p)) all.job[all.n++] = job;
    }
    return all;
}

/* Scratch of packing for one call alone: the packed weights, and packing's own. */
static size_t packing_ws(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                         enum pass_kind kind, int packed) {
    return packed ? 0 : pack_bytes(dev, dtype, s, kind) + pack_ws(dev, dtype, s);
}

/* Packs w from the front of the arena where nobody has done it before. */
static const void *pack_now(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                            enum pass_kind kind, const float *w, struct arena *arena) {
    void *packed = arena_carve(arena, pack_bytes(dev, dtype, s, kind));
    pack_conv(dev, dtype, s, kind, w, packed, arena_carve(arena, pack_ws(dev, dtype, s)));
    return packed;
}

size_t cpu_conv_fwd_ws(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s, int packed) {
    struct jobs all = forward_jobs(dev, dtype, s);
    return jobs_ws(&all) + packing_ws(dev, dtype, s, PASS_FORWARD, packed);
}

size_t cpu_conv_bwd_x_ws(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s, int packed) {
    const char *none = NULL;
    size_t most = 0;
    for (int phase = 0; phase < s.S;) {
        struct jobs all = backward_jobs(dev, dtype, s, &phase, &none);
        const size_t bytes = jobs_ws(&all);
        if (bytes > most) most = bytes;
    }
    return most + packing_ws(dev, dtype, s, PASS_BACKWARD, packed);
}

enum ecg_status cpu_conv_fwd_act(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                 const struct ops_act *act, const void *x, const float *w,
                                 const void *packed, const float *b, void *y, struct ops_ws ws) {
    struct jobs all = forward_jobs(dev, dtype, s);
    struct job *job = &all.job[0];
    struct arena arena;
    TRY(cpu_scratch("conv_fwd", ws, cpu_conv_fwd_ws(dev, dtype, s, packed != NULL), &arena));
    job->act = act;
    job->src = x;
    job->packed = packed ? packed : pack_now(dev, dtype, s, PASS_FORWARD, w, &arena);
    job->bias = b;
    job->dst = y;
    carve(&all, &arena);
    run_passes(&all);
    return ECG_OK;
}

/* Rows that no tap reaches, those of phases beyond the last tap, have gradient zero. */
static void clear_unreached(const struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                            void *dn) {
    for (int phase = s.K; phase < s.S; phase++) {
        const struct pass p = pass_backward(dev, dtype, s, phase);
        for (int64_t i = 0; i < (int64_t)s.B * p.win.n; i++) {
            const int64_t row = i / p.win.n * s.Lin + p.dst_first + i % p.win.n * s.S;
            memset(cpu_out(dtype, dn, row * s.Cin), 0, (size_t)s.Cin * cpu_size(dtype));
        }
    }
}

enum ecg_status cpu_conv_bwd_x_act(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                   const struct ops_act *act, const void *x, const void *dy,
                                   const float *w, const void *packed, int add, void *dn,
                                   struct ops_ws ws) {
    const int plain =
        !act || (!act->swish && !(act->drop > 0)); /* the slope of n itself is not wanted */
    struct arena arena;
    TRY(cpu_scratch("conv_bwd_x", ws, cpu_conv_bwd_x_ws(dev, dtype, s, packed != NULL), &arena));
    const char *weights = packed ? (const char *)packed + pack_bytes(dev, dtype, s, PASS_FORWARD)
                                 : pack_now(dev, dtype, s, PASS_BACKWARD, w, &arena);
    if (!add) clear_unreached(dev, dtype, s, dn);
    for (int phase = 0; phase < s.S;) {
        struct jobs all = backward_jobs(dev, dtype, s, &phase, &weights);
        struct arena mine = arena;
        for (int i = 0; i < all.n; i++) {
            struct job *job = &all.job[i];
            job->act_out = act;
            job->src = dy;
            job->x = x;
            job->dst = dn;
            job->direct = plain && !add;
            job->add = add;
        }
        carve(&all, &mine);
        run_passes(&all);
    }
    return ECG_OK;
}

enum ecg_status cpu_conv_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                             const void *x, const float *w, const float *b, void *y,
                             struct ops_ws ws) {
    TRY(cpu_check_conv("conv_fwd", dtype, s));
    return cpu_conv_fwd_act(dev, dtype, s, NULL, x, w, NULL, b, y, ws);
}

enum ecg_status cpu_conv_bwd_x(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                               const void *dy, const float *w, void *dx, struct ops_ws ws) {
    TRY(cpu_check_conv("conv_bwd_x", dtype, s));
    return cpu_conv_bwd_x_act(dev, dtype, s, NULL, NULL, dy, w, NULL, 0, dx, ws);
}
