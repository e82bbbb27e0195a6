/* SPDX-License-Identifier: MIT
 * Under ThreadSanitizer an epoch is a run of blocks that it must take for unordered: each of their threads has a fiber and a stack of
 * its own, each block shared memory of its own. When the epoch has no fiber left, the host waits for its threads (an edge from each),
 * and the next blocks begin after it: a race between blocks of two epochs is missed, none is invented. */
#include "block.h"

#if EMU_TSAN
enum { min_fibers = 128, max_blocks = min_fibers };

struct emu_epoch {
    std::vector<struct emu_stack *> stacks;
    char *shared, *edges;  /* of each block */
    unsigned used, blocks; /* stacks and blocks of this epoch */
    char end[8];
};

void emu_epoch_begin_kernel(struct emu_running *b) {
    if (b->epoch != NULL) return;
    b->epoch = new struct emu_epoch();
    b->epoch->shared = emu_shared_map(max_blocks * emu_shared_room());
    b->epoch->edges = emu_shared_map(max_blocks * emu_edge_bytes);
}

void emu_epoch_end_kernel(struct emu_running *b) {
    emu_acquire(b->epoch->end);
    b->epoch->used = b->epoch->blocks = 0;
}

void emu_epoch_begin_block(struct emu_running *b) {
    struct emu_epoch *e = b->epoch;
    /* Two blocks at least; the sanitizer's time for a barrier grows with their number. */
    const unsigned limit = 2 * b->n_threads < min_fibers ? (unsigned)min_fibers : 2 * b->n_threads;
    if (e->used + b->n_threads > limit || e->blocks == max_blocks) emu_epoch_end_kernel(b);
    b->shared = e->shared + e->blocks * emu_shared_room();
    b->edges = e->edges + e->blocks * emu_edge_bytes;
    e->blocks++;
    /* Made by the host: a fiber is ordered after what its maker has done. */
    while (e->stacks.size() < e->used + b->n_threads) {
        struct emu_stack *s = new struct emu_stack;
        emu_stack_make(s, 17 * (unsigned)e->stacks.size());
        e->stacks.push_back(s);
    }
}

struct emu_stack *emu_epoch_stack(struct emu_running *b) {
    return b->epoch->stacks[b->epoch->used++];
}

void emu_epoch_thread_begins(struct emu_running *b) {
    emu_acquire(b->edges + emu_edge_start);
}

void emu_epoch_thread_ends(struct emu_running *b) {
    emu_release(b->epoch->end);
}
#endif
