/* SPDX-License-Identifier: MIT
 * What the files of study share. */
#ifndef TRAIN_RUN_STUDY_PRIVATE_H
#define TRAIN_RUN_STUDY_PRIVATE_H

#include <stddef.h>
#include <stdint.h>

#include "data/loader.h"
#include "train/run/config.h"
#include "train/run/study.h"

/* Assignments "key=value" of --set. */
struct study_sets {
    char **v;
    int n;
    size_t cap;
};

struct study_mode {
    char *name;
    struct study_sets sets; /* its own, then those of --mode-set */
};

/* What a run came to. */
struct study_figure {
    char metric[96]; /* "macro_auroc", "mae" */
    double value;
    int64_t records; /* of the training part */
};

struct study_cell {
    int mode, fraction, fold, seed; /* indices; the seed is the number itself */
    char *run;                      /* below OUT */
    bool done;
    struct study_figure figure; /* of a run that is done */
    char *error;                /* of a run that failed; else NULL */
};

struct study {
    const struct study_options *o;
    struct study_mode *modes;
    int n_modes;
    double *fractions;
    int n_fractions;
    struct selection_spec train; /* data.train, cut into folds; zeroed without folds */
    bool has_test;               /* the figure is on data.test or a fold, else on data.valid */
    struct study_cell *cells;    /* seeds outermost, then folds, fractions, modes: what can't be run shows in the first round */
    int n_cells;
};

/* ---- study_cells.c: which runs ---- */

/* Modes, fractions and cells from the options; checks the config of every cell as far as it can be without data. */
enum ecg_status study_make(struct study *s, const struct study_options *o);
void study_free(struct study *s);
/* All assignments of a cell, in the order in which they override each other. */
enum ecg_status study_cell_sets(const struct study *s, const struct study_cell *cell,
                                struct study_sets *sets);
void study_sets_free(struct study_sets *sets);

/* ---- study_results.c: what they came to ---- */

/* Reads the figure of a run that has ended well from its own files. */
enum ecg_status study_read_figure(const char *run, bool has_test, struct study_figure *figure);
/* The metric of the runs that are done; "" before the first. */
const char *study_metric(const struct study *s);
/* OUT/study.csv and OUT/study.json; *json is the latter's text, fresh. */
enum ecg_status study_write(const struct study *s, char **json);
void study_print(const struct study *s); /* the table, on stdout */

#endif
