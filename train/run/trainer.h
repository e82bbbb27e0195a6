/* SPDX-License-Identifier: MIT
 * One training run: the state that pretrain and finetune set up and trainer_run drives to its end. */
#ifndef TRAIN_RUN_TRAINER_H
#define TRAIN_RUN_TRAINER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "train/model/net1d.h"
#include "train/model/weights.h"
#include "train/objective/total.h"
#include "train/optim/optim.h"
#include "train/optim/schedule.h"
#include "train/run/config.h"
#include "train/run/feed.h"
#include "train/run/journal.h"
#include "train/run/ranks.h"
#include "train/run/saver.h"
#include "train/run/source.h"
#include "train/run/stop.h"

/* Where the run stands: all that a resume needs beside weights and moments. */
struct trainer_position {
    int64_t step;   /* optimiser steps done */
    uint32_t epoch; /* of the next batch */
    size_t batch;   /* number of the next batch in its epoch */
    bool has_best;
    double best; /* of the metric that `best` follows */
    int64_t best_step;
    int64_t stale; /* validations without progress */
    struct schedule_state schedule;
    bool finished;
};

/* Host memory for logits on their way to the loss, and their gradients back. */
struct exchange {
    float *logits, *dlogits; /* (max_batch, n_outputs) */
    float *all;              /* (batch, n_outputs): a joint loss' logits of all micro-batches; NULL: of one */
};

struct trainer {
    const struct config *config;
    const char *run; /* RUN, exists */
    bool is_finetune; /* finetune.* counts */
    const struct ops *ops;
    struct ops_dev *dev;
    struct source train, valid;
    bool has_valid;
    struct augment augment; /* of the training part, where `augments` */
    bool augments;
    double *weight; /* (train.n) of data.balance, else NULL */
    size_t n_test; /* records of data.test, which is read after the training; 0: none */
    struct net1d net;
    struct weights_meta meta; /* what goes with the weights into a checkpoint */
    struct heads heads;
    struct total total; /* of these heads */
    float *column_scale; /* (n_outputs) a target's sd in the training part, in ops memory; NULL: 1 */
    struct exchange exchange; /* where the device leaves the loss to the host */
    struct ranks ranks;
    enum stop_wish wish; /* of all ranks, as they have agreed in the last step */
    int64_t until_epoch; /* the run pauses, saved, when so many epochs are done; 0: never */
    struct optim optim;
    double layer_factors[NET1D_MAX_STAGES + 1]; /* optim.stage_factors */
    float *average;  /* (net.n_params) see train/run/ema.h, in ops memory; NULL: none */
    bool is_preview; /* trainer_preview is running */
    struct schedule schedule;
    int64_t steps_per_epoch, total_steps;
    struct trainer_position at;
    struct trainer_position saving, saved; /* of the saver's snapshot; of the newest checkpoint on the disk */
    struct saver saver;
    float *gathered[2]; /* optim.zero: all ranks' moments while a snapshot is taken; else NULL */
    struct feed feed; /* of trainer_run */
    double loss_sum[HEADS_MAX]; /* of the step under way */
    struct journal journal;
};

/* Everything but run, config, sources, heads, total, net, meta and column_scale is made here: optimiser, schedule, feed. */
enum ecg_status trainer_prepare(struct trainer *t);
/* The same for a planned network (net1d_plan): without moments. */
enum ecg_status trainer_plan(struct trainer *t);
/* What the training part is read with, from t->at on. */
struct loader_options trainer_loader(const struct trainer *t);
/* finetune.probe_epochs of the head alone, at finetune.probe_lr, before a run's first step (LP-FT: Kumar et al.,
 * arXiv 2202.10054): the backbone in evaluation mode, on embeddings where they can be kept. A part of the set-up: nothing
 * is written, t->at and the optimiser are as before. */
enum ecg_status trainer_preview(struct trainer *t);
/* Trains from t->at to the end or to until_epoch (or until train/run/stop.h says to stop: saves, ECG_ERR_STOPPED). */
enum ecg_status trainer_run(struct trainer *t);
/* The run is at until_epoch, or was resumed past it. */
bool trainer_is_paused(const struct trainer *t);
void trainer_free(struct trainer *t); /* idempotent, zeroed is fine */

/* Rank 0's running statistics of batch norm to all ranks. */
enum ecg_status trainer_share_statistics(struct trainer *t);

/* Every head predicts labels or classes: `best` and plateau follow the macro AUROC. */
bool trainer_by_auroc(const struct trainer *t);

/* Sets t->meta.thresholds to NaN: none. */
void trainer_forget_thresholds(struct trainer *t);

/* state.c: RUN/checkpoints. Memory for snapshots; after the optimiser and ema_create. */
enum ecg_status trainer_prepare_saving(struct trainer *t);
/* How much that is, of model.safetensors and of state.safetensors; t may be planned. */
bool trainer_saves_midway(const struct trainer *t);
enum ecg_status trainer_snapshot_bytes(const struct trainer *t, uint64_t *model, uint64_t *state);
/* Takes a snapshot and writes it in the background, once the save before, if any, is done. That a save failed (a full disk)
 * is said in a warning, and the training goes on with the checkpoint before as `last`. */
enum ecg_status trainer_save(struct trainer *t, bool is_best);
/* Notes the end of a save in the background; `wait`: and waits for it. */
void trainer_saved(struct trainer *t, bool wait);
/* Waits for the run's last save, whose failure is an error: ECG_ERR_IO. */
enum ecg_status trainer_save_end(struct trainer *t);
/* What a save does last: removes the checkpoints beyond train.keep that no link points at, and what a killed run left. */
enum ecg_status trainer_prune(const struct trainer *t);
/* How many bytes state.safetensors has; t may be planned. */
enum ecg_status trainer_state_size(const struct trainer *t, uint64_t *bytes);
/* Loads checkpoints/last when there is one; *found tells. A damaged one is passed over for the newest before it that is whole,
 * with a warning; ECG_ERR_DATA when none is. */
enum ecg_status trainer_load_last(struct trainer *t, bool *found);

#endif
