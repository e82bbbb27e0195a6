/* SPDX-License-Identifier: MIT
 * The running median with zeros beyond the ends (scipy.signal.medfilt). The window is kept as two
 * heaps over its places: a max-heap of the lower half, whose top is the median, and a min-heap of
 * the rest; a step replaces one value and sifts it, O(log k). */
#include "data/prep/filters.h"

#include <stdbool.h>
#include <stdlib.h>

#include "core/mem.h"

/* heap[0 .. n_low) is the max-heap of the lower half, heap[n_low .. k) the min-heap; entries are
 * places in the ring. */
struct window {
    double *value; /* (k) ring */
    int *heap;     /* (k) */
    int *where;    /* (k) place in heap of each ring entry */
    int k, n_low;
};

static void put(struct window *w, int at, int entry) {
    w->heap[at] = entry;
    w->where[entry] = at;
}

/* Whether the entry must stand above the other in its heap: larger in the lower half, smaller in
 * the upper. */
static bool above(const struct window *w, bool low, int entry, int other) {
    return low ? w->value[entry] > w->value[other] : w->value[entry] < w->value[other];
}

/* Moves the entry at `at` to its place within its own heap. */
static void sift(struct window *w, int at) {
    bool low = at < w->n_low;
    int base = low ? 0 : w->n_low, n = low ? w->n_low : w->k - w->n_low;
    int i = at - base, entry = w->heap[at];
    while (i > 0 && above(w, low, entry, w->heap[base + (i - 1) / 2])) {
        put(w, base + i, w->heap[base + (i - 1) / 2]);
        i = (i - 1) / 2;
    }
    for (;;) {
        int child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && above(w, low, w->heap[base + child + 1], w->heap[base + child]))
            child++;
        if (!above(w, low, w->heap[base + child], entry)) break;
        put(w, base + i, w->heap[base + child]);
        i = child;
    }
    put(w, base + i, entry);
}

/* Replaces the value of one ring entry. At most one pair, the tops, can then stand in the wrong
 * halves. */
static void replace(struct window *w, int entry, double value) {
    w->value[entry] = value;
    sift(w, w->where[entry]);
    if (w->n_low == w->k) return;
    int low = w->heap[0], high = w->heap[w->n_low];
    if (!(w->value[low] > w->value[high])) return;
    put(w, 0, high);
    put(w, w->n_low, low);
    sift(w, 0);
    sift(w, w->n_low);
}

enum ecg_status filter_median(const double *x, size_t n, int k, double *y) {
    if (k < 1 || k % 2 == 0)
        return ecg_fail(ECG_ERR_CONFIG, "a median window of %d samples: it must be odd", k);
    struct window w = {.k = k, .n_low = k / 2 + 1};
    enum ecg_status status;
    TRY_OUT(MEM_NEW(&w.value, (size_t)k));
    TRY_OUT(MEM_NEW(&w.heap, (size_t)k));
    TRY_OUT(MEM_NEW(&w.where, (size_t)k));
    for (int i = 0; i < k; i++) put(&w, i, i); /* all zero: any order is a heap */
    size_t half = (size_t)k / 2;
    int entry = 0; /* the oldest in the ring */
    for (size_t t = 0; t < n + half; t++) {
        replace(&w, entry, t < n ? x[t] : 0);
        entry = entry + 1 < k ? entry + 1 : 0;
        if (t >= half) y[t - half] = w.value[w.heap[0]];
    }
out:
    free(w.value);
    free(w.heap);
    free(w.where);
    return status;
}
