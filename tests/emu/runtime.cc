/* SPDX-License-Identifier: MIT
 * Launches, copies, streams, events and graphs. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <functional>
#include <map>
#include <mutex>
#include <set>

#include "internal.h"

typedef std::vector<std::function<void()>> emu_work;

struct emu_graph {
    emu_work work;
};
struct emu_graph_exec {
    emu_work work;
};
struct emu_stream {
    struct emu_graph *capture; /* what its work is kept in, or NULL */
    bool origin;               /* the capture began in this stream */
};
struct emu_event {
    struct emu_graph *capture; /* recorded in this capture */
    bool recorded;
    double at; /* seconds */
};

/* Those that exist: a capture's end is told to all that take part. */
static std::set<struct emu_stream *> streams;
static std::set<struct emu_event *> events;
static std::recursive_mutex lock; /* of everything: calls may come from several host threads */
static std::map<const void *, size_t> dynamic_limit;
static __thread cudaError_t last_error;
typedef std::lock_guard<std::recursive_mutex> guard;

cudaError_t emu_failed(cudaError_t error, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    fputs("emu: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    last_error = error;
    return error;
}

const char *cudaGetErrorName(cudaError_t error) {
    switch (error) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorInvalidValue:
        return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
        return "cudaErrorInvalidConfiguration";
    case cudaErrorInsufficientDriver:
        return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
        return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
        return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
        return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
        return "cudaErrorNotReady";
    case cudaErrorIllegalAddress:
        return "cudaErrorIllegalAddress";
    case cudaErrorNotSupported:
        return "cudaErrorNotSupported";
    case cudaErrorStreamCaptureUnsupported:
        return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureUnmatched:
        return "cudaErrorStreamCaptureUnmatched";
    case cudaErrorUnknown:
        break;
    }
    return "cudaErrorUnknown";
}

const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidConfiguration:
        return "invalid configuration argument";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
        return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
        return "invalid resource handle";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    default:
        return cudaGetErrorName(error);
    }
}

cudaError_t cudaGetLastError(void) {
    const cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}

cudaError_t cudaPeekAtLastError(void) {
    return last_error;
}

/* ---- the order of threads ---- */
struct emu_order emu_get_order(void) {
    const char *text = getenv("EMU_ORDER");
    struct emu_order o = {EMU_FORWARD, 1};
    if (text == NULL || strcmp(text, "forward") == 0) return o;
    if (strcmp(text, "reverse") == 0) {
        o.kind = EMU_REVERSE;
    } else if (strncmp(text, "random", 6) == 0 && (text[6] == '\0' || text[6] == ':')) {
        o.kind = EMU_RANDOM;
        if (text[6] == ':') o.seed = strtoull(text + 7, NULL, 10);
    } else {
        emu_stop("EMU_ORDER=%s is not one of forward, reverse, random, random:SEED", text);
    }
    return o;
}

/* ---- what streams do ---- */
static struct emu_graph *capturing(cudaStream_t stream) {
    return stream == NULL ? NULL : stream->capture;
}

/* Does the work now, or keeps it for the graph that the stream is captured into. */
static void submit(cudaStream_t stream, std::function<void()> work) {
    struct emu_graph *graph = capturing(stream);
    if (graph != NULL)
        graph->work.push_back(std::move(work));
    else
        work();
}

static void run_job(const struct emu_job *job) {
    emu_memory_open();
    if (EMU_COUNT) emu_count_begin(job->name);
    emu_run(job);
    if (EMU_COUNT) emu_count_end();
    emu_memory_close();
}

void emu_launch(const char *name, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                struct emu_call call) {
    guard g(lock);
    const char *n = emu_symbol(call.kernel, name);
    const uint64_t threads = (uint64_t)block.x * block.y * block.z;
    const auto it = dynamic_limit.find(call.kernel);
    const size_t limit = it == dynamic_limit.end() ? (size_t)emu_static_shared : it->second;
    if (threads == 0 || threads > emu_max_threads || block.z > 64)
        emu_failed(cudaErrorInvalidConfiguration,
                   "launch of %s: a block of %u x %u x %u threads, at most %d", n, block.x, block.y,
                   block.z, emu_max_threads);
    else if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
             grid.z > 65535)
        emu_failed(
            cudaErrorInvalidConfiguration,
            "launch of %s: a grid of %u x %u x %u blocks, at most 2^31-1 x 65535 x 65535, at least 1",
            n, grid.x, grid.y, grid.z);
    else if (shared > limit)
        emu_failed(cudaErrorInvalidValue,
                   "launch of %s: %zu bytes of dynamic shared memory, at most %zu%s", n, shared,
                   limit, it == dynamic_limit.end() ? " (not raised by cudaFuncSetAttribute)" : "");
    else
        submit(stream, [n, grid, block, shared, limit, call] {
            const size_t together =
                limit > emu_static_shared ? (size_t)emu_max_shared : (size_t)emu_static_shared;
            const struct emu_job job = {n, grid, block, shared, together, call};
            run_job(&job);
        });
}

void emu_library_work(const char *name, cudaStream_t stream, std::function<void()> work) {
    guard g(lock);
    submit(stream, [name, work] {
        emu_memory_open();
        if (EMU_COUNT) emu_count_begin(name);
        work();
        if (EMU_COUNT) emu_count_end();
        emu_memory_close();
    });
}

cudaError_t emu_func_set_attribute(const void *kernel, enum cudaFuncAttribute attr, int value) {
    guard g(lock);
    if (attr == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
    if (attr != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || value > emu_max_shared)
        return emu_failed(cudaErrorInvalidValue,
                          "cudaFuncSetAttribute: %d bytes of dynamic shared memory, at most %d",
                          value, emu_max_shared);
    dynamic_limit[kernel] = (size_t)value;
    return cudaSuccess;
}

cudaError_t emu_occupancy(int *blocks, const void *, int threads, size_t shared) {
    const size_t by_shared = (size_t)(228 << 10) / (shared + 1024),
                 by_threads = 2048 / (size_t)(threads < 32 ? 32 : threads);
    *blocks = (int)(by_shared < by_threads ? by_shared : by_threads);
    return cudaSuccess;
}

/* ---- copies ---- */
static bool is_side(const void *p, size_t bytes, bool device, const char *what) {
    if (device ? emu_is_allocated(p, bytes) : !emu_is_device(p)) return true;
    emu_failed(cudaErrorInvalidValue,
               "%s: %p is not in %s memory, or its %zu bytes end beyond the allocation", what, p,
               device ? "device" : "host", bytes);
    return false;
}

static cudaError_t copy(void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
                        size_t width, size_t height, enum cudaMemcpyKind kind,
                        cudaStream_t stream) {
    guard g(lock);
    if (width == 0 || height == 0) return cudaSuccess;
    const size_t dst_bytes = dst_pitch * (height - 1) + width,
                 src_bytes = src_pitch * (height - 1) + width;
    const bool to_device = kind == cudaMemcpyDefault ? emu_is_device(dst)
                                                     : (kind == cudaMemcpyHostToDevice ||
                                                        kind == cudaMemcpyDeviceToDevice);
    const bool from_device = kind == cudaMemcpyDefault ? emu_is_device(src)
                                                       : (kind == cudaMemcpyDeviceToHost ||
                                                          kind == cudaMemcpyDeviceToDevice);
    if (!is_side(dst, dst_bytes, to_device, "copy to") ||
        !is_side(src, src_bytes, from_device, "copy from"))
        return cudaErrorInvalidValue;
    submit(stream, [=] {
        emu_memory_open();
        if (EMU_COUNT) emu_count_begin("copy");
        for (size_t i = 0; i < height; i++) {
            char *to = (char *)dst + i * dst_pitch;
            const char *from = (const char *)src + i * src_pitch;
            memmove(to, from, width);
            if (EMU_COUNT && to_device) emu_count_copy(to, width, true);
            if (EMU_COUNT && from_device) emu_count_copy(from, width, false);
        }
        if (EMU_COUNT) emu_count_end();
        emu_memory_close();
    });
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
    return copy(dst, bytes, src, bytes, bytes, 1, kind, stream);
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind) {
    return copy(dst, bytes, src, bytes, bytes, 1, kind, NULL);
}

cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
                              size_t width, size_t height, enum cudaMemcpyKind kind,
                              cudaStream_t stream) {
    if (width > dst_pitch || width > src_pitch)
        return emu_failed(cudaErrorInvalidValue, "cudaMemcpy2DAsync: width beyond a pitch");
    return copy(dst, dst_pitch, src, src_pitch, width, height, kind, stream);
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream) {
    guard g(lock);
    if (bytes == 0) return cudaSuccess;
    if (!is_side(p, bytes, true, "memset of")) return cudaErrorInvalidValue;
    submit(stream, [=] {
        emu_memory_open();
        memset(p, value, bytes);
        if (EMU_COUNT) {
            emu_count_begin("memset");
            emu_count_copy(p, bytes, true);
            emu_count_end();
        }
        emu_memory_close();
    });
    return cudaSuccess;
}

cudaError_t cudaMemset(void *p, int value, size_t bytes) {
    return cudaMemsetAsync(p, value, bytes, NULL);
}

/* ---- streams and events ---- */
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned) {
    guard g(lock);
    *out = new struct emu_stream();
    streams.insert(*out);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *out) {
    return cudaStreamCreateWithFlags(out, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int) {
    return cudaStreamCreateWithFlags(out, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    guard g(lock);
    streams.erase(stream);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    guard g(lock);
    if (capturing(stream) != NULL)
        return emu_failed(cudaErrorStreamCaptureUnsupported,
                          "cudaStreamSynchronize of a stream that is captured");
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    return cudaStreamSynchronize(stream);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void *context) {
    guard g(lock);
    submit(stream, [=] { fn(context); });
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned) {
    guard g(lock);
    *out = new struct emu_event();
    events.insert(*out);
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *out) {
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    guard g(lock);
    events.erase(event);
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    guard g(lock);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    event->at = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    event->recorded = true;
    event->capture = capturing(stream);
    return cudaSuccess;
}

/* A stream that waits for an event of a captured one is captured with it. */
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    guard g(lock);
    if (event->capture != NULL && stream != NULL && stream->capture == NULL)
        stream->capture = event->capture;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    return event->capture == NULL ? cudaSuccess
                                  : emu_failed(cudaErrorStreamCaptureUnsupported,
                                               "cudaEventSynchronize of a captured event");
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    return cudaEventSynchronize(event);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to) {
    if (!from->recorded || !to->recorded)
        return emu_failed(cudaErrorInvalidResourceHandle,
                          "cudaEventElapsedTime of an event not recorded");
    *ms = (float)(1e3 * (to->at - from->at));
    return cudaSuccess;
}

/* ---- graphs ---- */
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode) {
    guard g(lock);
    if (stream == NULL || stream->capture != NULL)
        return emu_failed(
            cudaErrorStreamCaptureUnsupported,
            "cudaStreamBeginCapture of the default stream, or of one that is captured");
    stream->capture = new struct emu_graph();
    stream->origin = true;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out) {
    guard g(lock);
    *out = NULL;
    if (stream == NULL || stream->capture == NULL || !stream->origin)
        return emu_failed(cudaErrorStreamCaptureUnmatched,
                          "cudaStreamEndCapture of a stream whose capture did not begin there");
    *out = stream->capture;
    stream->origin = false;
    for (struct emu_stream *one : streams)
        if (one->capture == *out) one->capture = NULL;
    for (struct emu_event *one : events)
        if (one->capture == *out) one->capture = NULL;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *out) {
    *out = capturing(stream) != NULL ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long) {
    *out = new emu_graph_exec{graph->work};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    guard g(lock);
    submit(stream, [exec] {
        for (const std::function<void()> &work : exec->work) work();
    });
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, void *, size_t *n) {
    *n = graph->work.size();
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    return cudaSuccess;
}
