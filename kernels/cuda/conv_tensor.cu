/* SPDX-License-Identifier: MIT
 * From the entries of the table to the tensor-core kernels. Dropout is a pass of its own before them, and behind their data
 * gradient; weights that nobody packed are packed into scratch memory first. */
#include "kernels/cuda/conv_tensor.cuh"

#include "kernels/cuda/conv_general.cuh"
#include "kernels/cuda/gconv.h"

#define PIECE 64 /* convolutions whose weights are packed by one launch */

enum kind { NONE, GEMM, GCONV, STEM };

static enum kind kind_of(struct ops_conv s) {
    const struct gemm_conv gemm = {s.B, s.Lin, s.Cin, s.Cout};
    if (s.K == 1 && s.S == 1 && s.G == 1 && s.P == 0 && s.Lin == s.Lout && gemm_has(gemm))
        return GEMM;
    if (gconv_has(s)) return GCONV;
    return stem_has(s) ? STEM : NONE;
}

int conv_tensor_has(const struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s) {
    return dtype == OPS_BF16 && !dev->general && kind_of(s) != NONE;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t in_bytes(struct ops_conv s) {
    return (size_t)s.B * s.Lin * s.Cin * sizeof(uint16_t);
}

static size_t out_bytes(struct ops_conv s) {
    return (size_t)s.B * s.Lout * s.Cout * sizeof(uint16_t);
}

/* ------------------------------------------------------------------ packed weights */

/* Packed 16-tap weights: those of the forward pass, then those of the data gradient, which the stem has not. */
size_t conv_tensor_packed_bytes(struct ops_conv s, int backward) {
    const enum kind kind = kind_of(s);
    if (kind == GEMM) return gemm_packed_bytes(s.Cout, s.Cin, backward);
    const size_t one = cuda_room(gconv_packed_bytes(s));
    return kind == GCONV && backward ? 2 * one : one;
}

static enum ecg_status pack_gemm(struct ops_dev *dev, int n, const struct ops_pack *const *list,
                                 int backward, struct ops_ws ws) {
    struct gemm_weights weights[PIECE];
    struct gemm_weights *there = (struct gemm_weights *)cuda_take(&ws, sizeof weights);
    if (!there) return cuda_too_small("conv_pack", ws);
    for (int i = 0; i < n; i++) {
        weights[i].w = list[i]->w;
        weights[i].packed = list[i]->packed;
        weights[i].N = list[i]->s.Cout;
        weights[i].K = list[i]->s.Cin;
    }
    TRY(cuda_upload(dev, there, weights, (size_t)n * sizeof(*weights)));
    return gemm_pack(n, there, backward, dev->stream);
}

static enum ecg_status pack_taps(struct ops_dev *dev, int n, const struct ops_pack *const *list,
                                 int backward) {
    struct gconv_weights weights[PIECE];
    for (int i = 0; i < n; i++) {
        weights[i].s = list[i]->s;
        weights[i].w = list[i]->w;
        weights[i].packed = list[i]->packed;
    }
    TRY(gconv_pack(0, n, weights, dev->stream));
    if (!backward) return ECG_OK;
    int m = 0;
    for (int i = 0; i < n; i++) {
        if (kind_of(list[i]->s) != GCONV) continue;
        weights[m] = weights[i];
        weights[m++].packed = (char *)weights[i].packed + cuda_room(gconv_packed_bytes(list[i]->s));
    }
    return gconv_pack(1, m, weights, dev->stream);
}

/* Those of the list that are 1x1 (or not) and wanted with (or without) the data gradient's, PIECE at a time. */
static enum ecg_status pack_some(struct ops_dev *dev, size_t n, const struct ops_pack *list,
                                 int gemm, int backward, struct ops_ws ws) {
    const struct ops_pack *some[PIECE];
    int m = 0;
    for (size_t i = 0; i <= n; i++) {
        if (m == PIECE || (i == n && m > 0)) {
            if (gemm)
                TRY(pack_gemm(dev, m, some, backward, ws));
            else
                TRY(pack_taps(dev, m, some, backward));
            m = 0;
        }
        if (i == n) break;
        const enum kind kind = kind_of(list[i].s);
        if (kind != NONE && (kind == GEMM) == gemm && !list[i].backward == !backward)
            some[m++] = &list[i];
    }
    return ECG_OK;
}

enum ecg_status conv_tensor_pack(struct ops_dev *dev, enum ops_dtype dtype, size_t n,
                                 const struct ops_pack *list, struct ops_ws ws) {
    if (dtype != OPS_BF16 || dev->general) return ECG_OK;
    for (int which = 0; which < 4; which++) TRY(pack_some(dev, n, list, which / 2, which % 2, ws));
    return ECG_OK;
}

/* The weights packed: as given, or into scratch memory. */
static enum ecg_status get_packed(struct ops_dev *dev, const char *op, struct ops_conv s,
                                  const float *w, int backward, const void **packed,
                                  struct ops_ws *ws) {
    if (*packed) return ECG_OK;
    struct ops_pack one;
    one.s = s;
    one.w = w;
    one.backward = backward;
    one.packed = cuda_take(ws, conv_tensor_packed_bytes(s, backward));
    if (!one.packed) return cuda_too_small(op, *ws);
    *packed = one.packed;
    return conv_tensor_pack(dev, OPS_BF16, 1, &one, *ws);
}

/* ------------------------------------------------------------------ scratch memory */

static size_t kernel_ws(struct ops_conv s, int backward) {
    const struct gemm_conv gemm = {s.B, s.Lin, s.Cin, s.Cout};
    switch (kind_of(s)) {
    case GEMM:
        return gemm_ws(gemm);
    case GCONV:
        return backward ? larger(gconv_bwd_ws(s), gconv_fwd_ws(s)) : gconv_fwd_ws(s);
    case STEM:
        return backward ? larger(stem_bwd_ws(s), stem_fwd_ws(s)) : stem_fwd_ws(s);
    case NONE:
        break;
    }
    return 0;
}

size_t conv_tensor_ws(struct ops_conv s, int packed, int backward) {
    const size_t weights = packed ? 0 : cuda_room(conv_tensor_packed_bytes(s, backward));
    const size_t tensors =
        cuda_room(in_bytes(s)) * (backward ? 2 : 1) + (backward ? cuda_room(out_bytes(s)) : 0);
    const size_t list = cuda_room(PIECE * sizeof(struct gemm_weights));
    return weights + larger(list, tensors + cuda_room(kernel_ws(s, backward)));
}

/* ------------------------------------------------------------------ passes */

static const struct ops_act no_act = {};

/* What the kernels do not apply themselves is applied before: *x is then act(x), and *act none. */
static enum ecg_status activate(struct ops_dev *dev, const char *op, struct ops_conv s,
                                const struct ops_act **act, const void **x, struct ops_ws *ws) {
    const struct ops_blc in = {s.B, s.Lin, s.Cin};
    if (!((*act)->drop > 0) && (kind_of(s) != STEM || cuda_act_is_none(*act))) return ECG_OK;
    void *a = cuda_take(ws, in_bytes(s));
    if (!a) return cuda_too_small(op, *ws);
    TRY(cuda_act_fwd(dev, OPS_BF16, in, *act, *x, a));
    *act = &no_act;
    *x = a;
    return ECG_OK;
}

static enum ecg_status fwd_gemm(struct ops_dev *dev, struct ops_conv s, const struct ops_act *act,
                                const void *x, const void *packed, const float *b, void *y,
                                float *mean, float *var, float *y_mean, struct ops_ws ws) {
    struct gemm_forward p = {};
    p.s = {s.B, s.Lin, s.Cin, s.Cout};
    p.act = act;
    p.x = (const uint16_t *)x;
    p.packed = packed;
    p.b = b;
    p.y = (uint16_t *)y;
    p.mean = mean;
    p.var = var;
    p.y_mean = y_mean;
    p.ws = ws;
    return gemm_fwd(&dev->gpu, &p, dev->stream);
}

enum ecg_status conv_tensor_fwd(struct ops_dev *dev, struct ops_conv s, const struct ops_act *act,
                                const void *x, const float *w, const void *packed, const float *b,
                                void *y, float *mean, float *var, float *y_mean, struct ops_ws ws) {
    static const char *const op = "act_conv_fwd";
    const struct gconv_fwd_out out = {y, mean, var, y_mean ? GCONV_SUM_Y : GCONV_NO_SUM, y_mean};
    TRY(get_packed(dev, op, s, w, 0, &packed, &ws));
    TRY(activate(dev, op, s, &act, &x, &ws));
    if (kind_of(s) == GEMM)
        TRY(fwd_gemm(dev, s, act, x, packed, b, y, mean, var, y_mean, ws));
    else if (kind_of(s) == GCONV)
        TRY(gconv_fwd(s, act, x, packed, b, &out, ws, dev->stream));
    else
        TRY(stem_fwd(s, x, packed, b, &out, ws, dev->stream));
    return cuda_done_conv(dev, op, OPS_BF16, s);
}

/* One backward pass as the kernels take it: act without dropout, dn = without what is added. */
struct backward {
    struct ops_conv s;
    const struct ops_act *act;
    const void *x, *packed, *dy;
    const struct ops_branch *branch;
    float *dw, *db;
    const struct ops_side *side; /* GEMM only: added by the kernel */
    void *dn;
    const struct ops_norm *norm;     /* summed up by the kernel */
    const struct ops_behind *behind; /* taken by the kernel */
};

static enum ecg_status bwd_gemm(struct ops_dev *dev, const struct backward *k, struct ops_ws ws) {
    struct gemm_backward p = {};
    p.s = {k->s.B, k->s.Lin, k->s.Cin, k->s.Cout};
    p.act = k->act;
    p.x = (const uint16_t *)k->x;
    p.packed = k->packed;
    p.dy = (const uint16_t *)k->dy;
    p.gate = k->branch ? k->branch->gate : NULL;
    p.dm = k->branch ? k->branch->dm : NULL;
    p.dw = k->dw;
    p.db = k->db;
    p.dn = (uint16_t *)k->dn;
    p.norm = k->norm;
    p.behind = k->behind;
    if (k->side) {
        p.side_dy = (const uint16_t *)k->side->dy;
        p.side_L = k->side->s.L;
        p.side_C = k->side->s.C;
        p.side_S = k->side->S;
    }
    p.ws = ws;
    return gemm_bwd(&dev->gpu, &p, dev->stream);
}

static enum ecg_status bwd_taps(struct ops_dev *dev, struct backward k, struct ops_ws ws) {
    const char *back = (const char *)k.packed;
    TRY(ops_compose_at_y(dev, OPS_BF16, k.s, k.branch, NULL, &k.dy, &ws));
    if (kind_of(k.s) == GCONV) {
        if (back) back += cuda_room(gconv_packed_bytes(k.s));
        return gconv_bwd(k.s, k.act, k.x, back, k.dy, k.behind, k.dw, k.db, k.dn, k.norm, ws,
                         dev->stream);
    }
    if (k.dw) TRY(stem_bwd_w(k.s, k.x, k.dy, k.dw, k.db, ws, dev->stream));
    return ECG_OK;
}

/* The stem's input has no gradient in the network; elsewhere the general kernels make it, with all that belongs to it. */
static enum ecg_status stem_data(struct ops_dev *dev, struct backward k, const float *w,
                                 const struct ops_act *act, const void *x,
                                 const struct ops_side *side, void *dn, struct ops_ws ws) {
    TRY(ops_compose_at_y(dev, OPS_BF16, k.s, k.branch, NULL, &k.dy, &ws));
    if (side)
        TRY(cuda_shortcut_bwd(dev, OPS_BF16, side->s, k.s.Lin, k.s.Cin, side->S, x, side->dy, dn));
    return conv_general_bwd_x(dev, "act_conv_bwd", OPS_BF16, k.s, k.dy, w, act, x, side != NULL,
                              dn);
}

/* Whether the kernels that make dn sum over it too. */
static int sums_along(enum kind kind, const struct ops_act *act, const float *dw) {
    return !(act->drop > 0) && (kind == GEMM || (kind == GCONV && dw));
}

/* Whether they take a normalisation behind on the way in, where the weights' gradients are wanted too. */
static int takes_behind(const struct ops_dev *dev, struct ops_conv s) {
    const struct gemm_conv gemm = {s.B, s.Lin, s.Cin, s.Cout};
    return kind_of(s) == GCONV || (kind_of(s) == GEMM && gemm_has_behind(&dev->gpu, gemm));
}

/* dn from da, the gradient at act(x). */
static enum ecg_status behind_dropout(struct ops_dev *dev, struct ops_conv s,
                                      const struct ops_act *act, const void *x, const void *da,
                                      const struct ops_side *side, void *dn) {
    const struct ops_blc in = {s.B, s.Lin, s.Cin};
    if (side)
        TRY(cuda_shortcut_bwd(dev, OPS_BF16, side->s, s.Lin, s.Cin, side->S, x, side->dy, dn));
    return cuda_act_bwd(dev, OPS_BF16, in, act, x, da, side != NULL, dn);
}

static int gemm_takes(struct ops_conv s, const struct ops_side *side) {
    return kind_of(s) == GEMM && side->S <= 2 && side->s.C % 16 == 0;
}

enum ecg_status conv_tensor_bwd(struct ops_dev *dev, struct ops_conv s, const struct ops_act *act,
                                const void *x, const float *w, const void *packed, const void *dy,
                                const struct ops_branch *branch, const struct ops_behind *behind,
                                float *dw, float *db, const struct ops_side *side, void *dn,
                                const struct ops_norm *norm, struct ops_ws ws) {
    static const char *const op = "act_conv_bwd";
    const enum kind kind = kind_of(s);
    const struct ops_blc in = {s.B, s.Lin, s.Cin};
    const int drops = act->drop > 0;
    const struct ops_norm *along = dn && sums_along(kind, act, dw) ? norm : NULL;
    const struct ops_ws all = ws;
    const struct ops_behind *taken = dn && dw && takes_behind(dev, s) ? behind : NULL;
    TRY(ops_compose_at_y(dev, OPS_BF16, s, NULL, taken ? NULL : behind, &dy, &ws));
    struct backward k = {s,     act,  x, packed, dy, branch, dw, db, NULL, kind == STEM ? NULL : dn,
                         along, taken};

    if (k.dn) TRY(get_packed(dev, op, s, w, 1, &k.packed, &ws));
    if (drops && k.dn) {
        k.dn = cuda_take(&ws, in_bytes(s)); /* the gradient at act(x) */
        if (!k.dn) return cuda_too_small(op, ws);
    } else if (k.dn && side && gemm_takes(s, side)) {
        k.side = side;
    }
    if (k.dn || dw) {
        struct ops_ws rest = ws;
        TRY(activate(dev, op, s, &k.act, &k.x, &rest));
        if (kind == GEMM)
            TRY(bwd_gemm(dev, &k, rest));
        else
            TRY(bwd_taps(dev, k, rest));
    }
    TRY(cuda_done_conv(dev, op, OPS_BF16, s));
    if (!dn) return ECG_OK;
    if (kind == STEM)
        TRY(stem_data(dev, k, w, act, x, side, dn, ws));
    else if (drops)
        TRY(behind_dropout(dev, s, act, x, k.dn, side, dn));
    else if (side && !k.side)
        TRY(cuda_shortcut_add(dev, OPS_BF16, side->s, s.Lin, s.Cin, side->S, x, side->dy, dn));
    return norm && !along ? cuda_norm_sums(dev, OPS_BF16, in, x, dn, norm, all) : ECG_OK;
}
