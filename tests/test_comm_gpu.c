/* SPDX-License-Identifier: MIT
 * Sums over several processes' GPUs, emulated, with NCCL's stand-in (tests/emu/nccl.cc): equal to the serial sum bit for bit, in
 * order with what comes before the start and after the join, whatever order the streams' work is done in; a rank that is killed does
 * not leave the others waiting for their GPUs. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "tests/support/check.h"
#include "tests/support/cuda.h"
#include "tests/support/ranks.h"
#include "train/comm/gpu.h"

enum { N_BUCKETS = 4, N_STEPS = 6, MOST = 16384 + 5 };
static const size_t sizes[N_BUCKETS] = {1, 3, 5000, MOST};

static float value(int rank, int step, size_t i) {
    const uint32_t x = (uint32_t)i * 2654435761u + (uint32_t)rank * 40503u + (uint32_t)step * 97u;
    return ldexpf((float)(x % 10007) - 5000, (int)(i % 40) - 20);
}

struct rank {
    const struct ops *ops;
    int victim;
    struct ops_dev *dev;
    struct comm *comm;
    struct comm_gpu *gpu;
    float *u[N_BUCKETS], *x[N_BUCKETS]; /* on the device */
};

/* What the device makes of a rank's values: host (n) = swish of them. */
static enum ecg_status made_by(const struct rank *r, int rank, int step, int b, float *host) {
    for (size_t i = 0; i < sizes[b]; i++) host[i] = value(rank, step, i);
    TRY(r->ops->upload(r->dev, r->u[b], host, sizes[b] * sizeof(float)));
    TRY(r->ops->swish_fwd(r->dev, sizes[b], r->u[b], r->x[b]));
    TRY(r->ops->download(r->dev, host, r->x[b], sizes[b] * sizeof(float)));
    return r->ops->sync(r->dev);
}

/* sum (n): of all ranks, in their order. */
static enum ecg_status serial_sum(const struct rank *r, int step, int b, float *sum) {
    static float other[MOST];
    TRY(made_by(r, 0, step, b, sum));
    for (int k = 1; k < comm_size(r->comm); k++) {
        TRY(made_by(r, k, step, b, other));
        for (size_t i = 0; i < sizes[b]; i++) sum[i] += other[i];
    }
    return ECG_OK;
}

/* Each bucket is made by a kernel and its sum started at once, as a backward pass hands buckets over; then a kernel uses each (by a
 * factor that is exact). Before the kernel a bucket holds other values, so that a sum too early shows. */
static enum ecg_status one_step(const struct rank *r, int step) {
    static float host[MOST], wanted[N_BUCKETS][MOST];
    const int rank = comm_rank(r->comm);
    for (int b = 0; b < N_BUCKETS; b++) {
        TRY(serial_sum(r, step, b, wanted[b]));
        TRY(made_by(r, rank, step + 1000, b, host));
        for (size_t i = 0; i < sizes[b]; i++) host[i] = value(rank, step, i);
        TRY(r->ops->upload(r->dev, r->u[b], host, sizes[b] * sizeof(float)));
    }
    for (int b = 0; b < N_BUCKETS; b++) {
        TRY(r->ops->swish_fwd(r->dev, sizes[b], r->u[b], r->x[b]));
        TRY(comm_gpu_sum_start(r->gpu, r->x[b], sizes[b]));
    }
    TRY(comm_gpu_join(r->gpu));
    for (int b = 0; b < N_BUCKETS; b++) TRY(r->ops->scale(r->dev, sizes[b], 4, r->x[b]));
    for (int b = 0; b < N_BUCKETS; b++) {
        TRY(r->ops->download(r->dev, host, r->x[b], sizes[b] * sizeof(float)));
        TRY(r->ops->sync(r->dev));
        TRY(comm_gpu_check(r->gpu));
        for (size_t i = 0; i < sizes[b]; i++)
            if (!(host[i] == 4 * wanted[b][i]))
                return ecg_fail(ECG_ERR_DATA, "step %d, bucket %d differs at %zu", step, b, i);
    }
    return ECG_OK;
}

static enum ecg_status work(struct rank *r) {
    const struct cuda_comm *nccl;
    struct comm_options options;
    TRY(comm_options_init(&options));
    TRY(comm_open(&r->comm, &options));
    TRY(ops_cuda_comm(&nccl));
    TRY(nccl->choose(comm_local_rank(r->comm)));
    TRY(r->ops->open(&r->dev, 0));
    TRY(comm_gpu_open(&r->gpu, r->comm, nccl, r->dev));
    for (int b = 0; b < N_BUCKETS; b++) {
        TRY(r->ops->alloc(r->dev, (void **)&r->u[b], sizes[b] * sizeof(float)));
        TRY(r->ops->alloc(r->dev, (void **)&r->x[b], sizes[b] * sizeof(float)));
    }
    for (int step = 0; step < N_STEPS || r->victim >= 0; step++) {
        if (step == 2 && comm_rank(r->comm) == r->victim) raise(SIGKILL);
        TRY(one_step(r, step));
    }
    return ECG_OK;
}

static int one_rank(void *context) {
    struct rank *r = context;
    enum ecg_status status = work(r);
    comm_gpu_close(r->gpu, status);
    r->ops->close(r->dev);
    status = comm_close(r->comm, status);
    if (status != ECG_OK) log_error("%s", ecg_message());
    return ecg_exit_code(status);
}

static void sums_over_processes(void) {
    static const char *const orders[] = {"forward", "reverse", "random:1", "random:2"};
    struct rank r = {.ops = cuda_emulated(), .victim = -1};
    if (r.ops == NULL) return;
    for (int o = 0; o < 4; o++)
        for (int size = 1; size <= 4; size *= 2) {
            struct ranks_group g;
            setenv("EMU_ORDER", orders[o], 1);
            ranks_start(&g, size, "sums", one_rank, &r);
            ranks_wait(&g, -1, 60);
            for (int i = 0; i < size; i++)
                if (!CHECK(g.codes[i] == 0)) ranks_said(&g, i, "no word");
        }
    unsetenv("EMU_ORDER");
}

static void a_killed_rank(void) {
    struct rank r = {.ops = cuda_emulated(), .victim = 1};
    struct ranks_group g;
    if (r.ops == NULL) return;
    ranks_start(&g, 3, "killed", one_rank, &r);
    ranks_wait(&g, -1, 40);
    CHECK(g.codes[0] == 1 && g.codes[1] == 128 + SIGKILL && g.codes[2] == 1);
    CHECK(g.ended[0] < 20 && g.ended[2] < 20);
    check_note("after %.1f and %.1f s", g.ended[0], g.ended[2]);
}

int main(void) {
    CASE(sums_over_processes);
    CASE(a_killed_rank);
    return check_finish();
}
