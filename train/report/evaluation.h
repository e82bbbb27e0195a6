/* SPDX-License-Identifier: MIT
 * What a network's outputs are worth on records whose truth is known: metrics per label and target, 95 % intervals by a
 * bootstrap over patients, and the files metrics.json and predictions.csv.
 *
 *     struct evaluation e;
 *     evaluation_run(&e, &input);  evaluation_write(&e, &input, out);  evaluation_print(&e, &input, stdout);
 *     evaluation_free(&e);
 */
#ifndef TRAIN_REPORT_EVALUATION_H
#define TRAIN_REPORT_EVALUATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/status.h"
#include "train/report/metrics.h"

#define EVALUATION_UNKNOWN 255 /* a label that is not known */

/* Outputs and truth of N records. Labels (K) or targets (T) may be none; nothing is owned. */
struct evaluation_input {
    size_t n;                /* N records */
    char *const *record_ids; /* (N); evaluation_write needs them */
    const uint64_t *patients; /* (N) hash of the patient; NULL: each record is a patient of its own */
    size_t n_labels; /* K */
    char *const *label_names;  /* (K) */
    const float *logits;       /* (N, K) */
    const uint8_t *labels;     /* (N, K) 1, 0, 255 unknown */
    const double *thresholds;  /* (K) on the probability, NaN: none; NULL: none at all */
    size_t n_targets;          /* T */
    char *const *target_names; /* (T) */
    const float *predictions;  /* (N, T) in the target's unit */
    const float *targets;      /* (N, T) NaN unknown */
    bool intervals;            /* bootstrap, or leave every interval out */
    uint64_t seed;             /* of the bootstrap */
};

struct interval {
    double low, high; /* 2.5 and 97.5 % quantile of the resamples; NaN when undefined */
};

/* NaN = undefined: everything by rank of a label with one class; sensitivity ... without a threshold. */
struct label_result {
    size_t n, positives; /* known records */
    double auroc, auprc, brier, threshold, sensitivity, specificity, f1;
    struct interval auroc_ci, auprc_ci;
};

struct target_result {
    size_t n;
    struct regression r;
    struct interval mae_ci;
};

struct evaluation {
    struct label_result *labels;   /* (K) */
    struct target_result *targets; /* (T) */
    size_t n_patients;
    size_t n_ranked;                 /* labels with both classes: those in the mean */
    size_t resamples;                /* 0: no intervals */
    double macro_auroc, macro_auprc; /* mean over those; NaN when there is none */
    struct interval macro_auroc_ci, macro_auprc_ci;
};

/* Bytes a record that labels without intervals take while they are evaluated, one label after the other: known entries,
 * sorted scores, ranking. */
#define EVALUATION_BYTES 48
/* With intervals each label keeps its ranking. */
#define EVALUATION_INTERVAL_BYTES 5

/* AUROC and AUPRC from the logits in double, Brier and thresholds from p = 1 / (1 + exp(-logit)). An output that is not
 * finite, or a label other than 0, 1, 255, is ECG_ERR_DATA. */
enum ecg_status evaluation_run(struct evaluation *e, const struct evaluation_input *in);
void evaluation_free(struct evaluation *e); /* idempotent */

/* DIR/metrics.json and DIR/predictions.csv (record_id, per label NAME_prob and NAME_true, per target NAME_pred and
 * NAME_true; unknown = empty), each atomic; DIR is made. */
enum ecg_status evaluation_write(const struct evaluation *e, const struct evaluation_input *in,
                                 const char *dir);
/* One table for people. */
void evaluation_print(const struct evaluation *e, const struct evaluation_input *in, FILE *f);

/* Youden's threshold of each label (K) on the probability, for validation data; NaN for a label with one class. */
enum ecg_status evaluation_thresholds(const struct evaluation_input *in, double *thresholds);

/* 1 / (1 + exp(-logit)), in double */
double evaluation_prob(double logit);

#endif
