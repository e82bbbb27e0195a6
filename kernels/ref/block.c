/* SPDX-License-Identifier: MIT
 * The end of a Net1D block: the mean over time that feeds squeeze and excitation (and the head), and the sum of the
 * gated branch and the shortcut, y = gate*h + expand(pool(x)), with the backward pass of each. */
#include "kernels/ref/ref.h"

enum ecg_status ref_mean_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const void *x, float *m) {
    (void)dev;
    TRY(ref_check_blc("mean_fwd", dtype, s));
    for (int b = 0; b < s.B; b++) {
        const size_t start = (size_t)b * s.L * s.C;
        for (int c = 0; c < s.C; c++) {
            double sum = 0;
            for (int l = 0; l < s.L; l++) sum += ref_get(dtype, x, start + (size_t)l * s.C + c);
            m[(size_t)b * s.C + c] = (float)(sum / s.L);
        }
    }
    return ECG_OK;
}

enum ecg_status ref_mean_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const float *dm, void *dx) {
    (void)dev;
    TRY(ref_check_blc("mean_bwd", dtype, s));
    size_t at = 0;
    for (int b = 0; b < s.B; b++) {
        for (int l = 0; l < s.L; l++) {
            for (int c = 0; c < s.C; c++)
                ref_put(dtype, dx, at++, (double)dm[(size_t)b * s.C + c] / s.L);
        }
    }
    return ECG_OK;
}

/* Shapes of a shortcut: `s` the output's, (Li, Ci) the input's. */
static enum ecg_status check_shortcut(const char *op, enum ops_dtype dtype, struct ops_blc s,
                                      int Li, int Ci, int S) {
    TRY(ref_check_blc(op, dtype, s));
    if (Li >= 1 && Ci >= 1 && S >= 1 && Ci <= s.C && s.L == (Li - 1) / S + 1) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "ref: %s: no such shape: (%d, %d, %d) from L %d, C %d, S %d", op,
                    s.B, s.L, s.C, Li, Ci, S);
}

/* Where the maximum of output l of channel c lies: the first of the largest of the window's samples, those outside
 * the record, which begins at element `start` of x, being zeros; -1 when it is one of those. *value is the maximum. */
static int window_max(enum ops_dtype dtype, const void *x, size_t start, int Li, int Ci, int S,
                      int l, int c, double *value) {
    const int first = l * S - (S - 1) / 2;
    int at = -1;

    for (int j = 0; j < S; j++) {
        const int i = first + j;
        const int inside = i >= 0 && i < Li;
        const double v = inside ? ref_get(dtype, x, start + (size_t)i * Ci + c) : 0;
        if (j > 0 && !(v > *value)) continue;
        *value = v;
        at = inside ? i : -1;
    }
    return at;
}

enum ecg_status ref_shortcut_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                 int Li, int Ci, int S, const void *h, const float *gate,
                                 const void *x, void *y) {
    (void)dev;
    TRY(check_shortcut("shortcut_fwd", dtype, s, Li, Ci, S));
    const int c0 = (s.C - Ci) / 2;

    for (int b = 0; b < s.B; b++) {
        const size_t start = (size_t)b * Li * Ci;
        for (int l = 0; l < s.L; l++) {
            const size_t row = ((size_t)b * s.L + l) * s.C;
            for (int c = 0; c < s.C; c++) {
                double pooled = 0;
                if (c >= c0 && c < c0 + Ci)
                    window_max(dtype, x, start, Li, Ci, S, l, c - c0, &pooled);
                const double g = gate ? gate[(size_t)b * s.C + c] : 1;
                ref_put(dtype, y, row + c, g * ref_get(dtype, h, row + c) + pooled);
            }
        }
    }
    return ECG_OK;
}

enum ecg_status ref_shortcut_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                 int Li, int Ci, int S, const void *x, const void *dy, void *dx) {
    (void)dev;
    TRY(check_shortcut("shortcut_bwd", dtype, s, Li, Ci, S));
    const int c0 = (s.C - Ci) / 2;

    for (size_t i = 0; i < (size_t)s.B * Li * Ci; i++) ref_put(dtype, dx, i, 0);
    for (int b = 0; b < s.B; b++) {
        const size_t start = (size_t)b * Li * Ci;
        for (int l = 0; l < s.L; l++) {
            const size_t row = ((size_t)b * s.L + l) * s.C;
            for (int c = 0; c < Ci; c++) {
                double pooled;
                const int i = window_max(dtype, x, start, Li, Ci, S, l, c, &pooled);
                if (i < 0) continue;
                ref_put(dtype, dx, start + (size_t)i * Ci + c, ref_get(dtype, dy, row + c0 + c));
            }
        }
    }
    return ECG_OK;
}

enum ecg_status ref_gate_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const void *dy, const void *h, float *dgate) {
    (void)dev;
    TRY(ref_check_blc("gate_bwd", dtype, s));
    for (int b = 0; b < s.B; b++) {
        const size_t start = (size_t)b * s.L * s.C;
        for (int c = 0; c < s.C; c++) {
            double sum = 0;
            for (int l = 0; l < s.L; l++) {
                const size_t i = start + (size_t)l * s.C + c;
                sum += ref_get(dtype, dy, i) * ref_get(dtype, h, i);
            }
            dgate[(size_t)b * s.C + c] = (float)sum;
        }
    }
    return ECG_OK;
}

enum ecg_status ref_branch_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                               const void *dy, const float *gate, const float *dm, void *dh) {
    (void)dev;
    TRY(ref_check_blc("branch_bwd", dtype, s));
    size_t at = 0;

    for (int b = 0; b < s.B; b++) {
        const float *g = gate + (size_t)b * s.C, *d = dm + (size_t)b * s.C;
        for (int l = 0; l < s.L; l++) {
            for (int c = 0; c < s.C; c++, at++)
                ref_put(dtype, dh, at, g[c] * ref_get(dtype, dy, at) + (double)d[c] / s.L);
        }
    }
    return ECG_OK;
}
