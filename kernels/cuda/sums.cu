/* SPDX-License-Identifier: MIT
 * NCCL's all-reduce on a stream of its own: it waits for what the device's stream had been given when a sum was started,
 * and the device's stream waits for it at the join, so that what lies between is computed meanwhile.
 * The communicator is non-blocking: a call that would wait for other ranks returns "in progress" and is asked again until
 * its time is over, so that a rank that never comes is an error here and no hang. */
#include "kernels/cuda/sums.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/cuda/cuda.cuh"

#define CALL_SECONDS 60.0 /* that one call may be in progress after the communicator is up */

struct nccl {
    void *library;
    nccl_id_fn *id;
    nccl_init_fn *init;
    nccl_comm_fn *finalize, *destroy, *abort;
    nccl_async_fn *async;
    nccl_text_fn *text;
    nccl_last_fn *last;
    nccl_sum_fn *sum;
};

struct cuda_sums {
    struct nccl nccl;
    struct ops_dev *dev;
    cudaStream_t stream;
    cudaEvent_t ready, done;
    pthread_mutex_t lock; /* of comm: abort comes from another thread */
    void *comm;           /* gone once stop is set */
    int started;          /* since the last join */
    int stop;             /* atomic: aborted, or about to be */
};

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static enum ecg_status open_nccl(struct nccl *n) {
    const struct {
        const char *name;
        void *to;
    } symbols[] = {
        {"ncclGetUniqueId", &n->id},        {"ncclCommInitRankConfig", &n->init},
        {"ncclCommFinalize", &n->finalize}, {"ncclCommDestroy", &n->destroy},
        {"ncclCommAbort", &n->abort},       {"ncclCommGetAsyncError", &n->async},
        {"ncclGetErrorString", &n->text},   {"ncclGetLastError", &n->last},
        {"ncclAllReduce", &n->sum},
    };
    n->library = dlopen(NCCL_FILE, RTLD_NOW | RTLD_LOCAL);
    if (!n->library)
        return ecg_fail(ECG_ERR_FAIL,
                        "cuda: NCCL can't be opened: %s; several GPUs need it (2.14 or newer): "
                        "install libnccl2 or put its folder into LD_LIBRARY_PATH",
                        dlerror());
    for (const auto &s : symbols) {
        void *symbol = dlsym(n->library, s.name);
        if (!symbol)
            return ecg_fail(ECG_ERR_FAIL, "cuda: %s: %s; NCCL 2.14 or newer is needed", NCCL_FILE,
                            dlerror());
        memcpy(s.to, &symbol, sizeof symbol);
    }
    return ECG_OK;
}

static enum ecg_status check_nccl(const struct nccl *n, void *comm, int result, const char *what) {
    if (result == NCCL_OK) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "cuda: NCCL: %s: %s: %s", what, n->text(result), n->last(comm));
}

static enum ecg_status aborted(void) {
    return ecg_fail(ECG_ERR_FAIL, "cuda: NCCL: aborted, since another rank failed");
}

static int is_stopped(struct cuda_sums *s) {
    return __atomic_load_n(&s->stop, __ATOMIC_SEQ_CST);
}

/* Until nothing is in progress on the communicator. */
static enum ecg_status settle(struct cuda_sums *s, int result, double seconds, const char *what) {
    const struct timespec pause = {0, 200000};
    const double end = seconds_now() + seconds;
    while (result == NCCL_IN_PROGRESS) {
        int state = NCCL_OK;
        if (is_stopped(s)) return aborted();
        TRY(check_nccl(&s->nccl, s->comm, s->nccl.async(s->comm, &state), what));
        result = state;
        if (result != NCCL_IN_PROGRESS) break;
        if (seconds_now() > end)
            return ecg_fail(
                ECG_ERR_FAIL,
                "cuda: NCCL: %s: not done after %.3g s: a rank is missing, or the "
                "network between the GPUs is not what NCCL takes it for (NCCL_DEBUG=INFO "
                "says what it does, NCCL_SOCKET_IFNAME names the network)",
                what, seconds);
        nanosleep(&pause, NULL);
    }
    return is_stopped(s) ? aborted() : check_nccl(&s->nccl, s->comm, result, what);
}

static enum ecg_status make_id(char id[CUDA_COMM_ID_BYTES]) {
    struct nccl n = {};
    struct nccl_id made;
    TRY(open_nccl(&n));
    TRY(check_nccl(&n, NULL, n.id(&made), "an id"));
    memcpy(id, made.internal, sizeof made.internal);
    return ECG_OK;
}

/* A call that hangs inside NCCL holds the lock: it is then aborted beside it, which is what ends it. */
static void abort_sums(struct cuda_sums *s) {
    struct timespec end;
    if (__atomic_exchange_n(&s->stop, 1, __ATOMIC_SEQ_CST)) return;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 1;
    const int locked = pthread_mutex_timedlock(&s->lock, &end) == 0;
    if (s->comm) s->nccl.abort(s->comm);
    if (locked) pthread_mutex_unlock(&s->lock);
}

static void close_sums(struct cuda_sums *s, int failed) {
    if (!s) return;
    if (failed) abort_sums(s);
    if (s->comm && !is_stopped(s)) {
        if (settle(s, s->nccl.finalize(s->comm), CALL_SECONDS, "parting") == ECG_OK)
            s->nccl.destroy(s->comm);
        else
            s->nccl.abort(s->comm);
    }
    if (s->stream) cudaStreamDestroy(s->stream);
    if (s->ready) cudaEventDestroy(s->ready);
    if (s->done) cudaEventDestroy(s->done);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static enum ecg_status set_up(struct cuda_sums *s, const char *id, int rank, int size,
                              double seconds) {
    struct nccl_config config = {sizeof config, NCCL_MAGIC, NCCL_CONFIG_VERSION, 0};
    struct nccl_id given;
    memcpy(given.internal, id, sizeof given.internal);
    TRY(open_nccl(&s->nccl));
    TRY(cuda_check(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking),
                   "making a stream"));
    TRY(cuda_check(cudaEventCreateWithFlags(&s->ready, cudaEventDisableTiming), "making an event"));
    TRY(cuda_check(cudaEventCreateWithFlags(&s->done, cudaEventDisableTiming), "making an event"));
    const int result = s->nccl.init(&s->comm, size, given, rank, &config);
    return settle(s, result, seconds, "meeting the other ranks");
}

static enum ecg_status open_sums(struct cuda_sums **out, struct ops_dev *dev, const char *id,
                                 int rank, int size, double seconds) {
    *out = NULL;
    struct cuda_sums *s = (struct cuda_sums *)calloc(1, sizeof *s);
    if (!s) return ecg_fail(ECG_ERR_NOMEM, "out of memory: %zu bytes", sizeof *s);
    s->dev = dev;
    pthread_mutex_init(&s->lock, NULL);
    const enum ecg_status status = set_up(s, id, rank, size, seconds);
    if (status == ECG_OK)
        *out = s;
    else
        close_sums(s, 1);
    return status;
}

static enum ecg_status start_sum(struct cuda_sums *s, float *x, size_t n) {
    if (n == 0) return ECG_OK;
    TRY(cuda_check(cudaEventRecord(s->ready, s->dev->stream), "ordering a sum"));
    TRY(cuda_check(cudaStreamWaitEvent(s->stream, s->ready, 0), "ordering a sum"));
    pthread_mutex_lock(&s->lock);
    const enum ecg_status status =
        !is_stopped(s) ? settle(s, s->nccl.sum(x, x, n, NCCL_FLOAT, NCCL_SUM, s->comm, s->stream),
                                CALL_SECONDS, "a sum")
                       : aborted();
    pthread_mutex_unlock(&s->lock);
    if (status == ECG_OK) s->started = 1;
    return status;
}

static enum ecg_status join_sums(struct cuda_sums *s) {
    if (!s->started) return ECG_OK;
    s->started = 0;
    TRY(cuda_check(cudaEventRecord(s->done, s->stream), "ordering a sum"));
    return cuda_check(cudaStreamWaitEvent(s->dev->stream, s->done, 0), "ordering a sum");
}

static enum ecg_status check_sums(struct cuda_sums *s) {
    int state = NCCL_OK;
    pthread_mutex_lock(&s->lock);
    enum ecg_status status =
        !is_stopped(s) ? check_nccl(&s->nccl, s->comm, s->nccl.async(s->comm, &state), "its state")
                       : aborted();
    if (status == ECG_OK && state != NCCL_IN_PROGRESS)
        status = check_nccl(&s->nccl, s->comm, state, "the sums");
    pthread_mutex_unlock(&s->lock);
    return status;
}

static const struct cuda_comm table = {cuda_choose_gpu, make_id,    open_sums,  start_sum,
                                       join_sums,       check_sums, abort_sums, close_sums};

extern "C" __attribute__((visibility("default"))) const struct cuda_comm *
einthoven_cuda_comm(void) {
    return &table;
}
