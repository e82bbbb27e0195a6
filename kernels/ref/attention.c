/* SPDX-License-Identifier: MIT
 * Attention pooling as its formula stands. */
#include <math.h>

#include "kernels/ref/ref.h"

/* sum over C of w*x in row `row` of x. */
static double dot(enum ops_dtype dtype, struct ops_blc s, const void *x, size_t row,
                  const float *w) {
    double sum = 0;
    for (int c = 0; c < s.C; c++) sum += w[c] * ref_get(dtype, x, row * (size_t)s.C + (size_t)c);
    return sum;
}

enum ecg_status ref_attention_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                  const void *x, const float *w, float *a, float *m) {
    (void)dev;
    TRY(ref_check_blc("attention_fwd", dtype, s));
    for (int b = 0; b < s.B; b++) {
        const size_t row = (size_t)b * s.L;
        double most = -INFINITY, total = 0;
        for (int l = 0; l < s.L; l++) most = fmax(most, dot(dtype, s, x, row + l, w));
        for (int l = 0; l < s.L; l++) total += exp(dot(dtype, s, x, row + l, w) - most);
        for (int l = 0; l < s.L; l++)
            a[row + l] = (float)(exp(dot(dtype, s, x, row + l, w) - most) / total);
        for (int c = 0; c < s.C; c++) {
            double sum = 0;
            for (int l = 0; l < s.L; l++)
                sum += a[row + l] * ref_get(dtype, x, (row + l) * s.C + c);
            m[(size_t)b * s.C + c] = (float)sum;
        }
    }
    return ECG_OK;
}

/* de of sample b. */
static void score_gradient(enum ops_dtype dtype, struct ops_blc s, const void *x, int b,
                           const float *a, const float *dm, float *de) {
    const size_t row = (size_t)b * s.L;
    const float *d = dm + (size_t)b * s.C;
    double mean = 0;
    for (int l = 0; l < s.L; l++) mean += a[row + l] * dot(dtype, s, x, row + l, d);
    for (int l = 0; l < s.L; l++)
        de[row + l] = (float)(a[row + l] * (dot(dtype, s, x, row + l, d) - mean));
}

enum ecg_status ref_attention_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                  const void *x, const float *w, const float *a, const float *dm,
                                  float *de, float *dw, void *dx, struct ops_ws ws) {
    (void)dev;
    (void)ws;
    TRY(ref_check_blc("attention_bwd", dtype, s));
    const size_t rows = (size_t)s.B * s.L;
    for (int b = 0; b < s.B; b++) score_gradient(dtype, s, x, b, a, dm, de);
    for (int c = 0; c < s.C && dw; c++) {
        double sum = 0;
        for (size_t r = 0; r < rows; r++) sum += de[r] * ref_get(dtype, x, r * s.C + c);
        dw[c] = (float)(dw[c] + sum);
    }
    for (size_t r = 0; r < rows && dx; r++) {
        const float *d = dm + r / s.L * s.C;
        for (int c = 0; c < s.C; c++)
            ref_put(dtype, dx, r * s.C + c, (double)a[r] * d[c] + (double)de[r] * w[c]);
    }
    return ECG_OK;
}
