/* SPDX-License-Identifier: MIT
 * What a head's outputs say of one record, in double. */
#include <math.h>
#include <stdio.h>

#include "core/mem.h"
#include "train/model/heads.h"

/* log(1 + exp(z)) */
static double softplus(double z) {
    return z > 0 ? z + log1p(exp(-z)) : log1p(exp(z));
}

/* log of the sum of exp(v[i]) over all i but `without` (-1: over all). */
static double log_sum(const double *v, int n, int without) {
    double high = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++)
        if (i != without && v[i] > high) high = v[i];
    if (!isfinite(high)) return high;
    for (int i = 0; i < n; i++)
        if (i != without) sum += exp(v[i] - high);
    return high + log(sum);
}

/* log P of each class. Ordinal: class k stops at step k (sigmoid(z_k)) after passing the steps before; the last passes all. */
static void class_logs(const struct head *h, const float *z, double *log_p) {
    int n = head_classes(h);
    if (h->kind == HEAD_CLASSES) {
        for (int k = 0; k < n; k++) log_p[k] = (double)z[k];
        double all = log_sum(log_p, n, -1);
        for (int k = 0; k < n; k++) log_p[k] -= all;
        return;
    }
    double passed = 0;
    for (int k = 0; k < n - 1; k++) {
        log_p[k] = passed - softplus(-(double)z[k]);
        passed -= softplus((double)z[k]);
    }
    log_p[n - 1] = passed;
}

void head_class_probabilities(const struct head *h, const float *z, double *p) {
    class_logs(h, z, p);
    for (int k = 0; k < head_classes(h); k++) p[k] = exp(p[k]);
}

void head_class_logits(const struct head *h, const float *z, double *logit) {
    double log_p[HEAD_CLASSES_MAX];
    int n = head_classes(h);
    class_logs(h, z, log_p);
    for (int k = 0; k < n; k++) logit[k] = log_p[k] - log_sum(log_p, n, k);
}

void head_event_probabilities(const struct head *h, const float *z, double *p) {
    double lived = 0; /* log of P(no event yet) */
    for (int k = 0; k < h->n_bins; k++) {
        lived -= softplus((double)z[k]);
        p[k] = -expm1(lived);
    }
}

float head_sd(double log_variance) {
    double sd = exp(0.5 * log_variance);
    return (float)(sd > 1e-37 ? (sd < 1e37 ? sd : 1e37) : 1e-37);
}

double head_risk(const struct head *h, const float *z) {
    if (h->kind == HEAD_COX) return (double)z[0];
    double lived = 0, expected = 0;
    for (int k = 0; k < h->n_bins; k++) {
        lived -= softplus((double)z[k]);
        expected += exp(lived);
    }
    return -expected;
}

/* ------------------------------------------------------------------ all of them */

static int n_values(const struct head *h) {
    return h->kind == HEAD_ORDINAL ? head_classes(h) : h->n;
}

static const char *value_name(const struct head *h, int i, char text[HEAD_NAME_MAX]) {
    char class_name[HEAD_NAME_MAX];
    switch (h->kind) {
    case HEAD_LABELS:
    case HEAD_CLASSES:
        return h->labels.v[i];
    case HEAD_ORDINAL:
        head_class_name(h, i, class_name);
        snprintf(text, HEAD_NAME_MAX, "%.200s: %.90s", h->name, class_name);
        return text;
    case HEAD_TARGETS:
    case HEAD_GAUSSIAN:
        if (i < h->targets.n) return h->targets.v[i];
        snprintf(text, HEAD_NAME_MAX, "%.280s: sd", h->targets.v[i - h->targets.n]);
        return text;
    case HEAD_COX:
        return h->name;
    case HEAD_HAZARD:
        snprintf(text, HEAD_NAME_MAX, "%.250s: to %g", h->name, h->bins[i]);
        return text;
    }
    return h->name;
}

enum ecg_status heads_value_names(const struct heads *h, struct names *names) {
    char text[HEAD_NAME_MAX];
    size_t n = 0;
    *names = (struct names){0};
    for (int k = 0; k < h->n; k++) n += (size_t)n_values(&h->v[k]);
    TRY(MEM_NEW(&names->v, n));
    for (int k = 0; k < h->n; k++)
        for (int i = 0; i < n_values(&h->v[k]); i++, names->n++) {
            enum ecg_status status = mem_strdup(&names->v[names->n], value_name(&h->v[k], i, text));
            if (status == ECG_OK) continue;
            names_free(names);
            return status;
        }
    return ECG_OK;
}

static void put(const struct head *h, const float *z, float *values) {
    double p[HEAD_CLASSES_MAX];
    int n = h->targets.n;
    if (h->kind == HEAD_CLASSES || h->kind == HEAD_ORDINAL) head_class_probabilities(h, z, p);
    if (h->kind == HEAD_HAZARD) head_event_probabilities(h, z, p);
    for (int i = 0; i < n_values(h); i++) {
        if (h->kind == HEAD_LABELS) {
            values[i] = (float)exp(-softplus(-(double)z[i]));
        } else if (h->kind == HEAD_GAUSSIAN && i >= n) {
            values[i] = head_sd((double)z[i]);
        } else if (h->kind == HEAD_TARGETS || h->kind == HEAD_GAUSSIAN || h->kind == HEAD_COX) {
            values[i] = z[i];
        } else {
            values[i] = (float)p[i];
        }
    }
}

void heads_values(const struct heads *h, const float *z, float *values) {
    for (int k = 0; k < h->n; k++) {
        put(&h->v[k], z + h->v[k].first, values);
        values += n_values(&h->v[k]);
    }
}
