/* SPDX-License-Identifier: MIT
 * Standardisation folded into the head's weights, and weights of classes by their frequency. */
#include "train/run/head.h"

#include <math.h>
#include <stdlib.h>

#include "core/log.h"
#include "core/mem.h"
#include "train/run/trainer.h"

/* ------------------------------------------------------------------ loss.pos_weight */

static void weigh_inverse(struct total_head *h, const struct source_counts *c) {
    int n = h->head->labels.n;
    size_t all = 0;
    for (int i = 0; i < n; i++) all += c->present[h->label + i];
    for (int i = 0; i < n; i++) {
        double present = (double)c->present[h->label + i], absent = (double)c->absent[h->label + i];
        if (h->head->kind != HEAD_LABELS) absent = (double)all / n;
        h->column_weight[i] =
            present > 0 ? absent / present : 1; /* none: nothing is weighed by it */
    }
}

enum ecg_status head_weigh(struct trainer *t, const struct source_counts *counts) {
    for (int k = 0; k < t->total.n; k++) {
        struct head_config only = config_only_head(t->config);
        const struct head_config *c = t->config->n_heads > 0 ? &t->config->head_list[k] : &only;
        struct total_head *h = &t->total.v[k];
        bool inverse;
        if (c->loss.pos_weight == NULL) continue;
        if (h->head->labels.n == 0 || h->head->kind == HEAD_COX || h->head->kind == HEAD_HAZARD)
            return ecg_fail(ECG_ERR_CONFIG, "head %s: loss.pos_weight: it has no labels to weigh",
                            h->head->name);
        TRY(MEM_NEW(&h->column_weight, (size_t)h->head->labels.n));
        TRY(config_pos_weight(c, h->head, &inverse, h->column_weight));
        if (inverse) weigh_inverse(h, counts);
        for (int i = 0; i < h->head->labels.n; i++)
            log_info("head %s: %s weighs %.4g", h->head->name, h->head->labels.v[i],
                     h->column_weight[i]);
    }
    return ECG_OK;
}

/* ------------------------------------------------------------------ targets */

/* Mean and population sd of each target column over its known values (two passes by Welford's update). */
static enum ecg_status measure(struct source *s, double *mean, double *sd) {
    size_t *known = NULL;
    float *row = NULL;
    enum ecg_status status;
    TRY_OUT(MEM_NEW(&known, (size_t)s->n_targets));
    TRY_OUT(MEM_NEW(&row, (size_t)s->data->schema.targets.n));
    for (size_t i = 0; i < s->n; i++) {
        TRY_OUT(dataset_targets(s->data, s->index[i], row));
        for (int c = 0; c < s->n_targets; c++) {
            double v = (double)row[s->targets[c]];
            if (isnan(v)) continue;
            double d = v - mean[c];
            mean[c] += d / (double)++known[c];
            sd[c] += d * (v - mean[c]);
        }
    }
    for (int c = 0; c < s->n_targets; c++)
        sd[c] = known[c] > 0 ? sqrt(sd[c] / (double)known[c]) : 0;
out:
    free(known);
    free(row);
    return status;
}

static bool is_regression(const struct total_head *h) {
    return h->head->kind == HEAD_TARGETS || h->head->kind == HEAD_GAUSSIAN;
}

static enum ecg_status keep_sd(struct total_head *h, const double *mean, const double *sd) {
    int n = h->head->targets.n;
    TRY(MEM_NEW(&h->sd, (size_t)n));
    for (int i = 0; i < n; i++) {
        h->sd[i] = sd[h->target + i];
        const char *name = h->head->targets.v[i];
        if (!(h->sd[i] > 0))
            return ecg_fail(ECG_ERR_DATA,
                            "data.train: target %s has one value only (%g): nothing to learn", name,
                            mean[h->target + i]);
        log_info("target %s: mean %.6g, sd %.6g", name, mean[h->target + i], h->sd[i]);
    }
    return ECG_OK;
}

/* The device's own loss divides by it. */
static enum ecg_status upload_scale(struct trainer *t, const struct total_head *h) {
    int n = h->head->targets.n;
    float *scale = NULL;
    TRY(MEM_NEW(&scale, (size_t)n));
    for (int i = 0; i < n; i++) scale[i] = (float)h->sd[i];
    size_t bytes = (size_t)n * sizeof(float);
    enum ecg_status status = t->ops->alloc(t->dev, (void **)&t->column_scale, bytes);
    if (status == ECG_OK) status = t->ops->upload(t->dev, t->column_scale, scale, bytes);
    free(scale);
    return status;
}

static enum ecg_status standardise(struct trainer *t, double *mean, double *sd) {
    TRY(measure(&t->train, mean, sd));
    for (int k = 0; k < t->total.n; k++) {
        struct total_head *h = &t->total.v[k];
        if (!is_regression(h)) continue;
        TRY(keep_sd(h, mean, sd));
        if (total_is_plain(&t->total)) TRY(upload_scale(t, h));
    }
    return ECG_OK;
}

/* Rows [first, first + rows) of a head's tensor set to value[r]; NULL: 0. */
static enum ecg_status set_rows(struct trainer *t, const struct tensor *w, int first, int rows,
                                const double *value) {
    float *host = NULL;
    size_t width = w->n / (size_t)w->shape[0], n = width * (size_t)rows;
    TRY(MEM_NEW(&host, n));
    for (size_t i = 0; i < n && value != NULL; i++) host[i] = (float)value[i / width];
    float *to = t->net.params + w->offset + width * (size_t)first;
    enum ecg_status status = t->ops->upload(t->dev, to, host, n * sizeof(float));
    free(host);
    return status;
}

/* Rows of weights 0 and of given biases, learnt in their units. */
static enum ecg_status start_rows(struct trainer *t, int first, int rows, const double *bias,
                                  const double *unit) {
    const struct tensor *w = net1d_tensor(&t->net, "dense.weight");
    const struct tensor *b = net1d_tensor(&t->net, "dense.bias");
    size_t width = w->n / (size_t)w->shape[0];
    TRY(set_rows(t, w, first, rows, NULL));
    TRY(set_rows(t, b, first, rows, bias));
    if (unit == NULL) return ECG_OK;
    TRY(optim_unit_rows(&t->optim, w->offset + width * (size_t)first, width, rows, unit));
    return optim_unit_rows(&t->optim, b->offset + (size_t)first, 1, rows, unit);
}

static enum ecg_status start_head(struct trainer *t, const struct total_head *h,
                                  const double *mean) {
    int n = h->head->targets.n, first = h->head->first;
    TRY(start_rows(t, first, n, mean + h->target, h->sd));
    if (h->head->kind != HEAD_GAUSSIAN) return ECG_OK;
    double *log_variance = NULL;
    TRY(MEM_NEW(&log_variance, (size_t)n));
    for (int i = 0; i < n; i++) log_variance[i] = 2 * log(h->sd[i]);
    enum ecg_status status = start_rows(t, first + n, n, log_variance, NULL);
    free(log_variance);
    return status;
}

static enum ecg_status fit(struct trainer *t, bool fresh) {
    double *mean = NULL, *sd = NULL;
    enum ecg_status status;
    TRY_OUT(MEM_NEW(&mean, (size_t)t->train.n_targets));
    TRY_OUT(MEM_NEW(&sd, (size_t)t->train.n_targets));
    TRY_OUT(standardise(t, mean, sd));
    for (int k = 0; k < t->total.n && fresh; k++)
        if (is_regression(&t->total.v[k])) TRY_OUT(start_head(t, &t->total.v[k], mean));
out:
    free(mean);
    free(sd);
    return status;
}

enum ecg_status head_fit_targets(struct trainer *t) {
    return fit(t, true);
}

enum ecg_status head_measure_targets(struct trainer *t) {
    return fit(t, false);
}
