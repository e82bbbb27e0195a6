/* SPDX-License-Identifier: MIT
 * One batch of a training run: from the loader's arrays to its gradients. */
#ifndef TRAIN_RUN_STEP_H
#define TRAIN_RUN_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "data/loader.h"

struct trainer;

/* finetune.unfreeze_epochs, where it counts. */
bool step_unfreezes(const struct trainer *t);
/* Whether batch norm stays as it is though the rest is trained. */
bool step_freezes_norm(const struct trainer *t);
/* The loss is the device's own op; else the logits come to the host and their gradients go back. */
bool step_loss_on_device(const struct trainer *t);

/* Memory for logits on the host. A loss that can't be taken as the config wants it: ECG_ERR_CONFIG. */
enum ecg_status step_prepare(struct trainer *t);
/* Freezes what is not trained in this epoch, in the network and in the optimiser. */
void step_open_layers(struct trainer *t, uint32_t epoch);
/* Records of the micro-batch that begins at `first`. */
int step_micro_batch(const struct trainer *t, const struct batch *b, int first);
/* Forward and backward of a whole batch, whose first micro-batch is uploaded; known[heads] are its known entries, *any whether
 * there are some. The loss comes to t->loss_sum with the next sync. */
enum ecg_status step_batch(struct trainer *t, const struct batch *b, double *known, bool *any);

#endif
