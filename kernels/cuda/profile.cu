/* SPDX-License-Identifier: MIT
 * Time of each kernel, by events that LAUNCH (kernels/cuda/compat.h) records around it: needs no profiler on the machine.
 * Two events around a kernel that does nothing are apart too, so a few empty ones are timed first for comparison. The host must be
 * ahead of the GPU, or a kernel's time has the host's in it: events are made beforehand, and the empty kernels wait behind
 * one that lasts. */
#include "kernels/cuda/cuda.cuh"

#include <cxxabi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/bench.cuh"

#define EMPTY_LAUNCHES 33
/* Launches that events are made for at once. */
#define ROOM           8192
/* Dependent multiply-adds, about half a millisecond. */
#define DELAY          (1 << 18)

int cuda_profiling;

struct timed {
    const void *kernel;
    cudaEvent_t start, stop;
};

static struct {
    struct timed *v;   /* in the order of launches */
    size_t n, room;    /* launches, and those that there are events for */
    cudaError_t error; /* the first one */
} taken;

static __global__ void __launch_bounds__(32) empty_kernel(void) {
}

static __global__ void __launch_bounds__(1) delay_kernel(int n, float a, double *out) {
    float x = a;
    for (int i = 0; i < n; i++) x = __fmaf_rn(x, a, 0.5f);
    *out = x;
}

/* ------------------------------------------------------------------ while it runs */

static cudaError_t make_room(void) {
    struct timed *v = (struct timed *)realloc(taken.v, (taken.room + ROOM) * sizeof *v);
    if (!v) return cudaErrorMemoryAllocation;
    taken.v = v;
    for (int i = 0; i < ROOM; i++) {
        struct timed *t = &taken.v[taken.room];
        cudaError_t error = cudaEventCreate(&t->start);
        if (error != cudaSuccess) return error;
        error = cudaEventCreate(&t->stop);
        if (error != cudaSuccess) {
            cudaEventDestroy(t->start);
            return error;
        }
        taken.room++;
    }
    return cudaSuccess;
}

void cuda_profile_before(const void *kernel, cudaStream_t stream) {
    if (taken.error == cudaSuccess && taken.n == taken.room) taken.error = make_room();
    if (taken.error != cudaSuccess) return;
    taken.v[taken.n].kernel = kernel;
    taken.error = cudaEventRecord(taken.v[taken.n].start, stream);
}

void cuda_profile_after(cudaStream_t stream) {
    if (taken.error != cudaSuccess) return;
    taken.error = cudaEventRecord(taken.v[taken.n].stop, stream);
    taken.n++;
}

enum ecg_status cuda_profile_start(struct ops_dev *dev) {
    TRY(cuda_sync(dev));
    taken.error = make_room();
    LAUNCH(empty_kernel, 1, 32, 0, dev->stream); /* loads it */
    LAUNCH(delay_kernel, 1, 1, 0, dev->stream, DELAY, 0.5f, dev->parts);
    dev->profiling = cuda_profiling = 1;
    for (int i = 0; i < EMPTY_LAUNCHES; i++) LAUNCH(empty_kernel, 1, 32, 0, dev->stream);
    return cuda_done(dev, "profile", "");
}

/* ------------------------------------------------------------------ sums */

/* "void name<T>(int)" without the return type and the parameters. */
static enum ecg_status kernel_name(const void *kernel, char *name, size_t n) {
    const char *symbol = NULL;
    int status = -1, depth = 0;
    TRY(cuda_check(cudaFuncGetName(&symbol, kernel), "profile: asking for a kernel's name"));
    char *plain = abi::__cxa_demangle(symbol, NULL, NULL, &status);
    const char *text = status == 0 ? plain : symbol;
    if (strncmp(text, "void ", 5) == 0) text += 5;
    const char *end = text;
    for (; *end && !(*end == '(' && depth == 0); end++)
        depth += *end == '<' ? 1 : *end == '>' ? -1 : 0;
    snprintf(name, n, "%.*s", (int)(end - text), text);
    free(plain);
    return ECG_OK;
}

static enum ecg_status add_launch(struct cuda_profile *p, const struct timed *t, double seconds) {
    char name[sizeof p->kernel->name];
    int i = 0;
    TRY(kernel_name(t->kernel, name, sizeof name));
    while (i < p->n && strcmp(p->kernel[i].name, name) != 0) i++;
    if (i == CUDA_MAX_KERNELS)
        return ecg_fail(ECG_ERR_FAIL, "cuda: profile: more than %d kernels", CUDA_MAX_KERNELS);
    if (i == p->n) snprintf(p->kernel[p->n++].name, sizeof name, "%s", name);
    p->kernel[i].launches++;
    p->kernel[i].seconds += seconds;
    p->launches++;
    p->seconds += seconds;
    return ECG_OK;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int by_seconds(const void *a, const void *b) {
    return by_value(&((const struct cuda_kernel *)b)->seconds,
                    &((const struct cuda_kernel *)a)->seconds);
}

static enum ecg_status add_up(struct ops_dev *dev, struct cuda_profile *p) {
    double empty[EMPTY_LAUNCHES] = {0};
    TRY(cuda_check(taken.error, "profile: recording events"));
    TRY(cuda_sync(dev));
    for (size_t i = 0; i < taken.n; i++) {
        float ms = 0;
        TRY(cuda_check(cudaEventElapsedTime(&ms, taken.v[i].start, taken.v[i].stop),
                       "profile: reading events"));
        if (i < EMPTY_LAUNCHES)
            empty[i] = 1e-3 * ms;
        else
            TRY(add_launch(p, &taken.v[i], 1e-3 * ms));
    }
    qsort(empty, EMPTY_LAUNCHES, sizeof *empty, by_value);
    p->empty = empty[EMPTY_LAUNCHES / 2];
    qsort(p->kernel, (size_t)p->n, sizeof *p->kernel, by_seconds);
    return ECG_OK;
}

enum ecg_status cuda_profile_stop(struct ops_dev *dev, struct cuda_profile *p) {
    dev->profiling = cuda_profiling = 0;
    memset(p, 0, sizeof *p);
    const enum ecg_status status = add_up(dev, p);
    for (size_t i = 0; i < taken.room; i++) {
        cudaEventDestroy(taken.v[i].start);
        cudaEventDestroy(taken.v[i].stop);
    }
    free(taken.v);
    memset(&taken, 0, sizeof taken);
    return status;
}
