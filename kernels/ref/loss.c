/* SPDX-License-Identifier: MIT
 * Losses over a batch: the entries of kernels/loss.h, one by one, those that are unknown left out. */
#include "kernels/loss.h"

#include <math.h>

#include "kernels/ref/ref.h"

/* Value and derivative of entry i of column n; false when it is unknown. */
static bool entry(const struct ops_loss *kind, double z, const uint8_t *labels,
                  const float *targets, const float *column_scale, size_t i, int n, double *value,
                  double *dz) {
    if (ops_loss_takes_targets(kind->kind)) {
        if (isnan(targets[i])) return false;
        *value = ops_loss_target(kind, z, targets[i], column_scale ? column_scale[n] : 1, dz);
        return true;
    }
    if (labels[i] == OPS_LABEL_UNKNOWN) return false;
    *value = ops_loss_label(kind, z, labels[i], dz);
    return true;
}

enum ecg_status ref_loss(struct ops_dev *dev, const struct ops_loss *kind, int B, int N,
                         const float *logits, const uint8_t *labels, const float *targets,
                         const float *column_scale, double inv_known, double *loss_sum,
                         float *dlogits) {
    (void)dev;
    if (ops_loss_takes_targets(kind->kind) ? !targets : !labels)
        return ecg_fail(ECG_ERR_FAIL, "ref: loss: kind %d without its labels or targets",
                        (int)kind->kind);
    for (int b = 0; b < B; b++) {
        for (int n = 0; n < N; n++) {
            const size_t i = (size_t)b * N + n;
            double value = 0, dz = 0;
            if (entry(kind, logits[i], labels, targets, column_scale, i, n, &value, &dz))
                *loss_sum += value;
            if (dlogits) dlogits[i] = (float)(inv_known * dz);
        }
    }
    return ECG_OK;
}
