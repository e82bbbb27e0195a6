/* SPDX-License-Identifier: MIT
 * Families of the case table: convolution, linear layer, squeeze and excitation, attention pooling. */
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
    return r->ops->conv_ws(r->dev, case_dtype(r->c), case_conv(r->c), 0, 1);
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

/* ------------------------------------------------------------------ attention: B, L, C; FROZEN NO_DN EXTREME BF16. EXTREME:
 * scores of many thousands, whole numbers, so that their softmax is known to the last digit. */

enum { ATT_X, ATT_W, ATT_A, ATT_M, ATT_DM, ATT_DE, ATT_DW, ATT_DX };

static struct ops_blc att_shape(const struct op_case *c) {
    const struct ops_blc s = {c->B, c->L, c->C};
    return s;
}

static void att_plan(const struct op_case *c, struct case_plan *plan) {
    const size_t B = (size_t)c->B, L = (size_t)c->L, C = (size_t)c->C, n = B * L * C;
    const size_t n_dw = c->flags & CASE_FROZEN ? 0 : C, n_dx = c->flags & CASE_NO_DN ? 0 : n;
    const int extreme = (c->flags & CASE_EXTREME) != 0;
    const double range = extreme ? 1024 : C > 16 ? 0.25 : 1;

    struct case_buffer *x = case_input(plan, ATT_X, "x", n);
    x->gradient = n_dx > 0 ? ATT_DX : CASE_NONE;
    struct case_buffer *w = case_input(plan, ATT_W, "w", C);
    w->gradient = n_dw > 0 ? ATT_DW : CASE_NONE;
    case_range(w, -range, range);
    if (extreme) x->fill = w->fill = CASE_ENDS;
    struct case_buffer *a = case_output(plan, ATT_A, "a", B * L, C + L);
    struct case_buffer *m = case_output(plan, ATT_M, "m", B * C, C + L);
    m->upstream = ATT_DM;
    m->scale = 1;
    struct case_buffer *dm = case_input(plan, ATT_DM, "dm", B * C);
    struct case_buffer *de = case_output(plan, ATT_DE, "de", B * L, C + L);
    de->scale = extreme ? 1 : 0;
    case_updated(plan, ATT_DW, "dw", n_dw, C + B * L)->scale = 1;
    struct case_buffer *dx = case_output(plan, ATT_DX, "dx", n_dx, C + L);
    dx->scale = extreme ? range : 1;
    case_per_sample(x);
    case_per_sample(a);
    case_per_sample(m);
    case_per_sample(dm);
    case_per_sample(de);
    case_per_sample(dx);
    case_activations(c, plan, ATT_X, ATT_DX, CASE_NONE);
    plan->work = 2.0 * (double)n;
}

static size_t att_ws(const struct case_call *r) {
    return r->ops->norm_ws(r->dev, att_shape(r->c));
}

static enum ecg_status attention_fwd(const struct case_call *r) {
    return r->ops->attention_fwd(r->dev, case_dtype(r->c), att_shape(r->c), r->p[ATT_X],
                                 r->p[ATT_W], r->p[ATT_A], r->p[ATT_M]);
}

static enum ecg_status attention_bwd(const struct case_call *r) {
    return r->ops->attention_bwd(r->dev, case_dtype(r->c), att_shape(r->c), r->p[ATT_X],
                                 r->p[ATT_W], r->p[ATT_A], r->p[ATT_DM], r->p[ATT_DE], r->p[ATT_DW],
                                 r->p[ATT_DX], r->ws);
}

static const struct op_step attention_steps[] = {
    {"attention_fwd", 0, attention_fwd},
    {"attention_bwd", 1, attention_bwd},
};
CASE_FAMILY(attention, att_plan, att_ws, attention_steps);
