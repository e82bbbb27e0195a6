/* SPDX-License-Identifier: MIT
 * A stand-in for NCCL between processes of one machine, over shared memory that the id names: sums in the order of the ranks,
 * piece by piece. A communicator is in progress until all ranks are there, and a sum is work of its stream, which waits for the
 * other ranks' and ends at an abort. Only what the backend uses is taken: non-blocking, fp32, sum, in place. */
#include "library.h"

#include <atomic>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

namespace {

enum { OK = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, REMOTE_ERROR = 6, IN_PROGRESS = 7 };
enum { FLOAT = 7, SUM = 0, MAX_RANKS = 16, PIECE = 4096 };
const uint64_t alive = 0x6c63636e;

struct id {
    char name[128];
};

struct config {
    size_t size;
    unsigned magic, version;
    int blocking;
};

/* What the ranks share. */
struct shared {
    std::atomic<int> joined, aborted;
    std::atomic<unsigned> arrived; /* at barriers, ever */
    float piece[MAX_RANKS][PIECE];
};

struct comm {
    uint64_t alive;
    int rank, size;
    unsigned barriers;
    struct shared *shared;
    std::atomic<int> stop;
    char name[128];
};

void pause_shortly() {
    const struct timespec t = {0, 20000};
    nanosleep(&t, NULL);
}

/* False after an abort, of any rank. */
bool barrier(struct comm *c) {
    c->shared->arrived++;
    c->barriers++;
    while (c->shared->arrived < c->barriers * (unsigned)c->size) {
        if (c->stop || c->shared->aborted) return false;
        pause_shortly();
    }
    return true;
}

void sum(struct comm *c, float *x, size_t n) {
    for (size_t at = 0; at < n; at += PIECE) {
        const size_t m = n - at < PIECE ? n - at : (size_t)PIECE;
        memcpy(c->shared->piece[c->rank], x + at, m * sizeof *x);
        if (!barrier(c)) return;
        for (size_t i = 0; i < m; i++) {
            float y = c->shared->piece[0][i];
            for (int r = 1; r < c->size; r++) y += c->shared->piece[r][i];
            x[at + i] = y;
        }
        if (!barrier(c)) return;
    }
}

void forget(struct comm *c) {
    munmap(c->shared, sizeof *c->shared);
    c->alive = 0;
    delete c;
}

} // namespace

extern "C" {

int ncclGetVersion(int *version) {
    *version = 22809;
    return OK;
}

const char *ncclGetErrorString(int result) {
    return result == OK             ? "no error"
           : result == REMOTE_ERROR ? "remote process exited"
                                    : "refused by the stand-in";
}

const char *ncclGetLastError(void *) {
    return "a stand-in's";
}

int ncclGetUniqueId(struct id *out) {
    uint64_t word;
    if (getrandom(&word, sizeof word, 0) != (ssize_t)sizeof word) return SYSTEM_ERROR;
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "/einthoven-nccl-%016llx", (unsigned long long)word);
    return OK;
}

int ncclCommInitRankConfig(void **out, int size, struct id id, int rank, struct config *config) {
    if (config->size < sizeof *config || config->magic != 0xcafebeef || config->version < 21400 ||
        config->blocking != 0)
        return emu_refuse(INVALID_ARGUMENT, "ncclCommInitRankConfig: its config");
    if (size < 1 || size > MAX_RANKS || rank < 0 || rank >= size ||
        strncmp(id.name, "/einthoven-nccl-", 16) != 0)
        return emu_refuse(INVALID_ARGUMENT, "ncclCommInitRankConfig: rank %d of %d", rank, size);
    const int fd = shm_open(id.name, O_CREAT | O_RDWR, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(struct shared)) != 0) return SYSTEM_ERROR;
    void *memory = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory == MAP_FAILED) return SYSTEM_ERROR;
    struct comm *c = new comm{alive, rank, size, 0, (struct shared *)memory, {0}, ""};
    memcpy(c->name, id.name, sizeof c->name);
    if (++c->shared->joined == size) shm_unlink(c->name); /* all have it */
    *out = c;
    return IN_PROGRESS;
}

int ncclCommGetAsyncError(void *handle, int *state) {
    struct comm *c = (struct comm *)handle;
    if (c == NULL || c->alive != alive) return INVALID_ARGUMENT;
    *state = c->shared->aborted ? REMOTE_ERROR : c->shared->joined < c->size ? IN_PROGRESS : OK;
    return OK;
}

int ncclAllReduce(const void *in, void *out, size_t n, int type, int op, void *handle,
                  cudaStream_t stream) {
    struct comm *c = (struct comm *)handle;
    if (c == NULL || c->alive != alive || c->shared->joined < c->size)
        return emu_refuse(INVALID_ARGUMENT, "ncclAllReduce: the communicator is not ready");
    if (in != out || type != FLOAT || op != SUM || stream == NULL || n == 0 ||
        !emu_is_device(out) || !emu_is_allocated(out, n * sizeof(float)))
        return emu_refuse(INVALID_ARGUMENT, "ncclAllReduce: %zu elements of type %d", n, type);
    emu_library_work("ncclAllReduce", stream, [=] {
        emu_moves(out, n * sizeof(float), false);
        emu_moves(out, n * sizeof(float), true);
        sum(c, (float *)out, n);
    });
    return OK;
}

int ncclCommFinalize(void *handle) {
    return ((struct comm *)handle)->alive == alive ? OK : INVALID_ARGUMENT;
}

int ncclCommDestroy(void *handle) {
    struct comm *c = (struct comm *)handle;
    if (c->alive != alive) return INVALID_ARGUMENT;
    forget(c);
    return OK;
}

/* The memory stays: work of a stream may still be about to see the stop. */
int ncclCommAbort(void *handle) {
    struct comm *c = (struct comm *)handle;
    if (c->alive != alive) return INVALID_ARGUMENT;
    c->stop = 1;
    c->shared->aborted = 1;
    shm_unlink(c->name);
    return OK;
}

} // extern "C"
