/* SPDX-License-Identifier: MIT
 * What the CPU backend promises beyond the table of operations: the same bits for any number of threads and
 * for any place in a batch, agreement of its SIMD levels with each other and with the oracle on shapes that
 * the network does not have, the accuracy of its own exp, and its error messages. Scratch memory is exactly
 * as large as the backend asks for. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "kernels/cpu/peak.h"
#include "kernels/ops.h"
#include "tests/support/check.h"

static const char *const levels[] = {"avx512bf16", "avx512", "avx2", "portable"};
enum { N_LEVELS = 4 };

/* B, Lin, Lout, Cin, Cout, K, S, G, P */
static const struct ops_conv shapes[] = {
    {2, 300, 150, 12, 64, 16, 2, 1, 7}, /* the stem */
    {3, 157, 157, 64, 64, 16, 1, 4, 7}, /* grouped, odd length */
    {2, 313, 157, 80, 80, 16, 2, 5, 7}, /* grouped with stride */
    {2, 20, 20, 32, 32, 16, 1, 2, 7},   /* short */
    {3, 79, 79, 160, 144, 1, 1, 1, 0},  /* 1x1, several panels */
    {2, 700, 700, 24, 40, 1, 1, 1, 0},  /* 1x1, many units, narrow */
    {2, 40, 40, 520, 1030, 1, 1, 1, 0}, /* 1x1, several shares both ways */
    {2, 61, 31, 30, 20, 1, 2, 5, 0},    /* one tap with a stride */
    {2, 50, 17, 9, 15, 5, 3, 3, 1},     /* odd everything */
    {1, 33, 9, 4, 6, 2, 4, 2, 0},       /* rows that no tap reaches */
    {2, 41, 41, 8, 8, 7, 1, 8, 3},      /* one channel a group */
    {1, 1, 1, 1, 1, 1, 1, 1, 0},        /* smallest */
    {2, 3, 2, 16, 16, 16, 2, 1, 7},     /* shorter than the taps */
    {1, 5, 7, 3, 2, 4, 1, 1, 5},        /* windows beyond both ends */
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static void fill(float *x, size_t n, uint32_t stream) {
    struct rng r;
    rng_init(&r, 7, stream, 0, 0);
    for (size_t i = 0; i < n; i++) x[i] = (float)(2 * rng_uniform(&r) - 1);
}

static float *numbers(size_t n, uint32_t stream) {
    float *x;
    if (!CHECK_OK(MEM_NEW(&x, n))) exit(1);
    fill(x, n, stream);
    return x;
}

/* Everything one convolution gives, in one array. */
struct result {
    float *all;
    size_t n;
    float *y, *mean, *var, *y_mean, *dw, *db, *dn;
    size_t n_y, n_dw, n_dn;
};

static struct result new_result(struct ops_conv s) {
    struct result r = {.n_y = (size_t)s.B * s.Lout * s.Cout,
                       .n_dw = (size_t)s.Cout * (s.Cin / s.G) * s.K,
                       .n_dn = (size_t)s.B * s.Lin * s.Cin};
    r.n = r.n_y + 3 * (size_t)s.Cout + (size_t)s.B * s.Cout + r.n_dw + r.n_dn;
    r.all = numbers(r.n, 99); /* accumulated outputs start from something */
    r.y = r.all;
    r.mean = r.y + r.n_y;
    r.var = r.mean + s.Cout;
    r.y_mean = r.var + s.Cout;
    r.dw = r.y_mean + (size_t)s.B * s.Cout;
    r.db = r.dw + r.n_dw;
    r.dn = r.db + s.Cout;
    return r;
}

static struct ops_dev *open_cpu(const char *level, int n_threads) {
    struct ops_dev *dev = NULL;
    if (level)
        setenv("EINTHOVEN_CPU", level, 1);
    else
        unsetenv("EINTHOVEN_CPU");
    if (ops_cpu()->open(&dev, n_threads) != ECG_OK) dev = NULL;
    unsetenv("EINTHOVEN_CPU");
    return dev;
}

/* Forward and backward of act + conv, with everything optional asked for. */
static struct result run_conv(const struct ops *ops, struct ops_dev *dev, struct ops_conv s,
                              float drop) {
    struct result r = new_result(s);
    float *x = numbers((size_t)s.B * s.Lin * s.Cin, 1), *w = numbers(r.n_dw, 2),
          *b = numbers((size_t)s.Cout, 3);
    float *dy = numbers(r.n_y, 4), *scale = numbers((size_t)s.Cin, 5),
          *shift = numbers((size_t)s.Cin, 6);
    const struct ops_act act = {.scale = scale,
                                .shift = shift,
                                .swish = 1,
                                .drop = drop,
                                .seed = 3,
                                .stream = 5,
                                .step = 2};
    struct ops_ws ws = {.n = ops->conv_ws(dev, OPS_F32, s, 0, 1)};
    ws.p = aligned_alloc(MEM_ALIGN, ws.n ? ws.n : MEM_ALIGN);
    memset(ws.p, 0xff, ws.n); /* NaN */
    CHECK_OK(
        ops->act_conv_fwd(dev, OPS_F32, s, &act, x, w, NULL, b, r.y, r.mean, r.var, r.y_mean, ws));
    memset(ws.p, 0xff, ws.n);
    CHECK_OK(ops->act_conv_bwd(dev, OPS_F32, s, &act, x, w, NULL, dy, NULL, NULL, r.dw, r.db, NULL,
                               r.dn, NULL, ws));
    float *const mine[] = {x, w, b, dy, scale, shift, ws.p};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) free(mine[i]);
    return r;
}

/* sum (a-b)^2 / sum b^2; infinite when anything is not finite */
static double nmse(const float *a, const float *b, size_t n) {
    double error = 0, power = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (double)b[i];
        if (!isfinite(d)) return INFINITY;
        error += d * d;
        power += (double)b[i] * (double)b[i];
    }
    return error / (power > 0 ? power : 1);
}

/* The largest error of any of a result's seven arrays. */
static double result_error(struct ops_conv s, const struct result *a, const struct result *b) {
    const struct {
        const float *a, *b;
        size_t n;
    } parts[] = {{a->y, b->y, a->n_y},
                 {a->mean, b->mean, (size_t)s.Cout},
                 {a->var, b->var, (size_t)s.Cout},
                 {a->y_mean, b->y_mean, (size_t)s.B * s.Cout},
                 {a->dw, b->dw, a->n_dw},
                 {a->db, b->db, (size_t)s.Cout},
                 {a->dn, b->dn, a->n_dn}};
    double most = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const double e = nmse(parts[i].a, parts[i].b, parts[i].n);
        if (!(e <= most)) most = e;
    }
    return most;
}

static void conv_agrees_with_oracle_at_every_level(void) {
    struct ops_dev *ref;
    double most = 0;
    int tested = 0;
    if (!CHECK_OK(ops_ref()->open(&ref, 1))) return;
    for (int v = 0; v < N_LEVELS; v++) {
        struct ops_dev *dev = open_cpu(levels[v], 2);
        if (!dev) continue; /* this processor lacks it */
        tested++;
        for (int i = 0; i < N_SHAPES; i++) {
            const float drop = i % 2 ? 0.25f : 0;
            struct result ours = run_conv(ops_cpu(), dev, shapes[i], drop);
            struct result wanted = run_conv(ops_ref(), ref, shapes[i], drop);
            const double e = result_error(shapes[i], &ours, &wanted);
            if (!CHECK(e <= 1e-12)) check_note("level %s, shape %d: NMSE %.2g", levels[v], i, e);
            if (!(e <= most)) most = e;
            free(ours.all);
            free(wanted.all);
        }
        ops_cpu()->close(dev);
    }
    ops_ref()->close(ref);
    CHECK(tested >= 1);
    check_note("%d levels, largest NMSE %.2g (bound 1e-12)", tested, most);
}

static void conv_bits_do_not_depend_on_threads(void) {
    for (int v = 0; v < N_LEVELS; v++) {
        struct ops_dev *one = open_cpu(levels[v], 1);
        if (!one) continue;
        for (int n = 2; n <= 4; n++) {
            struct ops_dev *many = open_cpu(levels[v], n);
            if (!CHECK(many != NULL)) return;
            for (int i = 0; i < N_SHAPES; i++) {
                struct result a = run_conv(ops_cpu(), one, shapes[i], 0.1f);
                struct result b = run_conv(ops_cpu(), many, shapes[i], 0.1f);
                if (!CHECK(memcmp(a.all, b.all, a.n * sizeof *a.all) == 0))
                    check_note("level %s, %d threads, shape %d", levels[v], n, i);
                free(a.all);
                free(b.all);
            }
            ops_cpu()->close(many);
        }
        ops_cpu()->close(one);
    }
}

/* Everything that is not a convolution, on one shape; results one behind the other in `out`. */
static void run_rest(struct ops_dev *dev, float *out, size_t *n_out) {
    const struct ops *ops = ops_cpu();
    enum { B = 3, L = 157, C = 136, LI = 313, CI = 80, N = B * L * C };
    const struct ops_blc s = {B, L, C};
    float *x = numbers(N, 1), *y = numbers(N, 2), *in = numbers((size_t)B * LI * CI, 3), *p = out;
    float *vectors = numbers(6 * C, 4), *gate = numbers(B * C, 5);
    float *mean = p, *var = p + C, *dgamma = p + 2 * C, *dbeta = p + 3 * C;
    struct ops_ws ws = {.n = ops->norm_ws(dev, s)};
    ws.p = aligned_alloc(MEM_ALIGN, ws.n);
    memset(out, 0, 4 * C * sizeof *out);
    p += 4 * C;
    CHECK_OK(ops->norm_stats(dev, OPS_F32, s, x, mean, var, ws));
    const struct ops_norm norm = {mean, var, vectors, 1e-5, p, dgamma, dbeta};
    CHECK_OK(ops->norm_sums(dev, OPS_F32, s, x, y, &norm, ws));
    p += 3 * C;
    CHECK_OK(ops->norm_dx(dev, OPS_F32, s, x, y, &norm, NULL, p));
    p += N;
    CHECK_OK(ops->mean_fwd(dev, OPS_F32, s, x, p));
    p += B * C;
    CHECK_OK(ops->gate_bwd(dev, OPS_F32, s, x, y, p));
    p += B * C;
    CHECK_OK(ops->branch_bwd(dev, OPS_F32, s, y, gate, gate, p));
    p += N;
    CHECK_OK(ops->shortcut_fwd(dev, OPS_F32, s, LI, CI, 2, x, gate, in, p));
    p += N;
    CHECK_OK(ops->shortcut_bwd(dev, OPS_F32, s, LI, CI, 2, in, y, p));
    p += B * LI * CI;
    const struct ops_adam adam = {1e-3, 0.9, 0.999, 1e-8, 0.01, 1, 3};
    memcpy(p, x, N * sizeof *p);
    memcpy(p + N, y, N * sizeof *p);
    for (int i = 0; i < N; i++) p[2 * N + i] = y[i] * y[i];
    CHECK_OK(ops->adam(dev, &adam, N, p, y, p + N, p + 2 * N));
    p += 3 * N;
    double sum;
    CHECK_OK(ops->sumsq(dev, N, x, &sum));
    memcpy(p, &sum, sizeof sum);
    p += 2;
    *n_out = (size_t)(p - out);
    float *const mine[] = {x, y, in, vectors, gate, ws.p};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) free(mine[i]);
}

static void other_bits_do_not_depend_on_threads(void) {
    const size_t room = 1 << 20;
    size_t n_one = 0, n_many = 0;
    float *one = numbers(room, 1), *many = numbers(room, 1);
    struct ops_dev *dev = open_cpu(NULL, 1);
    if (!CHECK(dev != NULL)) return;
    run_rest(dev, one, &n_one);
    ops_cpu()->close(dev);
    for (int n = 2; n <= 4; n++) {
        dev = open_cpu(NULL, n);
        if (!CHECK(dev != NULL)) return;
        run_rest(dev, many, &n_many);
        CHECK(n_one == n_many && n_one <= room && memcmp(one, many, n_one * sizeof *one) == 0);
        ops_cpu()->close(dev);
    }
    free(one);
    free(many);
}

static void sample_does_not_depend_on_its_batch(void) {
    for (int i = 0; i < N_SHAPES; i++) {
        enum { PLACES = 5 };
        struct ops_conv alone = shapes[i], batch = shapes[i];
        alone.B = 1;
        batch.B = PLACES;
        const size_t n_x = (size_t)alone.Lin * alone.Cin, n_y = (size_t)alone.Lout * alone.Cout;
        struct ops_dev *dev = open_cpu(NULL, 2);
        if (!CHECK(dev != NULL)) return;
        float *x = numbers(PLACES * n_x, 1), *y = numbers(PLACES * n_y, 2), *y1 = numbers(n_y, 3);
        float *w = numbers((size_t)alone.Cout * (alone.Cin / alone.G) * alone.K, 4);
        float *m = numbers(PLACES * (size_t)alone.Cout, 5), *m1 = numbers((size_t)alone.Cout, 5);
        const struct ops_act act = {.swish = 1};
        struct ops_ws ws = {.n = ops_cpu()->conv_ws(dev, OPS_F32, batch, 0, 0)};
        if (ops_cpu()->conv_ws(dev, OPS_F32, alone, 0, 0) > ws.n)
            ws.n = ops_cpu()->conv_ws(dev, OPS_F32, alone, 0, 0);
        ws.p = aligned_alloc(MEM_ALIGN, ws.n);
        CHECK_OK(ops_cpu()->act_conv_fwd(dev, OPS_F32, batch, &act, x, w, NULL, NULL, y, NULL, NULL,
                                         m, ws));
        for (size_t b = 0; b < PLACES; b++) {
            CHECK_OK(ops_cpu()->act_conv_fwd(dev, OPS_F32, alone, &act, x + b * n_x, w, NULL, NULL,
                                             y1, NULL, NULL, m1, ws));
            CHECK(memcmp(y1, y + b * n_y, n_y * sizeof *y) == 0);
            CHECK(memcmp(m1, m + b * (size_t)alone.Cout, (size_t)alone.Cout * sizeof *m) == 0);
        }
        float *const mine[] = {x, y, y1, w, m, m1, ws.p};
        for (size_t k = 0; k < sizeof mine / sizeof *mine; k++) free(mine[k]);
        ops_cpu()->close(dev);
    }
}

static double sigmoid_of(double x) {
    return 1 / (1 + exp(-x));
}

/* Swish, its slope and the sigmoid over the whole range, at every length of the last vector. */
static void swish_is_accurate_at_every_level(void) {
    enum { N = 20011 };
    float *x = numbers(N, 1), *y = numbers(N, 2), *one = numbers(N, 3);
    double most = 0;
    for (int i = 0; i < N; i++) {
        x[i] = (float)((i - N / 2) * 0.008);
        one[i] = 1;
    }
    for (int v = 0; v < N_LEVELS; v++) {
        struct ops_dev *dev = open_cpu(levels[v], 1);
        if (!dev) continue;
        for (size_t n = N - 40; n <= N; n++) {
            CHECK_OK(ops_cpu()->swish_fwd(dev, n, x, y));
            for (size_t i = n - 50; i < n; i++) {
                const double t = (double)x[i] * sigmoid_of((double)x[i]),
                             e = fabs((double)y[i] - t) / fabs(t);
                CHECK(e <= 1e-6);
            }
        }
        for (int i = 0; i < N; i++) {
            if (x[i] == 0 || fabs((double)x[i]) > 80) continue;
            const double t = (double)x[i] * sigmoid_of((double)x[i]),
                         e = fabs((double)y[i] - t) / fabs(t);
            if (!(e <= most)) most = e;
        }
        CHECK_OK(ops_cpu()->swish_bwd(dev, N, x, one, y));
        for (int i = 0; i < N; i++) {
            const double p = sigmoid_of((double)x[i]), t = p * (1 + (double)x[i] * (1 - p));
            if (!CHECK(fabs((double)y[i] - t) <= 1e-6 * (fabs(t) + p))) break;
        }
        const float ends[] = {-INFINITY, -200, -88.5f, 0, 88.5f, 200, INFINITY, NAN};
        float s[8];
        CHECK_OK(ops_cpu()->sigmoid_fwd(dev, 8, ends, s));
        for (int i = 0; i < 7; i++) CHECK_NEAR((double)s[i], sigmoid_of((double)ends[i]), 1e-7);
        CHECK(isnan(s[7]));
        ops_cpu()->close(dev);
    }
    CHECK(most <= 1e-6);
    check_note("swish: largest relative error %.2g (bound 1e-6)", most);
    free(x);
    free(y);
    free(one);
}

static void errors_name_the_cause(void) {
    struct ops_dev *dev;
    setenv("EINTHOVEN_CPU", "mmx", 1);
    CHECK_FAILS(ops_cpu()->open(&dev, 1), ECG_ERR_FAIL,
                "known are avx512bf16, avx512, avx2 and portable");
    CHECK(dev == NULL);
    dev = open_cpu(NULL, 1);
    if (!CHECK(dev != NULL)) return;
    struct ops_conv s = shapes[1];
    float some[4];
    const struct ops_ws none = {NULL, 0};
    CHECK_FAILS(ops_cpu()->conv_fwd(dev, (enum ops_dtype)2, s, some, some, NULL, some, none),
                ECG_ERR_FAIL, "conv_fwd: no such precision: 2");
    CHECK_FAILS(ops_cpu()->conv_fwd(dev, OPS_F32, s, some, some, NULL, some, none), ECG_ERR_FAIL,
                "scratch");
    s.G = 3;
    CHECK_FAILS(ops_cpu()->conv_fwd(dev, OPS_F32, s, some, some, NULL, some, none), ECG_ERR_FAIL,
                "G 3");
    ops_cpu()->close(dev);
    ops_cpu()->close(NULL);
}

/* Levels that this processor lacks refuse, as opening does; the others measure what they compute with. */
static void peaks_follow_the_level(void) {
    struct peak p;
    for (int v = 0; v < N_LEVELS; v++) {
        setenv("EINTHOVEN_CPU", levels[v], 1);
        if (peak_measure(&p, 2, 0.01) != ECG_OK) continue;
        CHECK_STR(p.level, levels[v]);
        CHECK(p.n_threads == 2);
        CHECK(isfinite(p.fp32) && p.fp32 > 0);
        CHECK(isfinite(p.bf16) && p.bf16 >= 0);
        CHECK((strcmp(levels[v], "avx512bf16") == 0) == (p.bf16 > 0));
        CHECK(isfinite(p.memory) && p.memory > 0);
        check_note("%s: fp32 %.0f, bf16 %.0f GFLOP/s, memory %.0f GB/s", p.level, p.fp32, p.bf16,
                   p.memory);
    }
    setenv("EINTHOVEN_CPU", "sse9", 1);
    CHECK_FAILS(peak_measure(&p, 1, 0.01), ECG_ERR_FAIL, "sse9");
    unsetenv("EINTHOVEN_CPU");
}

int main(void) {
    CASE(conv_agrees_with_oracle_at_every_level);
    CASE(conv_bits_do_not_depend_on_threads);
    CASE(other_bits_do_not_depend_on_threads);
    CASE(sample_does_not_depend_on_its_batch);
    CASE(swish_is_accurate_at_every_level);
    CASE(peaks_follow_the_level);
    CASE(errors_name_the_cause);
    return check_finish();
}
