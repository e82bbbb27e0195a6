/* SPDX-License-Identifier: MIT
 * 95 % intervals by resampling patients with replacement. All metrics of one resample see the same draw. Draws are a pure
 * function of (seed, number of the resample). */
#ifndef TRAIN_REPORT_BOOTSTRAP_H
#define TRAIN_REPORT_BOOTSTRAP_H

#include "train/report/evaluation.h"

/* unit[i] of [0, *n_units): record i's patient; equal hashes are one patient. hashes NULL: each record is its own. */
enum ecg_status bootstrap_units(uint32_t *unit, size_t *n_units, const uint64_t *hashes, size_t n);

/* Absolute errors of a target's known records. */
struct bootstrap_errors {
    size_t n;
    uint32_t *unit; /* (n) */
    double *error;  /* (n) */
};

/* Calls of a group's known records. */
struct bootstrap_calls {
    size_t n, n_classes;
    enum agreement end; /* AGREEMENT_ORDERED or AGREEMENTS: the first of those not wanted */
    uint32_t *unit;     /* (n) */
    uint32_t *cell;     /* (n) true * n_classes + called */
};

struct bootstrap_input {
    size_t n_units;
    size_t n_columns;
    const struct ranking *rankings; /* (n_columns); n 0: a column without a rank, left out */
    size_t n_groups;
    const struct bootstrap_calls *calls; /* (n_groups) */
    size_t n_survivals;
    const struct concordance *orders; /* (n_survivals) */
    size_t n_targets;
    const struct bootstrap_errors *errors; /* (n_targets) */
    uint64_t seed;
    size_t resamples;
};

/* 1000 for up to 20 000 records, then fewer, at least 200. */
size_t bootstrap_resamples(size_t n);

/* Fills all intervals of e but main's. A resample in which a metric is undefined (one class only) does not count for it; the
 * means are taken over the columns that are defined. */
enum ecg_status bootstrap_run(const struct bootstrap_input *in, struct evaluation *e);

#endif
