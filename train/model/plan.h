/* SPDX-License-Identifier: MIT
 * Inside of Net1D, shared by the files of this folder: the layers with their shapes, their tensors in the table, and
 * their buffers in the one arena.
 *
 * Training keeps what backward reads: the pre-activations h1, h2, h3 and the output y of every block (Swish is computed
 * again on the way into each convolution). With config.recompute all blocks share one h1, h2 and h3, which backward
 * fills again, block by block. Inference passes all blocks through four buffers. */
#ifndef TRAIN_MODEL_PLAN_H
#define TRAIN_MODEL_PLAN_H

#include "train/model/net1d.h"

#define NET1D_BN_EPS      1e-5
#define NET1D_BN_MOMENTUM 0.1

struct net1d_linear {
    int K, N;
    struct tensor *w, *b; /* (N, K), (N) */
};

struct net1d_conv {
    struct ops_conv shape; /* B = max_batch */
    struct tensor *w, *b;  /* (Cout, Cin/G, K), (Cout) */
    void *packed;          /* w as the backend reads it, or NULL */
    size_t packed_bytes;
};

/* A BatchNorm1d module. It always stands in the table; it has buffers where the network uses it. */
struct net1d_norm {
    int C;
    bool used;
    struct tensor *weight, *bias, *running_mean, *running_var, *counter;
    float *mean, *var;    /* (C) this batch's */
    float *scale, *shift; /* (C) folded: n = x * scale + shift */
};

struct net1d_block {
    int index;        /* 0 .. n_blocks - 1 through all stages */
    int stage, place; /* stage_list.<stage>.block_list.<place> */
    bool is_first;    /* of the network: conv1 reads the stem's Swish as it is */
    int S, Lin, Lout, Cin, Cmid, Cout, H;
    double drop_path; /* probability that a sample skips the branch */
    struct net1d_conv conv1, conv2, conv3;
    struct net1d_norm bn1, bn2, bn3; /* of the inputs of conv1, conv2, conv3 */
    struct net1d_linear fc1, fc2;
    void *in;         /* (B, Lin, Cin) the previous block's y */
    void *h1;         /* (B, Lin, Cmid) */
    void *h2;         /* (B, Lout, Cmid) */
    void *h3;         /* (B, Lout, Cout); from the middle of the block's backward on, gradients */
    void *y;          /* (B, Lout, Cout) */
    float *m;         /* (B, Cout) mean of h3 over time */
    float *z;         /* (B, H) fc1's output */
    float *gate;      /* (B, Cout) */
    float *path_gate; /* (B, Cout) gate with drop-path folded in; NULL without drop-path */
};

/* A kind of pass that the backend may have recorded (repeat.c). */
struct net1d_recorded {
    int B;
    bool backward, train, frozen_norm;
    int frozen_below;
    struct ops_graph *graph;
};
#define NET1D_RECORDED 16 /* more kinds than a run has */

struct net1d_private {
    void *memory; /* the one allocation that everything below and in struct net1d is carved from */
    size_t bytes; /* its size */
    struct net1d_conv stem;
    struct net1d_norm first_bn;
    void *h0; /* (B, L0, base) the stem's convolution */
    void *y0; /* (B, L0, base) after Swish; == h0 for inference */
    struct net1d_block *blocks;
    int n_blocks;
    struct tensor *pool; /* (1, D) attention's w; NULL: the mean */
    float *attention;    /* (B, L) its weights */
    struct net1d_linear dense;
    struct ops_pack *packs; /* (n_packs) of every convolution that the backend packs */
    size_t n_packs;
    bool is_packed; /* there has been a forward pass */

    struct ops_ws ws;
    /* backward */
    void *g[3];       /* (B, largest L*C) each: gradients on their way down */
    float *dfeatures; /* (B, D) */
    float *dscores;   /* (B, L) of attention */
    float *dgate;     /* (B, largest Cout) */
    float *dm;        /* (B, largest Cout) */
    float *norm_k[2]; /* (3, largest C) each: struct ops_norm's k, of two normalisations at a time; NULL without BN */
    float *zeros;     /* (max(B, 1) * largest C) a shift of zero */
    /* drop-path */
    float *path_factor;      /* (B, largest Cout) 0 or 1/(1-p), a sample's value in its whole row */
    float *path_factor_host; /* the same on the host */
    /* repeat.c */
    struct net1d_recorded recorded[NET1D_RECORDED];
    int n_recorded;
    bool *was_frozen; /* (n_tensors) when the backward passes were recorded; NULL: none was */
};

/* Fills the layers' shapes; allocates p->blocks. */
enum ecg_status plan_shapes(struct net1d *net);
/* Counts parameters, gradients and buffers into net->memory. Needs shapes and tensor table. */
enum ecg_status plan_count(struct net1d *net);
/* Allocates once what was counted and hands out the pieces. */
enum ecg_status plan_allocate(struct net1d *net);
/* Builds the tensor table and points every layer to its rows. */
enum ecg_status tensors_build(struct net1d *net);

/* Where a tensor's values lie (params or extras), and its gradient. */
float *tensors_value(const struct net1d *net, const struct tensor *t);
float *tensors_grad(const struct net1d *net, const struct tensor *t);

/* BN modules to weight 1, bias 0, mean 0, variance 1, counter 0. */
enum ecg_status init_norms(struct net1d *net);

/* What stands before a convolution in this pass: normalisation (NULL = none), Swish, dropout number `layer`. */
struct ops_act forward_act(const struct net1d *net, const struct net1d_norm *norm, int layer,
                           const struct net1d_pass *pass);
struct ops_act forward_conv_act(const struct net1d *net, const struct net1d_block *b, int conv,
                                const struct net1d_pass *pass);
/* A block's three convolutions, from b->in, normalised (bn1) as it was written, to h1, h2, h3. `again`: in backward, by the statistics that the forward pass
 * left, which stay as they are. */
enum ecg_status forward_branch(struct net1d *net, struct net1d_block *b, int B,
                               const struct net1d_pass *pass, bool again);
/* Whether a BN in use normalises by this batch's statistics. */
bool forward_batch_statistics(const struct net1d_norm *n, const struct net1d_pass *pass);
/* Whether blocks drop samples in this pass. */
bool forward_drops_paths(const struct net1d_block *b, const struct net1d_pass *pass);
/* Draws the block's drop-path factors into p->path_factor (B, Cout). */
enum ecg_status forward_path_factors(struct net1d *net, const struct net1d_block *b, int B,
                                     const struct net1d_pass *pass);
/* x (B, Cout) -> y = x * path_factor, element by element; x == y allowed. */
enum ecg_status forward_path_scale(struct net1d *net, const struct net1d_block *b, int B,
                                   const float *x, float *y);

/* The head, from the last block's output on: to features and logits; and from dlogits to the gradients of its tensors and, unless
 * dy is NULL, to dy (B, L, D), the gradient at what it reads. */
/* features: given ones (B, D), or NULL: pooled from the last block's output; backward: those that forward took. */
enum ecg_status head_forward(struct net1d *net, int B, const float *features);
enum ecg_status head_backward(struct net1d *net, int B, const float *features, void *dy);

/* A pass as the backend does it: forward (net1d_forward's checks and packing done before) or backward. */
typedef enum ecg_status pass_fn(struct net1d *net, int B, const struct net1d_pass *pass);
/* Does a pass, by what the backend recorded of its like where that serves. */
enum ecg_status repeat_pass(struct net1d *net, bool backward, int B, const struct net1d_pass *pass,
                            pass_fn *fn);
void repeat_free(struct net1d *net); /* forgets all that was recorded */

/* The convolution's shape for a batch of B. */
static inline struct ops_conv plan_conv(const struct net1d_conv *c, int B) {
    struct ops_conv s = c->shape;
    s.B = B;
    return s;
}

#endif
