/* SPDX-License-Identifier: MIT
 * Net1D backward, from dlogits down to the lowest layer that is trained. Three buffers of the largest activation's size
 * carry the gradients of a block; one more lies where an activation of the block has been read for the last time:
 *
 *     g[a] = dy                       -> (gate, SE) the means' gradient
 *     conv3, behind the gate: g[a]    -> h3 = dh2
 *     conv2: h3                       -> g[b] = dh1
 *     conv1, beside the shortcut: g[b] and g[a] -> g[c], the gradient at the block's input
 *                                     (with BN the gradient after it; that at the input comes to g[b], and b and c change
 *                                     places)
 *
 * With BN by a batch's statistics h3, g[b] and g[c] hold the gradients after the normalisation: the convolution that writes
 * one also sums over it, and what reads it takes it through the normalisation on the way.
 *
 * and a and c change places for the block below. So a forward pass serves one backward pass. */
#include "train/model/plan.h"

static bool trains(const struct tensor *w, const struct tensor *b) {
    return !(w->frozen && b->frozen);
}

static bool norm_trains(const struct net1d_norm *n) {
    return n->used && trains(n->weight, n->bias);
}

static bool block_trains(const struct net1d_block *b) {
    return norm_trains(&b->bn1) || norm_trains(&b->bn2) || norm_trains(&b->bn3) ||
           trains(b->conv1.w, b->conv1.b) || trains(b->conv2.w, b->conv2.b) ||
           trains(b->conv3.w, b->conv3.b) || trains(b->fc1.w, b->fc1.b) ||
           trains(b->fc2.w, b->fc2.b);
}

/* The lowest layer with something to train: -1 the stem, n_blocks only the head. */
static int lowest_layer(const struct net1d_private *p) {
    if (trains(p->stem.w, p->stem.b) || norm_trains(&p->first_bn)) return -1;
    int i = 0;
    while (i < p->n_blocks && !block_trains(&p->blocks[i])) i++;
    return i;
}

/* What stands around a convolution on the way back; NULL: nothing. */
struct around {
    const struct ops_branch *branch;
    const struct ops_behind *behind;
    const struct ops_side *side;
    const struct ops_norm *norm;
};

static enum ecg_status share_gradient(const struct net1d_pass *pass, const struct ops_norm *norm,
                                      int C, double rows) {
    const struct net1d_share *share = pass->share;
    return share != NULL ? share->gradient(share->context, C, norm->k, rows) : ECG_OK;
}

/* Gradient of act(x)'s convolution: dw, db, and dn before the activation (NULL: not wanted). */
static enum ecg_status conv_bwd(struct net1d *net, const struct net1d_conv *c, int B,
                                const struct net1d_pass *pass, const struct ops_act *act,
                                const void *x, const void *dy, struct around around, void *dn) {
    bool train = trains(c->w, c->b);
    struct ops_conv s = plan_conv(c, B);
    TRY(net->ops->act_conv_bwd(
        net->dev, net->config.precision, s, act, x, tensors_value(net, c->w), c->packed, dy,
        around.branch, around.behind, train ? tensors_grad(net, c->w) : NULL,
        train ? tensors_grad(net, c->b) : NULL, around.side, dn, around.norm, net->p->ws));
    if (around.norm == NULL) return ECG_OK;
    return share_gradient(pass, around.norm, s.Cin, (double)s.B * s.Lin);
}

/* The normalisation by this batch's statistics, its k in buffer `which`. False: there is none. */
static bool batch_norm(const struct net1d *net, const struct net1d_norm *n,
                       const struct net1d_pass *pass, int which, struct ops_norm *norm) {
    if (!n->used || !forward_batch_statistics(n, pass)) return false;
    *norm = (struct ops_norm){.mean = n->mean,
                              .var = n->var,
                              .gamma = tensors_value(net, n->weight),
                              .eps = NET1D_BN_EPS,
                              .k = net->p->norm_k[which],
                              .dgamma = tensors_grad(net, n->weight),
                              .dbeta = tensors_grad(net, n->bias)};
    return true;
}

/* Takes dn, the gradient after a normalisation by running statistics, to the gradient before it, in place. They are
 * constants, the normalisation then only a scale, and its weight and bias stay as they are. */
static enum ecg_status scale_bwd(struct net1d *net, const struct net1d_norm *n,
                                 const struct net1d_pass *pass, struct ops_blc s, void *dn) {
    if (!n->used || forward_batch_statistics(n, pass)) return ECG_OK;
    struct ops_act scale = {.scale = n->scale, .shift = net->p->zeros};
    return net->ops->act_fwd(net->dev, net->config.precision, s, &scale, dn, dn);
}

/* From dy back through gate and SE: what stands between dy and conv3's output. */
static enum ecg_status gate_bwd(struct net1d *net, struct net1d_block *b, int B,
                                const struct net1d_pass *pass, const void *dy,
                                struct ops_branch *branch) {
    struct net1d_private *p = net->p;
    struct ops_blc s = {B, b->Lout, b->Cout};
    *branch = (struct ops_branch){b->gate, p->dm};
    TRY(net->ops->gate_bwd(net->dev, net->config.precision, s, dy, b->h3, p->dgate));
    if (forward_drops_paths(b, pass)) {
        branch->gate = b->path_gate;
        TRY(forward_path_factors(net, b, B, pass));
        TRY(forward_path_scale(net, b, B, p->dgate, p->dgate));
    }
    bool train = trains(b->fc1.w, b->fc1.b) || trains(b->fc2.w, b->fc2.b);
    return net->ops->se_bwd(
        net->dev, B, b->Cout, b->H, b->m, b->z, b->gate, p->dgate, tensors_value(net, b->fc1.w),
        tensors_value(net, b->fc2.w), p->dm, train ? tensors_grad(net, b->fc1.w) : NULL,
        train ? tensors_grad(net, b->fc1.b) : NULL, train ? tensors_grad(net, b->fc2.w) : NULL,
        train ? tensors_grad(net, b->fc2.b) : NULL, p->ws);
}

static void swap(void **a, void **b) {
    void *c = *a;
    *a = *b;
    *b = c;
}

/* conv1, with the shortcut beside it: g[0] = dy, g[1] = dh1; the gradient at the block's input comes to g[2]. */
static enum ecg_status entrance_bwd(struct net1d *net, struct net1d_block *b, int B,
                                    const struct net1d_pass *pass, bool go_on,
                                    const struct ops_behind *behind, void *g[3]) {
    struct ops_blc s = {B, b->Lin, b->Cin};
    struct ops_act act = forward_conv_act(net, b, 1, pass);
    struct ops_side side = {{B, b->Lout, b->Cout}, b->S, g[0]};
    struct around around = {.behind = behind};
    struct ops_norm norm;
    if (!b->bn1.used) {
        around.side = go_on ? &side : NULL;
        return conv_bwd(net, &b->conv1, B, pass, &act, b->in, g[1], around, go_on ? g[2] : NULL);
    }
    if (!go_on && !norm_trains(&b->bn1))
        return conv_bwd(net, &b->conv1, B, pass, &act, b->in, g[1], around, NULL);
    if (batch_norm(net, &b->bn1, pass, 0, &norm)) around.norm = &norm;
    TRY(conv_bwd(net, &b->conv1, B, pass, &act, b->in, g[1], around, g[2]));
    if (!go_on) return ECG_OK;
    swap(&g[1], &g[2]);
    if (around.norm != NULL)
        return net->ops->norm_dx(net->dev, net->config.precision, s, b->in, g[1], &norm, &side,
                                 g[2]);
    const struct ops_act none = {0};
    TRY(net->ops->shortcut_bwd(net->dev, net->config.precision, side.s, b->Lin, b->Cin, b->S, b->in,
                               side.dy, g[2]));
    TRY(scale_bwd(net, &b->bn1, pass, s, g[1]));
    return net->ops->act_bwd(net->dev, net->config.precision, s, &none, b->in, g[1], 1, g[2]);
}

/* g[0] = dy on the way in; the gradient at the block's input comes back in g[2] when `go_on`. */
static enum ecg_status block_bwd(struct net1d *net, struct net1d_block *b, int B,
                                 const struct net1d_pass *pass, bool go_on, void *g[3]) {
    bool is_last = b->index + 1 == net->p->n_blocks; /* its h1, h2, h3 are still there */
    if (net->config.recompute && !is_last) TRY(forward_branch(net, b, B, pass, true));
    struct ops_branch branch;
    TRY(gate_bwd(net, b, B, pass, g[0], &branch));
    void *dh2 = b->h3, *dh1 = g[1];
    struct ops_norm norm3, norm2;
    bool by3 = batch_norm(net, &b->bn3, pass, 0, &norm3);
    bool by2 = batch_norm(net, &b->bn2, pass, 1, &norm2);
    const struct ops_behind behind2 = {&norm3, b->h2, dh2}, behind1 = {&norm2, b->h1, dh1};

    struct ops_act act = forward_conv_act(net, b, 3, pass);
    struct around around = {.branch = &branch, .norm = by3 ? &norm3 : NULL};
    TRY(conv_bwd(net, &b->conv3, B, pass, &act, b->h2, g[0], around, dh2));
    TRY(scale_bwd(net, &b->bn3, pass, (struct ops_blc){B, b->Lout, b->Cmid}, dh2));
    act = forward_conv_act(net, b, 2, pass);
    around = (struct around){.behind = by3 ? &behind2 : NULL, .norm = by2 ? &norm2 : NULL};
    TRY(conv_bwd(net, &b->conv2, B, pass, &act, b->h1, dh2, around, dh1));
    TRY(scale_bwd(net, &b->bn2, pass, (struct ops_blc){B, b->Lin, b->Cmid}, dh1));
    return entrance_bwd(net, b, B, pass, go_on, by2 ? &behind1 : NULL, g);
}

static enum ecg_status stem_bwd(struct net1d *net, int B, const struct net1d_pass *pass, void *dy) {
    struct net1d_private *p = net->p;
    struct ops_blc s = {B, p->stem.shape.Lout, p->stem.shape.Cout};
    struct ops_act act = forward_act(net, &p->first_bn, -1, pass);
    TRY(net->ops->act_bwd(net->dev, net->config.precision, s, &act, p->h0, dy, 0, dy));
    TRY(scale_bwd(net, &p->first_bn, pass, s, dy));
    struct ops_norm norm;
    bool by_batch = batch_norm(net, &p->first_bn, pass, 0, &norm);
    const struct ops_behind behind = {&norm, p->h0, dy};
    if (by_batch) {
        TRY(net->ops->norm_sums(net->dev, net->config.precision, s, p->h0, dy, &norm, p->ws));
        TRY(share_gradient(pass, &norm, s.C, (double)s.B * s.L));
    }
    const struct ops_act none = {0};
    return conv_bwd(net, &p->stem, B, pass, &none, net->x, dy,
                    (struct around){.behind = by_batch ? &behind : NULL}, NULL);
}

/* The first of a block's parameters in the flat array. */
static size_t block_offset(const struct net1d_block *b) {
    size_t conv = b->conv1.w->offset;
    return b->bn1.used && b->bn1.weight->offset < conv ? b->bn1.weight->offset : conv;
}

static enum ecg_status tell(const struct net1d_pass *pass, size_t offset) {
    return pass->done != NULL ? pass->done(pass->context, offset) : ECG_OK;
}

static enum ecg_status all_layers(struct net1d *net, int B, const struct net1d_pass *pass) {
    struct net1d_private *p = net->p;
    int lowest = lowest_layer(p);
    void *g[3] = {p->g[0], p->g[1], p->g[2]};
    TRY(head_backward(net, B, net->features, lowest < p->n_blocks ? g[0] : NULL));
    TRY(tell(pass, p->dense.w->offset));
    for (int i = p->n_blocks - 1; i >= 0 && i >= lowest; i--) {
        TRY(block_bwd(net, &p->blocks[i], B, pass, i > lowest, g));
        TRY(tell(pass, block_offset(&p->blocks[i])));
        swap(&g[0], &g[2]);
    }
    return lowest < 0 ? stem_bwd(net, B, pass, g[0]) : ECG_OK;
}

enum ecg_status net1d_backward(struct net1d *net, int B, const struct net1d_pass *pass) {
    if (!net->training)
        return ecg_fail(ECG_ERR_FAIL, "net1d: backward in a network planned for inference");
    if (B < 1 || B > net->max_batch)
        return ecg_fail(ECG_ERR_FAIL, "net1d: batch of %d in a network planned for 1 .. %d", B,
                        net->max_batch);
    if (net->config.head_only && lowest_layer(net->p) < net->p->n_blocks)
        return ecg_fail(ECG_ERR_FAIL, "net1d: a network planned for its head alone trains more");
    if (pass->features == NULL) return repeat_pass(net, true, B, pass, all_layers);
    if (lowest_layer(net->p) < net->p->n_blocks)
        return ecg_fail(ECG_ERR_FAIL, "net1d: given features can't train what they came from");
    return head_backward(net, B, pass->features, NULL);
}

static enum ecg_status share_none(struct net1d *net, const struct net1d_norm *n,
                                  const struct net1d_pass *pass) {
    struct ops_norm norm;
    return batch_norm(net, n, pass, 0, &norm) ? share_gradient(pass, &norm, n->C, 0) : ECG_OK;
}

enum ecg_status net1d_share_backward(struct net1d *net, const struct net1d_pass *pass) {
    struct net1d_private *p = net->p;
    int lowest = lowest_layer(p);
    TRY(tell(pass, p->dense.w->offset));
    for (int i = p->n_blocks - 1; i >= 0 && i >= lowest; i--) {
        const struct net1d_block *b = &p->blocks[i];
        TRY(share_none(net, &b->bn3, pass));
        TRY(share_none(net, &b->bn2, pass));
        if (i > lowest || norm_trains(&b->bn1)) TRY(share_none(net, &b->bn1, pass));
        TRY(tell(pass, block_offset(b)));
    }
    return lowest < 0 ? share_none(net, &p->first_bn, pass) : ECG_OK;
}
