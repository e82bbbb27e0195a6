/* SPDX-License-Identifier: MIT
 * Metrics, equal to scikit-learn's to 1e-9, from scores in double. Arrays of n; entries must be known and finite. */
#ifndef TRAIN_REPORT_METRICS_H
#define TRAIN_REPORT_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

/* roc_auc_score with ties (Mann-Whitney); NaN with one class. */
enum ecg_status metrics_auroc(const double *score, const uint8_t *y, size_t n, double *out);
/* average_precision_score; NaN without positives. */
enum ecg_status metrics_auprc(const double *score, const uint8_t *y, size_t n, double *out);
/* brier_score_loss: mean (p - y)^2 */
double metrics_brier(const double *prob, const uint8_t *y, size_t n);
/* Youden: the score with the largest tpr - fpr along sklearn's roc_curve (drop_intermediate off; the first maximum). */
enum ecg_status metrics_youden(const double *score, const uint8_t *y, size_t n, double *threshold);
/* The official ptbxl_eval's threshold: largest balanced accuracy on the grid 0.01 .. 0.99 (score >= t positive). */
double metrics_balanced_threshold(const double *prob, const uint8_t *y, size_t n);

struct confusion {
    size_t tp, fp, tn, fn;
};
struct confusion metrics_confusion(const double *prob, const uint8_t *y, size_t n, double threshold); /* p >= t */
double metrics_sensitivity(struct confusion c); /* NaN without positives */
double metrics_specificity(struct confusion c);
double metrics_f1(struct confusion c);

struct regression {
    double mae, rmse, r2, pearson; /* r2, pearson NaN when undefined */
};
struct regression metrics_regression(const double *prediction, const double *target, size_t n);

#endif
