/* SPDX-License-Identifier: MIT
 * The emulated runtime: memory, launches, streams, events, graphs, thread orders and counters. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <initializer_list>

#include "emu_counters.h"
#include "kernels/cuda/ptx.h"

extern "C" {
#include "tests/support/check.h"
}

#define OK(call) CHECK((call) == cudaSuccess)

static int thread(void) {
    return (int)(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
}

static int block(void) {
    return (int)(blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z));
}

/* ---- memory ---- */
static void memory_is_nan_and_ends_where_it_ends(void) {
    float *p, *q, host[100];
    OK(cudaMalloc(&p, sizeof host));
    OK(cudaMalloc(&q, 1 << 25));
    CHECK((uintptr_t)p % 256 == 0 && (uintptr_t)q % 256 == 0);
    OK(cudaMemcpy(host, p, sizeof host, cudaMemcpyDeviceToHost));
    for (float f : host) CHECK(isnan(f));
    OK(cudaMemcpy(host, q + (1 << 23) - 100, sizeof host, cudaMemcpyDefault));
    for (float f : host) CHECK(isnan(f));
    OK(cudaMemset(p, 0, sizeof host));
    OK(cudaMemcpy(q, p, sizeof host, cudaMemcpyDeviceToDevice));
    OK(cudaMemcpy(host, q, sizeof host, cudaMemcpyDeviceToHost));
    for (float f : host) CHECK(f == 0.0f);
    CHECK(cudaMemcpy(host, p + 1, sizeof host, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
    CHECK(cudaGetLastError() == cudaErrorInvalidValue);
    CHECK(cudaGetLastError() == cudaSuccess);
    OK(cudaFree(p));
    OK(cudaFree(q));
    OK(cudaFree(NULL));
}

static void memory_is_limited(void) {
    void *p;
    size_t before, after, total;
    OK(cudaMemGetInfo(&before, &total));
    CHECK(cudaMalloc(&p, total + 1) == cudaErrorMemoryAllocation && p == NULL);
    OK(cudaMalloc(&p, 1 << 20));
    OK(cudaMemGetInfo(&after, &total));
    CHECK(after + (1 << 20) == before);
    OK(cudaFree(p));
    OK(cudaMemGetInfo(&after, &total));
    CHECK(after == before);
}

static void copies_of_two_dimensions(void) {
    unsigned char host[5 * 7], back[5 * 3];
    unsigned char *p;
    for (int i = 0; i < 35; i++) host[i] = (unsigned char)i;
    OK(cudaMalloc(&p, 5 * 16));
    OK(cudaMemcpy2DAsync(p, 16, host, 7, 3, 5, cudaMemcpyHostToDevice));
    OK(cudaMemcpy2DAsync(back, 3, p, 16, 3, 5, cudaMemcpyDeviceToHost));
    for (int i = 0; i < 15; i++) CHECK(back[i] == host[i / 3 * 7 + i % 3]);
    OK(cudaFree(p));
}

/* ---- launches ---- */
struct several {
    int *out;
    int factor;
    float unused[20];
};

template <int N, class T>
static __global__ void __launch_bounds__(256) index_kernel(const struct several s, T add) {
    const int n = (int)(blockDim.x * blockDim.y * blockDim.z);
    s.out[block() * n + thread()] = s.factor * thread() + N * block() + (int)add;
}

static void threads_and_blocks_have_their_indices(void) {
    enum { threads = 3 * 5 * 4, blocks = 2 * 3 * 2 };
    int host[threads * blocks] = {};
    struct several s = {NULL, 7, {}};
    OK(cudaMalloc(&s.out, sizeof host));
    LAUNCH((index_kernel<100, long>), dim3(2, 3, 2), dim3(3, 5, 4), 0, 0, s, 9);
    OK(cudaGetLastError());
    OK(cudaMemcpy(host, s.out, sizeof host, cudaMemcpyDeviceToHost));
    for (int i = 0; i < threads * blocks; i++)
        CHECK(host[i] == 7 * (i % threads) + 100 * (i / threads) + 9);
    OK(cudaFree(s.out));
}

/* Threads that have ended do not take part in a barrier; shared arrays of instances are not the same. */
template <class T> DEVICE T *scratch(void) {
    SHARED(T, s, 256);
    return s;
}

static __global__ void tree_kernel(const float *in, float *out, int n) {
    DYN_SHARED(float, d);
    const int t = thread();
    if (t >= n) return;
    float *s = scratch<float>();
    int *order = scratch<int>();
    s[t] = in[t];
    order[t] = n - 1 - t;
    __syncthreads();
    d[t] = s[order[t]];
    for (int k = n / 2; k > 0; k /= 2) {
        __syncthreads();
        if (t < k) d[t] += d[t + k];
    }
    if (t == 0) out[blockIdx.x] = d[0];
}

static void barriers_and_shared_memory(void) {
    float host[128], *in, *out;
    for (int i = 0; i < 128; i++) host[i] = (float)i;
    OK(cudaMalloc(&in, sizeof host));
    OK(cudaMalloc(&out, 3 * sizeof(float)));
    OK(cudaMemcpy(in, host, sizeof host, cudaMemcpyHostToDevice));
    LAUNCH(tree_kernel, 3, 200, 128 * sizeof(float), 0, in, out, 128);
    OK(cudaGetLastError());
    OK(cudaMemcpy(host, out, 3 * sizeof(float), cudaMemcpyDeviceToHost));
    for (int i = 0; i < 3; i++) CHECK(host[i] == 127 * 64);
    OK(cudaFree(in));
    OK(cudaFree(out));
}

static __global__ void big_shared_kernel(float *out, int n) {
    DYN_SHARED(float, d);
    for (int i = thread(); i < n; i += 1024) d[i] = (float)i;
    __syncthreads();
    out[thread()] = d[n - 1 - thread()];
}

static void much_shared_memory_after_an_attribute(void) {
    enum { bytes = 227 << 10 };
    float *out, last;
    OK(cudaMalloc(&out, 1024 * sizeof(float)));
    LAUNCH(big_shared_kernel, 1, 1024, bytes, 0, out, bytes / 4);
    CHECK(cudaGetLastError() == cudaErrorInvalidValue);
    CHECK(cudaFuncSetAttribute(big_shared_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               bytes + 1) == cudaErrorInvalidValue);
    CHECK(cudaGetLastError() == cudaErrorInvalidValue);
    OK(cudaFuncSetAttribute(big_shared_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    LAUNCH(big_shared_kernel, 1, 1024, bytes, 0, out, bytes / 4);
    OK(cudaGetLastError());
    OK(cudaMemcpy(&last, out, sizeof last, cudaMemcpyDeviceToHost));
    CHECK(last == bytes / 4 - 1);
    OK(cudaFree(out));
}

static __global__ void count_kernel(int *counters) {
    atomicAdd(&counters[0], 1);
    atomicMax(&counters[1], block());
}

static void atomics_over_blocks(void) {
    int host[2] = {-1, -1}, *p;
    OK(cudaMalloc(&p, sizeof host));
    OK(cudaMemset(p, 0, sizeof host));
    LAUNCH(count_kernel, 37, 33, 0, 0, p);
    OK(cudaMemcpy(host, p, sizeof host, cudaMemcpyDeviceToHost));
    CHECK(host[0] == 37 * 33 && host[1] == 36);
    OK(cudaFree(p));
}

/* ---- host threads: EMU_THREADS is read once, so this is a process of its own, which must also end ---- */
static bool blocks_on_host_threads(void) {
    enum { blocks = 200 };
    float host[blocks], *in, *out;
    for (int i = 0; i < 128; i++) host[i] = (float)i;
    if (cudaMalloc(&in, 128 * sizeof(float)) != cudaSuccess) return false;
    if (cudaMalloc(&out, sizeof host) != cudaSuccess) return false;
    if (cudaMemcpy(in, host, 128 * sizeof(float), cudaMemcpyHostToDevice) != cudaSuccess)
        return false;
    for (int repeat = 0; repeat < 5; repeat++) {
        if (cudaMemset(out, 0xff, sizeof host) != cudaSuccess) return false;
        LAUNCH(tree_kernel, blocks, 128, 128 * sizeof(float), 0, in, out, 128);
        if (cudaMemcpy(host, out, sizeof host, cudaMemcpyDeviceToHost) != cudaSuccess) return false;
        for (float f : host)
            if (f != 127 * 64) return false;
    }
    return true;
}

static void a_process_with_host_threads_ends(void) {
    int status = -1;
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        alarm(60);
        setenv("EMU_THREADS", "3", 1);
        execl("/proc/self/exe", "test_runtime", "threads", (char *)NULL);
        _exit(127);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- orders ---- */
/* The places that threads took in one list, which depend on the order alone. */
static __global__ void order_kernel(int *list, int *n) {
    __syncthreads();
    list[atomicAdd(n, 1)] = block() * 64 + thread();
}

static void order_of(const char *order, int *host) {
    int *list, *n;
    setenv("EMU_ORDER", order, 1);
    OK(cudaMalloc(&list, 256 * sizeof(int)));
    OK(cudaMalloc(&n, sizeof(int)));
    OK(cudaMemset(n, 0, sizeof(int)));
    LAUNCH(order_kernel, 4, 64, 0, 0, list, n);
    OK(cudaMemcpy(host, list, 256 * sizeof(int), cudaMemcpyDeviceToHost));
    OK(cudaFree(list));
    OK(cudaFree(n));
    bool seen[256] = {};
    for (int i = 0; i < 256; i++) seen[host[i]] = true;
    for (bool s : seen) CHECK(s);
}

static void orders_differ_and_repeat(void) {
    const char *before = getenv("EMU_ORDER");
    const char *orders[] = {"forward", "reverse", "random:1", "random:2"};
    static int host[4][256], again[256];
    char kept[64] = "forward";
    if (before != NULL) snprintf(kept, sizeof kept, "%s", before);
    for (int i = 0; i < 4; i++) order_of(orders[i], host[i]);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < i; j++) CHECK(memcmp(host[i], host[j], sizeof host[i]) != 0);
    for (int i = 0; i < 4; i++) {
        order_of(orders[i], again);
        CHECK(memcmp(host[i], again, sizeof again) == 0);
    }
    CHECK(host[0][0] < 64 && host[1][0] >= 192);
    setenv("EMU_ORDER", kept, 1);
}

/* ---- streams, events, graphs ---- */
static __global__ void add_kernel(float *p, float v, int n) {
    const int i = block() * 32 + thread();
    if (i < n) p[i] += v;
}

static void graphs_repeat_what_was_captured(void) {
    float host[100] = {}, *p;
    cudaStream_t a, b;
    cudaEvent_t event;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    enum cudaStreamCaptureStatus status;
    size_t nodes;
    OK(cudaMalloc(&p, sizeof host));
    OK(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    OK(cudaStreamCreate(&b));
    OK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    OK(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
    OK(cudaMemsetAsync(p, 0, sizeof host, a));
    for (int i = 1; i <= 3; i++) LAUNCH(add_kernel, 4, 32, 0, a, p, (float)i, 100);
    OK(cudaEventRecord(event, a));
    OK(cudaStreamWaitEvent(b, event));
    LAUNCH(add_kernel, 4, 32, 0, b, p, 10.0f, 100);
    OK(cudaStreamIsCapturing(b, &status));
    CHECK(status == cudaStreamCaptureStatusActive);
    OK(cudaEventRecord(event, b));
    OK(cudaStreamWaitEvent(a, event));
    OK(cudaMemcpyAsync(host, p, sizeof host, cudaMemcpyDeviceToHost, a));
    OK(cudaStreamEndCapture(a, &graph));
    OK(cudaStreamIsCapturing(b, &status));
    CHECK(status == cudaStreamCaptureStatusNone);
    OK(cudaGraphGetNodes(graph, NULL, &nodes));
    CHECK(nodes == 6);
    OK(cudaGraphInstantiate(&exec, graph));
    OK(cudaGraphDestroy(graph));
    CHECK(host[0] == 0.0f); /* nothing has run yet */
    for (int i = 0; i < 2; i++) {
        memset(host, 0, sizeof host);
        OK(cudaGraphLaunch(exec, a));
        OK(cudaStreamSynchronize(a));
        for (float f : host) CHECK(f == 16.0f);
    }
    OK(cudaGraphExecDestroy(exec));
    OK(cudaEventDestroy(event));
    OK(cudaStreamDestroy(a));
    OK(cudaStreamDestroy(b));
    OK(cudaFree(p));
}

/* What may not be done in a capture ends it. */
static void captures_break(void) {
    enum { SYNC, ALLOC, FREE, OUTSIDE, n_kinds };
    float *p, *q;
    cudaStream_t a;
    cudaEvent_t outside;
    OK(cudaMalloc(&p, 400));
    OK(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    OK(cudaEventCreate(&outside));
    OK(cudaEventRecord(outside, a));
    for (int kind = 0; kind < n_kinds; kind++) {
        cudaGraph_t graph = (cudaGraph_t)(void *)p;
        OK(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
        const cudaError_t error = kind == SYNC    ? cudaStreamSynchronize(a)
                                  : kind == ALLOC ? cudaMalloc(&q, 4)
                                  : kind == FREE  ? cudaFree(p)
                                                  : cudaStreamWaitEvent(a, outside);
        CHECK(error == (kind == OUTSIDE ? cudaErrorStreamCaptureIsolation
                                        : cudaErrorStreamCaptureUnsupported));
        CHECK(cudaGetLastError() == error);
        CHECK(cudaMemsetAsync(p, 0, 400, a) == cudaErrorStreamCaptureInvalidated);
        CHECK(cudaStreamEndCapture(a, &graph) == cudaErrorStreamCaptureInvalidated && !graph);
        CHECK(cudaGetLastError() == cudaErrorStreamCaptureInvalidated);
    }
    setenv("EMU_GRAPHS", "0", 1);
    CHECK(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal) == cudaErrorNotSupported);
    CHECK(cudaGetLastError() == cudaErrorNotSupported);
    unsetenv("EMU_GRAPHS");
    OK(cudaStreamSynchronize(a));
    OK(cudaEventDestroy(outside));
    OK(cudaStreamDestroy(a));
    OK(cudaFree(p));
}

static __global__ void copy_kernel(const float *from, float *to) {
    to[thread()] = from[thread()];
}

/* EMU_ORDER as it was. */
struct order {
    char before[40];
    bool was_set;
    explicit order(const char *now) {
        const char *text = getenv("EMU_ORDER");
        was_set = text != NULL;
        snprintf(before, sizeof before, "%s", was_set ? text : "");
        setenv("EMU_ORDER", now, 1);
    }
    ~order() {
        if (was_set)
            setenv("EMU_ORDER", before, 1);
        else
            unsetenv("EMU_ORDER");
    }
};

/* A copy into `x` on one stream and a kernel that reads it on another: what the kernel saw. */
static float seen(const char *name, bool waits, bool pinned) {
    const struct order order(name);
    float *x, *y, *host, plain[32], back[32];
    cudaStream_t copies, work;
    cudaEvent_t copied;
    OK(cudaMalloc(&x, sizeof plain));
    OK(cudaMalloc(&y, sizeof plain));
    OK(cudaMemset(x, 0, sizeof plain));
    OK(cudaMallocHost(&host, sizeof plain));
    OK(cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&work, cudaStreamNonBlocking));
    OK(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming));
    float *from = pinned ? host : plain;
    for (int i = 0; i < 32; i++) from[i] = 1.0f;
    OK(cudaMemcpyAsync(x, from, sizeof plain, cudaMemcpyHostToDevice, copies));
    for (int i = 0; i < 32; i++) from[i] = 2.0f; /* pinned: too early, unless it was done at once */
    OK(cudaEventRecord(copied, copies));
    if (waits) OK(cudaStreamWaitEvent(work, copied));
    LAUNCH(copy_kernel, 1, 32, 0, work, x, y);
    OK(cudaMemcpyAsync(back, y, sizeof back, cudaMemcpyDeviceToHost, work));
    OK(cudaEventDestroy(copied));
    OK(cudaStreamDestroy(copies));
    OK(cudaStreamDestroy(work));
    OK(cudaFreeHost(host));
    OK(cudaFree(x));
    OK(cudaFree(y));
    return back[0];
}

static void streams_work_when_they_like(void) {
    CHECK(seen("forward", false, true) == 1.0f);
    CHECK(seen("forward", false, false) == 1.0f);
    CHECK(seen("reverse", false, false) == 0.0f);
    CHECK(seen("reverse", true, false) == 1.0f);
    CHECK(seen("reverse", true, true) == 2.0f);
    bool early = false, late = false;
    for (int i = 0; i < 100; i++) {
        const float value = seen("random:7", false, false);
        early = early || value == 1.0f;
        late = late || value == 0.0f;
        CHECK(seen("random:7", true, false) == 1.0f);
    }
    CHECK(early && late);
}

/* The default stream waits for blocking streams, not for others. */
static void the_default_stream_waits(void) {
    float *p, host[32];
    cudaStream_t stream;
    const struct order order("reverse");
    OK(cudaMalloc(&p, sizeof host));
    for (unsigned flags : {(unsigned)cudaStreamDefault, (unsigned)cudaStreamNonBlocking}) {
        OK(cudaMemset(p, 0xff, sizeof host));
        OK(cudaStreamCreateWithFlags(&stream, flags));
        OK(cudaMemsetAsync(p, 0, sizeof host, stream));
        OK(cudaMemcpy(host, p, sizeof host, cudaMemcpyDeviceToHost));
        CHECK(flags == cudaStreamDefault ? host[31] == 0.0f : isnan(host[31]));
        OK(cudaDeviceSynchronize());
        OK(cudaMemcpy(host, p, sizeof host, cudaMemcpyDeviceToHost));
        CHECK(host[31] == 0.0f);
        OK(cudaStreamDestroy(stream));
    }
    OK(cudaFree(p));
}

static void events_measure_time(void) {
    cudaEvent_t from, to;
    float ms = -1.0f;
    OK(cudaEventCreate(&from));
    OK(cudaEventCreate(&to));
    CHECK(cudaEventElapsedTime(&ms, from, to) == cudaErrorInvalidResourceHandle);
    cudaGetLastError();
    OK(cudaEventRecord(from));
    OK(cudaEventRecord(to));
    OK(cudaEventSynchronize(to));
    OK(cudaEventElapsedTime(&ms, from, to));
    CHECK(ms >= 0.0f && ms < 1e4f);
    OK(cudaEventDestroy(from));
    OK(cudaEventDestroy(to));
}

static void the_device_is_described(void) {
    int n = -1, sms = 0;
    struct cudaDeviceProp prop;
    OK(cudaGetDeviceCount(&n));
    CHECK(n == 1);
    OK(cudaSetDevice(0));
    CHECK(cudaSetDevice(1) == cudaErrorInvalidDevice);
    CHECK(cudaGetLastError() == cudaErrorInvalidDevice);
    OK(cudaGetDeviceProperties(&prop, 0));
    OK(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0));
    CHECK(sms == prop.multiProcessorCount && sms > 0);
    CHECK_STR(cudaGetErrorName(cudaErrorMemoryAllocation), "cudaErrorMemoryAllocation");
    CHECK_STR(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
}

/* ---- counters ---- */
static __global__ void sectors_kernel(const float *in, const uint16_t *strided, float *out, int n) {
    SHARED(float, s, 4 * 32);
    const int t = thread();
    if (block() == 0) cp16(&s[4 * t], &in[4 * t], true); /* 512 bytes */
    cp_commit();
    cp_wait<0>();
    __syncthreads();
    float sum = block() == 0 ? s[127 - t] : 0.0f;
    sum += (float)strided[64 * t];            /* 32 sectors, 2 bytes of each, in both blocks */
    for (int i = 0; i < n; i++) sum += in[i]; /* the same 4 n bytes in every thread */
    out[32 * block() + t] = sum;              /* 256 bytes */
}

static void distinct_sectors_and_issued_bytes(void) {
    float *in, *out;
    uint16_t *strided;
    struct emu_counter list[4] = {};
    OK(cudaMalloc(&in, 512));
    OK(cudaMalloc(&out, 256));
    OK(cudaMalloc(&strided, 32 * 128));
    OK(cudaMemset(in, 0, 512));
    OK(cudaMemset(strided, 0, 32 * 128));
    emu_counters_reset();
    for (int i = 0; i < 3; i++) LAUNCH(sectors_kernel, 2, 32, 0, 0, in, strided, out, 12);
    LAUNCH((index_kernel<1, int>), 1, 8, 0, 0, (several{(int *)out, 1, {}}), 0);
    OK(cudaMemset(in, 0, 512));
    CHECK(emu_counters_get(list, 4) == 3);
    CHECK_STR(list[0].kernel, "sectors_kernel");
    CHECK_STR(list[1].kernel, "index_kernel<1, int>");
    CHECK_STR(list[2].kernel, "memset");
    CHECK(list[0].launches == 3 && list[1].launches == 1 && list[2].launches == 1);
    CHECK(list[0].bytes_read == 3 * (512 + 32 * 32));
    CHECK(list[0].bytes_written == 3 * 256);
    CHECK(list[0].issued_read == 3 * (512 + 64 * 2 + 64 * 12 * 4));
    CHECK(list[0].issued_written == 3 * 256);
    CHECK(list[1].bytes_read == 0 && list[1].bytes_written == 32 && list[1].issued_written == 32);
    CHECK(list[2].bytes_written == 512);
    OK(cudaFree(in));
    OK(cudaFree(out));
    OK(cudaFree(strided));
}

static void nothing_is_counted(void) {
    struct emu_counter one;
    emu_counters_reset();
    CHECK(emu_counters_get(&one, 1) == 0);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "threads") == 0) return blocks_on_host_threads() ? 0 : 1;
    CASE(memory_is_nan_and_ends_where_it_ends);
    CASE(memory_is_limited);
    CASE(copies_of_two_dimensions);
    CASE(threads_and_blocks_have_their_indices);
    CASE(barriers_and_shared_memory);
    CASE(much_shared_memory_after_an_attribute);
    CASE(atomics_over_blocks);
    CASE(a_process_with_host_threads_ends);
    CASE(orders_differ_and_repeat);
    CASE(graphs_repeat_what_was_captured);
    CASE(captures_break);
    CASE(streams_work_when_they_like);
    CASE(the_default_stream_waits);
    CASE(events_measure_time);
    CASE(the_device_is_described);
    if (emu_counters_available())
        CASE(distinct_sectors_and_issued_bytes);
    else
        CASE(nothing_is_counted);
    return check_finish();
}
