/* SPDX-License-Identifier: MIT
 * Net1D forward. A block: [bn1, Swish, dropout] conv1, [bn2] Swish, dropout, grouped conv2, [bn3] Swish, dropout, conv3,
 * squeeze and excitation, plus the pooled and zero-padded input; the network's first block starts at conv1. What
 * stands before a convolution is part of the convolution's call (struct ops_act), and a convolution hands back the
 * statistics of its output where the next layer wants them, so each activation is written once and read once. */
#include "core/rng.h"
#include "train/model/plan.h"

/* One stream of random numbers for every place that drops: the use in the low byte, the place above. */
static uint32_t stream_at(enum rng_stream use, int place) {
    return (uint32_t)use | (uint32_t)place << 8;
}

bool forward_batch_statistics(const struct net1d_norm *n, const struct net1d_pass *pass) {
    return pass->train && !pass->frozen_norm && n->weight->layer >= pass->frozen_below;
}

struct ops_act forward_act(const struct net1d *net, const struct net1d_norm *norm, int layer,
                           const struct net1d_pass *pass) {
    struct ops_act act = {.swish = 1};
    if (norm != NULL && norm->used) {
        act.scale = norm->scale;
        act.shift = norm->shift;
    }
    if (pass->train && layer >= 0) {
        act.drop = (float)net->config.dropout;
        act.seed = pass->seed;
        act.stream = stream_at(RNG_DROPOUT, layer);
        act.step = pass->step;
        act.sample0 = pass->sample0;
    }
    return act;
}

struct ops_act forward_conv_act(const struct net1d *net, const struct net1d_block *b, int conv,
                                const struct net1d_pass *pass) {
    if (conv == 1 && b->is_first) return (struct ops_act){0};
    const struct net1d_norm *norm = conv == 1 ? &b->bn1 : conv == 2 ? &b->bn2 : &b->bn3;
    return forward_act(net, norm, 3 * b->index + conv - 1, pass);
}

/* ------------------------------------------------------------------ normalisation */

/* Folds scale and shift from this batch's statistics (n->mean, n->var; keeping the running ones) or from the
 * running statistics. */
static enum ecg_status fold(struct net1d *net, struct net1d_norm *n, const struct net1d_pass *pass,
                            double rows) {
    const float *gamma = tensors_value(net, n->weight), *beta = tensors_value(net, n->bias);
    float *running_mean = tensors_value(net, n->running_mean);
    float *running_var = tensors_value(net, n->running_var);
    if (!forward_batch_statistics(n, pass))
        return net->ops->norm_fold(net->dev, n->C, running_mean, running_var, gamma, beta,
                                   NET1D_BN_EPS, n->scale, n->shift, NULL, NULL, 0, rows);
    const struct net1d_share *share = pass->share;
    if (share != NULL) TRY(share->statistics(share->context, n->C, n->mean, n->var, &rows));
    if (rows < 2)
        return ecg_fail(ECG_ERR_CONFIG,
                        "model.batch_norm: one value per channel has no variance (%s, batch of 1 "
                        "and length 1); use a longer model.length or a larger batch",
                        n->weight->name);
    return net->ops->norm_fold(net->dev, n->C, n->mean, n->var, gamma, beta, NET1D_BN_EPS, n->scale,
                               n->shift, running_mean, running_var, NET1D_BN_MOMENTUM, rows);
}

/* Whether what comes before `next` (NULL = nothing) hands back statistics of its output for it. */
static bool wants_statistics(const struct net1d_norm *next, const struct net1d_pass *pass) {
    return next != NULL && next->used && forward_batch_statistics(next, pass);
}

/* Convolution of act(x); when `next` normalises the output, its statistics come along. */
static enum ecg_status conv(struct net1d *net, const struct net1d_conv *c, int B,
                            const struct net1d_pass *pass, const struct ops_act *act, const void *x,
                            void *y, struct net1d_norm *next, float *y_mean) {
    bool stats = wants_statistics(next, pass);
    struct ops_conv s = plan_conv(c, B);
    TRY(net->ops->act_conv_fwd(net->dev, net->config.precision, s, act, x, tensors_value(net, c->w),
                               c->packed, tensors_value(net, c->b), y, stats ? next->mean : NULL,
                               stats ? next->var : NULL, y_mean, net->p->ws));
    if (next == NULL || !next->used) return ECG_OK;
    return fold(net, next, pass, (double)s.B * s.Lout);
}

/* ------------------------------------------------------------------ drop-path */

bool forward_drops_paths(const struct net1d_block *b, const struct net1d_pass *pass) {
    return pass->train && b->path_gate != NULL;
}

enum ecg_status forward_path_factors(struct net1d *net, const struct net1d_block *b, int B,
                                     const struct net1d_pass *pass) {
    struct net1d_private *p = net->p;
    uint32_t stream = stream_at(RNG_DROP_PATH, b->index);
    for (int i = 0; i < B; i++) {
        struct rng r;
        rng_init(&r, pass->seed, stream, pass->step, (uint32_t)(pass->sample0 + (uint64_t)i));
        float factor = rng_uniform(&r) >= b->drop_path ? (float)(1 / (1 - b->drop_path)) : 0;
        for (int c = 0; c < b->Cout; c++)
            p->path_factor_host[(size_t)i * (size_t)b->Cout + (size_t)c] = factor;
    }
    return net->ops->upload(net->dev, p->path_factor, p->path_factor_host,
                            (size_t)B * (size_t)b->Cout * sizeof(float));
}

/* Seen as one row of B*Cout channels, the factors are a normalisation's scale. */
enum ecg_status forward_path_scale(struct net1d *net, const struct net1d_block *b, int B,
                                   const float *x, float *y) {
    struct ops_act act = {.scale = net->p->path_factor, .shift = net->p->zeros};
    return net->ops->act_fwd(net->dev, OPS_F32, (struct ops_blc){1, 1, B * b->Cout}, &act, x, y);
}

/* ------------------------------------------------------------------ layers */

static enum ecg_status stem(struct net1d *net, int B, const struct net1d_pass *pass) {
    struct net1d_private *p = net->p;
    const struct ops_act none = {0};
    TRY(conv(net, &p->stem, B, pass, &none, net->x, p->h0, &p->first_bn, NULL));
    struct ops_act act = forward_act(net, &p->first_bn, -1, pass);
    struct ops_blc s = {B, p->stem.shape.Lout, p->stem.shape.Cout};
    return net->ops->act_fwd(net->dev, net->config.precision, s, &act, p->h0, p->y0);
}

static enum ecg_status squeeze_excite(struct net1d *net, struct net1d_block *b, int B,
                                      const struct net1d_pass *pass, const float **gate) {
    TRY(net->ops->se_fwd(net->dev, B, b->Cout, b->H, b->m, tensors_value(net, b->fc1.w),
                         tensors_value(net, b->fc1.b), tensors_value(net, b->fc2.w),
                         tensors_value(net, b->fc2.b), b->z, b->gate, net->p->ws));
    *gate = b->gate;
    if (!forward_drops_paths(b, pass)) return ECG_OK;
    TRY(forward_path_factors(net, b, B, pass));
    *gate = b->path_gate;
    return forward_path_scale(net, b, B, b->gate, b->path_gate);
}

enum ecg_status forward_branch(struct net1d *net, struct net1d_block *b, int B,
                               const struct net1d_pass *pass, bool again) {
    struct ops_act act1 = forward_conv_act(net, b, 1, pass);
    TRY(conv(net, &b->conv1, B, pass, &act1, b->in, b->h1, again ? NULL : &b->bn2, NULL));
    struct ops_act act2 = forward_conv_act(net, b, 2, pass);
    TRY(conv(net, &b->conv2, B, pass, &act2, b->h1, b->h2, again ? NULL : &b->bn3, NULL));
    struct ops_act act3 = forward_conv_act(net, b, 3, pass);
    return conv(net, &b->conv3, B, pass, &act3, b->h2, b->h3, NULL, again ? NULL : b->m);
}

static enum ecg_status block(struct net1d *net, struct net1d_block *b, int B,
                             const struct net1d_pass *pass) {
    struct net1d_norm *next = b->index + 1 < net->p->n_blocks ? &b[1].bn1 : NULL;
    bool stats = wants_statistics(next, pass);
    TRY(forward_branch(net, b, B, pass, false));
    const float *gate;
    TRY(squeeze_excite(net, b, B, pass, &gate));
    TRY(net->ops->tail_fwd(net->dev, net->config.precision, (struct ops_blc){B, b->Lout, b->Cout},
                           b->Lin, b->Cin, b->S, b->h3, gate, b->in, b->y,
                           stats ? next->mean : NULL, stats ? next->var : NULL, net->p->ws));
    if (next == NULL || !next->used) return ECG_OK;
    return fold(net, next, pass, (double)B * b->Lout);
}

static enum ecg_status pack_weights(struct net1d *net, const struct net1d_pass *pass) {
    struct net1d_private *p = net->p;
    if (p->is_packed && pass->same_weights) return ECG_OK;
    TRY(net->ops->conv_pack(net->dev, net->config.precision, p->n_packs, p->packs, p->ws));
    p->is_packed = true;
    return ECG_OK;
}

static enum ecg_status all_layers(struct net1d *net, int B, const struct net1d_pass *pass) {
    TRY(stem(net, B, pass));
    for (int i = 0; i < net->p->n_blocks; i++) TRY(block(net, &net->p->blocks[i], B, pass));
    return head_forward(net, B, NULL);
}

static void count_batch(struct net1d *net, const struct net1d_norm *n,
                        const struct net1d_pass *pass) {
    if (n->used && forward_batch_statistics(n, pass)) net->counters[n->counter->offset]++;
}

/* num_batches_tracked: on the host, where no recorded pass comes by. */
static void count_batches(struct net1d *net, const struct net1d_pass *pass) {
    count_batch(net, &net->p->first_bn, pass);
    for (int i = 0; i < net->p->n_blocks; i++) {
        const struct net1d_block *b = &net->p->blocks[i];
        count_batch(net, &b->bn1, pass);
        count_batch(net, &b->bn2, pass);
        count_batch(net, &b->bn3, pass);
    }
}

enum ecg_status net1d_forward(struct net1d *net, int B, const struct net1d_pass *pass) {
    if (B < 1 || B > net->max_batch)
        return ecg_fail(ECG_ERR_FAIL, "net1d: batch of %d in a network planned for 1 .. %d", B,
                        net->max_batch);
    if (pass->train && !net->training)
        return ecg_fail(ECG_ERR_FAIL, "net1d: training pass in a network planned for inference");
    if (pass->features != NULL) return head_forward(net, B, pass->features);
    TRY(pack_weights(net, pass));
    TRY(repeat_pass(net, false, B, pass, all_layers));
    count_batches(net, pass);
    return ECG_OK;
}

enum ecg_status net1d_share_forward(struct net1d *net, const struct net1d_pass *pass) {
    struct net1d_private *p = net->p;
    if (p->first_bn.used) TRY(fold(net, &p->first_bn, pass, 0));
    for (int i = 0; i < p->n_blocks; i++) {
        struct net1d_norm *next = i + 1 < p->n_blocks ? &p->blocks[i + 1].bn1 : NULL;
        if (p->blocks[i].bn2.used) TRY(fold(net, &p->blocks[i].bn2, pass, 0));
        if (p->blocks[i].bn3.used) TRY(fold(net, &p->blocks[i].bn3, pass, 0));
        if (next != NULL && next->used) TRY(fold(net, next, pass, 0));
    }
    count_batches(net, pass);
    return ECG_OK;
}
