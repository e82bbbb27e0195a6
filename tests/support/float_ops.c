/* SPDX-License-Identifier: MIT
 * Convolution and activation in bf16 with float arithmetic, and their mistakes. */
#include "tests/support/float_ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "kernels/bf16.h"
#include "kernels/dropout.h"

static enum mistake now;

static const char *const names[N_MISTAKES] = {
    [MISTAKE_NONE] = "none",
    [MISTAKE_TAP] = "first tap missing",
    [MISTAKE_LAST_TAP] = "last tap missing",
    [MISTAKE_LEAD] = "channels shifted",
    [MISTAKE_MIRROR] = "taps mirrored",
    [MISTAKE_TRANSPOSED] = "weights transposed",
    [MISTAKE_RAW_WEIGHTS] = "weights not rounded",
    [MISTAKE_RAW_ACT] = "act(x) not rounded",
    [MISTAKE_CUT_WEIGHTS] = "weights cut off",
    [MISTAKE_CUT_OUTPUT] = "output cut off",
    [MISTAKE_BF16_SUMS] = "sums in bf16",
    [MISTAKE_NO_BIAS] = "no bias",
    [MISTAKE_LAST_ROW] = "last sample missing",
    [MISTAKE_SLOPE] = "wrong slope",
    [MISTAKE_NO_ADD] = "not added",
    [MISTAKE_NAN] = "one NaN",
};

const char *mistake_name(enum mistake mistake) {
    return names[mistake];
}

static float rounded(float v) {
    return bf16_to_float(bf16_from_float(v));
}

static float cut(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    return bf16_to_float((uint16_t)(bits >> 16));
}

static float weight(const float *w, size_t i) {
    if (now == MISTAKE_RAW_WEIGHTS) return w[i];
    return now == MISTAKE_CUT_WEIGHTS ? cut(w[i]) : rounded(w[i]);
}

static float sum_of(float sum, float product) {
    return now == MISTAKE_BF16_SUMS ? rounded(sum + product) : sum + product;
}

/* Where the group's channel ci, tap k of output channel co stands in w. */
static size_t weight_at(struct ops_conv s, int co, int ci, int k) {
    const int Cg = s.Cin / s.G;
    if (now == MISTAKE_MIRROR) k = s.K - 1 - k;
    if (now == MISTAKE_TRANSPOSED) return ((size_t)co * s.K + k) * Cg + ci;
    return ((size_t)co * Cg + ci) * s.K + k;
}

/* The input channel of ci of co's group. */
static int channel(struct ops_conv s, int co, int ci) {
    const int Cg = s.Cin / s.G;
    return co / (s.Cout / s.G) * Cg + (now == MISTAKE_LEAD ? (ci + 1) % Cg : ci);
}

static int tap_missing(struct ops_conv s, int k) {
    return (now == MISTAKE_TAP && k == 0) || (now == MISTAKE_LAST_TAP && k == s.K - 1);
}

/* The input sample under tap k of output l, -1 outside. */
static int64_t sample(struct ops_conv s, int l, int k) {
    const int64_t i = (int64_t)l * s.S - s.P + k;
    return i >= 0 && i < s.Lin && !tap_missing(s, k) ? i : -1;
}

static void forward(struct ops_conv s, const float *a, const float *w, const float *b, float *y) {
    for (int n = 0; n < s.B; n++) {
        for (int l = 0; l < s.Lout; l++) {
            for (int co = 0; co < s.Cout; co++) {
                float sum = b && now != MISTAKE_NO_BIAS ? b[co] : 0;
                for (int ci = 0; ci < s.Cin / s.G; ci++) {
                    for (int k = 0; k < s.K; k++) {
                        const int64_t i = sample(s, l, k);
                        if (i < 0) continue;
                        const float x =
                            a[((size_t)n * s.Lin + (size_t)i) * s.Cin + channel(s, co, ci)];
                        sum = sum_of(sum, x * weight(w, weight_at(s, co, ci, k)));
                    }
                }
                *y++ = sum;
            }
        }
    }
}

/* Both gradients; dx, dw, db may be NULL. */
static void backward(struct ops_conv s, const float *a, const float *w, const float *dy, float *dx,
                     float *dw, float *db) {
    const int rows = s.B * s.Lout - (now == MISTAKE_LAST_ROW);
    if (dx) memset(dx, 0, (size_t)s.B * s.Lin * s.Cin * sizeof(*dx));
    for (int r = 0; r < s.B * s.Lout; r++) {
        for (int co = 0; co < s.Cout; co++) {
            const float d = dy[(size_t)r * s.Cout + co];
            if (db && r < rows && now != MISTAKE_NO_BIAS) db[co] += d;
            for (int ci = 0; ci < s.Cin / s.G; ci++) {
                for (int k = 0; k < s.K; k++) {
                    const int64_t i = sample(s, r % s.Lout, k);
                    const size_t at = weight_at(s, co, ci, k);
                    if (i < 0) continue;
                    const size_t row = (size_t)(r / s.Lout) * s.Lin + (size_t)i;
                    const size_t x = row * s.Cin + channel(s, co, ci);
                    if (dx) dx[x] = sum_of(dx[x], d * weight(w, at));
                    if (dw && r < rows) dw[at] = sum_of(dw[at], d * a[x]);
                }
            }
        }
    }
}

/* ------------------------------------------------------------------ bf16 to float and back */

static float *floats(size_t n) {
    float *p;
    if (MEM_NEW(&p, n) != ECG_OK) abort();
    return p;
}

static float *widened(const void *x, size_t n) {
    float *p = floats(n);
    for (size_t i = 0; i < n; i++) p[i] = bf16_to_float(((const uint16_t *)x)[i]);
    return p;
}

static void narrow(const float *from, size_t n, void *to) {
    for (size_t i = 0; i < n; i++)
        ((uint16_t *)to)[i] = bf16_from_float(now == MISTAKE_CUT_OUTPUT ? cut(from[i]) : from[i]);
    if (now == MISTAKE_NAN) ((uint16_t *)to)[n / 2] = 0x7fc0;
}

/* a = act(x), and its slope da/dn, either NULL when not wanted. */
static void activate(const struct ops_act *act, struct ops_blc s, const float *x, float *a,
                     float *slope) {
    for (size_t i = 0; i < (size_t)s.B * s.L * s.C; i++) {
        const size_t size = (size_t)s.L * s.C, c = i % (size_t)s.C;
        const float n = act->scale ? fmaf(x[i], act->scale[c], act->shift[c]) : x[i];
        const float p = 1 / (1 + expf(-n));
        float drop = 1;
        if (act->drop > 0)
            ops_dropout_factors(act, (int)(i / size), (uint32_t)(i % size), 1, &drop);
        if (a) a[i] = (act->swish ? n * p : n) * drop;
        if (slope && now == MISTAKE_SLOPE)
            slope[i] = (act->swish ? p : 1) * drop;
        else if (slope)
            slope[i] = (act->swish ? p * (1 + n * (1 - p)) : 1) * drop;
    }
}

static struct ops_blc input_of(struct ops_conv s) {
    return (struct ops_blc){s.B, s.Lin, s.Cin};
}

static size_t n_in(struct ops_conv s) {
    return (size_t)s.B * s.Lin * s.Cin;
}

static size_t n_out(struct ops_conv s) {
    return (size_t)s.B * s.Lout * s.Cout;
}

/* act(x) as a factor. */
static float *factors(const struct ops_act *act, struct ops_conv s, const float *x) {
    float *a = floats(n_in(s));
    activate(act, input_of(s), x, a, NULL);
    for (size_t i = 0; i < n_in(s) && now != MISTAKE_RAW_ACT; i++) a[i] = rounded(a[i]);
    return a;
}

/* ------------------------------------------------------------------ entries */

static enum ecg_status conv_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                const void *x, const float *w, const float *b, void *y,
                                struct ops_ws ws) {
    if (dtype == OPS_F32) return ops_ref()->conv_fwd(dev, dtype, s, x, w, b, y, ws);
    float *a = widened(x, n_in(s)), *sums = floats(n_out(s));
    forward(s, a, w, b, sums);
    narrow(sums, n_out(s), y);
    free(a);
    free(sums);
    return ECG_OK;
}

static enum ecg_status conv_bwd_x(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                  const void *dy, const float *w, void *dx, struct ops_ws ws) {
    if (dtype == OPS_F32) return ops_ref()->conv_bwd_x(dev, dtype, s, dy, w, dx, ws);
    float *d = widened(dy, n_out(s)), *sums = floats(n_in(s));
    backward(s, NULL, w, d, sums, NULL, NULL);
    narrow(sums, n_in(s), dx);
    free(d);
    free(sums);
    return ECG_OK;
}

static enum ecg_status conv_bwd_w(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                  const void *x, const void *dy, float *dw, float *db,
                                  struct ops_ws ws) {
    if (dtype == OPS_F32) return ops_ref()->conv_bwd_w(dev, dtype, s, x, dy, dw, db, ws);
    float *a = widened(x, n_in(s)), *d = widened(dy, n_out(s));
    backward(s, a, NULL, d, NULL, dw, db);
    free(a);
    free(d);
    return ECG_OK;
}

static enum ecg_status act_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                               const struct ops_act *act, const void *x, void *a) {
    if (dtype == OPS_F32) return ops_ref()->act_fwd(dev, dtype, s, act, x, a);
    const size_t n = (size_t)s.B * s.L * s.C;
    float *from = widened(x, n);
    activate(act, s, from, from, NULL);
    narrow(from, n, a);
    free(from);
    return ECG_OK;
}

/* dn (+)= da * slope */
static void through_act(const struct ops_act *act, struct ops_blc s, const float *x,
                        const float *da, int add, void *dn) {
    const size_t n = (size_t)s.B * s.L * s.C;
    float *slope = floats(n), *before = widened(dn, n);
    activate(act, s, x, NULL, slope);
    for (size_t i = 0; i < n; i++)
        slope[i] = slope[i] * da[i] + (add && now != MISTAKE_NO_ADD ? before[i] : 0);
    narrow(slope, n, dn);
    free(slope);
    free(before);
}

static enum ecg_status act_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                               const struct ops_act *act, const void *x, const void *da, int add,
                               void *dn) {
    if (dtype == OPS_F32) return ops_ref()->act_bwd(dev, dtype, s, act, x, da, add, dn);
    const size_t n = (size_t)s.B * s.L * s.C;
    float *from = widened(x, n), *d = widened(da, n);
    through_act(act, s, from, d, add, dn);
    free(from);
    free(d);
    return ECG_OK;
}

/* Mean and variance of channel c over rows [from, to) of y; var may be NULL. */
static void stats(const float *y, int C, int c, int from, int to, float *mean, float *var) {
    double sum = 0, square = 0;
    to -= now == MISTAKE_LAST_ROW;
    for (int r = from; r < to; r++) sum += y[(size_t)r * C + c];
    const double mu = to > from ? sum / (to - from) : 0;
    for (int r = from; r < to; r++) square += pow(y[(size_t)r * C + c] - mu, 2);
    *mean = (float)mu;
    if (var) *var = (float)(to > from ? square / (to - from) : 0);
}

static enum ecg_status act_conv_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                    const struct ops_act *act, const void *x, const float *w,
                                    const void *packed, const float *b, void *y, float *mean,
                                    float *var, float *y_mean, struct ops_ws ws) {
    if (dtype == OPS_F32)
        return ops_ref()->act_conv_fwd(dev, dtype, s, act, x, w, packed, b, y, mean, var, y_mean,
                                       ws);
    float *from = widened(x, n_in(s)), *a = factors(act, s, from), *sums = floats(n_out(s));
    forward(s, a, w, b, sums);
    for (int c = 0; c < s.Cout; c++) {
        if (mean) stats(sums, s.Cout, c, 0, s.B * s.Lout, &mean[c], &var[c]);
        for (int n = 0; n < s.B && y_mean; n++)
            stats(sums, s.Cout, c, n * s.Lout, (n + 1) * s.Lout, &y_mean[n * s.Cout + c], NULL);
    }
    narrow(sums, n_out(s), y);
    free(from);
    free(a);
    free(sums);
    return ECG_OK;
}

static enum ecg_status act_conv_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                    const struct ops_act *act, const void *x, const float *w,
                                    const void *packed, const void *dy,
                                    const struct ops_branch *branch,
                                    const struct ops_behind *behind, float *dw, float *db,
                                    const struct ops_side *side, void *dn,
                                    const struct ops_norm *norm, struct ops_ws ws) {
    if (dtype == OPS_F32)
        return ops_ref()->act_conv_bwd(dev, dtype, s, act, x, w, packed, dy, branch, behind, dw, db,
                                       side, dn, norm, ws);
    TRY(ops_compose_at_y(dev, dtype, s, branch, behind, &dy, &ws));
    float *from = widened(x, n_in(s)), *a = factors(act, s, from), *d = widened(dy, n_out(s));
    float *da = floats(n_in(s));
    backward(s, a, w, d, da, dw, db);
    if (side)
        TRY(ops_ref()->shortcut_bwd(dev, dtype, side->s, s.Lin, s.Cin, side->S, x, side->dy, dn));
    if (dn) through_act(act, input_of(s), from, da, side != NULL, dn);
    float *const mine[] = {from, a, d, da};
    for (size_t i = 0; i < sizeof(mine) / sizeof(mine[0]); i++) free(mine[i]);
    return norm ? ops_ref()->norm_sums(dev, dtype, input_of(s), x, dn, norm, ws) : ECG_OK;
}

const struct ops *float_ops(enum mistake mistake) {
    static struct ops table;
    table = *ops_ref();
    table.name = "float";
    table.conv_fwd = conv_fwd;
    table.conv_bwd_x = conv_bwd_x;
    table.conv_bwd_w = conv_bwd_w;
    table.act_fwd = act_fwd;
    table.act_bwd = act_bwd;
    table.act_conv_fwd = act_conv_fwd;
    table.act_conv_bwd = act_conv_bwd;
    now = mistake;
    return &table;
}
