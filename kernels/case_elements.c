/* SPDX-License-Identifier: MIT
 * Families of the case table: normalisation, activation, mean, the elementwise functions and the shortcut. */
#include "kernels/case_plan.h"

static struct ops_blc blc(const struct op_case *c) {
    const struct ops_blc s = {c->B, c->L, c->C};
    return s;
}

static size_t size_of(const struct op_case *c) {
    return (size_t)c->B * c->L * c->C;
}

/* ------------------------------------------------------------------ norm: B, L, C; SIDE (Cout, S) IN_PLACE PLAIN
 * EXTREME BF16 */

enum {
    NORM_X,
    NORM_GAMMA,
    NORM_BETA,
    NORM_MEAN,
    NORM_VAR,
    NORM_SCALE,
    NORM_SHIFT,
    NORM_RUN_MEAN,
    NORM_RUN_VAR,
    NORM_Y,
    NORM_DY,
    NORM_DX,
    NORM_DGAMMA,
    NORM_DBETA,
    NORM_K,
    NORM_SIDE_DY
};

static struct ops_side norm_side(const struct op_case *c, const void *dy) {
    const struct ops_side side = {
        {c->B, (c->L - 1) / (c->S > 1 ? c->S : 1) + 1, c->Cout > c->C ? c->Cout : c->C}, c->S, dy};
    return side;
}

static const double norm_eps = 1e-5, norm_momentum = 0.1;

/* With one row xhat is 0, with two it is +1 and -1: dx is what is left of terms that cancel, as large as
 * gamma / sqrt(eps) in the first case. A mean far from 0 costs the digits that x and shift have in common. */
static void norm_plan(const struct op_case *c, struct case_plan *plan) {
    const size_t n = size_of(c), C = (size_t)c->C, rows = (size_t)c->B * c->L;
    const double offset = c->flags & CASE_EXTREME ? 60 : 0, size = offset > 0 ? 2 * offset : 1;
    const size_t n_run = c->flags & CASE_PLAIN ? 0 : C;
    const double cancel = rows <= 2 ? 300 : 1;

    struct case_buffer *x = case_input(plan, NORM_X, "x", n);
    case_range(x, offset - 1, offset + 1);
    x->gradient = c->flags & CASE_SIDE ? CASE_NONE : NORM_DX;
    struct case_buffer *gamma = case_input(plan, NORM_GAMMA, "gamma", C);
    case_range(gamma, 0.5, 1.5);
    gamma->gradient = NORM_DGAMMA;
    case_input(plan, NORM_BETA, "beta", C)->gradient = NORM_DBETA;
    case_output(plan, NORM_MEAN, "mean", C, rows)->scale = size;
    case_output(plan, NORM_VAR, "var", C, rows)->scale = 1;
    case_output(plan, NORM_SCALE, "scale", C, rows);
    case_output(plan, NORM_SHIFT, "shift", C, rows)->scale = size * cancel;
    case_updated(plan, NORM_RUN_MEAN, "running_mean", n_run, rows);
    case_updated(plan, NORM_RUN_VAR, "running_var", n_run, rows);
    struct case_buffer *y = case_output(plan, NORM_Y, "y", n, rows);
    y->upstream = NORM_DY;
    y->scale = size * cancel;
    case_input(plan, NORM_DY, "dy", n);
    struct case_buffer *dx = c->flags & CASE_IN_PLACE ? case_updated(plan, NORM_DX, "dx", n, rows)
                                                      : case_output(plan, NORM_DX, "dx", n, rows);
    if (c->flags & CASE_IN_PLACE) dx->same_as = NORM_DY;
    dx->scale = cancel;
    case_updated(plan, NORM_DGAMMA, "dgamma", C, rows)->scale = size;
    case_updated(plan, NORM_DBETA, "dbeta", C, rows);
    case_output(plan, NORM_K, "k", 3 * C, rows)->scale = cancel * cancel;
    const struct ops_blc side = norm_side(c, NULL).s;
    case_input(plan, NORM_SIDE_DY, "side_dy",
               c->flags & CASE_SIDE ? (size_t)side.B * side.L * side.C : 0);
    case_activations(c, plan, NORM_X, NORM_Y, NORM_DY, NORM_DX, NORM_SIDE_DY, CASE_NONE);
    dx->hands_on = c->flags & CASE_SIDE && c->flags & CASE_BF16;
    dx->beside = 1;
    plan->work = 8.0 * (double)n;
}

static size_t norm_ws(const struct case_call *r) {
    return r->ops->norm_ws(r->dev, blc(r->c));
}

static enum ecg_status norm_stats(const struct case_call *r) {
    return r->ops->norm_stats(r->dev, case_dtype(r->c), blc(r->c), r->p[NORM_X], r->p[NORM_MEAN],
                              r->p[NORM_VAR], r->ws);
}

static enum ecg_status norm_fold(const struct case_call *r) {
    return r->ops->norm_fold(r->dev, r->c->C, r->p[NORM_MEAN], r->p[NORM_VAR], r->p[NORM_GAMMA],
                             r->p[NORM_BETA], norm_eps, r->p[NORM_SCALE], r->p[NORM_SHIFT],
                             r->p[NORM_RUN_MEAN], r->p[NORM_RUN_VAR], norm_momentum,
                             (double)r->c->B * r->c->L);
}

static enum ecg_status norm_apply(const struct case_call *r) {
    const struct ops_act act = {.scale = r->p[NORM_SCALE], .shift = r->p[NORM_SHIFT]};
    return r->ops->act_fwd(r->dev, case_dtype(r->c), blc(r->c), &act, r->p[NORM_X], r->p[NORM_Y]);
}

static const void *norm_dn(const struct case_call *r) {
    return r->c->flags & CASE_IN_PLACE ? r->p[NORM_DX] : r->p[NORM_DY];
}

static struct ops_norm norm_of(const struct case_call *r) {
    const struct ops_norm norm = {r->p[NORM_MEAN], r->p[NORM_VAR],    r->p[NORM_GAMMA], norm_eps,
                                  r->p[NORM_K],    r->p[NORM_DGAMMA], r->p[NORM_DBETA]};
    return norm;
}

static enum ecg_status norm_sums(const struct case_call *r) {
    const struct ops_norm norm = norm_of(r);
    return r->ops->norm_sums(r->dev, case_dtype(r->c), blc(r->c), r->p[NORM_X], norm_dn(r), &norm,
                             r->ws);
}

static enum ecg_status norm_dx(const struct case_call *r) {
    const struct ops_norm norm = norm_of(r);
    const struct ops_side side = norm_side(r->c, r->p[NORM_SIDE_DY]);
    return r->ops->norm_dx(r->dev, case_dtype(r->c), blc(r->c), r->p[NORM_X], norm_dn(r), &norm,
                           side.dy ? &side : NULL, r->p[NORM_DX]);
}

static const struct op_step norm_steps[] = {
    {"norm_stats", 0, norm_stats}, {"norm_fold", 0, norm_fold}, {"act_fwd", 0, norm_apply},
    {"norm_sums", 1, norm_sums},   {"norm_dx", 1, norm_dx},
};
CASE_FAMILY(norm, norm_plan, norm_ws, norm_steps);

/* ------------------------------------------------------------------ act: B, L, C; FOLD SWISH DROP ADD IN_PLACE
 * BF16. The last step takes dn through the folded normalisation, dx = dn*scale, for the gradient check; not in bf16,
 * which has none. */

enum { ACT_X, ACT_SCALE, ACT_SHIFT, ACT_ZERO, ACT_A, ACT_DA, ACT_DN, ACT_DX };

static void act_plan(const struct op_case *c, struct case_plan *plan) {
    const size_t n = size_of(c), n_fold = c->flags & CASE_FOLD ? (size_t)c->C : 0;
    const int in_place = c->flags & CASE_IN_PLACE;

    struct case_buffer *x = case_input(plan, ACT_X, "x", n);
    case_range(x, -4, 4);
    x->gradient = in_place || c->flags & CASE_BF16 ? CASE_NONE : ACT_DX;
    case_per_sample(x);
    case_range(case_input(plan, ACT_SCALE, "scale", n_fold), 0.5, 1.5);
    case_input(plan, ACT_SHIFT, "shift", n_fold);
    case_range(case_input(plan, ACT_ZERO, "zero", n_fold), 0, 0);
    struct case_buffer *a =
        in_place ? case_updated(plan, ACT_A, "a", n, 1) : case_output(plan, ACT_A, "a", n, 1);
    if (in_place) a->same_as = ACT_X;
    a->upstream = ACT_DA;
    case_per_sample(a);
    case_per_sample(case_input(plan, ACT_DA, "da", n));
    struct case_buffer *dn = c->flags & (CASE_ADD | CASE_IN_PLACE)
                                 ? case_updated(plan, ACT_DN, "dn", n, 1)
                                 : case_output(plan, ACT_DN, "dn", n, 1);
    if (in_place) dn->same_as = ACT_DA;
    case_per_sample(dn);
    case_per_sample(case_output(plan, ACT_DX, "dx", c->flags & CASE_BF16 ? 0 : n, 1));
    case_activations(c, plan, ACT_X, ACT_A, ACT_DA, ACT_DN, CASE_NONE);
    plan->work = 10.0 * (double)n;
}

static enum ecg_status act_fwd(const struct case_call *r) {
    const struct ops_act act = case_act(r, r->p[ACT_SCALE], r->p[ACT_SHIFT]);
    const void *x = r->c->flags & CASE_IN_PLACE ? r->p[ACT_A] : r->p[ACT_X];
    return r->ops->act_fwd(r->dev, case_dtype(r->c), blc(r->c), &act, x, r->p[ACT_A]);
}

static enum ecg_status act_bwd(const struct case_call *r) {
    const struct ops_act act = case_act(r, r->p[ACT_SCALE], r->p[ACT_SHIFT]);
    const void *da = r->c->flags & CASE_IN_PLACE ? r->p[ACT_DN] : r->p[ACT_DA];
    return r->ops->act_bwd(r->dev, case_dtype(r->c), blc(r->c), &act, r->p[ACT_X], da,
                           (r->c->flags & CASE_ADD) != 0, r->p[ACT_DN]);
}

static enum ecg_status act_dx(const struct case_call *r) {
    const struct ops_act through = {.scale = r->p[ACT_SCALE], .shift = r->p[ACT_ZERO]};
    if (!r->p[ACT_DX]) return ECG_OK;
    return r->ops->act_fwd(r->dev, case_dtype(r->c), blc(r->c), &through, r->p[ACT_DN],
                           r->p[ACT_DX]);
}

static const struct op_step act_steps[] = {
    {"act_fwd", 0, act_fwd},
    {"act_bwd", 1, act_bwd},
    {"act_fwd", 1, act_dx},
};
CASE_FAMILY(act, act_plan, NULL, act_steps);

/* ------------------------------------------------------------------ mean: B, L, C; BF16 */

enum { MEAN_X, MEAN_M, MEAN_DM, MEAN_DX };

static void mean_plan(const struct op_case *c, struct case_plan *plan) {
    const size_t n = size_of(c), n_mean = (size_t)c->B * c->C;

    struct case_buffer *x = case_input(plan, MEAN_X, "x", n);
    x->gradient = MEAN_DX;
    case_per_sample(x);
    struct case_buffer *m = case_output(plan, MEAN_M, "m", n_mean, (size_t)c->L);
    m->upstream = MEAN_DM;
    m->scale = 1;
    case_per_sample(m);
    case_per_sample(case_input(plan, MEAN_DM, "dm", n_mean));
    case_per_sample(case_output(plan, MEAN_DX, "dx", n, 1));
    case_activations(c, plan, MEAN_X, MEAN_DX, CASE_NONE);
    plan->work = (double)n;
}

static enum ecg_status mean_fwd(const struct case_call *r) {
    return r->ops->mean_fwd(r->dev, case_dtype(r->c), blc(r->c), r->p[MEAN_X], r->p[MEAN_M]);
}

static enum ecg_status mean_bwd(const struct case_call *r) {
    return r->ops->mean_bwd(r->dev, case_dtype(r->c), blc(r->c), r->p[MEAN_DM], r->p[MEAN_DX]);
}

static const struct op_step mean_steps[] = {{"mean_fwd", 0, mean_fwd}, {"mean_bwd", 1, mean_bwd}};
CASE_FAMILY(mean, mean_plan, NULL, mean_steps);

/* ------------------------------------------------------------------ swish, sigmoid: L = n; IN_PLACE EXTREME */

enum { POINT_X, POINT_Y, POINT_DY, POINT_DX };

static void pointwise_plan(const struct op_case *c, struct case_plan *plan) {
    const size_t n = (size_t)c->L;
    const double range = c->flags & CASE_EXTREME ? 200 : 4;
    const int in_place = c->flags & CASE_IN_PLACE;

    struct case_buffer *x = case_input(plan, POINT_X, "x", n);
    case_range(x, -range, range);
    x->gradient = in_place ? CASE_NONE : POINT_DX;
    struct case_buffer *y =
        in_place ? case_updated(plan, POINT_Y, "y", n, 1) : case_output(plan, POINT_Y, "y", n, 1);
    y->upstream = POINT_DY;
    case_input(plan, POINT_DY, "dy", n);
    struct case_buffer *dx = in_place ? case_updated(plan, POINT_DX, "dx", n, 1)
                                      : case_output(plan, POINT_DX, "dx", n, 1);
    y->scale = dx->scale = 1; /* the tails' digits far below this do not count */
    if (in_place) {
        y->same_as = POINT_X;
        dx->same_as = POINT_DY;
    }
    plan->work = 10.0 * (double)n;
}

static const float *pointwise_in(const struct case_call *r, int in, int out) {
    return r->p[r->c->flags & CASE_IN_PLACE ? out : in];
}

static enum ecg_status swish_fwd(const struct case_call *r) {
    return r->ops->swish_fwd(r->dev, (size_t)r->c->L, pointwise_in(r, POINT_X, POINT_Y),
                             r->p[POINT_Y]);
}

static enum ecg_status swish_bwd(const struct case_call *r) {
    return r->ops->swish_bwd(r->dev, (size_t)r->c->L, r->p[POINT_X],
                             pointwise_in(r, POINT_DY, POINT_DX), r->p[POINT_DX]);
}

static enum ecg_status sigmoid_fwd(const struct case_call *r) {
    return r->ops->sigmoid_fwd(r->dev, (size_t)r->c->L, pointwise_in(r, POINT_X, POINT_Y),
                               r->p[POINT_Y]);
}

static enum ecg_status sigmoid_bwd(const struct case_call *r) {
    return r->ops->sigmoid_bwd(r->dev, (size_t)r->c->L, r->p[POINT_Y],
                               pointwise_in(r, POINT_DY, POINT_DX), r->p[POINT_DX]);
}

static const struct op_step swish_steps[] = {
    {"swish_fwd", 0, swish_fwd},
    {"swish_bwd", 1, swish_bwd},
};
CASE_FAMILY(swish, pointwise_plan, NULL, swish_steps);

static const struct op_step sigmoid_steps[] = {
    {"sigmoid_fwd", 0, sigmoid_fwd},
    {"sigmoid_bwd", 1, sigmoid_bwd},
};
CASE_FAMILY(sigmoid, pointwise_plan, NULL, sigmoid_steps);

/* ------------------------------------------------------------------ shortcut: B, L = Li, C = Ci, Cout, S; PLAIN
 * TIES IN_PLACE STATS BF16. The block's tail: y = gate*h + expand(pool(x)) beside the mean m of h, whose gradient comes back
 * together with that of h. */

enum {
    SHORT_H,
    SHORT_GATE,
    SHORT_X,
    SHORT_Y,
    SHORT_M,
    SHORT_DY,
    SHORT_DM,
    SHORT_DX,
    SHORT_DGATE,
    SHORT_DH,
    SHORT_MEAN,
    SHORT_VAR
};

static struct ops_blc shortcut_out(const struct op_case *c) {
    const struct ops_blc s = {c->B, (c->L + c->S - 1) / c->S, c->Cout};
    return s;
}

static void shortcut_plan(const struct op_case *c, struct case_plan *plan) {
    const struct ops_blc s = shortcut_out(c);
    const size_t n_x = size_of(c), n_y = (size_t)s.B * s.L * s.C, n_gate = (size_t)s.B * s.C;
    const size_t gated = c->flags & CASE_PLAIN ? 0 : 1;

    struct case_buffer *h = case_input(plan, SHORT_H, "h", n_y);
    h->gradient = gated ? SHORT_DH : CASE_NONE;
    struct case_buffer *gate = case_input(plan, SHORT_GATE, "gate", n_gate * gated);
    gate->gradient = SHORT_DGATE;
    case_range(gate, 0, 1);
    struct case_buffer *x = case_input(plan, SHORT_X, "x", n_x);
    x->gradient = SHORT_DX;
    x->fill = c->flags & CASE_TIES ? CASE_TIED : CASE_SEPARATED;
    x->row = c->C;
    case_output(plan, SHORT_Y, "y", n_y, 2)->upstream = SHORT_DY;
    struct case_buffer *m = case_output(plan, SHORT_M, "m", n_gate, (size_t)s.L);
    m->upstream = gated ? SHORT_DM : CASE_NONE;
    m->scale = 1;
    case_input(plan, SHORT_DY, "dy", n_y);
    case_input(plan, SHORT_DM, "dm", n_gate);
    case_output(plan, SHORT_DX, "dx", n_x, 1);
    case_output(plan, SHORT_DGATE, "dgate", n_gate * gated, (size_t)s.L)->scale = 1;
    struct case_buffer *dh = case_output(plan, SHORT_DH, "dh", n_y * gated, 2);
    if (c->flags & CASE_IN_PLACE) {
        dh->role = CASE_UPDATED;
        dh->same_as = SHORT_DY;
    }
    for (int i = 0; i < plan->n; i++) plan->buffer[i].per_sample = 1;
    const size_t rows = (size_t)s.B * s.L, n_stats = c->flags & CASE_STATS ? (size_t)s.C : 0;
    case_output(plan, SHORT_MEAN, "mean", n_stats, rows)->scale = 1;
    case_output(plan, SHORT_VAR, "var", n_stats, rows)->scale = 1;
    case_mean_of(c, &plan->buffer[SHORT_MEAN], SHORT_Y, rows, 1);
    case_mean_of(c, &plan->buffer[SHORT_VAR], SHORT_Y, rows, 2);
    case_activations(c, plan, SHORT_H, SHORT_X, SHORT_Y, SHORT_DY, SHORT_DX, SHORT_DH, CASE_NONE);
    plan->work = 4.0 * (double)n_y;
}

static size_t shortcut_ws(const struct case_call *r) {
    return r->c->flags & CASE_STATS ? r->ops->norm_ws(r->dev, shortcut_out(r->c)) : 0;
}

static enum ecg_status shortcut_fwd(const struct case_call *r) {
    if (r->c->flags & CASE_STATS) return ECG_OK;
    return r->ops->shortcut_fwd(r->dev, case_dtype(r->c), shortcut_out(r->c), r->c->L, r->c->C,
                                r->c->S, r->p[SHORT_H], r->p[SHORT_GATE], r->p[SHORT_X],
                                r->p[SHORT_Y]);
}

static enum ecg_status tail_fwd(const struct case_call *r) {
    if (!(r->c->flags & CASE_STATS)) return ECG_OK;
    return r->ops->tail_fwd(r->dev, case_dtype(r->c), shortcut_out(r->c), r->c->L, r->c->C, r->c->S,
                            r->p[SHORT_H], r->p[SHORT_GATE], r->p[SHORT_X], r->p[SHORT_Y],
                            r->p[SHORT_MEAN], r->p[SHORT_VAR], r->ws);
}

static enum ecg_status shortcut_mean(const struct case_call *r) {
    return r->ops->mean_fwd(r->dev, case_dtype(r->c), shortcut_out(r->c), r->p[SHORT_H],
                            r->p[SHORT_M]);
}

static enum ecg_status shortcut_bwd(const struct case_call *r) {
    return r->ops->shortcut_bwd(r->dev, case_dtype(r->c), shortcut_out(r->c), r->c->L, r->c->C,
                                r->c->S, r->p[SHORT_X], r->p[SHORT_DY], r->p[SHORT_DX]);
}

static enum ecg_status gate_bwd(const struct case_call *r) {
    if (!r->p[SHORT_DGATE]) return ECG_OK;
    return r->ops->gate_bwd(r->dev, case_dtype(r->c), shortcut_out(r->c), r->p[SHORT_DY],
                            r->p[SHORT_H], r->p[SHORT_DGATE]);
}

static enum ecg_status branch_bwd(const struct case_call *r) {
    const void *dy = r->p[r->c->flags & CASE_IN_PLACE ? SHORT_DH : SHORT_DY];
    if (!r->p[SHORT_DH]) return ECG_OK;
    return r->ops->branch_bwd(r->dev, case_dtype(r->c), shortcut_out(r->c), dy, r->p[SHORT_GATE],
                              r->p[SHORT_DM], r->p[SHORT_DH]);
}

static const struct op_step shortcut_steps[] = {
    {"shortcut_fwd", 0, shortcut_fwd}, {"tail_fwd", 0, tail_fwd}, {"mean_fwd", 0, shortcut_mean},
    {"shortcut_bwd", 1, shortcut_bwd}, {"gate_bwd", 1, gate_bwd}, {"branch_bwd", 1, branch_bwd},
};
CASE_FAMILY(shortcut, shortcut_plan, shortcut_ws, shortcut_steps);
