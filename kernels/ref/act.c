/* SPDX-License-Identifier: MIT
 * What stands between a stored tensor and a convolution's input, and the elementwise functions.
 *
 *     swish(n) = n * sig(n)        swish'(n) = sig(n) * (1 + n * (1 - sig(n)))
 *     sig(n) = 1/(1 + exp(-n))     sig'(n) = sig(n) * (1 - sig(n)) */
#include <math.h>

#include "kernels/dropout.h"
#include "kernels/ref/ref.h"

double ref_sigmoid(double z) {
    return 1 / (1 + exp(-z));
}

static double swish(double n) {
    return n * ref_sigmoid(n);
}

static double swish_slope(double n) {
    const double p = ref_sigmoid(n);
    return p * (1 + n * ref_sigmoid(-n));
}

/* The normalised value of element i of channel c. */
static double normalised(const struct ops_act *act, double x, int c) {
    return act->scale ? x * act->scale[c] + act->shift[c] : x;
}

/* Dropout's factor of element i of sample b. */
static double dropout(const struct ops_act *act, int b, size_t i) {
    float factor = 1;
    if (act->drop > 0) ops_dropout_factors(act, b, (uint32_t)i, 1, &factor);
    return factor;
}

enum ecg_status ref_act_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                            const struct ops_act *act, const void *x, void *a) {
    (void)dev;
    TRY(ref_check_blc("act_fwd", dtype, s));
    const size_t size = (size_t)s.L * s.C;

    for (int b = 0; b < s.B; b++) {
        for (size_t i = 0; i < size; i++) {
            const size_t at = b * size + i;
            const double n = normalised(act, ref_get(dtype, x, at), (int)(i % s.C));
            ref_put(dtype, a, at, (act->swish ? swish(n) : n) * dropout(act, b, i));
        }
    }
    return ECG_OK;
}

enum ecg_status ref_act_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                            const struct ops_act *act, const void *x, const void *da, int add,
                            void *dn) {
    (void)dev;
    TRY(ref_check_blc("act_bwd", dtype, s));
    const size_t size = (size_t)s.L * s.C;

    for (int b = 0; b < s.B; b++) {
        for (size_t i = 0; i < size; i++) {
            const size_t at = b * size + i;
            const double n = normalised(act, ref_get(dtype, x, at), (int)(i % s.C));
            const double slope = dropout(act, b, i) * (act->swish ? swish_slope(n) : 1);
            const double before = add ? ref_get(dtype, dn, at) : 0;
            ref_put(dtype, dn, at, ref_get(dtype, da, at) * slope + before);
        }
    }
    return ECG_OK;
}

enum ecg_status ref_swish_fwd(struct ops_dev *dev, size_t n, const float *x, float *y) {
    (void)dev;
    for (size_t i = 0; i < n; i++) y[i] = (float)swish(x[i]);
    return ECG_OK;
}

enum ecg_status ref_swish_bwd(struct ops_dev *dev, size_t n, const float *x, const float *dy,
                              float *dx) {
    (void)dev;
    for (size_t i = 0; i < n; i++) dx[i] = (float)(dy[i] * swish_slope(x[i]));
    return ECG_OK;
}

enum ecg_status ref_sigmoid_fwd(struct ops_dev *dev, size_t n, const float *x, float *y) {
    (void)dev;
    for (size_t i = 0; i < n; i++) y[i] = (float)ref_sigmoid(x[i]);
    return ECG_OK;
}

enum ecg_status ref_sigmoid_bwd(struct ops_dev *dev, size_t n, const float *y, const float *dy,
                                float *dx) {
    (void)dev;
    for (size_t i = 0; i < n; i++) dx[i] = (float)((double)dy[i] * y[i] * (1 - (double)y[i]));
    return ECG_OK;
}
