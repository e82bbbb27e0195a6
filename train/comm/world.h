/* SPDX-License-Identifier: MIT
 * Which rank of how many this process is, from what its launcher left in the environment. Nothing is connected here. */
#ifndef TRAIN_COMM_WORLD_H
#define TRAIN_COMM_WORLD_H

#include <stdbool.h>

#include "core/status.h"

struct comm_world {
    int rank, size;
    int local_rank;     /* among this node's ranks; -1: the launcher does not say, comm_open counts */
    const char *source; /* "mpirun", "srun", "torchrun", "PMI"; "" one process that nobody launched as one of several */
    char host[256];     /* where rank 0 is; "" unknown */
    int port;           /* where rank 0 listens for the others (backend tcp) */
    char token[512];    /* what the ranks of one job share and others lack */
};

/* In this order; the first that is there decides:
 *   mpirun    OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK
 *   torchrun  under TORCHELASTIC_RUN_ID only (srun starts one torchrun a node, torchrun the ranks)
 *   srun      SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID; rank 0 is on the first host of SLURM_STEP_NODELIST
 *   torchrun  RANK, WORLD_SIZE, LOCAL_RANK, also set by hand
 *   PMI       PMI_RANK, PMI_SIZE
 * MASTER_ADDR and MASTER_PORT, where set, say where rank 0 listens whoever launched; else the port follows from the job's
 * number (20000 to 31999). EINTHOVEN_COMM_TOKEN is the token, where set; else it is made of the user and the job's number, which
 * keeps jobs apart but is no secret.
 * ECG_ERR_FAIL, with what to do, for a launch that can't be right: srun's, torchrun's or PMI's numbers contradict each other, a rank
 * that is not below its size, one number without the other, a value that is no number, a rank > 0 that nobody gives a
 * size. A Slurm job of several tasks whose program was not started by srun is one process and a warning. */
enum ecg_status world_find(struct comm_world *world);

/* Fails when `size`, as MPI itself says, is not the launcher's: an MPI library that does not understand the launcher
 * makes every process rank 0 of 1. */
enum ecg_status world_check_mpi(const struct comm_world *world, int rank, int size);

#endif
