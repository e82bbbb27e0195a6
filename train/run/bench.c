/* SPDX-License-Identifier: MIT
 * The parts in turn, and what they share. */
#include "train/run/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/conf.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/rng.h"
#include "kernels/find.h"
#include "train/run/bench_private.h"
#include "train/run/config.h"
#include "train/run/version.h"

enum { RUNS_MAX = 999, REPEATS_MAX = 100, COPIES_MAX = 64, FILL = 1 << 20 };

/* Of calls between two waits for a GPU. */
#define GPU_SECONDS 2e-3

const struct bench_model bench_models[] = {{"published",
                                            {.n_leads = 12,
                                             .length = 5000,
                                             .base_filters = 64,
                                             .n_stages = 7,
                                             .filters = {64, 160, 160, 400, 400, 1024, 1024},
                                             .blocks = {2, 2, 2, 3, 3, 4, 4},
                                             .kernel_size = 16,
                                             .stride = 2,
                                             .group_width = 16,
                                             .n_outputs = 150},
                                            16,
                                            256},
                                           {"ptbxl_superclass",
                                            {.n_leads = 12,
                                             .length = 1000,
                                             .base_filters = 32,
                                             .n_stages = 5,
                                             .filters = {32, 64, 64, 128, 128},
                                             .blocks = {1, 1, 2, 2, 2},
                                             .kernel_size = 16,
                                             .stride = 2,
                                             .group_width = 16,
                                             .n_outputs = 5},
                                            32,
                                            1024},
                                           {.name = NULL}};

const char *const bench_dtype_names[BENCH_DTYPES] = {"fp32", "bf16"};

int bench_batch(const struct bench *b, const struct bench_model *m) {
    return b->o->batch > 0 ? b->o->batch : b->gpu != NULL ? m->gpu_batch : m->batch;
}

double bench_peak(const struct bench *b, enum ops_dtype dtype) {
    return dtype == OPS_BF16 && b->peak.bf16 > 0 ? b->peak.bf16 : b->peak.fp32;
}

/* ------------------------------------------------------------------ times */

static int compare_seconds(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

enum ecg_status bench_median(int runs, double seconds, enum ecg_status (*run)(void *),
                             void *context, double *median) {
    double t[RUNS_MAX];
    int n = 0;
    TRY(run(context));
    for (double end = log_clock() + seconds; n < runs || log_clock() < end;) {
        double start = log_clock();
        TRY(run(context));
        t[n++] = log_clock() - start;
        if (n == RUNS_MAX) break;
    }
    qsort(t, (size_t)n, sizeof(*t), compare_seconds);
    *median = t[n / 2];
    return ECG_OK;
}

struct repeated {
    enum ecg_status (*run)(void *);
    void *context;
    const struct ops *ops;
    struct ops_dev *dev;
    int times;
};

static enum ecg_status run_repeated(void *context) {
    const struct repeated *r = context;
    for (int i = 0; i < r->times; i++) TRY(r->run(r->context));
    return r->ops->sync(r->dev);
}

enum ecg_status bench_op(const struct bench *b, struct ops_dev *dev, enum ecg_status (*run)(void *),
                         void *context, double *seconds) {
    struct repeated r = {.run = run, .context = context, .ops = b->ops, .dev = dev, .times = 1};
    const double least = b->o->quick ? 0 : b->gpu != NULL ? 0.01 : 0.02;
    if (b->gpu != NULL) {
        TRY(run_repeated(&r));
        const double start = log_clock();
        TRY(run_repeated(&r));
        const double times = GPU_SECONDS / (log_clock() - start);
        r.times = times < 1 ? 1 : times > REPEATS_MAX ? REPEATS_MAX : (int)times;
    }
    TRY(bench_median(b->o->quick ? 1 : 5, least, run_repeated, &r, seconds));
    *seconds /= r.times;
    return ECG_OK;
}

int bench_copies(const struct bench *b, double bytes) {
    if (b->gpu == NULL) return 1;
    const double copies = ceil(2 * (double)b->card.l2 / bytes);
    return copies < 1 ? 1 : copies > COPIES_MAX ? COPIES_MAX : (int)copies;
}

/* ------------------------------------------------------------------ input */

enum ecg_status bench_fill(const struct ops *ops, struct ops_dev *dev, enum ops_dtype dtype,
                           void *to, size_t n) {
    struct rng r;
    char *host = NULL;
    const size_t item = dtype == OPS_BF16 ? sizeof(uint16_t) : sizeof(float);
    const size_t made = n < FILL ? n : FILL;
    TRY(MEM_NEW(&host, n * item));
    rng_init(&r, 1, RNG_INIT, 0, 0);
    for (size_t i = 0; i < made; i++) {
        float x = (float)rng_uniform(&r) - 0.5f;
        uint32_t bits;
        memcpy(&bits, &x, sizeof(bits));
        const uint16_t half = (uint16_t)(bits >> 16);
        memcpy(host + i * item, dtype == OPS_BF16 ? (const void *)&half : &x, item);
    }
    for (size_t i = made; i < n; i += made)
        memcpy(host + i * item, host, (n - i < made ? n - i : made) * item);
    enum ecg_status status = ops->upload(dev, to, host, n * item);
    free(host);
    return status;
}

int16_t bench_sample(uint64_t i) {
    uint64_t z = (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (int16_t)((z ^ z >> 31) >> 48);
}

/* ------------------------------------------------------------------ output */

void bench_put(struct bench *b, const char *key, double value) {
    json_put_key(&b->w, key);
    json_put_number(&b->w, value);
}

void bench_put_rate(struct bench *b, const char *key, const char *unit, double rate, double peak,
                    double seconds) {
    json_put_key(&b->w, key);
    json_begin_object(&b->w);
    bench_put(b, unit, rate);
    bench_put(b, "percent_of_peak", 100 * rate / peak);
    bench_put(b, "seconds", seconds);
    json_end_object(&b->w);
}

void bench_put_text(struct bench *b, const char *key, const char *text) {
    json_put_key(&b->w, key);
    if (text != NULL)
        json_put_string(&b->w, text);
    else
        json_put_null(&b->w);
}

/* The processor's name, NULL where /proc does not say. */
static const char *processor(char *line, int n) {
    FILE *f = fopen("/proc/cpuinfo", "r");
    const char *name = NULL;
    while (f != NULL && name == NULL && fgets(line, n, f) != NULL)
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':') != NULL)
            name = strchr(line, ':') + 1 + strspn(strchr(line, ':') + 1, " \t");
    if (f != NULL) fclose(f);
    line[strcspn(line, "\n")] = 0;
    return name;
}

static void print_peaks(struct bench *b) {
    const struct peak *p = &b->peak;
    char line[256] = "";
    if (!b->o->json) {
        printf("%s, %s, %d %s: peaks %.1f GFLOP/s fp32, ", b->o->device, p->level, p->n_threads,
               p->n_threads == 1 ? "thread" : "threads", p->fp32);
        if (p->bf16 != 0)
            printf("%.1f GFLOP/s bf16, ", p->bf16);
        else
            printf("bf16 not on this level, ");
        printf("%.1f GB/s memory\n", p->memory);
        return;
    }
    bench_put_text(b, "processor", processor(line, sizeof(line)));
    bench_put_text(b, "level", p->level);
    json_put_key(&b->w, "threads");
    json_put_integer(&b->w, p->n_threads);
    json_put_key(&b->w, "peaks");
    json_begin_object(&b->w);
    bench_put(b, "fp32_gflops", p->fp32);
    bench_put(b, "bf16_gflops", p->bf16 != 0 ? p->bf16 : NAN);
    bench_put(b, "memory_gb_s", p->memory);
    bench_put(b, "processor_share", p->share);
    json_end_object(&b->w);
}

/* ------------------------------------------------------------------ parts */

static enum ecg_status measure_host(struct bench *b) {
    TRY(peak_measure(&b->peak, b->o->threads, b->o->quick ? 0.02 : 0.5));
    if (b->peak.share < 0.9)
        log_warn(
            "bench: %d threads got %.0f %% of their time on the processor: the machine is busy or "
            "has fewer cores, figures are uncertain",
            b->peak.n_threads, 100 * b->peak.share);
    return ECG_OK;
}

static enum ecg_status find_model(const char *name, const struct bench_model **out) {
    const char *names[8];
    char hint[CONF_HINT_MAX];
    int n = 0;
    for (const struct bench_model *m = bench_models; m->name != NULL; m++) {
        *out = m;
        if (strcmp(m->name, name) == 0) return ECG_OK;
        names[n++] = m->name;
    }
    return ecg_fail(ECG_ERR_USAGE, "--model: %s is not known%s", name,
                    conf_did_you_mean(hint, name, names, n));
}

/* One table of `ops`, an object in JSON. */
static enum ecg_status
ops_table(struct bench *b, const char *key,
          enum ecg_status (*table)(struct bench *, const struct bench_model *, enum ops_dtype),
          const struct bench_model *m, enum ops_dtype dtype) {
    if (b->o->json) {
        json_put_key(&b->w, key);
        json_begin_object(&b->w);
    }
    TRY(table(b, m, dtype));
    if (b->o->json) json_end_object(&b->w);
    return ECG_OK;
}

static enum ecg_status bench_ops(struct bench *b) {
    const struct bench_model *m;
    enum ops_dtype only;
    TRY(find_model(b->o->model != NULL ? b->o->model : bench_models->name, &m));
    TRY(config_precision(b->o->precision, &only));
    if (b->o->json) {
        json_put_key(&b->w, "ops");
        json_begin_object(&b->w);
        bench_put_text(b, "model", m->name);
        json_put_key(&b->w, "batch");
        json_put_integer(&b->w, bench_batch(b, m));
    }
    for (int t = 0; t < BENCH_DTYPES; t++) {
        if (b->o->precision != NULL && t != (int)only) continue;
        if (b->o->json) {
            json_put_key(&b->w, bench_dtype_names[t]);
            json_begin_object(&b->w);
        } else {
            printf("\n%s, batch %d, %s: %% of %.1f GFLOP/s and of %.1f GB/s\n", m->name,
                   bench_batch(b, m), bench_dtype_names[t], bench_peak(b, t), b->peak.memory);
        }
        TRY(ops_table(b, "convolutions", bench_convs, m, t));
        TRY(ops_table(b, "elementwise", bench_elements, m, t));
        if (b->o->json) json_end_object(&b->w);
    }
    if (b->o->json) json_end_object(&b->w);
    return ECG_OK;
}

static enum ecg_status run_parts(struct bench *b) {
    const struct bench_options *o = b->o;
    bool all = !o->ops && !o->train && !o->loader && !o->kernels;
    TRY(b->gpu != NULL ? bench_gpu_peaks(b) : measure_host(b));
    if (o->json) {
        bench_put_text(b, "version", EINTHOVEN_VERSION);
        bench_put_text(b, "git", version_git());
        bench_put_text(b, "device", o->device);
    }
    if (b->gpu != NULL)
        bench_gpu_print(b);
    else
        print_peaks(b);
    if (o->ops || all) TRY(bench_ops(b));
    if (o->train || o->kernels || all) TRY(bench_train(b));
    if (o->loader || (all && o->data != NULL)) TRY(bench_loader(b));
    return ECG_OK;
}

enum ecg_status bench_run(const struct bench_options *o) {
    struct bench b = {.o = o, .w = {.pretty = true}};
    const struct bench_model *m;
    enum ops_dtype dtype;
    char *text = NULL;
    if (o->model != NULL) TRY(find_model(o->model, &m));
    TRY(config_precision(o->precision, &dtype));
    TRY(ops_find(&b.ops, o->device));
    if (strcmp(b.ops->name, "cuda") == 0) TRY(ops_cuda_bench(&b.gpu));
    if (o->kernels && b.gpu == NULL)
        return ecg_fail(ECG_ERR_USAGE, "--kernels: only device cuda has kernels to time");
    if (o->json) json_begin_object(&b.w);
    enum ecg_status status = run_parts(&b);
    if (status != ECG_OK || !o->json) {
        json_writer_free(&b.w);
        return status;
    }
    json_end_object(&b.w);
    TRY(json_writer_take(&b.w, &text));
    fputs(text, stdout);
    free(text);
    return ECG_OK;
}
