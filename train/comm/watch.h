/* SPDX-License-Identifier: MIT
 * Liveness: a thread in each rank and one small TCP connection from each rank to rank 0, whatever carries the data. Every rank
 * sends a sign of life to rank 0 and gets its signs; who ends without a word, or is silent for `timeout` seconds, is named by rank 0
 * to all. The first verdict stands. A process whose other threads do not notice a verdict (a collective of a library that never
 * returns, a hanging file system) is ended with exit code 1 by the watch, `grace` seconds later, so that no zombie stays. */
#ifndef TRAIN_COMM_WATCH_H
#define TRAIN_COMM_WATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

struct watch;

struct watch_place {
    int rank, size;
    const char *host; /* of rank 0, as ranks > 0 reach it; "" = other_host */
    char other_host[256];
    int port;
    const char *token;
};

/* Rank 0 first: opens the gate and fills other_host and port of *place, which the caller brings to the other ranks; then all
 * call watch_start. */
enum ecg_status watch_prepare(struct watch **out, struct watch_place *place, double timeout);
/* Connects to, or admits, the others for at most `seconds`, and starts the thread. */
enum ecg_status watch_start(struct watch *w, const struct watch_place *place, double seconds);

/* Whether a verdict fell. Any thread. text (may be NULL): "rank 2 (host n1, process 77): ..." */
bool watch_failed(struct watch *w, int *culprit, char *text, size_t size);
/* A failure that this rank saw: `culprit` (-1 unknown) by `text`. If rank 0 knows the cause, or tells it within two seconds, that is
 * the verdict; else this. Returns when there is one. */
void watch_accuse(struct watch *w, int culprit, const char *text);
/* This rank stops, and says why: all ranks fail with its number and reason. */
void watch_abort(struct watch *w, const char *reason);

/* Calls fn once when a verdict falls (at once, if it has), in a thread of its own. NULL: no more, and waits for a call under way. */
void watch_on_failure(struct watch *w, void (*fn)(void *), void *context);

/* Says goodbye, ends the thread and frees. NULL is fine. */
void watch_close(struct watch *w);

#endif
