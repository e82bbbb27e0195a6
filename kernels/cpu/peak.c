/* SPDX-License-Identifier: MIT
 * Each figure: short runs on all threads until the time is up, the best one counts. Arithmetic runs are sized so that one
 * outlasts the pool's waking many times. */
#include "kernels/cpu/peak.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/peak_kernel.h"

#define RUN_SECONDS                                                                                \
    0.002 /* of an arithmetic run: short, so that some fall between a neighbour's turns */

enum {
    TRIAD_FLOATS = 1 << 24, /* 64 MB an array */
    TRIAD_TASK = 1 << 16,   /* floats of one task; divides TRIAD_FLOATS */
    SINK = 16               /* floats a thread: a cache line of its own */
};

/* What a level computes with. A level by another name has no peak here, which peak_measure reports. */
static const struct peak_level {
    const char *name;
    const struct peak_kernel *fp32, *bf16; /* bf16 NULL: no such instruction */
} levels[] = {{"avx512bf16", &peak_avx512, &peak_avx512bf16},
              {"avx512", &peak_avx512, NULL},
              {"avx2", &peak_avx2, NULL},
              {"portable", &peak_portable, NULL}};
enum { N_LEVELS = sizeof levels / sizeof *levels };

static double clock_seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double now(void) {
    return clock_seconds(CLOCK_MONOTONIC);
}

/* One pass of all threads over something; `amount` is what it does, in GFLOP or GB. */
struct run {
    struct pool *pool;
    size_t n_tasks;
    pool_fn *fn;
    void *context;
    double amount;
};

/* Share of the processor that this process gets while all threads compute. */
static double processor_share(double start, double start_cpu, int n_threads) {
    const double share =
        (clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - start_cpu) / ((now() - start) * n_threads);
    return share < 1 ? share : 1;
}

static double timed(const struct run *r) {
    const double start = now();
    pool_run(r->pool, r->n_tasks, r->fn, r->context);
    return now() - start;
}

static double best_rate(const struct run *r, double seconds) {
    double best = timed(r); /* wakes threads and clocks, touches memory */
    for (const double end = now() + seconds; now() < end;) {
        const double t = timed(r);
        if (t < best) best = t;
    }
    return r->amount / best;
}

/* ------------------------------------------------------------------ arithmetic */

struct arithmetic {
    const struct peak_kernel *kernel;
    size_t rounds;
    float *sink; /* (tasks, SINK) */
};

static void arithmetic_task(void *context, size_t task, int worker) {
    const struct arithmetic *a = context;
    (void)worker;
    a->kernel->run(a->rounds, a->sink + task * SINK);
}

static enum ecg_status arithmetic_peak(struct pool *pool, const struct peak_kernel *kernel,
                                       double seconds, double *gflops) {
    const size_t n = (size_t)pool_threads(pool);
    struct arithmetic a = {.kernel = kernel, .rounds = 1000};
    TRY(MEM_NEW(&a.sink, n * SINK));
    struct run r = {.pool = pool, .n_tasks = n, .fn = arithmetic_task, .context = &a};
    while (timed(&r) < RUN_SECONDS) a.rounds *= 2;
    r.amount = 1e-9 * kernel->flop * (double)a.rounds * (double)n;
    *gflops = best_rate(&r, seconds);
    free(a.sink);
    return ECG_OK;
}

/* ------------------------------------------------------------------ memory */

struct triad {
    float *a, *b, *c; /* (TRIAD_FLOATS) each */
};

static void triad_task(void *context, size_t task, int worker) {
    const struct triad *t = context;
    const size_t first = task * TRIAD_TASK;
    float *restrict a = t->a + first;
    const float *restrict b = t->b + first, *restrict c = t->c + first;
    (void)worker;
    for (size_t i = 0; i < TRIAD_TASK; i++) a[i] = b[i] + 3 * c[i];
}

#ifdef __SSE__
static void triad_stream_task(void *context, size_t task, int worker) {
    const struct triad *t = context;
    const __m128 s = _mm_set1_ps(3);
    (void)worker;
    for (size_t i = task * TRIAD_TASK, end = i + TRIAD_TASK; i < end; i += 4)
        _mm_stream_ps(t->a + i,
                      _mm_add_ps(_mm_load_ps(t->b + i), _mm_mul_ps(s, _mm_load_ps(t->c + i))));
    _mm_sfence();
}
#else
#define triad_stream_task triad_task
#endif

static void update_task(void *context, size_t task, int worker) {
    const struct triad *t = context;
    float *a = t->a + task * TRIAD_TASK;
    (void)worker;
    for (size_t i = 0; i < TRIAD_TASK; i++) a[i] = 0.5f * a[i] + 1;
}

static enum ecg_status memory_peak(struct pool *pool, double seconds, double *gbs) {
    static const struct {
        pool_fn *fn;
        int arrays; /* moved once each */
    } patterns[] = {{triad_task, 3}, {triad_stream_task, 3}, {update_task, 2}};
    enum { N_PATTERNS = sizeof patterns / sizeof *patterns };
    struct triad t = {.a = NULL};
    struct run r = {.pool = pool, .n_tasks = TRIAD_FLOATS / TRIAD_TASK, .context = &t};
    enum ecg_status status;
    TRY_OUT(MEM_NEW(&t.a, TRIAD_FLOATS));
    TRY_OUT(MEM_NEW(&t.b, TRIAD_FLOATS));
    TRY_OUT(MEM_NEW(&t.c, TRIAD_FLOATS));
    /* Pages that were never written all read as one page of zeros, which stays in the cache. */
    memset(t.b, 0x3f, sizeof(float) * TRIAD_FLOATS);
    memset(t.c, 0x3f, sizeof(float) * TRIAD_FLOATS);
    for (int i = 0; i < N_PATTERNS; i++) {
        r.fn = patterns[i].fn;
        r.amount = 1e-9 * patterns[i].arrays * sizeof(float) * TRIAD_FLOATS;
        const double rate = best_rate(&r, seconds / N_PATTERNS);
        if (rate > *gbs) *gbs = rate;
    }
out:
    free(t.a);
    free(t.b);
    free(t.c);
    return status;
}

/* ------------------------------------------------------------------ all */

enum ecg_status peak_measure(struct peak *peak, int n_threads, double seconds) {
    const struct level *level;
    const struct peak_level *found = NULL;
    struct pool *pool = NULL;
    enum ecg_status status;
    *peak = (struct peak){.level = NULL};
    TRY(cpu_dispatch(&level));
    for (int i = 0; i < N_LEVELS && !found; i++)
        if (strcmp(levels[i].name, level->name) == 0) found = &levels[i];
    if (!found) return ecg_fail(ECG_ERR_FAIL, "no peak is known for the level %s", level->name);
    TRY(pool_create(&pool, n_threads));
    peak->level = level->name;
    peak->n_threads = pool_threads(pool);
    const double start = now(), start_cpu = clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
    TRY_OUT(arithmetic_peak(pool, found->fp32, seconds, &peak->fp32));
    peak->share = processor_share(start, start_cpu, peak->n_threads);
    if (found->bf16) TRY_OUT(arithmetic_peak(pool, found->bf16, seconds, &peak->bf16));
    TRY_OUT(memory_peak(pool, seconds, &peak->memory));
out:
    pool_destroy(pool);
    return status;
}
