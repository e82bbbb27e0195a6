/* SPDX-License-Identifier: MIT
 * A block that runs: its threads, warps and shared memory. One host thread runs one block at a time. */
#ifndef EMU_BLOCK_H
#define EMU_BLOCK_H

#include <string>

#include "internal.h"
#include "switch.h"

struct emu_warp;
/* What the last lane to arrive does for all lanes of `mask`: from warp->in[...][lane], what each brought, to warp->out. */
typedef void emu_warp_fn(struct emu_warp *warp, uint32_t mask);

enum { emu_edge_warp = 2 * 8, emu_edge_start = emu_edge_warp + 32 * 2 * 8, emu_edge_bytes = emu_edge_start + 8 };

struct emu_copy { /* a cp.async that is not waited for */
    void *dst;
    const void *src;
    bool ok;
    unsigned group;
    unsigned char data[16]; /* what src held at the start */
};

struct emu_fiber : emu_thread {
    struct emu_warp *warp;
    unsigned lane;
    struct emu_stack *stack;
    const char *file; /* where it waits */
    int line;
    std::vector<struct emu_copy> copies;
    size_t first_copy; /* those before it are done */
    unsigned groups; /* committed */
};

struct emu_warp {
    uint32_t fresh, ready, done, at_barrier, arrived; /* sets of lanes; `arrived` wait in a warp operation */
    struct emu_fiber *lane[32];
    /* of the operation that a lane waits in */
    alignas(64) uint32_t in[10][32];
    alignas(64) uint32_t out[4][32];
    const void *row[32]; /* ldmatrix */
    uint32_t mask[32];
    emu_warp_fn *fn[32];
    bool uniform; /* all that have arrived wait in the operation of `first` */
    unsigned first;
    unsigned phase; /* of the addresses for __syncwarp's edges */
};

struct emu_array { /* one piece of shared memory */
    const void *key;
    char *at;
    size_t bytes;
};

struct emu_running : emu_block {
    const struct emu_job *job;
    unsigned n_threads, n_warps, n_done, n_barrier;
    uint32_t runnable; /* warps with fresh or ready lanes */
    unsigned current;  /* warp that ran last */
    struct emu_order order;
    uint64_t random;
    unsigned barrier_phase;
    const char *barrier_file; /* where threads wait */
    int barrier_line;
    char *edges; /* addresses for ThreadSanitizer: __syncthreads (2), the warps' __syncwarp (2 each),
                    the block's start; 8 bytes apart */
    std::vector<struct emu_fiber> threads;
    std::vector<struct emu_warp> warps;
    struct emu_stack host;
    struct emu_stack *free_stacks;
    unsigned n_stacks;
    struct emu_epoch *epoch; /* under ThreadSanitizer */
    /* shared memory */
    char *shared, *shared_top, *shared_end;
    char *dynamic;
    size_t static_bytes;
    std::vector<struct emu_array> arrays;
};

extern __thread struct emu_running *emu_block_now;

static inline struct emu_fiber *emu_fiber_now(void) {
    return static_cast<struct emu_fiber *>(emu_self);
}

/* A rendezvous of the lanes of `mask`; `what` for reports. aligned: all must come from one place. */
void emu_rendezvous(uint32_t mask, emu_warp_fn *fn, bool aligned, const char *what, EMU_PLACE_ARG);

/* shared.cc */
size_t emu_shared_room(void);
char *emu_shared_map(size_t bytes);
void emu_shared_begin(struct emu_running *b);
void emu_shared_end(struct emu_running *b);

/* epoch.cc, under ThreadSanitizer: a run of blocks that are not ordered with each other, with a stack and a fiber for each of
 * their threads and shared memory of its own for each block. */
void emu_epoch_begin_kernel(struct emu_running *b);
void emu_epoch_begin_block(struct emu_running *b);
void emu_epoch_end_kernel(struct emu_running *b);
struct emu_stack *emu_epoch_stack(struct emu_running *b);
void emu_epoch_thread_begins(struct emu_running *b);
void emu_epoch_thread_ends(struct emu_running *b);

#endif
