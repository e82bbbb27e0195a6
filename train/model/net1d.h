/* SPDX-License-Identifier: MIT
 * Net1D, the network of ECGFounder (arXiv 2410.04133; official net1d.py after hsd1503/resnet1d), exactly, over a table of
 * operations. Input x (B, length, n_leads); features (B, D) = the last block's output (B, L, D) pooled over time, D = the last
 * width; logits (B, n_outputs). The head is what comes after the last block: pool.* (if any) and dense.*. */
#ifndef TRAIN_MODEL_NET1D_H
#define TRAIN_MODEL_NET1D_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/mem.h"
#include "core/status.h"
#include "kernels/ops.h"

#define NET1D_MAX_STAGES 16

/* How the head makes features of h (B, L, D). ATTENTION: sum over l of a(b,l)*h(b,l), a = softmax over l of w.h(b,l), w being
 * pool.weight (1, D): Lin et al. 2017, Ilse et al. 2018. There is no pool.bias: softmax is blind to it. w is 0 at first, and
 * that is the mean. */
enum net1d_pool { NET1D_POOL_MEAN, NET1D_POOL_ATTENTION };
/* The names, in the order of the enum: of model.pool and in the weights' metadata. */
#define NET1D_POOL_CHOICES "mean attention"
const char *net1d_pool_name(enum net1d_pool pool);

struct net1d_config {
    int n_leads, length;
    int base_filters;
    int n_stages;
    int filters[NET1D_MAX_STAGES], blocks[NET1D_MAX_STAGES];
    int kernel_size, stride, group_width;
    bool batch_norm;
    double dropout, drop_path;
    enum net1d_pool pool;
    int n_outputs;
    enum ops_dtype precision; /* of activations and their gradients; all else is fp32 */
    bool recompute; /* training keeps the outputs of the blocks alone and computes what lies between them again in
                       backward: the same bits, less memory, a third more work */
    bool head_only; /* training: the head alone; the backbone is frozen for good, and memory is that of inference */
};

/* Bytes of the one allocation, by use. */
struct net1d_memory {
    size_t parameters;  /* BN buffers and unused tensors included */
    size_t packed;      /* the convolutions' weights once more, as the backend reads them */
    size_t gradients;   /* of the parameters */
    size_t activations; /* the input, and what a forward pass writes and keeps */
    size_t backward;    /* gradients of activations on their way down */
    size_t scratch;     /* of the operations, for a batch of max_batch */
    size_t reserve;     /* more scratch, which only some smaller batches use */
};

enum tensor_kind {
    TENSOR_PARAM,   /* trained: lies in params/grads */
    TENSOR_UNUSED,  /* BN weight and bias that no forward pass reads (all of a network without BN, and always bn1 of
                       the very first block): kept and exported as imported */
    TENSOR_BUFFER,  /* BN running mean and variance (fp32) */
    TENSOR_COUNTER  /* num_batches_tracked (int64 scalar), kept in `counters` */
};

/* The one tensor table. Names are the official state_dict keys, in state_dict order. */
struct tensor {
    char name[80];
    enum tensor_kind kind;
    int ndim;
    int64_t shape[3];
    size_t n;       /* elements */
    size_t offset;  /* floats into params (PARAM) or extras (UNUSED, BUFFER); index into counters (COUNTER) */
    bool is_head;   /* net1d_is_head */
    bool is_norm;   /* of a BatchNorm1d module */
    int layer;      /* 0 the stem, 1 + i stage i, n_stages + 1 (net1d_head_layer) the head */
    bool is_bias_or_norm; /* biases and BN weights: what optim.decay_bias: false leaves out */
    bool frozen;    /* no gradient is computed or applied */
};

struct net1d {
    struct net1d_config config;
    const struct ops *ops;
    struct ops_dev *dev;
    int max_batch;
    bool training;        /* planned with gradients */
    bool graphs;          /* backends that can may record a pass and repeat it; true at first */

    struct net1d_memory memory;
    struct tensor *tensors;
    size_t n_tensors;
    size_t n_params;      /* floats in the flat arrays below, with padding (every tensor 64-byte aligned, padding 0) */
    size_t n_live;        /* parameters without padding */
    float *params, *grads; /* (n_params); grads NULL when not training */
    float *extras;        /* BN buffers and unused tensors */
    size_t n_extras;
    int64_t *counters;
    size_t n_counters;

    void *x;              /* (max_batch, length, n_leads) in config.precision: the caller fills it by ops->input_fwd */
    float *features;      /* (max_batch, D) after forward */
    float *logits;        /* (max_batch, n_outputs) after forward */
    float *dlogits;       /* (max_batch, n_outputs): the caller fills it before backward */
    struct net1d_private *p;
};

/* ECG_ERR_CONFIG names the key when a shape can't be (channels not divisible into groups, length 0 ...). */
enum ecg_status net1d_check(const struct net1d_config *c);
/* Builds the tensor table, plans and allocates everything for batches up to max_batch. Parameters are zero (BN: 1, 0, 0, 1, 0). */
enum ecg_status net1d_create(struct net1d *net, const struct net1d_config *config, const struct ops *ops,
                             struct ops_dev *dev, int max_batch, bool training);
/* The same without the allocation, for what a network would need: table, shapes and `memory` are there, `params` and all
 * that points into the memory is NULL, and nothing can be run. */
enum ecg_status net1d_plan(struct net1d *net, const struct net1d_config *config,
                           const struct ops *ops, struct ops_dev *dev, int max_batch,
                           bool training);
void net1d_free(struct net1d *net); /* idempotent, zeroed is fine */
/* The end of training: gives the machine back what only passes use (activations, gradients, scratch) where that is host memory;
 * parameters and buffers stay. No pass may follow. */
void net1d_retire(struct net1d *net);
int net1d_features(const struct net1d_config *c); /* D */
struct tensor *net1d_tensor(struct net1d *net, const char *name); /* NULL: not there */

/* Whether a tensor of this name is the head's: dense.* and pool.*, whatever the network. */
bool net1d_is_head(const char *name);

/* PyTorch's default distributions: conv and linear weights and biases U(-1/sqrt(fan_in), 1/sqrt(fan_in)), by Philox
 * (seed, RNG_INIT, tensor's index): the same for any backend; pool.weight 0. only_head: the head alone. */
enum ecg_status net1d_init_weights(struct net1d *net, uint64_t seed, bool only_head);

/* Batch norm by the statistics of more records than this network's: those of other ranks. */
struct net1d_share {
    /* mean, var (C) of *rows become those of all; so does *rows. Of 0 rows nothing is read. */
    enum ecg_status (*statistics)(void *context, int C, float *mean, float *var, double *rows);
    /* k (3, C) of struct ops_norm, by the means over `rows`, becomes that by the means over all. */
    enum ecg_status (*gradient)(void *context, int C, float *k, double rows);
    void *context;
};

/* Where the forward pass stands, for dropout and drop-path. */
struct net1d_pass {
    bool train;       /* batch statistics, dropout; else running statistics */
    bool frozen_norm; /* BN uses running statistics and leaves them, also in training (linear probe); its weight and
                         bias then get no gradient */
    int frozen_below; /* the same for the BN of layers (struct tensor) below this one */
    uint64_t seed;
    uint32_t step;
    uint64_t sample0; /* place of the micro-batch's first sample in the step's batch */
    enum ecg_status (*done)(void *context, size_t offset); /* backward: the gradients from this place of the flat array on
                          are there; such a pass is not recorded. NULL: nobody asks */
    void *context;
    const struct net1d_share *share; /* NULL: statistics of this batch; such a pass is not recorded either */
    bool same_weights; /* the convolutions' weights are those of the last forward pass (before which there need not be
                          one) */
    const float *features; /* (B, D) in ops memory, of an earlier pass: the head alone runs, on them instead of
                              net->features, forward and backward; NULL: the whole network runs on net->x */
};
enum ecg_status net1d_forward(struct net1d *net, int B, const struct net1d_pass *pass);
/* A pass of no record, forward and backward: its part in what pass->share and pass->done do. */
enum ecg_status net1d_share_forward(struct net1d *net, const struct net1d_pass *pass);
enum ecg_status net1d_share_backward(struct net1d *net, const struct net1d_pass *pass);
/* After a forward with pass->train or frozen_norm: grads += d loss / d params for every tensor that is not frozen; stops
 * above the lowest layer that is not frozen. */
enum ecg_status net1d_backward(struct net1d *net, int B, const struct net1d_pass *pass);

/* Sets `frozen` on the backbone (all but the head) or clears it. */
void net1d_freeze_backbone(struct net1d *net, bool frozen);
/* Sets `frozen` on the layers below `layer` and, with `norms`, on all of BN; clears it on the rest. */
void net1d_freeze_below(struct net1d *net, int layer, bool norms);
/* The layer of dense.*, the highest. */
int net1d_head_layer(const struct net1d_config *c);

/* The convolutions of a network by its config alone, in the order of the forward pass:
 *     struct net1d_walk w;
 *     struct ops_conv stem = net1d_walk_start(&w, &config, B), conv[3];    conv: 1x1, grouped, 1x1
 *     while (net1d_walk_block(&w, conv)) ... */
struct net1d_walk {
    const struct net1d_config *config;
    int B, stage, place;
    int L, C; /* the next block's input */
};
struct ops_conv net1d_walk_start(struct net1d_walk *w, const struct net1d_config *c, int B);
bool net1d_walk_block(struct net1d_walk *w, struct ops_conv conv[3]); /* false: there is no further block */
/* Multiply-accumulates of one record through a convolution. */
int64_t net1d_conv_macs(struct ops_conv s);
/* Multiply-accumulates of one record's forward pass. */
int64_t net1d_macs(const struct net1d_config *c);

#endif
