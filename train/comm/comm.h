/* SPDX-License-Identifier: MIT
 * Several processes that train one model. One interface over three backends:
 *     single   one process: all operations return at once
 *     tcp      own connections; needs no library
 *     mpi      libeinthoven_mpi.so (make mpi); MPI carries the data
 * All ranks call the same operations with the same sizes in the same order, each from one thread at a time. A thread of the
 * communicator's own carries them out in that order while the caller computes on.
 *
 * Sums have the order of the ranks (in double, rounded once), so they are the same bit for bit on all ranks and from run to run on the
 * same number of ranks, on every backend.
 *
 * Whatever waits has an end: a rank that dies, or gives no sign of life for `timeout` seconds, or does not come to an operation
 * for `stall` seconds, makes the operations of all others fail with ECG_ERR_FAIL and a message that names it. When an operation has
 * failed, none is under way any more, and every later one fails at once with the same message; call comm_close with that status and end with exit code 1. A process that does
 * not come to do so is ended with exit code 1 by the communicator, `timeout` / 2 (at most 15) seconds after the failure. */
#ifndef TRAIN_COMM_COMM_H
#define TRAIN_COMM_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

struct comm;

struct comm_options {
    const char *backend; /* auto, single, tcp, mpi. auto: mpi when mpirun started us and the plug-in is there, tcp when another
                          * launcher did, single when none did */
    double timeout; /* seconds of silence: 30, or EINTHOVEN_COMM_TIMEOUT */
    double stall;   /* seconds that an operation waits for a rank that is alive: 1800, or EINTHOVEN_COMM_STALL */
    double start;   /* seconds that the ranks wait for each other at the start: 300, or EINTHOVEN_COMM_START */
};

/* backend auto and the environment's seconds; ECG_ERR_FAIL for a value that is no number above 0. */
enum ecg_status comm_options_init(struct comm_options *options);

/* Finds the world (world.h) and meets the other ranks. ECG_ERR_FAIL, saying what to do, for a broken launch, a rank that does not
 * come, a plug-in that is missing; ECG_ERR_CONFIG for an unknown backend. */
enum ecg_status comm_open(struct comm **out, const struct comm_options *options);

/* With ECG_OK all ranks part in peace: it waits for the others to come here too, and says if that failed. With another status
 * the others are told that this rank stops, and ecg_message() as the reason; returns `status`. NULL: returns `status`. The
 * message stays. Frees c. */
enum ecg_status comm_close(struct comm *c, enum ecg_status status);

double comm_start_seconds(const struct comm *c); /* options.start */
int comm_rank(const struct comm *c);
int comm_size(const struct comm *c);
int comm_local_rank(const struct comm *c); /* among the ranks of this node, from 0: the number of its GPU */
const char *comm_backend(const struct comm *c); /* "single", "tcp", "mpi" */

/* An operation under way: a bucket of gradients that is being summed. The caller's memory, zeroed before its first use; its fields are the
 * communicator's, but the times (log_clock's seconds) may be read once it is done. */
struct comm_request {
    double queued, started, finished;
    int state, kind, root;
    void *data;
    const void *mine;
    const size_t *sizes;
    size_t n;
    struct comm_request *next;
};

/* Starts x (n) = sum over the ranks and returns at once. x and the request are untouched until comm_wait (or comm_done) has
 * said that it is over, which it may be for one bucket before the next. n may be 0. */
enum ecg_status comm_sum_start(struct comm *c, struct comm_request *request, float *x, size_t n);
/* Waits for it. With requests that were never started, or waited for already, it returns at once. */
enum ecg_status comm_wait(struct comm *c, struct comm_request *request);
bool comm_done(struct comm *c, const struct comm_request *request); /* also after a failure, which comm_wait tells */

/* The rest wait until they are done; all may be used while buckets are under way, and come after those. */
enum ecg_status comm_sum(struct comm *c, float *x, size_t n);
enum ecg_status comm_sum_double(struct comm *c, double *x, size_t n);
enum ecg_status comm_max_double(struct comm *c, double *x, size_t n); /* NaN if any is */
enum ecg_status comm_broadcast(struct comm *c, void *data, size_t bytes, int root);
/* counts (size): every rank's n. */
enum ecg_status comm_gather_counts(struct comm *c, size_t n, size_t *counts);
/* out: rank 0's bytes[0] bytes, then rank 1's, ...; `bytes` (size) is the same on all ranks (comm_gather_counts). */
enum ecg_status comm_gather(struct comm *c, const void *mine, const size_t *bytes, void *out);
enum ecg_status comm_barrier(struct comm *c);

/* Whether another rank failed, for loops that use no operation for long. ECG_OK or the failure. */
enum ecg_status comm_check(struct comm *c);
/* Calls fn(context) once when a rank fails, in a thread of the communicator's: it ends what would wait for that rank by other
 * means (NCCL). NULL: no more. */
void comm_on_failure(struct comm *c, void (*fn)(void *context), void *context);
/* Payload bytes that this rank has sent: a sum of n floats is 2 (size - 1) / size of 4 n, to a slice's rounding. */
uint64_t comm_bytes_sent(struct comm *c);

#endif
