/* SPDX-License-Identifier: MIT
 * Families of the case table: convolution, linear layer, squeeze and excitation, and the fused act_conv. */
#include "kernels/case_plan.h"

/* ------------------------------------------------------------------ conv: B, L, C, Cout, K, S, G; PLAIN BF16 */

enum { CONV_X, CONV_W, CONV_B, CONV_Y, CONV_DY, CONV_DX, CONV_DW, CONV_DB };

static void conv_plan(const struct op_case *c, struct case_plan *plan) {
    const struct ops_conv s = case_conv(c);
    const size_t n_x = (size_t)s.B * s.Lin * s.Cin, n_y = (size_t)s.B * s.Lout * s.Cout;
    const size_t n_w = (size_t)s.Cout * (s.Cin / s.G) * s.K, rows = (size_t)s.B * s.Lout;
    const size_t n_b = c->flags & CASE_PLAIN ? 0 : (size_t)s.Cout;

    struct case_buffer *x = case_input(plan, CONV_X, "x", n_x);
    case_per_sample(x);
    x->gradient = CONV_DX;
    case_input(plan, CONV_W, "w", n_w)->gradient = CONV_DW;
    case_input(plan, CONV_B, "b", n_b)->gradient = CONV_DB;
    struct case_buffer *y = case_output(plan, CONV_Y, "y", n_y, (size_t)(s.Cin / s.G) * s.K);
    case_per_sample(y);
    y->upstream = CONV_DY;
    case_per_sample(case_input(plan, CONV_DY, "dy", n_y));
    case_per_sample(case_output(plan, CONV_DX, "dx", n_x, (size_t)(s.Cout / s.G) * s.K));
    case_updated(plan, CONV_DW, "dw", n_w, rows);
    case_updated(plan, CONV_DB, "db", n_b, rows);
    case_activations(c, plan, CONV_X, CONV_Y, CONV_DY, CONV_DX, CASE_NONE);
    plan->work = (double)n_y * (s.Cin / s.G) * s.K;
}

static size_t conv_ws(const struct case_call *r) {
    return r->ops->conv_ws(r->dev, case_dtype(r->c), case_conv(r->c));
}

static enum ecg_status conv_fwd(const struct case_call *r) {
    return r->ops->conv_fwd(r->dev, case_dtype(r->c), case_conv(r->c), r->p[CONV_X], r->p[CONV_W],
                            r->p[CONV_B], r->p[CONV_Y], r->ws);
}

static enum ecg_status conv_bwd_x(const struct case_call *r) {
    return r->ops->conv_bwd_x(r->dev, case_dtype(r->c), case_conv(r->c), r->p[CONV_DY],
                              r->p[CONV_W], r->p[CONV_DX], r->ws);
}

static enum ecg_status conv_bwd_w(const struct case_call *r) {
    return r->ops->conv_bwd_w(r->dev, case_dtype(r->c), case_conv(r->c), r->p[CONV_X],
                              r->p[CONV_DY], r->p[CONV_DW], r->p[CONV_DB], r->ws);
}

static const struct op_step conv_steps[] = {
    {"conv_fwd", 0, conv_fwd},
    {"conv_bwd_x", 1, conv_bwd_x},
    {"conv_bwd_w", 1, conv_bwd_w},
};
CASE_FAMILY(conv, conv_plan, conv_ws, conv_steps);

/* ------------------------------------------------------------------ linear: B = M, C = K, Cout = N */

enum { LINEAR_X, LINEAR_W, LINEAR_B, LINEAR_Y, LINEAR_DY, LINEAR_DX, LINEAR_DW, LINEAR_DB };

static void linear_plan(const struct op_case *c, struct case_plan *plan) {
    const size_t M = (size_t)c->B, K = (size_t)c->C, N = (size_t)c->Cout;

    struct case_buffer *x = case_input(plan, LINEAR_X, "x", M * K);
    case_per_sample(x);
    x->gradient = LINEAR_DX;
    case_input(plan, LINEAR_W, "w", N * K)->gradient = LINEAR_DW;
    case_input(plan, LINEAR_B, "b", N)->gradient = LINEAR_DB;
    struct case_buffer *y = case_output(plan, LINEAR_Y, "y", M * N, K);
    case_per_sample(y);
    y->upstream = LINEAR_DY;
    case_per_sample(case_input(plan, LINEAR_DY, "dy", M * N));
    case_per_sample(case_output(plan, LINEAR_DX, "dx", M * K, N));
    case_updated(plan, LINEAR_DW, "dw", N * K, M);
    case_updated(plan, LINEAR_DB, "db", N, M);
    plan->work = (double)M * (double)K * (double)N;
}

static size_t linear_ws(const struct case_call *r) {
    return r->ops->linear_ws(r->dev, r->c->B, r->c->C, r->c->Cout);
}

static enum ecg_status linear_fwd(const struct case_call *r) {
    return r->ops->linear_fwd(r->dev, r->c->B, r->c->C, r->c->Cout, r->p[LINEAR_X], r->p[LINEAR_W],
                              r->p[LINEAR_B], r->p[LINEAR_Y], r->ws);
}

static enum ecg_status linear_bwd_x(const struct case_call *r) {
    return r->ops->linear_bwd_x(r->dev, r->c->B, r->c->C, r->c->Cout, r->p[LINEAR_DY],
                                r->p[LINEAR_W], r->p[LINEAR_DX], r->ws);
}

static enum ecg_status linear_bwd_w(const struct case_call *r) {
    return r->ops->linear_bwd_w(r->dev, r->c->B, r->c->C, r->c->Cout, r->p[LINEAR_X],
                                r->p[LINEAR_DY], r->p[LINEAR_DW], r->p[LINEAR_DB], r->ws);
}

static const struct op_step linear_steps[] = {
    {"linear_fwd", 0, linear_fwd},
    {"linear_bwd_x", 1, linear_bwd_x},
    {"linear_bwd_w", 1, linear_bwd_w},
};
CASE_FAMILY(linear, linear_plan, linear_ws, linear_steps);

/* ------------------------------------------------------------------ se: B, C, Cout = H; FROZEN */

enum {
    SE_M,
    SE_W1,
    SE_B1,
    SE_W2,
    SE_B2,
    SE_Z,
    SE_GATE,
    SE_DGATE,
    SE_DM,
    SE_DW1,
    SE_DB1,
    SE_DW2,
    SE_DB2
};

static void se_plan(const struct op_case *c, struct case_plan *plan) {
    const size_t B = (size_t)c->B, C = (size_t)c->C, H = (size_t)c->Cout;
    const int frozen = (c->flags & CASE_FROZEN) != 0;
    const size_t trained = frozen ? 0 : 1;

    struct case_buffer *m = case_input(plan, SE_M, "m", B * C);
    case_per_sample(m);
    m->gradient = SE_DM;
    case_input(plan, SE_W1, "w1", H * C)->gradient = frozen ? CASE_NONE : SE_DW1;
    case_range(&plan->buffer[SE_W1], C > 16 ? -0.25 : -1, C > 16 ? 0.25 : 1);
    case_input(plan, SE_B1, "b1", H)->gradient = frozen ? CASE_NONE : SE_DB1;
    case_input(plan, SE_W2, "w2", C * H)->gradient = frozen ? CASE_NONE : SE_DW2;
    case_range(&plan->buffer[SE_W2], H > 16 ? -0.25 : -1, H > 16 ? 0.25 : 1);
    case_input(plan, SE_B2, "b2", C)->gradient = frozen ? CASE_NONE : SE_DB2;
    case_per_sample(case_output(plan, SE_Z, "z", B * H, C));
    struct case_buffer *gate = case_output(plan, SE_GATE, "gate", B * C, C + H);
    case_per_sample(gate);
    gate->upstream = SE_DGATE;
    case_per_sample(case_input(plan, SE_DGATE, "dgate", B * C));
    case_per_sample(case_output(plan, SE_DM, "dm", B * C, C + H));
    case_updated(plan, SE_DW1, "dw1", H * C * trained, B + C);
    case_updated(plan, SE_DB1, "db1", H * trained, B + C);
    case_updated(plan, SE_DW2, "dw2", C * H * trained, B + C);
    case_updated(plan, SE_DB2, "db2", C * trained, B + C);
    plan->work = 2.0 * (double)B * (double)C * (double)H;
}

static size_t se_ws(const struct case_call *r) {
    return r->ops->se_ws(r->dev, r->c->B, r->c->C, r->c->Cout);
}

static enum ecg_status se_fwd(const struct case_call *r) {
    return r->ops->se_fwd(r->dev, r->c->B, r->c->C, r->c->Cout, r->p[SE_M], r->p[SE_W1],
                          r->p[SE_B1], r->p[SE_W2], r->p[SE_B2], r->p[SE_Z], r->p[SE_GATE], r->ws);
}

static enum ecg_status se_bwd(const struct case_call *r) {
    return r->ops->se_bwd(r->dev, r->c->B, r->c->C, r->c->Cout, r->p[SE_M], r->p[SE_Z],
                          r->p[SE_GATE], r->p[SE_DGATE], r->p[SE_W1], r->p[SE_W2], r->p[SE_DM],
                          r->p[SE_DW1], r->p[SE_DB1], r->p[SE_DW2], r->p[SE_DB2], r->ws);
}

static const struct op_step se_steps[] = {{"se_fwd", 0, se_fwd}, {"se_bwd", 1, se_bwd}};
CASE_FAMILY(se, se_plan, se_ws, se_steps);

/* ------------------------------------------------------------------ act_conv: as conv; FOLD SWISH DROP ADD
 * STATS Y_MEAN FROZEN NO_DN PLAIN BF16. The last step takes dn through the folded normalisation, dx = dn*scale, so
 * that differences by x can be compared; not in bf16, where none are taken. */

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
    AC_ZERO,
    AC_DX
};

static void act_conv_inputs(const struct op_case *c, struct case_plan *plan) {
    const struct ops_conv s = case_conv(c);
    const int frozen = c->flags & CASE_FROZEN, no_dn = c->flags & CASE_NO_DN;
    const size_t n_fold = c->flags & CASE_FOLD ? (size_t)s.Cin : 0;

    struct case_buffer *x = case_input(plan, AC_X, "x", (size_t)s.B * s.Lin * s.Cin);
    case_per_sample(x);
    x->gradient = no_dn || c->flags & CASE_BF16 ? CASE_NONE : AC_DX;
    case_range(case_input(plan, AC_SCALE, "scale", n_fold), 0.5, 1.5);
    case_input(plan, AC_SHIFT, "shift", n_fold);
    case_range(case_input(plan, AC_ZERO, "zero", n_fold), 0, 0);
    case_input(plan, AC_W, "w", (size_t)s.Cout * (s.Cin / s.G) * s.K)->gradient =
        frozen ? CASE_NONE : AC_DW;
    case_input(plan, AC_B, "b", c->flags & CASE_PLAIN ? 0 : (size_t)s.Cout)->gradient =
        frozen ? CASE_NONE : AC_DB;
    case_per_sample(case_input(plan, AC_DY, "dy", (size_t)s.B * s.Lout * s.Cout));
}

/* Bound of |act(x)| where it has to be rounded; 0 where it is x itself. */
static double act_conv_factor(const struct op_case *c) {
    if (!(c->flags & (CASE_FOLD | CASE_SWISH | CASE_DROP))) return 0;
    return (c->flags & CASE_FOLD ? 2.5 : 1) / (c->flags & CASE_DROP ? 0.75 : 1);
}

/* What is particular about a bf16 case. Weights and dy lie in [-1, 1], so no product is larger than act(x). */
static void act_conv_roundings(const struct op_case *c, struct case_plan *plan) {
    const struct ops_conv s = case_conv(c);
    const size_t n_x = (size_t)s.B * s.Lin * s.Cin, rows = (size_t)s.B * s.Lout;

    case_activations(c, plan, AC_X, AC_Y, AC_DY, AC_DN, CASE_NONE);
    case_rounded_factors(c, &plan->buffer[AC_Y], act_conv_factor(c), n_x);
    case_rounded_factors(c, &plan->buffer[AC_DW], act_conv_factor(c), n_x);
    plan->buffer[AC_DN].hands_on = (c->flags & CASE_BF16) != 0;
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
    struct case_buffer *y = case_output(plan, AC_Y, "y", n_y, terms);
    case_per_sample(y);
    y->upstream = AC_DY;
    case_output(plan, AC_MEAN, "mean", n_stats, rows + terms)->scale = 1;
    case_output(plan, AC_VAR, "var", n_stats, rows + terms)->scale = 1;
    struct case_buffer *y_mean =
        case_output(plan, AC_Y_MEAN, "y_mean", c->flags & CASE_Y_MEAN ? s.B * Co : 0, terms);
    case_per_sample(y_mean);
    y_mean->scale = 1;
    if (c->flags & CASE_ADD)
        case_updated(plan, AC_DN, "dn", n_dx, back);
    else
        case_output(plan, AC_DN, "dn", n_dx, back);
    case_per_sample(&plan->buffer[AC_DN]);
    case_per_sample(case_output(plan, AC_DX, "dx", c->flags & CASE_BF16 ? 0 : n_dx, back));
    case_updated(plan, AC_DW, "dw", Co * terms * trained, rows);
    case_updated(plan, AC_DB, "db", c->flags & CASE_PLAIN ? 0 : Co * trained, rows);
    act_conv_roundings(c, plan);
    plan->work = (double)n_y * (double)terms + 10.0 * (double)n_x;
}

static enum ecg_status act_conv_fwd(const struct case_call *r) {
    const struct ops_act act = case_act(r, r->p[AC_SCALE], r->p[AC_SHIFT]);
    return r->ops->act_conv_fwd(r->dev, case_dtype(r->c), case_conv(r->c), &act, r->p[AC_X],
                                r->p[AC_W], r->p[AC_B], r->p[AC_Y], r->p[AC_MEAN], r->p[AC_VAR],
                                r->p[AC_Y_MEAN], r->ws);
}

static enum ecg_status act_conv_bwd(const struct case_call *r) {
    const struct ops_act act = case_act(r, r->p[AC_SCALE], r->p[AC_SHIFT]);
    return r->ops->act_conv_bwd(r->dev, case_dtype(r->c), case_conv(r->c), &act, r->p[AC_X],
                                r->p[AC_W], r->p[AC_DY], r->p[AC_DW], r->p[AC_DB],
                                (r->c->flags & CASE_ADD) != 0, r->p[AC_DN], r->ws);
}

static enum ecg_status act_conv_dx(const struct case_call *r) {
    const struct ops_act through = {.scale = r->p[AC_SCALE], .shift = r->p[AC_ZERO]};
    const struct ops_blc in = {r->c->B, r->c->L, r->c->C};
    if (!r->p[AC_DX]) return ECG_OK;
    return r->ops->act_fwd(r->dev, case_dtype(r->c), in, &through, r->p[AC_DN], r->p[AC_DX]);
}

static const struct op_step act_conv_steps[] = {
    {"act_conv_fwd", 0, act_conv_fwd},
    {"act_conv_bwd", 1, act_conv_bwd},
    {"act_fwd", 1, act_conv_dx},
};
CASE_FAMILY(act_conv, act_conv_plan, conv_ws, act_conv_steps);
