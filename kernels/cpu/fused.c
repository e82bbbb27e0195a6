/* SPDX-License-Identifier: MIT
 * Activation and convolution in one: the passes of conv.c and conv_grad.c. */
#include "kernels/cpu/pass.h"

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

/* What ops_compose_at_y takes. */
static size_t branch_bytes(enum ops_dtype dtype, struct ops_conv s) {
    return cpu_round_up((size_t)s.B * (size_t)s.Lout * (size_t)s.Cout * cpu_size(dtype), MEM_ALIGN);
}

size_t cpu_conv_ws(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s, int packed,
                   int backward) {
    const struct ops_blc x = {s.B, s.Lin, s.Cin}, y = {s.B, s.Lout, s.Cout};
    const size_t forward =
        larger(larger(cpu_conv_fwd_ws(dev, dtype, s, packed), pack_ws(dev, dtype, s)),
               cpu_norm_ws(dev, y));
    if (!backward) return forward;
    return larger(larger(forward, cpu_norm_ws(dev, x)),
                  branch_bytes(dtype, s) + larger(cpu_conv_bwd_x_ws(dev, dtype, s, packed),
                                                  cpu_conv_bwd_w_ws(dev, dtype, s)));
}

enum ecg_status cpu_act_conv_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                 const struct ops_act *act, const void *x, const float *w,
                                 const void *packed, const float *b, void *y, float *mean,
                                 float *var, float *y_mean, struct ops_ws ws) {
    const struct ops_blc out = {s.B, s.Lout, s.Cout};
    TRY(cpu_check_conv("act_conv_fwd", dtype, s));
    TRY(cpu_conv_fwd_act(dev, dtype, s, act, x, w, packed, b, y, ws));
    if (mean) TRY(cpu_norm_stats(dev, dtype, out, y, mean, var, ws));
    if (y_mean) TRY(cpu_mean_fwd(dev, dtype, out, y, y_mean));
    return ECG_OK;
}

enum ecg_status cpu_act_conv_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                 const struct ops_act *act, const void *x, const float *w,
                                 const void *packed, const void *dy,
                                 const struct ops_branch *branch, const struct ops_behind *behind,
                                 float *dw, float *db, const struct ops_side *side, void *dn,
                                 const struct ops_norm *norm, struct ops_ws ws) {
    TRY(cpu_check_conv("act_conv_bwd", dtype, s));
    const struct ops_ws all = ws;
    TRY(ops_compose_at_y(dev, dtype, s, branch, behind, &dy, &ws));
    if (dw) TRY(cpu_conv_bwd_w_act(dev, dtype, s, act, x, dy, dw, db, ws));
    if (!dn) return ECG_OK;
    if (side) TRY(cpu_shortcut_bwd(dev, dtype, side->s, s.Lin, s.Cin, side->S, x, side->dy, dn));
    TRY(cpu_conv_bwd_x_act(dev, dtype, s, act, x, dy, w, packed, side != NULL, dn, ws));
    return norm ? cpu_norm_sums(dev, dtype, (struct ops_blc){s.B, s.Lin, s.Cin}, x, dn, norm, all)
                : ECG_OK;
}
