/* SPDX-License-Identifier: MIT
 * The bootstrap as weights: a resample is how often each patient was drawn, and every metric is one walk through entries
 * sorted beforehand, linear but for the C-index, whose tree takes log n steps an entry. Cost: resamples x (draws + known
 * entries of all columns). */
#include "train/report/bootstrap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"

#define RESAMPLES       1000
#define LEAST_RESAMPLES 200
#define FULL_RECORDS    20000 /* from here on resamples x records stays constant */

struct patient {
    uint64_t hash;
    uint32_t record;
};

static int by_hash(const void *a, const void *b) {
    const struct patient *x = a, *y = b;
    return (x->hash > y->hash) - (x->hash < y->hash);
}

enum ecg_status bootstrap_units(uint32_t *unit, size_t *n_units, const uint64_t *hashes, size_t n) {
    if (n > UINT32_MAX)
        return ecg_fail(ECG_ERR_FAIL, "%zu records are more than can be evaluated", n);
    *n_units = n;
    for (size_t i = 0; i < n; i++) unit[i] = (uint32_t)i;
    if (!hashes) return ECG_OK;
    struct patient *p;
    TRY(MEM_NEW(&p, n));
    for (size_t i = 0; i < n; i++) p[i] = (struct patient){hashes[i], (uint32_t)i};
    qsort(p, n, sizeof *p, by_hash);
    *n_units = 0;
    for (size_t i = 0; i < n; i++) {
        if (!i || p[i].hash != p[i - 1].hash) ++*n_units;
        unit[p[i].record] = (uint32_t)(*n_units - 1);
    }
    free(p);
    return ECG_OK;
}

size_t bootstrap_resamples(size_t n) {
    if (n <= FULL_RECORDS) return RESAMPLES;
    size_t fewer = (size_t)RESAMPLES * FULL_RECORDS / n;
    return fewer > LEAST_RESAMPLES ? fewer : LEAST_RESAMPLES;
}

static void draw(uint16_t *weight, size_t n_units, uint64_t seed, size_t resample) {
    struct rng r;
    rng_init(&r, seed, RNG_BOOTSTRAP, (uint32_t)resample, 0);
    memset(weight, 0, n_units * sizeof *weight);
    for (size_t i = 0; i < n_units; i++) weight[rng_below(&r, n_units)]++;
}

static double weighted_mean(const struct bootstrap_errors *e, const uint16_t *weight) {
    double sum = 0, n = 0;
    for (size_t i = 0; i < e->n; i++) {
        double w = weight[e->unit[i]];
        sum += w * e->error[i];
        n += w;
    }
    return n > 0 ? sum / n : NAN;
}

/* Mean of what is defined. */
struct mean {
    double sum;
    size_t n;
};

static void mean_add(struct mean *m, double v) {
    if (isnan(v)) return;
    m->sum += v;
    m->n++;
}

/* The largest group's (G, G). */
static size_t most_counts(const struct bootstrap_input *in) {
    size_t most = 0;
    for (size_t g = 0; g < in->n_groups; g++)
        if (in->calls[g].n_classes > most) most = in->calls[g].n_classes;
    return most * most;
}

static void weighted_agreement(double out[AGREEMENTS], const struct bootstrap_calls *c,
                               const uint16_t *weight, uint64_t *counts) {
    memset(counts, 0, c->n_classes * c->n_classes * sizeof *counts);
    for (size_t i = 0; i < c->n; i++) counts[c->cell[i]] += weight[c->unit[i]];
    metrics_agreement(out, counts, c->n_classes);
}

/* Values a resample has: AUROC and AUPRC of each column, the agreements of each group, each C-index, the errors of each
 * target, the two means. */
static size_t n_values(const struct bootstrap_input *in) {
    size_t n = 2 * in->n_columns + in->n_survivals + in->n_targets + 2;
    for (size_t g = 0; g < in->n_groups; g++) n += in->calls[g].end;
    return n;
}

/* All of one resample: column `resample` of v (n_values, resamples). */
static void resample_metrics(const struct bootstrap_input *in, const uint16_t *weight,
                             uint64_t *counts, double *v, size_t resample) {
    struct mean auroc = {0}, auprc = {0};
    size_t R = in->resamples;
    double *at = v + resample;
    for (size_t k = 0; k < in->n_columns; k++, at += 2 * R) {
        metrics_rank_areas(&in->rankings[k], weight, &at[0], &at[R]);
        if (isnan(at[0])) at[R] = NAN;
        mean_add(&auroc, at[0]);
        mean_add(&auprc, at[R]);
    }
    for (size_t g = 0; g < in->n_groups; g++) {
        double value[AGREEMENTS];
        weighted_agreement(value, &in->calls[g], weight, counts);
        for (size_t i = 0; i < in->calls[g].end; i++, at += R) *at = value[i];
    }
    for (size_t s = 0; s < in->n_survivals; s++, at += R)
        *at = metrics_concordance_index(&in->orders[s], weight).index;
    for (size_t t = 0; t < in->n_targets; t++, at += R) *at = weighted_mean(&in->errors[t], weight);
    at[0] = auroc.n ? auroc.sum / (double)auroc.n : NAN;
    at[R] = auprc.n ? auprc.sum / (double)auprc.n : NAN;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Quantile of n sorted values, linear between two. */
static double quantile(const double *v, size_t n, double q) {
    double place = q * (double)(n - 1);
    size_t below = (size_t)place;
    if (below + 1 >= n) return v[n - 1];
    return v[below] + (place - (double)below) * (v[below + 1] - v[below]);
}

/* Sorts v in place. */
static struct interval interval_of(double *v, size_t resamples) {
    size_t n = 0;
    for (size_t i = 0; i < resamples; i++)
        if (!isnan(v[i])) v[n++] = v[i];
    if (!n) return (struct interval){NAN, NAN};
    qsort(v, n, sizeof *v, by_value);
    return (struct interval){quantile(v, n, 0.025), quantile(v, n, 0.975)};
}

/* In the order of resample_metrics. */
static void take_intervals(const struct bootstrap_input *in, double *v, struct evaluation *e) {
    size_t R = in->resamples;
    double *at = v;
    for (size_t k = 0; k < in->n_columns; k++, at += 2 * R) {
        e->labels[k].auroc_ci = interval_of(at, R);
        e->labels[k].auprc_ci = interval_of(at + R, R);
    }
    for (size_t g = 0; g < in->n_groups; g++)
        for (size_t i = 0; i < in->calls[g].end; i++, at += R)
            e->groups[g].ci[i] = interval_of(at, R);
    for (size_t s = 0; s < in->n_survivals; s++, at += R)
        e->survivals[s].c_index_ci = interval_of(at, R);
    for (size_t t = 0; t < in->n_targets; t++, at += R) e->targets[t].mae_ci = interval_of(at, R);
    e->macro_auroc_ci = interval_of(at, R);
    e->macro_auprc_ci = interval_of(at + R, R);
    e->resamples = R;
}

enum ecg_status bootstrap_run(const struct bootstrap_input *in, struct evaluation *e) {
    uint16_t *weight = NULL;
    uint64_t *counts = NULL;
    double *v = NULL;
    enum ecg_status status = ECG_OK;
    TRY_OUT(MEM_NEW(&weight, in->n_units));
    TRY_OUT(MEM_NEW(&counts, most_counts(in)));
    TRY_OUT(MEM_NEW(&v, n_values(in) * in->resamples));
    for (size_t r = 0; r < in->resamples; r++) {
        draw(weight, in->n_units, in->seed, r);
        resample_metrics(in, weight, counts, v, r);
    }
    take_intervals(in, v, e);
out:
    free(v);
    free(counts);
    free(weight);
    return status;
}
