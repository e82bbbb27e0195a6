/* SPDX-License-Identifier: MIT
 * bench: what this machine, or its GPU, reaches, held against what it can do at most. Four parts:
 *
 *     peaks    multiply-adds in fp32 and bf16, memory (kernels/cpu/peak.h; a GPU's: kernels/cuda/plugin.h): measured always,
 *              all else is a share of them
 *     ops      the convolutions of a network at their real shapes, three passes each, GFLOP/s; its other operations, GB/s
 *     train    whole training steps (forward, mean BCE, backward, Adam) and inference, records a second; % of the roofline =
 *              peak of the precision / FLOP of a record; memory; what all threads gain over one
 *              On a GPU the roofline is the lower one of that and of the bytes that a record's convolutions move at least.
 *     loader   records a second that workers read from a data set
 *
 * Input is made up (bench_private.h says how); every time is a median. A precision that the backend refuses is left out with
 * its reason. Text on stdout as it comes, or one JSON object at the end. */
#ifndef TRAIN_RUN_BENCH_H
#define TRAIN_RUN_BENCH_H

#include <stdbool.h>

#include "core/status.h"

struct bench_options {
    const char *device; /* "cpu" */
    int threads;        /* 0: all allowed cores */
    bool ops, train, loader; /* the parts; none: ops and train, and loader where `data` is given */
    bool kernels;            /* the part `train`, and the time of each kernel of a training step; device cuda only */
    const char *data;   /* loader's data set, or '{path: DIR, ...}'; NULL: simulated records in a temporary folder */
    /* One configuration of `train` instead of all, when any of these three is given; `ops` takes model and precision. */
    const char *model;     /* "published" or "ptbxl_superclass"; NULL: published */
    const char *precision; /* "fp32" or "bf16"; NULL: fp32 (ops: both) */
    bool batch_norm;
    int batch; /* 0: the model's own: 16 and 32; on device cuda 256 and 1024 */
    int runs;  /* steps timed, after one that warms up; 0: 5 */
    bool quick; /* few and short runs: figures are rough */
    bool json;
};

enum ecg_status bench_run(const struct bench_options *o);

#endif
