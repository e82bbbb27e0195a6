/* SPDX-License-Identifier: MIT
 * Metrics, equal to scikit-learn's to 1e-9 where it has them, from scores in double. Arrays of n; entries must be known and
 * finite. What is undefined (one class, no variance, no pair) is NaN, never a number that looks like a result. */
#ifndef TRAIN_REPORT_METRICS_H
#define TRAIN_REPORT_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

/* roc_auc_score with ties (Mann-Whitney); NaN with one class. */
enum ecg_status metrics_auroc(const double *score, const uint8_t *y, size_t n, double *out);
/* average_precision_score; NaN without positives. */
enum ecg_status metrics_auprc(const double *score, const uint8_t *y, size_t n, double *out);
/* brier_score_loss: mean (p - y)^2; NaN when n is 0 */
double metrics_brier(const double *prob, const uint8_t *y, size_t n);
/* Youden: the score with the largest tpr - fpr along sklearn's roc_curve (drop_intermediate off; the first maximum). Always
 * one of the scores: sklearn's extra first point, a threshold above them all, is not a choice. NaN with one class. */
enum ecg_status metrics_youden(const double *score, const uint8_t *y, size_t n, double *threshold);
/* The official ptbxl_eval's threshold: largest balanced accuracy on the grid 0.01 .. 0.99, the first maximum; there, and
 * only there, positive means prob > t, and t is rounded to fp32. NaN with one class. */
double metrics_balanced_threshold(const double *prob, const uint8_t *y, size_t n);

struct confusion {
    size_t tp, fp, tn, fn;
};
struct confusion metrics_confusion(const double *prob, const uint8_t *y, size_t n,
                                   double threshold); /* p >= t */
double metrics_sensitivity(struct confusion c);       /* NaN without positives */
double metrics_specificity(struct confusion c);       /* NaN without negatives */
double metrics_ppv(struct confusion c); /* precision; NaN when nothing is called positive */
double metrics_npv(struct confusion c); /* NaN when everything is called positive */
double metrics_f1(struct confusion c);  /* NaN when nothing is positive, neither truth nor call */

/* How calls of one class each agree with the truth. Those from AGREEMENT_ORDERED on mean something for ordered classes. */
enum agreement {
    AGREEMENT_ACCURACY,
    AGREEMENT_BALANCED_ACCURACY, /* mean recall of the classes that occur in the truth */
    AGREEMENT_MACRO_F1,          /* mean F1 of the classes that occur, in the truth or as a call */
    AGREEMENT_KAPPA,             /* Cohen's; NaN when truth and calls are one and the same class */
    AGREEMENT_ORDERED,
    AGREEMENT_QUADRATIC_KAPPA = AGREEMENT_ORDERED, /* weights (i - j)^2 over all classes, absent ones too */
    AGREEMENT_MAE,                                 /* mean |called - true| in classes */
    AGREEMENTS
};
/* counts (classes, classes): how often [truth][called]. All NaN when they are all 0. */
void metrics_agreement(double out[AGREEMENTS], const uint64_t *counts, size_t classes);

struct regression {
    double mae, rmse, r2, pearson; /* r2, pearson NaN when undefined */
};
struct regression metrics_regression(const double *prediction, const double *target, size_t n);

/* Predictions with a standard deviation (> 0), NaN when n is 0. */
struct gaussian {
    double nll;      /* mean of log(sd sqrt(2 pi)) + (prediction - target)^2 / (2 sd^2) */
    double coverage; /* part of the targets within prediction +- 1.96 sd, the 95 % interval; ends included */
};
struct gaussian metrics_gaussian(const double *prediction, const double *sd, const double *target,
                                 size_t n);

/* Scores sorted once, for AUROC and AUPRC under many weightings (the bootstrap): a sweep is linear in n. */
struct ranking {
    size_t n;
    uint32_t *unit; /* (n) by falling score: which weight counts for this entry */
    uint8_t *flags; /* (n) RANKING_POSITIVE, RANKING_GROUP_END (the last of equal scores) */
};
#define RANKING_POSITIVE  1
#define RANKING_GROUP_END 2
/* unit[i] is the weight's index of entry i; NULL: i itself. n is at most 2^32 - 1. */
enum ecg_status metrics_rank(struct ranking *r, const double *score, const uint8_t *y,
                             const uint32_t *unit, size_t n);
void metrics_rank_free(struct ranking *r); /* idempotent */
/* weight: how often each unit counts; NULL: once. NaN as above. */
void metrics_rank_areas(const struct ranking *r, const uint16_t *weight, double *auroc,
                        double *auprc);

/* Harrell's C-index: the part of the usable pairs in which the one whose event came first has the higher risk; equal risks
 * count 1/2. A pair is usable when the shorter of two times ends in an event, or when two equal times are one event and one
 * censoring, which then counts as the longer (as in lifelines, scikit-survival and R's survival). Sorted once for many
 * weightings: one costs O(n log n). */
struct concordance {
    size_t n, n_ranks;
    uint32_t *unit; /* (n) by falling time, at equal times the censored first: as in struct ranking */
    uint32_t *rank; /* (n) 1 .. n_ranks by falling risk, equal ones of equal risk */
    uint8_t *flags; /* (n) CONCORDANCE_EVENT, CONCORDANCE_TIME_END (the last of equal times) */
    uint64_t *tree; /* (n_ranks + 1) scratch */
};
#define CONCORDANCE_EVENT    1
#define CONCORDANCE_TIME_END 2
/* event: 1, or 0 censored; unit as in metrics_rank. */
enum ecg_status metrics_concordance_sort(struct concordance *c, const double *risk,
                                         const uint8_t *event, const float *time,
                                         const uint32_t *unit, size_t n);
void metrics_concordance_free(struct concordance *c); /* idempotent */
struct c_index {
    double index; /* NaN without a usable pair */
    double pairs; /* usable ones, by weight */
};
/* weight as in metrics_rank_areas: two drawings of one entry are no usable pair. Writes c->tree. */
struct c_index metrics_concordance_index(const struct concordance *c, const uint16_t *weight);

#endif
