/* SPDX-License-Identifier: MIT
 * The plug-in libeinthoven_mpi.so: messages over MPI's world, point to point alone, so that the order of sums is ours and not
 * the MPI library's. It finds ecg_fail and the like in the program that opens it (kernels/exports.ld).
 * MPI moves bytes only while it is called: progress tests, for a short time without a pause, then with pauses, so that the
 * cores stay with those who compute. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wundef" /* some vendors' header */
#include <mpi.h>
#pragma GCC diagnostic pop
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "train/comm/wire.h"

#define BUSY_SECONDS 0.0005
#define PAUSE_NANOS  30000

struct wire_mpi {
    struct wire wire;
    MPI_Comm comm;
    MPI_Request *
        requests; /* (2 size): from each peer, then to each peer; MPI_REQUEST_NULL where none is under way */
    int *bytes;           /* (2 size) */
    int *indices;         /* (2 size) for MPI_Testsome */
    MPI_Status *statuses; /* (2 size) */
    int n_active;
};

static enum ecg_status failed(struct wire_mpi *w, int error, const char *what, int peer) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int length, class = MPI_SUCCESS;
    MPI_Error_string(error, text, &length);
    if (w != NULL) w->wire.suspect = peer;
    if (MPI_Error_class(error, &class) == MPI_SUCCESS && class == MPI_ERR_TRUNCATE)
        return ecg_fail(ECG_ERR_FAIL,
                        "rank %d sent more bytes than are expected: the ranks are not in the same "
                        "operation (another version, config or data?)",
                        peer);
    return ecg_fail(ECG_ERR_FAIL, "MPI: %s (rank %d): %s", what, peer, text);
}

static enum ecg_status mpi_send(struct wire *wire, int peer, const void *data, size_t bytes) {
    struct wire_mpi *w = (struct wire_mpi *)wire;
    const int i = wire->size + peer;
    w->bytes[i] = (int)bytes;
    const int error = MPI_Isend(data, (int)bytes, MPI_BYTE, peer, 0, w->comm, &w->requests[i]);
    if (error != MPI_SUCCESS) return failed(w, error, "MPI_Isend", peer);
    w->n_active++;
    return ECG_OK;
}

static enum ecg_status mpi_recv(struct wire *wire, int peer, void *data, size_t bytes) {
    struct wire_mpi *w = (struct wire_mpi *)wire;
    w->bytes[peer] = (int)bytes;
    const int error = MPI_Irecv(data, (int)bytes, MPI_BYTE, peer, 0, w->comm, &w->requests[peer]);
    if (error != MPI_SUCCESS) return failed(w, error, "MPI_Irecv", peer);
    w->n_active++;
    return ECG_OK;
}

/* Message i of the table is over. */
static enum ecg_status over(struct wire_mpi *w, int i, MPI_Status *status, int error) {
    const int size = w->wire.size, peer = i % size;
    int count;
    w->n_active--;
    if (error != MPI_SUCCESS) return failed(w, error, "a message failed", peer);
    if (i >= size) return ECG_OK;
    MPI_Get_count(status, MPI_BYTE, &count);
    if (count == w->bytes[i]) return ECG_OK;
    w->wire.suspect = peer;
    return ecg_fail(ECG_ERR_FAIL,
                    "rank %d sent %d bytes where rank %d expects %d: the ranks are not in the same "
                    "operation (another version, config or data?)",
                    peer, count, w->wire.rank, w->bytes[i]);
}

static enum ecg_status mpi_progress(struct wire *wire, double seconds, bool *done) {
    struct wire_mpi *w = (struct wire_mpi *)wire;
    const double start = MPI_Wtime();
    const struct timespec pause = {0, PAUSE_NANOS};
    double last = start;
    for (;;) {
        int n = 0;
        const int error = w->n_active == 0 ? MPI_SUCCESS
                                           : MPI_Testsome(2 * wire->size, w->requests, &n,
                                                          w->indices, w->statuses);
        if (error != MPI_SUCCESS && error != MPI_ERR_IN_STATUS)
            return failed(w, error, "MPI_Testsome", -1);
        for (int i = 0; i < n && n != MPI_UNDEFINED; i++)
            TRY(over(w, w->indices[i], &w->statuses[i],
                     error == MPI_ERR_IN_STATUS ? w->statuses[i].MPI_ERROR : MPI_SUCCESS));
        *done = w->n_active == 0;
        const double now = MPI_Wtime();
        if (*done || now - start >= seconds) return ECG_OK;
        if (n > 0) last = now;
        if (now - last > BUSY_SECONDS) nanosleep(&pause, NULL);
    }
}

static int mpi_waits_for(const struct wire *wire) {
    const struct wire_mpi *w = (const struct wire_mpi *)wire;
    for (int i = 0; i < 2 * wire->size; i++)
        if (w->requests[i] != MPI_REQUEST_NULL) return i % wire->size;
    return -1;
}

/* After a failure nothing of MPI is called: MPI_Finalize would wait for the dead. The process then ends without it, and mpirun ends
 * the others. */
static void mpi_close(struct wire *wire, bool is_failed) {
    struct wire_mpi *w = (struct wire_mpi *)wire;
    if (is_failed) return;
    MPI_Comm_free(&w->comm);
    MPI_Finalize();
    free(w->requests);
    free(w->bytes);
    free(w->indices);
    free(w->statuses);
    free(w);
}

static const struct wire_ops mpi_ops = {.send = mpi_send,
                                        .recv = mpi_recv,
                                        .progress = mpi_progress,
                                        .waits_for = mpi_waits_for,
                                        .close = mpi_close};

static enum ecg_status allocate(struct wire_mpi *w, size_t n) {
    w->requests = malloc(n * sizeof(*w->requests));
    w->bytes = malloc(n * sizeof(*w->bytes));
    w->indices = malloc(n * sizeof(*w->indices));
    w->statuses = malloc(n * sizeof(*w->statuses));
    if (!w->requests || !w->bytes || !w->indices || !w->statuses)
        return ecg_fail(ECG_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) w->requests[i] = MPI_REQUEST_NULL;
    return ECG_OK;
}

static enum ecg_status open_wire(struct wire **out) {
    int provided, was_initialised = 0;
    struct wire_mpi *w = calloc(1, sizeof(*w));
    *out = NULL;
    if (w == NULL) return ecg_fail(ECG_ERR_NOMEM, "out of memory");
    MPI_Initialized(&was_initialised);
    int error = was_initialised ? MPI_ERR_OTHER
                                : MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
    if (error != MPI_SUCCESS) {
        free(w);
        return failed(NULL, error, "MPI_Init_thread", -1);
    }
    if (provided < MPI_THREAD_FUNNELED)
        return ecg_fail(ECG_ERR_FAIL, "MPI: this library does not allow programs with threads");
    error = MPI_Comm_dup(MPI_COMM_WORLD, &w->comm);
    if (error != MPI_SUCCESS) return failed(NULL, error, "MPI_Comm_dup", -1);
    MPI_Comm_set_errhandler(w->comm, MPI_ERRORS_RETURN);
    w->wire = (struct wire){.ops = &mpi_ops, .suspect = -1};
    MPI_Comm_rank(w->comm, &w->wire.rank);
    MPI_Comm_size(w->comm, &w->wire.size);
    TRY(allocate(w, 2 * (size_t)w->wire.size));
    *out = &w->wire;
    return ECG_OK;
}

__attribute__((visibility("default"))) wire_open_fn *einthoven_mpi_wire(int contract) {
    return contract == WIRE_CONTRACT ? open_wire : NULL;
}
