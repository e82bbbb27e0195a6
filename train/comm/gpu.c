/* SPDX-License-Identifier: MIT
 * NCCL beside the communicator. */
#include "train/comm/gpu.h"

#include <stdlib.h>

#include "core/mem.h"

struct comm_gpu {
    struct comm *comm;
    const struct cuda_comm *nccl;
    struct cuda_sums *sums; /* NULL: one rank */
};

static void abort_nccl(void *context) {
    struct comm_gpu *g = context;
    g->nccl->abort(g->sums);
}

enum ecg_status comm_gpu_open(struct comm_gpu **out, struct comm *c, const struct cuda_comm *nccl,
                              struct ops_dev *dev) {
    struct comm_gpu *g;
    char id[CUDA_COMM_ID_BYTES] = "";
    enum ecg_status status = ECG_OK;
    *out = NULL;
    TRY(MEM_NEW(&g, 1));
    *g = (struct comm_gpu){.comm = c, .nccl = nccl};
    if (comm_size(c) > 1) {
        if (comm_rank(c) == 0) TRY_OUT(nccl->id(id));
        TRY_OUT(comm_broadcast(c, id, sizeof(id), 0));
        TRY_OUT(nccl->open(&g->sums, dev, id, comm_rank(c), comm_size(c), comm_start_seconds(c)));
        comm_on_failure(c, abort_nccl, g);
    }
out:
    if (status == ECG_OK)
        *out = g;
    else
        free(g);
    return status;
}

void comm_gpu_close(struct comm_gpu *g, enum ecg_status status) {
    if (g == NULL) return;
    if (g->sums != NULL) comm_on_failure(g->comm, NULL, NULL);
    g->nccl->close(g->sums, status != ECG_OK);
    free(g);
}

enum ecg_status comm_gpu_sum_start(struct comm_gpu *g, float *x, size_t n) {
    if (g->sums == NULL) return ECG_OK;
    const enum ecg_status status = g->nccl->start(g->sums, x, n);
    return status == ECG_OK ? ECG_OK : comm_check(g->comm) != ECG_OK ? ECG_ERR_FAIL : status;
}

enum ecg_status comm_gpu_join(struct comm_gpu *g) {
    return g->sums == NULL ? ECG_OK : g->nccl->join(g->sums);
}

enum ecg_status comm_gpu_check(struct comm_gpu *g) {
    if (g->sums == NULL) return ECG_OK;
    TRY(comm_check(g->comm));
    return g->nccl->check(g->sums);
}
