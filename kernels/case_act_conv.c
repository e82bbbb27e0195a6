/* SPDX-License-Identifier: MIT
 * Family act_conv: a convolution with what stands before, behind and beside it. B, L, C, Cout, K, S, G as conv; FOLD
 * SWISH DROP STATS Y_MEAN FROZEN NO_DN PLAIN PACKED BRANCH SIDE BEHIND SUMS BF16. Steps of its own let differences by x be compared: what gate and
 * shortcut make of y and x, and dn through the folded normalisation, dx = dn*scale; not in bf16, where none are taken.
 * The shortcut has stride 2 where the convolution widens. */
#include <math.h>

#include "core/mem.h"
#include "kernels/case_plan.h"

enum {
    AC_X,
    AC_SCALE,
    AC_SHIFT,
    AC_W,
    AC_B,
    AC_Y,
    AC_MEAN,
    AC_VAR,
    AC_Y_MEAN,
    AC_DY,
    AC_DN,
    AC_DW,
    AC_DB,
    AC_NO_SHIFT,
    AC_DX,
    AC_GATE,
    AC_DM,
    AC_GATED,
    AC_SIDE_DY,
    AC_ZEROS,
    AC_SIDE_Y,
    AC_BEHIND_Y, /* the normalisation behind */
    AC_BEHIND_MEAN,
    AC_BEHIND_K,
    AC_X_MEAN, /* the one before */
    AC_X_VAR,
    AC_GAMMA,
    AC_K,
    AC_DGAMMA,
    AC_DBETA
};

/* The shortcut from x. */
static struct ops_side act_conv_side(const struct op_case *c, const void *dy) {
    const int S = c->Cout > c->C ? 2 : 1;
    return (struct ops_side){{c->B, (c->L - 1) / S + 1, c->Cout > c->C ? c->Cout : c->C}, S, dy};
}

static size_t elements(struct ops_blc s) {
    return (size_t)s.B * (size_t)s.L * (size_t)s.C;
}

static void act_conv_inputs(const struct op_case *c, struct case_plan *plan) {
    const struct ops_conv s = case_conv(c);
    const int frozen = c->flags & CASE_FROZEN, no_dn = c->flags & CASE_NO_DN;
    const size_t n_fold = c->flags & CASE_FOLD ? (size_t)s.Cin : 0;

    struct case_buffer *x = case_input(plan, AC_X, "x", (size_t)s.B * s.Lin * s.Cin);
    case_per_sample(x);
    x->gradient = no_dn || c->flags & CASE_BF16 ? CASE_NONE : AC_DX;
    if (c->flags & CASE_SIDE) {
        x->fill = CASE_SEPARATED;
        x->row = c->C;
    }
    case_range(case_input(plan, AC_SCALE, "scale", n_fold), 0.5, 1.5);
    case_input(plan, AC_SHIFT, "shift", n_fold);
    case_range(case_input(plan, AC_NO_SHIFT, "zero", n_fold), 0, 0);
    case_input(plan, AC_W, "w", (size_t)s.Cout * (s.Cin / s.G) * s.K)->gradient =
        frozen ? CASE_NONE : AC_DW;
    case_input(plan, AC_B, "b", c->flags & CASE_PLAIN ? 0 : (size_t)s.Cout)->gradient =
        frozen ? CASE_NONE : AC_DB;
    case_per_sample(case_input(plan, AC_DY, "dy", (size_t)s.B * s.Lout * s.Cout));
}

static void act_conv_surroundings(const struct op_case *c, struct case_plan *plan) {
    const struct ops_conv s = case_conv(c);
    const size_t n_y = (size_t)s.B * s.Lout * s.Cout, checked = c->flags & CASE_BF16 ? 0 : 1;
    const size_t n_gate = c->flags & CASE_BRANCH ? (size_t)s.B * s.Cout : 0;
    const size_t n_side = c->flags & CASE_SIDE ? elements(act_conv_side(c, NULL).s) : 0;
    const size_t n_zeros = n_gate + n_side > 0 ? (n_y > n_side ? n_y : n_side) : 0;

    case_per_sample(case_input(plan, AC_GATE, "gate", n_gate));
    case_range(&plan->buffer[AC_GATE], 0, 1);
    case_per_sample(case_input(plan, AC_DM, "dm", n_gate));
    case_per_sample(case_input(plan, AC_SIDE_DY, "side_dy", n_side));
    case_per_sample(case_input(plan, AC_ZEROS, "zeros", n_zeros * checked));
    case_range(&plan->buffer[AC_ZEROS], 0, 0);
    struct case_buffer *gated =
        case_output(plan, AC_GATED, "gated", n_gate > 0 ? n_y * checked : 0, 2);
    case_per_sample(gated);
    gated->upstream = AC_DY;
    struct case_buffer *side = case_output(plan, AC_SIDE_Y, "side_y", n_side * checked, 2);
    case_per_sample(side);
    side->upstream = AC_SIDE_DY;
}

/* The two normalisations. |x - mean| <= 2, gamma and 1/sd at most 1/2 each: no product in a sum is larger than dn, and so
 * are the means in k. */
static void act_conv_norms(const struct op_case *c, struct case_plan *plan) {
    const struct ops_conv s = case_conv(c);
    const size_t rows = (size_t)s.B * s.Lin, behind = c->flags & CASE_BEHIND ? 1 : 0;
    const size_t Ci = c->flags & CASE_SUMS ? (size_t)s.Cin : 0, Co = behind * (size_t)s.Cout;

    case_input(plan, AC_BEHIND_Y, "behind_y", behind * s.B * s.Lout * s.Cout);
    case_per_sample(&plan->buffer[AC_BEHIND_Y]);
    case_input(plan, AC_BEHIND_MEAN, "behind_mean", Co);
    case_range(case_input(plan, AC_BEHIND_K, "behind_k", 3 * Co), -0.5, 0.5);
    case_input(plan, AC_X_MEAN, "x_mean", Ci);
    case_range(case_input(plan, AC_X_VAR, "x_var", Ci), 4, 8);
    case_range(case_input(plan, AC_GAMMA, "gamma", Ci), -0.5, 0.5);
    case_output(plan, AC_K, "k", 3 * Ci, rows)->scale = 1;
    case_updated(plan, AC_DGAMMA, "dgamma", Ci, rows);
    case_updated(plan, AC_DBETA, "dbeta", Ci, rows);
    case_mean_of(c, &plan->buffer[AC_K], AC_DN, rows, 1);
    case_mean_of(c, &plan->buffer[AC_DGAMMA], AC_DN, rows, 0);
    case_mean_of(c, &plan->buffer[AC_DBETA], AC_DN, rows, 0);
}

/* Bound of |act(x)| where it has to be rounded; 0 where it is x itself. Separated x lie in [-2, 2]. */
static double act_conv_factor(const struct op_case *c) {
    const double x = c->flags & CASE_SIDE ? 2 : 1;
    if (!(c->flags & (CASE_FOLD | CASE_SWISH | CASE_DROP))) return 0;
    return (c->flags & CASE_FOLD ? 1.5 * x + 1 : x) / (c->flags & CASE_DROP ? 0.75 : 1);
}

/* What is particular about a bf16 case. Weights and dy lie in [-1, 1], so no product is larger than act(x); what a
 * branch or a normalisation behind makes of dy is another factor that has to be rounded, and lies in [-2, 2]. */
static void act_conv_roundings(const struct op_case *c, struct case_plan *plan) {
    const struct ops_conv s = case_conv(c);
    const size_t n_x = (size_t)s.B * s.Lin * s.Cin, rows = (size_t)s.B * s.Lout;
    const size_t n_y = rows * (size_t)s.Cout;

    case_activations(c, plan, AC_X, AC_Y, AC_DY, AC_DN, AC_SIDE_DY, AC_BEHIND_Y, CASE_NONE);
    case_rounded_factors(c, &plan->buffer[AC_Y], act_conv_factor(c), n_x);
    case_rounded_factors(c, &plan->buffer[AC_DW], act_conv_factor(c), n_x);
    if (c->flags & (CASE_BRANCH | CASE_BEHIND)) {
        const double x = fmax(act_conv_factor(c), c->flags & CASE_SIDE ? 2 : 1);
        case_rounded_factors(c, &plan->buffer[AC_DN], 2, n_y);
        case_rounded_factors(c, &plan->buffer[AC_DB], 2, n_y);
        case_rounded_factors(c, &plan->buffer[AC_DW], 2 * x, n_x < n_y ? n_x : n_y);
    }
    plan->buffer[AC_DN].hands_on = (c->flags & CASE_BF16) != 0;
    plan->buffer[AC_DN].beside = c->flags & CASE_SIDE ? 1 : 0;
    case_mean_of(c, &plan->buffer[AC_MEAN], AC_Y, rows, 1);
    case_mean_of(c, &plan->buffer[AC_VAR], AC_Y, rows, 2);
    case_mean_of(c, &plan->buffer[AC_Y_MEAN], AC_Y, (size_t)s.Lout, 1);
}

static void act_conv_plan(const struct op_case *c, struct case_plan *plan) {
    const struct ops_conv s = case_conv(c);
    const size_t n_y = (size_t)s.B * s.Lout * s.Cout, rows = (size_t)s.B * s.Lout;
    const size_t n_x = (size_t)s.B * s.Lin * s.Cin, Co = (size_t)s.Cout;
    const size_t terms = (size_t)(s.Cin / s.G) * s.K, back = (size_t)(s.Cout / s.G) * s.K;
    const size_t n_dx = c->flags & CASE_NO_DN ? 0 : n_x, trained = c->flags & CASE_FROZEN ? 0 : 1;
    const size_t n_stats = c->flags & CASE_STATS ? Co : 0;

    act_conv_inputs(c, plan);
    act_conv_surroundings(c, plan);
    struct case_buffer *y = case_output(plan, AC_Y, "y", n_y, terms);
    case_per_sample(y);
    y->upstream = c->flags & CASE_BRANCH ? CASE_NONE : AC_DY;
    case_output(plan, AC_MEAN, "mean", n_stats, rows + terms)->scale = 1;
    case_output(plan, AC_VAR, "var", n_stats, rows + terms)->scale = 1;
    struct case_buffer *y_mean =
        case_output(plan, AC_Y_MEAN, "y_mean", c->flags & CASE_Y_MEAN ? s.B * Co : 0, terms);
    case_per_sample(y_mean);
    y_mean->scale = 1;
    y_mean->upstream = c->flags & CASE_BRANCH ? AC_DM : CASE_NONE;
    case_per_sample(case_output(plan, AC_DN, "dn", n_dx, back));
    case_per_sample(case_output(plan, AC_DX, "dx", c->flags & CASE_BF16 ? 0 : n_dx, back));
    case_updated(plan, AC_DW, "dw", Co * terms * trained, rows);
    case_updated(plan, AC_DB, "db", c->flags & CASE_PLAIN ? 0 : Co * trained, rows);
    act_conv_norms(c, plan);
    act_conv_roundings(c, plan);
    plan->work = (double)n_y * (double)terms + 10.0 * (double)n_x;
}

static size_t round_up(size_t n) {
    return (n + MEM_ALIGN - 1) / MEM_ALIGN * MEM_ALIGN;
}

/* Packed weights stand in front of the scratch memory. */
static size_t act_conv_packed(const struct case_call *r) {
    if (!(r->c->flags & CASE_PACKED)) return 0;
    return round_up(r->ops->conv_packed_bytes(r->dev, case_dtype(r->c), case_conv(r->c), 1));
}

/* Behind them the room for the gradient at y. */
static size_t act_conv_at_y(const struct case_call *r) {
    const struct ops_conv s = case_conv(r->c);
    if (!(r->c->flags & CASE_BEHIND)) return 0;
    return round_up((size_t)s.B * s.Lout * s.Cout * (r->c->flags & CASE_BF16 ? 2 : 4));
}

static size_t act_conv_ws(const struct case_call *r) {
    return act_conv_packed(r) + act_conv_at_y(r) +
           r->ops->conv_ws(r->dev, case_dtype(r->c), case_conv(r->c),
                           (r->c->flags & CASE_PACKED) != 0, 1);
}

static const void *act_conv_weights(const struct case_call *r, struct ops_ws *ws) {
    const size_t packed = act_conv_packed(r), n = packed + act_conv_at_y(r);
    *ws = (struct ops_ws){(char *)r->ws.p + n, r->ws.n - n};
    return packed > 0 ? r->ws.p : NULL;
}

static enum ecg_status act_conv_pack(const struct case_call *r) {
    struct ops_ws ws;
    if (act_conv_weights(r, &ws) == NULL) return ECG_OK;
    const struct ops_pack pack = {
        .s = case_conv(r->c), .w = r->p[AC_W], .backward = 1, .packed = r->ws.p};
    return r->ops->conv_pack(r->dev, case_dtype(r->c), 1, &pack, ws);
}

static enum ecg_status act_conv_fwd(const struct case_call *r) {
    const struct ops_act act = case_act(r, r->p[AC_SCALE], r->p[AC_SHIFT]);
    struct ops_ws ws;
    const void *packed = act_conv_weights(r, &ws);
    return r->ops->act_conv_fwd(r->dev, case_dtype(r->c), case_conv(r->c), &act, r->p[AC_X],
                                r->p[AC_W], packed, r->p[AC_B], r->p[AC_Y], r->p[AC_MEAN],
                                r->p[AC_VAR], r->p[AC_Y_MEAN], ws);
}

static enum ecg_status act_conv_gated(const struct case_call *r) {
    const struct ops_blc s = {r->c->B, case_conv(r->c).Lout, r->c->Cout};
    if (!r->p[AC_GATED]) return ECG_OK;
    return r->ops->shortcut_fwd(r->dev, case_dtype(r->c), s, s.L, s.C, 1, r->p[AC_Y], r->p[AC_GATE],
                                r->p[AC_ZEROS], r->p[AC_GATED]);
}

static enum ecg_status act_conv_shortcut(const struct case_call *r) {
    const struct ops_side side = act_conv_side(r->c, NULL);
    if (!r->p[AC_SIDE_Y]) return ECG_OK;
    return r->ops->shortcut_fwd(r->dev, case_dtype(r->c), side.s, r->c->L, r->c->C, side.S,
                                r->p[AC_ZEROS], NULL, r->p[AC_X], r->p[AC_SIDE_Y]);
}

static enum ecg_status act_conv_bwd(const struct case_call *r) {
    const struct ops_act act = case_act(r, r->p[AC_SCALE], r->p[AC_SHIFT]);
    const struct ops_branch branch = {r->p[AC_GATE], r->p[AC_DM]};
    const struct ops_side side = act_conv_side(r->c, r->p[AC_SIDE_DY]);
    const struct ops_norm after = {.mean = r->p[AC_BEHIND_MEAN], .k = r->p[AC_BEHIND_K]};
    const struct ops_behind behind = {&after, r->p[AC_BEHIND_Y],
                                      (char *)r->ws.p + act_conv_packed(r)};
    const struct ops_norm norm = {r->p[AC_X_MEAN], r->p[AC_X_VAR],  r->p[AC_GAMMA], 1e-5,
                                  r->p[AC_K],      r->p[AC_DGAMMA], r->p[AC_DBETA]};
    struct ops_ws ws;
    const void *packed = act_conv_weights(r, &ws);
    return r->ops->act_conv_bwd(r->dev, case_dtype(r->c), case_conv(r->c), &act, r->p[AC_X],
                                r->p[AC_W], packed, r->p[AC_DY], branch.gate ? &branch : NULL,
                                behind.y ? &behind : NULL, r->p[AC_DW], r->p[AC_DB],
                                side.dy ? &side : NULL, r->p[AC_DN], norm.mean ? &norm : NULL, ws);
}

static enum ecg_status act_conv_dx(const struct case_call *r) {
    const struct ops_act through = {.scale = r->p[AC_SCALE], .shift = r->p[AC_NO_SHIFT]};
    const struct ops_blc in = {r->c->B, r->c->L, r->c->C};
    if (!r->p[AC_DX]) return ECG_OK;
    return r->ops->act_fwd(r->dev, case_dtype(r->c), in, &through, r->p[AC_DN], r->p[AC_DX]);
}

static const struct op_step act_conv_steps[] = {
    {"conv_pack", 0, act_conv_pack},     {"act_conv_fwd", 0, act_conv_fwd},
    {"shortcut_fwd", 0, act_conv_gated}, {"shortcut_fwd", 0, act_conv_shortcut},
    {"act_conv_bwd", 1, act_conv_bwd},   {"act_fwd", 1, act_conv_dx},
};
CASE_FAMILY(act_conv, act_conv_plan, act_conv_ws, act_conv_steps);
