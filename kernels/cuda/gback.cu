/* SPDX-License-Identifier: MIT
 * Gradients of the grouped convolution of 16 taps on tensor cores. With i = l*S - 7 + t,
 *
 *     dw[co,ci,t] += sum over b, l of dy[b,l,co] * act(x)[b,i,ci]              db[co] += sum over b, l of dy[b,l,co]
 *     dn[b,i,ci] = swish'(n) * sum over the (l, t) that meet i, and co of the group, of dy[b,l,co] * w[co,ci,t]
 *
 * Weights: rows are the inner dimension of mma, dy transposed times act(x), one product for each tap, its rows an offset into
 * the slab of x. Accumulators live in registers across all tiles of a CTA; partial sums go to memory once, by split, and a
 * second pass adds them in order.
 * Data at stride 2: input i = 2j - 7 + phase meets the taps t = 2u + phase at l = j - u, so one row of dy's slab serves two
 * phases of 8 taps each.
 * Both: one kernel has the slabs of x and dy in shared memory and makes both gradients of them, 3 tensors moved for 5. */
#include "kernels/cuda/gconv_back.cuh"
#include "kernels/cuda/norm_parts.h"

/* Rows of a sample that cover the inputs two by two. */
static int n_pairs(struct ops_conv s) {
    return (s.Lin - 1 + GCONV_PAD) / 2 + 1;
}

static struct gconv_rows rows_of(struct ops_conv s, int kind) {
    return gconv_rows_of(s.B, s.S == 2 && back_has_data(kind) ? n_pairs(s) : s.Lout);
}

static size_t partial_bytes(struct ops_conv s, int kind) {
    return back_partial_bytes(back_ctas(rows_of(s, kind), s.Cout, kind), s.Cout);
}

size_t gconv_bwd_ws(struct ops_conv s) {
    if (!gconv_has(s)) return 0;
    const size_t weights = partial_bytes(s, BACK_WEIGHTS), both = partial_bytes(s, BACK_BOTH);
    return weights > both ? weights : both;
}

static enum ecg_status launch(const char *op, struct ops_conv s, int kind,
                              const struct back_args &a, cudaStream_t stream) {
    if (kind == BACK_DATA) return back_launch_any<2, BACK_DATA>(op, s, a, stream);
    if (kind == BACK_BOTH)
        return s.S == 1 ? back_launch_any<1, BACK_BOTH>(op, s, a, stream)
                        : back_launch_any<2, BACK_BOTH>(op, s, a, stream);
    return s.S == 1 ? back_launch_any<1, BACK_WEIGHTS>(op, s, a, stream)
                    : back_launch_any<2, BACK_WEIGHTS>(op, s, a, stream);
}

enum ecg_status gconv_bwd(struct ops_conv s, const struct ops_act *act, const void *x,
                          const void *packed, const void *dy, const struct ops_behind *behind,
                          float *dw, float *db, void *dn, const struct ops_norm *norm,
                          struct ops_ws ws, cudaStream_t stream) {
    static const char op[] = "act_conv_bwd";
    const int kind = !dn ? BACK_WEIGHTS : dw ? BACK_BOTH : BACK_DATA;
    struct back_args a = {};

    TRY(gconv_check(op, s, gconv_has(s), act, ws, dw ? partial_bytes(s, kind) : 0));
    if (!dw && !dn) return ECG_OK;
    if (!dw && s.S == 1) return gconv_data_stride1(s, act, x, packed, dy, dn, stream);
    a.g = rows_of(s, kind);
    a.x = gconv_source_of(x, s.Lin, s.Cin, GCONV_PAD, a.g, s.S, GCONV_TAPS - s.S);
    a.dy = gconv_source_of(dy, s.Lout, s.Cout, back_pad(s.S, kind), a.g, 1, back_halo(s.S, kind));
    a.act.scale = act->scale;
    a.act.shift = act->shift;
    a.act.swish = act->swish;
    a.packed = (const uint4 *)packed;
    a.dn = (uint16_t *)dn;
    a.C = s.Cout;
    const int n_splits = back_ctas(a.g, a.C, kind);
    a.weights = (float *)ws.p;
    a.bias = a.weights + (size_t)n_splits * a.C * GCONV_TAPS * 16;
    a.mean = norm ? norm->mean : NULL;
    if (behind) {
        a.behind_y = (const uint16_t *)behind->y;
        a.behind_mean = behind->norm->mean;
        a.behind_k = behind->norm->k;
    }
    a.sums = (float2 *)(a.bias + (size_t)n_splits * a.C);
    TRY(launch(op, s, kind, a, stream));
    if (norm) norm_finish_sums(s.B * s.Lin, n_splits, s.Cin, a.sums, norm, stream);
    return dw ? back_finish(op, s, n_splits, a.weights, a.bias, dw, db, stream) : ECG_OK;
}
