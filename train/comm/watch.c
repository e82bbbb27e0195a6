/* SPDX-License-Identifier: MIT
 * Messages are frames of one fixed size, so a partial one needs no parser: it is a count of bytes. Frames are few (about six a
 * timeout) and small, so the kernel's buffer always has room for one; when it has not, the other side has not read for so long that
 * it will be found silent.
 * A star, not a mesh: rank 0 alone judges who failed first, so all ranks name the same one. */
#include "train/comm/watch.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"
#include "core/mem.h"
#include "train/comm/gate.h"

#define BEATS_PER_TIMEOUT 6.0
#define ACCUSE_SECONDS    2.0
#define MOST_GRACE        15.0 /* seconds from a verdict to the end of a process that does not notice it */
#define TEXT_BYTES        1008

enum kind { BEAT = 1, FAILED, BYE };

struct frame {
    uint32_t kind;
    int32_t culprit;
    uint64_t zero;
    char text[TEXT_BYTES];
};

struct link {
    int fd; /* -1: none, or closed */
    bool left;
    double heard; /* seconds; last byte */
    struct frame in;
    size_t got;
    uint32_t pid; /* 0 unknown: rank 0's */
    char host[256];
};

struct watch {
    int rank, size, wake; /* eventfd */
    double timeout, beat;
    struct gate *gate;
    struct link *links;   /* (size): rank 0 has one to each other, the others one to rank 0 */
    struct pollfd *polls; /* (size + 1) */
    int *polled;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t caller; /* of on_failure */
    /* under the lock */
    bool failed, told, closing, calling;
    void (*on_failure)(void *);
    void *context;
    int culprit;
    double failed_at;
    char text[TEXT_BYTES];
};

static void send_frame(struct watch *w, int peer, enum kind kind, int culprit, const char *text) {
    struct link *l = &w->links[peer];
    struct frame f = {.kind = (uint32_t)kind, .culprit = culprit};
    if (l->fd < 0) return;
    snprintf(f.text, sizeof(f.text), "%s", text);
    const ssize_t n = send(l->fd, &f, sizeof(f), MSG_NOSIGNAL);
    /* A part of a frame would spoil all after it: then let the other side see an end. */
    if (n >= 0 && n < (ssize_t)sizeof(f)) shutdown(l->fd, SHUT_WR);
}

static void *call_on_failure(void *context) {
    struct watch *w = context;
    w->on_failure(w->context);
    return NULL;
}

/* Under the lock. A thread of its own, since what it calls may hang, and this one must not. */
static void call_if_failed(struct watch *w) {
    if (w->failed && w->on_failure != NULL && !w->calling)
        w->calling = pthread_create(&w->caller, NULL, call_on_failure, w) == 0;
}

/* The first verdict stands. */
static void judge(struct watch *w, int culprit, const char *text) {
    pthread_mutex_lock(&w->lock);
    if (!w->failed) {
        w->failed = true;
        w->culprit = culprit;
        w->failed_at = log_clock();
        snprintf(w->text, sizeof(w->text), "%s", text);
        pthread_cond_broadcast(&w->changed);
        call_if_failed(w);
    }
    pthread_mutex_unlock(&w->lock);
}

static void blame(struct watch *w, int peer, const char *why) {
    const struct link *l = &w->links[peer];
    char text[TEXT_BYTES];
    if (l->pid != 0)
        snprintf(text, sizeof(text), "rank %d (%.200s, process %u) %s", peer, l->host, l->pid, why);
    else
        snprintf(text, sizeof(text), "rank %d (%.200s) %s", peer, l->host, why);
    judge(w, peer, text);
}

static void take_frame(struct watch *w, int peer) {
    struct link *l = &w->links[peer];
    struct frame *f = &l->in;
    f->text[sizeof(f->text) - 1] = '\0';
    if (f->kind == FAILED) judge(w, f->culprit, f->text);
    if (f->kind == BYE) l->left = true;
}

/* Reads what is there. */
static void hear(struct watch *w, int peer) {
    struct link *l = &w->links[peer];
    for (;;) {
        const ssize_t n = recv(l->fd, (char *)&l->in + l->got, sizeof(l->in) - l->got, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            close(l->fd);
            l->fd = -1;
            if (!l->left)
                blame(
                    w, peer,
                    "ended without a word: killed, out of memory, crashed, or its node went down; "
                    "see its own messages and the job's log");
            return;
        }
        l->heard = log_clock();
        l->got += (size_t)n;
        if (l->got < sizeof(l->in)) continue;
        l->got = 0;
        take_frame(w, peer);
    }
}

static void check_silence(struct watch *w, double now) {
    char text[200];
    for (int i = 0; i < w->size; i++) {
        if (w->links[i].fd < 0 || w->links[i].left || now - w->links[i].heard < w->timeout)
            continue;
        snprintf(
            text, sizeof(text),
            "gave no sign of life for %.3g s: it is stopped or hangs, or its node or network is "
            "down (EINTHOVEN_COMM_TIMEOUT sets the seconds)",
            now - w->links[i].heard);
        blame(w, i, text);
    }
}

static void wait_for_news(struct watch *w, double seconds) {
    int n = 0;
    uint64_t ignored;
    for (int i = 0; i < w->size; i++) {
        if (w->links[i].fd < 0) continue;
        w->polled[n] = i;
        w->polls[n++] = (struct pollfd){.fd = w->links[i].fd, .events = POLLIN};
    }
    w->polls[n] = (struct pollfd){.fd = w->wake, .events = POLLIN};
    if (poll(w->polls, (nfds_t)n + 1, (int)(1000 * seconds) + 1) <= 0) return;
    for (int i = 0; i < n; i++)
        if (w->polls[i].revents) hear(w, w->polled[i]);
    if (w->polls[n].revents && read(w->wake, &ignored, sizeof(ignored)) < 0) return;
}

/* Tells a new verdict to all; ends a process that did not notice it. */
static void act_on_failure(struct watch *w, double now) {
    char text[TEXT_BYTES];
    const double grace = w->timeout / 2 < MOST_GRACE ? w->timeout / 2 : MOST_GRACE;
    pthread_mutex_lock(&w->lock);
    const bool tell = w->failed && !w->told;
    const bool end = w->failed && !w->closing && now - w->failed_at > grace;
    const int culprit = w->culprit;
    memcpy(text, w->text, sizeof(text));
    if (tell) w->told = true;
    pthread_mutex_unlock(&w->lock);
    for (int i = 0; tell && i < w->size; i++) send_frame(w, i, FAILED, culprit, text);
    if (!end) return;
    log_error("rank %d: %s; this rank did not end by itself and is ended", w->rank, text);
    _exit(ecg_exit_code(ECG_ERR_FAIL));
}

void watch_on_failure(struct watch *w, void (*fn)(void *), void *context) {
    pthread_mutex_lock(&w->lock);
    const bool calling = w->calling;
    if (fn != NULL) {
        w->on_failure = fn;
        w->context = context;
        call_if_failed(w);
    } else if (!calling) {
        w->on_failure = NULL;
    }
    pthread_mutex_unlock(&w->lock);
    if (fn != NULL || !calling) return;
    pthread_join(w->caller, NULL);
    w->on_failure = NULL;
    w->calling = false;
}

static bool is_closing(struct watch *w) {
    pthread_mutex_lock(&w->lock);
    const bool closing = w->closing;
    pthread_mutex_unlock(&w->lock);
    return closing;
}

static void *run(void *context) {
    struct watch *w = context;
    double last_beat = 0, last_turn = log_clock();
    while (!is_closing(w)) {
        wait_for_news(w, w->beat / 2);
        const double now = log_clock();
        /* This process itself was stopped, or got no CPU, for long: what it did not hear says nothing. */
        if (now - last_turn > w->timeout / 2)
            for (int i = 0; i < w->size; i++) w->links[i].heard = now;
        last_turn = now;
        check_silence(w, now);
        act_on_failure(w, now);
        if (now - last_beat < w->beat) continue;
        last_beat = now;
        for (int i = 0; i < w->size; i++)
            if (!w->links[i].left) send_frame(w, i, BEAT, -1, "");
    }
    act_on_failure(w, log_clock());
    return NULL;
}

enum ecg_status watch_prepare(struct watch **out, struct watch_place *place, double timeout) {
    struct watch *w;
    enum ecg_status status;
    const size_t size = (size_t)place->size;
    *out = NULL;
    TRY(MEM_NEW(&w, 1));
    *w = (struct watch){.rank = place->rank,
                        .size = place->size,
                        .wake = -1,
                        .timeout = timeout,
                        .beat = timeout / BEATS_PER_TIMEOUT};
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    TRY_OUT(MEM_NEW(&w->links, size));
    for (size_t i = 0; i < size; i++) w->links[i].fd = -1;
    TRY_OUT(MEM_NEW(&w->polls, size + 1));
    TRY_OUT(MEM_NEW(&w->polled, size));
    w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->wake < 0) TRY_OUT(ecg_fail(ECG_ERR_FAIL, "eventfd: %s", strerror(errno)));
    if (w->rank == 0) {
        TRY_OUT(gate_open(&w->gate, 0, place->token));
        place->port = gate_port(w->gate);
        if (gethostname(place->other_host, sizeof(place->other_host) - 1) != 0)
            strcpy(place->other_host, "localhost");
    }
out:
    if (status == ECG_OK)
        *out = w;
    else
        watch_close(w);
    return status;
}

static enum ecg_status admit_all(struct watch *w, double deadline) {
    for (int n = 1; n < w->size;) {
        struct gate_guest guest;
        TRY(gate_admit(w->gate, 0.5, &guest));
        const int r = guest.hello.rank;
        if (guest.fd < 0) {
            if (log_clock() > deadline)
                return ecg_fail(ECG_ERR_FAIL, "rank 0: %d ranks did not come to its watch in time",
                                w->size - n);
            continue;
        }
        if (r < 1 || r >= w->size || w->links[r].fd >= 0) {
            close(guest.fd);
            return ecg_fail(ECG_ERR_FAIL, "broken launch: rank %d comes twice, the second on %s", r,
                            guest.hello.host);
        }
        w->links[r].fd = guest.fd;
        w->links[r].pid = guest.hello.pid;
        memcpy(w->links[r].host, guest.hello.host, sizeof(w->links[r].host));
        n++;
    }
    return ECG_OK;
}

/* Rank 0's machine may know itself by a name that the others lack, so the launcher's name is tried first. */
static enum ecg_status connect_to_first(struct watch *w, const struct watch_place *place,
                                        double deadline) {
    struct gate_hello hello;
    TRY(gate_hello_init(&hello, GATE_WATCH, w->rank, w->size, 0));
    const char *other =
        strcmp(hello.host, place->other_host) == 0 ? "127.0.0.1" : place->other_host;
    memcpy(w->links[0].host, place->other_host, sizeof(w->links[0].host));
    const double half = log_clock() + (deadline - log_clock()) / 2;
    if (place->host[0] != '\0' &&
        gate_knock(place->host, place->port, place->token, &hello, half, &w->links[0].fd) == ECG_OK)
        return ECG_OK;
    return gate_knock(other, place->port, place->token, &hello, deadline, &w->links[0].fd);
}

enum ecg_status watch_start(struct watch *w, const struct watch_place *place, double seconds) {
    const double deadline = log_clock() + seconds;
    TRY(w->rank == 0 ? admit_all(w, deadline) : connect_to_first(w, place, deadline));
    gate_close(w->gate);
    w->gate = NULL;
    for (int i = 0; i < w->size; i++) w->links[i].heard = log_clock();
    const int error = pthread_create(&w->thread, NULL, run, w);
    if (error != 0) return ecg_fail(ECG_ERR_FAIL, "thread: %s", strerror(error));
    w->started = true;
    return ECG_OK;
}

bool watch_failed(struct watch *w, int *culprit, char *text, size_t size) {
    pthread_mutex_lock(&w->lock);
    const bool failed = w->failed;
    if (failed && culprit != NULL) *culprit = w->culprit;
    if (failed && text != NULL) snprintf(text, size, "%s", w->text);
    pthread_mutex_unlock(&w->lock);
    return failed;
}

static void wake_up(struct watch *w) {
    const uint64_t one = 1;
    if (write(w->wake, &one, sizeof(one)) < 0) return; /* full: it is awake */
}

void watch_accuse(struct watch *w, int culprit, const char *text) {
    struct timespec end;
    int error = 0;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += (time_t)ACCUSE_SECONDS;
    pthread_mutex_lock(&w->lock);
    while (!w->failed && error == 0) error = pthread_cond_timedwait(&w->changed, &w->lock, &end);
    pthread_mutex_unlock(&w->lock);
    judge(w, culprit, text);
    wake_up(w);
}

void watch_abort(struct watch *w, const char *reason) {
    char text[TEXT_BYTES], host[256] = "?";
    gethostname(host, sizeof(host) - 1);
    snprintf(text, sizeof(text), "rank %d (%.200s, process %u) stopped: %s", w->rank, host,
             (unsigned)getpid(), reason);
    judge(w, w->rank, text);
    wake_up(w);
}

/* Closing a socket that holds unread bytes would reset the connection, and the other side would lose what was said last; so
 * the ends wait for each other, for a short while. */
static void say_goodbye(struct watch *w) {
    const double end = log_clock() + 1;
    int open = 0;
    for (int i = 0; i < w->size; i++) {
        if (w->links[i].fd < 0) continue;
        if (!watch_failed(w, NULL, NULL, 0)) send_frame(w, i, BYE, -1, "");
        shutdown(w->links[i].fd, SHUT_WR);
        w->links[i].left = true;
        open++;
    }
    while (open > 0 && log_clock() < end) {
        wait_for_news(w, 0.05);
        open = 0;
        for (int i = 0; i < w->size; i++) open += w->links[i].fd >= 0;
    }
}

void watch_close(struct watch *w) {
    if (w == NULL) return;
    watch_on_failure(w, NULL, NULL);
    if (w->started) {
        pthread_mutex_lock(&w->lock);
        w->closing = true;
        pthread_mutex_unlock(&w->lock);
        wake_up(w);
        pthread_join(w->thread, NULL);
        say_goodbye(w);
    }
    for (int i = 0; w->links != NULL && i < w->size; i++)
        if (w->links[i].fd >= 0) close(w->links[i].fd);
    gate_close(w->gate);
    if (w->wake >= 0) close(w->wake);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->changed);
    free(w->links);
    free(w->polls);
    free(w->polled);
    free(w);
}
