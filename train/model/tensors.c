/* SPDX-License-Identifier: MIT
 * The tensor table: the official state_dict's keys in its order, 9 + 25 rows a block (509 for the published widths), and
 * attention's, which the official code has not, behind them: dense.* then starts from the same numbers with and without it.
 * Parameters lie in one flat array, BN buffers and the BN tensors that a network without BN carries along in another. */
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "train/model/plan.h"

#define STEM_AND_HEAD_TENSORS 10 /* first_conv 2, first_bn 5, dense 2, pool 1 */
#define BLOCK_TENSORS         25 /* bn1..3 5 each, conv1..3, se_fc1, se_fc2 2 each */

/* Room for `n` floats at the next 64-byte place of an array of *total floats. */
static size_t place_floats(size_t *total, size_t n) {
    size_t unit = MEM_ALIGN / sizeof(float);
    size_t offset = *total;
    *total += (n + unit - 1) / unit * unit;
    return offset;
}

static struct tensor *add(struct net1d *net, const char *prefix, const char *leaf,
                          enum tensor_kind kind, int ndim, const int64_t shape[3]) {
    struct tensor *t = &net->tensors[net->n_tensors++];
    snprintf(t->name, sizeof(t->name), "%s.%s", prefix, leaf);
    t->is_head = net1d_is_head(t->name);
    t->kind = kind;
    t->ndim = ndim;
    t->n = 1;
    for (int i = 0; i < ndim; i++) {
        t->shape[i] = shape[i];
        t->n *= (size_t)shape[i];
    }
    if (kind == TENSOR_PARAM) {
        t->offset = place_floats(&net->n_params, t->n);
        net->n_live += t->n;
    } else if (kind == TENSOR_COUNTER) {
        t->offset = net->n_counters++;
    } else {
        t->offset = place_floats(&net->n_extras, t->n);
    }
    return t;
}

static void add_conv(struct net1d *net, const char *prefix, const char *name,
                     struct net1d_conv *c) {
    char path[60];
    snprintf(path, sizeof(path), "%s%s.conv", prefix, name);
    const int64_t shape[3] = {c->shape.Cout, c->shape.Cin / c->shape.G, c->shape.K};
    c->w = add(net, path, "weight", TENSOR_PARAM, 3, shape);
    c->b = add(net, path, "bias", TENSOR_PARAM, 1, shape);
    c->b->is_bias_or_norm = true;
}

static void add_linear(struct net1d *net, const char *prefix, const char *name,
                       struct net1d_linear *l) {
    char path[60];
    snprintf(path, sizeof(path), "%s%s", prefix, name);
    const int64_t shape[3] = {l->N, l->K, 0};
    l->w = add(net, path, "weight", TENSOR_PARAM, 2, shape);
    l->b = add(net, path, "bias", TENSOR_PARAM, 1, shape);
    l->b->is_bias_or_norm = true;
}

static void add_norm(struct net1d *net, const char *prefix, const char *name,
                     struct net1d_norm *n) {
    char path[60];
    snprintf(path, sizeof(path), "%s%s", prefix, name);
    const int64_t shape[3] = {n->C, 0, 0};
    /* Not only a network without BN has such dead weight: the very first block never calls its bn1, and PyTorch's
     * optimisers leave it alone even with BN on. */
    enum tensor_kind kind = n->used ? TENSOR_PARAM : TENSOR_UNUSED;
    n->weight = add(net, path, "weight", kind, 1, shape);
    n->bias = add(net, path, "bias", kind, 1, shape);
    n->running_mean = add(net, path, "running_mean", TENSOR_BUFFER, 1, shape);
    n->running_var = add(net, path, "running_var", TENSOR_BUFFER, 1, shape);
    n->counter = add(net, path, "num_batches_tracked", TENSOR_COUNTER, 0, shape);
    n->weight->is_bias_or_norm = n->bias->is_bias_or_norm = true;
    for (struct tensor *t = n->weight; t <= n->counter; t++) t->is_norm = true;
}

enum ecg_status tensors_build(struct net1d *net) {
    struct net1d_private *p = net->p;
    size_t capacity = STEM_AND_HEAD_TENSORS + BLOCK_TENSORS * (size_t)p->n_blocks;
    TRY(MEM_NEW(&net->tensors, capacity));
    add_conv(net, "", "first_conv", &p->stem);
    add_norm(net, "", "first_bn", &p->first_bn);
    for (int i = 0; i < p->n_blocks; i++) {
        struct net1d_block *b = &p->blocks[i];
        char prefix[48];
        size_t at = net->n_tensors;
        snprintf(prefix, sizeof(prefix), "stage_list.%d.block_list.%d.", b->stage, b->place);
        add_norm(net, prefix, "bn1", &b->bn1);
        add_conv(net, prefix, "conv1", &b->conv1);
        add_norm(net, prefix, "bn2", &b->bn2);
        add_conv(net, prefix, "conv2", &b->conv2);
        add_norm(net, prefix, "bn3", &b->bn3);
        add_conv(net, prefix, "conv3", &b->conv3);
        add_linear(net, prefix, "se_fc1", &b->fc1);
        add_linear(net, prefix, "se_fc2", &b->fc2);
        for (; at < net->n_tensors; at++) net->tensors[at].layer = 1 + b->stage;
    }
    add_linear(net, "", "dense", &p->dense);
    const int64_t shape[3] = {1, p->dense.K, 0};
    if (net->config.pool == NET1D_POOL_ATTENTION)
        p->pool = add(net, "pool", "weight", TENSOR_PARAM, 2, shape);
    for (size_t i = 0; i < net->n_tensors; i++)
        if (net->tensors[i].is_head) net->tensors[i].layer = net1d_head_layer(&net->config);
    return MEM_NEW(&net->counters, net->n_counters);
}

float *tensors_value(const struct net1d *net, const struct tensor *t) {
    return (t->kind == TENSOR_PARAM ? net->params : net->extras) + t->offset;
}

float *tensors_grad(const struct net1d *net, const struct tensor *t) {
    return net->grads + t->offset;
}

bool net1d_is_head(const char *name) {
    return strncmp(name, "dense.", 6) == 0 || strncmp(name, "pool.", 5) == 0;
}

struct tensor *net1d_tensor(struct net1d *net, const char *name) {
    for (size_t i = 0; i < net->n_tensors; i++)
        if (strcmp(net->tensors[i].name, name) == 0) return &net->tensors[i];
    return NULL;
}

void net1d_freeze_backbone(struct net1d *net, bool frozen) {
    for (size_t i = 0; i < net->n_tensors; i++)
        if (!net->tensors[i].is_head) net->tensors[i].frozen = frozen;
}

void net1d_freeze_below(struct net1d *net, int layer, bool norms) {
    for (size_t i = 0; i < net->n_tensors; i++) {
        struct tensor *t = &net->tensors[i];
        t->frozen = t->layer < layer || (norms && t->is_norm);
    }
}
