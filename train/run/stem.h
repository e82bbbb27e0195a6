/* SPDX-License-Identifier: MIT
 * Weights for other leads than the run's (finetune.leads). */
#ifndef TRAIN_RUN_STEM_H
#define TRAIN_RUN_STEM_H

#include "core/status.h"
#include "train/run/config.h"
#include "train/run/network.h"

/* Where model.in_leads names other leads than the weights g have, mixes the columns of g's stem (F, leads, K), a column a
 * lead, for the run's leads, and says so in the log:
 *   select  each lead's own column; a lead that the weights lack is ECG_ERR_CONFIG
 *   sum     each lead's own column, if the weights have it, and its equal share of the columns of all leads that the run
 *           lacks: for a single lead the sum of all columns. All leads showing the same signal, the stem answers as before.
 *   strict  nothing is done; setup_finetune then refuses another number of leads
 * g is as network_read left it. */
enum ecg_status stem_adapt(struct network *g, const struct config *c);

#endif
