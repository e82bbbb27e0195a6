/* SPDX-License-Identifier: MIT
 * Activation and convolution in one, and linear layers: all are the passes of conv.c and conv_grad.c. */
#include "kernels/cpu/cpu.h"

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

size_t cpu_conv_ws(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s) {
    const struct ops_blc y = {s.B, s.Lout, s.Cout};
    return larger(larger(cpu_conv_fwd_ws(dev, dtype, s), cpu_conv_bwd_x_ws(dev, dtype, s)),
                  larger(cpu_conv_bwd_w_ws(dev, dtype, s), cpu_norm_ws(dev, y)));
}

enum ecg_status cpu_act_conv_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                 const struct ops_act *act, const void *x, const float *w,
                                 const float *b, void *y, float *mean, float *var, float *y_mean,
                                 struct ops_ws ws) {
    const struct ops_blc out = {s.B, s.Lout, s.Cout};
    TRY(cpu_check_conv("act_conv_fwd", dtype, s));
    TRY(cpu_conv_fwd_act(dev, dtype, s, act, x, w, b, y, ws));
    if (mean) TRY(cpu_norm_stats(dev, dtype, out, y, mean, var, ws));
    if (y_mean) TRY(cpu_mean_fwd(dev, dtype, out, y, y_mean));
    return ECG_OK;
}

enum ecg_status cpu_act_conv_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                 const struct ops_act *act, const void *x, const float *w,
                                 const void *dy, float *dw, float *db, int add, void *dn,
                                 struct ops_ws ws) {
    TRY(cpu_check_conv("act_conv_bwd", dtype, s));
    if (dw) TRY(cpu_conv_bwd_w_act(dev, dtype, s, act, x, dy, dw, db, ws));
    if (dn) TRY(cpu_conv_bwd_x_act(dev, dtype, s, act, x, dy, w, add, dn, ws));
    return ECG_OK;
}

/* A linear layer is a 1x1 convolution over M samples in a row. */
static enum ecg_status linear_as_conv(const char *op, int M, int K, int N, struct ops_conv *s) {
    *s =
        (struct ops_conv){.B = 1, .Lin = M, .Lout = M, .Cin = K, .Cout = N, .K = 1, .S = 1, .G = 1};
    return cpu_check_conv(op, OPS_F32, *s);
}

size_t cpu_linear_ws(struct ops_dev *dev, int M, int K, int N) {
    struct ops_conv s;
    if (linear_as_conv("linear_ws", M, K, N, &s) != ECG_OK) return 0;
    return larger(larger(cpu_conv_fwd_ws(dev, OPS_F32, s), cpu_conv_bwd_x_ws(dev, OPS_F32, s)),
                  cpu_conv_bwd_w_ws(dev, OPS_F32, s));
}

enum ecg_status cpu_linear_fwd(struct ops_dev *dev, int M, int K, int N, const float *x,
                               const float *w, const float *b, float *y, struct ops_ws ws) {
    struct ops_conv s;
    TRY(linear_as_conv("linear_fwd", M, K, N, &s));
    return cpu_conv_fwd_act(dev, OPS_F32, s, NULL, x, w, b, y, ws);
}

enum ecg_status cpu_linear_bwd_x(struct ops_dev *dev, int M, int K, int N, const float *dy,
                                 const float *w, float *dx, struct ops_ws ws) {
    struct ops_conv s;
    TRY(linear_as_conv("linear_bwd_x", M, K, N, &s));
    return cpu_conv_bwd_x_act(dev, OPS_F32, s, NULL, NULL, dy, w, 0, dx, ws);
}

enum ecg_status cpu_linear_bwd_w(struct ops_dev *dev, int M, int K, int N, const float *x,
                                 const float *dy, float *dw, float *db, struct ops_ws ws) {
    struct ops_conv s;
    TRY(linear_as_conv("linear_bwd_w", M, K, N, &s));
    return cpu_conv_bwd_w_act(dev, OPS_F32, s, NULL, x, dy, dw, db, ws);
}
