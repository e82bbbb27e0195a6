/* SPDX-License-Identifier: MIT
 * The CUDA backend's tensor-core 1x1 convolutions, emulated, against plain double loops over the same bf16 factors: forward
 * with every prologue and epilogue, data gradient, weight gradient, packing; at the published network's pairs of channels and
 * others, with partial tiles and samples that cross tiles; the same bits in three orders of threads, for two kinds of GPU and
 * for any number of SMs. Under the sanitizers and with counting, small shapes only. */
#include "kernels/cuda/compat.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "core/rng.h"
#include "kernels/bf16.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/ptx.h"
extern "C" {
#include "tests/support/check.h"
}

typedef std::vector<float> floats;
typedef std::vector<double> doubles;
typedef std::vector<uint16_t> halves;

static const struct gemm_gpu h100 = {132, 227 << 10, 228 << 10};

static const struct gemm_gpu a100 = {108, 163 << 10, 164 << 10};
static const struct gemm_gpu one_sm = {1, 227 << 10, 228 << 10}; /* blocks that go through many tiles */

#if defined EMU_COUNT || defined EMU_TSAN || defined __SANITIZE_ADDRESS__
#define SMALL 1
#else
#define SMALL 0
#endif

/* Of the largest value: rounding to bf16 is 2^-9 of a value; sums of M fp32 products, that the emulation adds one by one,
 * err by about sqrt(M) 2^-25; other sums go through double. */
static const double y_bound = 4e-3, sum_bound = 2e-7, weight_bound = 8e-7;

/* ---- memory of the device ---- */

static void cuda(cudaError_t e) {
    if (!CHECK(e == cudaSuccess)) exit(1);
}

template <class T> static T *device(const std::vector<T> &v) {
    T *p = NULL;
    cuda(cudaMalloc(&p, v.size() * sizeof(T)));
    cuda(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
    return p;
}

template <class T> static T *device(size_t n) {
    T *p = NULL;
    cuda(cudaMalloc(&p, n * sizeof(T)));
    return p;
}

template <class T> static std::vector<T> host(const T *p, size_t n) {
    std::vector<T> v(n);
    cuda(cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost));
    return v;
}

/* ---- numbers ---- */

static floats uniform(size_t n, uint32_t stream, float scale, float offset) {
    struct rng r;
    floats v(n);
    rng_init(&r, 11, stream, 0, 0);
    for (size_t i = 0; i < n; i++) v[i] = offset + scale * (float)(2 * rng_uniform(&r) - 1);
    return v;
}

static halves rounded(const floats &v) {
    halves h(v.size());
    for (size_t i = 0; i < v.size(); i++) h[i] = bf16_from_float(v[i]);
    return h;
}

static floats widened(const halves &h) {
    floats v(h.size());
    for (size_t i = 0; i < h.size(); i++) v[i] = bf16_to_float(h[i]);
    return v;
}

/* Largest difference over the largest wanted value; infinite where something is no number. */
template <class T> static double error_of(const std::vector<T> &got, const doubles &want) {
    double worst = 0, largest = 0;
    for (size_t i = 0; i < want.size(); i++) {
        const double d = fabs((double)got[i] - want[i]);
        if (!(d <= 1e300)) return INFINITY;
        worst = d > worst ? d : worst;
        largest = fabs(want[i]) > largest ? fabs(want[i]) : largest;
    }
    return largest > 0 ? worst / largest : worst;
}

static double error_of(const halves &got, const doubles &want) {
    return error_of(widened(got), want);
}

/* out(M,N) = a(M,K) b(N,K)^T */
static doubles product(const floats &a, const floats &b, int M, int N, int K) {
    doubles out((size_t)M * N, 0.0);
    floats t((size_t)K * N);
    for (int n = 0; n < N; n++)
        for (int k = 0; k < K; k++) t[(size_t)k * N + n] = b[(size_t)n * K + k];
    for (int m = 0; m < M; m++) {
        double *row = &out[(size_t)m * N];
        for (int k = 0; k < K; k++) {
            const double f = a[(size_t)m * K + k];
            const float *w = &t[(size_t)k * N];
            for (int n = 0; n < N; n++) row[n] += f * w[n];
        }
    }
    return out;
}

static floats transposed(const floats &a, int rows, int columns) {
    floats t(a.size());
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) t[(size_t)c * rows + r] = a[(size_t)r * columns + c];
    return t;
}

/* ---- a problem: operands on both sides, and what must come out ---- */

enum act_kind { ACT_NONE, ACT_SWISH, ACT_NORM };

struct problem {
    struct gemm_conv s;
    size_t M, x_n, y_n;
    floats w, bias, scale, shift, gate, dm;
    halves x, dy;
    float *d_w, *d_bias, *d_scale, *d_shift, *d_gate, *d_dm;
    uint16_t *d_x, *d_dy;
    void *d_packed, *d_ws;
    size_t ws_bytes;
    floats w_bf16;
};

static void pack(struct problem *p) {
    std::vector<struct gemm_weights> list(1);
    p->d_packed = device<char>(gemm_packed_bytes(p->s.N, p->s.K, 1));
    list[0].w = p->d_w, list[0].packed = p->d_packed, list[0].N = p->s.N, list[0].K = p->s.K;
    struct gemm_weights *d_list = device(list);
    CHECK_OK(gemm_pack(1, d_list, 1, NULL));
    cuda(cudaFree(d_list));
}

static struct problem open_problem(struct gemm_conv s) {
    struct problem p;
    p.s = s, p.M = (size_t)s.B * s.L, p.x_n = p.M * s.K, p.y_n = p.M * s.N;
    p.w = uniform((size_t)s.N * s.K, 1, 0.3f, 0.01f);
    p.w_bf16 = widened(rounded(p.w));
    p.bias = uniform(s.N, 2, 1.0f, 0.1f);
    p.scale = uniform(s.K, 3, 0.5f, 1.0f), p.shift = uniform(s.K, 4, 0.5f, 0.2f);
    p.gate = uniform((size_t)s.B * s.N, 5, 0.4f, 0.5f);
    p.dm = uniform((size_t)s.B * s.N, 6, 0.7f, 0.0f);
    p.x = rounded(uniform(p.x_n, 7, 2.0f, 0.3f)), p.dy = rounded(uniform(p.y_n, 8, 1.0f, 0.1f));
    p.d_w = device(p.w), p.d_bias = device(p.bias), p.d_scale = device(p.scale);
    p.d_shift = device(p.shift), p.d_gate = device(p.gate), p.d_dm = device(p.dm);
    p.d_x = device(p.x), p.d_dy = device(p.dy);
    p.ws_bytes = gemm_ws(s);
    p.d_ws = device<char>(p.ws_bytes);
    pack(&p);
    return p;
}

static void close_problem(struct problem *p) {
    void *const all[] = {p->d_w,  p->d_bias, p->d_scale, p->d_shift,  p->d_gate,
                         p->d_dm, p->d_x,    p->d_dy,    p->d_packed, p->d_ws};
    for (void *q : all) cuda(cudaFree(q));
}

static struct ops_act act_of(const struct problem *p, enum act_kind kind) {
    struct ops_act act = {};
    act.swish = kind != ACT_NONE;
    if (kind == ACT_NORM) act.scale = p->d_scale, act.shift = p->d_shift;
    return act;
}

/* n = x*scale + shift of element i */
static double norm_at(const struct problem *p, enum act_kind kind, size_t i) {
    const double x = bf16_to_float(p->x[i]);
    const size_t c = i % p->s.K;
    return kind == ACT_NORM ? x * p->scale[c] + p->shift[c] : x;
}

/* act(x) as rounded to a factor */
static floats factors(const struct problem *p, enum act_kind kind) {
    floats a(p->x_n);
    for (size_t i = 0; i < p->x_n; i++) {
        const float x = bf16_to_float(p->x[i]);
        const size_t c = i % p->s.K;
        const float n = kind == ACT_NORM ? x * p->scale[c] + p->shift[c] : x;
        a[i] = bf16_to_float(bf16_from_float(kind == ACT_NONE ? n : swish_fast(n)));
    }
    return a;
}

/* dy' = gate*dy + dm/L as rounded to a factor */
static floats gradients(const struct problem *p, bool branch) {
    floats g(p->y_n);
    const float f = 1.0f / (float)p->s.L;
    for (size_t i = 0; i < p->y_n; i++) {
        const size_t o = i / ((size_t)p->s.L * p->s.N) * p->s.N + i % p->s.N;
        const float d = bf16_to_float(p->dy[i]);
        g[i] = branch ? bf16_to_float(bf16_from_float(d * p->gate[o] + p->dm[o] * f)) : d;
    }
    return g;
}

/* Sums over L of the samples of v (B*L, C), times `factor`. */
static doubles over_samples(const doubles &v, int B, int L, int C, double factor) {
    doubles m((size_t)B * C, 0.0);
    for (size_t i = 0; i < v.size(); i++) m[i / ((size_t)L * C) * C + i % C] += factor * v[i];
    return m;
}

static doubles as_doubles(const halves &h) {
    doubles v(h.size());
    for (size_t i = 0; i < h.size(); i++) v[i] = bf16_to_float(h[i]);
    return v;
}

/* The first of the largest of a window's samples and zeros beyond the record: its row, -1 where that is a zero. */
static int window_row(const halves &x, int b, int Li, int Ci, int S, int l, int c, double *value) {
    int at = -1;
    for (int j = 0; j < S; j++) {
        const int i = l * S + j;
        const double v = i < Li ? bf16_to_float(x[((size_t)b * Li + i) * Ci + c]) : 0.0;
        if (j > 0 && !(v > *value)) continue;
        *value = v, at = i < Li ? i : -1;
    }
    return at;
}

/* ---- what a run gives ---- */

struct worst {
    double y, sum;
};

static void note(double *worst, double e, double bound, const char *what, struct gemm_conv s) {
    if (!(e <= bound)) check_note("%s: %g at (%d, %d, %d) to %d", what, e, s.B, s.L, s.K, s.N);
    CHECK(e <= bound);
    *worst = e > *worst ? e : *worst;
}

struct forward_out {
    halves y, out;
    floats mean, var, y_mean;
};

enum { WITH_STATS = 1, WITH_MEANS = 2 };

static struct forward_out run_fwd(const struct problem *p, const struct gemm_gpu *gpu,
                                  enum act_kind kind, int with, const struct gemm_tail *tail) {
    const size_t N = p->s.N, means = N * p->s.B;
    const struct ops_act act = act_of(p, kind);
    uint16_t *y = device<uint16_t>(p->y_n), *out = tail ? device<uint16_t>(p->y_n) : NULL;
    float *mean = device<float>(N), *var = device<float>(N), *y_mean = device<float>(means);
    struct gemm_tail t = tail ? *tail : gemm_tail();
    struct gemm_forward f = {};
    struct forward_out r;

    t.out = out;
    f.s = p->s, f.act = &act, f.x = p->d_x, f.packed = p->d_packed, f.b = p->d_bias, f.y = y;
    if (with & WITH_STATS) f.mean = mean, f.var = var;
    if (with & WITH_MEANS) f.y_mean = y_mean;
    if (tail) f.tail = &t;
    f.ws.p = p->d_ws, f.ws.n = p->ws_bytes;
    CHECK_OK(gemm_fwd(gpu, &f, NULL));
    r.y = host(y, p->y_n);
    if (with & WITH_STATS) r.mean = host(mean, N), r.var = host(var, N);
    if (with & WITH_MEANS) r.y_mean = host(y_mean, means);
    if (tail) r.out = host(out, p->y_n);
    void *const all[] = {y, out, mean, var, y_mean};
    for (void *q : all) cuda(cudaFree(q));
    return r;
}

static void check_sums(const struct problem *p, const struct forward_out *r, struct worst *w) {
    const doubles y = as_doubles(r->y);
    const size_t N = p->s.N;
    doubles mean(N, 0.0), var(N, 0.0);

    for (size_t i = 0; i < p->y_n; i++) mean[i % N] += y[i] / p->M;
    for (size_t i = 0; i < p->y_n; i++) var[i % N] += pow(y[i] - mean[i % N], 2) / p->M;
    if (!r->mean.empty()) {
        note(&w->sum, error_of(r->mean, mean), sum_bound, "mean", p->s);
        note(&w->sum, error_of(r->var, var), sum_bound, "variance", p->s);
    }
    if (!r->y_mean.empty())
        note(&w->sum, error_of(r->y_mean, over_samples(y, p->s.B, p->s.L, p->s.N, 1.0 / p->s.L)),
             sum_bound, "mean over L", p->s);
}

/* A tail with a window of S, whose shortcut has Ci channels. */
static void check_tail(const struct problem *p, const struct gemm_gpu *gpu, int S, int Ci, int odd,
                       bool gated, struct worst *w) {
    const struct gemm_conv s = p->s;
    const int Li = s.L * S - (S == 2 ? odd : 0), pad = (s.N - Ci) / 2;
    const halves x = rounded(uniform((size_t)s.B * Li * Ci, 20, 3.0f, 0.0f));
    uint16_t *d_x = device(x);
    const struct gemm_tail tail = {d_x, Li, Ci, S, gated ? p->d_gate : NULL, NULL};
    const struct forward_out r = run_fwd(p, gpu, ACT_SWISH, 0, &tail);
    doubles want(p->y_n);

    for (size_t i = 0; i < p->y_n; i++) {
        const int c = (int)(i % s.N), b = (int)(i / s.N / s.L), l = (int)(i / s.N % s.L);
        double pooled = 0;
        if (c >= pad && c < pad + Ci) window_row(x, b, Li, Ci, S, l, c - pad, &pooled);
        want[i] = (gated ? p->gate[(size_t)b * s.N + c] : 1) * bf16_to_float(r.y[i]) + pooled;
    }
    note(&w->y, error_of(r.out, want), y_bound, "tail", s);
    cuda(cudaFree(d_x));
}

static void check_forward(struct gemm_conv s, const struct gemm_gpu *gpu, struct worst *w) {
    struct problem p = open_problem(s);
    static const enum act_kind kinds[] = {ACT_NONE, ACT_NORM, ACT_SWISH};
    for (enum act_kind kind : kinds) {
        const struct forward_out r = run_fwd(&p, gpu, kind, 0, NULL);
        doubles want = product(factors(&p, kind), p.w_bf16, (int)p.M, s.N, s.K);
        for (size_t i = 0; i < p.y_n; i++) want[i] += p.bias[i % s.N];
        note(&w->y, error_of(r.y, want), y_bound, "y", s);
        if (kind != ACT_SWISH) continue;
        for (int with = 1; with < 4; with++) {
            const struct forward_out more = run_fwd(&p, gpu, kind, with, NULL);
            CHECK(more.y == r.y);
            check_sums(&p, &more, w);
        }
    }
    const int narrow = s.K < s.N ? s.K : s.N > 16 ? s.N - 16 : s.N;
    check_tail(&p, gpu, 1, s.N, 0, true, w);
    check_tail(&p, gpu, 2, narrow, 0, true, w);
    check_tail(&p, gpu, 2, narrow, 1, false, w);
    close_problem(&p);
}

/* ---- backward ---- */

struct backward_out {
    halves dn;
    floats dw, db, dse;
};

/* What a backward run is asked for. */
struct backward_case {
    enum act_kind kind;
    bool branch;
    int side_S; /* 0: no shortcut */
    bool dse, dn, dw;
};

/* The shortcut's gradient and h of a run, on both sides. */
struct backward_extra {
    int side_L, side_C;
    halves side_dy, h;
    uint16_t *d_side_dy, *d_h;
};

static struct backward_extra open_extra(const struct problem *p, int S) {
    struct backward_extra e;
    e.side_L = S == 2 ? (p->s.L + 1) / 2 : p->s.L;
    e.side_C = S == 2 ? p->s.K + 32 : p->s.K;
    e.side_dy = rounded(uniform((size_t)p->s.B * e.side_L * e.side_C, 21, 3.0f, 0.0f));
    e.h = rounded(uniform(p->x_n, 22, 1.0f, 0.1f));
    e.d_side_dy = device(e.side_dy), e.d_h = device(e.h);
    return e;
}

static void close_extra(struct backward_extra *e) {
    cuda(cudaFree(e->d_side_dy));
    cuda(cudaFree(e->d_h));
}

/* Accumulated outputs start from 0.5. */
static struct backward_out run_bwd(const struct problem *p, const struct gemm_gpu *gpu,
                                   struct backward_case c, const struct backward_extra *e) {
    const size_t weights = (size_t)p->s.N * p->s.K, means = (size_t)p->s.B * p->s.K;
    const struct ops_act act = act_of(p, c.kind);
    uint16_t *dn = device<uint16_t>(p->x_n);
    float *dw = device(floats(weights, 0.5f)), *db = device(floats(p->s.N, 0.5f));
    float *dse = device<float>(means);
    struct gemm_backward b = {};
    struct backward_out r;

    b.s = p->s, b.act = &act, b.x = p->d_x, b.packed = p->d_packed, b.dy = p->d_dy;
    if (c.branch) b.gate = p->d_gate, b.dm = p->d_dm;
    if (c.dw) b.dw = dw, b.db = db;
    if (c.dn) b.dn = dn;
    if (c.side_S)
        b.side_dy = e->d_side_dy, b.side_L = e->side_L, b.side_C = e->side_C, b.side_S = c.side_S;
    if (c.dse) b.h = e->d_h, b.dse = dse;
    b.ws.p = p->d_ws, b.ws.n = p->ws_bytes;
    CHECK_OK(gemm_bwd(gpu, &b, NULL));
    if (c.dn) r.dn = host(dn, p->x_n);
    if (c.dw) r.dw = host(dw, weights), r.db = host(db, p->s.N);
    if (c.dse) r.dse = host(dse, means);
    void *const all[] = {dn, dw, db, dse};
    for (void *q : all) cuda(cudaFree(q));
    return r;
}

/* dn without a shortcut: (dy' w) * act'(n). */
static doubles wanted_dn(const struct problem *p, const floats &g, enum act_kind kind) {
    doubles dn = product(g, transposed(p->w_bf16, p->s.N, p->s.K), (int)p->M, p->s.K, p->s.N);
    for (size_t i = 0; i < p->x_n && kind != ACT_NONE; i++) {
        const double n = norm_at(p, kind, i), sigma = 1 / (1 + exp(-n));
        dn[i] *= sigma * (1 + n * (1 - sigma));
    }
    return dn;
}

static void add_side(const struct problem *p, const struct backward_extra *e, int S, doubles *dn) {
    const int K = p->s.K, pad = (e->side_C - K) / 2;
    for (int b = 0; b < p->s.B; b++)
        for (int l = 0; l < e->side_L; l++)
            for (int c = 0; c < K; c++) {
                double value;
                const int i = window_row(p->x, b, p->s.L, K, S, l, c, &value);
                if (i < 0) continue;
                (*dn)[((size_t)b * p->s.L + i) * K + c] += bf16_to_float(
                    e->side_dy[((size_t)b * e->side_L + l) * e->side_C + pad + c]);
            }
}

static void check_weights(const struct problem *p, const struct backward_out *r, const floats &g,
                          enum act_kind kind, struct worst *w) {
    const int M = (int)p->M, N = p->s.N, K = p->s.K;
    doubles dw = product(transposed(g, M, N), transposed(factors(p, kind), M, K), N, K, M);
    doubles db(N, 0.5);
    for (size_t i = 0; i < p->y_n; i++) db[i % N] += g[i];
    for (double &v : dw) v += 0.5;
    note(&w->sum, error_of(r->dw, dw), weight_bound, "dw", p->s);
    note(&w->sum, error_of(r->db, db), weight_bound, "db", p->s);
}

static void check_dse(const struct problem *p, const struct backward_extra *e,
                      const struct backward_out *r, struct worst *w) {
    doubles v = as_doubles(r->dn);
    for (size_t i = 0; i < v.size(); i++) v[i] *= bf16_to_float(e->h[i]);
    note(&w->sum, error_of(r->dse, over_samples(v, p->s.B, p->s.L, p->s.K, 1)), sum_bound, "dse",
         p->s);
}

static void check_backward(struct gemm_conv s, const struct gemm_gpu *gpu, struct worst *w) {
    static const struct backward_case cases[] = {
        {ACT_NONE, false, 0, false, true, true}, {ACT_NORM, true, 0, false, true, true},
        {ACT_SWISH, true, 1, false, true, true}, {ACT_SWISH, false, 2, true, true, true},
        {ACT_SWISH, false, 0, true, true, false}, {ACT_SWISH, true, 0, false, false, true},
    };
    struct problem p = open_problem(s);
    for (const struct backward_case &c : cases) {
        struct backward_extra e = open_extra(&p, c.side_S);
        const struct backward_out r = run_bwd(&p, gpu, c, &e);
        const floats g = gradients(&p, c.branch);
        if (c.dn) {
            doubles dn = wanted_dn(&p, g, c.kind);
            if (c.side_S) add_side(&p, &e, c.side_S, &dn);
            note(&w->y, error_of(r.dn, dn), y_bound, "dn", s);
        }
        if (c.dw) check_weights(&p, &r, g, c.kind, w);
        if (c.dse) check_dse(&p, &e, &r, w);
        close_extra(&e);
    }
    close_problem(&p);
}

/* ---- packing ---- */

static void packing(void) {
    static const int sizes[][2] = {{16, 16}, {48, 80}, {400, 160}, {64, 64}};
    enum { N_SIZES = sizeof sizes / sizeof *sizes };
    std::vector<struct gemm_weights> list(N_SIZES);
    std::vector<floats> w(N_SIZES);

    for (int i = 0; i < N_SIZES; i++) {
        const int N = sizes[i][0], K = sizes[i][1];
        w[i] = uniform((size_t)N * K, 30 + i, 2.0f, 0.0f);
        list[i].w = device(w[i]), list[i].N = N, list[i].K = K;
        list[i].packed = device<char>(gemm_packed_bytes(N, K, 1));
    }
    struct gemm_weights *d_list = device(list);
    CHECK_OK(gemm_pack(N_SIZES, d_list, 1, NULL));
    for (int i = 0; i < N_SIZES; i++) {
        const int N = sizes[i][0], K = sizes[i][1];
        const size_t back = gemm_packed_bytes(N, K, 0) / 2;
        const halves got = host((const uint16_t *)list[i].packed, back + (size_t)N * K);
        size_t wrong = 0;
        for (int n = 0; n < N; n++)
            for (int k = 0; k < K; k++) {
                const uint16_t want = bf16_from_float(w[i][(size_t)n * K + k]);
                wrong += got[(size_t)n * K + k] != want || got[back + (size_t)k * N + n] != want;
            }
        CHECK(wrong == 0);
        cuda(cudaFree((void *)list[i].w));
        cuda(cudaFree(list[i].packed));
    }
    cuda(cudaFree(d_list));
}

/* ---- the same bits ---- */

/* All that a problem gives, forward and backward. */
struct everything {
    struct forward_out f;
    struct backward_out b;
};

static struct everything run_all(const struct problem *p, const struct gemm_gpu *gpu) {
    static const struct backward_case both = {ACT_NORM, true, 2, true, true, true};
    struct backward_extra e = open_extra(p, both.side_S);
    struct everything r;
    r.f = run_fwd(p, gpu, ACT_SWISH, WITH_STATS | WITH_MEANS, NULL);
    r.b = run_bwd(p, gpu, both, &e);
    close_extra(&e);
    return r;
}

static bool same(const floats &a, const floats &b) {
    return a.size() == b.size() && memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

static bool same(const struct everything &a, const struct everything &b) {
    return a.f.y == b.f.y && same(a.f.mean, b.f.mean) && same(a.f.var, b.f.var) &&
           same(a.f.y_mean, b.f.y_mean) && a.b.dn == b.b.dn && same(a.b.dw, b.b.dw) &&
           same(a.b.db, b.b.db) && same(a.b.dse, b.b.dse);
}

static const struct gemm_conv for_bits[] = {
#if SMALL
    {2, 45, 32, 48},
#else
    {7, 20, 64, 64}, {3, 100, 64, 160}, {1, 140, 160, 160}, {2, 79, 160, 400}, {1, 157, 400, 400},
    {7, 20, 1024, 1024}, {2, 600, 64, 64},
#endif
};

static void same_bits_in_any_order(void) {
    static const char *const orders[] = {"reverse", "random:5", "random:6"};
    for (struct gemm_conv s : for_bits) {
        struct problem p = open_problem(s);
        unsetenv("EMU_ORDER");
        const struct everything forward = run_all(&p, &one_sm);
        for (const char *order : orders) {
            setenv("EMU_ORDER", order, 1);
            CHECK(same(run_all(&p, &one_sm), forward));
        }
        unsetenv("EMU_ORDER");
        close_problem(&p);
    }
}

static void same_bits_on_any_gpu(void) {
    for (struct gemm_conv s : for_bits) {
        struct problem p = open_problem(s);
        const struct everything r = run_all(&p, &one_sm);
        CHECK(same(run_all(&p, &h100), r));
        CHECK(same(run_all(&p, &a100), r));
        close_problem(&p);
    }
}

/* Both gradients at once give what each alone gives. */
static void same_bits_together(void) {
    static const struct backward_case both = {ACT_SWISH, true, 1, true, true, true};
    struct backward_case only_dn = both, only_dw = both;
    only_dn.dw = false, only_dw.dn = false, only_dw.dse = false;
    std::vector<struct gemm_conv> list(for_bits, for_bits + sizeof for_bits / sizeof *for_bits);
    if (!SMALL) list.push_back({7, 157, 400, 400}); /* several splits of the rows */
    for (struct gemm_conv s : list) {
        struct problem p = open_problem(s);
        struct backward_extra e = open_extra(&p, 1);
        const struct backward_out r = run_bwd(&p, &h100, both, &e);
        const struct backward_out dn = run_bwd(&p, &h100, only_dn, &e);
        const struct backward_out dw = run_bwd(&p, &h100, only_dw, &e);
        CHECK(dn.dn == r.dn && same(dn.dse, r.dse));
        CHECK(same(dw.dw, r.dw) && same(dw.db, r.db));
        close_extra(&e);
        close_problem(&p);
    }
}

/* A sample's y and mean over L do not depend on where it lies in the batch. */
static void same_bits_at_any_place(void) {
    const struct gemm_conv three = {3, 45, 32, 48}, one = {1, 45, 32, 48};
    struct problem a = open_problem(three), b = open_problem(one);
    const struct forward_out all = run_fwd(&a, &h100, ACT_SWISH, WITH_MEANS, NULL);
    for (int i = 0; i < three.B; i++) {
        const size_t x = b.x_n * i, y = b.y_n * i, m = (size_t)one.N * i;
        cuda(cudaMemcpy(b.d_x, &a.x[x], b.x_n * 2, cudaMemcpyHostToDevice));
        const struct forward_out r = run_fwd(&b, &h100, ACT_SWISH, WITH_MEANS, NULL);
        CHECK(memcmp(r.y.data(), &all.y[y], b.y_n * 2) == 0);
        CHECK(memcmp(r.y_mean.data(), &all.y_mean[m], one.N * sizeof(float)) == 0);
    }
    close_problem(&a);
    close_problem(&b);
}

static void bad_shapes(void) {
    const struct ops_act act = {};
    struct ops_act drop = act;
    drop.drop = 0.5f;
    struct gemm_forward f = {};
    f.act = &act;
    f.s = {2, 10, 24, 32};
    CHECK(!gemm_has(f.s));
    CHECK_FAILS(gemm_fwd(&h100, &f, NULL), ECG_ERR_FAIL, "(2, 10, 24) to 32");
    f.s = {2, 10, 32, 32}, f.act = &drop;
    CHECK(gemm_has(f.s));
    CHECK_FAILS(gemm_fwd(&h100, &f, NULL), ECG_ERR_FAIL, "dropout");
    struct gemm_backward b = {};
    b.s = {2, 10, 32, 32}, b.act = &act;
    CHECK_FAILS(gemm_bwd(&h100, &b, NULL), ECG_ERR_FAIL, "bytes of scratch");
}

static const struct gemm_conv published[] = {
#if SMALL
    {3, 45, 64, 64}, {1, 70, 160, 160},
#else
    {3, 157, 64, 64},  {1, 700, 64, 64},  {7, 20, 64, 64},     {5, 79, 64, 160},
    {2, 313, 160, 160}, {3, 79, 160, 400}, {1, 157, 400, 400}, {7, 20, 400, 1024},
    {7, 20, 1024, 1024},
#endif
};
static const struct gemm_conv others[] = {
#if SMALL
    {3, 33, 16, 16}, {70, 1, 16, 32}, {1, 1, 48, 48},
#else
    {5, 33, 16, 16}, {150, 1, 16, 32}, {2, 100, 32, 48}, {1, 1, 48, 48},  {3, 50, 1040, 32},
    {9, 17, 176, 176}, {2, 90, 320, 336}, {3, 45, 800, 160}, {2, 70, 208, 432},
#endif
};

static void forward_published(void) {
    struct worst w = {0, 0};
    for (struct gemm_conv s : published) check_forward(s, &one_sm, &w);
    check_note("largest errors: outputs %.1e, sums %.1e", w.y, w.sum);
}

static void forward_others(void) {
    struct worst w = {0, 0};
    for (struct gemm_conv s : others) check_forward(s, &h100, &w);
    check_note("largest errors: outputs %.1e, sums %.1e", w.y, w.sum);
}

static void backward_published(void) {
    struct worst w = {0, 0};
    for (struct gemm_conv s : published) check_backward(s, &one_sm, &w);
    check_note("largest errors: outputs %.1e, sums %.1e", w.y, w.sum);
}

static void backward_others(void) {
    struct worst w = {0, 0};
    for (struct gemm_conv s : others) check_backward(s, &h100, &w);
    check_note("largest errors: outputs %.1e, sums %.1e", w.y, w.sum);
}

int main(void) {
    if (!CHECK_OK(gemm_open(&h100))) return 1;
    CASE(packing);
    CASE(forward_published);
    CASE(forward_others);
    CASE(backward_published);
    CASE(backward_others);
    CASE(same_bits_in_any_order);
    CASE(same_bits_on_any_gpu);
    CASE(same_bits_together);
    CASE(same_bits_at_any_place);
    CASE(bad_shapes);
    return check_finish();
}
