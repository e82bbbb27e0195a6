/* SPDX-License-Identifier: MIT
 * The losses on the host: kernels/loss_template.h has the formulas, which a device compiles for itself. */
#include "kernels/loss.h"

#define LOSS_FN static
#include "kernels/loss_template.h"

bool ops_loss_takes_targets(enum ops_loss_kind kind) {
    return kind == OPS_LOSS_MSE || kind == OPS_LOSS_HUBER;
}

double ops_loss_label(const struct ops_loss *kind, double z, uint8_t label, double *dz) {
    return loss_label(kind, z, label, dz);
}

double ops_loss_target(const struct ops_loss *kind, double z, double target, double column_scale,
                       double *dz) {
    return loss_target(kind, z, target, column_scale, dz);
}
