/* SPDX-License-Identifier: MIT
 * Every fused entry as a composition of primitives, the same for all backends.
 *
 * A composed entry takes what it keeps for itself from the front of its scratch memory and hands the rest to the
 * primitives that it calls, one after the other. The functions have no context but `dev`, whose head names the
 * table (struct ops_dev_head). */
#include "core/mem.h"
#include "kernels/ops.h"

static const struct ops *table_of(struct ops_dev *dev) {
    return ((const struct ops_dev_head *)dev)->ops;
}

static size_t round_up(size_t bytes) {
    return (bytes + MEM_ALIGN - 1) / MEM_ALIGN * MEM_ALIGN;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t dtype_size(enum ops_dtype dtype) {
    return dtype == OPS_F32 ? sizeof(float) : sizeof(uint16_t);
}

/* Cuts `bytes` off the front of ws; NULL when it does not hold them. */
static void *take(struct ops_ws *ws, size_t bytes) {
    const size_t n = round_up(bytes);
    if (n > ws->n) return NULL;
    void *p = ws->p;
    ws->p = (char *)p + n;
    ws->n -= n;
    return p;
}

static enum ecg_status too_small(const char *op, struct ops_ws ws) {
    return ecg_fail(ECG_ERR_FAIL, "%s: scratch memory is too small (%zu bytes left)", op, ws.n);
}

static size_t in_bytes(enum ops_dtype dtype, struct ops_conv s) {
    return round_up((size_t)s.B * s.Lin * s.Cin * dtype_size(dtype));
}

static size_t out_bytes(enum ops_dtype dtype, struct ops_conv s) {
    return round_up((size_t)s.B * s.Lout * s.Cout * dtype_size(dtype));
}

size_t ops_compose_conv_ws(enum ops_dtype dtype, struct ops_conv s, int backward,
                           size_t primitives_ws) {
    return in_bytes(dtype, s) + (backward ? out_bytes(dtype, s) : 0) + primitives_ws;
}

size_t ops_compose_se_ws(int B, int C, int H, size_t linear_ws) {
    return 2 * round_up((size_t)B * H * sizeof(float)) + round_up((size_t)B * C * sizeof(float)) +
           linear_ws;
}

static size_t compose_conv_ws(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                              int packed, int backward) {
    (void)packed;
    const struct ops *t = table_of(dev);
    const struct ops_blc x = {s.B, s.Lin, s.Cin}, y = {s.B, s.Lout, s.Cout};
    return ops_compose_conv_ws(dtype, s, backward, larger(t->norm_ws(dev, x), t->norm_ws(dev, y)));
}

static size_t compose_linear_ws(struct ops_dev *dev, int M, int K, int N) {
    (void)dev, (void)M, (void)K, (void)N;
    return 0;
}

static size_t compose_norm_ws(struct ops_dev *dev, struct ops_blc s) {
    (void)dev, (void)s;
    return 0;
}

static size_t compose_se_ws(struct ops_dev *dev, int B, int C, int H) {
    const struct ops *t = table_of(dev);
    return ops_compose_se_ws(B, C, H,
                             larger(t->linear_ws(dev, B, C, H), t->linear_ws(dev, B, H, C)));
}

static size_t packs_nothing(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                            int backward) {
    (void)dev, (void)dtype, (void)s, (void)backward;
    return 0;
}

static enum ecg_status pack_nothing(struct ops_dev *dev, enum ops_dtype dtype, size_t n,
                                    const struct ops_pack *list, struct ops_ws ws) {
    (void)dev, (void)dtype, (void)n, (void)list, (void)ws;
    return ECG_OK;
}

enum ecg_status ops_compose_at_y(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                 const struct ops_branch *branch, const struct ops_behind *behind,
                                 const void **dy, struct ops_ws *ws) {
    const struct ops *t = table_of(dev);
    const struct ops_blc out = {s.B, s.Lout, s.Cout};
    if (behind) {
        TRY(t->norm_dx(dev, dtype, out, behind->y, *dy, behind->norm, NULL, behind->at_y));
        *dy = behind->at_y;
    }
    if (!branch) return ECG_OK;
    void *dh = take(ws, out_bytes(dtype, s));
    if (!dh) return too_small("act_conv_bwd", *ws);
    TRY(t->branch_bwd(dev, dtype, out, *dy, branch->gate, branch->dm, dh));
    *dy = dh;
    return ECG_OK;
}

static enum ecg_status compose_act_conv_fwd(struct ops_dev *dev, enum ops_dtype dtype,
                                            struct ops_conv s, const struct ops_act *act,
                                            const void *x, const float *w, const void *packed,
                                            const float *b, void *y, float *mean, float *var,
                                            float *y_mean, struct ops_ws ws) {
    const struct ops *t = table_of(dev);
    const struct ops_blc in = {s.B, s.Lin, s.Cin}, out = {s.B, s.Lout, s.Cout};
    void *a = take(&ws, in_bytes(dtype, s)); /* (B, Lin, Cin) */
    (void)packed;
    if (!a) return too_small("act_conv_fwd", ws);

    TRY(t->act_fwd(dev, dtype, in, act, x, a));
    TRY(t->conv_fwd(dev, dtype, s, a, w, b, y, ws));
    if (mean) TRY(t->norm_stats(dev, dtype, out, y, mean, var, ws));
    if (y_mean) TRY(t->mean_fwd(dev, dtype, out, y, y_mean));
    return ECG_OK;
}

static enum ecg_status compose_act_conv_bwd(struct ops_dev *dev, enum ops_dtype dtype,
                                            struct ops_conv s, const struct ops_act *act,
                                            const void *x, const float *w, const void *packed,
                                            const void *dy, const struct ops_branch *branch,
                                            const struct ops_behind *behind, float *dw, float *db,
                                            const struct ops_side *side, void *dn,
                                            const struct ops_norm *norm, struct ops_ws ws) {
    const struct ops *t = table_of(dev);
    const struct ops_blc in = {s.B, s.Lin, s.Cin};
    void *a = take(&ws, in_bytes(dtype, s)); /* (B, Lin, Cin): first act(x), then its gradient */
    (void)packed;
    if (!a) return too_small("act_conv_bwd", ws);

    TRY(ops_compose_at_y(dev, dtype, s, branch, behind, &dy, &ws));
    if (dw) {
        TRY(t->act_fwd(dev, dtype, in, act, x, a));
        TRY(t->conv_bwd_w(dev, dtype, s, a, dy, dw, db, ws));
    }
    if (!dn) return ECG_OK;
    TRY(t->conv_bwd_x(dev, dtype, s, dy, w, a, ws));
    if (side) TRY(t->shortcut_bwd(dev, dtype, side->s, s.Lin, s.Cin, side->S, x, side->dy, dn));
    TRY(t->act_bwd(dev, dtype, in, act, x, a, side != NULL, dn));
    return norm ? t->norm_sums(dev, dtype, in, x, dn, norm, ws) : ECG_OK;
}

static enum ecg_status compose_tail_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                        int Li, int Ci, int S, const void *h, const float *gate,
                                        const void *x, void *y, float *mean, float *var,
                                        struct ops_ws ws) {
    const struct ops *t = table_of(dev);
    TRY(t->shortcut_fwd(dev, dtype, s, Li, Ci, S, h, gate, x, y));
    return mean ? t->norm_stats(dev, dtype, s, y, mean, var, ws) : ECG_OK;
}

static enum ecg_status compose_se_fwd(struct ops_dev *dev, int B, int C, int H, const float *m,
                                      const float *w1, const float *b1, const float *w2,
                                      const float *b2, float *z, float *gate, struct ops_ws ws) {
    const struct ops *t = table_of(dev);
    const size_t n_hidden = (size_t)B * H;
    float *s = take(&ws, n_hidden * sizeof(float)); /* (B, H) = swish(z) */
    if (!s) return too_small("se_fwd", ws);

    TRY(t->linear_fwd(dev, B, C, H, m, w1, b1, z, ws));
    TRY(t->swish_fwd(dev, n_hidden, z, s));
    TRY(t->linear_fwd(dev, B, H, C, s, w2, b2, gate, ws));
    return t->sigmoid_fwd(dev, (size_t)B * C, gate, gate);
}

static enum ecg_status compose_se_bwd(struct ops_dev *dev, int B, int C, int H, const float *m,
                                      const float *z, const float *gate, const float *dgate,
                                      const float *w1, const float *w2, float *dm, float *dw1,
                                      float *db1, float *dw2, float *db2, struct ops_ws ws) {
    const struct ops *t = table_of(dev);
    const size_t n_hidden = (size_t)B * H, n_gate = (size_t)B * C;
    float *s = take(&ws, n_hidden * sizeof(float));  /* (B, H) = swish(z) */
    float *dz = take(&ws, n_hidden * sizeof(float)); /* (B, H), first the gradient at s */
    float *dl = take(&ws, n_gate * sizeof(float));   /* (B, C), the gradient before the sigmoid */
    if (!s || !dz || !dl) return too_small("se_bwd", ws);

    TRY(t->sigmoid_bwd(dev, n_gate, gate, dgate, dl));
    TRY(t->linear_bwd_x(dev, B, H, C, dl, w2, dz, ws));
    TRY(t->swish_bwd(dev, n_hidden, z, dz, dz));
    TRY(t->linear_bwd_x(dev, B, C, H, dz, w1, dm, ws));
    if (!dw1) return ECG_OK;
    TRY(t->swish_fwd(dev, n_hidden, z, s));
    TRY(t->linear_bwd_w(dev, B, H, C, s, dl, dw2, db2, ws));
    return t->linear_bwd_w(dev, B, C, H, m, dz, dw1, db1, ws);
}

void ops_compose(struct ops *t) {
    if (!t->conv_ws) t->conv_ws = compose_conv_ws;
    if (!t->linear_ws) t->linear_ws = compose_linear_ws;
    if (!t->norm_ws) t->norm_ws = compose_norm_ws;
    if (!t->se_ws) t->se_ws = compose_se_ws;
    if (!t->conv_packed_bytes) t->conv_packed_bytes = packs_nothing;
    if (!t->conv_pack) t->conv_pack = pack_nothing;
    if (!t->act_conv_fwd) t->act_conv_fwd = compose_act_conv_fwd;
    if (!t->act_conv_bwd) t->act_conv_bwd = compose_act_conv_bwd;
    if (!t->tail_fwd) t->tail_fwd = compose_tail_fwd;
    if (!t->se_fwd) t->se_fwd = compose_se_fwd;
    if (!t->se_bwd) t->se_bwd = compose_se_bwd;
}
