/* SPDX-License-Identifier: MIT
 * The 1x1 convolutions' host side: checks, scratch memory, and the order of launches. */
#include "kernels/cuda/compat.h"

#include <limits.h>

#include "kernels/cuda/gemm_internal.h"
#include "kernels/cuda/norm_parts.h"

enum ecg_status gemm_launched(const char *op, struct gemm_conv s) {
    const cudaError_t e = cudaGetLastError();
    if (e == cudaSuccess) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "cuda: %s of (%d, %d, %d) to %d channels: %s", op, s.B, s.L, s.K,
                    s.N, cudaGetErrorString(e));
}

enum ecg_status gemm_allow(const struct gemm_gpu *gpu, const void *kernel) {
    const cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                               (int)gpu->shared_block);
    if (e == cudaSuccess) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "cuda: 1x1 convolution: %d bytes of shared memory: %s",
                    (int)gpu->shared_block, cudaGetErrorString(e));
}

enum ecg_status gemm_open(const struct gemm_gpu *gpu) {
    TRY(gemm_fwd_allow(gpu));
    TRY(gemm_bwd_allow(gpu));
    TRY(gemm_wgrad_allow(gpu));
    TRY(gemm_fused_allow(gpu));
    return gemm_joint_allow(gpu);
}

int gemm_has(struct gemm_conv s) {
    if (s.B < 1 || s.L < 1 || s.K < 16 || s.N < 16 || s.K % 16 || s.N % 16) return 0;
    return (int64_t)s.B * s.L <= INT_MAX - 4096 &&
           s.B <= 65535; /* rows are int, samples gridDim.y */
}

static enum ecg_status check(const char *op, struct gemm_conv s, const struct ops_act *act) {
    if (!gemm_has(s))
        return ecg_fail(ECG_ERR_FAIL,
                        "cuda: %s: no such shape: (%d, %d, %d) to %d channels (multiples of 16)",
                        op, s.B, s.L, s.K, s.N);
    if (act->drop > 0)
        return ecg_fail(ECG_ERR_FAIL, "cuda: %s of (%d, %d, %d) to %d channels: with dropout", op,
                        s.B, s.L, s.K, s.N);
    return ECG_OK;
}

static size_t stats_bytes(struct gemm_conv s, int C) {
    return gemm_up((size_t)gemm_units(s) * (size_t)C * sizeof(float2));
}

static size_t sums_bytes(struct gemm_conv s, int C) {
    return gemm_up((size_t)gemm_units(s) * (size_t)gemm_slots(s.L) * (size_t)C * sizeof(double));
}

static int splits(struct gemm_conv s) {
    return gemm_ceil(s.B * s.L, gemm_split_rows(s));
}

static size_t dw_bytes(struct gemm_conv s) {
    return gemm_up((size_t)splits(s) * (size_t)s.N * (size_t)s.K * sizeof(float));
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

size_t gemm_ws(struct gemm_conv s) {
    const size_t fwd = stats_bytes(s, s.N) + sums_bytes(s, s.N);
    const size_t bwd = dw_bytes(s) + gemm_up((size_t)splits(s) * (size_t)s.N * sizeof(float));
    return larger(fwd, sums_bytes(s, s.K) + bwd);
}

static enum ecg_status check_ws(const char *op, struct gemm_conv s, struct ops_ws ws) {
    if (ws.n >= gemm_ws(s)) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL,
                    "cuda: %s of (%d, %d, %d) to %d channels: %zu bytes of scratch, %zu needed", op,
                    s.B, s.L, s.K, s.N, ws.n, gemm_ws(s));
}

static struct gemm_norm norm_of(const struct ops_act *act) {
    const struct gemm_norm n = {act->scale, act->shift, act->swish};
    return n;
}

enum ecg_status gemm_fwd(const struct gemm_gpu *gpu, const struct gemm_forward *p,
                         cudaStream_t stream) {
    static const char *const op = "1x1 forward";
    const struct gemm_conv s = p->s;
    struct gemm_args a = {};

    TRY(check(op, s, p->act));
    if (p->mean || p->y_mean) TRY(check_ws(op, s, p->ws));
    a.a = p->x, a.w = (const uint16_t *)p->packed, a.y = p->y, a.bias = p->b;
    a.M = s.B * s.L, a.N = s.N, a.K = s.K, a.L = s.L;
    a.act = norm_of(p->act);
    if (p->mean) a.stats = (float2 *)p->ws.p;
    if (p->y_mean) a.sums = (double *)((char *)p->ws.p + stats_bytes(s, s.N));
    if (p->tail) {
        const struct gemm_tail *t = p->tail;
        if (t->S < 1 || t->S > 2 || t->Ci > s.N || t->Ci % 16 || s.L != gemm_ceil(t->Li, t->S) ||
            p->mean || p->y_mean)
            return ecg_fail(
                ECG_ERR_FAIL,
                "cuda: %s of (%d, %d, %d) to %d channels: no such tail: from (%d, %d), S %d", op,
                s.B, s.L, s.K, s.N, t->Li, t->Ci, t->S);
        a.out = t->out, a.out_gate = t->gate;
        const struct gemm_side side = {t->x, t->Li, t->Ci, t->S, s.L, s.N};
        a.side = side;
    }
    TRY(gemm_fwd_product(gpu, &a, s, stream));
    if (p->mean) TRY(gemm_finish_stats(a.M, s.N, a.stats, p->mean, p->var, s, stream));
    if (!p->y_mean) return ECG_OK;
    return gemm_finish_sums(s.B, s.L, s.N, a.sums, 1.0f / (float)s.L, p->y_mean, s, stream);
}

static enum ecg_status check_side(const struct gemm_backward *p) {
    const struct gemm_conv s = p->s;
    if (!p->side_dy || (p->side_S >= 1 && p->side_S <= 2 && p->side_C >= s.K &&
                        p->side_C % 16 == 0 && p->side_L == gemm_ceil(s.L, p->side_S)))
        return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL,
                    "cuda: 1x1 backward of (%d, %d, %d): no such shortcut: to (%d, %d), S %d", s.B,
                    s.L, s.K, p->side_L, p->side_C, p->side_S);
}

/* Arguments of the data gradient; its N and K are the convolution's K and N. */
static struct gemm_args data_args(const struct gemm_backward *p, struct gemm_gate branch) {
    const struct gemm_conv s = p->s;
    const struct gemm_side_grad side = {p->side_dy, p->side_L, p->side_C, p->side_S, s.L, s.K};
    struct gemm_args a = {};

    a.a = p->dy, a.w = (const uint16_t *)p->packed + gemm_packed_bytes(s.N, s.K, 0) / 2;
    a.y = p->dn, a.M = s.B * s.L, a.N = s.K, a.K = s.N, a.L = s.L;
    a.act = norm_of(p->act), a.branch = branch, a.x = p->x, a.h = p->h, a.side_grad = side;
    if (p->dse) a.sums = (double *)p->ws.p;
    if (p->norm) a.stats = (float2 *)p->ws.p, a.mean = p->norm->mean;
    return a;
}

static struct gemm_wgrad_args weight_args(const struct gemm_backward *p, struct gemm_gate branch) {
    const struct gemm_conv s = p->s;
    char *const to = (char *)p->ws.p + sums_bytes(s, s.K);
    struct gemm_wgrad_args a = {};

    a.a = p->x, a.g = p->dy, a.M = s.B * s.L, a.N = s.N, a.K = s.K, a.rows = gemm_split_rows(s);
    a.dw = (float *)to, a.db = p->db ? (float *)(to + dw_bytes(s)) : NULL;
    a.act = norm_of(p->act), a.branch = branch;
    if (p->behind) {
        const struct ops_norm *norm = p->behind->norm;
        const struct gemm_behind behind = {(const uint16_t *)p->behind->y, norm->mean, norm->k};
        a.behind = behind;
    }
    return a;
}

int gemm_has_behind(const struct gemm_gpu *gpu, struct gemm_conv s) {
    return gemm_fused_has(gpu, s);
}

enum ecg_status gemm_bwd(const struct gemm_gpu *gpu, const struct gemm_backward *p,
                         cudaStream_t stream) {
    static const char *const op = "1x1 backward";
    const struct gemm_conv s = p->s;
    const struct gemm_gate branch = {p->gate, p->dm, s.N, s.L};

    TRY(check(op, s, p->act));
    TRY(check_ws(op, s, p->ws));
    TRY(check_side(p));
    const struct gemm_args d = data_args(p, branch);
    const struct gemm_wgrad_args w = weight_args(p, branch);
    if (p->dn && p->dw && gemm_fused_has(gpu, s)) {
        TRY(gemm_fused_product(&d, &w, s, stream));
    } else if (p->dn && p->dw && gemm_joint_has(gpu, s)) {
        TRY(gemm_joint_product(&d, &w, s, stream));
    } else {
        if (p->dn) TRY(gemm_bwd_product(gpu, &d, s, stream));
        if (p->dw) TRY(gemm_wgrad_product(&w, s, stream));
    }
    if (p->dn && p->norm) {
        norm_finish_sums(d.M, gemm_units(s), s.K, d.stats, p->norm, stream);
        TRY(gemm_launched(op, s));
    }
    if (p->dn && p->dse) TRY(gemm_finish_sums(s.B, s.L, s.K, d.sums, 1.0f, p->dse, s, stream));
    if (!p->dw) return ECG_OK;
    return gemm_finish_splits(splits(s), &w, p->dw, p->db, s, stream);
}
