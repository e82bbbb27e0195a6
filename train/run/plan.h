/* SPDX-License-Identifier: MIT
 * What a run will need, before it runs: parameters, work, steps, memory, disk and time. */
#ifndef TRAIN_RUN_PLAN_H
#define TRAIN_RUN_PLAN_H

#include <stdbool.h>

#include "core/status.h"

struct plan_options {
    const char *config; /* YAML file */
    char *const *sets;  /* --set k=v */
    int n_sets;
    const char *weights; /* as finetune --weights would start from; NULL: as pretrain */
    bool json;
    bool no_time; /* measure nothing */
};

/* Prints the plan on stdout. Everything is checked as the run itself checks it, but data.train may be missing: what only the
 * data tell is then left open. Nothing is written. */
enum ecg_status plan_run(const struct plan_options *o);

#endif
