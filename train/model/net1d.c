/* SPDX-License-Identifier: MIT
 * Net1D as a whole: which configurations can be, building and freeing, and what a forward pass costs. */
#include "train/model/net1d.h"

#include <stdlib.h>

#include "core/mem.h"
#include "train/model/plan.h"

#define MAX_WIDTH   65536
#define MAX_KERNEL  4096
#define MAX_BLOCKS  4096 /* in a stage */
#define MAX_OUTPUTS 1000000
#define MAX_BATCH   65536 /* of one forward pass */

static enum ecg_status check_int(const char *key, int64_t value, int64_t low, int64_t high) {
    if (value >= low && value <= high) return ECG_OK;
    return ecg_fail(ECG_ERR_CONFIG, "%s: %lld is outside %lld .. %lld", key, (long long)value,
                    (long long)low, (long long)high);
}

static enum ecg_status check_probability(const char *key, double value) {
    if (value >= 0 && value < 1) return ECG_OK;
    return ecg_fail(ECG_ERR_CONFIG, "%s: %g is outside [0, 1)", key, value);
}

static enum ecg_status check_stage(const struct net1d_config *c, int i) {
    int C = c->filters[i], before = i == 0 ? c->base_filters : c->filters[i - 1];
    TRY(check_int("model.filters", C, 2, MAX_WIDTH));
    TRY(check_int("model.blocks", c->blocks[i], 1, MAX_BLOCKS));
    if (C < before)
        return ecg_fail(ECG_ERR_CONFIG,
                        "model.filters: stage %d narrows from %d to %d channels; widths can't "
                        "shrink, the shortcut only adds channels",
                        i, before, C);
    int G = C / c->group_width;
    if (G < 1 || C % G != 0)
        return ecg_fail(ECG_ERR_CONFIG,
                        "model.filters: %d channels of stage %d can't be divided into groups of "
                        "model.group_width %d",
                        C, i, c->group_width);
    if ((int64_t)c->length * C > INT32_MAX)
        return ecg_fail(ECG_ERR_CONFIG,
                        "model.length %d times %d channels of stage %d is too large", c->length, C,
                        i);
    return ECG_OK;
}

enum ecg_status net1d_check(const struct net1d_config *c) {
    TRY(check_int("model.in_leads (their number)", c->n_leads, 1, MAX_WIDTH));
    TRY(check_int("model.length", c->length, 1, INT32_MAX / c->n_leads));
    TRY(check_int("model.base_filters", c->base_filters, 1, MAX_WIDTH));
    TRY(check_int("model.filters (their number)", c->n_stages, 1, NET1D_MAX_STAGES));
    TRY(check_int("model.kernel_size", c->kernel_size, 1, MAX_KERNEL));
    TRY(check_int("model.stride", c->stride, 1, MAX_KERNEL));
    TRY(check_int("model.group_width", c->group_width, 1, MAX_WIDTH));
    TRY(check_int("outputs (labels or targets)", c->n_outputs, 1, MAX_OUTPUTS));
    TRY(check_probability("model.dropout", c->dropout));
    TRY(check_probability("model.drop_path", c->drop_path));
    for (int i = 0; i < c->n_stages; i++) TRY(check_stage(c, i));
    return ECG_OK;
}

const char *net1d_pool_name(enum net1d_pool pool) {
    return pool == NET1D_POOL_ATTENTION ? "attention" : "mean";
}

int net1d_features(const struct net1d_config *c) {
    return c->filters[c->n_stages - 1];
}

int net1d_head_layer(const struct net1d_config *c) {
    return c->n_stages + 1;
}

struct ops_conv net1d_walk_start(struct net1d_walk *w, const struct net1d_config *c, int B) {
    const struct ops_conv stem =
        ops_conv_same(B, c->length, c->n_leads, c->base_filters, c->kernel_size, c->stride, 1);
    *w = (struct net1d_walk){.config = c, .B = B, .L = stem.Lout, .C = stem.Cout};
    return stem;
}

bool net1d_walk_block(struct net1d_walk *w, struct ops_conv conv[3]) {
    const struct net1d_config *c = w->config;
    if (w->stage < c->n_stages && w->place == c->blocks[w->stage]) {
        w->stage++;
        w->place = 0;
    }
    if (w->stage == c->n_stages) return false;
    const int C = c->filters[w->stage], S = w->place++ == 0 ? c->stride : 1;
    conv[0] = ops_conv_same(w->B, w->L, w->C, C, 1, 1, 1);
    conv[1] = ops_conv_same(w->B, w->L, C, C, c->kernel_size, S, C / c->group_width);
    conv[2] = ops_conv_same(w->B, conv[1].Lout, C, C, 1, 1, 1);
    w->L = conv[1].Lout;
    w->C = C;
    return true;
}

int64_t net1d_conv_macs(struct ops_conv s) {
    return (int64_t)s.Lout * s.Cout * (s.Cin / s.G) * s.K;
}

int64_t net1d_macs(const struct net1d_config *c) {
    struct net1d_walk w;
    struct ops_conv conv[3];
    int64_t macs = net1d_conv_macs(net1d_walk_start(&w, c, 1));
    while (net1d_walk_block(&w, conv)) {
        for (int i = 0; i < 3; i++) macs += net1d_conv_macs(conv[i]);
        macs += 2 * (int64_t)w.C * (w.C / 2);
    }
    if (c->pool == NET1D_POOL_ATTENTION) macs += 2 * (int64_t)w.L * w.C;
    return macs + (int64_t)w.C * c->n_outputs;
}

static enum ecg_status plan(struct net1d *net) {
    TRY(net1d_check(&net->config));
    TRY(check_int("train.batch_size", net->max_batch, 1, MAX_BATCH));
    TRY(MEM_NEW(&net->p, 1));
    TRY(plan_shapes(net));
    TRY(tensors_build(net));
    if (net->config.head_only) net1d_freeze_backbone(net, true);
    return plan_count(net);
}

enum ecg_status net1d_plan(struct net1d *net, const struct net1d_config *config,
                           const struct ops *ops, struct ops_dev *dev, int max_batch,
                           bool training) {
    *net = (struct net1d){.config = *config,
                          .ops = ops,
                          .dev = dev,
                          .max_batch = max_batch,
                          .training = training,
                          .graphs = true};
    enum ecg_status status = plan(net);
    if (status != ECG_OK) net1d_free(net);
    return status;
}

enum ecg_status net1d_create(struct net1d *net, const struct net1d_config *config,
                             const struct ops *ops, struct ops_dev *dev, int max_batch,
                             bool training) {
    enum ecg_status status;
    TRY_OUT(net1d_plan(net, config, ops, dev, max_batch, training));
    TRY_OUT(plan_allocate(net));
    TRY_OUT(init_norms(net));
out:
    if (status != ECG_OK) net1d_free(net);
    return status;
}

void net1d_free(struct net1d *net) {
    if (net->p != NULL) {
        repeat_free(net);
        if (net->p->memory != NULL) net->ops->free(net->dev, net->p->memory);
        free(net->p->path_factor_host);
        free(net->p->blocks);
        free(net->p->packs);
        free(net->p);
    }
    free(net->tensors);
    free(net->counters);
    *net = (struct net1d){0};
}
