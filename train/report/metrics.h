/* SPDX-License-Identifier: MIT
 * Metrics, equal to scikit-learn's to 1e-9, from scores in double. Arrays of n; entries must be known and finite. What is
 * undefined (one class, no variance) is NaN, never a number that looks like a result. */
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
double metrics_f1(struct confusion c); /* NaN when nothing is positive, neither truth nor call */

struct regression {
    double mae, rmse, r2, pearson; /* r2, pearson NaN when undefined */
};
struct regression metrics_regression(const double *prediction, const double *target, size_t n);

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

#endif
