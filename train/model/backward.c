/* SPDX-License-Identifier: MIT
 * Net1D backward, from dlogits down to the lowest layer that is trained. Three buffers of the largest activation's size
 * carry the gradients of a block; one more lies where an activation of the block has been read for the last time:
 *
 *     g[a] = dy                       -> (gate, SE) the means' gradient
 *     conv3, behind the gate: g[a]    -> h3 = dh2
 *     conv2: h3                       -> g[b] = dh1
 *     conv1, beside the shortcut: g[b] and g[a] -> g[c], the gradient at the block's input
 *                                     (with BN the shortcut's part first, then conv1's by way of h1, which is wide enough:
 *                                     a block never narrows)
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

/* Gradient of act(x)'s convolution: dw, db, and dn before the activation (NULL: not wanted). */
static enum ecg_status conv_bwd(struct net1d *net, const struct net1d_conv *c, int B,
                                const struct ops_act *act, const void *x, const void *dy,
                                const struct ops_branch *branch, const struct ops_side *side,
                                void *dn) {
    bool train = trains(c->w, c->b);
    return net->ops->act_conv_bwd(net->dev, net->config.precision, plan_conv(c, B), act, x,
                                  tensors_value(net, c->w), c->packed, dy, branch,
                                  train ? tensors_grad(net, c->w) : NULL,
                                  train ? tensors_grad(net, c->b) : NULL, side, dn, net->p->ws);
}

/* Takes dn, the gradient after normalisation, to the gradient at x: in place, or added to `sum`. Running statistics
 * are constants, the normalisation then only a scale, and its weight and bias stay as they are. */
static enum ecg_status norm_bwd(struct net1d *net, const struct net1d_norm *n,
                                const struct net1d_pass *pass, struct ops_blc s, const void *x,
                                void *dn, void *sum) {
    if (!n->used) return ECG_OK;
    if (forward_batch_statistics(pass))
        return net->ops->norm_bwd(net->dev, net->config.precision, s, x, dn, n->mean, n->var,
                                  tensors_value(net, n->weight), NET1D_BN_EPS, sum != NULL,
                                  sum != NULL ? sum : dn, tensors_grad(net, n->weight),
                                  tensors_grad(net, n->bias), net->p->ws);
    struct ops_act scale = {.scale = n->scale, .shift = net->p->zeros};
    TRY(net->ops->act_fwd(net->dev, net->config.precision, s, &scale, dn, dn));
    if (sum == NULL) return ECG_OK;
    const struct ops_act none = {0};
    return net->ops->act_bwd(net->dev, net->config.precision, s, &none, x, dn, 1, sum);
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

/* conv1, with the shortcut beside it: g[0] = dy, g[1] = dh1; the gradient at the block's input comes to g[2]. */
static enum ecg_status entrance_bwd(struct net1d *net, struct net1d_block *b, int B,
                                    const struct net1d_pass *pass, bool go_on, void *const g[3]) {
    struct ops_act act = forward_conv_act(net, b, 1, pass);
    struct ops_side side = {{B, b->Lout, b->Cout}, b->S, g[0]};
    if (!b->bn1.used)
        return conv_bwd(net, &b->conv1, B, &act, b->in, g[1], NULL, go_on ? &side : NULL,
                        go_on ? g[2] : NULL);
    if (go_on)
        TRY(net->ops->shortcut_bwd(net->dev, net->config.precision, side.s, b->Lin, b->Cin, b->S,
                                   b->in, side.dy, g[2]));
    bool wanted = go_on || norm_trains(&b->bn1);
    TRY(conv_bwd(net, &b->conv1, B, &act, b->in, g[1], NULL, NULL, wanted ? b->h1 : NULL));
    if (!wanted) return ECG_OK;
    return norm_bwd(net, &b->bn1, pass, (struct ops_blc){B, b->Lin, b->Cin}, b->in, b->h1,
                    go_on ? g[2] : NULL);
}

/* g[0] = dy on the way in; the gradient at the block's input comes back in g[2] when `go_on`. */
static enum ecg_status block_bwd(struct net1d *net, struct net1d_block *b, int B,
                                 const struct net1d_pass *pass, bool go_on, void *const g[3]) {
    bool is_last = b->index + 1 == net->p->n_blocks; /* its h1, h2, h3 are still there */
    if (net->config.recompute && !is_last) TRY(forward_branch(net, b, B, pass, true));
    struct ops_branch branch;
    TRY(gate_bwd(net, b, B, pass, g[0], &branch));
    void *dh2 = b->h3, *dh1 = g[1];
    struct ops_act act = forward_conv_act(net, b, 3, pass);
    TRY(conv_bwd(net, &b->conv3, B, &act, b->h2, g[0], &branch, NULL, dh2));
    TRY(norm_bwd(net, &b->bn3, pass, (struct ops_blc){B, b->Lout, b->Cmid}, b->h2, dh2, NULL));
    act = forward_conv_act(net, b, 2, pass);
    TRY(conv_bwd(net, &b->conv2, B, &act, b->h1, dh2, NULL, NULL, dh1));
    TRY(norm_bwd(net, &b->bn2, pass, (struct ops_blc){B, b->Lin, b->Cmid}, b->h1, dh1, NULL));
    return entrance_bwd(net, b, B, pass, go_on, g);
}

static enum ecg_status head_bwd(struct net1d *net, int B, bool go_on, void *dy) {
    struct net1d_private *p = net->p;
    const struct net1d_block *last = &p->blocks[p->n_blocks - 1];
    int K = p->dense.K, N = p->dense.N;
    if (trains(p->dense.w, p->dense.b))
        TRY(net->ops->linear_bwd_w(net->dev, B, K, N, net->features, net->dlogits,
                                   tensors_grad(net, p->dense.w), tensors_grad(net, p->dense.b),
                                   p->ws));
    if (!go_on) return ECG_OK;
    TRY(net->ops->linear_bwd_x(net->dev, B, K, N, net->dlogits, tensors_value(net, p->dense.w),
                               p->dfeatures, p->ws));
    return net->ops->mean_bwd(net->dev, net->config.precision,
                              (struct ops_blc){B, last->Lout, last->Cout}, p->dfeatures, dy);
}

static enum ecg_status stem_bwd(struct net1d *net, int B, const struct net1d_pass *pass, void *dy) {
    struct net1d_private *p = net->p;
    struct ops_blc s = {B, p->stem.shape.Lout, p->stem.shape.Cout};
    struct ops_act act = forward_act(net, &p->first_bn, -1, pass);
    TRY(net->ops->act_bwd(net->dev, net->config.precision, s, &act, p->h0, dy, 0, dy));
    TRY(norm_bwd(net, &p->first_bn, pass, s, p->h0, dy, NULL));
    const struct ops_act none = {0};
    return conv_bwd(net, &p->stem, B, &none, net->x, dy, NULL, NULL, NULL);
}

static enum ecg_status all_layers(struct net1d *net, int B, const struct net1d_pass *pass) {
    struct net1d_private *p = net->p;
    int lowest = lowest_layer(p);
    void *g[3] = {p->g[0], p->g[1], p->g[2]};
    TRY(head_bwd(net, B, lowest < p->n_blocks, g[0]));
    for (int i = p->n_blocks - 1; i >= 0 && i >= lowest; i--) {
        TRY(block_bwd(net, &p->blocks[i], B, pass, i > lowest, g));
        void *dx = g[2];
        g[2] = g[0];
        g[0] = dx;
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
    return repeat_pass(net, true, B, pass, all_layers);
}
