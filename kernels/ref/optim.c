/* SPDX-License-Identifier: MIT
 * Sums and updates over the flat parameter arrays, as torch.optim.Adam, AdamW and SGD define them. */
#include <math.h>

#include "kernels/ref/ref.h"

enum ecg_status ref_sumsq(struct ops_dev *dev, size_t n, const float *x, double *sum) {
    (void)dev;
    *sum = 0;
    for (size_t i = 0; i < n; i++) *sum += (double)x[i] * x[i];
    return ECG_OK;
}

enum ecg_status ref_scale(struct ops_dev *dev, size_t n, double a, float *x) {
    (void)dev;
    for (size_t i = 0; i < n; i++) x[i] = (float)(a * x[i]);
    return ECG_OK;
}

enum ecg_status ref_adam(struct ops_dev *dev, const struct ops_adam *a, size_t n, float *p,
                         const float *g, float *m, float *v) {
    (void)dev;
    const double step_size = a->lr / (1 - pow(a->beta1, (double)a->step));
    const double root_correction = sqrt(1 - pow(a->beta2, (double)a->step));

    for (size_t i = 0; i < n; i++) {
        double w = p[i], d = g[i];
        if (a->decoupled)
            w *= 1 - a->lr * a->weight_decay;
        else
            d += a->weight_decay * w;
        m[i] = (float)(a->beta1 * m[i] + (1 - a->beta1) * d);
        v[i] = (float)(a->beta2 * v[i] + (1 - a->beta2) * d * d);
        p[i] = (float)(w - step_size * m[i] / (sqrt(v[i]) / root_correction + a->eps));
    }
    return ECG_OK;
}

enum ecg_status ref_sgd(struct ops_dev *dev, double lr, double momentum, double weight_decay,
                        int64_t step, size_t n, float *p, const float *g, float *m) {
    (void)dev;
    for (size_t i = 0; i < n; i++) {
        double d = g[i] + weight_decay * p[i];
        if (momentum > 0) {
            m[i] = (float)(step == 1 ? d : momentum * m[i] + d);
            d = m[i];
        }
        p[i] = (float)(p[i] - lr * d);
    }
    return ECG_OK;
}

enum ecg_status ref_ema(struct ops_dev *dev, size_t n, double decay, const float *p,
                        float *average) {
    (void)dev;
    for (size_t i = 0; i < n; i++)
        average[i] = (float)(average[i] + (1 - decay) * ((double)p[i] - average[i]));
    return ECG_OK;
}
