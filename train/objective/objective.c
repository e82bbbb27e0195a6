/* SPDX-License-Identifier: MIT
 * Objectives by name: their published parameters, which columns they read, and how many entries are known. */
#include "train/objective/objective.h"

#include <math.h>

#define LABEL_UNKNOWN 255

/* What follows from an objective's kind. */
static const struct {
    enum objective_reads reads;
    struct ops_loss published;
} objectives[] = {
    [OBJECTIVE_BCE] = {OBJECTIVE_LABELS, {.kind = OPS_LOSS_BCE}},
    [OBJECTIVE_HILL] = {OBJECTIVE_LABELS,
                        {.kind = OPS_LOSS_HILL, .lambda = 1.5, .margin = 1, .gamma = 2}},
    [OBJECTIVE_FOCAL] = {OBJECTIVE_LABELS, {.kind = OPS_LOSS_FOCAL, .gamma = 2, .alpha = 0.25}},
    [OBJECTIVE_ASL] = {OBJECTIVE_LABELS,
                       {.kind = OPS_LOSS_ASL, .gamma_pos = 0, .gamma_neg = 4, .margin = 0.05}},
    [OBJECTIVE_MSE] = {OBJECTIVE_TARGETS, {.kind = OPS_LOSS_MSE}},
    [OBJECTIVE_HUBER] = {OBJECTIVE_TARGETS, {.kind = OPS_LOSS_HUBER, .delta = 1}},
    [OBJECTIVE_SOFTMAX] = {OBJECTIVE_LABELS, {0}},
    [OBJECTIVE_ORDINAL] = {OBJECTIVE_LABELS, {0}},
    [OBJECTIVE_GAUSSIAN] = {OBJECTIVE_TARGETS, {0}},
    [OBJECTIVE_COX] = {OBJECTIVE_SURVIVAL, {0}},
    [OBJECTIVE_HAZARD] = {OBJECTIVE_SURVIVAL, {0}},
};

bool objective_is_elementwise(enum objective_kind kind) {
    return kind <= OBJECTIVE_HUBER;
}

static enum ecg_status check_range(const char *key, double value, double low, double high) {
    if (value >= low && value <= high) return ECG_OK;
    return ecg_fail(ECG_ERR_CONFIG, "%s: %g is outside %g .. %g", key, value, low, high);
}

/* Only what this loss uses; keys of other losses are ignored. */
static enum ecg_status check(enum objective_kind kind, const struct ops_loss *l) {
    switch (kind) {
    case OBJECTIVE_HILL:
        TRY(check_range("loss.lambda", l->lambda, 0, 1e6));
        TRY(check_range("loss.margin", l->margin, -1e6, 1e6));
        return check_range("loss.gamma", l->gamma, 0, 1e6);
    case OBJECTIVE_FOCAL:
        TRY(check_range("loss.gamma", l->gamma, 0, 1e6));
        return check_range("loss.alpha", l->alpha, 0, 1);
    case OBJECTIVE_ASL:
        TRY(check_range("loss.gamma_pos", l->gamma_pos, 0, 1e6));
        TRY(check_range("loss.gamma_neg", l->gamma_neg, 0, 1e6));
        return check_range("loss.margin", l->margin, 0, 1);
    case OBJECTIVE_HUBER:
        return check_range("loss.delta", l->delta, 1e-12, 1e12);
    case OBJECTIVE_BCE:
    case OBJECTIVE_MSE:
    case OBJECTIVE_SOFTMAX:
    case OBJECTIVE_ORDINAL:
    case OBJECTIVE_GAUSSIAN:
    case OBJECTIVE_COX:
    case OBJECTIVE_HAZARD:
        break;
    }
    return ECG_OK;
}

enum ecg_status objective_init(struct objective *o, enum objective_kind kind,
                               const struct ops_loss *parameters) {
    *o = (struct objective){
        .kind = kind, .reads = objectives[kind].reads, .loss = objectives[kind].published};
    if (parameters != NULL) {
        o->loss = *parameters;
        o->loss.kind = objectives[kind].published.kind;
    }
    return check(kind, &o->loss);
}

size_t objective_known(const struct objective *o, int B, int N, const uint8_t *labels,
                       const float *targets) {
    size_t n = (size_t)B * (size_t)N, known = 0;
    switch (o->reads) {
    case OBJECTIVE_LABELS:
        for (size_t i = 0; i < n; i++) known += labels[i] != LABEL_UNKNOWN;
        break;
    case OBJECTIVE_TARGETS:
        for (size_t i = 0; i < n; i++) known += !isnan(targets[i]);
        break;
    case OBJECTIVE_SURVIVAL:
        for (size_t i = 0; i < n; i++) known += labels[i] == 1 && !isnan(targets[i]);
        break;
    }
    return known;
}

enum ecg_status objective_add(const struct objective *o, const struct ops *ops, struct ops_dev *dev,
                              int B, int N, const float *logits, const uint8_t *labels,
                              const float *targets, const float *column_scale, double inv_known,
                              double *loss_sum, float *dlogits) {
    if (!objective_is_elementwise(o->kind))
        return ecg_fail(ECG_ERR_FAIL, "loss.name: this loss is not a sum over outputs");
    return ops->loss(dev, &o->loss, B, N, logits, labels, targets, column_scale, inv_known,
                     loss_sum, dlogits);
}
