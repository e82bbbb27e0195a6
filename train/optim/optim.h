/* SPDX-License-Identifier: MIT
 * The optimiser: PyTorch's Adam, AdamW and SGD over the network's flat parameter array, with PyTorch's global-norm
 * clipping. The moments m and v are flat arrays of the parameters' own layout (same offsets, same padding), so a
 * checkpoint stores each as one array or cuts it by the tensor table.
 *
 *     optim_create(&o, &config, &net);      after net1d_freeze_*: tensors then frozen are left out for good
 *     each step: optim_zero_grad; backward of every micro-batch; optim_clip; optim_step with schedule_at's numbers
 */
#ifndef TRAIN_OPTIM_OPTIM_H
#define TRAIN_OPTIM_OPTIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "kernels/ops.h"
#include "train/model/net1d.h"

/* In the order of OPTIM_CHOICES, for the option table. */
enum optim_kind { OPTIM_ADAM, OPTIM_ADAMW, OPTIM_SGD };
#define OPTIM_CHOICES "adam adamw sgd"

struct optim_config {
    enum optim_kind kind;
    double weight_decay; /* adam, sgd: L2 added to the gradient; adamw: decoupled */
    double beta2, eps;   /* adam, adamw */
    bool decay_bias;     /* false: biases and BN weights are left out of weight decay */
    const double *layer_factors; /* (n_stages + 1) of the stem and each stage, times backbone_lr; NULL: 1 */
    bool by_layer;               /* optim_open will be used for other layers than the head */
    size_t shard_from, shard_n;  /* ZeRO-1: this rank updates these of the flat array and has their moments alone; shard_n 0:
                                    all of them */
};

/* Consecutive parameters that are treated alike, padding in between included (it is 0 and stays 0). */
struct optim_range {
    size_t offset, n; /* floats */
    bool is_head;     /* the head's: takes lr; else backbone_lr */
    int layer;        /* of its tensors (struct tensor); with neither layer_factors nor by_layer: of the first one */
    bool decays;
    double unit; /* what its parameters are measured in; 1 = nothing */
};

struct optim {
    struct optim_config config;
    const struct ops *ops;
    struct ops_dev *dev;
    float *params, *grads; /* (n) the network's */
    size_t n;
    struct optim_range *ranges; /* by offset; frozen tensors are in none */
    size_t n_ranges;
    double *squares; /* (n_ranges) what optim_clip adds up */
    float *m;     /* (config.shard_n, or n) first moment; SGD: momentum buffer. In ops memory */
    float *v;     /* likewise, second moment; SGD: NULL */
    int64_t step; /* updates done; a checkpoint stores and sets m, v, step and start */
    int n_layers; /* the head's is the last */
    int lowest;   /* layers below stay as they are, moments included */
    int64_t start[NET1D_MAX_STAGES + 2]; /* updates done when a layer was first opened, which its own are counted
                                            from; -1: not yet */
};

/* The numbers of one update, from schedule_at. */
struct optim_rates {
    double lr; /* of the head, and of everything where backbone_lr is the same */
    double backbone_lr;
    double beta1; /* Adam's beta1; SGD's momentum (0 = plain) */
};

/* `net` was created for training and outlives the optimiser. Nothing left to train: ECG_ERR_CONFIG. */
enum ecg_status optim_create(struct optim *o, const struct optim_config *config, struct net1d *net);
/* The same without the moments, for what they would take; `net` may be a plan (net1d_plan). */
enum ecg_status optim_plan(struct optim *o, const struct optim_config *config, struct net1d *net);
/* Floats of a moment's array. */
size_t optim_shard(const struct optim *o);
/* Bytes of one moment, or of the gradients, that belong to what is trained: the rest is never used. */
size_t optim_used_bytes(const struct optim *o);
int optim_moments(const struct optim *o); /* how many: m alone, or m and v */
void optim_free(struct optim *o); /* idempotent, zeroed is fine */

/* Trains each of `rows` consecutive rows of `width` parameters at `offset` as if it were divided by unit[row] (> 0): for heads
 * whose outputs have units, see train/run/head.h. The rows lie in one range, which is cut. */
enum ecg_status optim_unit_rows(struct optim *o, size_t offset, size_t width, int rows,
                                const double *unit);

/* All but the head stays as it is until it is opened, as if nothing below it had been trained yet. */
void optim_close(struct optim *o);
/* Trains the layers from `lowest` on. Adam counts a layer's updates from its first opening, as PyTorch does for parameters
 * that get their first gradient. */
void optim_open(struct optim *o, int lowest);
/* Whether a range is trained. */
static inline bool optim_is_open(const struct optim *o, const struct optim_range *r) {
    return r->layer >= o->lowest;
}
/* As created: no update done, moments 0, all layers open. */
enum ecg_status optim_reset(struct optim *o);

/* Of what is open, like optim_clip and optim_step. */
enum ecg_status optim_zero_grad(struct optim *o);

/* torch.nn.utils.clip_grad_norm_, which waits for the device (ops->sync): *norm = L2 norm of all gradients that are not frozen, before clipping; gradients are
 * scaled by min(1, max_norm / (norm + 1e-6)). max_norm 0: only measures. A norm that is not finite scales nothing
 * and is handed back for the caller to judge. */
enum ecg_status optim_clip(struct optim *o, double max_norm, double *norm);

/* One update with the gradients as they are; step += 1. */
enum ecg_status optim_step(struct optim *o, const struct optim_rates *rates);

#endif
