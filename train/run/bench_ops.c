/* SPDX-License-Identifier: MIT
 * The convolutions of a network, as the network calls them: Swish on the way in (the stem: nothing), bias on the way out.
 * Distinct shapes are timed one by one on memory of their own and counted as often as the network has them. The stem's data
 * gradient is needed by nobody. The whole list is gone through several times, and the median of each figure counts: a
 * machine's slow moments then fall on different shapes. A GPU has no such moments and is asked once; its backward pass computes
 * both gradients together, as training does, and that counts, beside each alone; and its convolutions are held against its
 * memory's rate as well, by the bytes that they move at least: every tensor once, weights in fp32, their gradient read and
 * written. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/run/bench_private.h"

enum { SHAPES_MAX = 128, ROUNDS = 5 };
enum pass { PASS_FORWARD, PASS_DATA, PASS_WEIGHT, PASS_BACKWARD, PASSES };

static const char *const pass_keys[PASSES] = {"forward", "data_gradient", "weight_gradient",
                                              "backward"};

enum kind { KIND_STEM, KIND_1X1, KIND_GROUPED, KINDS };
static const char *const kind_names[KINDS + 1] = {"stem", "1x1", "grouped", "all"};

struct shape {
    enum kind kind;
    struct ops_conv s;
    int count;
    double seconds[PASSES +
                   1]; /* of each pass, NaN: not one of this shape; and of packing the weights */
    double round[PASSES + 1][ROUNDS]; /* the same, round by round */
};

struct shapes {
    struct shape v[SHAPES_MAX];
    int n;
    bool gpu;
    double item;         /* bytes of an element */
    double peak, memory; /* GFLOP/s, GB/s */
};

static void add_shape(struct shapes *all, enum kind kind, struct ops_conv s) {
    int i = 0;
    while (i < all->n && memcmp(&all->v[i].s, &s, sizeof(s)) != 0) i++;
    if (i == SHAPES_MAX) return;
    if (i == all->n) all->v[all->n++] = (struct shape){.kind = kind, .s = s};
    all->v[i].count++;
}

static void list_shapes(struct shapes *all, const struct net1d_config *c, int B) {
    struct net1d_walk w;
    struct ops_conv conv[3];
    add_shape(all, KIND_STEM, net1d_walk_start(&w, c, B));
    while (net1d_walk_block(&w, conv)) {
        add_shape(all, KIND_1X1, conv[0]);
        add_shape(all, KIND_GROUPED, conv[1]);
        add_shape(all, KIND_1X1, conv[2]);
    }
}

static bool wants_data(const struct shape *s, int pass) {
    return pass == PASS_DATA || (pass == PASS_BACKWARD && s->kind != KIND_STEM);
}

static bool wants_weights(int pass) {
    return pass == PASS_WEIGHT || pass == PASS_BACKWARD;
}

static double gflop(const struct shape *s, int pass) {
    const int products = pass == PASS_FORWARD ? 1 : wants_data(s, pass) + wants_weights(pass);
    return 2e-9 * products * s->s.B * (double)net1d_conv_macs(s->s);
}

/* That a pass moves at least. The data gradient reads x for Swish's slope. */
static double gbyte(const struct shapes *all, const struct shape *s, int pass) {
    const struct ops_conv *c = &s->s;
    const double in = (double)c->B * c->Lin * c->Cin, out = (double)c->B * c->Lout * c->Cout;
    const double weights = (double)c->Cout * (c->Cin / c->G) * c->K;
    const bool data = wants_data(s, pass), dw = wants_weights(pass);
    const double elements = in + out + (data ? in : 0);
    const double floats = weights * ((pass == PASS_FORWARD || data ? 1 : 0) + (dw ? 2 : 0));
    return 1e-9 * (all->item * elements + sizeof(float) * floats);
}

/* Does a training step make this pass as it is here? */
static bool in_step(const struct shapes *all, int pass) {
    return all->gpu ? pass == PASS_FORWARD || pass == PASS_BACKWARD : pass != PASS_BACKWARD;
}

/* Of the peak or, on a GPU, of the memory's rate, whichever is nearer. NaN: not one of its passes. */
static double share(const struct shapes *all, const struct shape *s, int pass) {
    const double flop = gflop(s, pass) / s->seconds[pass] / all->peak,
                 bytes = gbyte(all, s, pass) / s->seconds[pass] / all->memory;
    return all->gpu && bytes > flop ? bytes : flop;
}

/* ------------------------------------------------------------------ timing */

struct conv_run {
    const struct ops *ops;
    struct ops_dev *dev;
    enum ops_dtype dtype;
    struct ops_conv s;
    struct ops_act act;
    bool forward, data, weights; /* what is computed */
    void *x, *y, *dn;            /* y takes the output and then serves as its gradient */
    size_t in, out;              /* bytes from one copy of x and dn, of y, to the next */
    int copies, turn;
    float *w, *b, *dw, *db;
    void *packed; /* w as the backend reads it, made once a step and timed on its own; or NULL */
    struct ops_ws ws;
};

static enum ecg_status run_pass(void *context) {
    struct conv_run *r = context;
    const size_t i = (size_t)(r->turn++ % r->copies);
    void *x = (char *)r->x + i * r->in, *y = (char *)r->y + i * r->out;
    void *dn = (char *)r->dn + i * r->in;
    if (r->forward)
        return r->ops->act_conv_fwd(r->dev, r->dtype, r->s, &r->act, x, r->w, r->packed, r->b, y,
                                    NULL, NULL, NULL, r->ws);
    return r->ops->act_conv_bwd(r->dev, r->dtype, r->s, &r->act, x, r->w, r->packed, y, NULL, NULL,
                                r->weights ? r->dw : NULL, r->weights ? r->db : NULL, NULL,
                                r->data ? dn : NULL, NULL, r->ws);
}

static void conv_run_free(struct conv_run *r) {
    r->ops->free(r->dev, r->x);
    r->ops->free(r->dev, r->y);
    r->ops->free(r->dev, r->dn);
    r->ops->free(r->dev, r->w);
    r->ops->free(r->dev, r->b);
    r->ops->free(r->dev, r->dw);
    r->ops->free(r->dev, r->db);
    r->ops->free(r->dev, r->packed);
    r->ops->free(r->dev, r->ws.p);
}

static enum ecg_status run_packing(void *context) {
    struct conv_run *r = context;
    const struct ops_pack one = {.s = r->s, .w = r->w, .backward = 1, .packed = r->packed};
    return r->ops->conv_pack(r->dev, r->dtype, 1, &one, r->ws);
}

static enum ecg_status time_packing(const struct bench *b, struct conv_run *r, double *seconds) {
    const size_t bytes = r->ops->conv_packed_bytes(r->dev, r->dtype, r->s, 1);
    *seconds = 0;
    if (bytes == 0) return ECG_OK;
    TRY(r->ops->alloc(r->dev, &r->packed, bytes));
    return bench_op(b, r->dev, run_packing, r, seconds);
}

/* Passes of a shape, one by one. */
static enum ecg_status time_passes(const struct bench *b, struct conv_run *r, struct shape *shape) {
    TRY(time_packing(b, r, &shape->seconds[PASSES]));
    for (int p = 0; p < PASSES; p++) {
        r->forward = p == PASS_FORWARD;
        r->data = wants_data(shape, p);
        r->weights = wants_weights(p);
        shape->seconds[p] = NAN;
        if (shape->kind == KIND_STEM && p == PASS_DATA) continue;
        if (b->gpu == NULL && p == PASS_BACKWARD) continue;
        TRY(bench_op(b, r->dev, run_pass, r, &shape->seconds[p]));
    }
    return ECG_OK;
}

static size_t rounded(size_t bytes) {
    return (bytes + 255) / 256 * 256;
}

static enum ecg_status time_shape(const struct bench *b, struct ops_dev *dev, enum ops_dtype dtype,
                                  struct shape *shape) {
    const struct ops_conv s = shape->s;
    const size_t item = dtype == OPS_BF16 ? 2 : 4, width = sizeof(float) * (size_t)s.Cout;
    const size_t n = (size_t)s.Cout * (size_t)(s.Cin / s.G) * (size_t)s.K;
    struct conv_run r = {.ops = b->ops, .dev = dev, .dtype = dtype, .s = s};
    enum ecg_status status;
    r.act.swish = shape->kind != KIND_STEM;
    r.ws.n = r.ops->conv_ws(dev, dtype, s, 1, 1);
    r.in = rounded((size_t)s.B * (size_t)s.Lin * (size_t)s.Cin * item);
    r.out = rounded((size_t)s.B * (size_t)s.Lout * (size_t)s.Cout * item);
    r.copies = bench_copies(b, (double)(r.in + r.out));
    TRY_OUT(r.ops->alloc(dev, &r.x, r.in * (size_t)r.copies));
    TRY_OUT(r.ops->alloc(dev, &r.y, r.out * (size_t)r.copies));
    TRY_OUT(r.ops->alloc(dev, &r.dn, r.in * (size_t)r.copies));
    TRY_OUT(r.ops->alloc(dev, (void **)&r.w, n * sizeof(float)));
    TRY_OUT(r.ops->alloc(dev, (void **)&r.b, width));
    TRY_OUT(r.ops->alloc(dev, (void **)&r.dw, n * sizeof(float)));
    TRY_OUT(r.ops->alloc(dev, (void **)&r.db, width));
    TRY_OUT(r.ops->alloc(dev, &r.ws.p, r.ws.n));
    TRY_OUT(bench_fill(r.ops, dev, dtype, r.x, r.in * (size_t)r.copies / item));
    TRY_OUT(bench_fill(r.ops, dev, OPS_F32, r.w, n));
    status = time_passes(b, &r, shape);
out:
    conv_run_free(&r);
    return status;
}

static int by_size(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Every shape once a round; the medians of the rounds. */
static enum ecg_status time_all(const struct bench *b, struct ops_dev *dev, enum ops_dtype dtype,
                                struct shapes *all) {
    const int rounds = b->o->quick || all->gpu ? 1 : ROUNDS;
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < all->n; i++) {
            struct shape *s = &all->v[i];
            TRY(time_shape(b, dev, dtype, s));
            for (int p = 0; p <= PASSES; p++) s->round[p][r] = s->seconds[p];
        }
    for (int i = 0; i < all->n; i++)
        for (int p = 0; p <= PASSES; p++) {
            struct shape *s = &all->v[i];
            qsort(s->round[p], (size_t)rounds, sizeof(double), by_size);
            s->seconds[p] = s->round[p][rounds / 2];
        }
    return ECG_OK;
}

/* ------------------------------------------------------------------ sums */

struct sum {
    double gflop, gbyte, seconds;
};

/* All shapes of a kind (KINDS: all) and a pass (PASSES: those of a step), each as often as it is there. */
static struct sum sum_of(const struct shapes *all, int kind, int pass) {
    struct sum sum = {0};
    for (int i = 0; i < all->n; i++)
        for (int p = 0; p < PASSES; p++) {
            const struct shape *s = &all->v[i];
            if ((kind != KINDS && kind != (int)s->kind) || isnan(s->seconds[p])) continue;
            if (pass == PASSES ? !in_step(all, p) : pass != p) continue;
            sum.gflop += s->count * gflop(s, p);
            sum.gbyte += s->count * gbyte(all, s, p);
            sum.seconds += s->count * s->seconds[p];
        }
    return sum;
}

/* Seconds. */
static double packing(const struct shapes *all) {
    double seconds = 0;
    for (int i = 0; i < all->n; i++) seconds += all->v[i].count * all->v[i].seconds[PASSES];
    return seconds;
}

static const struct shape *lowest(const struct shapes *all, enum pass *pass) {
    const struct shape *low = NULL;
    double least = INFINITY;
    for (int i = 0; i < all->n; i++)
        for (int p = 0; p < PASSES; p++)
            if (in_step(all, p) && share(all, &all->v[i], p) < least) {
                low = &all->v[i];
                least = share(all, low, p);
                *pass = p;
            }
    return low;
}

/* ------------------------------------------------------------------ output */

static struct sum one_pass(const struct shapes *all, const struct shape *s, int pass) {
    return (struct sum){gflop(s, pass), gbyte(all, s, pass), s->seconds[pass]};
}

static void shape_text(const struct shape *s, char *text, size_t n) {
    snprintf(text, n, "%s %d>%d k%d s%d L%d", kind_names[s->kind], s->s.Cin, s->s.Cout, s->s.K,
             s->s.S, s->s.Lin);
}

static void put_sum(struct bench *b, const struct shapes *all, const char *key, struct sum s) {
    json_put_key(&b->w, key);
    json_begin_object(&b->w);
    bench_put(b, "gflops", s.gflop / s.seconds);
    bench_put(b, "percent_of_peak", 100 * s.gflop / s.seconds / all->peak);
    bench_put(b, "gb_s", s.gbyte / s.seconds);
    bench_put(b, "percent_of_memory", 100 * s.gbyte / s.seconds / all->memory);
    bench_put(b, "seconds", s.seconds);
    json_end_object(&b->w);
}

static void put_shape(struct bench *b, const struct shapes *all, const struct shape *s) {
    const struct ops_conv *c = &s->s;
    const struct {
        const char *key;
        int value;
    } numbers[] = {{"in", c->Cin},   {"out", c->Cout}, {"length", c->Lin}, {"taps", c->K},
                   {"stride", c->S}, {"groups", c->G}, {"count", s->count}};
    json_begin_object(&b->w);
    bench_put_text(b, "kind", kind_names[s->kind]);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        json_put_key(&b->w, numbers[i].key);
        json_put_integer(&b->w, numbers[i].value);
    }
    for (int p = 0; p < PASSES; p++)
        if (!isnan(s->seconds[p])) put_sum(b, all, pass_keys[p], one_pass(all, s, p));
    json_end_object(&b->w);
}

static void put_json(struct bench *b, const struct shapes *all) {
    char text[64];
    enum pass pass = 0;
    json_put_key(&b->w, "shapes");
    json_begin_array(&b->w);
    for (int i = 0; i < all->n; i++) put_shape(b, all, &all->v[i]);
    json_end_array(&b->w);
    json_put_key(&b->w, "mean");
    json_begin_object(&b->w);
    for (int k = KIND_1X1; k <= KINDS; k++) {
        json_put_key(&b->w, kind_names[k]);
        json_begin_object(&b->w);
        for (int p = 0; p < PASSES; p++)
            if (all->gpu || in_step(all, p)) put_sum(b, all, pass_keys[p], sum_of(all, k, p));
        put_sum(b, all, "all", sum_of(all, k, PASSES));
        json_end_object(&b->w);
    }
    json_end_object(&b->w);
    bench_put(b, "packing_ms", 1e3 * packing(all));
    const struct shape *low = lowest(all, &pass);
    shape_text(low, text, sizeof(text));
    json_put_key(&b->w, "lowest");
    json_begin_object(&b->w);
    bench_put_text(b, "shape", text);
    bench_put_text(b, "pass", pass_keys[pass]);
    put_sum(b, all, "rate", one_pass(all, low, pass));
    json_end_object(&b->w);
}

static void print_sum(const struct shapes *all, struct sum s) {
    const double flop = s.gflop / s.seconds, bytes = s.gbyte / s.seconds;
    const bool none = isnan(s.seconds);
    if (all->gpu && none)
        printf("%9s %24s", "-", "");
    else if (all->gpu)
        printf("%9.1f us %6.1f %3.0f %% %5.0f %3.0f %%", 1e6 * s.seconds, 1e-3 * flop,
               100 * flop / all->peak, bytes, 100 * bytes / all->memory);
    else if (none)
        printf("%11s %4s", "-", "");
    else
        printf("%9.1f %4.0f %%", flop, 100 * flop / all->peak);
}

static void print_head(const struct shapes *all) {
    static const char *const names[PASSES] = {"forward", "data grad.", "weight grad.",
                                              "both gradients"};
    printf("  %-33s %5s", all->gpu ? "us, TFLOP/s, GB/s at least" : "GFLOP/s", "count");
    for (int p = 0; p < PASSES; p++)
        if (in_step(all, p)) printf("%*s", all->gpu ? 36 : 17, names[p]);
    printf("\n");
}

static void print_table(const struct shapes *all) {
    enum pass pass = 0;
    char text[64];
    print_head(all);
    for (int i = 0; i < all->n; i++) {
        const struct shape *s = &all->v[i];
        printf("  %-8s%4d > %-4d  L %4d k%-2d s%d %6d ", kind_names[s->kind], s->s.Cin, s->s.Cout,
               s->s.Lin, s->s.K, s->s.S, s->count);
        for (int p = 0; p < PASSES; p++)
            if (in_step(all, p)) print_sum(all, one_pass(all, s, p));
        printf("\n");
    }
    for (int k = KIND_1X1; k <= KINDS; k++) {
        const struct sum sum = sum_of(all, k, PASSES);
        snprintf(text, sizeof(text), "%s, by time (%.1f %%)", kind_names[k],
                 100 * sum.gflop / sum.seconds / all->peak);
        printf("  %-39s", text);
        for (int p = 0; p < PASSES; p++)
            if (in_step(all, p)) print_sum(all, sum_of(all, k, p));
        printf("\n");
    }
    printf("  packing their weights, once a step: %.1f ms\n", 1e3 * packing(all));
    const struct shape *low = lowest(all, &pass);
    shape_text(low, text, sizeof(text));
    printf("  lowest: %s of %s, %.0f %%\n", pass_keys[pass], text, 100 * share(all, low, pass));
}

enum ecg_status bench_convs(struct bench *b, const struct bench_model *m, enum ops_dtype dtype) {
    struct ops_dev *dev = NULL;
    struct shapes all = {.gpu = b->gpu != NULL,
                         .item = dtype == OPS_BF16 ? 2 : 4,
                         .peak = bench_peak(b, dtype),
                         .memory = b->peak.memory};
    list_shapes(&all, &m->config, bench_batch(b, m));
    TRY(b->ops->open(&dev, b->o->threads));
    enum ecg_status status = time_all(b, dev, dtype, &all);
    b->ops->close(dev);
    TRY(status);
    if (b->o->json)
        put_json(b, &all);
    else
        print_table(&all);
    return ECG_OK;
}
