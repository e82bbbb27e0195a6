/* SPDX-License-Identifier: MIT
 * The CUDA backend's tensor-core 1x1 convolutions, emulated, against plain double loops over the same bf16 factors: forward
 * with every prologue and epilogue, data gradient, weight gradient; at the published network's pairs of channels and
 * others, with partial tiles and samples that cross tiles. Under the sanitizers and with counting, small shapes only. */
#include "tests/emu/gemm_problem.h"

#include "kernels/cuda/ptx.h"

/* Of the largest value: rounding to bf16 is 2^-9 of a value; sums of M fp32 products, that the emulation adds one by one,
 * err by about sqrt(M) 2^-25; other sums go through double. */
static const double y_bound = 4e-3, sum_bound = 2e-7, weight_bound = 8e-7;

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
                (*dn)[((size_t)b * p->s.L + i) * K + c] +=
                    bf16_to_float(e->side_dy[((size_t)b * e->side_L + l) * e->side_C + pad + c]);
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
        {ACT_NONE, false, 0, false, true, true},  {ACT_NORM, true, 0, false, true, true},
        {ACT_SWISH, true, 1, false, true, true},  {ACT_SWISH, false, 2, true, true, true},
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
    {3, 45, 64, 64},
    {1, 70, 160, 160},
#else
    {3, 157, 64, 64},   {1, 700, 64, 64},   {7, 20, 64, 64},
    {5, 79, 64, 160},   {2, 313, 160, 160}, {3, 79, 160, 400},
    {1, 157, 400, 400}, {7, 20, 400, 1024}, {7, 20, 1024, 1024},
#endif
};
static const struct gemm_conv others[] = {
#if SMALL
    {3, 33, 16, 16},
    {70, 1, 16, 32},
    {1, 1, 48, 48},
#else
    {5, 33, 16, 16},   {150, 1, 16, 32},  {2, 100, 32, 48},  {1, 1, 48, 48},    {3, 50, 1040, 32},
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
    CASE(forward_published);
    CASE(forward_others);
    CASE(backward_published);
    CASE(backward_others);
    CASE(bad_shapes);
    return check_finish();
}
