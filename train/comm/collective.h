/* SPDX-License-Identifier: MIT
 * Collective operations over a wire, written once. Sums have the order of the ranks, in double, rounded to float once: the result
 * depends on the values and the number of ranks alone, and is the same on all ranks, bit for bit. */
#ifndef TRAIN_COMM_COLLECTIVE_H
#define TRAIN_COMM_COLLECTIVE_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "train/comm/watch.h"
#include "train/comm/wire.h"

/* Bytes that are under way at a time, and the size of the scratch memory. */
#define COLLECTIVE_PIECE ((size_t)4 << 20)

struct collective {
    struct wire *wire;
    struct watch *watch;  /* asked while waiting; NULL: none yet */
    double stall;         /* seconds that one step may wait for others who are alive */
    char *scratch;        /* COLLECTIVE_PIECE bytes, and one more double a rank */
    uint64_t bytes_sent;  /* payload, by this rank */
};

enum ecg_status collective_init(struct collective *c, struct wire *wire, double stall);
void collective_free(struct collective *c); /* not the wire */

/* x (n) becomes the sum over the ranks. Each rank sums the slice [n r / size, n (r + 1) / size) of every piece and hands it to the
 * others: a rank sends 2 (size - 1) / size of the bucket's bytes, and receives as many. */
enum ecg_status collective_sum(struct collective *c, float *x, size_t n);
/* x (n) becomes the sum, or the largest (NaN if any is), over the ranks; a few numbers: a rank sends (size - 1) times their bytes. */
enum ecg_status collective_sum_double(struct collective *c, double *x, size_t n);
enum ecg_status collective_max_double(struct collective *c, double *x, size_t n);
/* data (bytes) becomes that of rank `root`, who sends twice its bytes whatever the number of ranks. */
enum ecg_status collective_broadcast(struct collective *c, void *data, size_t bytes, int root);
/* out: what rank 0 has (bytes[0]), then rank 1 (bytes[1]), ...; `bytes` (size) is the same on all ranks. `mine` may be its own
 * place in `out`. */
enum ecg_status collective_gather(struct collective *c, const void *mine, const size_t *bytes, void *out);

#endif
