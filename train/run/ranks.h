/* SPDX-License-Identifier: MIT
 * Several ranks that train one model: each takes a slice of every batch, the gradients of all are summed in buckets while
 * backward still runs, and all make the same update. What is written is written by rank 0. With one rank nothing here costs
 * anything. */
#ifndef TRAIN_RUN_RANKS_H
#define TRAIN_RUN_RANKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "train/comm/comm.h"
#include "train/comm/gpu.h"
#include "train/model/net1d.h"

#define RANKS_BUCKET ((size_t)1 << 20) /* floats: 4 MiB, large enough for a network's bandwidth */

struct trainer;
struct inferred;
struct config;

struct ranks {
    struct comm *comm;
    int rank, size;
    int local_size;       /* ranks on this node, as far as all nodes have equally many */
    struct comm_gpu *gpu; /* device cuda: NCCL sums in its memory */
    struct comm_request *requests; /* buckets of the step under way */
    int n_requests, max_requests;
    float *part;    /* optim.zero: this rank's parameters on their way to the others */
    size_t *part_bytes; /* (size) of all ranks' parts */
    size_t lowest, next; /* gradients [lowest, next) are not yet queued */
    uint64_t summed;     /* gradients, over all steps */
    struct net1d_share share; /* model.sync_batch_norm */
    bool agreed;         /* all ranks know why they end */
};

/* Meets the other ranks, as the launcher has started them (train.comm); ranks other than 0 keep quiet from here on. status: how the
 * reading of the config went; a failure there, on one rank, is the failure of all, too. */
enum ecg_status ranks_open(struct ranks *r, const struct config *c, enum ecg_status status);
/* For what is done by one process alone: fails where a launcher has started several. */
enum ecg_status ranks_alone(const char *command);
/* What the ranks have done each by itself: all come here with their status, and all fail where one has failed, with the status of
 * the lowest such rank. Rank 0 has its message, the others none, so that one message is printed. */
enum ecg_status ranks_agree(struct ranks *r, enum ecg_status status);
/* The end of all ranks, with what this one's status is; returns the status of all. Idempotent, zeroed is fine. */
enum ecg_status ranks_close(struct ranks *r, enum ecg_status status);

bool ranks_writes(const struct ranks *r); /* rank 0, or the only one */
/* Threads for this rank where the config leaves it open: its part of the cores that the ranks of a node share. */
int ranks_threads(const struct ranks *r, int threads);

/* Of the GPUs that CUDA_VISIBLE_DEVICES lists this process sees one alone, the given one modulo their number. Without a list
 * nothing changes. */
enum ecg_status ranks_take_visible_gpu(int number);

/* t's device and network are there. All ranks. */
enum ecg_status ranks_prepare(struct trainer *t);
/* Before the last micro-batch's backward pass; then ranks_gradients_done (a net1d_pass's `done`) as it goes down; then join. After
 * ranks_join the gradients are those of all ranks. */
void ranks_begin(struct trainer *t);
enum ecg_status ranks_gradients_done(void *trainer, size_t offset);
enum ecg_status ranks_join(struct trainer *t);

/* Batch norm by the statistics of all ranks' records, in the sums' fixed order; t->ranks.share is then what passes share by. */
enum ecg_status ranks_share_norm(struct trainer *t);

/* optim.zero: this rank's part of the flat parameters; n 0: all. */
enum ecg_status ranks_shard(const struct trainer *t, size_t *from, size_t *n);
/* After an update by parts: every rank gets all parameters. */
enum ecg_status ranks_gather_parameters(struct trainer *t);

/* x (n) = sum over the ranks, in their order. */
enum ecg_status ranks_sum(struct ranks *r, double *x, size_t n);
/* The rows of all ranks, in their order, of `width` bytes each: fresh *all (*n_all rows). rows: this rank's n. */
enum ecg_status ranks_gather(struct ranks *r, const void *rows, size_t n, size_t width, void **all,
                             size_t *n_all);
/* Every rank's part of the inferred records becomes the whole, in order. */
enum ecg_status ranks_gather_inferred(struct ranks *r, struct inferred *i);
/* Rank 0's bytes go to all. */
enum ecg_status ranks_share(struct ranks *r, void *data, size_t bytes);
/* The same in device memory. */
enum ecg_status ranks_broadcast(struct trainer *t, void *device, size_t bytes);

#endif
