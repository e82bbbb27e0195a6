/* SPDX-License-Identifier: MIT
 * Whole steps over the same code that trains; nothing is loaded from disk. Times are medians of several runs. */
#include "train/run/bench.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"
#include "core/mem.h"
#include "core/rng.h"
#include "train/model/net1d.h"
#include "train/objective/objective.h"
#include "train/optim/optim.h"
#include "train/run/sheet.h"

enum { PRODUCT = 1024, RUNS = 5, OUTPUTS_MAX = 150 };

struct bench_model {
    const char *name;
    struct net1d_config config;
    int batch;
};

static const struct bench_model models[] = {
    {"published",
     {.n_leads = 12,
      .length = 5000,
      .base_filters = 64,
      .n_stages = 7,
      .filters = {64, 160, 160, 400, 400, 1024, 1024},
      .blocks = {2, 2, 2, 3, 3, 4, 4},
      .kernel_size = 16,
      .stride = 2,
      .group_width = 16,
      .n_outputs = OUTPUTS_MAX},
     16},
    {"ptbxl_superclass",
     {.n_leads = 12,
      .length = 1000,
      .base_filters = 32,
      .n_stages = 5,
      .filters = {32, 64, 64, 128, 128},
      .blocks = {1, 1, 2, 2, 2},
      .kernel_size = 16,
      .stride = 2,
      .group_width = 16,
      .n_outputs = 5},
     32},
};

static int compare_seconds(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Median seconds of one run; a first one warms up. */
static enum ecg_status median(enum ecg_status (*run)(void *), void *context, double *seconds) {
    double t[RUNS];
    TRY(run(context));
    for (int i = 0; i < RUNS; i++) {
        double start = log_clock();
        TRY(run(context));
        t[i] = log_clock() - start;
    }
    qsort(t, RUNS, sizeof(*t), compare_seconds);
    *seconds = t[RUNS / 2];
    return ECG_OK;
}

static enum ecg_status fill(const struct ops *ops, struct ops_dev *dev, float *to, size_t n) {
    struct rng r;
    float *host = NULL;
    TRY(MEM_NEW(&host, n));
    rng_init(&r, 1, RNG_INIT, 0, 0);
    for (size_t i = 0; i < n; i++) host[i] = (float)rng_uniform(&r) - 0.5f;
    enum ecg_status status = ops->upload(dev, to, host, n * sizeof(float));
    free(host);
    return status;
}

/* ------------------------------------------------------------------ the product */

struct product {
    const struct ops *ops;
    struct ops_dev *dev;
    float *x, *w, *b, *y;
    struct ops_ws ws;
};

static enum ecg_status run_product(void *context) {
    struct product *p = context;
    TRY(p->ops->linear_fwd(p->dev, PRODUCT, PRODUCT, PRODUCT, p->x, p->w, p->b, p->y, p->ws));
    return p->ops->sync(p->dev);
}

static enum ecg_status bench_product(const struct ops *ops, struct ops_dev *dev, double *gflops) {
    struct product p = {.ops = ops, .dev = dev};
    size_t n = (size_t)PRODUCT * PRODUCT;
    double seconds;
    enum ecg_status status;
    p.ws.n = ops->linear_ws(dev, PRODUCT, PRODUCT, PRODUCT);
    TRY_OUT(ops->alloc(dev, (void **)&p.x, n * sizeof(float)));
    TRY_OUT(ops->alloc(dev, (void **)&p.w, n * sizeof(float)));
    TRY_OUT(ops->alloc(dev, (void **)&p.b, PRODUCT * sizeof(float)));
    TRY_OUT(ops->alloc(dev, (void **)&p.y, n * sizeof(float)));
    TRY_OUT(ops->alloc(dev, &p.ws.p, p.ws.n));
    TRY_OUT(fill(ops, dev, p.x, n));
    TRY_OUT(fill(ops, dev, p.w, n));
    TRY_OUT(median(run_product, &p, &seconds));
    *gflops = 2e-9 * (double)PRODUCT * PRODUCT * PRODUCT / seconds;
out:
    ops->free(dev, p.x);
    ops->free(dev, p.w);
    ops->free(dev, p.b);
    ops->free(dev, p.y);
    ops->free(dev, p.ws.p);
    return status;
}

/* ------------------------------------------------------------------ whole steps */

struct steps {
    struct net1d net;
    struct optim optim;
    struct objective objective;
    uint8_t *labels; /* (batch, outputs), in ops memory, all absent */
    int batch;
    uint32_t step;
};

static enum ecg_status run_training(void *context) {
    struct steps *s = context;
    struct net1d *net = &s->net;
    struct net1d_pass pass = {.train = true, .step = s->step++};
    struct optim_rates rates = {.lr = 1e-3, .backbone_lr = 1e-3, .beta1 = 0.9};
    double loss = 0, norm, entries = (double)s->batch * net->config.n_outputs;
    TRY(optim_zero_grad(&s->optim));
    TRY(net1d_forward(net, s->batch, &pass));
    TRY(objective_add(&s->objective, net->ops, net->dev, s->batch, net->config.n_outputs,
                      net->logits, s->labels, NULL, NULL, 1 / entries, &loss, net->dlogits));
    TRY(net1d_backward(net, s->batch, &pass));
    TRY(optim_clip(&s->optim, 0, &norm));
    TRY(optim_step(&s->optim, &rates));
    return net->ops->sync(net->dev);
}

static enum ecg_status run_inference(void *context) {
    struct steps *s = context;
    struct net1d_pass pass = {0};
    TRY(net1d_forward(&s->net, s->batch, &pass));
    return s->net.ops->sync(s->net.dev);
}

static enum ecg_status steps_create(struct steps *s, const struct bench_model *m,
                                    const struct ops *ops, struct ops_dev *dev) {
    struct optim_config optim = {
        .kind = OPTIM_ADAM, .beta2 = 0.999, .eps = 1e-8, .decay_bias = true};
    size_t n = (size_t)m->batch * (size_t)m->config.length * (size_t)m->config.n_leads;
    s->batch = m->batch;
    TRY(net1d_create(&s->net, &m->config, ops, dev, m->batch, true));
    TRY(net1d_init_weights(&s->net, 1, false));
    TRY(optim_create(&s->optim, &optim, &s->net));
    TRY(objective_init(&s->objective, OBJECTIVE_BCE, NULL));
    TRY(ops->alloc(dev, (void **)&s->labels, (size_t)m->batch * OUTPUTS_MAX));
    return fill(ops, dev, s->net.x, n);
}

static void put_rate(struct sheet *sheet, const char *key, double seconds, int batch, double gflop,
                     double product) {
    char text[96];
    double rate = batch / seconds, gflops = gflop * batch / seconds;
    if (sheet->json) {
        sheet_section(sheet, key);
        sheet_number(sheet, "ecg_per_s", rate);
        sheet_number(sheet, "gflops", gflops);
        sheet_number(sheet, "of_product", gflops / product);
        sheet_end_section(sheet);
        return;
    }
    snprintf(text, sizeof(text), "%8.1f ECG/s %8.1f GFLOP/s %4.0f %% of the product", rate, gflops,
             100 * gflops / product);
    sheet_text(sheet, key, text);
}

static enum ecg_status bench_model(const struct bench_model *m, const struct ops *ops,
                                   struct ops_dev *dev, double product, struct sheet *sheet) {
    struct steps s = {0};
    double forward = 2e-9 * (double)net1d_macs(&m->config), training, inference;
    enum ecg_status status;
    TRY_OUT(steps_create(&s, m, ops, dev));
    TRY_OUT(median(run_training, &s, &training));
    TRY_OUT(median(run_inference, &s, &inference));
    sheet_section(sheet, m->name);
    sheet_integer(sheet, "batch", m->batch);
    put_rate(sheet, "training", training, m->batch, 3 * forward, product);
    put_rate(sheet, "inference", inference, m->batch, forward, product);
    sheet_end_section(sheet);
out:
    ops->free(dev, s.labels);
    optim_free(&s.optim);
    net1d_free(&s.net);
    return status;
}

enum ecg_status bench_run(const char *device, int n_threads, bool json) {
    const struct ops *ops = NULL;
    struct ops_dev *dev = NULL;
    struct sheet sheet;
    double product = 0;
    TRY(ops_find(&ops, device));
    TRY(ops->open(&dev, n_threads));
    sheet_begin(&sheet, json);
    enum ecg_status status = bench_product(ops, dev, &product);
    if (status == ECG_OK) {
        sheet_text(&sheet, "device", device);
        sheet_number(&sheet, "product_gflops", product);
    }
    for (size_t i = 0; i < sizeof(models) / sizeof(*models) && status == ECG_OK; i++)
        status = bench_model(&models[i], ops, dev, product, &sheet);
    ops->close(dev);
    if (status == ECG_OK) return sheet_finish(&sheet);
    json_writer_free(&sheet.w);
    return status;
}
