/* SPDX-License-Identifier: MIT
 * A run is opened under the lock; its tasks are dealt out in lanes, neighbours to the same worker, and one lane has
 * the same share in every run: what a worker has written lies near for it in the next run. A worker whose lane is spent
 * goes on with the others' lanes. The caller works too; when all lanes are spent it closes the run and waits only for
 * the workers that have joined it. So a worker that is slow to wake (a busy machine, more threads than cores) costs no
 * time: the others take its tasks, it finds the run closed and sleeps on.
 *
 * The next run, and the end of one, are mostly a few microseconds away, less than falling asleep and waking take: both
 * sides look out for them for a moment before they sleep, where every thread has a core. */
#include "core/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/mem.h"

#define MAX_THREADS 4096
#define MAX_CPUS    (1 << 20)
#define MOMENT_NS   20000 /* about what a sleep costs */

struct worker {
    alignas(64) atomic_size_t next; /* of the tasks [next, end) in its lane of the open run */
    size_t end;
    struct pool *pool;
    int index;
    pthread_t thread;
};

struct pool {
    alignas(64) atomic_ulong posted; /* runs opened, counted after the lock was let go */
    alignas(64) atomic_ulong left;   /* workers that have left a run, of all runs */

    /* All below: under `lock`. fn, context and the lanes' ends stay as they are while a run is open. */
    alignas(64) pthread_mutex_t lock;
    pthread_cond_t work, done;
    pool_fn *fn;
    void *context;
    unsigned long run;    /* number of the present run */
    unsigned long joined; /* workers that have joined a run, of all runs */
    bool open, stop;

    bool looks_out;
    int n_threads, n_started; /* workers 1 .. n_started have a thread */
    struct worker *workers;   /* (n_threads); [0] is the caller */
};

static void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static int64_t nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Returns once *count has come to `wanted`, or after a moment. */
static void look_out(const struct pool *p, const atomic_ulong *count, unsigned long wanted) {
    if (!p->looks_out) return;
    const int64_t end = nanoseconds() + MOMENT_NS;
    while (atomic_load_explicit(count, memory_order_acquire) < wanted && nanoseconds() < end)
        pause_briefly();
}

static void take_tasks(struct pool *p, pool_fn *fn, void *context, int worker) {
    for (int i = 0; i < p->n_threads; i++) {
        struct worker *lane = &p->workers[(worker + i) % p->n_threads];
        size_t task;
        while ((task = atomic_fetch_add_explicit(&lane->next, 1, memory_order_relaxed)) < lane->end)
            fn(context, task, worker);
    }
}

static void *worker_main(void *argument) {
    struct worker *w = argument;
    struct pool *p = w->pool;
    unsigned long seen = 0;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->stop && !(p->open && p->run != seen)) pthread_cond_wait(&p->work, &p->lock);
        if (p->stop) break;
        seen = p->run;
        p->joined++;
        pool_fn *fn = p->fn;
        void *context = p->context;
        pthread_mutex_unlock(&p->lock);
        take_tasks(p, fn, context, w->index);
        pthread_mutex_lock(&p->lock);
        if (atomic_fetch_add_explicit(&p->left, 1, memory_order_release) + 1 == p->joined)
            pthread_cond_signal(&p->done);
        pthread_mutex_unlock(&p->lock);
        look_out(p, &p->posted, seen + 1);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* Signals (Ctrl-C, Slurm's warning) are for the main thread: workers are born with all of them blocked. */
static enum ecg_status start_workers(struct pool *p) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    for (int i = 1; i < p->n_threads && error == 0; i++) {
        error = pthread_create(&p->workers[i].thread, NULL, worker_main, &p->workers[i]);
        if (error == 0) p->n_started = i;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "can't start thread %d of %d: %s", p->n_started + 2, p->n_threads,
                    strerror(error));
}

/* Cores in the affinity mask; the mask is grown until the kernel's fits. */
static int affinity_cores(void) {
    for (int cpus = 1024; cpus <= MAX_CPUS; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (!set) return 1;
        size_t bytes = CPU_ALLOC_SIZE((size_t)cpus);
        int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (count > 0) return count;
    }
    return 1;
}

/* A lock that is held for a few instructions is worth a few more tries before sleeping. */
static void init_lock(pthread_mutex_t *lock) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

enum ecg_status pool_create(struct pool **out, int n_threads) {
    *out = NULL;
    if (n_threads == 0) n_threads = pool_default_threads();
    if (n_threads < 1 || n_threads > MAX_THREADS)
        return ecg_fail(ECG_ERR_CONFIG, "%d threads: must be 1 to %d, or 0 for all allowed cores",
                        n_threads, MAX_THREADS);
    struct pool *p;
    TRY(MEM_NEW(&p, 1));
    enum ecg_status status = MEM_NEW(&p->workers, (size_t)n_threads);
    if (status != ECG_OK) {
        free(p);
        return status;
    }
    p->n_threads = n_threads;
    p->looks_out = n_threads <= affinity_cores();
    atomic_init(&p->posted, 0);
    atomic_init(&p->left, 0);
    for (int i = 0; i < n_threads; i++) {
        atomic_init(&p->workers[i].next, 0);
        p->workers[i].pool = p;
        p->workers[i].index = i;
    }
    init_lock(&p->lock);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->done, NULL);
    status = start_workers(p);
    if (status != ECG_OK)
        pool_destroy(p);
    else
        *out = p;
    return status;
}

void pool_destroy(struct pool *p) {
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 1; i <= p->n_started; i++) pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p);
}

int pool_threads(const struct pool *p) {
    return p->n_threads;
}

/* Lanes of nearly equal length, in order. */
static void deal(struct pool *p, size_t n_tasks) {
    const size_t n = (size_t)p->n_threads, each = n_tasks / n, more = n_tasks % n;
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        atomic_store_explicit(&p->workers[i].next, from, memory_order_relaxed);
        from += each + (i < more);
        p->workers[i].end = from;
    }
}

void pool_run(struct pool *p, size_t n_tasks, pool_fn *fn, void *context) {
    if (p->n_threads == 1 || n_tasks <= 1) {
        for (size_t task = 0; task < n_tasks; task++) fn(context, task, 0);
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->fn = fn;
    p->context = context;
    deal(p, n_tasks);
    const unsigned long run = ++p->run;
    p->open = true;
    pthread_mutex_unlock(&p->lock);
    atomic_store_explicit(&p->posted, run, memory_order_release);
    if (n_tasks < (size_t)p->n_threads)
        for (size_t i = 1; i < n_tasks; i++) pthread_cond_signal(&p->work);
    else
        pthread_cond_broadcast(&p->work);

    take_tasks(p, fn, context, 0);

    pthread_mutex_lock(&p->lock);
    p->open = false;
    const unsigned long joined = p->joined;
    pthread_mutex_unlock(&p->lock);
    look_out(p, &p->left, joined);
    if (atomic_load_explicit(&p->left, memory_order_acquire) == joined) return;
    pthread_mutex_lock(&p->lock);
    while (atomic_load_explicit(&p->left, memory_order_acquire) < joined)
        pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

int pool_default_threads(void) {
    int cores = affinity_cores();
    const char *slurm = getenv("SLURM_CPUS_PER_TASK");
    if (slurm) {
        char *end;
        long n = strtol(slurm, &end, 10);
        if (end != slurm && *end == 0 && n >= 1 && n < cores) cores = (int)n;
    }
    return cores < MAX_THREADS ? cores : MAX_THREADS;
}
