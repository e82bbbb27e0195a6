/* SPDX-License-Identifier: MIT
 * What carries messages between ranks: tcp (wire_tcp.c) or mpi (the plug-in, mpi/wire_mpi.c). One thread opens, uses and closes
 * a wire. Between two ranks messages keep their order; all else (sums, collectives, timeouts) is built above, once. */
#ifndef TRAIN_COMM_WIRE_H
#define TRAIN_COMM_WIRE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

struct wire;

struct wire_ops {
    /* Starts one message of `bytes` (1 to WIRE_MESSAGE) to or from `peer` (not the own rank). At most one of each kind per
     * peer is under way; the memory stays the caller's and untouched until progress has said done. */
    enum ecg_status (*send)(struct wire *w, int peer, const void *data, size_t bytes);
    enum ecg_status (*recv)(struct wire *w, int peer, void *data, size_t bytes);
    /* Moves bytes for at most `seconds`; *done: nothing is under way any more. A failure is final, and sets w->suspect; a message
     * of another length than the receiver's is one. */
    enum ecg_status (*progress)(struct wire *w, double seconds, bool *done);
    /* A peer whose message is under way; -1 none. */
    int (*waits_for)(const struct wire *w);
    /* Also after a failure (`failed`), then without waiting for anybody. Frees w. */
    void (*close)(struct wire *w, bool failed);
};

#define WIRE_MESSAGE ((size_t)1 << 30)

struct wire {
    const struct wire_ops *ops;
    int rank, size;
    int suspect; /* the peer to whom the connection failed; -1 unknown */
};

/* What libeinthoven_mpi.so exports: opens MPI and a wire over its world; NULL for another contract. MPI is initialised for and
 * used by the calling thread alone. */
#define WIRE_CONTRACT 1
#define MPI_PLUGIN_FILE "libeinthoven_mpi.so"
typedef enum ecg_status wire_open_fn(struct wire **out);
wire_open_fn *einthoven_mpi_wire(int contract);
typedef wire_open_fn *mpi_plugin_fn(int contract);

#endif
