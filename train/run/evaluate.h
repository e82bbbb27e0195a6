/* SPDX-License-Identifier: MIT
 * evaluate: a network's outputs against what a data set knows. */
#ifndef TRAIN_RUN_EVALUATE_H
#define TRAIN_RUN_EVALUATE_H

#include <stdbool.h>

#include "core/status.h"
#include "train/run/config.h"

struct trainer;

struct evaluate_options {
    const char *weights; /* weights file, checkpoint or run folder */
    const char *data;    /* a path, or {path: DIR, fold: 9} */
    const char *predictions; /* P.h5 of predict: outputs are read from there, the network is not run; NULL: run it */
    const char *labels; /* "A,B": only these outputs; NULL: all, and each must be a column of the data */
    const char *label_map; /* CSV of code,label (data/label_map.h): truth of an output = OR over the columns that it joins; NULL: by name */
    const char *out; /* folder for metrics.json and predictions.csv */
    const char *device, *precision; /* NULL: fp32 */
    int threads, batch;
    bool no_graphs; /* train.cuda_graph: false */
    bool silent;    /* no table */
};
/* Prints one table on stdout. */
enum ecg_status evaluate_run(const struct evaluate_options *o);

/* The end of a run with data.test: its best weights on that part, into RUN/test. */
enum ecg_status evaluate_test(const char *run, const struct selection_spec *spec,
                              const struct config *c, bool silent);
/* Bytes that it takes, the program aside, with every part at its largest; t may be planned. */
enum ecg_status evaluate_test_bytes(const struct trainer *t, size_t *bytes);

#endif
