/* SPDX-License-Identifier: MIT
 * A run is opened under the lock, then every worker that is awake takes tasks from one atomic counter.
 * The caller works too; when the counter is spent it closes the run and waits only for the workers that
 * have joined it. So a worker that is slow to wake (a busy machine, more threads than cores) costs no
 * time: it finds the run closed and sleeps on. */
#include "core/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

#define MAX_THREADS 4096
#define MAX_CPUS    (1 << 20)

struct worker {
    struct pool *pool;
    int index;
    pthread_t thread;
};

struct pool {
    alignas(64) atomic_size_t next; /* the next task of the open run */

    /* All below: under `lock`. fn, context and n_tasks stay as they are while a run is open. */
    alignas(64) pthread_mutex_t lock;
    pthread_cond_t work, done;
    pool_fn *fn;
    void *context;
    size_t n_tasks;
    unsigned long run; /* number of the present run */
    int joined;        /* workers inside the present run */
    bool open, stop;

    int n_threads, n_started; /* workers 1 .. n_started have a thread */
    struct worker *workers;   /* (n_threads); [0] is the caller */
};

static void take_tasks(struct pool *p, pool_fn *fn, void *context, size_t n_tasks, int worker) {
    size_t task;
    while ((task = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < n_tasks)
        fn(context, task, worker);
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
        size_t n_tasks = p->n_tasks;
        pthread_mutex_unlock(&p->lock);
        take_tasks(p, fn, context, n_tasks, w->index);
        pthread_mutex_lock(&p->lock);
        if (--p->joined == 0) pthread_cond_signal(&p->done);
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
        p->workers[i] = (struct worker){.pool = p, .index = i};
        error = pthread_create(&p->workers[i].thread, NULL, worker_main, &p->workers[i]);
        if (error == 0) p->n_started = i;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "can't start thread %d of %d: %s", p->n_started + 2, p->n_threads,
                    strerror(error));
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
    atomic_init(&p->next, 0);
    pthread_mutex_init(&p->lock, NULL);
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

void pool_run(struct pool *p, size_t n_tasks, pool_fn *fn, void *context) {
    if (p->n_threads == 1 || n_tasks <= 1) {
        for (size_t task = 0; task < n_tasks; task++) fn(context, task, 0);
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->fn = fn;
    p->context = context;
    p->n_tasks = n_tasks;
    p->run++;
    p->open = true;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    pthread_mutex_unlock(&p->lock);
    if (n_tasks < (size_t)p->n_threads)
        for (size_t i = 1; i < n_tasks; i++) pthread_cond_signal(&p->work);
    else
        pthread_cond_broadcast(&p->work);

    take_tasks(p, fn, context, n_tasks, 0);

    pthread_mutex_lock(&p->lock);
    p->open = false;
    while (p->joined > 0) pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
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
