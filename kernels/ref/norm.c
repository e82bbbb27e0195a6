/* SPDX-License-Identifier: MIT
 * Batch normalisation over the R = B*L rows of each channel (Ioffe and Szegedy 2015, as torch.nn.BatchNorm1d).
 *
 * Backward. With xhat = (x - mean) * rstd and n = gamma*xhat + beta, mean and variance depend on every x of the
 * channel. From d mean/dx = 1/R and d rstd/dx = -rstd^2 * xhat / R follows
 *
 *     dx = gamma * rstd * (dn - mean(dn) - xhat * mean(dn * xhat)),   dgamma += sum dn*xhat,   dbeta += sum dn */
#include <math.h>

#include "kernels/ref/ref.h"

enum ecg_status ref_norm_stats(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                               const void *x, float *mean, float *var, struct ops_ws ws) {
    (void)dev, (void)ws;
    TRY(ref_check_blc("norm_stats", dtype, s));
    const size_t rows = (size_t)s.B * s.L;

    for (int c = 0; c < s.C; c++) {
        double sum = 0, square = 0;
        for (size_t r = 0; r < rows; r++) sum += ref_get(dtype, x, r * s.C + c);
        const double mu = sum / (double)rows;
        for (size_t r = 0; r < rows; r++) {
            const double d = ref_get(dtype, x, r * s.C + c) - mu;
            square += d * d;
        }
        mean[c] = (float)mu;
        var[c] = (float)(square / (double)rows);
    }
    return ECG_OK;
}

enum ecg_status ref_norm_fold(struct ops_dev *dev, int C, const float *mean, const float *var,
                              const float *gamma, const float *beta, double eps, float *scale,
                              float *shift, float *running_mean, float *running_var,
                              double momentum, double rows) {
    (void)dev;
    if (running_mean && !(rows > 1))
        return ecg_fail(ECG_ERR_FAIL,
                        "ref: norm_fold: batch statistics of %g row: the unbiased "
                        "variance needs two",
                        rows);
    for (int c = 0; c < C; c++) {
        const double a = gamma[c] / sqrt(var[c] + eps);
        scale[c] = (float)a;
        shift[c] = (float)(beta[c] - mean[c] * a);
        if (!running_mean) continue;
        const double unbiased = var[c] * rows / (rows - 1);
        running_mean[c] = (float)((1 - momentum) * running_mean[c] + momentum * mean[c]);
        running_var[c] = (float)((1 - momentum) * running_var[c] + momentum * unbiased);
    }
    return ECG_OK;
}

enum ecg_status ref_norm_sums(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                              const void *x, const void *dn, const struct ops_norm *norm,
                              struct ops_ws ws) {
    (void)dev, (void)ws;
    TRY(ref_check_blc("norm_sums", dtype, s));
    const size_t rows = (size_t)s.B * s.L;

    for (int c = 0; c < s.C; c++) {
        const double rstd = 1 / sqrt(norm->var[c] + norm->eps), scale = norm->gamma[c] * rstd;
        double sum = 0, dot = 0;
        for (size_t r = 0; r < rows; r++) {
            const size_t i = r * s.C + c;
            const double xhat = (ref_get(dtype, x, i) - norm->mean[c]) * rstd;
            sum += ref_get(dtype, dn, i);
            dot += ref_get(dtype, dn, i) * xhat;
        }
        norm->k[c] = (float)scale;
        norm->k[s.C + c] = (float)(-scale * rstd * (dot / (double)rows));
        norm->k[2 * s.C + c] = (float)(-scale * (sum / (double)rows));
        norm->dgamma[c] = (float)(norm->dgamma[c] + dot);
        norm->dbeta[c] = (float)(norm->dbeta[c] + sum);
    }
    return ECG_OK;
}

enum ecg_status ref_norm_dx(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                            const void *x, const void *dn, const struct ops_norm *norm,
                            const struct ops_side *side, void *dx) {
    TRY(ref_check_blc("norm_dx", dtype, s));
    const size_t rows = (size_t)s.B * s.L;
    const float *k = norm->k;

    if (side) TRY(ref_shortcut_bwd(dev, dtype, side->s, s.L, s.C, side->S, x, side->dy, dx));
    for (size_t r = 0; r < rows; r++) {
        for (int c = 0; c < s.C; c++) {
            const size_t i = r * s.C + c;
            const double d = (double)k[c] * ref_get(dtype, dn, i) +
                             (double)k[s.C + c] * (ref_get(dtype, x, i) - norm->mean[c]) +
                             (double)k[2 * s.C + c];
            ref_put(dtype, dx, i, d + (side ? ref_get(dtype, dx, i) : 0));
        }
    }
    return ECG_OK;
}
