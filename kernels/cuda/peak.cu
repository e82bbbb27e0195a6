/* SPDX-License-Identifier: MIT
 * What the GPU can do at most, measured: multiply-adds on registers by every multiprocessor, and a copy larger than the L2. Each
 * measurement is made longer until it lasts, by which the clocks have risen too; then the median of several counts. */
#include "kernels/cuda/cuda.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/bench.cuh"
#include "kernels/cuda/ptx.h"

#define THREADS       256
#define BLOCKS_PER_SM 4
/* Independent multiply-adds, more than their latency in cycles asks for. */
#define SUMS          16
#define TILES         8
#define RUNS          5

struct meter {
    struct ops_dev *dev;
    cudaEvent_t start, stop;
    void *a, *b; /* of `bytes` each */
    size_t bytes;
    int blocks;
};

/* ------------------------------------------------------------------ kernels */

static __global__ void __launch_bounds__(THREADS) fma_kernel(int n, float a, float b, float *out) {
    float s[SUMS], sum = 0;
#pragma unroll
    for (int i = 0; i < SUMS; i++) s[i] = (float)(i + (int)threadIdx.x);
#pragma unroll 8
    for (int k = 0; k < n; k++) {
#pragma unroll
        for (int i = 0; i < SUMS; i++) s[i] = __fmaf_rn(s[i], a, b);
    }
#pragma unroll
    for (int i = 0; i < SUMS; i++) sum += s[i];
    out[blockIdx.x * THREADS + threadIdx.x] = sum;
}

static __global__ void __launch_bounds__(THREADS) mma_kernel(int n, float scale, float *out) {
    float d[TILES][4], sum = 0;
    uint32_t a[4], b[2];
#pragma unroll
    for (int i = 0; i < 4; i++)
        a[i] = pack_bf16(scale * (float)(threadIdx.x + i), -scale * (float)(threadIdx.x ^ i));
#pragma unroll
    for (int i = 0; i < 2; i++)
        b[i] = pack_bf16(scale * (float)(threadIdx.x * 3 + i), -scale * (float)(threadIdx.x + 7));
#pragma unroll
    for (int i = 0; i < TILES; i++)
        for (int k = 0; k < 4; k++) d[i][k] = 0;
#pragma unroll 4
    for (int k = 0; k < n; k++) {
#pragma unroll
        for (int i = 0; i < TILES; i++) mma_bf16(d[i], a, b[0], b[1]);
    }
#pragma unroll
    for (int i = 0; i < TILES; i++)
        for (int k = 0; k < 4; k++) sum += d[i][k];
    out[blockIdx.x * THREADS + threadIdx.x] = sum;
}

/* ------------------------------------------------------------------ measurements: n of each, and FLOP or bytes of one */

static enum ecg_status run_fma(const struct meter *m, int n, double *unit) {
    *unit = 2.0 * m->blocks * THREADS * SUMS;
    LAUNCH(fma_kernel, m->blocks, THREADS, 0, m->dev->stream, n, 0.999f, 0.5f, (float *)m->a);
    return cuda_done(m->dev, "peak", "fp32");
}

static enum ecg_status run_mma(const struct meter *m, int n, double *unit) {
    *unit = 4096.0 * m->blocks * (THREADS / 32) * TILES;
    LAUNCH(mma_kernel, m->blocks, THREADS, 0, m->dev->stream, n, 1e-3f, (float *)m->a);
    return cuda_done(m->dev, "peak", "bf16");
}

static enum ecg_status run_copy(const struct meter *m, int n, double *unit) {
    *unit = 2.0 * (double)m->bytes;
    for (int i = 0; i < n; i++)
        TRY(cuda_check(
            cudaMemcpyAsync(m->b, m->a, m->bytes, cudaMemcpyDeviceToDevice, m->dev->stream),
            "peak: copying %zu bytes", m->bytes));
    return ECG_OK;
}

typedef enum ecg_status run_fn(const struct meter *m, int n, double *unit);

static enum ecg_status time_run(const struct meter *m, run_fn *run, int n, double *unit,
                                double *seconds) {
    static const char *const what = "peak: timing";
    float ms = 0;
    TRY(cuda_check(cudaEventRecord(m->start, m->dev->stream), "%s", what));
    TRY(run(m, n, unit));
    TRY(cuda_check(cudaEventRecord(m->stop, m->dev->stream), "%s", what));
    TRY(cuda_sync(m->dev));
    TRY(cuda_check(cudaEventElapsedTime(&ms, m->start, m->stop), "%s", what));
    *seconds = 1e-3 * ms;
    return ECG_OK;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* 1e9 FLOP or bytes a second. */
static enum ecg_status measure(const struct meter *m, run_fn *run, double seconds, double *rate) {
    double t[RUNS] = {0}, unit = 0;
    int n = 1;
    for (; n < 1 << 28; n *= 2) {
        TRY(time_run(m, run, n, &unit, t));
        if (RUNS * t[0] >= seconds) break;
    }
    for (int i = 0; i < RUNS; i++) TRY(time_run(m, run, n, &unit, &t[i]));
    qsort(t, RUNS, sizeof *t, by_value);
    *rate = 1e-9 * unit * n / t[RUNS / 2];
    return ECG_OK;
}

/* ------------------------------------------------------------------ all */

static enum ecg_status measure_all(struct meter *m, double seconds, struct cuda_peaks *p) {
    TRY(cuda_check(cudaEventCreate(&m->start), "making an event"));
    TRY(cuda_check(cudaEventCreate(&m->stop), "making an event"));
    TRY(cuda_alloc(m->dev, &m->a, m->bytes));
    TRY(cuda_alloc(m->dev, &m->b, m->bytes));
    TRY(measure(m, run_fma, seconds, &p->fp32));
    TRY(measure(m, run_mma, seconds, &p->bf16));
    return measure(m, run_copy, seconds, &p->memory);
}

enum ecg_status cuda_measure_peaks(struct ops_dev *dev, double seconds, struct cuda_peaks *p) {
    struct cudaDeviceProp prop;
    struct meter m = {};
    memset(p, 0, sizeof *p);
    TRY(cuda_check(cudaGetDeviceProperties(&prop, 0), "asking GPU 0 for its size"));
    snprintf(p->name, sizeof p->name, "%.127s", prop.name);
    p->processors = prop.multiProcessorCount;
    p->l2 = (size_t)prop.l2CacheSize;
    m.dev = dev;
    m.blocks = BLOCKS_PER_SM * p->processors;
    m.bytes = 4 * p->l2;
    if (m.bytes < (size_t)m.blocks * THREADS * sizeof(float))
        m.bytes = (size_t)m.blocks * THREADS * sizeof(float);
    const enum ecg_status status = measure_all(&m, seconds, p);
    cuda_free(dev, m.a);
    cuda_free(dev, m.b);
    if (m.start) cudaEventDestroy(m.start);
    if (m.stop) cudaEventDestroy(m.stop);
    return status;
}

static enum ecg_status memory_used(size_t *bytes) {
    size_t free_bytes = 0, total = 0;
    TRY(cuda_check(cudaMemGetInfo(&free_bytes, &total), "asking for the GPU's free memory"));
    *bytes = total - free_bytes;
    return ECG_OK;
}

__attribute__((visibility("default"))) const struct cuda_bench *einthoven_cuda_bench(void) {
    static const struct cuda_bench bench = {cuda_measure_peaks, memory_used, cuda_profile_start,
                                            cuda_profile_stop};
    return &bench;
}
