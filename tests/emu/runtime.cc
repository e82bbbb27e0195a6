/* SPDX-License-Identifier: MIT
 * Errors, launches and copies. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <map>

#include "emu_counters.h"
#include "internal.h"
#include "stream.h"

static std::map<const void *, size_t> dynamic_limit;
static __thread cudaError_t last_error;

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
    case cudaErrorStreamCaptureInvalidated:
        return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorStreamCaptureUnmatched:
        return "cudaErrorStreamCaptureUnmatched";
    case cudaErrorStreamCaptureIsolation:
        return "cudaErrorStreamCaptureIsolation";
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
    case cudaErrorNotSupported:
        return "operation not supported";
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

/* ---- launches ---- */
static uint64_t n_launches;

uint64_t emu_launches(void) {
    emu_guard guard;
    return n_launches;
}

static void run_job(const struct emu_job *job) {
    n_launches++;
    emu_memory_open();
    if (EMU_COUNT) emu_count_begin(job->name);
    emu_run(job);
    if (EMU_COUNT) emu_count_end();
    emu_memory_close();
}

void emu_launch(const char *name, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                struct emu_call call) {
    emu_guard guard;
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
        emu_submit(stream, [n, grid, block, shared, limit, call] {
            const size_t together =
                limit > emu_static_shared ? (size_t)emu_max_shared : (size_t)emu_static_shared;
            const struct emu_job job = {n, grid, block, shared, together, call};
            run_job(&job);
        });
}

void emu_library_work(const char *name, cudaStream_t stream, std::function<void()> work) {
    emu_guard guard;
    emu_submit(stream, [name, work] {
        emu_memory_open();
        if (EMU_COUNT) emu_count_begin(name);
        work();
        if (EMU_COUNT) emu_count_end();
        emu_memory_close();
    });
}

cudaError_t emu_func_set_attribute(const void *kernel, enum cudaFuncAttribute attr, int value) {
    emu_guard guard;
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
    emu_guard guard;
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
    const bool pageable_in = !from_device && !emu_is_pinned(src),
               pageable_out = !to_device && !emu_is_pinned(dst);
    std::shared_ptr<std::vector<char>> staged;
    if (pageable_in && !emu_is_captured(stream)) { /* the caller may change it at once */
        staged =
            std::make_shared<std::vector<char>>((const char *)src, (const char *)src + src_bytes);
        src = staged->data();
    }
    TRY_CUDA(emu_submit(stream, [=] {
        (void)staged;
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
    }));
    return pageable_out && !emu_is_captured(stream) ? cudaStreamSynchronize(stream) : cudaSuccess;
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
    emu_guard guard;
    if (bytes == 0) return cudaSuccess;
    if (!is_side(p, bytes, true, "memset of")) return cudaErrorInvalidValue;
    return emu_submit(stream, [=] {
        emu_memory_open();
        memset(p, value, bytes);
        if (EMU_COUNT) {
            emu_count_begin("memset");
            emu_count_copy(p, bytes, true);
            emu_count_end();
        }
        emu_memory_close();
    });
}

cudaError_t cudaMemset(void *p, int value, size_t bytes) {
    return cudaMemsetAsync(p, value, bytes, NULL);
}

cudaError_t cudaFuncGetName(const char **name, const void *kernel) {
    emu_guard guard;
    *name = emu_symbol(kernel, "unknown");
    return cudaSuccess;
}
