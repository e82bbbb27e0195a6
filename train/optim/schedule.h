/* SPDX-License-Identifier: MIT
 * Learning rate schedules as a pure function of the step, equal to torch.optim.lr_scheduler's. All give a factor that
 * multiplies every base rate (head's and backbone's alike), so the last epoch, a resume in the middle, or a
 * plot need no history. Only `plateau` remembers something: struct schedule_state, which a checkpoint keeps. */
#ifndef TRAIN_OPTIM_SCHEDULE_H
#define TRAIN_OPTIM_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

/* In the order of SCHEDULE_CHOICES, for the option table. */
enum schedule_kind {
    SCHEDULE_CONSTANT,
    SCHEDULE_STEP,
    SCHEDULE_COSINE,
    SCHEDULE_ONECYCLE,
    SCHEDULE_PLATEAU
};
#define SCHEDULE_CHOICES "constant step cosine onecycle plateau"

struct schedule {
    enum schedule_kind kind;
    int64_t total_steps;     /* cosine, onecycle: optimiser steps of the whole run */
    int64_t steps_per_epoch; /* step */
    double lr;               /* optim.lr, the largest rate: what min_lr is a part of */
    double beta1; /* optim.beta1 (SGD: momentum); what schedule_at hands back unless onecycle cycles it */

    double gamma;  /* step, plateau: the rate's factor at each drop; 0.1 */
    int64_t every; /* step: epochs between drops (StepLR) */
    double warmup; /* part of total_steps that rises; < 0 = the schedule's own: cosine 0, onecycle 0.3 (pct_start) */
    double min_lr; /* cosine: the rate at the end (eta_min); plateau: the lowest */
    int64_t patience; /* plateau: validations without improvement that are borne; the next one drops */
    bool maximize; /* plateau: the metric is better when larger (mode="max") */
};

/* What plateau remembers; all zero is no valid start, use schedule_start. */
struct schedule_state {
    double factor; /* 1 at the start, x gamma at each drop */
    double best;   /* best metric so far; 0 while !has_best */
    bool has_best;
    int64_t n_bad; /* validations since the best or the last drop */
};

struct schedule_point {
    double factor; /* rate = base rate x factor */
    double beta1;  /* Adam's beta1, SGD's momentum */
};

/* ECG_ERR_CONFIG names the key whose value can't be. */
enum ecg_status schedule_check(const struct schedule *s);

void schedule_start(struct schedule_state *state);

/* The numbers of update `step` (0-based). Past total_steps the last point holds.
 *   constant  1
 *   step      gamma^(epoch / every)                                            StepLR by epochs
 *   cosine    (step+1)/(W+1) for the first W = round(warmup*total_steps) steps, then
 *             min + (1-min)/2 (1 + cos(pi (step-W)/(total-W)))                 LinearLR, then CosineAnnealingLR
 *   onecycle  max_lr = lr, div_factor 25, final_div_factor 1e4, cosine; momentum 0.95 -> 0.85 -> 0.95   OneCycleLR
 *   plateau   state->factor                                                    ReduceLROnPlateau, threshold 1e-4 rel
 */
struct schedule_point schedule_at(const struct schedule *s, const struct schedule_state *state,
                                  int64_t step);

/* Tells plateau the metric of a validation (NaN counts as no improvement); the others ignore it. */
void schedule_observe(const struct schedule *s, struct schedule_state *state, double metric);

#endif
