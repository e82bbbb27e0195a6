/* SPDX-License-Identifier: MIT
 * The operations that compute little and move much, on the tensors of every block: bytes read and written once each, over
 * time. Small tensors stay in the processor's caches from run to run, so a share above 100 % of the memory's rate can be; on a
 * GPU they lie elsewhere in the buffers from run to run, which are larger than its L2. */
#include <stdio.h>
#include <string.h>

#include "train/run/bench_private.h"

enum { PLACES_MAX = 64, TENSORS = 4, ALIGNED = 64 };

/* What stands around a block: x (B, Lin, Cin) in, h (B, Lin, C) after the first convolution, y (B, Lout, C) out. */
struct place {
    int B, Lin, Cin, Lout, C, S;
    int count;
};

struct places {
    struct place v[PLACES_MAX];
    int n;
    size_t params;  /* of the network */
    size_t largest; /* elements of a tensor */
    int width;      /* largest C */
};

struct element_run {
    const struct ops *ops;
    struct ops_dev *dev;
    enum ops_dtype dtype;
    struct place at;
    size_t params;
    void *x, *h, *y, *dx;           /* where the tensors of `at` are this time */
    char *buffer[TENSORS];          /* (room) each: where they are in turn */
    size_t room, turn;              /* elements; runs so far */
    float *p, *g, *m, *v;           /* (params) */
    float *one, *two, *three, *sum; /* (B, width) */
    struct ops_act act;
    struct ops_ws ws;
    enum ecg_status (*call)(struct element_run *r);
};

static struct ops_blc mid(const struct place *at) {
    return (struct ops_blc){at->B, at->Lin, at->C};
}

static struct ops_blc out(const struct place *at) {
    return (struct ops_blc){at->B, at->Lout, at->C};
}

static enum ecg_status act_fwd(struct element_run *r) {
    return r->ops->act_fwd(r->dev, r->dtype, mid(&r->at), &r->act, r->h, r->y);
}

static enum ecg_status act_bwd(struct element_run *r) {
    return r->ops->act_bwd(r->dev, r->dtype, mid(&r->at), &r->act, r->h, r->y, 0, r->dx);
}

static enum ecg_status norm_stats(struct element_run *r) {
    return r->ops->norm_stats(r->dev, r->dtype, mid(&r->at), r->h, r->one, r->two, r->ws);
}

static struct ops_norm norm_of(const struct element_run *r) {
    const int C = r->at.C;
    return (struct ops_norm){
        r->one, r->two, r->three, 1e-5, r->sum, r->sum + 3 * (size_t)C, r->sum + 4 * (size_t)C};
}

static enum ecg_status norm_sums(struct element_run *r) {
    const struct ops_norm norm = norm_of(r);
    return r->ops->norm_sums(r->dev, r->dtype, mid(&r->at), r->h, r->y, &norm, r->ws);
}

static enum ecg_status norm_dx(struct element_run *r) {
    const struct ops_norm norm = norm_of(r);
    return r->ops->norm_dx(r->dev, r->dtype, mid(&r->at), r->h, r->y, &norm, NULL, r->dx);
}

static enum ecg_status shortcut_fwd(struct element_run *r) {
    return r->ops->shortcut_fwd(r->dev, r->dtype, out(&r->at), r->at.Lin, r->at.Cin, r->at.S, r->h,
                                r->one, r->x, r->y);
}

static enum ecg_status shortcut_bwd(struct element_run *r) {
    return r->ops->shortcut_bwd(r->dev, r->dtype, out(&r->at), r->at.Lin, r->at.Cin, r->at.S, r->x,
                                r->y, r->dx);
}

static enum ecg_status gate_bwd(struct element_run *r) {
    return r->ops->gate_bwd(r->dev, r->dtype, out(&r->at), r->y, r->h, r->sum);
}

static enum ecg_status branch_bwd(struct element_run *r) {
    return r->ops->branch_bwd(r->dev, r->dtype, out(&r->at), r->y, r->one, r->two, r->dx);
}

static enum ecg_status adam(struct element_run *r) {
    const struct ops_adam a = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step = 1};
    return r->ops->adam(r->dev, &a, r->params, r->p, r->g, r->m, r->v);
}

/* Elements that an operation moves: so many times each of the three tensors. */
static const struct element {
    const char *name;
    int x, mid, out;
    enum ecg_status (*call)(struct element_run *r);
} elements[] = {
    {"act_fwd", 0, 2, 0, act_fwd},           {"act_bwd", 0, 3, 0, act_bwd},
    {"norm_stats", 0, 1, 0, norm_stats},     {"norm_sums", 0, 2, 0, norm_sums},
    {"norm_dx", 0, 3, 0, norm_dx},           {"shortcut_fwd", 1, 0, 2, shortcut_fwd},
    {"shortcut_bwd", 2, 0, 1, shortcut_bwd}, {"gate_bwd", 0, 0, 2, gate_bwd},
    {"branch_bwd", 0, 0, 2, branch_bwd},
};
enum { N_ELEMENTS = sizeof elements / sizeof *elements, ADAM = N_ELEMENTS, N_ALL };

struct result {
    double gb, seconds; /* of all blocks together */
};

/* ------------------------------------------------------------------ places */

static size_t conv_params(struct ops_conv s) {
    return (size_t)s.Cout * ((size_t)(s.Cin / s.G) * (size_t)s.K + 1);
}

static void add_place(struct places *all, struct place at) {
    int i = 0;
    while (i < all->n) {
        at.count = all->v[i].count;
        if (memcmp(&all->v[i], &at, sizeof(at)) == 0) break;
        i++;
    }
    if (i == PLACES_MAX) return;
    if (i == all->n) {
        at.count = 0;
        all->v[all->n++] = at;
    }
    all->v[i].count++;
    size_t n = (size_t)at.B * (size_t)at.Lin * (size_t)at.C;
    if (n > all->largest) all->largest = n;
    if (at.C > all->width) all->width = at.C;
}

static void list_places(struct places *all, const struct net1d_config *c, int B) {
    struct net1d_walk w;
    struct ops_conv conv[3];
    *all = (struct places){.params = conv_params(net1d_walk_start(&w, c, B))};
    while (net1d_walk_block(&w, conv)) {
        add_place(all, (struct place){.B = B,
                                      .Lin = conv[0].Lin,
                                      .Cin = conv[0].Cin,
                                      .Lout = conv[2].Lout,
                                      .C = conv[2].Cout,
                                      .S = conv[1].S});
        size_t C = (size_t)w.C, H = C / 2;
        for (int i = 0; i < 3; i++) all->params += conv_params(conv[i]);
        all->params += C * H + H + H * C + C;
    }
    all->params += (size_t)(w.C + 1) * (size_t)c->n_outputs;
}

/* ------------------------------------------------------------------ timing */

static enum ecg_status run_call(void *context) {
    struct element_run *r = context;
    const size_t n = (size_t)r->at.B * (size_t)r->at.Lin * (size_t)r->at.C;
    const size_t apart = (n + ALIGNED - 1) / ALIGNED * ALIGNED, places = r->room / apart;
    const size_t item = r->dtype == OPS_BF16 ? 2 : 4;
    const size_t start = places > 1 ? r->turn++ % places * apart * item : 0;
    r->x = r->buffer[0] + start;
    r->h = r->buffer[1] + start;
    r->y = r->buffer[2] + start;
    r->dx = r->buffer[3] + start;
    return r->call(r);
}

static enum ecg_status time_call(const struct bench *b, struct element_run *r, double *seconds) {
    return bench_op(b, r->dev, run_call, r, seconds);
}

static enum ecg_status time_elements(const struct bench *b, struct element_run *r,
                                     const struct places *all, struct result *results) {
    const double item = r->dtype == OPS_BF16 ? 2 : 4;
    double seconds;
    for (int e = 0; e < N_ELEMENTS; e++)
        for (int i = 0; i < all->n; i++) {
            const struct place *at = &all->v[i];
            const double x = (double)at->Lin * at->Cin, h = (double)at->Lin * at->C,
                         y = (double)at->Lout * at->C;
            r->at = *at;
            r->call = elements[e].call;
            TRY(time_call(b, r, &seconds));
            results[e].gb += 1e-9 * item * at->B * at->count *
                             (elements[e].x * x + elements[e].mid * h + elements[e].out * y);
            results[e].seconds += at->count * seconds;
        }
    r->call = adam;
    results[ADAM].gb = 1e-9 * 7 * sizeof(float) * (double)all->params;
    return time_call(b, r, &results[ADAM].seconds);
}

/* All buffers of one run, by one table, so that freeing can't forget any. */
enum { BUFFERS = 12 };

static enum ecg_status with_buffers(const struct bench *b, struct element_run *r,
                                    const struct places *all, struct result *results) {
    const size_t item = r->dtype == OPS_BF16 ? 2 : 4, act = r->room * item;
    const size_t params = all->params * sizeof(float);
    const size_t rows = (size_t)all->v[0].B * (size_t)all->width * sizeof(float);
    struct buffer {
        void **to;
        size_t bytes;
    } buffers[BUFFERS] = {
        {(void **)&r->buffer[0], act}, {(void **)&r->buffer[1], act}, {(void **)&r->buffer[2], act},
        {(void **)&r->buffer[3], act}, {(void **)&r->p, params},      {(void **)&r->g, params},
        {(void **)&r->m, params},      {(void **)&r->v, params},      {(void **)&r->one, rows},
        {(void **)&r->two, rows},      {(void **)&r->three, rows},    {(void **)&r->sum, 5 * rows},
    };
    enum ecg_status status = ECG_OK;
    for (int i = 0; i < all->n; i++) {
        size_t n = r->ops->norm_ws(r->dev, mid(&all->v[i]));
        if (n > r->ws.n) r->ws.n = n;
    }
    TRY(r->ops->alloc(r->dev, &r->ws.p, r->ws.n));
    for (int i = 0; i < BUFFERS; i++)
        TRY_OUT(r->ops->alloc(r->dev, buffers[i].to, buffers[i].bytes));
    TRY_OUT(bench_fill(r->ops, r->dev, r->dtype, r->buffer[0], r->room));
    TRY_OUT(bench_fill(r->ops, r->dev, r->dtype, r->buffer[1], r->room));
    TRY_OUT(bench_fill(r->ops, r->dev, r->dtype, r->buffer[2], r->room));
    TRY_OUT(bench_fill(r->ops, r->dev, OPS_F32, r->g, all->params));
    status = time_elements(b, r, all, results);
out:
    for (int i = 0; i < BUFFERS; i++) r->ops->free(r->dev, *buffers[i].to);
    r->ops->free(r->dev, r->ws.p);
    return status;
}

/* ------------------------------------------------------------------ output */

static void put_results(struct bench *b, const struct result *results) {
    for (int e = 0; e < N_ALL; e++) {
        const char *name = e == ADAM ? "adam" : elements[e].name;
        const double rate = results[e].gb / results[e].seconds;
        if (b->o->json)
            bench_put_rate(b, name, "gb_s", rate, b->peak.memory, results[e].seconds);
        else
            printf("  %-14s %8.1f GB/s %4.0f %%   %8.2f ms in all\n", name, rate,
                   100 * rate / b->peak.memory, 1e3 * results[e].seconds);
    }
}

enum ecg_status bench_elements(struct bench *b, const struct bench_model *m, enum ops_dtype dtype) {
    struct element_run r = {.ops = b->ops, .dtype = dtype, .act = {.swish = 1}};
    struct result results[N_ALL] = {{0, 0}};
    struct places all;
    list_places(&all, &m->config, bench_batch(b, m));
    r.params = all.params;
    const double bytes = (double)all.largest * (dtype == OPS_BF16 ? 2 : 4);
    r.room = all.largest * (size_t)bench_copies(b, bytes);
    TRY(b->ops->open(&r.dev, b->o->threads));
    enum ecg_status status = with_buffers(b, &r, &all, results);
    b->ops->close(r.dev);
    TRY(status);
    put_results(b, results);
    return ECG_OK;
}
