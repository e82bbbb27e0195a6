/* SPDX-License-Identifier: MIT
 * The entries for convolutions: which kernels take which shape. */
#include "kernels/cuda/choose.h"
#include "kernels/cuda/conv_general.cuh"
#include "kernels/cuda/conv_tensor.cuh"
#include "kernels/cuda/conv_vendor.cuh"

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t act_bytes(enum ops_dtype dtype, struct ops_conv s) {
    return (size_t)s.B * s.Lin * s.Cin * cuda_size(dtype);
}

/* An activation is worked out on the way into the product where each input is read for few outputs: not for the K taps
 * of a longer kernel, nor with dropout, whose numbers cost more than a trip through memory. Else it is stored first. */
static int is_fused(struct ops_conv s, const struct ops_act *act) {
    return cuda_act_is_none(act) || (s.K == 1 && s.S == 1 && s.P == 0 && !(act->drop > 0));
}

/* What the product reads: *x, through *act. */
static enum ecg_status activate(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                struct ops_conv s, const struct ops_act **act, const void **x,
                                struct ops_ws *ws) {
    const struct ops_blc in = {s.B, s.Lin, s.Cin};
    if (is_fused(s, *act)) return ECG_OK;
    void *a = cuda_take(ws, act_bytes(dtype, s));
    if (!a) return cuda_too_small(op, *ws);
    TRY(cuda_act_fwd(dev, dtype, in, *act, *x, a));
    *act = NULL;
    *x = a;
    return ECG_OK;
}

/* What ops_compose_at_y takes: the gradient at y. */
static size_t branch_bytes(enum ops_dtype dtype, struct ops_conv s) {
    return cuda_room((size_t)s.B * s.Lout * s.Cout * cuda_size(dtype));
}

static size_t custom_ws(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s, int packed,
                        int backward) {
    const struct ops_blc in = {s.B, s.Lin, s.Cin}, out = {s.B, s.Lout, s.Cout};
    const size_t a = cuda_room(act_bytes(dtype, s)), forward = a + cuda_norm_ws(dev, out);
    const size_t back =
        larger(branch_bytes(dtype, s) + a + conv_general_ws(s), cuda_norm_ws(dev, in));
    const size_t general = backward ? larger(forward, back) : forward;
    if (!conv_tensor_has(dev, dtype, s)) return general;
    const size_t tensor =
        larger(conv_tensor_ws(s, packed, backward), backward ? cuda_norm_ws(dev, in) : 0);
    return packed ? tensor : larger(tensor, general);
}

static size_t vendor_ws(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                        int backward) {
    const struct ops_blc in = {s.B, s.Lin, s.Cin}, out = {s.B, s.Lout, s.Cout};
    const size_t forward = larger(conv_vendor_ws(dtype, s, 0), cuda_norm_ws(dev, out));
    if (!backward) return forward;
    const size_t back = branch_bytes(dtype, s) + conv_vendor_ws(dtype, s, 1);
    return larger(forward, larger(back, cuda_norm_ws(dev, in)));
}

/* The shape is known now, and nothing has been launched that waits for it: the time for auto to try both ways. */
size_t cuda_conv_ws(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s, int packed,
                    int backward) {
    conv_choose_try(dev, dtype, s, backward);
    const size_t custom = custom_ws(dev, dtype, s, packed, backward);
    return dev->choose->vendor ? larger(custom, vendor_ws(dev, dtype, s, backward)) : custom;
}

size_t cuda_conv_packed_bytes(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                              int backward) {
    return conv_tensor_has(dev, dtype, s) ? conv_tensor_packed_bytes(s, backward) : 0;
}

enum ecg_status cuda_conv_pack(struct ops_dev *dev, enum ops_dtype dtype, size_t n,
                               const struct ops_pack *list, struct ops_ws ws) {
    TRY(conv_tensor_pack(dev, dtype, n, list, ws));
    return cuda_done_n(dev, "conv_pack", n);
}

enum ecg_status cuda_conv_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                              const void *x, const float *w, const float *b, void *y,
                              struct ops_ws ws) {
    TRY(cuda_check_conv("conv_fwd", dtype, s));
    if (conv_uses_vendor(dev, dtype, s, 0))
        return conv_vendor_fwd(dev, "conv_fwd", dtype, s, NULL, x, w, NULL, b, y, ws);
    return conv_general_fwd(dev, "conv_fwd", dtype, s, NULL, x, w, b, y);
}

enum ecg_status cuda_conv_bwd_x(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                const void *dy, const float *w, void *dx, struct ops_ws ws) {
    TRY(cuda_check_conv("conv_bwd_x", dtype, s));
    if (conv_uses_vendor(dev, dtype, s, 1))
        return conv_vendor_bwd_x(dev, "conv_bwd_x", dtype, s, dy, w, NULL, NULL, NULL, 0, dx, ws);
    return conv_general_bwd_x(dev, "conv_bwd_x", dtype, s, dy, w, NULL, NULL, 0, dx);
}

enum ecg_status cuda_conv_bwd_w(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                const void *x, const void *dy, float *dw, float *db,
                                struct ops_ws ws) {
    TRY(cuda_check_conv("conv_bwd_w", dtype, s));
    if (conv_uses_vendor(dev, dtype, s, 1))
        return conv_vendor_bwd_w(dev, "conv_bwd_w", dtype, s, NULL, x, dy, dw, db, ws);
    return conv_general_bwd_w(dev, "conv_bwd_w", dtype, s, NULL, x, dy, dw, db, ws);
}

enum ecg_status cuda_act_conv_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                  const struct ops_act *act, const void *x, const float *w,
                                  const void *packed, const float *b, void *y, float *mean,
                                  float *var, float *y_mean, struct ops_ws ws) {
    const struct ops_blc out = {s.B, s.Lout, s.Cout};
    TRY(cuda_check_conv("act_conv_fwd", dtype, s));
    if (conv_uses_vendor(dev, dtype, s, 0)) {
        TRY(conv_vendor_fwd(dev, "act_conv_fwd", dtype, s, act, x, w, packed, b, y, ws));
    } else if (conv_tensor_has(dev, dtype, s)) {
        return conv_tensor_fwd(dev, s, act, x, w, packed, b, y, mean, var, y_mean, ws);
    } else {
        TRY(activate(dev, "act_conv_fwd", dtype, s, &act, &x, &ws));
        TRY(conv_general_fwd(dev, "act_conv_fwd", dtype, s, act, x, w, b, y));
    }
    if (mean) TRY(cuda_norm_stats(dev, dtype, out, y, mean, var, ws));
    if (y_mean) TRY(cuda_mean_fwd(dev, dtype, out, y, y_mean));
    return ECG_OK;
}

/* As act_conv_bwd, by the libraries. */
static enum ecg_status vendor_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                  const struct ops_act *act, const void *x, const float *w,
                                  const void *packed, const void *dy,
                                  const struct ops_branch *branch, const struct ops_behind *behind,
                                  float *dw, float *db, const struct ops_side *side, void *dn,
                                  const struct ops_norm *norm, struct ops_ws ws) {
    static const char *const op = "act_conv_bwd";
    const struct ops_blc in = {s.B, s.Lin, s.Cin};
    const struct ops_ws all = ws;
    TRY(ops_compose_at_y(dev, dtype, s, branch, behind, &dy, &ws));
    if (dw) TRY(conv_vendor_bwd_w(dev, op, dtype, s, act, x, dy, dw, db, ws));
    if (!dn) return ECG_OK;
    if (side) TRY(cuda_shortcut_bwd(dev, dtype, side->s, s.Lin, s.Cin, side->S, x, side->dy, dn));
    TRY(conv_vendor_bwd_x(dev, op, dtype, s, dy, w, packed, act, x, side != NULL, dn, ws));
    return norm ? cuda_norm_sums(dev, dtype, in, x, dn, norm, all) : ECG_OK;
}

enum ecg_status cuda_act_conv_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                  const struct ops_act *act, const void *x, const float *w,
                                  const void *packed, const void *dy,
                                  const struct ops_branch *branch, const struct ops_behind *behind,
                                  float *dw, float *db, const struct ops_side *side, void *dn,
                                  const struct ops_norm *norm, struct ops_ws ws) {
    TRY(cuda_check_conv("act_conv_bwd", dtype, s));
    if (conv_uses_vendor(dev, dtype, s, 1))
        return vendor_bwd(dev, dtype, s, act, x, w, packed, dy, branch, behind, dw, db, side, dn,
                          norm, ws);
    if (conv_tensor_has(dev, dtype, s))
        return conv_tensor_bwd(dev, s, act, x, w, packed, dy, branch, behind, dw, db, side, dn,
                               norm, ws);
    const struct ops_blc in = {s.B, s.Lin, s.Cin};
    const struct ops_ws all = ws;
    TRY(ops_compose_at_y(dev, dtype, s, branch, behind, &dy, &ws));
    if (dw) {
        const struct ops_act *through = act;
        const void *a = x;
        struct ops_ws rest = ws;
        TRY(activate(dev, "act_conv_bwd", dtype, s, &through, &a, &rest));
        TRY(conv_general_bwd_w(dev, "act_conv_bwd", dtype, s, through, a, dy, dw, db, rest));
    }
    if (!dn) return ECG_OK;
    if (side) TRY(cuda_shortcut_bwd(dev, dtype, side->s, s.Lin, s.Cin, side->S, x, side->dy, dn));
    TRY(conv_general_bwd_x(dev, "act_conv_bwd", dtype, s, dy, w, act, x, side != NULL, dn));
    return norm ? cuda_norm_sums(dev, dtype, in, x, dn, norm, all) : ECG_OK;
}
