/* SPDX-License-Identifier: MIT
 * What a run is before it takes memory: its data sets, leads and columns, and the network's shape. `plan` stops here, the
 * commands that train go on. */
#ifndef TRAIN_RUN_SETUP_H
#define TRAIN_RUN_SETUP_H

#include "core/status.h"
#include "data/leads.h"
#include "train/run/config.h"
#include "train/run/network.h"
#include "train/run/trainer.h"

#define SETUP_IMAGINED_BATCHES 4

/* Opens data.train, data.valid and data.test, checks them against each other, takes leads and columns into t->train and
 * t->valid, and writes what the data decided (leads, length) back into the config. */
enum ecg_status setup_pretrain(struct trainer *t, struct config *c, struct leads *leads);
/* The same with the shape of the weights g, for what head.labels or head.targets names. */
enum ecg_status setup_finetune(struct trainer *t, struct config *c, const struct network *g,
                               struct leads *leads);
/* Where no data set is there: sources as the config describes them, of SETUP_IMAGINED_BATCHES batches, that can be counted
 * but not read. g: the weights to be fine-tuned, or NULL. One output where the config names none. */
enum ecg_status setup_imagined(struct trainer *t, struct config *c, const struct network *g,
                               struct leads *leads);

/* model.in_leads, n = 0 when it is null. */
enum ecg_status setup_leads(const struct config *c, struct leads *leads);
/* Opens train.device, with what kernels.* asks of it. */
enum ecg_status setup_device(struct trainer *t, const struct config *c);
/* The network's shape, and how many records it takes at once. */
enum ecg_status setup_model(const struct trainer *t, const struct config *c, bool head_only,
                            struct net1d_config *model, int *micro_batch);
/* What the weights' file will say of them, into t->meta. */
enum ecg_status setup_outputs(struct trainer *t, const struct leads *leads);

#endif
