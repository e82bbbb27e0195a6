/* SPDX-License-Identifier: MIT
 * RUN/metrics.jsonl: one line a step and a validation, in the order they happened. */
#ifndef TRAIN_RUN_JOURNAL_H
#define TRAIN_RUN_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#define JOURNAL_FIGURES_MAX 64

struct journal {
    char *path;
    int fd; /* open while path is not NULL */
    char *waiting; /* what the disk has not taken yet */
    size_t n_waiting, cap;
    bool is_behind; /* that was said */
};

/* Opens for appending; keeps only the whole lines whose step is <= keep_step (a new run: -1). */
enum ecg_status journal_open(struct journal *j, const char *run, int64_t keep_step);
void journal_close(struct journal *j); /* idempotent, zeroed is fine */

/* One figure of several heads, by their names, or by their targets'; none: left out of the line. */
struct journal_figures {
    int n;
    const char *name[JOURNAL_FIGURES_MAX];
    double value[JOURNAL_FIGURES_MAX]; /* NaN: null */
};

struct journal_train {
    int64_t step, epoch;
    double loss; /* before the update; NaN (no known entry) is written as null */
    double lr, grad_norm, ecg_per_s;
    struct journal_figures losses; /* of each head, where there are several */
};
struct journal_valid {
    int64_t step, epoch;
    double loss, macro_auroc; /* NaN: null */
    struct journal_figures losses, accuracy, c_index, mae;
};
/* Each line is written at once: a run that is killed loses none. Where the disk is full, lines wait in memory, a warning says
 * so, and each next line tries again. */
enum ecg_status journal_put_train(struct journal *j, const struct journal_train *t);
enum ecg_status journal_put_valid(struct journal *j, const struct journal_valid *v);
/* Writes what waits; ECG_ERR_IO when the disk does not take it. */
enum ecg_status journal_flush(struct journal *j);

/* All validations of RUN/metrics.jsonl in their order, fresh. */
enum ecg_status journal_read_valid(const char *run, struct journal_valid **v, size_t *n);

#endif
