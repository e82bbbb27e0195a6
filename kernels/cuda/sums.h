/* SPDX-License-Identifier: MIT
 * Sums over the GPUs of several processes, by NCCL, which is opened by name when it is asked for. What is used of it is declared
 * here; vendor_check.cu holds the declarations against its header where that is installed. */
#ifndef KERNELS_CUDA_SUMS_H
#define KERNELS_CUDA_SUMS_H

#include "kernels/cuda/compat.h"

#include "kernels/cuda/plugin.h"

#define NCCL_FILE "libnccl.so.2"

/* Enums are int. */
enum {
    NCCL_OK = 0,
    NCCL_IN_PROGRESS = 7,
    NCCL_FLOAT = 7,
    NCCL_SUM = 0,
    NCCL_MAGIC = 0xcafebeef, /* of a config */
    NCCL_CONFIG_VERSION = 21400 /* the first with `blocking`; newer libraries take its shorter config */
};

struct nccl_id {
    char internal[CUDA_COMM_ID_BYTES];
};

/* The first members of ncclConfig_t; `size` says that there are no more. */
struct nccl_config {
    size_t size;
    unsigned magic, version;
    int blocking;
};

typedef int nccl_version_fn(int *version);
typedef int nccl_id_fn(struct nccl_id *id);
typedef int nccl_init_fn(void **comm, int size, struct nccl_id id, int rank, struct nccl_config *config);
typedef int nccl_comm_fn(void *comm); /* finalize, destroy, abort */
typedef int nccl_async_fn(void *comm, int *state);
typedef const char *nccl_text_fn(int result);
typedef const char *nccl_last_fn(void *comm);
typedef int nccl_sum_fn(const void *in, void *out, size_t n, int type, int op, void *comm, cudaStream_t stream);

#endif
