/* SPDX-License-Identifier: MIT
 * The formulas that kernels/loss.h derives, one function a loss, for host and device: the file that includes this
 * defines LOSS_FN, what stands before each function. Valid C and C++17. */
#include <math.h>
#include <stdint.h>

#include "kernels/ops.h"

LOSS_FN double sigmoid(double z) {
    return 1 / (1 + exp(-z));
}

LOSS_FN double log_sigmoid(double z) {
    return z >= 0 ? -log1p(exp(-z)) : z - log1p(exp(z));
}

/* -(1-q)^gamma log q with q = sig(s). */
LOSS_FN double power_term(double s, double gamma, double *ds) {
    const double q = sigmoid(s), rest = sigmoid(-s), log_q = log_sigmoid(s);
    const double weight = pow(rest, gamma);
    *ds = gamma * weight * q * log_q - weight * rest;
    return -weight * log_q;
}

/* The term of an absent label is a term of -z. */
LOSS_FN double power_term_absent(double z, double gamma, double *dz) {
    const double value = power_term(-z, gamma, dz);
    *dz = -*dz;
    return value;
}

LOSS_FN double hill(const struct ops_loss *k, double z, uint8_t label, double *dz) {
    if (label) {
        return k->focal_margin ? power_term(z - k->margin, k->gamma, dz) : power_term(z, 0, dz);
    }
    const double p = sigmoid(z);
    *dz = p * p * sigmoid(-z) * (2 * k->lambda - 3 * p);
    return (k->lambda - p) * p * p;
}

LOSS_FN double focal(const struct ops_loss *k, double z, uint8_t label, double *dz) {
    const double weight = label ? k->alpha : 1 - k->alpha;
    const double value = label ? power_term(z, k->gamma, dz) : power_term_absent(z, k->gamma, dz);
    *dz *= weight;
    return weight * value;
}

/* 1 - pm = (1 - p) + margin, which keeps its digits where p is close to 1; without a margin the term is the plain
 * power term, whose logarithm needs no such sum. */
LOSS_FN double asl(const struct ops_loss *k, double z, uint8_t label, double *dz) {
    if (label) return power_term(z, k->gamma_pos, dz);
    if (!(k->margin > 0)) return power_term_absent(z, k->gamma_neg, dz);

    const double p = sigmoid(z), pm = p - k->margin;
    *dz = 0;
    if (pm <= 0) return 0; /* a NaN goes on */
    const double rest = sigmoid(-z) + k->margin;
    const double weight = pow(pm, k->gamma_neg), slope = p * sigmoid(-z);
    *dz = slope * (weight / rest - k->gamma_neg * pow(pm, k->gamma_neg - 1) * log(rest));
    return -weight * log(rest);
}

LOSS_FN double loss_target(const struct ops_loss *kind, double z, double target, double column_scale,
                       double *dz) {
    const double d = (z - target) / column_scale;
    if (kind->kind == OPS_LOSS_MSE) {
        *dz = 2 * d / column_scale;
        return d * d;
    }
    if (fabs(d) <= kind->delta) {
        *dz = d / column_scale;
        return 0.5 * d * d;
    }
    *dz = copysign(kind->delta, d) / column_scale;
    return kind->delta * (fabs(d) - 0.5 * kind->delta);
}

LOSS_FN double loss_label(const struct ops_loss *kind, double z, uint8_t label, double *dz) {
    switch (kind->kind) {
    case OPS_LOSS_BCE:
        return label ? power_term(z, 0, dz) : power_term_absent(z, 0, dz);
    case OPS_LOSS_HILL:
        return hill(kind, z, label, dz);
    case OPS_LOSS_FOCAL:
        return focal(kind, z, label, dz);
    case OPS_LOSS_ASL:
        return asl(kind, z, label, dz);
    case OPS_LOSS_MSE:
    case OPS_LOSS_HUBER:
        break;
    }
    return loss_target(kind, z, label, 1, dz);
}
