/* SPDX-License-Identifier: MIT
 * Everything about ranks comes from one walk through the entries by falling score. Entries of equal score enter together: a
 * group with dp positives and dn negatives, after tp positives and fp negatives above it, adds
 *   dn (tp + dp / 2)              to the Mann-Whitney count: pairs won, ties half; AUROC = count / (P N)
 *   dp (tp + dp) / (all so far)   to the sum of precision over the steps of recall; AUPRC = sum / P
 * Counts are integers below 2^53, exact in double. */
#include "train/report/metrics.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/mem.h"

struct scored {
    double score;
    uint32_t entry;
};

/* By falling score. Equal ones by entry, so that the order does not depend on the library's qsort. */
static int by_score(const void *a, const void *b) {
    const struct scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return (x->entry > y->entry) - (x->entry < y->entry);
}

static enum ecg_status sorted_scores(struct scored **out, const double *score, size_t n) {
    if (n > UINT32_MAX)
        return ecg_fail(ECG_ERR_FAIL, "%zu entries are more than metrics can rank", n);
    struct scored *s;
    TRY(MEM_NEW(&s, n));
    for (size_t i = 0; i < n; i++) s[i] = (struct scored){score[i], (uint32_t)i};
    qsort(s, n, sizeof *s, by_score);
    *out = s;
    return ECG_OK;
}

enum ecg_status metrics_rank(struct ranking *r, const double *score, const uint8_t *y,
                             const uint32_t *unit, size_t n) {
    *r = (struct ranking){.n = n};
    struct scored *s = NULL;
    enum ecg_status status = ECG_OK;
    TRY_OUT(sorted_scores(&s, score, n));
    TRY_OUT(MEM_NEW(&r->unit, n));
    TRY_OUT(MEM_NEW(&r->flags, n));
    for (size_t i = 0; i < n; i++) {
        uint32_t entry = s[i].entry;
        bool ends = i + 1 == n || s[i + 1].score != s[i].score;
        r->unit[i] = unit ? unit[entry] : entry;
        r->flags[i] = (uint8_t)((y[entry] ? RANKING_POSITIVE : 0) | (ends ? RANKING_GROUP_END : 0));
    }
out:
    free(s);
    if (status != ECG_OK) metrics_rank_free(r);
    return status;
}

void metrics_rank_free(struct ranking *r) {
    free(r->unit);
    free(r->flags);
    *r = (struct ranking){0};
}

void metrics_rank_areas(const struct ranking *r, const uint16_t *weight, double *auroc,
                        double *auprc) {
    uint64_t tp = 0, fp = 0, count[2] = {0, 0}; /* count: of the group, negatives and positives */
    double pairs = 0, precision = 0;
    for (size_t i = 0; i < r->n; i++) {
        count[r->flags[i] & RANKING_POSITIVE] += weight ? weight[r->unit[i]] : 1;
        if (!(r->flags[i] & RANKING_GROUP_END)) continue;
        pairs += (double)count[0] * ((double)tp + 0.5 * (double)count[1]);
        tp += count[1];
        fp += count[0];
        if (count[1]) precision += (double)count[1] * ((double)tp / (double)(tp + fp));
        count[0] = count[1] = 0;
    }
    *auroc = tp && fp ? pairs / ((double)tp * (double)fp) : NAN;
    *auprc = tp ? precision / (double)tp : NAN;
}

enum ecg_status metrics_auroc(const double *score, const uint8_t *y, size_t n, double *out) {
    struct ranking r;
    double auprc;
    TRY(metrics_rank(&r, score, y, NULL, n));
    metrics_rank_areas(&r, NULL, out, &auprc);
    metrics_rank_free(&r);
    return ECG_OK;
}

enum ecg_status metrics_auprc(const double *score, const uint8_t *y, size_t n, double *out) {
    struct ranking r;
    double auroc;
    TRY(metrics_rank(&r, score, y, NULL, n));
    metrics_rank_areas(&r, NULL, &auroc, out);
    metrics_rank_free(&r);
    return ECG_OK;
}

double metrics_brier(const double *prob, const uint8_t *y, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double d = prob[i] - (y[i] ? 1 : 0);
        sum += d * d;
    }
    return n ? sum / (double)n : NAN;
}

enum ecg_status metrics_youden(const double *score, const uint8_t *y, size_t n, double *threshold) {
    struct scored *s;
    size_t positives = 0, tp = 0;
    for (size_t i = 0; i < n; i++) positives += y[i] != 0;
    *threshold = NAN;
    if (positives == 0 || positives == n) return ECG_OK;
    TRY(sorted_scores(&s, score, n));
    double best = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        tp += y[s[i].entry] != 0;
        if (i + 1 < n && s[i + 1].score == s[i].score) continue;
        double tpr = (double)tp / (double)positives;
        double fpr = (double)(i + 1 - tp) / (double)(n - positives);
        if (tpr - fpr > best) {
            best = tpr - fpr;
            *threshold = s[i].score;
        }
    }
    free(s);
    return ECG_OK;
}

double metrics_balanced_threshold(const double *prob, const uint8_t *y, size_t n) {
    double best = -1, threshold = NAN;
    for (int step = 1; step < 100; step++) {
        double t = step / 100.0;
        struct confusion c = metrics_confusion(prob, y, n, nextafter((float)t, 2));
        double balanced = (metrics_sensitivity(c) + metrics_specificity(c)) / 2;
        if (balanced > best) {
            best = balanced;
            threshold = t;
        }
    }
    return threshold;
}

struct confusion metrics_confusion(const double *prob, const uint8_t *y, size_t n,
                                   double threshold) {
    struct confusion c = {0};
    for (size_t i = 0; i < n; i++) {
        bool called = prob[i] >= threshold;
        if (y[i])
            *(called ? &c.tp : &c.fn) += 1;
        else
            *(called ? &c.fp : &c.tn) += 1;
    }
    return c;
}

/* NaN for 0 / 0 */
static double ratio(size_t part, size_t whole) {
    return whole ? (double)part / (double)whole : NAN;
}

double metrics_sensitivity(struct confusion c) {
    return ratio(c.tp, c.tp + c.fn);
}

double metrics_specificity(struct confusion c) {
    return ratio(c.tn, c.tn + c.fp);
}

double metrics_f1(struct confusion c) {
    return ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn);
}

static double mean(const double *v, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += v[i];
    return sum / (double)n;
}

struct regression metrics_regression(const double *prediction, const double *target, size_t n) {
    if (n == 0) return (struct regression){NAN, NAN, NAN, NAN};
    double mp = mean(prediction, n), mt = mean(target, n);
    double absolute = 0, square = 0, pp = 0, tt = 0, pt = 0;
    for (size_t i = 0; i < n; i++) {
        double error = prediction[i] - target[i], p = prediction[i] - mp, t = target[i] - mt;
        absolute += fabs(error);
        square += error * error;
        pp += p * p;
        tt += t * t;
        pt += p * t;
    }
    return (struct regression){
        .mae = absolute / (double)n,
        .rmse = sqrt(square / (double)n),
        .r2 = tt > 0 ? 1 - square / tt : NAN,
        .pearson = pp > 0 && tt > 0 ? pt / (sqrt(pp) * sqrt(tt)) : NAN,
    };
}
