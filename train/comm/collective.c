/* SPDX-License-Identifier: MIT
 * Every operation is steps of "start messages with all peers, wait for all": on each step all pairs are busy at once, and no
 * rank waits for a chain of others. A bucket goes in pieces, so that the scratch memory for the others' slices is bounded. */
#include "train/comm/collective.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/mem.h"

#define WAIT_SECONDS 0.1 /* between looks at the watch */
#define BLOCK        256 /* floats summed at a time, in double */

enum ecg_status collective_init(struct collective *c, struct wire *wire, double stall) {
    *c = (struct collective){.wire = wire, .stall = stall};
    return mem_alloc((void **)&c->scratch, COLLECTIVE_PIECE + sizeof(double) * (size_t)wire->size,
                     1);
}

void collective_free(struct collective *c) {
    free(c->scratch);
    c->scratch = NULL;
}

static enum ecg_status post_send(struct collective *c, int peer, const void *data, size_t bytes) {
    if (bytes == 0) return ECG_OK;
    c->bytes_sent += bytes;
    return c->wire->ops->send(c->wire, peer, data, bytes);
}

static enum ecg_status post_recv(struct collective *c, int peer, void *data, size_t bytes) {
    if (bytes == 0) return ECG_OK;
    return c->wire->ops->recv(c->wire, peer, data, bytes);
}

/* Waits until all that was posted is done. */
static enum ecg_status finish(struct collective *c) {
    const double start = log_clock();
    bool done = false;
    for (;;) {
        TRY(c->wire->ops->progress(c->wire, WAIT_SECONDS, &done));
        if (done) return ECG_OK;
        if (c->watch != NULL && watch_failed(c->watch, NULL, NULL, 0))
            return ecg_fail(ECG_ERR_FAIL, "another rank failed");
        if (log_clock() - start < c->stall) continue;
        c->wire->suspect = c->wire->ops->waits_for(c->wire);
        return ecg_fail(
            ECG_ERR_FAIL,
            "rank %d is alive but did not come to the same operation within %.3g s: its "
            "work hangs or is much slower (EINTHOVEN_COMM_STALL sets the seconds)",
            c->wire->suspect, c->stall);
    }
}

/* Where rank r's slice of n elements begins. */
static size_t slice(size_t n, int r, int size) {
    return n / (size_t)size * (size_t)r + n % (size_t)size * (size_t)r / (size_t)size;
}

/* y (n) = the sum of `size` arrays (n) in the order of the ranks; y is the own one's place. Others: rank r's at others +
 * r n, the own rank's row unused. */
static void sum_rows(float *y, const float *others, size_t n, int own, int size) {
    double sum[BLOCK];
    for (size_t at = 0; at < n; at += BLOCK) {
        const size_t m = n - at < BLOCK ? n - at : BLOCK;
        for (int r = 0; r < size; r++) {
            const float *x = r == own ? y + at : others + (size_t)r * n + at;
            if (r == 0)
                for (size_t i = 0; i < m; i++) sum[i] = x[i];
            else
                for (size_t i = 0; i < m; i++) sum[i] += x[i];
        }
        for (size_t i = 0; i < m; i++) y[at + i] = (float)sum[i];
    }
}

static enum ecg_status sum_piece(struct collective *c, float *x, size_t n) {
    const int size = c->wire->size, own = c->wire->rank;
    const size_t from = slice(n, own, size), mine = slice(n, own + 1, size) - from;
    float *others = (float *)c->scratch;
    for (int r = 0; r < size; r++) {
        if (r == own) continue;
        const size_t at = slice(n, r, size), m = slice(n, r + 1, size) - at;
        TRY(post_recv(c, r, others + (size_t)r * mine, sizeof(float) * mine));
        TRY(post_send(c, r, x + at, sizeof(float) * m));
    }
    TRY(finish(c));
    sum_rows(x + from, others, mine, own, size);
    for (int r = 0; r < size; r++) {
        if (r == own) continue;
        const size_t at = slice(n, r, size), m = slice(n, r + 1, size) - at;
        TRY(post_recv(c, r, x + at, sizeof(float) * m));
        TRY(post_send(c, r, x + from, sizeof(float) * mine));
    }
    return finish(c);
}

enum ecg_status collective_sum(struct collective *c, float *x, size_t n) {
    const size_t piece = COLLECTIVE_PIECE / sizeof(float);
    for (size_t at = 0; at < n; at += piece)
        TRY(sum_piece(c, x + at, n - at < piece ? n - at : piece));
    return ECG_OK;
}

/* Rows (size, n): every rank's x, the own one's included. */
static enum ecg_status all_rows(struct collective *c, const double *x, size_t n, double *rows) {
    const size_t bytes = sizeof(double) * n;
    for (int r = 0; r < c->wire->size; r++) {
        if (r == c->wire->rank) continue;
        TRY(post_recv(c, r, rows + (size_t)r * n, bytes));
        TRY(post_send(c, r, x, bytes));
    }
    memcpy(rows + (size_t)c->wire->rank * n, x, bytes);
    return finish(c);
}

static double larger(double a, double b) {
    return isnan(a) || a > b ? a : b;
}

static enum ecg_status reduce_doubles(struct collective *c, double *x, size_t n, bool is_sum) {
    const size_t size = (size_t)c->wire->size;
    size_t piece = COLLECTIVE_PIECE / sizeof(double) / size;
    if (piece == 0) piece = 1;
    double *rows = (double *)c->scratch;
    for (size_t at = 0; at < n; at += piece) {
        const size_t m = n - at < piece ? n - at : piece;
        TRY(all_rows(c, x + at, m, rows));
        for (size_t i = 0; i < m; i++) {
            double y = rows[i];
            for (size_t r = 1; r < size; r++)
                y = is_sum ? y + rows[r * m + i] : larger(y, rows[r * m + i]);
            x[at + i] = y;
        }
    }
    return ECG_OK;
}

enum ecg_status collective_sum_double(struct collective *c, double *x, size_t n) {
    return reduce_doubles(c, x, n, true);
}

enum ecg_status collective_max_double(struct collective *c, double *x, size_t n) {
    return reduce_doubles(c, x, n, false);
}

/* The root hands each rank a slice, then all hand their slices to all. */
static enum ecg_status broadcast_piece(struct collective *c, char *data, size_t bytes, int root) {
    const int size = c->wire->size, own = c->wire->rank;
    const size_t from = slice(bytes, own, size), mine = slice(bytes, own + 1, size) - from;
    for (int r = 0; own == root && r < size; r++)
        if (r != root)
            TRY(post_send(c, r, data + slice(bytes, r, size),
                          slice(bytes, r + 1, size) - slice(bytes, r, size)));
    if (own != root) TRY(post_recv(c, root, data + from, mine));
    TRY(finish(c));
    for (int r = 0; r < size; r++) {
        if (r == own) continue;
        const size_t at = slice(bytes, r, size);
        if (own != root) TRY(post_recv(c, r, data + at, slice(bytes, r + 1, size) - at));
        if (r != root) TRY(post_send(c, r, data + from, mine));
    }
    return finish(c);
}

enum ecg_status collective_broadcast(struct collective *c, void *data, size_t bytes, int root) {
    for (size_t at = 0; at < bytes; at += COLLECTIVE_PIECE)
        TRY(broadcast_piece(c, (char *)data + at,
                            bytes - at < COLLECTIVE_PIECE ? bytes - at : COLLECTIVE_PIECE, root));
    return ECG_OK;
}

/* How much of `bytes` the piece from `at` on holds. */
static size_t piece_of(size_t bytes, size_t at) {
    if (bytes <= at) return 0;
    return bytes - at < COLLECTIVE_PIECE ? bytes - at : COLLECTIVE_PIECE;
}

enum ecg_status collective_gather(struct collective *c, const void *mine, const size_t *bytes,
                                  void *out) {
    const int size = c->wire->size, own = c->wire->rank;
    size_t most = 0, before = 0;
    for (int r = 0; r < size; r++) most = bytes[r] > most ? bytes[r] : most;
    for (int r = 0; r < own; r++) before += bytes[r];
    if (bytes[own] > 0) memmove((char *)out + before, mine, bytes[own]);
    for (size_t at = 0; at < most; at += COLLECTIVE_PIECE) {
        size_t place = 0;
        for (int r = 0; r < size; place += bytes[r++]) {
            if (r == own) continue;
            TRY(post_recv(c, r, (char *)out + place + at, piece_of(bytes[r], at)));
            TRY(post_send(c, r, (const char *)out + before + at, piece_of(bytes[own], at)));
        }
        TRY(finish(c));
    }
    return ECG_OK;
}
