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
#include <string.h>

#include "core/mem.h"

#define NORMAL_975 1.959963984540054 /* 97.5 % quantile of the normal distribution */

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

double metrics_ppv(struct confusion c) {
    return ratio(c.tp, c.tp + c.fp);
}

double metrics_npv(struct confusion c) {
    return ratio(c.tn, c.tn + c.fn);
}

double metrics_f1(struct confusion c) {
    return ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn);
}

/* Kappa is 1 - observed / expected disagreement, the expected one from the margins alone: with truths t_k and calls c_k of
 * n entries it is sum_ij w_ij t_i c_j / n, which for w = [i != j] is n - sum t_k c_k / n, and for w = (i - j)^2
 * sum k^2 (t_k + c_k) - 2 (sum k t_k) (sum k c_k) / n. It is 0 when truth and calls share their one class. */
void metrics_agreement(double out[AGREEMENTS], const uint64_t *counts, size_t classes) {
    double n = 0, hits = 0, recall = 0, f1 = 0, truths_met = 0, met = 0;
    double product = 0, square = 0, truth_sum = 0, call_sum = 0, absolute = 0, squared = 0;
    for (size_t k = 0; k < classes; k++) {
        double truths = 0, calls = 0, hit = (double)counts[k * classes + k], at = (double)k;
        for (size_t j = 0; j < classes; j++) {
            double count = (double)counts[k * classes + j], step = fabs(at - (double)j);
            truths += count;
            calls += (double)counts[j * classes + k];
            absolute += step * count;
            squared += step * step * count;
        }
        n += truths;
        hits += hit;
        if (truths > 0) recall += hit / truths, truths_met++;
        if (truths + calls > 0) f1 += 2 * hit / (truths + calls), met++;
        product += truths * calls;
        square += at * at * (truths + calls);
        truth_sum += at * truths;
        call_sum += at * calls;
    }
    for (int i = 0; i < AGREEMENTS; i++) out[i] = NAN;
    if (!(n > 0)) return;
    out[AGREEMENT_ACCURACY] = hits / n;
    out[AGREEMENT_BALANCED_ACCURACY] = recall / truths_met;
    out[AGREEMENT_MACRO_F1] = f1 / met;
    out[AGREEMENT_MAE] = absolute / n;
    if (met < 2) return;
    out[AGREEMENT_KAPPA] = 1 - (n - hits) / (n - product / n);
    out[AGREEMENT_QUADRATIC_KAPPA] = 1 - squared / (square - 2 * truth_sum * call_sum / n);
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

struct gaussian metrics_gaussian(const double *prediction, const double *sd, const double *target,
                                 size_t n) {
    if (n == 0) return (struct gaussian){NAN, NAN};
    double nll = 0;
    size_t covered = 0;
    for (size_t i = 0; i < n; i++) {
        double error = (target[i] - prediction[i]) / sd[i];
        nll += 0.5 * log(2 * M_PI) + log(sd[i]) + 0.5 * error * error;
        covered += fabs(error) <= NORMAL_975;
    }
    return (struct gaussian){nll / (double)n, (double)covered / (double)n};
}

/* ---- the C-index ---- */

struct survivor {
    float time;
    uint8_t event;
    uint32_t entry;
};

/* By falling time, the censored first, then by entry. */
static int by_time(const void *a, const void *b) {
    const struct survivor *x = a, *y = b;
    if (x->time != y->time) return x->time > y->time ? -1 : 1;
    if (x->event != y->event) return x->event ? 1 : -1;
    return (x->entry > y->entry) - (x->entry < y->entry);
}

/* rank[i] of entry i: 1 for the highest risk. */
static enum ecg_status rank_risks(uint32_t *rank, size_t *n_ranks, const double *risk, size_t n) {
    struct scored *s;
    TRY(sorted_scores(&s, risk, n));
    *n_ranks = 0;
    for (size_t i = 0; i < n; i++) {
        if (!i || s[i].score != s[i - 1].score) ++*n_ranks;
        rank[s[i].entry] = (uint32_t)*n_ranks;
    }
    free(s);
    return ECG_OK;
}

enum ecg_status metrics_concordance_sort(struct concordance *c, const double *risk,
                                         const uint8_t *event, const float *time,
                                         const uint32_t *unit, size_t n) {
    *c = (struct concordance){.n = n};
    uint32_t *rank = NULL;
    struct survivor *s = NULL;
    enum ecg_status status = ECG_OK;
    TRY_OUT(MEM_NEW(&rank, n));
    TRY_OUT(rank_risks(rank, &c->n_ranks, risk, n));
    TRY_OUT(MEM_NEW(&s, n));
    TRY_OUT(MEM_NEW(&c->unit, n));
    TRY_OUT(MEM_NEW(&c->rank, n));
    TRY_OUT(MEM_NEW(&c->flags, n));
    TRY_OUT(MEM_NEW(&c->tree, c->n_ranks + 1));
    for (size_t i = 0; i < n; i++) s[i] = (struct survivor){time[i], event[i] != 0, (uint32_t)i};
    qsort(s, n, sizeof *s, by_time);
    for (size_t i = 0; i < n; i++) {
        bool ends = i + 1 == n || s[i + 1].time != s[i].time;
        c->unit[i] = unit ? unit[s[i].entry] : s[i].entry;
        c->rank[i] = rank[s[i].entry];
        c->flags[i] =
            (uint8_t)((s[i].event ? CONCORDANCE_EVENT : 0) | (ends ? CONCORDANCE_TIME_END : 0));
    }
out:
    free(rank);
    free(s);
    if (status != ECG_OK) metrics_concordance_free(c);
    return status;
}

void metrics_concordance_free(struct concordance *c) {
    free(c->unit);
    free(c->rank);
    free(c->flags);
    free(c->tree);
    *c = (struct concordance){0};
}

/* Fenwick's tree: weights by rank, the sum of the first `rank` of them in log steps. */
static void tree_add(uint64_t *tree, size_t n_ranks, size_t rank, uint64_t weight) {
    for (; rank <= n_ranks; rank += rank & -rank) tree[rank] += weight;
}

static uint64_t tree_sum(const uint64_t *tree, size_t rank) {
    uint64_t sum = 0;
    for (; rank > 0; rank -= rank & -rank) sum += tree[rank];
    return sum;
}

/* One walk by falling time. The tree holds everyone who outlives the present time, for whom an event now makes a pair: the
 * censored of this time enter before its events are compared, the events after. */
struct c_index metrics_concordance_index(const struct concordance *c, const uint16_t *weight) {
    uint64_t outlive = 0;
    double won = 0, pairs = 0;
    memset(c->tree, 0, (c->n_ranks + 1) * sizeof *c->tree);
    for (size_t i = 0, entered = 0; i < c->n; i++) {
        uint64_t w = weight ? weight[c->unit[i]] : 1;
        if (!(c->flags[i] & CONCORDANCE_EVENT)) {
            if (w) tree_add(c->tree, c->n_ranks, c->rank[i], w);
            outlive += w;
            entered = i + 1;
        } else if (w) {
            uint64_t up_to = tree_sum(c->tree, c->rank[i]); /* of higher or equal risk */
            uint64_t above = tree_sum(c->tree, c->rank[i] - 1);
            won += (double)w * ((double)(outlive - up_to) + 0.5 * (double)(up_to - above));
            pairs += (double)w * (double)outlive;
        }
        if (!(c->flags[i] & CONCORDANCE_TIME_END)) continue;
        for (; entered <= i; entered++) {
            w = weight ? weight[c->unit[entered]] : 1;
            if (w) tree_add(c->tree, c->n_ranks, c->rank[entered], w);
            outlive += w;
        }
    }
    return (struct c_index){pairs > 0 ? won / pairs : NAN, pairs};
}
