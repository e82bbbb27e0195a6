/* SPDX-License-Identifier: MIT
 * Standardisation folded into the head's weights. */
#include "train/run/head.h"

#include <math.h>
#include <stdlib.h>

#include "core/log.h"
#include "core/mem.h"
#include "train/run/trainer.h"

/* Mean and population sd of each target column over its known values (two passes by Welford's update). */
static enum ecg_status measure(struct source *s, double *mean, double *sd) {
    size_t *known = NULL;
    float *row = NULL;
    enum ecg_status status;
    TRY_OUT(MEM_NEW(&known, (size_t)s->n_columns));
    TRY_OUT(MEM_NEW(&row, (size_t)s->data->schema.targets.n));
    for (size_t i = 0; i < s->n; i++) {
        TRY_OUT(dataset_targets(s->data, s->index[i], row));
        for (int c = 0; c < s->n_columns; c++) {
            double v = row[s->columns[c]];
            if (isnan(v)) continue;
            double d = v - mean[c];
            mean[c] += d / (double)++known[c];
            sd[c] += d * (v - mean[c]);
        }
    }
    for (int c = 0; c < s->n_columns; c++) {
        sd[c] = known[c] > 0 ? sqrt(sd[c] / (double)known[c]) : 0;
        if (!(sd[c] > 0)) {
            status = ecg_fail(ECG_ERR_DATA,
                              "data.train: target %s has one value only (%g): nothing to learn",
                              source_column_name(s, c), mean[c]);
            break;
        }
        log_info("target %s: mean %.6g, sd %.6g over %zu known values", source_column_name(s, c),
                 mean[c], sd[c], known[c]);
    }
out:
    free(known);
    free(row);
    return status;
}

/* A tensor of the head, every row r set to value[r]; NULL: 0. */
static enum ecg_status set_rows(struct trainer *t, const struct tensor *w, int rows,
                                const double *value) {
    float *host = NULL;
    size_t width = w->n / (size_t)rows;
    TRY(MEM_NEW(&host, w->n));
    for (size_t i = 0; i < w->n && value != NULL; i++) host[i] = (float)value[i / width];
    enum ecg_status status =
        t->ops->upload(t->dev, t->net.params + w->offset, host, w->n * sizeof(float));
    free(host);
    return status;
}

static enum ecg_status apply(struct trainer *t, int rows, const double *mean, const double *sd) {
    const struct tensor *weight = net1d_tensor(&t->net, "dense.weight");
    const struct tensor *bias = net1d_tensor(&t->net, "dense.bias");
    TRY(set_rows(t, weight, rows, NULL));
    TRY(set_rows(t, bias, rows, mean));
    TRY(optim_unit_rows(&t->optim, weight->offset, weight->n / (size_t)rows, rows, sd));
    TRY(optim_unit_rows(&t->optim, bias->offset, 1, rows, sd));
    float *scale = NULL;
    TRY(MEM_NEW(&scale, (size_t)rows));
    for (int r = 0; r < rows; r++) scale[r] = (float)sd[r];
    enum ecg_status status =
        t->ops->alloc(t->dev, (void **)&t->column_scale, (size_t)rows * sizeof(float));
    if (status == ECG_OK)
        status = t->ops->upload(t->dev, t->column_scale, scale, (size_t)rows * sizeof(float));
    free(scale);
    return status;
}

enum ecg_status head_fit_targets(struct trainer *t) {
    int rows = t->train.n_columns;
    double *mean = NULL, *sd = NULL;
    enum ecg_status status;
    TRY_OUT(MEM_NEW(&mean, (size_t)rows));
    TRY_OUT(MEM_NEW(&sd, (size_t)rows));
    TRY_OUT(measure(&t->train, mean, sd));
    TRY_OUT(apply(t, rows, mean, sd));
out:
    free(mean);
    free(sd);
    return status;
}
