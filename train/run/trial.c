/* SPDX-License-Identifier: MIT
 * The same calls that a training step makes, in their order. */
#include "train/run/trial.h"

#include <stdlib.h>

#include "core/log.h"
#include "core/mem.h"
#include "core/rng.h"
#include "train/run/step.h"

#define RUNS 3

struct work {
    const struct trainer *t;
    struct net1d net;
    struct optim optim;
    struct feed feed;
    struct batch b;
};

/* Noise of 1 mV and labels that are all absent, targets all 0. */
static enum ecg_status invent(struct work *w, int n) {
    const struct feed_format *f = &w->feed.format;
    size_t records = (size_t)n, samples = records * (size_t)f->n_file_leads * (size_t)f->length;
    size_t entries = records * (size_t)f->n_columns;
    struct rng r;
    w->b.B = n;
    TRY(MEM_NEW(&w->b.ecg, samples));
    TRY(MEM_NEW(&w->b.scale, records));
    TRY(MEM_NEW(&w->b.labels, entries));
    TRY(MEM_NEW(&w->b.targets, entries));
    rng_init(&r, 1, RNG_INIT, 0, 0);
    for (size_t i = 0; i < samples; i++) w->b.ecg[i] = (int16_t)(2000 * rng_uniform(&r) - 1000);
    for (size_t i = 0; i < records; i++) w->b.scale[i] = 1e-3f;
    return ECG_OK;
}

static enum ecg_status create(struct work *w, int n) {
    const struct trainer *t = w->t;
    struct feed_format format = source_format(&t->train, step_loss_on_device(t));
    TRY(net1d_create(&w->net, &t->net.config, t->ops, t->dev, n, true));
    w->net.graphs = t->config->train.cuda_graph;
    TRY(net1d_init_weights(&w->net, 1, false));
    TRY(optim_create(&w->optim, &t->optim.config, &w->net));
    TRY(feed_create(&w->feed, &w->net, &format, (enum ops_normalize)t->config->data.normalize));
    return invent(w, n);
}

static void destroy(struct work *w) {
    feed_free(&w->feed);
    optim_free(&w->optim);
    net1d_free(&w->net);
    free(w->b.ecg);
    free(w->b.scale);
    free(w->b.labels);
    free(w->b.targets);
}

/* One step; seconds of its forward pass, its gradients as a whole, and its update. */
static enum ecg_status run_step(struct work *w, uint32_t number, double seconds[3]) {
    const struct trainer *t = w->t;
    struct net1d *net = &w->net;
    int n = w->b.B, k = net->config.n_outputs;
    struct net1d_pass pass = {.train = true, .frozen_norm = t->config->head.freeze, .step = number};
    struct optim_rates rates = {.lr = 1e-3, .backbone_lr = 1e-3, .beta1 = 0.9};
    double loss = 0, norm, start = log_clock();
    TRY(feed_put(&w->feed, &w->b, 0, n));
    TRY(net1d_forward(net, n, &pass));
    TRY(t->ops->sync(t->dev));
    seconds[0] = log_clock() - start;
    if (step_loss_on_device(t))
        TRY(objective_add(&t->total.v[0].objective, t->ops, t->dev, n, k, net->logits,
                          w->feed.labels, w->feed.targets, NULL, 1.0 / ((double)n * k), &loss,
                          net->dlogits));
    else /* a loss on the host costs nothing beside the network: any gradient will do */
        TRY(t->ops->fill_zero(t->dev, net->dlogits, (size_t)n * (size_t)k * sizeof(float)));
    TRY(net1d_backward(net, n, &pass));
    TRY(t->ops->sync(t->dev));
    seconds[1] = log_clock() - start;
    TRY(optim_clip(&w->optim, t->config->train.clip_norm, &norm));
    TRY(optim_step(&w->optim, &rates));
    TRY(optim_zero_grad(&w->optim));
    TRY(t->ops->sync(t->dev));
    seconds[2] = log_clock() - start - seconds[1];
    return ECG_OK;
}

static int compare_seconds(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

enum ecg_status trial_run(const struct trainer *t, int batch, struct trial *r) {
    struct work w = {.t = t};
    double all[3][RUNS], seconds[3];
    enum ecg_status status;
    TRY_OUT(create(&w, batch));
    TRY_OUT(run_step(&w, 0, seconds));
    for (int i = 0; i < RUNS; i++) {
        TRY_OUT(run_step(&w, (uint32_t)i + 1, seconds));
        for (int k = 0; k < 3; k++) all[k][i] = seconds[k];
    }
    for (int k = 0; k < 3; k++) qsort(all[k], RUNS, sizeof(**all), compare_seconds);
    *r = (struct trial){.batch = batch,
                        .forward = all[0][RUNS / 2] / batch,
                        .step = all[1][RUNS / 2] / batch,
                        .update = all[2][RUNS / 2]};
out:
    destroy(&w);
    return status;
}
