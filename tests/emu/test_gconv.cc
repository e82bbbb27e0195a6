/* SPDX-License-Identifier: MIT
 * The 16-tap convolutions of the CUDA backend (kernels/cuda/gconv.h), emulated, against plain loops in double over the same
 * bf16 factors. */
#include "kernels/cuda/gconv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/bf16.h"
#include "kernels/cuda/ptx.h"

extern "C" {
#include "core/rng.h"
#include "tests/support/check.h"
}

/* Relative to the largest value of the array. bf16: half a step of rounding is 2^-9 .. 2^-8. */
static const double BF16_BOUND = 4e-3, DW_BOUND = 5e-7, SUM_BOUND = 2e-7;

enum problem_act { PLAIN = 0, SWISH = 1, FOLD = 2 }; /* may be added */

struct problem_shape {
    int S, B, Lin, C, act;
    int Cin; /* the stem's leads; 0: grouped */
};

/* ------------------------------------------------------------------ memory of a problem */

enum { MAX_KEPT = 64 };
static void *kept_host[MAX_KEPT], *kept_device[MAX_KEPT];
static int n_host, n_device;

static void *host_bytes(size_t bytes) {
    if (n_host == MAX_KEPT) abort();
    void *p = kept_host[n_host++] = calloc(bytes + 1, 1);
    if (!p) abort();
    return p;
}

/* A copy of `from`, or with NULL as the device gives it: no numbers. */
static void *device_bytes(size_t bytes, const void *from) {
    void *p = NULL;
    if (n_device == MAX_KEPT || cudaMalloc(&p, bytes + 1) != cudaSuccess) abort();
    kept_device[n_device++] = p;
    if (from && cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice) != cudaSuccess) abort();
    return p;
}

static void *fetch(const void *device, size_t bytes) {
    void *p = host_bytes(bytes);
    if (cudaMemcpy(p, device, bytes, cudaMemcpyDeviceToHost) != cudaSuccess) abort();
    return p;
}

static void release(void) {
    while (n_host > 0) free(kept_host[--n_host]);
    while (n_device > 0) cudaFree(kept_device[--n_device]);
}

/* ------------------------------------------------------------------ problems */

struct problem {
    struct ops_conv s;
    bool is_stem;
    size_t n_x, n_y, n_w;
    const uint16_t *x, *dy; /* host */
    const float *w, *b, *scale, *shift, *dw0, *db0;
    float *a;                   /* act(x) as rounded */
    const uint16_t *d_x, *d_dy; /* device */
    const float *d_w, *d_b;
    struct ops_act act; /* of the device's scale and shift */
    struct ops_ws ws;
    void *packed[2]; /* forward, backward */
};

static const uint16_t *random_bf16(struct rng *r, size_t n, double lo, double hi) {
    uint16_t *p = (uint16_t *)host_bytes(n * sizeof(*p));
    for (size_t i = 0; i < n; i++) p[i] = bf16_from_float((float)(lo + (hi - lo) * rng_uniform(r)));
    return p;
}

static const float *random_float(struct rng *r, size_t n, double lo, double hi) {
    float *p = (float *)host_bytes(n * sizeof(*p));
    for (size_t i = 0; i < n; i++) p[i] = (float)(lo + (hi - lo) * rng_uniform(r));
    return p;
}

static float normalised(const struct problem *p, size_t i) {
    const float x = bf16_to_float(p->x[i]);
    if (!p->act.scale) return x;
    return fmaf(x, p->scale[i % p->s.Cin], p->shift[i % p->s.Cin]);
}

static size_t max_bytes(size_t a, size_t b) {
    return a > b ? a : b;
}

/* Fills and uploads, packs the weights. */
static struct problem make_problem(struct problem_shape shape, uint32_t seed) {
    struct problem p = {};
    struct rng r;
    rng_init(&r, 20240607, RNG_SYNTH, seed, (uint32_t)shape.Lin);
    p.is_stem = shape.Cin > 0;
    p.s = p.is_stem
              ? ops_conv_same(shape.B, shape.Lin, shape.Cin, shape.C, 16, shape.S, 1)
              : ops_conv_same(shape.B, shape.Lin, shape.C, shape.C, 16, shape.S, shape.C / 16);
    const size_t C = (size_t)shape.C, Cg = (size_t)(p.s.Cin / p.s.G);
    p.n_x = (size_t)p.s.B * p.s.Lin * p.s.Cin;
    p.n_y = (size_t)p.s.B * p.s.Lout * C;
    p.n_w = C * Cg * 16;
    p.x = random_bf16(&r, p.n_x, -3, 3);
    p.dy = random_bf16(&r, p.n_y, -1, 1);
    p.w = random_float(&r, p.n_w, -0.1, 0.1);
    p.b = random_float(&r, C, -0.5, 0.5);
    p.scale = random_float(&r, (size_t)p.s.Cin, 0.5, 1.5);
    p.shift = random_float(&r, (size_t)p.s.Cin, 0.25, 0.75);
    p.dw0 = random_float(&r, p.n_w, -1, 1);
    p.db0 = random_float(&r, C, -1, 1);
    if (shape.act & FOLD) {
        p.act.scale = (const float *)device_bytes((size_t)p.s.Cin * 4, p.scale);
        p.act.shift = (const float *)device_bytes((size_t)p.s.Cin * 4, p.shift);
    }
    p.act.swish = shape.act & SWISH;
    p.a = (float *)host_bytes(p.n_x * sizeof(float));
    for (size_t i = 0; i < p.n_x; i++) {
        const float n = normalised(&p, i);
        p.a[i] = bf16_to_float(bf16_from_float(p.act.swish ? swish_fast(n) : n));
    }
    p.d_x = (const uint16_t *)device_bytes(p.n_x * 2, p.x);
    p.d_dy = (const uint16_t *)device_bytes(p.n_y * 2, p.dy);
    p.d_w = (const float *)device_bytes(p.n_w * 4, p.w);
    p.d_b = (const float *)device_bytes(C * 4, p.b);
    p.ws.n = p.is_stem ? max_bytes(stem_fwd_ws(p.s), stem_bwd_ws(p.s))
                       : max_bytes(gconv_fwd_ws(p.s), gconv_bwd_ws(p.s));
    p.ws.p = device_bytes(p.ws.n, NULL);
    for (int backward = 0; backward < (p.is_stem ? 1 : 2); backward++) {
        p.packed[backward] = device_bytes(gconv_packed_bytes(p.s), NULL);
        const struct gconv_weights one = {p.s, p.d_w, p.packed[backward]};
        CHECK_OK(gconv_pack(backward, 1, &one, NULL));
    }
    return p;
}

static double weight(const struct problem *p, size_t i) {
    return bf16_to_float(bf16_from_float(p->w[i]));
}

/* Calls visit(context, ...) for every product of the convolution: element ix of x, iy of y, iw of w. */
typedef void visit_fn(void *context, size_t ix, size_t iy, size_t iw);

static void for_products(const struct problem *p, visit_fn *visit, void *context) {
    const struct ops_conv s = p->s;
    const int Cg = s.Cin / s.G;
    for (int b = 0; b < s.B; b++) {
        for (int l = 0; l < s.Lout; l++) {
            for (int t = 0; t < 16; t++) {
                const int i = l * s.S - s.P + t;
                if (i < 0 || i >= s.Lin) continue;
                for (int co = 0; co < s.Cout; co++) {
                    const int c0 = co / (s.Cout / s.G) * Cg;
                    for (int ci = 0; ci < Cg; ci++)
                        visit(context, ((size_t)b * s.Lin + i) * s.Cin + c0 + ci,
                              ((size_t)b * s.Lout + l) * s.Cout + co,
                              ((size_t)co * Cg + ci) * 16 + t);
                }
            }
        }
    }
}

/* ------------------------------------------------------------------ comparison */

struct errors {
    double y, dn, dw, db, mean, var,
        y_mean; /* largest of a case, relative to the array's largest value */
};
static struct errors worst;

static void note_errors(void) {
    check_note("y %.1e dn %.1e dw %.1e db %.1e mean %.1e var %.1e y_mean %.1e", worst.y, worst.dn,
               worst.dw, worst.db, worst.mean, worst.var, worst.y_mean);
    memset(&worst, 0, sizeof(worst));
}

/* Whether all n numbers are within `bound` of the largest value; keeps the largest error. */
static bool is_near(const char *what, const struct problem *p, size_t n, const double *got,
                    const double *want, double bound, double *largest) {
    double scale = 0, error = 0;
    for (size_t i = 0; i < n; i++) scale = fmax(scale, fabs(want[i]));
    for (size_t i = 0; i < n; i++) {
        const double e = fabs(got[i] - want[i]) / scale;
        if (!(e <= bound)) {
            check_note("%s[%zu] is %g, not %g (B %d Lin %d Cin %d Cout %d S %d)", what, i, got[i],
                       want[i], p->s.B, p->s.Lin, p->s.Cin, p->s.Cout, p->s.S);
            return false;
        }
        error = fmax(error, e);
    }
    *largest = fmax(*largest, error);
    return true;
}

static double *doubles(size_t n) {
    return (double *)host_bytes(n * sizeof(double));
}

static double *of_bf16(const uint16_t *x, size_t n) {
    double *d = doubles(n);
    for (size_t i = 0; i < n; i++) d[i] = bf16_to_float(x[i]);
    return d;
}

static double *of_float(const float *x, size_t n) {
    double *d = doubles(n);
    for (size_t i = 0; i < n; i++) d[i] = x[i];
    return d;
}

/* ------------------------------------------------------------------ forward */

struct products {
    const struct problem *p;
    const double *w;
    double *sum, *sum2;
};

static void visit_y(void *context, size_t ix, size_t iy, size_t iw) {
    const struct products *v = (const struct products *)context;
    v->sum[iy] += v->p->a[ix] * v->w[iw];
}

static const double *rounded_weights(const struct problem *p) {
    double *w = doubles(p->n_w);
    for (size_t i = 0; i < p->n_w; i++) w[i] = weight(p, i);
    return w;
}

static double *wanted_y(const struct problem *p, bool has_bias) {
    double *y = doubles(p->n_y);
    struct products v = {p, rounded_weights(p), y, NULL};
    for (size_t i = 0; i < p->n_y; i++) y[i] = has_bias ? p->b[i % p->s.Cout] : 0;
    for_products(p, visit_y, &v);
    return y;
}

static enum ecg_status forward(const struct problem *p, const float *d_b,
                               const struct gconv_fwd_out *out) {
    return p->is_stem ? stem_fwd(p->s, p->d_x, p->packed[0], d_b, out, p->ws, NULL)
                      : gconv_fwd(p->s, &p->act, p->d_x, p->packed[0], d_b, out, p->ws, NULL);
}

/* Statistics against those of the y that was stored. */
static void check_sums(const struct problem *p, const uint16_t *y,
                       const struct gconv_fwd_out *out) {
    const size_t C = (size_t)p->s.Cout, rows = p->n_y / C, L = (size_t)p->s.Lout;
    double *mean = doubles(C), *var = doubles(C), *y_mean = doubles(p->s.B * C);
    for (size_t i = 0; i < p->n_y; i++) {
        const float v = bf16_to_float(y[i]);
        const float a = bf16_to_float(bf16_from_float(swish_fast(v)));
        mean[i % C] += v / (double)rows;
        y_mean[i / (L * C) * C + i % C] += (out->sum == GCONV_SUM_SWISH ? a : v) / (double)L;
    }
    for (size_t i = 0; i < p->n_y; i++) {
        const double d = bf16_to_float(y[i]) - mean[i % C];
        var[i % C] += d * d / (double)rows;
    }
    if (out->mean) {
        const double *m = of_float((float *)fetch(out->mean, C * 4), C);
        const double *v = of_float((float *)fetch(out->var, C * 4), C);
        CHECK(is_near("mean", p, C, m, mean, SUM_BOUND, &worst.mean));
        if (rows > 1) CHECK(is_near("var", p, C, v, var, SUM_BOUND, &worst.var));
        if (rows == 1)
            for (size_t c = 0; c < C; c++) CHECK(v[c] == 0);
    }
    if (out->y_mean) {
        const double *m = of_float((float *)fetch(out->y_mean, p->s.B * C * 4), p->s.B * C);
        CHECK(is_near("y_mean", p, p->s.B * C, m, y_mean, SUM_BOUND, &worst.y_mean));
    }
}

static struct gconv_fwd_out new_outputs(const struct problem *p, bool has_stats,
                                        enum gconv_sum sum) {
    const size_t C = (size_t)p->s.Cout;
    struct gconv_fwd_out out = {};
    out.y = device_bytes(p->n_y * 2, NULL);
    out.mean = has_stats ? (float *)device_bytes(C * 4, NULL) : NULL;
    out.var = has_stats ? (float *)device_bytes(C * 4, NULL) : NULL;
    out.sum = sum;
    out.y_mean = sum != GCONV_NO_SUM ? (float *)device_bytes(p->s.B * C * 4, NULL) : NULL;
    return out;
}

static void check_forward(const struct problem *p, bool has_stats, enum gconv_sum sum) {
    const struct gconv_fwd_out out = new_outputs(p, has_stats, sum);
    const bool has_bias = sum != GCONV_SUM_Y;
    if (!CHECK_OK(forward(p, has_bias ? p->d_b : NULL, &out))) return;
    const uint16_t *y = (const uint16_t *)fetch(out.y, p->n_y * 2);
    CHECK(is_near("y", p, p->n_y, of_bf16(y, p->n_y), wanted_y(p, has_bias), BF16_BOUND, &worst.y));
    check_sums(p, y, &out);
}

/* ------------------------------------------------------------------ backward */

static void visit_gradients(void *context, size_t ix, size_t iy, size_t iw) {
    const struct products *v = (const struct products *)context;
    const double dy = bf16_to_float(v->p->dy[iy]);
    v->sum[iw] += dy * v->p->a[ix];
    if (v->sum2) v->sum2[ix] += dy * v->w[iw];
}

struct gradients {
    double *dw, *db, *dn;
};

static struct gradients wanted_gradients(const struct problem *p) {
    struct gradients g = {doubles(p->n_w), doubles((size_t)p->s.Cout), doubles(p->n_x)};
    struct products v = {p, rounded_weights(p), g.dw, p->is_stem ? NULL : g.dn};
    for_products(p, visit_gradients, &v);
    for (size_t i = 0; i < p->n_y; i++) g.db[i % p->s.Cout] += bf16_to_float(p->dy[i]);
    for (size_t i = 0; i < p->n_w; i++) g.dw[i] += p->dw0[i];
    for (int c = 0; c < p->s.Cout; c++) g.db[c] += p->db0[c];
    if (p->act.swish)
        for (size_t i = 0; i < p->n_x; i++) g.dn[i] *= swish_slope_fast(normalised(p, i));
    return g;
}

struct outputs {
    float *dw, *db; /* device; NULL: not asked for */
    void *dn;
};

static struct outputs backward(const struct problem *p, bool has_dw, bool has_db, bool has_dn) {
    struct outputs out = {};
    if (has_dw) out.dw = (float *)device_bytes(p->n_w * 4, p->dw0);
    if (has_db) out.db = (float *)device_bytes((size_t)p->s.Cout * 4, p->db0);
    if (has_dn) out.dn = device_bytes(p->n_x * 2, NULL);
    if (p->is_stem)
        CHECK_OK(stem_bwd_w(p->s, p->d_x, p->d_dy, out.dw, out.db, p->ws, NULL));
    else
        CHECK_OK(gconv_bwd(p->s, &p->act, p->d_x, p->packed[1], p->d_dy, NULL, out.dw, out.db,
                           out.dn, NULL, p->ws, NULL));
    return out;
}

static void check_backward(const struct problem *p, const struct gradients *want, bool has_dw,
                           bool has_db, bool has_dn) {
    const struct outputs out = backward(p, has_dw, has_db, has_dn);
    const size_t C = (size_t)p->s.Cout;
    if (has_dw)
        CHECK(is_near("dw", p, p->n_w, of_float((float *)fetch(out.dw, p->n_w * 4), p->n_w),
                      want->dw, DW_BOUND, &worst.dw));
    if (has_db)
        CHECK(is_near("db", p, C, of_float((float *)fetch(out.db, C * 4), C), want->db, SUM_BOUND,
                      &worst.db));
    if (has_dn)
        CHECK(is_near("dn", p, p->n_x, of_bf16((uint16_t *)fetch(out.dn, p->n_x * 2), p->n_x),
                      want->dn, BF16_BOUND, &worst.dn));
}

/* Checks of every access take many times as long: small shapes only. */
#if defined(EMU_TSAN) || defined(EMU_COUNT) || defined(__SANITIZE_ADDRESS__)
static const bool is_slow = true;
#else
static const bool is_slow = false;
#endif

/* Every pass of one shape. */
static void check_every_pass(struct problem_shape shape, uint32_t seed) {
    const struct problem p = make_problem(shape, seed);
    const struct gradients want = wanted_gradients(&p);

    check_forward(&p, seed % 2 == 0, (enum gconv_sum)(seed % 3));
    check_backward(&p, &want, true, seed % 4 != 3, false);
    if (!p.is_stem) {
        check_backward(&p, &want, false, false, true);
        check_backward(&p, &want, true, seed % 4 != 2, true);
    }
    release();
}

static void check_shape(struct problem_shape shape, uint32_t seed) {
    if (is_slow && (size_t)shape.B * shape.Lin * shape.C > 9000) return;
    check_every_pass(shape, seed);
}

static void check_shapes(const struct problem_shape *shapes, size_t n) {
    for (size_t i = 0; i < n; i++) check_shape(shapes[i], (uint32_t)i);
    note_errors();
}

#define CHECK_SHAPES(shapes) check_shapes(shapes, sizeof(shapes) / sizeof((shapes)[0]))

/* ------------------------------------------------------------------ cases */

/* Unpacks by the rule in gconv_pack.cu's header comment, for every weight of two convolutions and a stem in one list. */
static void packing(void) {
    static const struct problem_shape shapes[] = {
        {1, 1, 4, 48, PLAIN, 0}, {2, 1, 4, 80, PLAIN, 0}, {2, 1, 4, 32, PLAIN, 12}};
    enum { N = 3 };
    struct problem p[N];
    struct gconv_weights list[N];

    for (int backward = 0; backward < 2; backward++) {
        const int n = backward ? 2 : 3;
        for (int i = 0; i < n; i++) {
            p[i] = make_problem(shapes[i], (uint32_t)i);
            list[i].s = p[i].s;
            list[i].w = p[i].d_w;
            list[i].packed = device_bytes(gconv_packed_bytes(p[i].s), NULL);
        }
        CHECK_OK(gconv_pack(backward, n, list, NULL));
        for (int i = 0; i < n; i++) {
            const uint16_t *packed =
                (const uint16_t *)fetch(list[i].packed, gconv_packed_bytes(p[i].s));
            const int Cg = p[i].s.Cin / p[i].s.G;
            for (int at = 0; at < p[i].s.Cout * 256; at++) {
                const int e = at & 1, word = at >> 1 & 3, lane = at >> 3 & 31, tap = at >> 8 & 15;
                const int g = lane >> 2, q = lane & 3, group = at >> 12;
                const int column = 4 * (g >> 1) + 2 * (word >> 1) + (g & 1);
                const int k = 2 * q + 8 * (word & 1) + e;
                const int co = group * 16 + (backward ? k : column), ci = backward ? column : k;
                const uint16_t want =
                    ci < Cg ? bf16_from_float(p[i].w[(co * Cg + ci) * 16 + tap]) : 0;
                CHECK(packed[at] == want);
            }
        }
        release();
    }
    struct problem stem = make_problem(shapes[2], 0);
    const struct gconv_weights one = {stem.s, stem.d_w, stem.packed[0]};
    CHECK_FAILS(gconv_pack(1, 1, &one, NULL), ECG_ERR_FAIL, "not a shape");
    release();
}

/* More convolutions than one launch takes. */
static void packing_long_list(void) {
    enum { N = 70 };
    const struct problem_shape shape = {1, 1, 4, 16, PLAIN, 0};
    const struct problem p = make_problem(shape, 1);
    const size_t bytes = gconv_packed_bytes(p.s);
    struct gconv_weights list[N];
    char *all = (char *)device_bytes(N * bytes, NULL);

    for (int i = 0; i < N; i++) {
        list[i].s = p.s;
        list[i].w = p.d_w;
        list[i].packed = all + i * bytes;
    }
    CHECK_OK(gconv_pack(0, N, list, NULL));
    const char *got = (const char *)fetch(all, N * bytes);
    const char *want = (const char *)fetch(p.packed[0], bytes);
    for (int i = 0; i < N; i++) CHECK(memcmp(got + i * bytes, want, bytes) == 0);
    release();
}

static void stride_1(void) {
    static const struct problem_shape shapes[] = {
        {1, 13, 20, 64, SWISH, 0},        {1, 7, 20, 80, SWISH | FOLD, 0},
        {1, 3, 40, 32, SWISH | FOLD, 0},  {1, 3, 79, 16, SWISH, 0},
        {1, 2, 157, 80, SWISH | FOLD, 0}, {1, 1, 313, 48, SWISH, 0},
        {1, 2, 128, 16, FOLD, 0},         {1, 3, 333, 16, PLAIN, 0},
        {1, 2, 157, 160, SWISH, 0}};
    CHECK_SHAPES(shapes);
}

static void stride_2(void) {
    static const struct problem_shape shapes[] = {
        {2, 13, 40, 64, SWISH, 0},        {2, 7, 40, 80, SWISH | FOLD, 0},
        {2, 3, 79, 32, SWISH | FOLD, 0},  {2, 3, 157, 16, SWISH, 0},
        {2, 2, 313, 80, SWISH | FOLD, 0}, {2, 1, 625, 48, SWISH, 0},
        {2, 2, 256, 16, FOLD, 0},         {2, 3, 333, 16, PLAIN, 0},
        {2, 2, 157, 160, SWISH, 0}};
    CHECK_SHAPES(shapes);
}

static void short_samples(void) {
    static const int lengths[] = {1, 2, 3, 7, 15, 16, 17, 30, 31, 32, 33, 47};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i += is_slow ? 2 : 1) {
        for (int S = 1; S <= 2; S++) {
            const struct problem_shape one = {S, 1, lengths[i], 16, SWISH | FOLD, 0};
            const struct problem_shape many = {S, 19, lengths[i], i % 2 ? 32 : 16, SWISH | FOLD, 0};
            check_shape(one, (uint32_t)(12 + i));
            check_shape(many, (uint32_t)(24 + i));
        }
    }
    note_errors();
}

static void wide(void) {
    if (is_slow) {
        check_skip("too large where every access is checked");
        return;
    }

    static const struct problem_shape shapes[] = {{1, 3, 20, 400, SWISH | FOLD, 0},
                                                  {2, 1, 79, 400, SWISH, 0},
                                                  {1, 1, 20, 1024, SWISH, 0},
                                                  {2, 1, 40, 1024, SWISH | FOLD, 0}};
    CHECK_SHAPES(shapes);
}

/* More tiles than CTAs: each goes over several, through both stages. */
static void many_tiles(void) {
    static const struct problem_shape shapes[] = {{1, 4241, 1, 16, SWISH | FOLD, 0},
                                                  {2, 4241, 2, 16, SWISH | FOLD, 0},
                                                  {1, 424, 1, 400, SWISH, 0},
                                                  {2, 424, 2, 400, SWISH, 0}};
    if (is_slow)
        check_every_pass(shapes[0], 2);
    else
        CHECK_SHAPES(shapes);
}

static void stem(void) {
    static const struct problem_shape shapes[] = {
        {2, 3, 157, 64, PLAIN, 12}, {2, 5, 40, 80, PLAIN, 12}, {2, 2, 313, 32, PLAIN, 1},
        {2, 7, 33, 48, PLAIN, 3},   {2, 1, 1, 16, PLAIN, 2},   {2, 2, 128, 16, PLAIN, 16},
        {2, 19, 5, 64, PLAIN, 15},  {2, 2, 79, 160, PLAIN, 7}};
    CHECK_SHAPES(shapes);
}

/* The same sample everywhere in a batch: the same bits, y and its means. */
static void place_does_not_matter(void) {
    static const struct problem_shape shapes[] = {{1, 9, 20, 32, SWISH, 0},
                                                  {2, 5, 157, 16, SWISH, 0}};
    for (size_t i = 0; i < 2; i++) {
        struct problem p = make_problem(shapes[i], (uint32_t)i);
        const size_t sample = p.n_x / p.s.B, C = (size_t)p.s.Cout, n_y = p.n_y / p.s.B;
        uint16_t *x = (uint16_t *)host_bytes(p.n_x * 2);
        for (int b = 0; b < p.s.B; b++) memcpy(x + b * sample, p.x, sample * 2);
        p.d_x = (const uint16_t *)device_bytes(p.n_x * 2, x);
        const struct gconv_fwd_out out = new_outputs(&p, false, GCONV_SUM_SWISH);
        CHECK_OK(forward(&p, p.d_b, &out));
        const uint16_t *y = (const uint16_t *)fetch(out.y, p.n_y * 2);
        const float *mean = (const float *)fetch(out.y_mean, p.s.B * C * 4);
        for (int b = 1; b < p.s.B; b++) {
            CHECK(memcmp(y + b * n_y, y, n_y * 2) == 0);
            CHECK(memcmp(mean + b * C, mean, C * 4) == 0);
        }
        release();
    }
}

/* The same bits whichever way threads, warps and blocks take turns. */
static void order_does_not_matter(void) {
    static const struct problem_shape shapes[] = {{1, 7, 40, 64, SWISH | FOLD, 0},
                                                  {2, 5, 79, 80, SWISH | FOLD, 0},
                                                  {2, 5, 79, 64, PLAIN, 12}};
    static const char *const orders[] = {"forward", "reverse", "random:1", "random:2"};
    enum { N_ORDERS = 4, N_OUT = 7 };
    const char *before = getenv("EMU_ORDER");
    char *kept = before ? strdup(before) : NULL;

    for (size_t i = 0; i < 3; i++) {
        struct problem_shape shape = shapes[i];
        if (is_slow) shape.B = 2;
        const struct problem p = make_problem(shape, (uint32_t)i);
        const size_t C = (size_t)p.s.Cout;
        const size_t bytes[N_OUT] = {
            p.n_y * 2, C * 4, C * 4, p.s.B * C * 4, p.n_w * 4, C * 4, p.is_stem ? 0 : p.n_x * 2};
        void *first[N_OUT] = {};
        for (int k = 0; k < (is_slow ? 2 : N_ORDERS); k++) {
            setenv("EMU_ORDER", orders[k], 1);
            const struct gconv_fwd_out out = new_outputs(&p, true, GCONV_SUM_SWISH);
            CHECK_OK(forward(&p, p.d_b, &out));
            const struct outputs back = backward(&p, true, true, !p.is_stem);
            void *const at[N_OUT] = {out.y,   out.mean, out.var, out.y_mean,
                                     back.dw, back.db,  back.dn};
            for (int o = 0; o < N_OUT; o++) {
                if (bytes[o] == 0) continue;
                void *got = fetch(at[o], bytes[o]);
                if (k == 0)
                    first[o] = got;
                else
                    CHECK(memcmp(got, first[o], bytes[o]) == 0);
            }
        }
        release();
    }
    if (kept)
        setenv("EMU_ORDER", kept, 1);
    else
        unsetenv("EMU_ORDER");
    free(kept);
}

static void refusals(void) {
    const struct problem_shape shape = {1, 2, 20, 16, SWISH, 0};
    struct problem p = make_problem(shape, 0);
    const struct gconv_fwd_out out = new_outputs(&p, true, GCONV_NO_SUM);
    struct ops_conv s = p.s;

    CHECK(gconv_has(s) && !stem_has(s));
    s.K = 15;
    CHECK(!gconv_has(s) && gconv_packed_bytes(s) == 0 && gconv_fwd_ws(s) == 0);
    CHECK_FAILS(gconv_fwd(s, &p.act, p.d_x, p.packed[0], NULL, &out, p.ws, NULL), ECG_ERR_FAIL,
                "K 15");
    s = ops_conv_same(2, 20, 32, 32, 16, 1, 1);
    CHECK(!gconv_has(s));
    s = ops_conv_same(2, 20, 16, 16, 16, 3, 1);
    CHECK(!gconv_has(s) && !stem_has(s));
    s = ops_conv_same(2, 20, 12, 24, 16, 2, 1);
    CHECK(!stem_has(s));
    CHECK(stem_has(ops_conv_same(2, 20, 12, 64, 16, 2, 1)));
    p.act.drop = 0.1f;
    CHECK_FAILS(gconv_fwd(p.s, &p.act, p.d_x, p.packed[0], NULL, &out, p.ws, NULL), ECG_ERR_FAIL,
                "dropout");
    p.act.drop = 0;
    p.ws.n--;
    const float *dw = (const float *)device_bytes(p.n_w * 4, p.dw0);
    const struct ops_ws none = {NULL, 0};
    CHECK_FAILS(gconv_bwd(p.s, &p.act, p.d_x, p.packed[1], p.d_dy, NULL, (float *)dw, NULL, NULL,
                          NULL, none, NULL),
                ECG_ERR_FAIL, "scratch");
    release();
}

int main(void) {
    CASE(packing);
    CASE(packing_long_list);
    CASE(stride_1);
    CASE(stride_2);
    CASE(short_samples);
    CASE(wide);
    CASE(many_tiles);
    CASE(stem);
    CASE(place_does_not_matter);
    CASE(order_does_not_matter);
    CASE(refusals);
    return check_finish();
}
