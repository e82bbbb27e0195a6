/* SPDX-License-Identifier: MIT
 * What the files of sweep share. */
#ifndef TRAIN_RUN_SWEEP_PRIVATE_H
#define TRAIN_RUN_SWEEP_PRIVATE_H

#include <stddef.h>
#include <stdint.h>

#include "train/run/config.h"
#include "train/run/sweep.h"

#define SWEEP_MAX_RUNGS 32

enum sweep_kind { SWEEP_LIST, SWEEP_LOG, SWEEP_UNIFORM, SWEEP_INT };

struct sweep_key {
    char *key; /* "optim.lr" */
    enum sweep_kind kind;
    char **items; /* SWEEP_LIST: YAML texts */
    size_t n_items;
    double from, to;
};

struct sweep_space {
    struct sweep_key *keys;
    int n;
    size_t cap;
};

/* What a trial came to at a rung: its best validation so far, which checkpoints/best is. */
struct sweep_result {
    bool there;
    char metric[32]; /* "macro_auroc" (more is better) or "loss" */
    double value;
    int64_t step, epoch; /* of that validation; epochs count from 0, as in metrics.jsonl */
    char *error;         /* of a trial that failed; else NULL */
};

struct sweep_trial {
    char *name;    /* "trial-0001": a folder below OUT */
    char **values; /* a YAML text a key */
    struct sweep_result at[SWEEP_MAX_RUNGS];
};

struct sweep_rung {
    int64_t until; /* epochs; 0: the end of the run */
    int n;
    int *trials; /* who gets so far, the best first but at rung 0, where they stand in order; NULL: not known yet */
};

struct sweep {
    const struct sweep_options *o;
    struct sweep_space space;
    struct sweep_trial *trials;
    int n_trials;
    struct sweep_rung rungs[SWEEP_MAX_RUNGS];
    int n_rungs;
    const char *array_task; /* of a Slurm job array, its number; NULL: none */
};

/* ---- sweep_space.c: what is searched ---- */

/* Every mistake (unknown key, a range that is none): ECG_ERR_CONFIG with file:line:column and the key. */
enum ecg_status sweep_space_read(struct sweep_space *s, const char *path);
void sweep_space_free(struct sweep_space *s);
/* The value of a key in trial `number`, a fresh YAML text: a function of seed, number and the key's name alone. */
enum ecg_status sweep_draw(const struct sweep_key *k, uint64_t seed, int number, char **value);

/* ---- sweep_plan.c: which runs ---- */

/* Space, trials and rungs; checks the config of every trial as far as it can be without data. */
enum ecg_status sweep_make(struct sweep *s, const struct sweep_options *o);
void sweep_free(struct sweep *s);
/* The assignments of a trial: the user's, then the trial's; fresh, ends with NULL. `best`: for best.yaml. */
enum ecg_status sweep_trial_sets(const struct sweep *s, const struct sweep_trial *t, bool best,
                                 char ***sets, int *n_sets);
void sweep_sets_free(char **sets);

/* ---- sweep_results.c: what they came to ---- */

/* The best validation in RUN/metrics.jsonl. */
enum ecg_status sweep_read_figure(const char *run, struct sweep_result *r);
/* OUT/TRIAL/rung-K.json: what a trial came to, for this and for other processes. A file that was made by another sweep is
 * ECG_ERR_CONFIG. */
enum ecg_status sweep_save_result(const struct sweep *s, const struct sweep_trial *t, int rung);
enum ecg_status sweep_load_result(const struct sweep *s, struct sweep_trial *t, int rung);
/* Trials of a rung whose results are all there, best first; *n of them did not fail. */
enum ecg_status sweep_rank(const struct sweep *s, int rung, int *order, int *n);
/* All trials for the table: those that got further first, then the better; failed ones and those not run at the end. */
enum ecg_status sweep_order(const struct sweep *s, int *order);
/* The last rung at which a trial has a result; -1: none. */
int sweep_reached(const struct sweep *s, const struct sweep_trial *t);
/* OUT/sweep.csv, sweep.json and, of a whole sweep, best.yaml; *json is sweep.json's text, fresh. */
enum ecg_status sweep_write(const struct sweep *s, bool whole, const int *order, char **json);
void sweep_print(const struct sweep *s, const int *order); /* the table, on stdout */

#endif
