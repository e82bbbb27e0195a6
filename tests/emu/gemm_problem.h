/* SPDX-License-Identifier: MIT
 * What the tests of the CUDA backend's 1x1 convolutions share: operands of a shape on both sides, and what a run of each
 * direction gives. */
#ifndef TESTS_EMU_GEMM_PROBLEM_H
#define TESTS_EMU_GEMM_PROBLEM_H

#include "kernels/cuda/compat.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "core/rng.h"
#include "kernels/bf16.h"
#include "kernels/cuda/gemm.h"
extern "C" {
#include "tests/support/check.h"
}

typedef std::vector<float> floats;
typedef std::vector<double> doubles;
typedef std::vector<uint16_t> halves;

/* The modes of the emulation that are slow. */
#if defined EMU_COUNT || defined EMU_TSAN || defined __SANITIZE_ADDRESS__
#define SMALL 1
#else
#define SMALL 0
#endif

static const struct gemm_gpu h100 = {132, 227 << 10, 228 << 10};
static const struct gemm_gpu a100 = {108, 163 << 10, 164 << 10};
/* blocks that go through many tiles */
static const struct gemm_gpu one_sm = {1, 227 << 10, 228 << 10};

/* ---- memory of the device ---- */

static inline void cuda(cudaError_t e) {
    if (!CHECK(e == cudaSuccess)) exit(1);
}

template <class T> static inline T *device(const std::vector<T> &v) {
    T *p = NULL;
    cuda(cudaMalloc(&p, v.size() * sizeof(T)));
    cuda(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
    return p;
}

template <class T> static inline T *device(size_t n) {
    T *p = NULL;
    cuda(cudaMalloc(&p, n * sizeof(T)));
    return p;
}

template <class T> static inline std::vector<T> host(const T *p, size_t n) {
    std::vector<T> v(n);
    cuda(cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost));
    return v;
}

/* ---- numbers ---- */

static inline floats uniform(size_t n, uint32_t stream, float scale, float offset) {
    struct rng r;
    floats v(n);
    rng_init(&r, 11, stream, 0, 0);
    for (size_t i = 0; i < n; i++) v[i] = offset + scale * (float)(2 * rng_uniform(&r) - 1);
    return v;
}

static inline halves rounded(const floats &v) {
    halves h(v.size());
    for (size_t i = 0; i < v.size(); i++) h[i] = bf16_from_float(v[i]);
    return h;
}

static inline floats widened(const halves &h) {
    floats v(h.size());
    for (size_t i = 0; i < h.size(); i++) v[i] = bf16_to_float(h[i]);
    return v;
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

static inline void pack(struct problem *p) {
    std::vector<struct gemm_weights> list(1);
    p->d_packed = device<char>(gemm_packed_bytes(p->s.N, p->s.K, 1));
    list[0].w = p->d_w, list[0].packed = p->d_packed, list[0].N = p->s.N, list[0].K = p->s.K;
    struct gemm_weights *d_list = device(list);
    CHECK_OK(gemm_pack(1, d_list, 1, NULL));
    cuda(cudaFree(d_list));
}

static inline struct problem open_problem(struct gemm_conv s) {
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

static inline void close_problem(struct problem *p) {
    void *const all[] = {p->d_w,  p->d_bias, p->d_scale, p->d_shift,  p->d_gate,
                         p->d_dm, p->d_x,    p->d_dy,    p->d_packed, p->d_ws};
    for (void *q : all) cuda(cudaFree(q));
}

static inline struct ops_act act_of(const struct problem *p, enum act_kind kind) {
    struct ops_act act = {};
    act.swish = kind != ACT_NONE;
    if (kind == ACT_NORM) act.scale = p->d_scale, act.shift = p->d_shift;
    return act;
}

/* ---- runs ---- */

struct forward_out {
    halves y, out;
    floats mean, var, y_mean;
};

enum { WITH_STATS = 1, WITH_MEANS = 2 };

static inline struct forward_out run_fwd(const struct problem *p, const struct gemm_gpu *gpu,
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

static inline struct backward_extra open_extra(const struct problem *p, int S) {
    struct backward_extra e;
    e.side_L = S == 2 ? (p->s.L + 1) / 2 : p->s.L;
    e.side_C = S == 2 ? p->s.K + 32 : p->s.K;
    e.side_dy = rounded(uniform((size_t)p->s.B * e.side_L * e.side_C, 21, 3.0f, 0.0f));
    e.h = rounded(uniform(p->x_n, 22, 1.0f, 0.1f));
    e.d_side_dy = device(e.side_dy), e.d_h = device(e.h);
    return e;
}

static inline void close_extra(struct backward_extra *e) {
    cuda(cudaFree(e->d_side_dy));
    cuda(cudaFree(e->d_h));
}

/* Accumulated outputs start from 0.5. */
static inline struct backward_out run_bwd(const struct problem *p, const struct gemm_gpu *gpu,
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

#endif
