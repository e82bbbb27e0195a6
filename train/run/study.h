/* SPDX-License-Identifier: MIT
 * study: ways to fine-tune compared. Every combination of mode, fraction of the training patients, fold and seed is one
 * finetune run in OUT/MODE/fraction-F[/fold-I]/seed-S; the figure of each goes into one table. */
#ifndef TRAIN_RUN_STUDY_H
#define TRAIN_RUN_STUDY_H

#include <stdbool.h>

#include "core/status.h"

struct study_options {
    const char *config; /* YAML file */
    char *const *sets;  /* --set k=v, for all modes */
    int n_sets;
    const char *weights;    /* as finetune's */
    const char *out;        /* folder of the study */
    const char *modes;      /* "probe,full": built-in ones, or ones that mode_sets define */
    char *const *mode_sets; /* "probe:optim.lr=1e-2": for one mode, after its own */
    int n_mode_sets;
    const char *fractions; /* "0.01,0.1,1" */
    int seeds;             /* 1 .. seeds */
    int folds;             /* 0: none; else k-fold by patient over data.train */
    bool resume, keep_weights;
    bool json;           /* study.json on stdout, not the table */
    const char *command; /* the command line, for the runs' manifests */
};

/* Runs what is not done yet, writes OUT/study.csv and OUT/study.json and prints the table. A run that fails by itself
 * (diverged, data that do not serve) does not stop the others: ECG_ERR_FAIL at the end. What would stop every run (config,
 * weights not there, disk full) ends the study at once; so does a stop that was asked for: ECG_ERR_STOPPED. */
enum ecg_status study_run(const struct study_options *o);

/* The built-in modes and what they set, as text for --help; fresh. */
enum ecg_status study_modes_help(char **text);

#endif
