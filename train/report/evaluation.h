/* SPDX-License-Identifier: MIT
 * What a network's outputs are worth on records whose truth is known: metrics per label, group of classes, time to event and
 * target, 95 % intervals by a bootstrap over patients, and the files metrics.json and predictions.csv. Any of the four may
 * be there, several heads at once.
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

#define EVALUATION_UNKNOWN 255 /* a label or an event that is not known */

/* G classes of which exactly one is true. The call is the class of the largest score, of equal ones the first. */
struct evaluation_classes {
    const char *name;
    size_t n_classes;         /* G, 2 .. EVALUATION_MAX_CLASSES */
    char *const *class_names; /* (G) */
    bool is_ordered;          /* adds quadratic kappa and the error in classes */
    const float *scores;      /* (N, G) log-odds of each class, log(p / (1 - p)) */
    const int *truth;         /* (N) 0 .. G - 1, -1 unknown */
};
#define EVALUATION_MAX_CLASSES 1000

/* One time to an event. A record counts when both its event and its time are known. */
struct evaluation_survival {
    const char *name;
    const float *risk;    /* (N) the higher, the sooner */
    const uint8_t *event; /* (N) 1, 0 censored, 255 unknown */
    const float *time;    /* (N) NaN unknown */
};

/* Outputs and truth of N records; nothing is owned. */
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
    const float *sds; /* (N, T) predicted standard deviation in the target's unit, NaN: none; NULL: none at all */
    size_t n_groups;
    const struct evaluation_classes *groups; /* (n_groups) */
    size_t n_survivals;
    const struct evaluation_survival *survivals; /* (n_survivals) */
    bool intervals;                              /* bootstrap, or leave every interval out */
    uint64_t seed;                               /* of the bootstrap */
};

struct interval {
    double low, high; /* 2.5 and 97.5 % quantile of the resamples; NaN when undefined */
};

/* A label, or one class of a group against its others. NaN = undefined: everything by rank of a label with one class;
 * sensitivity ... of a label without a threshold. A class has no threshold: there they are those of the group's calls. */
struct label_result {
    size_t n, positives; /* known records */
    double auroc, auprc, brier, threshold, sensitivity, specificity, ppv, npv, f1;
    struct interval auroc_ci, auprc_ci;
};

struct group_result {
    size_t n;
    double value[AGREEMENTS]; /* from AGREEMENT_ORDERED on NaN when the classes are not ordered */
    struct interval ci[AGREEMENTS];
    const uint64_t *counts;             /* (G, G) [true][called], within evaluation.counts */
    const struct label_result *classes; /* (G) within evaluation.labels */
};

struct survival_result {
    size_t n, events;
    struct c_index c;
    struct interval c_index_ci;
};

struct target_result {
    size_t n;
    struct regression r;
    size_t n_sd;       /* records with a predicted standard deviation, over which `g` is */
    struct gaussian g; /* NaN without one */
    struct interval mae_ci;
};

/* The one figure by which runs are compared: macro AUROC where a label or class has both kinds of records, else the first
 * defined C-index, else the first defined MAE, else the first defined accuracy; NaN "macro_auroc" when there is none. */
struct main_metric {
    const char *name; /* macro_auroc, c_index, mae, accuracy */
    double value;
    struct interval ci;
};

struct evaluation {
    size_t n_columns;              /* labels and all groups' classes */
    struct label_result *labels;   /* (n_columns) the labels, then group after group its classes */
    struct target_result *targets; /* (T) */
    struct group_result *groups;
    uint64_t *counts; /* of all groups */
    struct survival_result *survivals;
    struct main_metric main;
    size_t n_patients;
    size_t n_ranked;                 /* columns with both classes: those in the mean */
    size_t resamples;                /* 0: no intervals */
    double macro_auroc, macro_auprc; /* mean over those; NaN when there is none */
    struct interval macro_auroc_ci, macro_auprc_ci;
};

/* Bytes a record that labels without intervals take while they are evaluated, one label after the other: known entries,
 * sorted scores, ranking. */
#define EVALUATION_BYTES 48
/* With intervals each label, and each class of a group, keeps its ranking. */
#define EVALUATION_INTERVAL_BYTES 5
/* What each group keeps, and each time to event: its risks in order (while they are sorted, EVALUATION_BYTES more). */
#define EVALUATION_GROUP_BYTES    8
#define EVALUATION_SURVIVAL_BYTES 17

/* AUROC and AUPRC from the logits in double, Brier and thresholds from p = 1 / (1 + exp(-logit)). An output that is not
 * finite, a standard deviation that is not positive, a label or an event other than 0, 1, 255, or a class that the group
 * does not have, is ECG_ERR_DATA. */
enum ecg_status evaluation_run(struct evaluation *e, const struct evaluation_input *in);
void evaluation_free(struct evaluation *e); /* idempotent */

/* DIR/metrics.json and DIR/predictions.csv, each atomic; DIR is made.
 *
 * metrics.json, undefined = null, every *_ci [low, high] only with intervals:
 *     records, patients, resamples
 *     main       {name, value, ci}: struct main_metric
 *     macro      {labels (how many of both kinds, classes included), auroc, auroc_ci, auprc, auprc_ci}
 *     labels     NAME: {n, positives, auroc, auroc_ci, auprc, auprc_ci, brier, threshold, sensitivity, specificity, ppv, npv,
 *                f1}
 *     classes    NAME: {n, accuracy, balanced_accuracy, macro_f1, kappa, with ordered classes quadratic_kappa and mae, each
 *                with its _ci, confusion [true][called], classes CLASS: as a label, without a threshold}
 *     survivals  NAME: {n, events, pairs (usable ones), c_index, c_index_ci}
 *     targets    NAME: {n, mae, mae_ci, rmse, r2, pearson; where standard deviations are given also n_sd, nll, coverage}
 *
 * predictions.csv, unknown = empty: record_id; per label NAME_prob and NAME_true; per group NAME_called and NAME_true (names
 * of classes) and per class NAME_CLASS_prob; per time to event NAME_risk, NAME_event and NAME_time; per target NAME_pred and
 * NAME_true, and NAME_sd where standard deviations are given. */
enum ecg_status evaluation_write(const struct evaluation *e, const struct evaluation_input *in,
                                 const char *dir);
/* One table for people. */
void evaluation_print(const struct evaluation *e, const struct evaluation_input *in, FILE *f);

/* Youden's threshold of each label (K) on the probability, for validation data; NaN for a label with one class. */
enum ecg_status evaluation_thresholds(const struct evaluation_input *in, double *thresholds);

/* The class that a group's scores (G) call. */
size_t evaluation_call(const float *scores, size_t n_classes);

/* 1 / (1 + exp(-logit)), in double */
double evaluation_prob(double logit);

#endif
