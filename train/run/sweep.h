/* SPDX-License-Identifier: MIT
 * sweep: a search for hyper-parameters. Trial i is CONFIG with values that a function of (seed, i) draws from a space, one
 * pretrain or finetune run in OUT/trial-000i; trials are compared by data.valid, never by data.test. With halving all trials
 * train for a few epochs and the best 1 / eta of them go on, from their checkpoints, to the next rung (Karnin et al., ICML
 * 2013; Jamieson & Talwalkar, AISTATS 2016). A trial is a run of full length throughout, only paused at a rung: its learning
 * rate follows the schedule of the whole run, and a trial that gets to the end has the same weights as without halving. */
#ifndef TRAIN_RUN_SWEEP_H
#define TRAIN_RUN_SWEEP_H

#include <stdbool.h>

#include "core/status.h"

struct sweep_options {
    const char *config; /* YAML file */
    char *const *sets;  /* --set k=v, for all trials */
    int n_sets;
    const char *space;   /* YAML file: key: [values], {log | uniform | int: [from, to]} */
    const char *weights; /* finetune --weights; NULL: pretrain */
    const char *out;     /* folder of the sweep */
    int trials;
    unsigned long long seed;
    bool halving;
    int eta;
    int jobs; /* processes at once */
    bool resume, keep_weights;
    bool json;           /* sweep.json on stdout, not the table */
    const char *command; /* the command line, for the runs' manifests */
};

/* Runs what is not done yet, writes OUT/sweep.csv, OUT/sweep.json and OUT/best.yaml and prints the table. Inside a Slurm job
 * array the tasks share the trials out among them by files in OUT. A trial that fails by itself (diverged, killed) is named and
 * ranks last; ECG_ERR_FAIL when all did. A stop that was asked for: ECG_ERR_STOPPED. */
enum ecg_status sweep_run(const struct sweep_options *o);

#endif
