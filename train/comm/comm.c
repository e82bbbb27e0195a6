/* SPDX-License-Identifier: MIT
 * The communicator's thread owns the wire from its opening to its end (MPI wants one thread) and carries requests out in the
 * order in which they came. Callers wait on a condition; the thread, while it waits for other ranks, looks at the watch. */
#include "train/comm/comm.h"

#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"
#include "core/mem.h"
#include "core/plugin.h"
#include "train/comm/collective.h"
#include "train/comm/watch.h"
#include "train/comm/wire_tcp.h"
#include "train/comm/world.h"

enum { REQUEST_IDLE, REQUEST_QUEUED, REQUEST_DONE };
enum kind { SUM_FLOAT, SUM_DOUBLE, MAX_DOUBLE, BROADCAST, GATHER };

struct comm {
    struct comm_world world;
    struct comm_options options;
    const char *backend;
    struct wire *wire;
    struct watch *watch;
    struct collective collective;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    /* under the lock */
    struct comm_request *first, *last; /* first is under way */
    bool opened, closing, stopped;
    enum ecg_status status; /* the failure that stands */
    char text[1400];
    uint64_t bytes_sent;
};

static const struct plugin_file mpi_file = {
    .what = "backend mpi",
    .name = "the MPI backend",
    .file = MPI_PLUGIN_FILE,
    .variable = "EINTHOVEN_MPI_LIB",
    .missing =
        "build it with \"make mpi\" (needs mpicc: libopenmpi-dev), or use backend tcp, which "
        "needs no MPI",
    .unusable = "load the MPI that it was built with (module load), or build it anew with \"make "
                "mpi\", or use backend tcp, which needs no MPI",
};

static enum ecg_status seconds_from(const char *name, double *seconds) {
    const char *text = getenv(name);
    char *end;
    if (text == NULL || text[0] == '\0') return ECG_OK;
    const double v = strtod(text, &end);
    if (*end != '\0' || !(v > 0) || !(v < 1e7))
        return ecg_fail(ECG_ERR_FAIL, "%s=%.100s is not a number of seconds above 0", name, text);
    *seconds = v;
    return ECG_OK;
}

enum ecg_status comm_options_init(struct comm_options *options) {
    *options = (struct comm_options){.backend = "auto", .timeout = 30, .stall = 1800, .start = 300};
    TRY(seconds_from("EINTHOVEN_COMM_TIMEOUT", &options->timeout));
    TRY(seconds_from("EINTHOVEN_COMM_STALL", &options->stall));
    return seconds_from("EINTHOVEN_COMM_START", &options->start);
}

/* ---- the thread ---- */

/* Keeps the first failure: this rank's, or the verdict of all where there is one. */
static void fail(struct comm *c, enum ecg_status status) {
    char text[sizeof(c->text)];
    snprintf(text, sizeof(text), "%s", ecg_message());
    if (c->watch != NULL) {
        watch_accuse(c->watch, c->wire != NULL ? c->wire->suspect : -1, text);
        watch_failed(c->watch, NULL, text, sizeof(text));
    }
    pthread_mutex_lock(&c->lock);
    if (c->status == ECG_OK) {
        c->status = status;
        memcpy(c->text, text, sizeof(text));
    }
    pthread_mutex_unlock(&c->lock);
}

static enum ecg_status open_mpi(struct comm *c) {
    char path[PATH_MAX];
    void *handle;
    union {
        void *p;
        mpi_plugin_fn *fn;
    } symbol;
    TRY(plugin_find(&mpi_file, path, sizeof(path)));
    TRY(plugin_open(&mpi_file, path, &handle));
    TRY(plugin_symbol(&mpi_file, handle, path, "einthoven_mpi_wire", &symbol.p));
    wire_open_fn *open_wire = symbol.fn(WIRE_CONTRACT);
    if (open_wire == NULL)
        return ecg_fail(ECG_ERR_FAIL,
                        "backend mpi: %s is of another version than this program: build both anew, "
                        "\"make\" and \"make mpi\"",
                        path);
    TRY(open_wire(&c->wire));
    TRY(world_check_mpi(&c->world, c->wire->rank, c->wire->size));
    c->world.rank = c->wire->rank;
    c->world.size = c->wire->size;
    return ECG_OK;
}

/* A local rank that the launcher did not say: the number of lower ranks with the same host name. */
static enum ecg_status count_local(struct comm *c) {
    enum { NAME = 64 };
    const size_t size = (size_t)c->world.size;
    char own[NAME] = "", *names;
    size_t *bytes = NULL;
    enum ecg_status status;
    TRY(MEM_NEW(&names, size * NAME));
    TRY_OUT(MEM_NEW(&bytes, size));
    gethostname(own, sizeof(own) - 1);
    for (size_t r = 0; r < size; r++) bytes[r] = NAME;
    TRY_OUT(collective_gather(&c->collective, own, bytes, names));
    if (c->world.local_rank < 0) {
        c->world.local_rank = 0;
        for (int r = 0; r < c->world.rank; r++)
            c->world.local_rank += memcmp(names + (size_t)r * NAME, own, NAME) == 0;
    }
out:
    free(names);
    free(bytes);
    return status;
}

static enum ecg_status start_watch(struct comm *c) {
    struct watch_place place = {.rank = c->world.rank, .size = c->world.size};
    struct {
        char host[256];
        int32_t port;
        unsigned char secret[16];
    } told = {.host = ""};
    char token[33];
    struct watch *watch;
    if (place.rank == 0 && getrandom(told.secret, sizeof(told.secret), 0) != sizeof(told.secret))
        return ecg_fail(ECG_ERR_FAIL, "getrandom failed");
    TRY(collective_broadcast(&c->collective, told.secret, sizeof(told.secret), 0));
    for (size_t i = 0; i < sizeof(told.secret); i++)
        snprintf(token + 2 * i, 3, "%02x", told.secret[i]);
    place.token = token;
    place.host = c->world.host;
    TRY(watch_prepare(&watch, &place, c->options.timeout));
    memcpy(told.host, place.other_host, sizeof(told.host));
    told.port = place.port;
    enum ecg_status status = collective_broadcast(&c->collective, &told, sizeof(told), 0);
    told.host[sizeof(told.host) - 1] = '\0';
    memcpy(place.other_host, told.host, sizeof(told.host));
    place.port = told.port;
    if (status == ECG_OK) status = watch_start(watch, &place, c->options.start);
    if (status != ECG_OK) {
        watch_close(watch);
        return status;
    }
    c->watch = c->collective.watch = watch;
    return ECG_OK;
}

static enum ecg_status meet(struct comm *c) {
    if (strcmp(c->backend, "mpi") == 0)
        TRY(open_mpi(c));
    else
        TRY(wire_tcp_open(&c->wire, &c->world, c->options.start));
    TRY(collective_init(&c->collective, c->wire, c->options.start));
    TRY(count_local(c));
    TRY(start_watch(c));
    c->collective.stall = c->options.stall;
    c->collective.bytes_sent = 0; /* counted for training, not for meeting */
    return ECG_OK;
}

static enum ecg_status carry_out(struct comm *c, const struct comm_request *r) {
    struct collective *k = &c->collective;
    switch ((enum kind)r->kind) {
    case SUM_FLOAT:
        return collective_sum(k, r->data, r->n);
    case SUM_DOUBLE:
        return collective_sum_double(k, r->data, r->n);
    case MAX_DOUBLE:
        return collective_max_double(k, r->data, r->n);
    case BROADCAST:
        return collective_broadcast(k, r->data, r->n, r->root);
    case GATHER:
        return collective_gather(k, r->mine, r->sizes, r->data);
    }
    return ecg_fail(ECG_ERR_FAIL, "operation %d is not known", r->kind);
}

/* The next request; NULL when the communicator closes and none is left. */
static struct comm_request *next_request(struct comm *c) {
    pthread_mutex_lock(&c->lock);
    while (c->first == NULL && !c->closing) pthread_cond_wait(&c->work, &c->lock);
    struct comm_request *r = c->first;
    pthread_mutex_unlock(&c->lock);
    return r;
}

static void leave(struct comm *c, bool failed) {
    watch_close(c->watch);
    if (c->wire != NULL) c->wire->ops->close(c->wire, failed);
    collective_free(&c->collective);
}

static void *run(void *context) {
    struct comm *c = context;
    struct comm_request *r;
    enum ecg_status status = meet(c);
    if (status != ECG_OK) fail(c, status);
    pthread_mutex_lock(&c->lock);
    c->opened = true;
    pthread_cond_broadcast(&c->done);
    pthread_mutex_unlock(&c->lock);
    while ((r = next_request(c)) != NULL) {
        const double started = log_clock();
        if (status == ECG_OK) {
            status = carry_out(c, r);
            if (status != ECG_OK) fail(c, status);
        }
        pthread_mutex_lock(&c->lock);
        r->started = started;
        /* After a failure nothing of what is queued is done any more. */
        do {
            c->first = r->next;
            r->finished = log_clock();
            r->state = REQUEST_DONE;
            r = c->first;
        } while (status != ECG_OK && r != NULL);
        c->bytes_sent = c->collective.bytes_sent;
        pthread_cond_broadcast(&c->done);
        pthread_mutex_unlock(&c->lock);
    }
    leave(c, status != ECG_OK || c->stopped);
    return NULL;
}

/* ---- the callers ---- */

/* The failure that stands, as this thread's message. */
static enum ecg_status standing_failure(struct comm *c) {
    char text[sizeof(c->text)];
    pthread_mutex_lock(&c->lock);
    const enum ecg_status status = c->status;
    memcpy(text, c->text, sizeof(text));
    pthread_mutex_unlock(&c->lock);
    return status == ECG_OK ? ECG_OK : ecg_fail(status, "%s", text);
}

static enum ecg_status choose_backend(struct comm *c) {
    const char *name = c->options.backend;
    const struct comm_world *w = &c->world;
    char path[PATH_MAX];
    static const char *const known[] = {"single", "tcp", "mpi"};
    if (strcmp(name, "auto") == 0) {
        const bool by_mpirun = strcmp(w->source, "mpirun") == 0 || strcmp(w->source, "PMI") == 0;
        c->backend = w->size == 1 ? "single" : "tcp";
        if (w->size > 1 && by_mpirun && plugin_find(&mpi_file, path, sizeof(path)) == ECG_OK)
            c->backend = "mpi";
        return ECG_OK;
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
        if (strcmp(name, known[i]) == 0) c->backend = known[i];
    if (c->backend == NULL)
        return ecg_fail(
            ECG_ERR_CONFIG,
            "communication backend \"%.100s\" is not known; known are auto, single, tcp "
            "and mpi",
            name);
    if (strcmp(c->backend, "single") == 0 && w->size > 1)
        return ecg_fail(ECG_ERR_FAIL,
                        "backend single, but %s started %d processes, which would all do the same "
                        "work: start one, or use backend auto",
                        w->source, w->size);
    return ECG_OK;
}

/* Waits until the thread has met the other ranks. MPI_Init has no timeout of its own. */
static enum ecg_status wait_until_open(struct comm *c) {
    struct timespec end;
    int error = 0;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += (time_t)(3 * c->options.start) + 5;
    pthread_mutex_lock(&c->lock);
    while (!c->opened && error == 0) error = pthread_cond_timedwait(&c->done, &c->lock, &end);
    const bool opened = c->opened;
    pthread_mutex_unlock(&c->lock);
    if (opened) return standing_failure(c);
    return ecg_fail(ECG_ERR_FAIL, "backend %s does not come up: the ranks did not meet in time",
                    c->backend);
}

static enum ecg_status start_thread(struct comm *c) {
    pthread_condattr_t monotonic;
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&c->work, NULL);
    pthread_cond_init(&c->done, &monotonic);
    pthread_condattr_destroy(&monotonic);
    const int error = pthread_create(&c->thread, NULL, run, c);
    if (error != 0) return ecg_fail(ECG_ERR_FAIL, "thread: %s", strerror(error));
    c->started = true;
    return ECG_OK;
}

/* Ends the thread, which closes what it opened. One that never came up (MPI_Init) keeps its memory. */
static void end(struct comm *c) {
    if (c->started) {
        pthread_mutex_lock(&c->lock);
        const bool opened = c->opened;
        c->closing = true;
        pthread_cond_signal(&c->work);
        pthread_mutex_unlock(&c->lock);
        if (!opened) return;
        pthread_join(c->thread, NULL);
    }
    free(c);
}

enum ecg_status comm_open(struct comm **out, const struct comm_options *options) {
    struct comm *c;
    enum ecg_status status;
    *out = NULL;
    TRY(MEM_NEW(&c, 1));
    c->options = *options;
    TRY_OUT(world_find(&c->world));
    TRY_OUT(choose_backend(c));
    if (strcmp(c->backend, "single") == 0) {
        if (c->world.local_rank < 0) c->world.local_rank = 0;
    } else {
        TRY_OUT(start_thread(c));
        TRY_OUT(wait_until_open(c));
    }
out:
    if (status == ECG_OK)
        *out = c;
    else
        end(c);
    return status;
}

enum ecg_status comm_close(struct comm *c, enum ecg_status status) {
    if (c == NULL) return status;
    if (c->started && status == ECG_OK) status = comm_barrier(c);
    if (c->started && status != ECG_OK) {
        watch_abort(c->watch, ecg_message());
        pthread_mutex_lock(&c->lock);
        c->stopped = true;
        pthread_mutex_unlock(&c->lock);
    }
    end(c);
    return status;
}

double comm_start_seconds(const struct comm *c) {
    return c->options.start;
}

int comm_rank(const struct comm *c) {
    return c->world.rank;
}

int comm_size(const struct comm *c) {
    return c->world.size;
}

int comm_local_rank(const struct comm *c) {
    return c->world.local_rank;
}

const char *comm_backend(const struct comm *c) {
    return c->backend;
}

/* Passes a failure on once the thread has let go of all requests, so that their memory may go too. It soon does: it looks at the
 * watch while it waits. */
static enum ecg_status when_idle(struct comm *c, enum ecg_status status) {
    if (status == ECG_OK) return ECG_OK;
    pthread_mutex_lock(&c->lock);
    while (c->first != NULL) pthread_cond_wait(&c->done, &c->lock);
    pthread_mutex_unlock(&c->lock);
    return status;
}

static enum ecg_status queue(struct comm *c, struct comm_request *r) {
    r->queued = r->started = r->finished = log_clock();
    r->state = REQUEST_DONE;
    r->next = NULL;
    if (!c->started) return ECG_OK;
    TRY(when_idle(c, comm_check(c)));
    pthread_mutex_lock(&c->lock);
    r->state = REQUEST_QUEUED;
    if (c->first == NULL)
        c->first = r;
    else
        c->last->next = r;
    c->last = r;
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->lock);
    return ECG_OK;
}

enum ecg_status comm_wait(struct comm *c, struct comm_request *r) {
    if (!c->started) return ECG_OK;
    pthread_mutex_lock(&c->lock);
    /* The thread's own waits all have an end, so this one has. */
    while (r->state == REQUEST_QUEUED) pthread_cond_wait(&c->done, &c->lock);
    r->state = REQUEST_IDLE;
    pthread_mutex_unlock(&c->lock);
    return when_idle(c, standing_failure(c));
}

bool comm_done(struct comm *c, const struct comm_request *r) {
    if (!c->started) return true;
    pthread_mutex_lock(&c->lock);
    const bool done = r->state != REQUEST_QUEUED;
    pthread_mutex_unlock(&c->lock);
    return done;
}

enum ecg_status comm_sum_start(struct comm *c, struct comm_request *r, float *x, size_t n) {
    r->kind = SUM_FLOAT;
    r->data = x;
    r->n = n;
    return queue(c, r);
}

static enum ecg_status at_once(struct comm *c, struct comm_request *r) {
    TRY(queue(c, r));
    return comm_wait(c, r);
}

enum ecg_status comm_sum(struct comm *c, float *x, size_t n) {
    struct comm_request r = {.kind = SUM_FLOAT, .data = x, .n = n};
    return at_once(c, &r);
}

enum ecg_status comm_sum_double(struct comm *c, double *x, size_t n) {
    struct comm_request r = {.kind = SUM_DOUBLE, .data = x, .n = n};
    return at_once(c, &r);
}

enum ecg_status comm_max_double(struct comm *c, double *x, size_t n) {
    struct comm_request r = {.kind = MAX_DOUBLE, .data = x, .n = n};
    return at_once(c, &r);
}

enum ecg_status comm_broadcast(struct comm *c, void *data, size_t bytes, int root) {
    struct comm_request r = {.kind = BROADCAST, .data = data, .n = bytes, .root = root};
    return at_once(c, &r);
}

enum ecg_status comm_gather(struct comm *c, const void *mine, const size_t *bytes, void *out) {
    struct comm_request r = {.kind = GATHER, .mine = mine, .sizes = bytes, .data = out};
    if (!c->started && bytes[0] > 0) memmove(out, mine, bytes[0]);
    return at_once(c, &r);
}

enum ecg_status comm_gather_counts(struct comm *c, size_t n, size_t *counts) {
    const size_t size = (size_t)c->world.size;
    size_t *bytes;
    TRY(MEM_NEW(&bytes, size));
    for (size_t r = 0; r < size; r++) bytes[r] = sizeof(n);
    const enum ecg_status status = comm_gather(c, &n, bytes, counts);
    free(bytes);
    return status;
}

enum ecg_status comm_barrier(struct comm *c) {
    double ignored = 0;
    return comm_max_double(c, &ignored, 1);
}

enum ecg_status comm_check(struct comm *c) {
    char text[sizeof(c->text)];
    if (!c->started) return ECG_OK;
    TRY(standing_failure(c));
    if (!watch_failed(c->watch, NULL, text, sizeof(text))) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "%s", text);
}

uint64_t comm_bytes_sent(struct comm *c) {
    if (!c->started) return 0;
    pthread_mutex_lock(&c->lock);
    const uint64_t bytes = c->bytes_sent;
    pthread_mutex_unlock(&c->lock);
    return bytes;
}

void comm_on_failure(struct comm *c, void (*fn)(void *context), void *context) {
    if (c->started) watch_on_failure(c->watch, fn, context);
}
