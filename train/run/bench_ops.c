/* SPDX-License-Identifier: MIT
 * The convolutions of a network, as the network calls them: Swish on the way in (the stem: nothing), bias on the way out.
 * Distinct shapes are timed one by one on memory of their own and counted as often as the network has them. The stem's data
 * gradient is needed by nobody. The whole list is gone through several times, and the median of each figure counts: a
 * machine's slow moments then fall on different shapes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/run/bench_private.h"

enum { SHAPES_MAX = 128, ROUNDS = 5 };
enum pass { PASS_FORWARD, PASS_DATA, PASS_WEIGHT, PASSES };

static const char *const pass_keys[PASSES] = {"forward", "data_gradient", "weight_gradient"};

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
    all->n = 0;
    add_shape(all, KIND_STEM, net1d_walk_start(&w, c, B));
    while (net1d_walk_block(&w, conv)) {
        add_shape(all, KIND_1X1, conv[0]);
        add_shape(all, KIND_GROUPED, conv[1]);
        add_shape(all, KIND_1X1, conv[2]);
    }
}

static double gflop(const struct shape *s) {
    return 2e-9 * s->s.B * (double)net1d_conv_macs(s->s);
}

/* ------------------------------------------------------------------ timing */

struct conv_run {
    const struct ops *ops;
    struct ops_dev *dev;
    enum ops_dtype dtype;
    struct ops_conv s;
    struct ops_act act;
    enum pass pass;
    void *x, *y, *dn; /* y takes the output and then serves as its gradient */
    float *w, *b, *dw, *db;
    void *packed; /* w as the backend reads it, made once a step and timed on its own; or NULL */
    struct ops_ws ws;
};

static enum ecg_status run_pass(void *context) {
    struct conv_run *r = context;
    if (r->pass == PASS_FORWARD)
        TRY(r->ops->act_conv_fwd(r->dev, r->dtype, r->s, &r->act, r->x, r->w, r->packed, r->b, r->y,
                                 NULL, NULL, NULL, r->ws));
    else
        TRY(r->ops->act_conv_bwd(r->dev, r->dtype, r->s, &r->act, r->x, r->w, r->packed, r->y, NULL,
                                 NULL, r->pass == PASS_WEIGHT ? r->dw : NULL,
                                 r->pass == PASS_WEIGHT ? r->db : NULL, NULL,
                                 r->pass == PASS_DATA ? r->dn : NULL, NULL, r->ws));
    return r->ops->sync(r->dev);
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
    TRY(r->ops->conv_pack(r->dev, r->dtype, 1, &one, r->ws));
    return r->ops->sync(r->dev);
}

static enum ecg_status time_packing(const struct bench *b, struct conv_run *r, double *seconds) {
    const size_t bytes = r->ops->conv_packed_bytes(r->dev, r->dtype, r->s, 1);
    *seconds = 0;
    if (bytes == 0) return ECG_OK;
    TRY(r->ops->alloc(r->dev, &r->packed, bytes));
    return bench_median(b->o->quick ? 1 : 5, 0, run_packing, r, seconds);
}

static enum ecg_status time_shape(const struct bench *b, struct ops_dev *dev, enum ops_dtype dtype,
                                  struct shape *shape) {
    const struct ops_conv s = shape->s;
    const size_t in = (size_t)s.B * (size_t)s.Lin * (size_t)s.Cin;
    const size_t out = (size_t)s.B * (size_t)s.Lout * (size_t)s.Cout;
    const size_t n = (size_t)s.Cout * (size_t)(s.Cin / s.G) * (size_t)s.K;
    const size_t item = dtype == OPS_BF16 ? 2 : 4, width = sizeof(float) * (size_t)s.Cout;
    struct conv_run r = {.ops = b->ops, .dev = dev, .dtype = dtype, .s = s};
    enum ecg_status status;
    r.act.swish = shape->kind != KIND_STEM;
    r.ws.n = r.ops->conv_ws(dev, dtype, s, 1, 1);
    TRY_OUT(r.ops->alloc(dev, &r.x, in * item));
    TRY_OUT(r.ops->alloc(dev, &r.y, out * item));
    TRY_OUT(r.ops->alloc(dev, &r.dn, in * item));
    TRY_OUT(r.ops->alloc(dev, (void **)&r.w, n * sizeof(float)));
    TRY_OUT(r.ops->alloc(dev, (void **)&r.b, width));
    TRY_OUT(r.ops->alloc(dev, (void **)&r.dw, n * sizeof(float)));
    TRY_OUT(r.ops->alloc(dev, (void **)&r.db, width));
    TRY_OUT(r.ops->alloc(dev, &r.ws.p, r.ws.n));
    TRY_OUT(bench_fill(r.ops, dev, dtype, r.x, in));
    TRY_OUT(bench_fill(r.ops, dev, OPS_F32, r.w, n));
    TRY_OUT(time_packing(b, &r, &shape->seconds[PASSES]));
    for (r.pass = 0; r.pass < PASSES; r.pass++) {
        shape->seconds[r.pass] = NAN;
        if (shape->kind == KIND_STEM && r.pass == PASS_DATA) continue;
        TRY_OUT(bench_median(b->o->quick ? 1 : 5, b->o->quick ? 0 : 0.02, run_pass, &r,
                             &shape->seconds[r.pass]));
    }
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
    const int rounds = b->o->quick ? 1 : ROUNDS;
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

/* GFLOP/s over the time of all shapes of a kind (KINDS: all) and a pass (PASSES: all), each as often as it is there. */
static double mean_rate(const struct shapes *all, int kind, int pass) {
    double work = 0, seconds = 0;
    for (int i = 0; i < all->n; i++)
        for (int p = 0; p < PASSES; p++) {
            const struct shape *s = &all->v[i];
            if ((kind != KINDS && kind != (int)s->kind) || (pass != PASSES && pass != p)) continue;
            if (isnan(s->seconds[p])) continue;
            work += s->count * gflop(s);
            seconds += s->count * s->seconds[p];
        }
    return work / seconds;
}

/* Seconds. */
static double packing(const struct shapes *all) {
    double seconds = 0;
    for (int i = 0; i < all->n; i++) seconds += all->v[i].count * all->v[i].seconds[PASSES];
    return seconds;
}

static const struct shape *lowest(const struct shapes *all, enum pass *pass) {
    const struct shape *low = NULL;
    double rate = INFINITY;
    for (int i = 0; i < all->n; i++)
        for (int p = 0; p < PASSES; p++)
            if (gflop(&all->v[i]) / all->v[i].seconds[p] < rate) {
                low = &all->v[i];
                rate = gflop(low) / low->seconds[p];
                *pass = p;
            }
    return low;
}

/* ------------------------------------------------------------------ output */

static void shape_text(const struct shape *s, char *text, size_t n) {
    snprintf(text, n, "%s %d>%d k%d s%d L%d", kind_names[s->kind], s->s.Cin, s->s.Cout, s->s.K,
             s->s.S, s->s.Lin);
}

static void put_shape(struct bench *b, const struct shape *s, double peak) {
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
        if (!isnan(s->seconds[p]))
            bench_put_rate(b, pass_keys[p], "gflops", gflop(s) / s->seconds[p], peak);
    json_end_object(&b->w);
}

static void put_json(struct bench *b, const struct shapes *all, double peak) {
    char text[64];
    enum pass pass = 0;
    json_put_key(&b->w, "shapes");
    json_begin_array(&b->w);
    for (int i = 0; i < all->n; i++) put_shape(b, &all->v[i], peak);
    json_end_array(&b->w);
    json_put_key(&b->w, "mean");
    json_begin_object(&b->w);
    for (int k = KIND_1X1; k <= KINDS; k++) {
        json_put_key(&b->w, kind_names[k]);
        json_begin_object(&b->w);
        for (int p = 0; p < PASSES; p++)
            bench_put_rate(b, pass_keys[p], "gflops", mean_rate(all, k, p), peak);
        bench_put_rate(b, "all", "gflops", mean_rate(all, k, PASSES), peak);
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
    bench_put_rate(b, "rate", "gflops", gflop(low) / low->seconds[pass], peak);
    json_end_object(&b->w);
}

static void print_rate(double rate, double peak) {
    if (isnan(rate))
        printf("%11s %4s", "-", "");
    else
        printf("%9.1f %4.0f %%", rate, 100 * rate / peak);
}

static void print_table(const struct shapes *all, double peak) {
    enum pass pass = 0;
    char text[64];
    printf("  %-33s %5s %16s %16s %16s\n", "GFLOP/s", "count", "forward", "data grad.",
           "weight grad.");
    for (int i = 0; i < all->n; i++) {
        const struct shape *s = &all->v[i];
        printf("  %-8s%4d > %-4d  L %4d k%-2d s%d %6d ", kind_names[s->kind], s->s.Cin, s->s.Cout,
               s->s.Lin, s->s.K, s->s.S, s->count);
        for (int p = 0; p < PASSES; p++) print_rate(gflop(s) / s->seconds[p], peak);
        printf("\n");
    }
    for (int k = KIND_1X1; k <= KINDS; k++) {
        snprintf(text, sizeof(text), "%s, by time (%.1f %%)", kind_names[k],
                 100 * mean_rate(all, k, PASSES) / peak);
        printf("  %-39s", text);
        for (int p = 0; p < PASSES; p++) print_rate(mean_rate(all, k, p), peak);
        printf("\n");
    }
    printf("  packing their weights, once a step: %.1f ms\n", 1e3 * packing(all));
    const struct shape *low = lowest(all, &pass);
    shape_text(low, text, sizeof(text));
    printf("  lowest: %s of %s, %.0f %%\n", pass_keys[pass], text,
           100 * gflop(low) / low->seconds[pass] / peak);
}

enum ecg_status bench_convs(struct bench *b, const struct bench_model *m, enum ops_dtype dtype) {
    struct ops_dev *dev = NULL;
    struct shapes all;
    list_shapes(&all, &m->config, bench_batch(b, m));
    TRY(b->ops->open(&dev, b->o->threads));
    enum ecg_status status = time_all(b, dev, dtype, &all);
    b->ops->close(dev);
    TRY(status);
    if (b->o->json)
        put_json(b, &all, bench_peak(b, dtype));
    else
        print_table(&all, bench_peak(b, dtype));
    return ECG_OK;
}
