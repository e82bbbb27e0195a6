/* SPDX-License-Identifier: MIT
 * One-dimensional convolution, channels last, in groups. With i = l*S - P + k the input sample under tap k of
 * output l, g the group of output channel co and ci counting the group's own input channels,
 *
 *     y[b,l,co]     = bias[co] + sum over k, ci of x[b,i,g*Cin/G+ci] * w[co,ci,k]
 *     dx[b,i,.]     = sum over the (l, k) that meet i, and co of the group, of dy[b,l,co] * w[co,ci,k]
 *     dw[co,ci,k] += sum over b, l of x[b,i,g*Cin/G+ci] * dy[b,l,co]
 *
 * where samples outside 0 <= i < Lin count as zeros. In bf16 all factors are: x and dy as they are stored, w rounded. */
#include "kernels/ref/ref.h"

/* Weight i as a factor. */
static double factor(enum ops_dtype dtype, const float *w, size_t i) {
    return dtype == OPS_F32 ? w[i] : bf16_to_float(bf16_from_float(w[i]));
}

/* Sum of output l of channel co of record n: over the taps inside the record and the group's channels. */
static double conv_output(enum ops_dtype dtype, struct ops_conv s, const void *x, const float *w,
                          int n, int l, int co) {
    const int Cg = s.Cin / s.G;
    const int c0 = co / (s.Cout / s.G) * Cg;
    double sum = 0;

    for (int k = 0; k < s.K; k++) {
        const int64_t i = (int64_t)l * s.S - s.P + k;
        if (i < 0 || i >= s.Lin) continue;
        const size_t row = ((size_t)n * s.Lin + (size_t)i) * s.Cin;
        for (int ci = 0; ci < Cg; ci++)
            sum += ref_get(dtype, x, row + c0 + ci) *
                   factor(dtype, w, ((size_t)co * Cg + ci) * s.K + k);
    }
    return sum;
}

enum ecg_status ref_conv_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                             const void *x, const float *w, const float *b, void *y,
                             struct ops_ws ws) {
    (void)dev, (void)ws;
    TRY(ref_check_conv("conv_fwd", dtype, s));
    size_t at = 0;

    for (int n = 0; n < s.B; n++) {
        for (int l = 0; l < s.Lout; l++) {
            for (int co = 0; co < s.Cout; co++)
                ref_put(dtype, y, at++, conv_output(dtype, s, x, w, n, l, co) + (b ? b[co] : 0));
        }
    }
    return ECG_OK;
}

/* Gradient of input i of channel c of record n: over the taps whose output exists and the group's output channels. */
static double conv_input_grad(enum ops_dtype dtype, struct ops_conv s, const void *dy,
                              const float *w, int n, int i, int c) {
    const int Cg = s.Cin / s.G, Co = s.Cout / s.G;
    const int g = c / Cg, ci = c % Cg;
    double sum = 0;

    for (int k = 0; k < s.K; k++) {
        const int64_t at = (int64_t)i + s.P - k; /* l * S */
        if (at < 0 || at % s.S != 0 || at / s.S >= s.Lout) continue;
        const size_t row = ((size_t)n * s.Lout + (size_t)(at / s.S)) * s.Cout;
        for (int co = g * Co; co < (g + 1) * Co; co++)
            sum +=
                ref_get(dtype, dy, row + co) * factor(dtype, w, ((size_t)co * Cg + ci) * s.K + k);
    }
    return sum;
}

enum ecg_status ref_conv_bwd_x(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                               const void *dy, const float *w, void *dx, struct ops_ws ws) {
    (void)dev, (void)ws;
    TRY(ref_check_conv("conv_bwd_x", dtype, s));
    size_t at = 0;

    for (int n = 0; n < s.B; n++) {
        for (int i = 0; i < s.Lin; i++) {
            for (int c = 0; c < s.Cin; c++)
                ref_put(dtype, dx, at++, conv_input_grad(dtype, s, dy, w, n, i, c));
        }
    }
    return ECG_OK;
}

/* Gradient of one weight: over all records and outputs. */
static double conv_weight_grad(enum ops_dtype dtype, struct ops_conv s, const void *x,
                               const void *dy, int co, int ci, int k) {
    const int c = co / (s.Cout / s.G) * (s.Cin / s.G) + ci;
    double sum = 0;

    for (int n = 0; n < s.B; n++) {
        for (int l = 0; l < s.Lout; l++) {
            const int64_t i = (int64_t)l * s.S - s.P + k;
            if (i < 0 || i >= s.Lin) continue;
            sum += ref_get(dtype, x, ((size_t)n * s.Lin + (size_t)i) * s.Cin + c) *
                   ref_get(dtype, dy, ((size_t)n * s.Lout + l) * s.Cout + co);
        }
    }
    return sum;
}

enum ecg_status ref_conv_bwd_w(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                               const void *x, const void *dy, float *dw, float *db,
                               struct ops_ws ws) {
    (void)dev, (void)ws;
    TRY(ref_check_conv("conv_bwd_w", dtype, s));
    const size_t rows = (size_t)s.B * s.Lout;

    for (int co = 0; co < s.Cout; co++) {
        for (int ci = 0; ci < s.Cin / s.G; ci++) {
            for (int k = 0; k < s.K; k++) {
                float *to = &dw[((size_t)co * (s.Cin / s.G) + ci) * s.K + k];
                *to = (float)(*to + conv_weight_grad(dtype, s, x, dy, co, ci, k));
            }
        }
        if (!db) continue;
        double sum = 0;
        for (size_t r = 0; r < rows; r++) sum += ref_get(dtype, dy, r * s.Cout + co);
        db[co] = (float)(db[co] + sum);
    }
    return ECG_OK;
}
