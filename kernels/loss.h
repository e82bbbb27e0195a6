/* SPDX-License-Identifier: MIT
 * The losses of one known entry, in double, shared by the host backends: value and derivative by the logit.
 *
 * With p = sig(z) and log p = -log1p(exp(-z)), taken so that neither end of the range overflows or cancels, every
 * value and derivative is finite for |z| up to 1e4 and beyond.
 *
 * The power terms share one function: f(s) = -(1-q)^gamma * log q with q = sig(s), so that
 *     f'(s) = gamma * (1-q)^gamma * q * log q - (1-q)^(gamma+1);
 * nothing is held constant in the derivative (as in the official codes with autograd through both factors).
 *
 *     bce     t=1: f(z), gamma 0                t=0: f(-z), gamma 0
 *     hill    t=1: f(z), gamma 0, or with focal_margin f(z - margin)
 *             t=0: (lambda - p) p^2             (Zhang et al. 2021, arXiv 2112.07368)
 *     focal   t=1: alpha f(z)                   t=0: (1 - alpha) f(-z)       (Lin et al. 2017)
 *     asl     t=1: f(z), gamma_pos              t=0: -pm^gamma_neg log(1 - pm), pm = max(p - margin, 0)
 *                                               (Ridnik et al. 2021)
 *     mse     d^2;    huber  d^2/2 where |d| <= delta, else delta (|d| - delta/2);    d = (z - t) / column scale */
#ifndef KERNELS_LOSS_H
#define KERNELS_LOSS_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

#define OPS_LABEL_UNKNOWN 255

/* Whether the kind reads targets (mse, huber) instead of labels. */
bool ops_loss_takes_targets(enum ops_loss_kind kind);
/* Value at logit z; *dz its derivative. `label` is 0 or 1. */
double ops_loss_label(const struct ops_loss *kind, double z, uint8_t label, double *dz);
/* The same against a number; `column_scale` is 1 where the caller has none. */
double ops_loss_target(const struct ops_loss *kind, double z, double target, double column_scale,
                       double *dz);

#ifdef __cplusplus
}
#endif
#endif
