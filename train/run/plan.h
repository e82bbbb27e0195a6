/* SPDX-License-Identifier: MIT
 * What a run will need, before it runs: parameters, work, steps, memory, disk and time: measured on this machine's cores, or
 * modelled for GPUs that need not be there. */
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
    bool no_time;      /* measure nothing */
    int ranks, nodes;  /* all ranks; nodes that share them evenly */
    const char *gpu;   /* of each rank, modelled (gpu_model.h); NULL: this machine's cores, measured */
    double disk;       /* GB/s that the files give a node (gpu) */
    double network;    /* GB/s of each rank's network port; 0: the GPU's in gpu_model.h, of a CPU rank PLAN_CPU_NETWORK */
};

#define PLAN_DISK        5.0  /* GB/s; a parallel file system's client */
#define PLAN_CPU_NETWORK 1.25 /* GB/s: 10 GbE */
#define PLAN_RECORDS     7.5e6 /* of an epoch where there is no data set to count: the published pretraining's ECGs */

/* Prints the plan on stdout. Everything is checked as the run itself checks it, but data.train may be missing: what only the
 * data tell is then left open. Nothing is written. */
enum ecg_status plan_run(const struct plan_options *o);

#endif
