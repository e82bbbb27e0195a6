/* SPDX-License-Identifier: MIT
 * The CUDA backend's device: opening it, memory, copies, and what every entry says when something goes wrong. */
#include "kernels/cuda/cuda.cuh"

#include "kernels/cuda/choose.h"
#include "kernels/cuda/element.cuh"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Scratch memory is cut at multiples of this: what cudaMalloc aligns to, and more than any vector access needs. */
#define CUDA_ALIGN 256

/* ------------------------------------------------------------------ errors */

enum ecg_status cuda_check(cudaError_t error, const char *format, ...) {
    char what[256];
    va_list args;
    if (error == cudaSuccess) return ECG_OK;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return ecg_fail(error == cudaErrorMemoryAllocation ? ECG_ERR_NOMEM : ECG_ERR_FAIL,
                    "cuda: %s: %s", what, cudaGetErrorString(error));
}

enum ecg_status cuda_done(struct ops_dev *dev, const char *op, const char *shape) {
    cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess && dev->blocking) error = cudaStreamSynchronize(dev->stream);
    return cuda_check(error, "%s %s", op, shape);
}

static const char *dtype_name(enum ops_dtype dtype) {
    return dtype == OPS_F32 ? "fp32" : "bf16";
}

enum ecg_status cuda_done_blc(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                              struct ops_blc s) {
    char shape[96];
    snprintf(shape, sizeof shape, "(%d, %d, %d) %s", s.B, s.L, s.C, dtype_name(dtype));
    return cuda_done(dev, op, shape);
}

enum ecg_status cuda_done_conv(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                               struct ops_conv s) {
    char shape[160];
    snprintf(shape, sizeof shape,
             "B %d, Lin %d, Lout %d, Cin %d, Cout %d, K %d, S %d, G %d, P %d, %s", s.B, s.Lin,
             s.Lout, s.Cin, s.Cout, s.K, s.S, s.G, s.P, dtype_name(dtype));
    return cuda_done(dev, op, shape);
}

enum ecg_status cuda_done_n(struct ops_dev *dev, const char *op, size_t n) {
    char shape[48];
    snprintf(shape, sizeof shape, "(%zu)", n);
    return cuda_done(dev, op, shape);
}

enum ecg_status cuda_check_blc(const char *op, enum ops_dtype dtype, struct ops_blc s) {
    if (dtype != OPS_F32 && dtype != OPS_BF16)
        return ecg_fail(ECG_ERR_FAIL, "cuda: %s: no such precision: %d", op, (int)dtype);
    if (s.B < 1 || s.L < 1 || s.C < 1)
        return ecg_fail(ECG_ERR_FAIL, "cuda: %s: no such shape: (%d, %d, %d)", op, s.B, s.L, s.C);
    if ((int64_t)s.B * s.L <= INT32_MAX && (int64_t)s.B * s.L * s.C <= INT32_MAX) return ECG_OK;
    return ecg_fail(
        ECG_ERR_FAIL,
        "cuda: %s: a tensor of (%d, %d, %d) has more than 2^31 - 1 elements; use a smaller batch, or "
        "train.accumulate",
        op, s.B, s.L, s.C);
}

enum ecg_status cuda_check_conv(const char *op, enum ops_dtype dtype, struct ops_conv s) {
    const struct ops_blc in = {s.B, s.Lin, s.Cin}, out = {s.B, s.Lout, s.Cout};
    TRY(cuda_check_blc(op, dtype, in));
    TRY(cuda_check_blc(op, dtype, out));
    if (s.K >= 1 && s.S >= 1 && s.P >= 0 && s.G >= 1 && s.Cin % s.G == 0 && s.Cout % s.G == 0 &&
        (int64_t)s.Cout * (s.Cin / s.G) * s.K <= INT32_MAX)
        return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL,
                    "cuda: %s: no such shape: Cin %d, Cout %d, K %d, S %d, G %d, P %d", op, s.Cin,
                    s.Cout, s.K, s.S, s.G, s.P);
}

/* ------------------------------------------------------------------ scratch memory */

size_t cuda_room(size_t bytes) {
    return (bytes + CUDA_ALIGN - 1) / CUDA_ALIGN * CUDA_ALIGN;
}

void *cuda_take(struct ops_ws *ws, size_t bytes) {
    const size_t n = cuda_room(bytes);
    if (n > ws->n) return NULL;
    void *p = ws->p;
    ws->p = (char *)p + n;
    ws->n -= n;
    return p;
}

enum ecg_status cuda_too_small(const char *op, struct ops_ws ws) {
    return ecg_fail(ECG_ERR_FAIL, "cuda: %s: scratch memory is too small (%zu bytes left)", op,
                    ws.n);
}

/* ------------------------------------------------------------------ what kernels are told */

struct cuda_act cuda_act_of(const struct ops_act *act) {
    struct cuda_act a = {};
    if (!act) return a;
    a.scale = act->scale;
    a.shift = act->shift;
    a.swish = act->swish;
    a.drops = act->drop > 0;
    /* word * 2^-32 >= drop, in integers; drop is below 1. */
    a.threshold = (uint32_t)ceil((double)act->drop * 4294967296.0);
    a.keep = (float)(1.0 / (1.0 - (double)act->drop));
    a.key0 = (uint32_t)act->seed;
    a.key1 = (uint32_t)(act->seed >> 32);
    a.stream = act->stream;
    a.step = act->step;
    a.sample0 = act->sample0;
    return a;
}

/* About 256 parts at most, each of 64 rows at least: enough blocks for a GPU, and few enough to add up quickly. */
struct cuda_cut cuda_cut_rows(int rows) {
    struct cuda_cut cut;
    cut.rows = cuda_max(64, cuda_ceil_div(rows, 256));
    cut.parts = cuda_ceil_div(rows, cut.rows);
    return cut;
}

/* ------------------------------------------------------------------ opening and closing */

/* The GPU that this process uses. */
static int own_gpu;

/* The first use of CUDA: without a driver or a GPU this says so, and what to do. *n: how many there are. */
static enum ecg_status find_gpus(int *n) {
    const cudaError_t error = cudaGetDeviceCount(n);
    if (error == cudaErrorInsufficientDriver)
        return ecg_fail(
            ECG_ERR_FAIL,
            "device cuda: no NVIDIA driver, or one too old for this build's CUDA (%s): install or update "
            "it (nvidia-smi must show the GPU), or use device cpu; einthoven doctor tells more",
            cudaGetErrorString(error));
    if (error == cudaErrorNoDevice || (error == cudaSuccess && *n == 0))
        return ecg_fail(
            ECG_ERR_FAIL,
            "device cuda: there is a driver but no GPU that it can use (%s): look at nvidia-smi and "
            "CUDA_VISIBLE_DEVICES, or use device cpu; einthoven doctor tells more",
            error == cudaSuccess ? "no device" : cudaGetErrorString(error));
    return cuda_check(error, "looking for GPUs");
}

enum ecg_status cuda_choose_gpu(int local_rank) {
    int n = 0;
    TRY(find_gpus(&n));
    if (n > 1 && local_rank >= n)
        return ecg_fail(
            ECG_ERR_FAIL,
            "device cuda: this is rank %d of its node, counted from 0, which has %d GPUs "
            "that it may use: start at most as many ranks on a node",
            local_rank, n);
    own_gpu = n > 1 ? local_rank : 0;
    return ECG_OK;
}

void cuda_close(struct ops_dev *dev) {
    if (!dev) return;
    cuda_ahead_close(dev);
    conv_choose_close(dev);
    if (dev->stream) cudaStreamDestroy(dev->stream);
    if (dev->parts) cudaFree(dev->parts);
    if (dev->scalars) cudaFree(dev->scalars);
    if (dev->fetched) cudaFreeHost(dev->fetched);
    free(dev);
}

static enum ecg_status open_parts(struct ops_dev *dev) {
    int n = 0;
    TRY(find_gpus(&n));
    TRY(cuda_check(cudaSetDevice(own_gpu), "opening GPU %d", own_gpu));
    TRY(cuda_check(cudaStreamCreateWithFlags(&dev->stream, cudaStreamNonBlocking),
                   "making a stream"));
    TRY(cuda_check(cudaMalloc((void **)&dev->parts, CUDA_MAX_PARTS * sizeof(double)),
                   "allocating %d partial sums", CUDA_MAX_PARTS));
    TRY(cuda_check(cudaMalloc((void **)&dev->scalars, CUDA_MAX_SCALARS * sizeof(double)),
                   "allocating %d sums", CUDA_MAX_SCALARS));
    TRY(cuda_check(cudaMallocHost((void **)&dev->fetched, CUDA_MAX_SCALARS * sizeof(double)),
                   "allocating pinned memory"));
    return cuda_ahead_open(dev);
}

/* What the choice of tiles goes by. */
static enum ecg_status measure_gpu(struct gemm_gpu *gpu) {
    static const char *const what = "asking the GPU for its size";
    int shared_block = 0, shared_sm = 0;
    TRY(cuda_check(cudaDeviceGetAttribute(&gpu->sms, cudaDevAttrMultiProcessorCount, own_gpu), "%s",
                   what));
    TRY(cuda_check(
        cudaDeviceGetAttribute(&shared_block, cudaDevAttrMaxSharedMemoryPerBlockOptin, own_gpu),
        "%s", what));
    TRY(cuda_check(
        cudaDeviceGetAttribute(&shared_sm, cudaDevAttrMaxSharedMemoryPerMultiprocessor, own_gpu),
        "%s", what));
    gpu->shared_block = (size_t)shared_block;
    gpu->shared_sm = (size_t)shared_sm;
    return gemm_open(gpu);
}

enum ecg_status cuda_open(struct ops_dev **out, int n_threads) {
    const char *wait = getenv("EINTHOVEN_CUDA_SYNC");
    (void)n_threads;
    *out = NULL;
    struct ops_dev *dev = (struct ops_dev *)calloc(1, sizeof *dev);
    if (!dev) return ecg_fail(ECG_ERR_NOMEM, "out of memory: %zu bytes", sizeof *dev);
    dev->head.ops = cuda_table();
    dev->blocking = wait && *wait && *wait != '0';
    dev->no_graphs = dev->blocking;
    enum ecg_status status = open_parts(dev);
    if (status == ECG_OK) status = measure_gpu(&dev->gpu);
    if (status == ECG_OK) status = conv_choose_open(dev);
    if (status != ECG_OK) {
        cuda_close(dev);
        return status;
    }
    *out = dev;
    return ECG_OK;
}

/* ------------------------------------------------------------------ memory */

enum ecg_status cuda_alloc(struct ops_dev *dev, void **p, size_t bytes) {
    *p = NULL;
    TRY(cuda_check(cudaMalloc(p, bytes > 0 ? bytes : 1), "allocating %zu bytes on the GPU", bytes));
    return cuda_check(cudaMemsetAsync(*p, 0, bytes > 0 ? bytes : 1, dev->stream),
                      "clearing %zu bytes", bytes);
}

void cuda_free(struct ops_dev *dev, void *p) {
    (void)dev;
    if (p) cudaFree(p);
}

/* From ordinary host memory the call returns once the bytes are staged, so the caller may change them at once; it comes
 * after all that was launched before. */
enum ecg_status cuda_upload(struct ops_dev *dev, void *device, const void *host, size_t bytes) {
    TRY(cuda_unrecorded(dev, "upload"));
    if (bytes == 0) return ECG_OK;
    return cuda_check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, dev->stream),
                      "copying %zu bytes to the GPU", bytes);
}

enum ecg_status cuda_download(struct ops_dev *dev, void *host, const void *device, size_t bytes) {
    TRY(cuda_unrecorded(dev, "download"));
    if (bytes == 0) return ECG_OK;
    TRY(cuda_check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, dev->stream),
                   "copying %zu bytes from the GPU", bytes));
    return cuda_check(cudaStreamSynchronize(dev->stream), "copying %zu bytes from the GPU", bytes);
}

enum ecg_status cuda_fill_zero(struct ops_dev *dev, void *x, size_t bytes) {
    if (bytes == 0) return ECG_OK;
    return cuda_check(cudaMemsetAsync(x, 0, bytes, dev->stream), "fill_zero (%zu)", bytes);
}

/* ------------------------------------------------------------------ scalars */

/* *sum = sum of parts[0 .. n), in one block. */
static __global__ void __launch_bounds__(256)
    add_parts_kernel(int n, const double *parts, double *sum) {
    SHARED(double, s, 256);
    double v = 0;
    for (int i = (int)threadIdx.x; i < n; i += 256) v += parts[i];
    v = block_sum(v, s);
    if (threadIdx.x == 0) *sum = v;
}

enum ecg_status cuda_promise_scalar(struct ops_dev *dev, const char *op, int n, int adds,
                                    double *sum) {
    TRY(cuda_unrecorded(dev, op));
    if (dev->n_promised == CUDA_MAX_SCALARS) TRY(cuda_sync(dev));
    const int at = dev->n_promised;
    LAUNCH(add_parts_kernel, 1, 256, 0, dev->stream, n, dev->parts, dev->scalars + at);
    TRY(cuda_check(cudaGetLastError(), "%s: adding %d parts", op, n));
    dev->promised[at].to = sum;
    dev->promised[at].adds = adds;
    dev->n_promised++;
    return ECG_OK;
}

/* All that were promised come in one copy. */
enum ecg_status cuda_sync(struct ops_dev *dev) {
    const int n = dev->n_promised;
    dev->n_promised = 0;
    if (n > 0)
        TRY(cuda_check(cudaMemcpyAsync(dev->fetched, dev->scalars, (size_t)n * sizeof(double),
                                       cudaMemcpyDeviceToHost, dev->stream),
                       "fetching %d sums", n));
    TRY(cuda_check(cudaStreamSynchronize(dev->stream),
                   "waiting for the GPU (EINTHOVEN_CUDA_SYNC=1 names the operation)"));
    TRY(cuda_check(cudaGetLastError(), "waiting for the GPU"));
    for (int i = 0; i < n; i++)
        *dev->promised[i].to = (dev->promised[i].adds ? *dev->promised[i].to : 0) + dev->fetched[i];
    return ECG_OK;
}
