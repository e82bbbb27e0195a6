/* SPDX-License-Identifier: MIT
 * The part of a plan that several ranks and GPUs decide. */
#ifndef TRAIN_RUN_PLAN_RANKS_H
#define TRAIN_RUN_PLAN_RANKS_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "train/run/gpu_model.h"
#include "train/run/plan.h"
#include "train/run/sheet.h"
#include "train/run/trainer.h"

/* Ranks, nodes and speeds that can be; *gpu is NULL without one. */
enum ecg_status plan_ranks_check(const struct plan_options *o, const struct gpu **gpu);
/* Before the set-up: t's network, threads and slices become those of one rank of them; nothing is opened. */
enum ecg_status plan_ranks_apply(const struct plan_options *o, const struct gpu *gpu,
                                 struct trainer *t, struct config *c);
/* Sections "gpu" and "time" of the model, for a trainer that is planned; libraries: kernels.conv is not custom. */
enum ecg_status plan_gpu_print(const struct plan_options *o, const struct gpu *gpu,
                               const struct trainer *t, bool libraries, bool has_data,
                               struct sheet *s);
/* Seconds that the sums of gradients take of a step of CPU ranks; they share the cores with the backward pass, so none of
 * it is taken to be hidden. */
double plan_cpu_sums(const struct plan_options *o, const struct trainer *t);

#endif
