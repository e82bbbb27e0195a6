/* SPDX-License-Identifier: MIT
 * Batches in order, results copied to their rows. */
#include "train/run/infer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/mem.h"
#include "train/run/feed.h"

/* Host copies of one batch's outputs. */
struct outputs {
    float *logits, *features;
};

static enum ecg_status run_one(struct feed *feed, const struct batch *b, bool is_first,
                               struct outputs *o) {
    struct net1d *net = feed->net;
    struct net1d_pass pass = {.same_weights = !is_first};
    size_t n = (size_t)b->B, k = (size_t)net->config.n_outputs,
           d = (size_t)net1d_features(&net->config);
    TRY(feed_put(feed, b, 0, b->B));
    pass.features = feed->features;
    TRY(net1d_forward(net, b->B, &pass));
    TRY(net->ops->download(net->dev, o->logits, net->logits, n * k * sizeof(float)));
    const float *features = pass.features != NULL ? pass.features : net->features;
    TRY(net->ops->download(net->dev, o->features, features, n * d * sizeof(float)));
    return net->ops->sync(net->dev);
}

static enum ecg_status run_batches(struct feed *feed, struct loader *loader, size_t n,
                                   const char *what, struct outputs *o, infer_fn *fn,
                                   void *context) {
    struct progress progress;
    if (what != NULL) progress_start(&progress, what);
    double start = log_clock();
    for (size_t row = 0; row < n;) {
        struct batch *b = NULL;
        TRY(loader_next(loader, &b));
        TRY(run_one(feed, b, row == 0, o));
        TRY(fn(context, row, b, o->logits, o->features));
        row += (size_t)b->B;
        if (what == NULL) continue;
        char text[64];
        snprintf(text, sizeof(text), "%.0f ECG/s", (double)row / (log_clock() - start + 1e-9));
        progress_update(&progress, (double)row, (double)n, text);
    }
    if (what != NULL) progress_end(&progress);
    return ECG_OK;
}

enum ecg_status infer_each(struct net1d *net, const struct source *s, enum ops_normalize normalize,
                           int workers, const char *what, infer_fn *fn, void *context) {
    struct feed feed = {0};
    struct loader *loader = NULL;
    struct outputs o = {0};
    struct loader_options options = source_loader(s, net->max_batch, workers);
    size_t B = (size_t)net->max_batch;
    enum ecg_status status;
    if (s->n == 0) return ECG_OK; /* a rank without records */
    TRY_OUT(MEM_NEW(&o.logits, B * (size_t)net->config.n_outputs));
    TRY_OUT(MEM_NEW(&o.features, B * (size_t)net1d_features(&net->config)));
    struct feed_format format = source_format(s, false);
    TRY_OUT(feed_create(&feed, net, &format, normalize));
    TRY_OUT(loader_open(&loader, s->data, &options));
    TRY_OUT(run_batches(&feed, loader, s->n, what, &o, fn, context));
out:
    loader_close(loader);
    feed_free(&feed);
    free(o.logits);
    free(o.features);
    return status;
}

static enum ecg_status keep(void *context, size_t first, const struct batch *b, const float *logits,
                            const float *features) {
    struct inferred *o = context;
    size_t n = (size_t)b->B, k = (size_t)o->k, n_labels = (size_t)o->n_labels,
           n_targets = (size_t)o->n_targets;
    (void)features;
    memcpy(o->logits + first * k, logits, n * k * sizeof(float));
    if (o->labels != NULL) memcpy(o->labels + first * n_labels, b->labels, n * n_labels);
    if (o->targets != NULL)
        memcpy(o->targets + first * n_targets, b->targets, n * n_targets * sizeof(float));
    return ECG_OK;
}

enum ecg_status infer_all(struct inferred *out, struct net1d *net, const struct source *s,
                          enum ops_normalize normalize, int workers, const char *what) {
    *out = (struct inferred){
        .n = s->n, .k = net->config.n_outputs, .n_labels = s->n_labels, .n_targets = s->n_targets};
    size_t labels = s->n * (size_t)s->n_labels, targets = s->n * (size_t)s->n_targets;
    enum ecg_status status;
    TRY_OUT(MEM_NEW(&out->logits, s->n * (size_t)out->k));
    if (targets > 0) TRY_OUT(MEM_NEW(&out->targets, targets));
    if (labels > 0) TRY_OUT(MEM_NEW(&out->labels, labels));
    TRY_OUT(infer_each(net, s, normalize, workers, what, keep, out));
out:
    if (status != ECG_OK) inferred_free(out);
    return status;
}

size_t infer_bytes(const struct net1d *net, const struct source *s, int workers) {
    struct loader_options options = source_loader(s, net->max_batch, workers);
    struct feed_format format = source_format(s, false);
    size_t record = (size_t)format.n_file_leads * (size_t)format.length;
    size_t k = (size_t)net->config.n_outputs;
    size_t truth = (size_t)s->n_labels + (size_t)s->n_targets * sizeof(float);
    size_t of_batch = (size_t)net->max_batch * (k + (size_t)net1d_features(&net->config));
    return loader_bytes(&options, record) + feed_bytes(net, &format) + of_batch * sizeof(float) +
           s->n * (k * sizeof(float) + truth);
}

void inferred_free(struct inferred *o) {
    free(o->logits);
    free(o->labels);
    free(o->targets);
    memset(o, 0, sizeof(*o));
}
