/* SPDX-License-Identifier: MIT
 * Weight gradient of a convolution: dw[n][k] = sum over windows m of dy[m][n] * window[m][k], k = (tap, in): a
 * product whose depth is the B * Lout windows.
 *
 * The windows are walked in units of at most UNIT of one sample, or of several short samples. A task owns a
 * rectangle of dw (a group; a share of its output channels; for 1x1 convolutions also a share of the input
 * channels) and a chunk of the units, for which it fills the slab and a copy of dy's rows, and adds the unit's
 * product to its own partial sum. Where several rectangles read the same rows, slabs and copies are filled for all
 * of them before. The shape fixes the shares and chunks, and the partial sums of the chunks are added to dw in
 * their order, so the result is the same for any number of threads. Where there is one chunk and dw's layout is the
 * product's (one tap), dw itself is the sum.
 *
 * In bf16 a place of the product holds a pair of windows, m and m + 1: dy's rows are taken by twos, and rows r and
 * r + step of the slab, which tap by tap belong to two windows one after the other, become one row of pairs. */
#include "kernels/cpu/windows.h"

/* UNIT: windows summed before a tile's registers are stored, so many that reading and writing the sums again is small
 * beside the products. SHARE_OUT: output channels of a share at
 * most, so that dy's rows of a unit fit a second-level cache. SHARE_WEIGHTS: weights of a share, about, so
 * that its sum does. SLAB_PLACES: of a unit of several samples, which is read once for every panel. PIECE: panels
 * filled by one task for all. FINISH_*: weights finished by one task, and at once. */
enum { UNIT = 320, UNIT_HALF = 640, SHARE_OUT = 512, SHARE_WEIGHTS = 65536, ENOUGH_TASKS = 16 };
enum { SLAB_PLACES = 4096, PIECE = 4 };
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
    int shared;           /* slabs and copies of dy are filled for all tasks */
    int panel;            /* columns of a product */
    int batch, n_batches; /* groups of a task */
    int units;            /* of a sample */
    int unit;             /* windows of a unit at most, of each of its samples */
    int samples;          /* of a unit at most; 1 where a sample has several units */
    int all_units;
    int in_panels;   /* panels of a group's input channels; 1 unless merged */
    int n_out, n_in; /* shares */
    int n_chunks;
    int most_out;       /* channels of a share at most */
    ptrdiff_t dy_row;   /* places between the rows of the copy of dy, or of dy itself */
    float *partial;     /* (n_chunks, G * out, depth) */
    double *db_partial; /* (n_chunks, G * out) */
    char *scratch;
    size_t slab, dy_copy, factor, unpaired; /* bytes of a thread's scratch */
    char *all_slabs, *all_dy;               /* shared: of every unit, slab and dy_copy bytes each */
};

/* n, or as many windows as there are in whole pairs. */
static int even(const struct grad *j, int n) {
    return j->half ? n + n % 2 : n;
}

/* Where all samples are one, units down to half the size serve to make the chunks wanted. */
static int units_of_sample(const struct grad *j, int wanted) {
    const size_t n = (size_t)j->win.n, most = j->half ? UNIT_HALF : UNIT;
    const int fewest = (int)cpu_ceil_div(n, most);
    if (!j->merged) return fewest;
    return cpu_max(fewest, cpu_min(wanted, (int)cpu_ceil_div(n, most / 2)));
}

/* Short samples are worth doing together: a tile's registers are then stored less often. */
static int samples_of_unit(const struct grad *j) {
    if (j->merged || j->units > 1) return 1;
    const int by_windows = (j->half ? UNIT_HALF : UNIT) / j->win.n;
    const int by_slab = SLAB_PLACES / (int)windows_slab(&j->win, even(j, j->win.n));
    return cpu_max(1, cpu_min(cpu_min(by_windows, by_slab), j->win.B));
}

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
    j.n_out = (int)cpu_ceil_div((size_t)j.out, SHARE_OUT);
    j.most_out = (int)cpu_ceil_div((size_t)j.out, (size_t)j.n_out);
    j.in_panels = j.merged ? (int)cpu_ceil_div((size_t)j.win.in, (size_t)j.panel) : 1;
    j.n_in = cpu_min(j.in_panels,
                     (int)cpu_ceil_div((size_t)j.win.in * (size_t)j.most_out, SHARE_WEIGHTS));
    const int64_t rectangles = (int64_t)j.n_batches * j.n_out * j.n_in;
    const int64_t wanted = (ENOUGH_TASKS + rectangles - 1) / rectangles;
    j.units = units_of_sample(&j, (int)wanted);
    j.unit = (int)cpu_ceil_div((size_t)j.win.n, (size_t)j.units);
    j.samples = samples_of_unit(&j);
    j.all_units = (int)cpu_ceil_div((size_t)j.win.B, (size_t)j.samples) * j.units;
    j.n_chunks = (int)(wanted < j.all_units ? wanted : j.all_units);
    j.shared = j.merged && j.win.G == 1 && j.n_out * j.n_in > 1;
    j.direct = j.n_chunks == 1 && j.win.taps == 1;
    j.dy_in_place = !j.half && windows_readable(dtype, s.Cout);
    const int copied = j.shared ? j.out : j.most_out * j.batch;
    j.dy_row = j.dy_in_place ? s.Cout : (ptrdiff_t)(cpu_ceil_div((size_t)copied, 16) | 1) * 16;
    return j;
}

/* Rows of a product's depth that n windows make: as many, or half as many pairs. */
static int places(const struct grad *j, int n) {
    return j->half ? (n + 1) / 2 : n;
}

static size_t thread_bytes(const struct grad *j) {
    return (j->shared ? 0 : j->slab + j->dy_copy) + j->factor + j->unpaired;
}

static void carve(struct grad *j, struct arena *arena) {
    const size_t weights = (size_t)j->win.G * j->out * j->depth;
    const size_t most = cpu_ceil_div((size_t)j->in_panels, (size_t)j->n_in);
    const size_t panels = j->shared ? (size_t)j->in_panels : most;
    const size_t rows = (size_t)places(j, j->unit) * (size_t)j->samples;
    const size_t windows =
        windows_slab(&j->win, even(j, j->unit)) * (size_t)j->batch * (size_t)j->samples;
    const size_t in_slab = j->merged ? panels * rows * (size_t)j->panel * (size_t)j->batch
                                     : windows + (size_t)j->panel;
    j->slab = cpu_round_up(in_slab * LEVEL_PLACE, MEM_ALIGN);
    j->dy_copy =
        j->dy_in_place ? 0 : cpu_round_up(rows * (size_t)j->dy_row * LEVEL_PLACE, MEM_ALIGN);
    j->factor = cpu_round_up((size_t)j->win.in * (size_t)j->batch * sizeof(float), MEM_ALIGN);
    j->unpaired = 0;
    if (j->half) {
        const size_t row = (j->shared ? PIECE : panels) * (size_t)j->panel;
        const size_t elements = j->merged ? (size_t)j->unit * row : windows;
        j->unpaired = cpu_round_up(elements * sizeof(uint16_t), MEM_ALIGN);
    }
    const size_t copies = j->shared ? (size_t)j->all_units : 0;
    j->all_slabs = arena_carve(arena, copies * j->slab);
    j->all_dy = arena_carve(arena, copies * j->dy_copy);
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

/* Windows [m0, m0 + n) of each of samples [b, b + n_b). */
struct unit {
    int b, n_b, m0, n;
};

static struct unit unit_of(const struct grad *j, int u) {
    if (j->units == 1) {
        const int b = u * j->samples;
        return (struct unit){b, cpu_min(j->samples, j->win.B - b), 0, j->win.n};
    }
    const struct cpu_part m = cpu_part((size_t)j->win.n, (size_t)j->units, (size_t)(u % j->units));
    return (struct unit){u / j->units, 1, (int)m.from, (int)(m.to - m.from)};
}

/* Places of the slab of one group and one sample of a unit. */
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

/* dy's rows of a unit, where they lie, or copied or paired in `copy`. */
static const void *dy_rows(const struct grad *j, const struct rectangle *r, const struct unit *u,
                           void *copy) {
    if (j->dy_in_place) return dy_at(j, r, u->b, u->m0);
    if (j->half) {
        struct level_zip pairs = {.rows = places(j, u->n),
                                  .cols = r->n_groups * r->n_out,
                                  .in_row = (ptrdiff_t)j->win.G * j->out,
                                  .n_in = u->n,
                                  .step = 2,
                                  .distance = 1};
        for (int i = 0; i < u->n_b; i++) {
            pairs.in = dy_at(j, r, u->b + i, u->m0);
            j->dev->level->zip(&pairs, (uint32_t *)copy + (ptrdiff_t)i * pairs.rows * j->dy_row,
                               j->dy_row, pairs.cols, 0);
        }
        return copy;
    }
    const struct cpu_rows rows = {.x = j->dy,
                                  .C = j->win.G * j->out,
                                  .L = j->win.n,
                                  .row0 = (int64_t)u->b * j->win.n + u->m0,
                                  .row_step = 1,
                                  .n = u->n_b * u->n,
                                  .c0 = r->g0 * j->out + r->out0,
                                  .cols = r->n_groups * r->n_out};
    cpu_act_rows(j->dev->level, &rows, copy, j->dy_row, rows.cols, 0);
    return copy;
}

/* A merged slab of group g, panel by panel. */
static void fill_merged(const struct grad *j, const struct rectangle *r, int g,
                        const struct unit *u, const struct thread *mine) {
    const struct level *v = j->dev->level;
    char *slab = mine->slab + (size_t)g * slab_of(j, r, u->n) * LEVEL_PLACE;
    const struct cpu_rows in = {.act = j->act,
                                .dtype = j->win.dtype,
                                .x = j->x,
                                .C = j->win.G * j->win.in,
                                .L = j->win.L,
                                .row0 = u->m0,
                                .row_step = 1,
                                .n = u->n,
                                .c0 = (r->g0 + g) * j->win.in + r->in0,
                                .cols = r->n_in,
                                .factor = mine->factor};
    const ptrdiff_t next = (ptrdiff_t)j->panel * places(j, u->n);
    if (!j->half) {
        cpu_act_rows(v, &in, slab, j->panel, j->panel, next);
        return;
    }
    if (!(j->act && j->act->drop > 0)) {
        cpu_act_zip(v, &in, (uint32_t *)(void *)slab, j->panel, j->panel, next);
        return;
    }
    const struct level_zip pairs = {.rows = places(j, u->n),
                                    .cols = r->n_in,
                                    .in = mine->unpaired,
                                    .in_row = r->n_in,
                                    .n_in = u->n,
                                    .step = 2,
                                    .distance = 1};
    cpu_act_rows(v, &in, mine->unpaired, r->n_in, r->n_in, 0);
    v->zip(&pairs, (uint32_t *)(void *)slab, j->panel, j->panel, next);
}

/* The slabs of a unit: of each group those of its samples, one behind the other. */
static void fill_slabs(const struct grad *j, const struct rectangle *r, const struct unit *u,
                       const struct thread *mine) {
    const struct level *v = j->dev->level;
    const int windows = even(j, u->n);
    if (j->merged) {
        for (int g = 0; g < r->n_groups; g++) fill_merged(j, r, g, u, mine);
        return;
    }
    const size_t each = windows_slab(&j->win, windows), next = each * (size_t)u->n_b;
    for (int i = 0; i < u->n_b; i++) {
        char *to = j->half ? (char *)mine->unpaired : mine->slab;
        windows_fill(v, &j->win, j->act, j->x, u->b + i, r->g0, r->n_groups, u->m0, windows,
                     mine->factor, to + (size_t)i * each * cpu_size(j->win.dtype), next);
    }
    if (!j->half) return;
    /* Rows that lie side by side are one long row, paired with itself a step further on. */
    const int rows = (windows - 2) * j->win.step + j->win.taps;
    for (int k = 0; k < r->n_groups * u->n_b; k++) {
        const struct level_zip pairs = {.rows = 1,
                                        .cols = rows * (int)j->win.row,
                                        .in = mine->unpaired + (size_t)k * each,
                                        .in_row = j->win.row * j->win.step,
                                        .n_in = 2,
                                        .distance = 1};
        v->zip(&pairs, (uint32_t *)(void *)mine->slab + (size_t)k * each, 0, pairs.cols, 0);
    }
}

/* Adds one group's product over the unit. */
static void add_group(const struct grad *j, const struct rectangle *r, int g, const struct unit *u,
                      int is_first, const char *slab, const char *dy) {
    const int run = places(j, u->n);
    const ptrdiff_t step = j->win.step * j->win.row * (j->half ? 2 : 1);
    for (int k = 0; k < r->n_in; k += j->panel) {
        float *c = r->c + (ptrdiff_t)g * j->out * j->depth + k;
        const struct level_gemm product = {
            .rows = r->n_out,
            .cols = cpu_min(j->panel, r->n_in - k),
            .depth = run * u->n_b,
            .half = j->half,
            .a = dy + (ptrdiff_t)g * j->out * LEVEL_PLACE,
            .a_row = LEVEL_PLACE,
            .a_step = j->dy_row * LEVEL_PLACE,
            .b = slab + (j->merged ? (ptrdiff_t)k * run : k) * LEVEL_PLACE,
            .b_step = j->merged ? j->panel : step,
            .run = run,
            .b_skip = j->merged ? 0 : (ptrdiff_t)slab_of(j, r, u->n) - run * step,
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

/* Adds the sum of dy's rows over the unit. */
static void add_db(const struct grad *j, const struct rectangle *r, const struct unit *u,
                   const void *dy) {
    const struct level *v = j->dev->level;
    const int channels = r->n_groups * r->n_out;
    if (j->half)
        v->sum_pairs(places(j, u->n) * u->n_b, channels, dy, j->dy_row, r->db);
    else
        v->sum_rows(0, u->n * u->n_b, channels, dy, j->dy_row, r->db);
}

static struct thread thread_of(const struct grad *j, int worker) {
    char *base = j->scratch + (size_t)worker * thread_bytes(j);
    const size_t filled = thread_bytes(j) - j->factor - j->unpaired;
    return (struct thread){.slab = base,
                           .dy_copy = base + (j->shared ? 0 : j->slab),
                           .factor = (float *)(void *)(base + filled),
                           .unpaired = (uint16_t *)(void *)(base + filled + j->factor)};
}

/* Tasks of a unit that fill its shared slab, PIECE panels each, and as many of its copy of dy. */
static int slab_pieces(const struct grad *j) {
    return (int)cpu_ceil_div((size_t)j->in_panels, PIECE);
}

static int dy_pieces(const struct grad *j) {
    return j->dy_in_place ? 0 : (int)cpu_ceil_div((size_t)j->out, (size_t)(PIECE * j->panel));
}

/* Task = (unit, piece). */
static void share_task(void *context, size_t task, int worker) {
    const struct grad *j = context;
    const int pieces = slab_pieces(j) + dy_pieces(j), columns = PIECE * j->panel;
    const int number = (int)(task / (size_t)pieces), piece = (int)(task % (size_t)pieces);
    const struct unit u = unit_of(j, number);
    struct thread mine = thread_of(j, worker);
    struct rectangle r = {.n_groups = 1, .n_in = j->depth};
    if (piece < slab_pieces(j)) {
        r.in0 = piece * columns;
        r.n_in = cpu_min(columns, j->depth - r.in0);
        mine.slab = j->all_slabs + (size_t)number * j->slab +
                    (size_t)r.in0 * (size_t)places(j, u.n) * LEVEL_PLACE;
        fill_slabs(j, &r, &u, &mine);
        return;
    }
    r.out0 = (piece - slab_pieces(j)) * columns;
    r.n_out = cpu_min(columns, j->out - r.out0);
    dy_rows(j, &r, &u, j->all_dy + (size_t)number * j->dy_copy + r.out0 * LEVEL_PLACE);
}

/* The unit's slab and rows of dy for a rectangle: filled now, or shared. */
static const void *prepare(const struct grad *j, const struct rectangle *r, int number,
                           const struct unit *u, const struct thread *mine, const char **slab) {
    if (!j->shared) {
        fill_slabs(j, r, u, mine);
        *slab = mine->slab;
        return dy_rows(j, r, u, mine->dy_copy);
    }
    *slab = j->all_slabs + (size_t)number * j->slab +
            (size_t)r->in0 * (size_t)places(j, u->n) * LEVEL_PLACE;
    if (j->dy_in_place) return dy_at(j, r, u->b, u->m0);
    return j->all_dy + (size_t)number * j->dy_copy + r->out0 * LEVEL_PLACE;
}

static void grad_task(void *context, size_t task, int worker) {
    const struct grad *j = context;
    const struct thread mine = thread_of(j, worker);
    size_t chunk;
    const struct rectangle r = rectangle_of(j, task, &chunk);
    const struct cpu_part units = cpu_part((size_t)j->all_units, (size_t)j->n_chunks, chunk);

    const int channels = r.n_groups * r.n_out;
    for (int n = 0; r.db && n < channels; n++) r.db[n] = 0;
    for (size_t i = units.from; i < units.to; i++) {
        const struct unit u = unit_of(j, (int)i);
        const char *slab;
        const void *dy = prepare(j, &r, (int)i, &u, &mine, &slab);
        const size_t next = slab_of(j, &r, u.n) * (size_t)u.n_b * LEVEL_PLACE;
        for (int g = 0; g < r.n_groups; g++)
            add_group(j, &r, g, &u, i == units.from, slab + (size_t)g * next, dy);
        if (r.db) add_db(j, &r, &u, dy);
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
    if (j.shared)
        cpu_run(dev, (size_t)j.all_units * (size_t)(slab_pieces(&j) + dy_pieces(&j)),
                8.0 * j.win.n * (j.depth + j.out), share_task, &j);
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
