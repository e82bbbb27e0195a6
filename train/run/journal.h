/* SPDX-License-Identifier: MIT
 * RUN/metrics.jsonl: one line a step and a validation, in the order they happened. */
#ifndef TRAIN_RUN_JOURNAL_H
#define TRAIN_RUN_JOURNAL_H

#include <stdint.h>
#include <stdio.h>

#include "core/status.h"

struct journal {
    char *path;
    FILE *stream;
};

/* Opens for appending; keeps only the whole lines whose step is <= keep_step (a new run: -1). */
enum ecg_status journal_open(struct journal *j, const char *run, int64_t keep_step);
void journal_close(struct journal *j); /* idempotent, zeroed is fine */

struct journal_train {
    int64_t step, epoch;
    double loss; /* before the update; NaN (no known entry) is written as null */
    double lr, grad_norm, ecg_per_s;
};
struct journal_valid {
    int64_t step, epoch;
    double loss, macro_auroc; /* NaN: null */
};
/* Each line is flushed: a run that is killed loses none that it had written. ECG_ERR_IO when the disk is full. */
enum ecg_status journal_put_train(struct journal *j, const struct journal_train *t);
enum ecg_status journal_put_valid(struct journal *j, const struct journal_valid *v);

/* All validations of RUN/metrics.jsonl in their order, fresh. */
enum ecg_status journal_read_valid(const char *run, struct journal_valid **v, size_t *n);

#endif
