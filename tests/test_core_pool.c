/* SPDX-License-Identifier: MIT
 * The thread pool: every task runs exactly once, by a worker of its own number, for 1 to 8 threads, for
 * few and many tasks, and for runs that follow each other closely (where a late worker of one run might
 * take a task of the next). Worth running under the thread sanitizer: `make tsan`. */
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/log.h"
#include "core/pool.h"
#include "tests/support/check.h"

#define MAX_TASKS 5000

struct job {
    int runs[MAX_TASKS]; /* plain ints: two workers on one task would be a race */
    int n_threads, round;
    atomic_int inside[16]; /* tasks that a worker is in: never more than one */
    atomic_int wrong;
};

static void one_task(void *context, size_t task, int worker) {
    struct job *j = context;
    if (worker < 0 || worker >= j->n_threads) {
        atomic_fetch_add(&j->wrong, 1);
        return;
    }
    if (atomic_fetch_add(&j->inside[worker], 1) != 0) atomic_fetch_add(&j->wrong, 1);
    j->runs[task] += j->round;
    atomic_fetch_sub(&j->inside[worker], 1);
}

static void every_task_once(void) {
    static const size_t counts[] = {0, 1, 2, 3, 7, 8, 9, 64, 5000};
    static struct job j;
    for (int n_threads = 1; n_threads <= 8; n_threads++) {
        struct pool *p;
        if (!CHECK_OK(pool_create(&p, n_threads))) return;
        CHECK(pool_threads(p) == n_threads);
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            memset(&j, 0, sizeof j);
            j.n_threads = n_threads;
            int total = 0, rounds = counts[c] > 100 ? 5 : 60;
            for (j.round = 1; j.round <= rounds; j.round++) {
                pool_run(p, counts[c], one_task, &j);
                total += j.round;
            }
            size_t bad = 0;
            for (size_t i = 0; i < MAX_TASKS; i++) bad += j.runs[i] != (i < counts[c] ? total : 0);
            CHECK(bad == 0 && j.wrong == 0);
        }
        pool_destroy(p);
    }
    pool_destroy(NULL);
}

struct sums {
    const double *x;
    double *part;
};

static void sum_chunk(void *context, size_t task, int worker) {
    struct sums *s = context;
    (void)worker;
    double sum = 0;
    for (size_t i = task * 100; i < task * 100 + 100; i++) sum += s->x[i];
    s->part[task] = sum;
}

/* A sum over fixed chunks has the same bits for any number of threads. */
static void same_bits_for_any_threads(void) {
    static double x[10000], part[100];
    double first = 0;
    for (int i = 0; i < 10000; i++) x[i] = 1.0 / (i + 1);
    for (int n_threads = 1; n_threads <= 8; n_threads++) {
        struct pool *p;
        if (!CHECK_OK(pool_create(&p, n_threads))) return;
        pool_run(p, 100, sum_chunk, &(struct sums){x, part});
        double sum = 0;
        for (int i = 0; i < 100; i++) sum += part[i];
        if (n_threads == 1) first = sum;
        CHECK(memcmp(&sum, &first, sizeof sum) == 0);
        pool_destroy(p);
    }
}

static void wait_for_both(void *context, size_t task, int worker) {
    atomic_int *arrived = context;
    (void)task, (void)worker;
    atomic_fetch_add(arrived, 1);
    struct timespec pause = {.tv_nsec = 100000};
    for (int i = 0; i < 100000 && atomic_load(arrived) < 2; i++) nanosleep(&pause, NULL);
}

/* Two tasks that wait for each other end only if they run at the same time. */
static void workers_work_together(void) {
    struct pool *p;
    if (!CHECK_OK(pool_create(&p, 2))) return;
    for (int i = 0; i < 20; i++) {
        atomic_int arrived = 0;
        pool_run(p, 2, wait_for_both, &arrived);
        CHECK(atomic_load(&arrived) == 2);
    }
    pool_destroy(p);
}

static void pools_come_and_go(void) {
    static struct job j;
    j.n_threads = 4;
    j.round = 1;
    for (int i = 0; i < 50; i++) {
        struct pool *p;
        if (!CHECK_OK(pool_create(&p, 4))) return;
        if (i % 2) pool_run(p, 10, one_task, &j);
        pool_destroy(p);
    }
    for (int i = 0; i < 10; i++) CHECK(j.runs[i] == 25);
}

static void block_test(void *context, size_t task, int worker) {
    sigset_t now;
    (void)task;
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    wait_for_both(context, task, worker);
    if (worker == 1 && !sigismember(&now, SIGTERM)) atomic_fetch_add((atomic_int *)context, 100);
}

/* SIGTERM must reach the main thread, which saves the state. */
static void workers_block_signals(void) {
    struct pool *p;
    atomic_int arrived = 0;
    if (!CHECK_OK(pool_create(&p, 2))) return;
    pool_run(p, 2, block_test, &arrived);
    CHECK(atomic_load(&arrived) == 2);
    sigset_t now;
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    CHECK(!sigismember(&now, SIGTERM));
    pool_destroy(p);
}

static void number_of_threads(void) {
    struct pool *p;
    CHECK_FAILS(pool_create(&p, -1), ECG_ERR_CONFIG, "-1 threads");
    CHECK_FAILS(pool_create(&p, 1 << 20), ECG_ERR_CONFIG, "must be 1 to");
    unsetenv("SLURM_CPUS_PER_TASK");
    int all = pool_default_threads();
    CHECK(all >= 1);
    check_note("%d cores allowed", all);
    setenv("SLURM_CPUS_PER_TASK", "1", 1);
    CHECK(pool_default_threads() == 1);
    static const char *const ignored[] = {"0", "-3", "x", "", "1x", "1000000"};
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) {
        setenv("SLURM_CPUS_PER_TASK", ignored[i], 1);
        CHECK(pool_default_threads() == all);
    }
    unsetenv("SLURM_CPUS_PER_TASK");
    if (!CHECK_OK(pool_create(&p, 0))) return;
    CHECK(pool_threads(p) == all);
    pool_destroy(p);
}

static void nothing(void *context, size_t task, int worker) {
    (void)context, (void)task, (void)worker;
}

/* Only printed: times of a shared machine are not to be tested. */
static void latency(void) {
    enum { N = 5000 };
    struct pool *p;
    if (!CHECK_OK(pool_create(&p, 2))) return;
    double start = log_clock();
    for (int i = 0; i < N; i++) pool_run(p, 2, nothing, NULL);
    check_note("a run of 2 tasks on 2 threads: %.2f us", (log_clock() - start) / N * 1e6);
    pool_destroy(p);
}

int main(void) {
    CASE(every_task_once);
    CASE(same_bits_for_any_threads);
    CASE(workers_work_together);
    CASE(pools_come_and_go);
    CASE(workers_block_signals);
    CASE(number_of_threads);
    CASE(latency);
    return check_finish();
}
