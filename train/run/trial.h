/* SPDX-License-Identifier: MIT
 * A few training steps of a planned run on invented records, by the clock. */
#ifndef TRAIN_RUN_TRIAL_H
#define TRAIN_RUN_TRIAL_H

#include "core/status.h"
#include "train/run/trainer.h"

struct trial {
    int batch;      /* records of the steps that were measured */
    double forward; /* seconds a record, the input op included */
    double step;    /* seconds a record: forward, loss, backward */
    double update;  /* seconds an optimiser step */
};

/* t was planned (trainer_plan) and stays as it is: the network, its optimiser and their memory are made for the trial and
 * given back. Medians of three, after a first step that warms up. */
enum ecg_status trial_run(const struct trainer *t, int batch, struct trial *r);

#endif
