/* SPDX-License-Identifier: MIT
 * train.ema: an exponential moving average of the weights, after each update
 *     average += (1 - d) (weights - average),  d = min(train.ema, (1 + u) / (10 + u)) at update u = 1, 2, ...
 * from the weights that the run starts with; the bound on d lets short runs forget those (as TensorFlow's
 * ExponentialMovingAverage with num_updates). Validation, thresholds, `best` and model.safetensors are the average's;
 * state.safetensors keeps the weights themselves. Batch norm's running statistics are the current ones in both. */
#ifndef TRAIN_RUN_EMA_H
#define TRAIN_RUN_EMA_H

#include <stddef.h>

#include "core/status.h"

struct trainer;

/* Bytes of the average, of what is trained (the rest is never used); 0: train.ema is off. t may be planned. All calls below do nothing then. */
size_t ema_bytes(const struct trainer *t);
enum ecg_status ema_create(struct trainer *t); /* t->average; after the optimiser */
/* The average becomes the network's weights as they are. */
enum ecg_status ema_start(struct trainer *t);
/* After an update (t->optim.step). */
enum ecg_status ema_update(struct trainer *t);
/* Average and weights change places: once before, once after the average is used. */
enum ecg_status ema_swap(struct trainer *t);

#endif
