/* SPDX-License-Identifier: MIT
 * Heads one after the other, records in order: fixed sums. */
#include "train/objective/total.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "kernels/loss.h"

#define LEAST_LOG_VARIANCE (-13.815510557964274) /* log 1e-6 */

void total_add_head(struct total *t, const struct head *head, const struct objective *objective,
                    double weight) {
    t->v[t->n++] = (struct total_head){.head = head,
                                       .objective = *objective,
                                       .weight = weight,
                                       .label = t->n_labels,
                                       .target = t->n_targets};
    t->n_labels += head->labels.n;
    t->n_targets += head->targets.n;
    t->n_outputs += head->n;
}

void total_free(struct total *t) {
    for (int i = 0; i < t->n; i++) {
        free(t->v[i].column_weight);
        free(t->v[i].sd);
    }
    free(t->scratch);
    *t = (struct total){0};
}

bool total_is_plain(const struct total *t) {
    return t->n == 1 && t->v[0].weight == 1 && t->v[0].column_weight == NULL &&
           objective_is_elementwise(t->v[0].objective.kind);
}

bool total_is_joint(const struct total *t) {
    for (int i = 0; i < t->n; i++)
        if (t->v[i].objective.kind == OBJECTIVE_COX) return true;
    return false;
}

/* ------------------------------------------------------------------ one record */

/* log(1 + exp(z)); *slope its derivative, sigmoid(z). */
static double softplus(double z, double *slope) {
    double e = exp(-fabs(z));
    *slope = z > 0 ? 1 / (1 + e) : e / (1 + e);
    return (z > 0 ? z : 0) + log1p(e);
}

static double weight_of(const struct total_head *h, int column) {
    return h->column_weight != NULL ? h->column_weight[column] : 1;
}

static double labels_row(const struct total_head *h, const float *z, const uint8_t *y, double *dz) {
    double sum = 0;
    for (int i = 0; i < h->head->n; i++) {
        dz[i] = 0;
        if (y[i] == OPS_LABEL_UNKNOWN) continue;
        double w = y[i] == 1 ? weight_of(h, i) : 1;
        sum += w * ops_loss_label(&h->objective.loss, (double)z[i], y[i], &dz[i]);
        dz[i] *= w;
    }
    return sum;
}

static double targets_row(const struct total_head *h, const float *z, const float *t, double *dz) {
    double sum = 0;
    for (int i = 0; i < h->head->n; i++) {
        dz[i] = 0;
        if (isnan(t[i])) continue;
        sum += ops_loss_target(&h->objective.loss, (double)z[i], (double)t[i],
                               h->sd != NULL ? h->sd[i] : 1, &dz[i]);
    }
    return sum;
}

/* In the target's unit mean m and variance v; in standard deviations (m - t) / sd and v / sd^2. */
static double gaussian_row(const struct total_head *h, const float *z, const float *t, double *dz) {
    double sum = 0;
    int n = h->head->targets.n;
    for (int i = 0; i < n; i++) {
        dz[i] = dz[n + i] = 0;
        if (isnan(t[i])) continue;
        double sd = h->sd != NULL ? h->sd[i] : 1, d = ((double)z[i] - (double)t[i]) / sd;
        double log_v = (double)z[n + i] - 2 * log(sd);
        bool least = log_v < LEAST_LOG_VARIANCE;
        if (least) log_v = LEAST_LOG_VARIANCE;
        double ratio = d * exp(-log_v);
        sum += 0.5 * (log_v + d * ratio);
        dz[i] = ratio / sd;
        dz[n + i] = 0.5 * (1 - d * ratio);
        if (least && dz[n + i] > 0) dz[n + i] = 0; /* nowhere lower to go */
    }
    return sum;
}

static double softmax_row(const struct total_head *h, const float *z, int class, double *dz) {
    double high = -INFINITY, sum = 0, w = weight_of(h, class);
    int n = h->head->n;
    for (int i = 0; i < n; i++)
        if ((double)z[i] > high) high = (double)z[i];
    for (int i = 0; i < n; i++) sum += dz[i] = exp((double)z[i] - high);
    for (int i = 0; i < n; i++) dz[i] = w * (dz[i] / sum - (i == class));
    return w * (high + log(sum) - (double)z[class]);
}

/* Steps [0, passed) are gone past; at step `passed` it stops, when stops. */
static double steps_row(const struct total_head *h, const float *z, int passed, bool stops,
                        double w, double *dz) {
    double sum = 0, slope;
    for (int i = 0; i < h->head->n; i++) {
        dz[i] = 0;
        if (i < passed) {
            sum += softplus((double)z[i], &slope);
            dz[i] = w * slope;
        } else if (i == passed && stops) {
            sum += softplus(-(double)z[i], &slope);
            dz[i] = -w * slope;
        }
    }
    return w * sum;
}

static double hazard_row(const struct total_head *h, const float *z, bool event, double time,
                         double *dz) {
    int passed = 0;
    while (passed < h->head->n_bins &&
           (event ? time > h->head->bins[passed] : time >= h->head->bins[passed]))
        passed++;
    return steps_row(h, z, passed, event, 1, dz);
}

static int class_of(const struct total_head *h, const uint8_t *y, const float *t) {
    return head_class(h->head, y, t);
}

/* Loss of one record's outputs against one record's columns, and its derivative. */
static double row(const struct total_head *h, const float *z, const uint8_t *y, const float *t,
                  double *dz) {
    int class;
    switch (h->head->kind) {
    case HEAD_LABELS:
        return labels_row(h, z, y, dz);
    case HEAD_TARGETS:
        return targets_row(h, z, t, dz);
    case HEAD_GAUSSIAN:
        return gaussian_row(h, z, t, dz);
    case HEAD_CLASSES:
        if ((class = class_of(h, y, t)) >= 0) return softmax_row(h, z, class, dz);
        break;
    case HEAD_ORDINAL:
        class = class_of(h, y, t);
        if (class >= 0) return steps_row(h, z, class, class < h->head->n, weight_of(h, class), dz);
        break;
    case HEAD_HAZARD:
        if (y[0] != OPS_LABEL_UNKNOWN && !isnan(t[0]))
            return hazard_row(h, z, y[0] == 1, (double)t[0], dz);
        break;
    case HEAD_COX:
        break;
    }
    for (int i = 0; i < h->head->n; i++) dz[i] = 0;
    return 0;
}

/* Known entries of one record. */
static int row_known(const struct total_head *h, const uint8_t *y, const float *t) {
    int known = 0;
    switch (h->head->kind) {
    case HEAD_LABELS:
        for (int i = 0; i < h->head->labels.n; i++) known += y[i] != OPS_LABEL_UNKNOWN;
        return known;
    case HEAD_TARGETS:
    case HEAD_GAUSSIAN:
        for (int i = 0; i < h->head->targets.n; i++) known += !isnan(t[i]);
        return known;
    case HEAD_CLASSES:
    case HEAD_ORDINAL:
        return class_of(h, y, t) >= 0;
    case HEAD_COX:
        return y[0] == 1 && !isnan(t[0]);
    case HEAD_HAZARD:
        return y[0] != OPS_LABEL_UNKNOWN && !isnan(t[0]);
    }
    return 0;
}

/* ------------------------------------------------------------------ a batch */

static const uint8_t *labels_at(const struct total *t, const struct total_head *h,
                                const struct total_truth *truth, int i) {
    if (truth->labels == NULL) return NULL;
    return truth->labels + (size_t)i * (size_t)t->n_labels + h->label;
}

static const float *targets_at(const struct total *t, const struct total_head *h,
                               const struct total_truth *truth, int i) {
    if (truth->targets == NULL) return NULL;
    return truth->targets + (size_t)i * (size_t)t->n_targets + h->target;
}

static double known_at(const struct total *t, const struct total_head *h,
                       const struct total_truth *truth, int i) {
    return row_known(h, labels_at(t, h, truth, i), targets_at(t, h, truth, i));
}

bool total_known(const struct total *t, const struct total_truth *truth, double *known) {
    bool any = false;
    for (int k = 0; k < t->n; k++) {
        const struct total_head *h = &t->v[k];
        known[k] = 0;
        for (int i = 0; i < truth->B; i++) {
            double own = truth->mix != NULL ? (double)truth->mix[i] : 1;
            known[k] += own * known_at(t, h, truth, i);
            if (own < 1) known[k] += (1 - own) * known_at(t, h, truth, truth->partner[i]);
        }
        any = any || known[k] > 0;
    }
    return any;
}

/* A head's part of one record; dz, other: (outputs of the head) scratch. */
static double record_loss(const struct total *t, const struct total_head *h,
                          const struct total_truth *truth, int i, const float *z, double *dz,
                          double *other) {
    double loss = row(h, z, labels_at(t, h, truth, i), targets_at(t, h, truth, i), dz);
    if (truth->mix == NULL || truth->mix[i] >= 1) return loss;
    double own = (double)truth->mix[i];
    int p = truth->partner[i];
    loss = own * loss +
           (1 - own) * row(h, z, labels_at(t, h, truth, p), targets_at(t, h, truth, p), other);
    for (int k = 0; k < h->head->n; k++) dz[k] = own * dz[k] + (1 - own) * other[k];
    return loss;
}

/* Memory for the arrays of a batch, or of a row. */
static enum ecg_status grow(struct total *t, size_t bytes) {
    if (bytes <= t->n_scratch) return ECG_OK;
    free(t->scratch);
    t->scratch = NULL;
    t->n_scratch = 0;
    TRY(mem_alloc(&t->scratch, bytes, 1));
    t->n_scratch = bytes;
    return ECG_OK;
}

static enum ecg_status add_rows(struct total *t, int k, const struct total_truth *truth,
                                double known, int first, int n, const float *logits, double *sum,
                                float *dlogits) {
    const struct total_head *h = &t->v[k];
    size_t width = (size_t)t->n_outputs;
    TRY(grow(t, 2 * width * sizeof(double)));
    double *dz = t->scratch, *other = dz + width, factor = known > 0 ? h->weight / known : 0;
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)i * width + (size_t)h->head->first;
        *sum += record_loss(t, h, truth, first + i, logits + at, dz, other);
        for (int c = 0; c < h->head->n && dlogits != NULL; c++)
            dlogits[at + (size_t)c] = (float)(factor * dz[c]);
    }
    return ECG_OK;
}

/* The whole batch's partial likelihood, of which the gradient's part [first, first + n) is taken; the loss once, with the
 * first record. */
static enum ecg_status add_cox(struct total *t, int k, const struct total_truth *truth, int first,
                               int n, const float *all, double *sum, float *dlogits) {
    const struct total_head *h = &t->v[k];
    size_t B = (size_t)truth->B, width = (size_t)t->n_outputs, events = 0;
    size_t cox_bytes = (objective_cox_bytes(B) + 63) / 64 * 64;
    TRY(grow(t, cox_bytes + 3 * B * sizeof(float) + B));
    char *memory = t->scratch;
    float *z = (float *)(void *)(memory + cox_bytes), *time = z + B, *dz = time + B;
    uint8_t *event = (uint8_t *)(dz + B);
    double loss = 0;
    for (size_t i = 0; i < B; i++) {
        z[i] = all[i * width + (size_t)h->head->first];
        time[i] = *targets_at(t, h, truth, (int)i);
        event[i] = *labels_at(t, h, truth, (int)i);
    }
    objective_cox(B, z, event, time, memory, &loss, &events, dz);
    if (first == 0) *sum += loss;
    for (int i = 0; i < n && dlogits != NULL; i++)
        dlogits[(size_t)i * width + (size_t)h->head->first] =
            (float)(h->weight * (double)dz[first + i]);
    return ECG_OK;
}

enum ecg_status total_add(struct total *t, const struct total_truth *truth, const double *known,
                          int first, int n, const float *logits, const float *all, double *sum,
                          float *dlogits) {
    for (int k = 0; k < t->n; k++)
        if (t->v[k].head->kind == HEAD_COX)
            TRY(add_cox(t, k, truth, first, n, all, &sum[k], dlogits));
        else
            TRY(add_rows(t, k, truth, known[k], first, n, logits, &sum[k], dlogits));
    return ECG_OK;
}

double total_value(const struct total *t, const double *known, const double *sum) {
    double value = 0;
    bool any = false;
    for (int k = 0; k < t->n; k++) {
        if (!(known[k] > 0)) continue;
        value += t->v[k].weight * sum[k] / known[k];
        any = true;
    }
    return any ? value : (double)NAN;
}
