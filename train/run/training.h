/* SPDX-License-Identifier: MIT
 * The two commands that train. Both end in trainer_run; they differ in where the network comes from. */
#ifndef TRAIN_RUN_TRAINING_H
#define TRAIN_RUN_TRAINING_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

struct training_options {
    const char *config; /* YAML file */
    char *const *sets;  /* --set k=v */
    int n_sets;
    const char *weights; /* finetune: weights file, checkpoint or run folder */
    const char *out;     /* RUN */
    bool resume;
    int64_t until_epoch; /* stop, saved and with ECG_OK, after so many epochs of a longer run; 0: its end */
    bool silent; /* nothing on stdout */
    const char *command; /* the command line, for the manifest */
};

/* From scratch, or from init.weights with the same head. */
enum ecg_status pretrain_run(const struct training_options *o);
/* A new head on given weights: head.labels or head.targets; head.freeze: the head alone. */
enum ecg_status finetune_run(const struct training_options *o);

#endif
