/* SPDX-License-Identifier: MIT
 * The head: pooling over time and the linear layer. */
#include "train/model/plan.h"

/* What the head reads. */
static const void *input(const struct net1d *net, int B, struct ops_blc *s) {
    const struct net1d_block *last = &net->p->blocks[net->p->n_blocks - 1];
    *s = (struct ops_blc){B, last->Lout, last->Cout};
    return last->y;
}

static enum ecg_status pool_forward(struct net1d *net, int B) {
    const struct net1d_private *p = net->p;
    struct ops_blc s;
    const void *h = input(net, B, &s);
    if (p->pool == NULL)
        return net->ops->mean_fwd(net->dev, net->config.precision, s, h, net->features);
    return net->ops->attention_fwd(net->dev, net->config.precision, s, h,
                                   tensors_value(net, p->pool), p->attention, net->features);
}

enum ecg_status head_forward(struct net1d *net, int B, const float *features) {
    const struct net1d_private *p = net->p;
    if (features == NULL) {
        TRY(pool_forward(net, B));
        features = net->features;
    }
    return net->ops->linear_fwd(net->dev, B, p->dense.K, p->dense.N, features,
                                tensors_value(net, p->dense.w), tensors_value(net, p->dense.b),
                                net->logits, p->ws);
}

/* From dfeatures. */
static enum ecg_status pool_backward(struct net1d *net, int B, bool train, void *dy) {
    const struct net1d_private *p = net->p;
    struct ops_blc s;
    const void *h = input(net, B, &s);
    if (p->pool == NULL)
        return net->ops->mean_bwd(net->dev, net->config.precision, s, p->dfeatures, dy);
    return net->ops->attention_bwd(
        net->dev, net->config.precision, s, h, tensors_value(net, p->pool), p->attention,
        p->dfeatures, p->dscores, train ? tensors_grad(net, p->pool) : NULL, dy, p->ws);
}

enum ecg_status head_backward(struct net1d *net, int B, const float *features, void *dy) {
    const struct net1d_private *p = net->p;
    int K = p->dense.K, N = p->dense.N;
    bool train_dense = !(p->dense.w->frozen && p->dense.b->frozen);
    bool train_pool = p->pool != NULL && !p->pool->frozen;
    if (train_dense)
        TRY(net->ops->linear_bwd_w(net->dev, B, K, N, features, net->dlogits,
                                   tensors_grad(net, p->dense.w), tensors_grad(net, p->dense.b),
                                   p->ws));
    if (dy == NULL && !train_pool) return ECG_OK;
    TRY(net->ops->linear_bwd_x(net->dev, B, K, N, net->dlogits, tensors_value(net, p->dense.w),
                               p->dfeatures, p->ws));
    return pool_backward(net, B, train_pool, dy);
}
