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

enum ecg_status ref_norm_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const void *x, const void *dn, const float *mean, const float *var,
                             const float *gamma, double eps, int add, void *dx, float *dgamma,
                             float *dbeta, struct ops_ws ws) {
    (void)dev, (void)ws;
    TRY(ref_check_blc("norm_bwd", dtype, s));
    const size_t rows = (size_t)s.B * s.L;

    for (int c = 0; c < s.C; c++) {
        const double rstd = 1 / sqrt(var[c] + eps);
        double sum = 0, dot = 0;
        for (size_t r = 0; r < rows; r++) {
            const size_t i = r * s.C + c;
            const double xhat = (ref_get(dtype, x, i) - mean[c]) * rstd;
            sum += ref_get(dtype, dn, i);
            dot += ref_get(dtype, dn, i) * xhat;
        }
        for (size_t r = 0; r < rows; r++) {
            const size_t i = r * s.C + c;
            const double xhat = (ref_get(dtype, x, i) - mean[c]) * rstd;
            const double d =
                ref_get(dtype, dn, i) - sum / (double)rows - xhat * (dot / (double)rows);
            const double before = add ? ref_get(dtype, dx, i) : 0;
            ref_put(dtype, dx, i, gamma[c] * rstd * d + before);
        }
        dgamma[c] = (float)(dgamma[c] + dot);
        dbeta[c] = (float)(dbeta[c] + sum);
    }
    return ECG_OK;
}
