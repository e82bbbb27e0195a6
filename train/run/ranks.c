/* SPDX-License-Identifier: MIT
 * Slices, buckets and gathers over a communicator. */
#include "train/run/ranks.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/mem.h"
#include "core/pool.h"
#include "kernels/find.h"
#include "train/comm/world.h"
#include "train/run/infer.h"
#include "train/run/trainer.h"

#define MESSAGE ((size_t)1400) /* of the failure that all share */

/* ------------------------------------------------------------------ opening */

/* Each rank of a node takes a GPU of its own, before its device is opened. */
static enum ecg_status choose_gpu(int local_rank) {
    const struct cuda_comm *nccl;
    TRY(ops_cuda_comm(&nccl));
    return nccl->choose(local_rank);
}

enum ecg_status ranks_alone(const char *command) {
    struct comm_world world;
    TRY(world_find(&world));
    if (world.size == 1) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "%s runs on one rank, and %s has started %d: start one", command,
                    world.source, world.size);
}

enum ecg_status ranks_take_visible_gpu(int number) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    char own[64] = "", *list = NULL, *save = NULL;
    int n = 0;
    if (visible == NULL || *visible == 0) return ECG_OK;
    TRY(mem_strdup(&list, visible));
    for (char *w = strtok_r(list, ",", &save); w != NULL; w = strtok_r(NULL, ",", &save)) n++;
    strcpy(list, visible);
    int wanted = n > 0 ? number % n : 0;
    char *w = strtok_r(list, ",", &save);
    while (w != NULL && wanted-- > 0) w = strtok_r(NULL, ",", &save);
    if (w != NULL) snprintf(own, sizeof(own), "%s", w);
    free(list);
    if (own[0] == 0 || setenv("CUDA_VISIBLE_DEVICES", own, 1) == 0) return ECG_OK;
    return ecg_fail(ECG_ERR_NOMEM, "no memory for the environment");
}

static enum ecg_status meet(struct ranks *r, const char *backend) {
    struct comm_options o;
    TRY(comm_options_init(&o));
    o.backend = backend;
    TRY(comm_open(&r->comm, &o));
    r->rank = comm_rank(r->comm);
    r->size = comm_size(r->comm);
    if (r->size == 1) return ECG_OK;
    if (r->rank != 0) log_set_level(LOG_ERROR);
    double local = comm_local_rank(r->comm) + 1;
    TRY(comm_max_double(r->comm, &local, 1));
    r->local_size = (int)local;
    log_info("%d ranks (%s), %d on a node", r->size, comm_backend(r->comm), r->local_size);
    return ECG_OK;
}

enum ecg_status ranks_open(struct ranks *r, const struct config *c, enum ecg_status status) {
    char *message = NULL;
    *r = (struct ranks){.size = 1, .local_size = 1};
    if (status != ECG_OK) {
        /* The others have read the same file, or wait for this rank: all end by its message, where they can be found. */
        if (mem_strdup(&message, ecg_message()) == ECG_OK && meet(r, "auto") == ECG_OK)
            status = ranks_agree(r, ecg_fail(status, "%s", message));
        else
            ecg_fail(status, "%s", message != NULL ? message : "");
        free(message);
        return status;
    }
    TRY(meet(r, conf_choice_name(config_options, "train.comm", c->train.comm)));
    TRY(ranks_agree(r, ECG_OK));
    return strcmp(c->train.device, "cuda") == 0 && r->size > 1
               ? choose_gpu(comm_local_rank(r->comm))
               : ECG_OK;
}

enum ecg_status ranks_agree(struct ranks *r, enum ecg_status status) {
    char text[MESSAGE];
    size_t *all = NULL;
    int first = 0;
    enum ecg_status common = status;
    if (r->size == 1) return status;
    snprintf(text, sizeof(text), "%s", ecg_message());
    TRY(MEM_NEW(&all, (size_t)r->size));
    status = comm_gather_counts(r->comm, (size_t)common, all);
    while (status == ECG_OK && first < r->size && all[first] == ECG_OK) first++;
    common = status == ECG_OK && first < r->size ? (enum ecg_status)all[first] : ECG_OK;
    free(all);
    if (common == ECG_OK) return status;
    TRY(comm_broadcast(r->comm, text, sizeof(text), first));
    r->agreed = true;
    if (r->rank != 0) return ecg_fail(common, "%s", "");
    if (first == 0) return ecg_fail(common, "%s", text);
    return ecg_fail(common, "rank %d: %s", first, text);
}

/* The end of a trace: what this rank has sent, beside the floats that were summed. */
static void trace_end(const struct ranks *r) {
    const char *path = getenv("EINTHOVEN_COMM_TRACE");
    FILE *f = path != NULL && r->rank == 0 && r->size > 1 ? fopen(path, "a") : NULL;
    if (f == NULL) return;
    fprintf(f, "{\"ranks\":%d,\"summed\":%" PRIu64 ",\"sent\":%" PRIu64 "}\n", r->size, r->summed,
            comm_bytes_sent(r->comm));
    fclose(f);
}

enum ecg_status ranks_close(struct ranks *r, enum ecg_status status) {
    comm_gpu_close(r->gpu, status);
    if (r->comm != NULL && status == ECG_OK) trace_end(r);
    if (r->comm != NULL && r->agreed) {
        /* All end here: whoever takes longer, with a checkpoint, is waited for and not told of a failure. */
        char *message = NULL;
        bool kept = mem_strdup(&message, ecg_message()) == ECG_OK;
        comm_close(r->comm, ECG_OK);
        ecg_fail(status, "%s", kept && r->rank == 0 ? message : "");
        free(message);
    } else if (r->comm != NULL) {
        status = comm_close(r->comm, status);
    }
    free(r->requests);
    free(r->part);
    free(r->part_bytes);
    *r = (struct ranks){.size = 1};
    return status;
}

bool ranks_writes(const struct ranks *r) {
    return r->rank == 0;
}

int ranks_threads(const struct ranks *r, int threads) {
    if (threads > 0 || r->local_size <= 1) return threads;
    long all = sysconf(_SC_NPROCESSORS_ONLN);
    if (pool_default_threads() < all)
        return 0; /* the launcher has given each rank cores of its own */
    return all > r->local_size ? (int)(all / r->local_size) : 1;
}

/* ------------------------------------------------------------------ optim.zero */

#define SHARD_UNIT ((size_t)16) /* floats; a cache line */

static size_t shard_start(size_t n, int rank, int size) {
    return n / SHARD_UNIT * (size_t)rank / (size_t)size * SHARD_UNIT;
}

static size_t shard_end(size_t n, int rank, int size) {
    return rank + 1 == size ? n : shard_start(n, rank + 1, size);
}

enum ecg_status ranks_shard(const struct trainer *t, size_t *from, size_t *n) {
    const struct ranks *r = &t->ranks;
    *from = *n = 0;
    if (!t->config->optim.zero || r->size <= 1) return ECG_OK;
    if (strcmp(t->ops->name, "cuda") == 0)
        return ecg_fail(ECG_ERR_CONFIG, "optim.zero: device cuda keeps all moments on every rank; "
                                        "leave it out");
    *from = shard_start(t->net.n_params, r->rank, r->size);
    *n = shard_end(t->net.n_params, r->rank, r->size) - *from;
    if (*n > 0) return ECG_OK;
    return ecg_fail(ECG_ERR_CONFIG, "optim.zero: %zu parameters for %d ranks: leave it out",
                    t->net.n_params, r->size);
}

/* Where each rank's part goes. */
static enum ecg_status prepare_parts(struct trainer *t) {
    struct ranks *r = &t->ranks;
    size_t n = t->net.n_params;
    if (t->optim.config.shard_n == 0) return ECG_OK;
    TRY(MEM_NEW(&r->part, t->optim.config.shard_n));
    TRY(MEM_NEW(&r->part_bytes, (size_t)r->size));
    for (int i = 0; i < r->size; i++)
        r->part_bytes[i] = (shard_end(n, i, r->size) - shard_start(n, i, r->size)) * sizeof(float);
    return ECG_OK;
}

enum ecg_status ranks_gather_parameters(struct trainer *t) {
    struct ranks *r = &t->ranks;
    const struct optim_config *c = &t->optim.config;
    if (c->shard_n == 0) return ECG_OK;
    memcpy(r->part, t->net.params + c->shard_from, c->shard_n * sizeof(float));
    return comm_gather(r->comm, r->part, r->part_bytes, t->net.params);
}

/* ------------------------------------------------------------------ gradients */

enum ecg_status ranks_prepare(struct trainer *t) {
    struct ranks *r = &t->ranks;
    if (r->size == 1) return ECG_OK;
    r->max_requests = (int)(t->net.n_params / RANKS_BUCKET) + 2;
    TRY(MEM_NEW(&r->requests, (size_t)r->max_requests));
    TRY(prepare_parts(t));
    if (strcmp(t->ops->name, "cuda") != 0) return ECG_OK;
    const struct cuda_comm *nccl;
    TRY(ops_cuda_comm(&nccl));
    return comm_gpu_open(&r->gpu, r->comm, nccl, t->dev);
}

/* The first gradient that this step trains. */
static size_t lowest_trained(const struct trainer *t) {
    const struct optim *o = &t->optim;
    for (size_t i = 0; i < o->n_ranges; i++)
        if (optim_is_open(o, &o->ranges[i])) return o->ranges[i].offset;
    return o->n;
}

void ranks_begin(struct trainer *t) {
    struct ranks *r = &t->ranks;
    r->n_requests = 0;
    r->lowest = lowest_trained(t);
    r->next = t->optim.n;
}

static enum ecg_status queue(struct trainer *t, size_t from) {
    struct ranks *r = &t->ranks;
    size_t n = r->next - from;
    float *x = t->net.grads + from;
    r->next = from;
    r->summed += n;
    if (r->gpu != NULL) return comm_gpu_sum_start(r->gpu, x, n);
    struct comm_request *request = &r->requests[r->n_requests++];
    memset(request, 0, sizeof(*request));
    return comm_sum_start(r->comm, request, x, n);
}

/* Buckets end at the same places on all ranks, those without a record too, however far a layer's gradients reach. */
static enum ecg_status queue_down_to(struct trainer *t, size_t offset) {
    struct ranks *r = &t->ranks;
    while (r->next > r->lowest) {
        size_t from = r->next - r->lowest > RANKS_BUCKET ? r->next - RANKS_BUCKET : r->lowest;
        if (from < offset) return ECG_OK;
        TRY(queue(t, from));
    }
    return ECG_OK;
}

enum ecg_status ranks_gradients_done(void *trainer, size_t offset) {
    return queue_down_to(trainer, offset);
}

/* How far the sums of a step ran beside its backward pass, for people who tune: EINTHOVEN_COMM_TRACE names a file. */
static void trace(struct trainer *t, double joined) {
    const char *path = getenv("EINTHOVEN_COMM_TRACE");
    FILE *f = path != NULL && t->ranks.rank == 0 ? fopen(path, "a") : NULL;
    if (f == NULL) return;
    for (int i = 0; i < t->ranks.n_requests; i++) {
        const struct comm_request *q = &t->ranks.requests[i];
        fprintf(f,
                "{\"step\":%lld,\"bucket\":%d,\"bytes\":%zu,\"queued\":%.6f,\"started\":%.6f,"
                "\"finished\":%.6f,\"backward_done\":%.6f}\n",
                (long long)t->at.step + 1, i, q->n * sizeof(float), q->queued, q->started,
                q->finished, joined);
    }
    fclose(f);
}

enum ecg_status ranks_join(struct trainer *t) {
    struct ranks *r = &t->ranks;
    double joined = log_clock();
    if (r->size == 1) return ECG_OK;
    TRY(queue_down_to(t, 0));
    if (r->gpu != NULL) return comm_gpu_join(r->gpu);
    for (int i = 0; i < r->n_requests; i++) TRY(comm_wait(r->comm, &r->requests[i]));
    trace(t, joined);
    return ECG_OK;
}

/* ------------------------------------------------------------------ batch norm */

/* mean and var by way of two sums: of the means, then of the squares around the mean of all. x[C] counts the rows. */
static enum ecg_status sum_statistics(struct ranks *r, int C, float *mean, float *var, double *rows,
                                      double *x) {
    double own = *rows;
    for (int c = 0; c < C; c++) x[c] = own > 0 ? own * (double)mean[c] : 0;
    x[C] = own;
    TRY(ranks_sum(r, x, (size_t)C + 1));
    double all = x[C];
    for (int c = 0; c < C; c++) {
        double m = x[c] / all, d = (double)mean[c] - m;
        x[c] = own > 0 ? own * ((double)var[c] + d * d) : 0;
        mean[c] = (float)m;
    }
    TRY(ranks_sum(r, x, (size_t)C));
    for (int c = 0; c < C; c++) var[c] = (float)(x[c] / all);
    *rows = all;
    return ECG_OK;
}

static enum ecg_status share_statistics(void *trainer, int C, float *mean, float *var,
                                        double *rows) {
    struct trainer *t = trainer;
    double *x = NULL;
    TRY(MEM_NEW(&x, (size_t)C + 1));
    enum ecg_status status = sum_statistics(&t->ranks, C, mean, var, rows, x);
    free(x);
    return status;
}

/* k[0] is that of all already, as their mean, variance and weight are. */
static enum ecg_status share_gradient(void *trainer, int C, float *k, double rows) {
    struct trainer *t = trainer;
    size_t n = 2 * (size_t)C;
    double *x = NULL;
    TRY(MEM_NEW(&x, n + 1));
    for (size_t i = 0; i < n; i++) x[i] = rows > 0 ? rows * (double)k[(size_t)C + i] : 0;
    x[n] = rows;
    enum ecg_status status = ranks_sum(&t->ranks, x, n + 1);
    for (size_t i = 0; i < n && status == ECG_OK; i++) k[(size_t)C + i] = (float)(x[i] / x[n]);
    free(x);
    return status;
}

enum ecg_status ranks_share_norm(struct trainer *t) {
    const struct config *c = t->config;
    if (!c->model.sync_batch_norm || !t->net.config.batch_norm || t->ranks.size == 1) return ECG_OK;
    if (strcmp(t->ops->name, "cuda") == 0)
        return ecg_fail(ECG_ERR_CONFIG,
                        "model.sync_batch_norm: device cuda can't share statistics: "
                        "set it to false, each rank then takes its own");
    if (c->train.accumulate > 1)
        return ecg_fail(ECG_ERR_CONFIG,
                        "model.sync_batch_norm: statistics of a whole batch need it at once: set "
                        "train.accumulate to 1, and train.recompute for memory");
    t->ranks.share = (struct net1d_share){share_statistics, share_gradient, t};
    return ECG_OK;
}

/* ------------------------------------------------------------------ all else */

enum ecg_status ranks_sum(struct ranks *r, double *x, size_t n) {
    return r->size > 1 ? comm_sum_double(r->comm, x, n) : ECG_OK;
}

enum ecg_status ranks_gather(struct ranks *r, const void *rows, size_t n, size_t width, void **all,
                             size_t *n_all) {
    size_t *counts = NULL;
    enum ecg_status status;
    *all = NULL;
    *n_all = 0;
    TRY_OUT(MEM_NEW(&counts, (size_t)r->size));
    TRY_OUT(comm_gather_counts(r->comm, n, counts));
    for (int i = 0; i < r->size; i++) {
        *n_all += counts[i];
        counts[i] *= width;
    }
    TRY_OUT(mem_alloc(all, *n_all > 0 ? *n_all : 1, width));
    TRY_OUT(comm_gather(r->comm, rows, counts, *all));
out:
    free(counts);
    return status;
}

static enum ecg_status gather_rows(struct ranks *r, void *pointer, size_t n, size_t width) {
    void *own, *all;
    size_t n_all;
    memcpy(&own, pointer, sizeof(own));
    if (width == 0) return ECG_OK;
    TRY(ranks_gather(r, own, n, width, &all, &n_all));
    free(own);
    memcpy(pointer, &all, sizeof(all));
    return ECG_OK;
}

enum ecg_status ranks_gather_inferred(struct ranks *r, struct inferred *i) {
    if (r->size == 1) return ECG_OK;
    size_t n = i->n;
    double total = (double)n;
    TRY(gather_rows(r, &i->logits, n, (size_t)i->k * sizeof(float)));
    TRY(gather_rows(r, &i->labels, n, (size_t)i->n_labels));
    TRY(gather_rows(r, &i->targets, n, (size_t)i->n_targets * sizeof(float)));
    TRY(comm_sum_double(r->comm, &total, 1));
    i->n = (size_t)total;
    return ECG_OK;
}

enum ecg_status ranks_share(struct ranks *r, void *data, size_t bytes) {
    return r->size > 1 ? comm_broadcast(r->comm, data, bytes, 0) : ECG_OK;
}

enum ecg_status ranks_broadcast(struct trainer *t, void *device, size_t bytes) {
    char *host = NULL;
    enum ecg_status status;
    if (t->ranks.size == 1 || bytes == 0) return ECG_OK;
    TRY_OUT(MEM_NEW(&host, bytes));
    TRY_OUT(t->ops->download(t->dev, host, device, bytes));
    TRY_OUT(t->ops->sync(t->dev));
    TRY_OUT(comm_broadcast(t->ranks.comm, host, bytes, 0));
    TRY_OUT(t->ops->upload(t->dev, device, host, bytes));
    TRY_OUT(t->ops->sync(t->dev));
out:
    free(host);
    return status;
}
