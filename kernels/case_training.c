/* SPDX-License-Identifier: MIT
 * Families of the case table: what stands at the ends of the network and after it: input, losses, sums and
 * optimisers. */
#include "kernels/case_plan.h"
#include "kernels/loss.h"

/* ------------------------------------------------------------------ input: B, L, C, K = leads of the file (C of
 * them are taken, last one first), S = enum ops_normalize; BF16 */

enum { INPUT_ECG, INPUT_SCALE, INPUT_X };
enum { INPUT_MAX_LEADS = 64 };

static void input_plan(const struct op_case *c, struct case_plan *plan) {
    struct case_buffer *ecg = case_input(plan, INPUT_ECG, "ecg", (size_t)c->B * c->K * c->L);
    ecg->fill = CASE_SAMPLES;
    case_range(ecg, -3000, 5000);
    case_per_sample(ecg);
    struct case_buffer *scale = case_input(plan, INPUT_SCALE, "scale", (size_t)c->B);
    case_range(scale, 0.25, 1);
    case_per_sample(scale);
    const size_t n = (size_t)c->B * c->L * c->C;
    struct case_buffer *x = case_output(plan, INPUT_X, "x", n, 1);
    if (c->L * c->C == 1) x->scale = 1; /* one sample is its own mean */
    case_per_sample(x);
    case_activations(c, plan, INPUT_X, CASE_NONE);
    plan->work = 4.0 * (double)n;
}

static enum ecg_status input_fwd(const struct case_call *r) {
    const struct ops_blc s = {r->c->B, r->c->L, r->c->C};
    int lead[INPUT_MAX_LEADS];
    for (int c = 0; c < r->c->C; c++) lead[c] = r->c->K - 1 - c;
    return r->ops->input_fwd(r->dev, case_dtype(r->c), s, r->c->K, r->p[INPUT_ECG],
                             r->p[INPUT_SCALE], lead, (enum ops_normalize)r->c->S, r->p[INPUT_X]);
}

static const struct op_step input_steps[] = {{"input_fwd", 0, input_fwd}};
CASE_FAMILY(input, input_plan, NULL, input_steps);

/* ------------------------------------------------------------------ loss: B, C = N, K = enum ops_loss_kind; PLAIN
 * EXTREME VARIANT. Targets are integers and logits near 0, so that no step of the gradient check crosses huber's
 * corner at delta 1.5, or 0.75 and 3 with column scales of 0.5 and 2. */

enum { LOSS_Z, LOSS_LABELS, LOSS_TARGETS, LOSS_COLUMN_SCALE, LOSS_SUM, LOSS_INV_KNOWN, LOSS_DZ };

static const double loss_inv_known = 1.0 / 64;

static void loss_plan(const struct op_case *c, struct case_plan *plan) {
    const size_t n = (size_t)c->B * c->C;
    const int targets = ops_loss_takes_targets((enum ops_loss_kind)c->K);
    const double range = c->flags & CASE_EXTREME ? 1e4 : targets ? 0.125 : 4;
    const int plain = c->flags & CASE_PLAIN;

    struct case_buffer *z = case_input(plan, LOSS_Z, "z", n);
    case_range(z, -range, range);
    z->gradient = plain ? CASE_NONE : LOSS_DZ;
    case_input(plan, LOSS_LABELS, "labels", targets ? 0 : n)->fill = CASE_LABELS;
    struct case_buffer *t = case_input(plan, LOSS_TARGETS, "targets", targets ? n : 0);
    t->fill = CASE_TARGETS;
    case_range(t, -2, 2);
    case_range(case_input(plan, LOSS_COLUMN_SCALE, "column_scale", plain ? 0 : (size_t)c->C), 0.5,
               2);
    plan->buffer[LOSS_COLUMN_SCALE].fill = CASE_ENDS;
    struct case_buffer *sum = case_updated(plan, LOSS_SUM, "loss_sum", 1, 1);
    sum->fill = CASE_HOST;
    sum->upstream = LOSS_INV_KNOWN;
    struct case_buffer *inv_known = case_input(plan, LOSS_INV_KNOWN, "inv_known", 1);
    inv_known->fill = CASE_HOST;
    case_range(inv_known, loss_inv_known, loss_inv_known);
    case_output(plan, LOSS_DZ, "dz", plain ? 0 : n, 1);
    plan->work = 40.0 * (double)n;
}

static enum ecg_status loss_step(const struct case_call *r) {
    const struct ops_loss kind = {
        .kind = (enum ops_loss_kind)r->c->K,
        .lambda = 1.5,
        .focal_margin = (r->c->flags & CASE_VARIANT) != 0,
        .margin = r->c->K == OPS_LOSS_ASL ? 0.05 : 1,
        .gamma = 2,
        .alpha = 0.25,
        .gamma_pos = r->c->flags & CASE_VARIANT ? 1 : 0,
        .gamma_neg = 4,
        .delta = 1.5,
    };
    return r->ops->loss(r->dev, &kind, r->c->B, r->c->C, r->p[LOSS_Z], r->p[LOSS_LABELS],
                        r->p[LOSS_TARGETS], r->p[LOSS_COLUMN_SCALE],
                        *(const double *)r->p[LOSS_INV_KNOWN], r->p[LOSS_SUM], r->p[LOSS_DZ]);
}

static const struct op_step loss_steps[] = {{"loss", 0, loss_step}};
CASE_FAMILY(loss, loss_plan, NULL, loss_steps);

/* ------------------------------------------------------------------ sums: L = n */

enum { SUMS_X, SUMS_SUM, SUMS_SCALED, SUMS_ZERO };

static void sums_plan(const struct op_case *c, struct case_plan *plan) {
    const size_t n = (size_t)c->L;
    case_input(plan, SUMS_X, "x", n);
    case_output(plan, SUMS_SUM, "sum", 1, 1)->fill = CASE_HOST;
    case_updated(plan, SUMS_SCALED, "scaled", n, 1);
    case_updated(plan, SUMS_ZERO, "zero", n, 1);
    plan->work = (double)n;
}

static enum ecg_status sumsq(const struct case_call *r) {
    return r->ops->sumsq(r->dev, (size_t)r->c->L, r->p[SUMS_X], r->p[SUMS_SUM]);
}

static enum ecg_status scale(const struct case_call *r) {
    return r->ops->scale(r->dev, (size_t)r->c->L, 0.37, r->p[SUMS_SCALED]);
}

static enum ecg_status fill_zero(const struct case_call *r) {
    return r->ops->fill_zero(r->dev, r->p[SUMS_ZERO], (size_t)r->c->L * sizeof(float));
}

static const struct op_step sums_steps[] = {
    {"sumsq", 0, sumsq},
    {"scale", 0, scale},
    {"fill_zero", 0, fill_zero},
};
CASE_FAMILY(sums, sums_plan, NULL, sums_steps);

/* ------------------------------------------------------------------ adam, sgd: L = n, K = step; adam: VARIANT;
 * sgd: PLAIN = no momentum */

enum { OPTIM_P, OPTIM_G, OPTIM_M, OPTIM_V };

static void adam_plan(const struct op_case *c, struct case_plan *plan) {
    const size_t n = (size_t)c->L;
    case_updated(plan, OPTIM_P, "p", n, 1);
    case_input(plan, OPTIM_G, "g", n);
    case_updated(plan, OPTIM_M, "m", n, 1);
    case_range(case_updated(plan, OPTIM_V, "v", n, 1), 0, 1);
    plan->work = 10.0 * (double)n;
}

static enum ecg_status adam(const struct case_call *r) {
    const struct ops_adam a = {
        .lr = 1e-3,
        .beta1 = 0.9,
        .beta2 = 0.999,
        .eps = 1e-8,
        .weight_decay = 0.1,
        .decoupled = (r->c->flags & CASE_VARIANT) != 0,
        .step = r->c->K,
    };
    return r->ops->adam(r->dev, &a, (size_t)r->c->L, r->p[OPTIM_P], r->p[OPTIM_G], r->p[OPTIM_M],
                        r->p[OPTIM_V]);
}

static const struct op_step adam_steps[] = {{"adam", 0, adam}};
CASE_FAMILY(adam, adam_plan, NULL, adam_steps);

static void sgd_plan(const struct op_case *c, struct case_plan *plan) {
    const size_t n = (size_t)c->L;
    case_updated(plan, OPTIM_P, "p", n, 1);
    case_input(plan, OPTIM_G, "g", n);
    case_updated(plan, OPTIM_M, "m", c->flags & CASE_PLAIN ? 0 : n, 1);
    plan->work = 3.0 * (double)n;
}

static enum ecg_status sgd(const struct case_call *r) {
    const double momentum = r->c->flags & CASE_PLAIN ? 0 : 0.9;
    return r->ops->sgd(r->dev, 0.05, momentum, 0.1, r->c->K, (size_t)r->c->L, r->p[OPTIM_P],
                       r->p[OPTIM_G], r->p[OPTIM_M]);
}

static const struct op_step sgd_steps[] = {{"sgd", 0, sgd}};
CASE_FAMILY(sgd, sgd_plan, NULL, sgd_steps);

/* ------------------------------------------------------------------ ema: L = n, K = 10000 * decay */

enum { EMA_P, EMA_AVERAGE };

static void ema_plan(const struct op_case *c, struct case_plan *plan) {
    const size_t n = (size_t)c->L;
    case_input(plan, EMA_P, "p", n);
    case_updated(plan, EMA_AVERAGE, "average", n, 1);
    plan->work = 3.0 * (double)n;
}

static enum ecg_status ema(const struct case_call *r) {
    return r->ops->ema(r->dev, (size_t)r->c->L, r->c->K / 1e4, r->p[EMA_P], r->p[EMA_AVERAGE]);
}

static const struct op_step ema_steps[] = {{"ema", 0, ema}};
CASE_FAMILY(ema, ema_plan, NULL, ema_steps);
