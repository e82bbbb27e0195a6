/* SPDX-License-Identifier: MIT
 * Sums of gradients in the memory of GPUs, one GPU a rank, by NCCL; its id is exchanged over the communicator (tcp or mpi), which
 * also watches: when a rank fails, NCCL is aborted, so that whoever waits for the GPU goes on and learns why by comm_gpu_check. With
 * one rank nothing is opened and nothing done. Calls come from the device's thread. */
#ifndef TRAIN_COMM_GPU_H
#define TRAIN_COMM_GPU_H

#include "kernels/find.h"
#include "train/comm/comm.h"

struct comm_gpu;

/* All ranks; `nccl` is ops_cuda_comm's, whose choose(comm_local_rank(c)) came before dev was opened. */
enum ecg_status comm_gpu_open(struct comm_gpu **out, struct comm *c, const struct cuda_comm *nccl, struct ops_dev *dev);
/* Before comm_close, with what it will be given. NULL is fine. */
void comm_gpu_close(struct comm_gpu *g, enum ecg_status status);

/* x (n), device memory, = sum over the ranks: after what dev has been given so far, beside what comes next. Nobody waits. x is untouched
 * until comm_gpu_join, from which on dev's work comes after all sums. */
enum ecg_status comm_gpu_sum_start(struct comm_gpu *g, float *x, size_t n);
enum ecg_status comm_gpu_join(struct comm_gpu *g);
/* After the host has waited for dev (the step's loss): whether the sums are right. On a failure what was read is not to be used. */
enum ecg_status comm_gpu_check(struct comm_gpu *g);

#endif
