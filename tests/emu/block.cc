/* SPDX-License-Identifier: MIT
 * Runs the threads of a block. A thread starts on the stack of the one that ended before it; only one that waits keeps its stack. */
#include "block.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <condition_variable>
#include <mutex>
#include <thread>

__thread struct emu_thread *emu_self;
__thread struct emu_running *emu_block_now;

void emu_stop(const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    fputs("emu: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    fflush(NULL);
    abort();
}

void emu_fail(const char *format, ...) {
    char text[1024];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (emu_block_now == NULL) emu_stop("%s", text);
    const uint3 b = emu_block_now->index;
    if (emu_self == NULL)
        emu_stop("%s, block (%u, %u, %u): %s", emu_kernel_name(), b.x, b.y, b.z, text);
    const uint3 t = emu_self->index;
    emu_stop("%s, block (%u, %u, %u), thread (%u, %u, %u): %s", emu_kernel_name(), b.x, b.y, b.z,
             t.x, t.y, t.z, text);
}

#if EMU_TSAN || EMU_COUNT
uint3 emu_thread_index(void) {
    return emu_self->index;
}

uint3 emu_block_index(void) {
    return emu_self->block->index;
}

dim3 emu_block_dim(void) {
    return emu_self->block->block;
}

dim3 emu_grid_dim(void) {
    return emu_self->block->grid;
}
#endif

const char *emu_kernel_name(void) {
    return emu_block_now == NULL ? NULL : emu_block_now->job->name;
}

uint64_t emu_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* ---- which thread runs next ---- */
static void set_runnable(struct emu_running *b, struct emu_warp *w) {
    const uint32_t bit = 1u << (w - b->warps.data());
    if (w->fresh | w->ready)
        b->runnable |= bit;
    else
        b->runnable &= ~bit;
}

static unsigned pick_bit(const struct emu_running *b, uint32_t set, uint64_t random) {
    if (b->order.kind == EMU_FORWARD) return (unsigned)__builtin_ctz(set);
    if (b->order.kind == EMU_REVERSE) return 31u - (unsigned)__builtin_clz(set);
    const unsigned by = random & 31;
    const uint32_t turned = set >> by | (by == 0 ? 0 : set << (32 - by));
    return ((unsigned)__builtin_ctz(turned) + by) & 31;
}

/* Takes a thread that can run, NULL when there is none. A warp goes on as long as it can; in random order only mostly. */
static struct emu_fiber *pick(struct emu_running *b) {
    if (b->runnable == 0) return NULL;
    const uint64_t r = b->order.kind == EMU_RANDOM ? emu_random(&b->random) : 0;
    if (!(b->runnable >> b->current & 1) || (b->order.kind == EMU_RANDOM && (r >> 10 & 3) == 0))
        b->current = pick_bit(b, b->runnable, r >> 5);
    struct emu_warp *w = &b->warps[b->current];
    const unsigned lane = pick_bit(b, w->fresh | w->ready, r);
    w->fresh &= ~(1u << lane);
    w->ready &= ~(1u << lane);
    set_runnable(b, w);
    return w->lane[lane];
}

/* ---- stacks ---- */
static void run_threads(void);

static struct emu_stack *take_stack(struct emu_running *b) {
#if EMU_TSAN
    struct emu_stack *own = emu_epoch_stack(b);
    emu_stack_prepare(own, run_threads);
    return own;
#endif
    struct emu_stack *s = b->free_stacks;
    if (s == NULL) {
        s = new struct emu_stack;
        emu_stack_make(s, 17 * b->n_stacks++);
    } else {
        b->free_stacks = s->next;
    }
    emu_stack_prepare(s, run_threads);
    return s;
}

/* Goes on with t, which has waited or is new. */
static void go_to(struct emu_running *b, struct emu_stack *from, struct emu_fiber *t,
                  bool for_good) {
    if (t->stack == NULL) t->stack = take_stack(b);
    emu_self = t;
    emu_stack_switch(from, t->stack, for_good);
}

[[noreturn]] static void report_deadlock(struct emu_running *b) {
    char text[1500];
    int n = snprintf(text, sizeof text,
                     "deadlock: %u of %u threads have ended, %u wait at __syncthreads()", b->n_done,
                     b->n_threads, b->n_barrier);
    int places = 0;
    for (unsigned w = 0; w < b->n_warps && places < 8; w++) {
        const struct emu_warp *warp = &b->warps[w];
        for (int kind = 0; kind < 2; kind++) {
            const uint32_t set = kind == 0 ? warp->at_barrier : warp->arrived;
            if (set == 0 || n >= (int)sizeof text - 200) continue;
            const unsigned first = (unsigned)__builtin_ctz(set);
            const struct emu_fiber *t = warp->lane[first];
            n += snprintf(text + n, sizeof text - (size_t)n, "; warp %u: lanes %08x wait at %s:%d",
                          w, set, t->file, t->line);
            if (kind == 1)
                n += snprintf(text + n, sizeof text - (size_t)n, " for lanes %08x",
                              warp->mask[first]);
            places++;
        }
    }
    emu_self = NULL;
    emu_fail("%s", text);
}

static void check_barrier(struct emu_running *b);

/* The thread that ran has ended. */
static void finish(struct emu_running *b, struct emu_fiber *t) {
    struct emu_warp *w = t->warp;
    const uint32_t bit = 1u << t->lane;
    for (uint32_t set = w->arrived; set != 0; set &= set - 1) {
        const unsigned lane = (unsigned)__builtin_ctz(set);
        if (w->mask[lane] & bit)
            emu_fail("ends, but lane %u waits for it at %s:%d (mask %08x)", lane,
                     w->lane[lane]->file, w->lane[lane]->line, w->mask[lane]);
    }
    w->done |= bit;
    b->n_done++;
    check_barrier(b);
}

/* Runs threads of the block on this stack until one that has waited must go on on its own. */
static void run_threads(void) {
    emu_stack_arrived();
    for (;;) {
        struct emu_running *b = emu_block_now;
        struct emu_fiber *t = emu_fiber_now();
        struct emu_stack *own = t->stack;
        if (EMU_TSAN) emu_epoch_thread_begins(b);
        b->job->call.run(b->job->call.kernel, b->job->call.args.get());
        if (EMU_TSAN) emu_epoch_thread_ends(b);
        t->stack = NULL;
        finish(b, t);
        t = pick(b);
        if (t != NULL && t->stack == NULL && !EMU_TSAN) {
            t->stack = own;
            emu_self = t;
            continue;
        }
        own->next = b->free_stacks;
        b->free_stacks = own;
        if (t != NULL) go_to(b, own, t, true);
        if (b->n_done != b->n_threads) report_deadlock(b);
        emu_self = NULL;
        emu_stack_switch(own, &b->host, true);
    }
}

/* The thread that runs cannot go on. */
static void wait(struct emu_running *b) {
    struct emu_fiber *t = emu_fiber_now();
    struct emu_fiber *next = pick(b);
    if (next == NULL) report_deadlock(b);
    go_to(b, t->stack, next, false);
}

static bool same_place(const char *file, int line, EMU_PLACE_ARG) {
    return line == emu_line && (file == emu_file || strcmp(file, emu_file) == 0);
}

/* ---- __syncthreads ---- */
static void check_barrier(struct emu_running *b) {
    if (b->n_barrier == 0 || b->n_barrier + b->n_done != b->n_threads) return;
    for (unsigned i = 0; i < b->n_warps; i++) {
        struct emu_warp *w = &b->warps[i];
        w->ready |= w->at_barrier;
        w->at_barrier = 0;
        set_runnable(b, w);
    }
    b->n_barrier = 0;
    b->barrier_phase ^= 1;
}

void emu_syncthreads(EMU_PLACE_ARG) {
    struct emu_running *b = emu_block_now;
    struct emu_fiber *t = emu_fiber_now();
    if (b->n_barrier != 0 && !same_place(b->barrier_file, b->barrier_line, EMU_HERE))
        emu_fail("divergent __syncthreads(): this thread at %s:%d, others wait at %s:%d", emu_file,
                 emu_line, b->barrier_file, b->barrier_line);
    b->barrier_file = emu_file;
    b->barrier_line = emu_line;
    t->file = emu_file;
    t->line = emu_line;
    t->warp->at_barrier |= 1u << t->lane;
    b->n_barrier++;
    char *edge = b->edges + 8 * b->barrier_phase;
    emu_release(edge);
    check_barrier(b);
    if (b->n_barrier != 0) {
        wait(b);
    } else {
        t->warp->ready &= ~(1u << t->lane);
        set_runnable(b, t->warp);
    }
    emu_acquire(edge);
}

/* ---- operations of a warp ---- */
static void check_lanes(const struct emu_warp *w, unsigned lane, uint32_t mask, emu_warp_fn *fn,
                        bool aligned, const char *what, EMU_PLACE_ARG) {
    for (uint32_t set = w->arrived; set != 0; set &= set - 1) {
        const unsigned other = (unsigned)__builtin_ctz(set);
        const struct emu_fiber *o = w->lane[other];
        /* One that does not wait for this lane, or that this lane does not wait for, may be met in a later operation. */
        if (!(mask >> other & 1) || !(w->mask[other] >> lane & 1)) continue;
        if (w->mask[other] != mask)
            emu_fail("%s at %s:%d with mask %08x, but lane %u waits at %s:%d with mask %08x", what,
                     emu_file, emu_line, mask, other, o->file, o->line, w->mask[other]);
        if (w->fn[other] != fn || (aligned && !same_place(o->file, o->line, EMU_HERE)))
            emu_fail("divergent %s at %s:%d: lane %u waits at %s:%d", what, emu_file, emu_line,
                     other, o->file, o->line);
    }
}

void emu_rendezvous(uint32_t mask, emu_warp_fn *fn, bool aligned, const char *what, EMU_PLACE_ARG) {
    struct emu_running *b = emu_block_now;
    struct emu_fiber *t = emu_fiber_now();
    struct emu_warp *w = t->warp;
    const unsigned lane = t->lane;
    if (!(mask >> lane & 1))
        emu_fail("%s at %s:%d: lane %u is not in its own mask %08x", what, emu_file, emu_line, lane,
                 mask);
    if (mask & w->done)
        emu_fail("%s at %s:%d: lanes %08x of the mask %08x have ended or do not exist", what,
                 emu_file, emu_line, mask & w->done, mask);
    if (w->arrived == 0) {
        w->uniform = true;
        w->first = lane;
    } else {
        const struct emu_fiber *f = w->lane[w->first];
        if (!w->uniform || w->mask[w->first] != mask || w->fn[w->first] != fn ||
            f->line != emu_line || f->file != emu_file) {
            w->uniform = false;
            check_lanes(w, lane, mask, fn, aligned, what, EMU_HERE);
        }
    }
    w->mask[lane] = mask;
    w->fn[lane] = fn;
    t->file = emu_file;
    t->line = emu_line;
    w->arrived |= 1u << lane;
    if ((w->arrived & mask) != mask) {
        wait(b);
        return;
    }
    fn(w, mask);
    w->arrived &= ~mask;
    w->ready |= mask & ~(1u << lane);
    set_runnable(b, w);
}

/* ---- blocks ---- */
static void begin_block(struct emu_running *b) {
    b->n_done = b->n_barrier = 0;
    b->barrier_phase = 0;
    b->runnable = 0;
    b->current = 0;
    for (unsigned i = 0; i < b->n_threads; i++) {
        struct emu_fiber *t = &b->threads[i];
        t->index =
            uint3{i % b->block.x, i / b->block.x % b->block.y, i / (b->block.x * b->block.y)};
        t->block = b;
        t->warp = &b->warps[i / 32];
        t->lane = i % 32;
        t->stack = NULL;
        t->copies.clear();
        t->first_copy = 0;
        t->groups = 0;
        t->warp->lane[t->lane] = t;
    }
    for (unsigned i = 0; i < b->n_warps; i++) {
        struct emu_warp *w = &b->warps[i];
        const unsigned n = b->n_threads - 32 * i;
        w->fresh = n >= 32 ? 0xffffffffu : (1u << n) - 1;
        w->done = ~w->fresh;
        w->ready = w->at_barrier = w->arrived = 0;
        w->phase = 0;
        set_runnable(b, w);
    }
}

static void run_block(struct emu_running *b) {
    emu_block_now = b;
    if (EMU_TSAN) emu_epoch_begin_block(b);
    begin_block(b);
    emu_shared_begin(b);
    emu_release(b->edges + emu_edge_start);
    go_to(b, &b->host, pick(b), false);
    emu_shared_end(b);
    emu_block_now = NULL;
}

/* Block number i of the order in which they run: a step that has no divisor in common with their number reaches all. */
static uint64_t nth_block(struct emu_order order, uint64_t i, uint64_t n) {
    if (order.kind == EMU_FORWARD) return i;
    if (order.kind == EMU_REVERSE) return n - 1 - i;
    uint64_t state = order.seed, step = emu_random(&state) % n | 1, start = emu_random(&state) % n;
    for (;; step += 2) {
        uint64_t a = step, c = n;
        while (c != 0) {
            const uint64_t r = a % c;
            a = c;
            c = r;
        }
        if (a == 1) break;
    }
    return (uint64_t)((start + (unsigned __int128)i * step) % n);
}

static struct emu_running *block_of_this_thread(void) {
    static __thread struct emu_running *mine;
    if (mine == NULL) {
        mine = new struct emu_running();
        static char no_edges[emu_edge_bytes];
        mine->edges = no_edges;
        emu_stack_host(&mine->host);
        emu_trap_faults();
        emu_trap_stack();
    }
    return mine;
}

static void prepare(struct emu_running *b, const struct emu_job *job) {
    b->job = job;
    b->grid = job->grid;
    b->block = job->block;
    b->order = emu_get_order();
    b->random = b->order.seed;
    b->n_threads = job->block.x * job->block.y * job->block.z;
    b->n_warps = (b->n_threads + 31) / 32;
    if (b->threads.size() < b->n_threads) b->threads.resize(b->n_threads);
    if (b->warps.size() < b->n_warps) b->warps.resize(b->n_warps);
}

/* Runs blocks until none is left; `next` counts them over all host threads. */
static void run_blocks(const struct emu_job *job, uint64_t *next) {
    struct emu_running *b = block_of_this_thread();
    prepare(b, job);
    const uint64_t n = (uint64_t)job->grid.x * job->grid.y * job->grid.z;
    if (EMU_TSAN) emu_epoch_begin_kernel(b);
    for (;;) {
        const uint64_t i = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED);
        if (i >= n) break;
        const uint64_t k = nth_block(b->order, i, n);
        b->index = uint3{(unsigned)(k % job->grid.x), (unsigned)(k / job->grid.x % job->grid.y),
                         (unsigned)(k / ((uint64_t)job->grid.x * job->grid.y))};
        run_block(b);
    }
    if (EMU_TSAN) emu_epoch_end_kernel(b);
}

/* ---- host threads that share the blocks of a launch ---- */
struct host_threads {
    std::mutex lock;
    std::condition_variable work, idle;
    const struct emu_job *job;
    uint64_t next, launch;
    unsigned n, busy;
};

/* Never destroyed: at the program's end the threads still wait in it. */
static struct host_threads &pool = *new struct host_threads();

static void worker(void) {
    uint64_t seen = 0;
    std::unique_lock<std::mutex> hold(pool.lock);
    for (;;) {
        while (pool.launch == seen) pool.work.wait(hold);
        seen = pool.launch;
        const struct emu_job *job = pool.job;
        hold.unlock();
        run_blocks(job, &pool.next);
        hold.lock();
        if (--pool.busy == 0) pool.idle.notify_one();
    }
}

static unsigned n_workers(void) {
    const char *text = getenv("EMU_THREADS");
    if (text == NULL || EMU_TSAN || EMU_COUNT) return 0;
    const int n = atoi(text);
    return n < 1 || n > 64 ? 0 : (unsigned)(n - 1);
}

void emu_run(const struct emu_job *job) {
    static const unsigned wanted = n_workers();
    const uint64_t n = (uint64_t)job->grid.x * job->grid.y * job->grid.z;
    if (wanted == 0 || n < 2) {
        uint64_t next = 0;
        run_blocks(job, &next);
        return;
    }
    std::unique_lock<std::mutex> hold(pool.lock);
    for (; pool.n < wanted; pool.n++) std::thread(worker).detach();
    pool.job = job;
    pool.next = 0;
    pool.busy = pool.n;
    pool.launch++;
    pool.work.notify_all();
    hold.unlock();
    run_blocks(job, &pool.next);
    hold.lock();
    while (pool.busy != 0) pool.idle.wait(hold);
}
