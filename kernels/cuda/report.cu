/* SPDX-License-Identifier: MIT
 * What this machine has for CUDA: driver, GPUs, and the libraries that may be used beside the backend's own kernels, which
 * are opened by name and asked for their version. */
#include "kernels/cuda/cuda.cuh"

#include <dlfcn.h>
#include <stdio.h>

#include "kernels/cuda/plugin.h"
#include "kernels/cuda/sums.h"
#include "kernels/cuda/vendor.h"

/* The oldest compute capability that the kernels are built for. */
#define LEAST_MAJOR 8

static void put_cuda_version(char *text, size_t n, int version) {
    text[0] = '\0';
    if (version > 0) snprintf(text, n, "%d.%d", version / 1000, version % 1000 / 10);
}

/* ------------------------------------------------------------------ libraries */

typedef int version_by_property(int property, int *value); /* cuBLAS */
typedef size_t version_by_value(void);                     /* cuDNN */

static int ask_cublas(void *symbol, char *text, size_t n) {
    version_by_property *ask = (version_by_property *)symbol;
    int v[3];
    for (int i = 0; i < 3; i++)
        if (ask(i, &v[i]) != 0) return 0;
    snprintf(text, n, "%d.%d.%d", v[0], v[1], v[2]);
    return 1;
}

static int ask_cudnn(void *symbol, char *text, size_t n) {
    const size_t v = ((version_by_value *)symbol)();
    snprintf(text, n, "%zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
    return 1;
}

static int ask_nccl(void *symbol, char *text, size_t n) {
    int v = 0;
    if (((nccl_version_fn *)symbol)(&v) != 0) return 0;
    snprintf(text, n, "%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
    return 1;
}

static const struct {
    const char *name, *file, *symbol;
    int (*ask)(void *symbol, char *text, size_t n);
} libraries[] = {
    {"cuBLAS", VENDOR_CUBLAS_FILE, "cublasGetProperty", ask_cublas},
    {"cuDNN", VENDOR_CUDNN_FILE, "cudnnGetVersion", ask_cudnn},
    {"NCCL", NCCL_FILE, "ncclGetVersion", ask_nccl},
};
#define N_LIBRARIES ((int)(sizeof(libraries) / sizeof(*libraries)))

static void report_libraries(struct cuda_report *r) {
    static_assert(N_LIBRARIES <= CUDA_MAX_LIBRARIES, "the report has room for all");
    for (int i = 0; i < N_LIBRARIES; i++) {
        struct cuda_library *l = &r->library[r->n_libraries++];
        snprintf(l->name, sizeof l->name, "%s", libraries[i].name);
        void *handle = dlopen(libraries[i].file, RTLD_LAZY | RTLD_LOCAL);
        void *symbol = handle ? dlsym(handle, libraries[i].symbol) : NULL;
        if (!symbol)
            snprintf(l->problem, sizeof l->problem, "%s", dlerror());
        else if (!libraries[i].ask(symbol, l->version, sizeof l->version))
            snprintf(l->problem, sizeof l->problem, "%s does not answer", libraries[i].symbol);
        if (handle) dlclose(handle);
    }
}

/* ------------------------------------------------------------------ GPUs */

static void report_device(struct cuda_device *d, int i) {
    struct cudaDeviceProp prop;
    cudaError_t error = cudaGetDeviceProperties(&prop, i);
    if (error == cudaSuccess) {
        snprintf(d->name, sizeof d->name, "%.127s", prop.name);
        d->major = prop.major;
        d->minor = prop.minor;
        d->processors = prop.multiProcessorCount;
        d->memory = prop.totalGlobalMem;
        error = cudaSetDevice(i);
    }
    if (error == cudaSuccess) {
        size_t total;
        error = cudaMemGetInfo(&d->free, &total);
    }
    if (error != cudaSuccess)
        snprintf(d->problem, sizeof d->problem, "%s", cudaGetErrorString(error));
    else if (d->major < LEAST_MAJOR)
        snprintf(d->problem, sizeof d->problem, "compute capability %d.%d; %d.0 or newer is needed",
                 d->major, d->minor, LEAST_MAJOR);
}

static void report_devices(struct cuda_report *r) {
    int n = 0;
    const cudaError_t error = cudaGetDeviceCount(&n);
    if (error != cudaSuccess) n = 0;
    r->n_devices = cuda_min(n, CUDA_MAX_DEVICES);
    for (int i = 0; i < r->n_devices; i++) report_device(&r->device[i], i);
    if (r->n_devices > 0) (void)cudaSetDevice(0);
    if (error == cudaErrorInsufficientDriver)
        snprintf(
            r->problem, sizeof r->problem,
            "no NVIDIA driver, or one older than CUDA %s (%s): install or update it, nvidia-smi must show the "
            "GPU",
            r->runtime, cudaGetErrorString(error));
    else if (error != cudaSuccess || n == 0)
        snprintf(r->problem, sizeof r->problem,
                 "no GPU that CUDA can use (%s): look at nvidia-smi and "
                 "CUDA_VISIBLE_DEVICES",
                 error == cudaSuccess ? "none is there" : cudaGetErrorString(error));
    else if (r->device[0].problem[0])
        snprintf(r->problem, sizeof r->problem, "GPU 0, the one that is used: %s",
                 r->device[0].problem);
    (void)cudaGetLastError();
}

__attribute__((visibility("default"))) void einthoven_cuda_report(struct cuda_report *report) {
    int version = 0;
    *report = (struct cuda_report){};
    if (cudaRuntimeGetVersion(&version) == cudaSuccess)
        put_cuda_version(report->runtime, sizeof report->runtime, version);
    version = 0;
    if (cudaDriverGetVersion(&version) == cudaSuccess)
        put_cuda_version(report->driver, sizeof report->driver, version);
    report_devices(report);
    report_libraries(report);
}
