/* SPDX-License-Identifier: MIT
 * What a training step of the published network moves on device cuda, in bf16: the counting emulation runs one step at two
 * batch sizes, and the difference by the records between them is what a record costs (weights, partial sums and the
 * optimiser drop out). Distinct: 32-byte sectors of each launch, read and written, what DRAM moves at least; issued: the
 * sizes of all accesses, what L2 moves at most. With batches this small the weight gradients' partial sums still grow with
 * the batch, and are in the figures: in the second passes (.._sum_weights, .._splits), and as much again where they are written.
 *
 *     soak_cuda_bytes [SMALL LARGE]     batch sizes, 1 and 2: 80 to 110 s of CPU time each, with and without BN
 *
 * The plug-in: $EINTHOVEN_CUDA_LIB, else build/emu-count/libeinthoven_cuda.so. */
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/mem.h"
#include "core/rng.h"
#include "tests/emu/emu_counters.h"
#include "tests/support/check.h"
#include "tests/support/cuda.h"
#include "tests/support/net1d_session.h"

#define MAX_KERNELS 512
#define MEMORY_TB_S 3.0 /* what an H100 copies, for the model */
#define PLUGIN      "build/emu-count/libeinthoven_cuda.so"

struct row {
    char kernel[192];
    double launches;
    double distinct, issued; /* bytes */
};

/* What one step counted; written by the process that ran it. */
struct step {
    bool done;
    double seconds, loss;
    char problem[512];
    size_t n;
    struct row rows[MAX_KERNELS];
};

static int batch[2] = {1, 2};

/* ------------------------------------------------------------------ one step */

struct counters {
    bool (*available)(void);
    void (*reset)(void);
    size_t (*get)(struct emu_counter *list, size_t n);
};

/* A function pointer goes through an object of the same size: ISO C has no cast from void *. */
static enum ecg_status find(void *handle, const char *name, void *function) {
    void *p = dlsym(handle, name);
    if (p == NULL) return ecg_fail(ECG_ERR_FAIL, "%s", dlerror());
    memcpy(function, &p, sizeof p);
    return ECG_OK;
}

static enum ecg_status find_counters(struct counters *c) {
    void *handle = dlopen(getenv("EINTHOVEN_CUDA_LIB"), RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) return ecg_fail(ECG_ERR_FAIL, "%s", dlerror());
    TRY(find(handle, "emu_counters_available", &c->available));
    TRY(find(handle, "emu_counters_reset", &c->reset));
    TRY(find(handle, "emu_counters_get", &c->get));
    if (c->available()) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "%s does not count: make emu EMU_MODE=count",
                    getenv("EINTHOVEN_CUDA_LIB"));
}

/* A batch in host memory, and where it goes. */
struct records {
    int16_t *ecg, *host;
    float *scale;
    uint8_t *labels;
    size_t samples;
};

static enum ecg_status make_records(struct records *r, const struct net1d *net, int B) {
    const struct net1d_config *c = &net->config;
    const size_t N = (size_t)B * (size_t)c->n_outputs;
    float scale[16];
    uint8_t *labels = NULL;
    struct rng random;
    rng_init(&random, 5, RNG_SYNTH, 0, 0);
    r->samples = (size_t)B * (size_t)c->n_leads * (size_t)c->length;
    TRY(MEM_NEW(&r->host, r->samples));
    TRY(MEM_NEW(&labels, N));
    for (size_t i = 0; i < r->samples; i++)
        r->host[i] = (int16_t)((int)rng_below(&random, 4001) - 2000);
    for (size_t i = 0; i < N; i++) labels[i] = (uint8_t)rng_below(&random, 2);
    for (int i = 0; i < B; i++) scale[i] = 1e-3f;
    enum ecg_status status;
    TRY_OUT(net->ops->alloc(net->dev, (void **)&r->ecg, r->samples * sizeof(int16_t)));
    TRY_OUT(net->ops->alloc(net->dev, (void **)&r->scale, (size_t)B * sizeof(float)));
    TRY_OUT(net->ops->alloc(net->dev, (void **)&r->labels, N));
    TRY_OUT(net->ops->upload(net->dev, r->scale, scale, (size_t)B * sizeof(float)));
    TRY_OUT(net->ops->upload(net->dev, r->labels, labels, N));
out:
    free(labels);
    return status;
}

static enum ecg_status run_step(struct net1d *net, struct optim *optim, const struct records *r,
                                int B, double *loss) {
    const struct net1d_config *c = &net->config;
    const struct ops *ops = net->ops;
    const struct ops_loss bce = {.kind = OPS_LOSS_BCE};
    const struct net1d_pass pass = {.train = true, .seed = 3};
    const struct optim_rates rates = {.lr = 1e-3, .backbone_lr = 1e-3, .beta1 = 0.9};
    const int lead[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    double sum = 0;
    TRY(optim_zero_grad(optim));
    TRY(ops->upload(net->dev, r->ecg, r->host, r->samples * sizeof(int16_t)));
    TRY(ops->input_fwd(net->dev, c->precision, (struct ops_blc){B, c->length, c->n_leads},
                       c->n_leads, r->ecg, r->scale, lead, OPS_NORM_RECORD, net->x));
    TRY(net1d_forward(net, B, &pass));
    TRY(ops->loss(net->dev, &bce, B, c->n_outputs, net->logits, r->labels, NULL, NULL,
                  1.0 / (B * c->n_outputs), &sum, net->dlogits));
    TRY(net1d_backward(net, B, &pass));
    TRY(optim_step(optim, &rates));
    TRY(ops->sync(net->dev));
    *loss = sum / (B * c->n_outputs);
    return ECG_OK;
}

static void keep_counters(const struct counters *c, struct step *s) {
    static struct emu_counter list[MAX_KERNELS];
    s->n = c->get(list, MAX_KERNELS);
    for (size_t i = 0; i < s->n && i < MAX_KERNELS; i++) {
        struct row *row = &s->rows[i];
        snprintf(row->kernel, sizeof row->kernel, "%s", list[i].kernel);
        row->launches = (double)list[i].launches;
        row->distinct = (double)(list[i].bytes_read + list[i].bytes_written);
        row->issued = (double)(list[i].issued_read + list[i].issued_written);
    }
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The process that does this ends afterwards, and its memory with it. */
static enum ecg_status count_step(struct step *s, bool batch_norm, int B) {
    const struct optim_config adamw = {
        .kind = OPTIM_ADAMW, .weight_decay = 0.01, .beta2 = 0.999, .eps = 1e-8, .decay_bias = true};
    struct net1d_config config = net1d_published;
    const struct ops *ops;
    struct ops_dev *dev;
    struct counters counters = {0};
    struct net1d net;
    struct optim optim;
    struct records records = {0};
    config.precision = OPS_BF16;
    config.batch_norm = batch_norm;
    TRY(ops_find(&ops, "cuda"));
    TRY(find_counters(&counters));
    TRY(ops->open(&dev, 0));
    TRY(net1d_create(&net, &config, ops, dev, B, true));
    TRY(net1d_init_weights(&net, 1, false));
    TRY(optim_create(&optim, &adamw, &net));
    TRY(make_records(&records, &net, B));
    counters.reset();
    const double start = now();
    TRY(run_step(&net, &optim, &records, B, &s->loss));
    s->seconds = now() - start;
    keep_counters(&counters, s);
    if (s->n > MAX_KERNELS) return ecg_fail(ECG_ERR_FAIL, "%zu kernels", s->n);
    s->done = true;
    return ECG_OK;
}

/* ------------------------------------------------------------------ both batches */

/* Each step has a process and a core; NULL when one fails. */
static struct step *count_steps(bool batch_norm) {
    struct step *steps = (struct step *)mmap(NULL, 2 * sizeof *steps, PROT_READ | PROT_WRITE,
                                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child[2];
    if (!CHECK(steps != MAP_FAILED)) return NULL;
    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        child[i] = fork();
        if (child[i] == 0) {
            const enum ecg_status status = count_step(&steps[i], batch_norm, batch[i]);
            if (status != ECG_OK)
                snprintf(steps[i].problem, sizeof steps[i].problem, "%s", ecg_message());
            _exit(status != ECG_OK);
        }
        if (!CHECK(child[i] > 0)) return NULL;
    }
    bool ok = true;
    for (int i = 0; i < 2; i++) {
        int status = 1;
        ok = CHECK(waitpid(child[i], &status, 0) == child[i] && status == 0 && steps[i].done) && ok;
        if (!ok) check_note("batch %d: %s", batch[i], steps[i].problem);
    }
    return ok ? steps : NULL;
}

/* ------------------------------------------------------------------ the table */

static const struct row *row_of(const struct step *s, const char *kernel) {
    static const struct row none;
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->rows[i].kernel, kernel) == 0) return &s->rows[i];
    return &none;
}

static int by_distinct(const void *a, const void *b) {
    const double x = ((const struct row *)a)->distinct, y = ((const struct row *)b)->distinct;
    return (x < y) - (x > y);
}

/* What a record adds to each kernel, largest first, with the launches of the larger batch. */
static size_t per_record(const struct step steps[2], struct row *rows) {
    const double records = batch[1] - batch[0];
    size_t n = steps[1].n;
    memcpy(rows, steps[1].rows, n * sizeof *rows);
    for (size_t i = 0; i < steps[0].n; i++) {
        const struct row *small = &steps[0].rows[i];
        if (row_of(&steps[1], small->kernel)->launches > 0 || n == 2 * MAX_KERNELS) continue;
        rows[n] = (struct row){0};
        memcpy(rows[n++].kernel, small->kernel, sizeof small->kernel);
    }
    for (size_t i = 0; i < n; i++) {
        const struct row *small = row_of(&steps[0], rows[i].kernel);
        rows[i].distinct = (rows[i].distinct - small->distinct) / records;
        rows[i].issued = (rows[i].issued - small->issued) / records;
    }
    qsort(rows, n, sizeof *rows, by_distinct);
    return n;
}

static void print_row(const struct row *r) {
    printf("%-60.60s %8.0f %10.3f %10.3f\n", r->kernel, r->launches, r->distinct * 1e-6,
           r->issued * 1e-6);
}

static bool is_copy(const struct row *r) {
    return strcmp(r->kernel, "copy") == 0 || strcmp(r->kernel, "memset") == 0;
}

/* Kernels, and beside them copies and memsets. */
static struct row print_table(const struct step steps[2]) {
    static struct row rows[2 * MAX_KERNELS];
    const size_t n = per_record(steps, rows);
    struct row sum = {.kernel = "sum"};
    double copies = 0;
    printf("%-60s %8s %10s %10s\n", "kernel", "launches", "distinct", "issued MB/ECG");
    for (size_t i = 0; i < n; i++) {
        print_row(&rows[i]);
        sum.distinct += rows[i].distinct;
        sum.issued += rows[i].issued;
        if (is_copy(&rows[i]))
            copies += rows[i].launches;
        else
            sum.launches += rows[i].launches;
    }
    print_row(&sum);
    printf("copies and memsets beside the launches: %.0f; %.0f and %.0f s\n", copies,
           steps[0].seconds, steps[1].seconds);
    return sum;
}

struct bounds {
    double distinct, issued, launches; /* MB a record, issued as a share of distinct, a step */
};

static void hold(bool batch_norm, struct bounds today, struct bounds wanted) {
    struct step *steps = count_steps(batch_norm);
    if (steps == NULL) return;
    const struct row sum = print_table(steps);
    const double distinct = sum.distinct * 1e-6, issued = sum.issued / sum.distinct;
    check_note("measured %6.1f MB/ECG, issued %.2f of it, %4.0f launches", distinct, issued,
               sum.launches);
    check_note("held to  %6.1f            at most %.2f       %4.0f", today.distinct, today.issued,
               today.launches);
    check_note("wanted   %6.1f                    %.2f       %4.0f", wanted.distinct, wanted.issued,
               wanted.launches);
    check_note("model: at %g TB/s of memory %.1f us/ECG, at most %.0f ECG/s; not measured on a GPU",
               MEMORY_TB_S, distinct / MEMORY_TB_S, 1e6 * MEMORY_TB_S / distinct);
    CHECK(steps[0].loss > 0 && steps[1].loss > 0);
    CHECK(distinct > 0 && distinct <= today.distinct);
    CHECK(issued >= 1 && issued <= today.issued);
    CHECK(sum.launches > 0 && sum.launches <= today.launches);
    munmap(steps, 2 * sizeof *steps);
}

static void without_batch_norm(void) {
    hold(false, (struct bounds){68, 3, 339}, (struct bounds){68, 3, 340});
}

static void with_batch_norm(void) {
    hold(true, (struct bounds){85, 3.1, 554}, (struct bounds){86, 3, 340});
}

int main(int argc, char **argv) {
    for (int i = 0; i < 2 && argc == 3; i++) batch[i] = atoi(argv[i + 1]);
    setenv("EINTHOVEN_CUDA_LIB", PLUGIN, 0);
    CASE(without_batch_norm);
    CASE(with_batch_norm);
    return check_finish();
}
