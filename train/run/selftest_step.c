/* SPDX-License-Identifier: MIT
 * The whole of a step: input op, forward pass with batch statistics and dropout, loss, backward pass, clipping, AdamW. */
#include "train/run/selftest_step.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "train/model/net1d.h"
#include "train/optim/optim.h"

#define DROPOUT 0.2
enum { STEPS = 3, BATCH = 5 }; /* a pass is repeated from the third step on */

/* Two stages, both strides, a change of width, and lengths that no tile divides. */
static const struct net1d_config config = {
    .n_leads = 2,
    .length = 250,
    .base_filters = 16,
    .n_stages = 2,
    .filters = {16, 48},
    .blocks = {1, 2},
    .kernel_size = 16,
    .stride = 2,
    .group_width = 16,
    .batch_norm = true,
    .n_outputs = 3,
};

/* A network with its optimiser and one batch, and what the steps leave behind. */
struct run {
    struct net1d net;
    struct optim optim;
    int16_t *ecg;
    float *scale;
    uint8_t *labels;
    double loss[STEPS], norm[STEPS];
    float *params; /* host */
};

static enum ecg_status upload_batch(struct run *r, const struct ops *ops, struct ops_dev *dev) {
    enum { SAMPLES = BATCH * 2 * 250, LABELS = BATCH * 3 };
    int16_t ecg[SAMPLES];
    float scale[BATCH];
    uint8_t labels[LABELS];
    struct rng random;
    rng_init(&random, 5, RNG_SYNTH, 0, 0);
    for (int i = 0; i < SAMPLES; i++) ecg[i] = (int16_t)((int)rng_below(&random, 4001) - 2000);
    for (int i = 0; i < BATCH; i++) scale[i] = 1e-3f;
    for (int i = 0; i < LABELS; i++) labels[i] = (uint8_t)rng_below(&random, 2);
    TRY(ops->alloc(dev, (void **)&r->ecg, sizeof(ecg)));
    TRY(ops->alloc(dev, (void **)&r->scale, sizeof(scale)));
    TRY(ops->alloc(dev, (void **)&r->labels, sizeof(labels)));
    TRY(ops->upload(dev, r->ecg, ecg, sizeof(ecg)));
    TRY(ops->upload(dev, r->scale, scale, sizeof(scale)));
    return ops->upload(dev, r->labels, labels, sizeof(labels));
}

static enum ecg_status step(struct run *r, int i) {
    struct net1d *net = &r->net;
    const struct ops *ops = net->ops;
    const struct net1d_config *c = &net->config;
    const struct ops_loss bce = {.kind = OPS_LOSS_BCE};
    const struct net1d_pass pass = {.train = true, .seed = 3, .step = (uint32_t)i};
    const struct optim_rates rates = {.lr = 1e-3, .backbone_lr = 1e-3, .beta1 = 0.9};
    const int lead[2] = {1, 0};
    const double known = (double)BATCH * c->n_outputs;
    double sum = 0;
    TRY(optim_zero_grad(&r->optim));
    TRY(ops->input_fwd(net->dev, c->precision, (struct ops_blc){BATCH, c->length, c->n_leads},
                       c->n_leads, r->ecg, r->scale, lead, OPS_NORM_RECORD, net->x));
    TRY(net1d_forward(net, BATCH, &pass));
    TRY(ops->loss(net->dev, &bce, BATCH, c->n_outputs, net->logits, r->labels, NULL, NULL,
                  1 / known, &sum, net->dlogits));
    TRY(net1d_backward(net, BATCH, &pass));
    TRY(optim_clip(&r->optim, 1, &r->norm[i]));
    TRY(optim_step(&r->optim, &rates));
    TRY(ops->sync(net->dev));
    r->loss[i] = sum / known;
    return ECG_OK;
}

static enum ecg_status run_steps(struct run *r, const struct ops *ops, struct ops_dev *dev,
                                 enum ops_dtype precision, double dropout, bool graphs) {
    const struct optim_config adamw = {
        .kind = OPTIM_ADAMW, .weight_decay = 0.01, .beta2 = 0.999, .eps = 1e-8, .decay_bias = true};
    struct net1d_config c = config;
    c.precision = precision;
    c.dropout = dropout;
    TRY(net1d_create(&r->net, &c, ops, dev, BATCH, true));
    r->net.graphs = graphs;
    TRY(net1d_init_weights(&r->net, 1, false));
    TRY(optim_create(&r->optim, &adamw, &r->net));
    TRY(upload_batch(r, ops, dev));
    for (int i = 0; i < STEPS; i++) TRY(step(r, i));
    TRY(MEM_NEW(&r->params, r->net.n_params));
    return ops->download(dev, r->params, r->net.params, r->net.n_params * sizeof(float));
}

static void run_free(struct run *r, const struct ops *ops, struct ops_dev *dev) {
    ops->free(dev, r->ecg);
    ops->free(dev, r->scale);
    ops->free(dev, r->labels);
    optim_free(&r->optim);
    net1d_free(&r->net);
    free(r->params);
}

/* Whether two runs leave the same bits; without dropout, `one` repeats its passes where the backend records them. */
static enum ecg_status run_twice(struct run *one, const struct ops *ops, struct ops_dev *dev,
                                 enum ops_dtype precision, double dropout, bool *same) {
    struct run again = {0};
    enum ecg_status status;
    TRY_OUT(run_steps(one, ops, dev, precision, dropout, true));
    TRY_OUT(run_steps(&again, ops, dev, precision, dropout, false));
    *same = memcmp(one->params, again.params, one->net.n_params * sizeof(float)) == 0;
out:
    run_free(&again, ops, dev);
    return status;
}

/* The largest difference as a share of the cpu's number; NaN where either is one. */
static double largest_difference(const struct run *a, const struct run *cpu) {
    double largest = 0;
    for (int i = 0; i < STEPS; i++) {
        const double loss = fabs(a->loss[i] / cpu->loss[i] - 1);
        const double norm = fabs(a->norm[i] / cpu->norm[i] - 1);
        if (!(loss <= largest)) largest = loss;
        if (!(norm <= largest)) largest = norm;
    }
    return largest;
}

enum ecg_status selftest_step(const struct ops *ops, struct ops_dev *dev, enum ops_dtype precision,
                              bool *ok) {
    const double bound = precision == OPS_F32 ? 1e-4 : 1e-2;
    struct run one = {0}, plain = {0}, cpu = {0};
    struct ops_dev *cpu_dev = NULL;
    bool same, same_plain;
    enum ecg_status status;
    *ok = false;
    TRY_OUT(ops_cpu()->open(&cpu_dev, 0));
    TRY_OUT(run_steps(&cpu, ops_cpu(), cpu_dev, precision, DROPOUT, true));
    TRY_OUT(run_twice(&one, ops, dev, precision, DROPOUT, &same));
    TRY_OUT(run_twice(&plain, ops, dev, precision, 0, &same_plain));
    const double difference = largest_difference(&one, &cpu);
    *ok = difference <= bound && same && same_plain;
    printf(
        "%s  %d training steps in %s: losses and gradient norms differ from cpu's by %.1e at most "
        "(bound %.0e), %s, %s\n",
        *ok ? "ok    " : "FAILED", STEPS, precision == OPS_F32 ? "fp32" : "bf16", difference, bound,
        same ? "the same bits twice" : "NOT the same bits twice",
        same_plain ? "and where passes are repeated" : "and NOT where passes are repeated");
out:
    run_free(&one, ops, dev);
    run_free(&plain, ops, dev);
    run_free(&cpu, ops_cpu(), cpu_dev);
    ops_cpu()->close(cpu_dev);
    return status;
}
