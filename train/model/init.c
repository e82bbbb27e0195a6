/* SPDX-License-Identifier: MIT
 * First weights. PyTorch's default for Conv1d and Linear, kaiming_uniform with a = sqrt(5), comes to U(-b, b) with b =
 * 1/sqrt(fan_in) for the weight, and the bias takes the same bound. Numbers are drawn on the host, tensor by tensor,
 * so every backend starts from the same bits. */
#include <math.h>

#include "core/rng.h"
#include "train/model/plan.h"

#define PIECE ((size_t)1024) /* values on the host at once */

static enum ecg_status fill(struct net1d *net, const struct tensor *t, float value) {
    float host[PIECE];
    for (size_t i = 0; i < PIECE; i++) host[i] = value;
    for (size_t at = 0; at < t->n; at += PIECE) {
        size_t n = t->n - at < PIECE ? t->n - at : PIECE;
        TRY(net->ops->upload(net->dev, tensors_value(net, t) + at, host, n * sizeof(float)));
    }
    return ECG_OK;
}

static enum ecg_status init_norm(struct net1d *net, const struct net1d_norm *n) {
    TRY(fill(net, n->weight, 1));
    TRY(fill(net, n->bias, 0));
    TRY(fill(net, n->running_mean, 0));
    TRY(fill(net, n->running_var, 1));
    net->counters[n->counter->offset] = 0;
    return ECG_OK;
}

enum ecg_status init_norms(struct net1d *net) {
    struct net1d_private *p = net->p;
    TRY(init_norm(net, &p->first_bn));
    for (int i = 0; i < p->n_blocks; i++) {
        TRY(init_norm(net, &p->blocks[i].bn1));
        TRY(init_norm(net, &p->blocks[i].bn2));
        TRY(init_norm(net, &p->blocks[i].bn3));
    }
    return ECG_OK;
}

static enum ecg_status init_uniform(struct net1d *net, const struct tensor *t, double bound,
                                    uint64_t seed) {
    float host[PIECE];
    struct rng r;
    rng_init(&r, seed, RNG_INIT, (uint32_t)(t - net->tensors), 0);
    for (size_t at = 0; at < t->n; at += PIECE) {
        size_t n = t->n - at < PIECE ? t->n - at : PIECE;
        for (size_t i = 0; i < n; i++) host[i] = (float)((2 * rng_uniform(&r) - 1) * bound);
        TRY(net->ops->upload(net->dev, tensors_value(net, t) + at, host, n * sizeof(float)));
    }
    return ECG_OK;
}

static enum ecg_status init_layer(struct net1d *net, const struct tensor *w, const struct tensor *b,
                                  uint64_t seed) {
    double fan_in = (double)(w->n / (size_t)w->shape[0]);
    TRY(init_uniform(net, w, 1 / sqrt(fan_in), seed));
    return init_uniform(net, b, 1 / sqrt(fan_in), seed);
}

enum ecg_status net1d_init_weights(struct net1d *net, uint64_t seed, bool only_head) {
    struct net1d_private *p = net->p;
    TRY(init_layer(net, p->dense.w, p->dense.b, seed));
    if (p->pool != NULL) TRY(fill(net, p->pool, 0));
    if (only_head) return ECG_OK;
    TRY(init_layer(net, p->stem.w, p->stem.b, seed));
    for (int i = 0; i < p->n_blocks; i++) {
        const struct net1d_block *b = &p->blocks[i];
        TRY(init_layer(net, b->conv1.w, b->conv1.b, seed));
        TRY(init_layer(net, b->conv2.w, b->conv2.b, seed));
        TRY(init_layer(net, b->conv3.w, b->conv3.b, seed));
        TRY(init_layer(net, b->fc1.w, b->fc1.b, seed));
        TRY(init_layer(net, b->fc2.w, b->fc2.b, seed));
    }
    return init_norms(net);
}
