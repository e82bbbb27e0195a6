/* SPDX-License-Identifier: MIT
 * Streams of the emulation. Each has a queue; when its work is done is what EMU_ORDER says:
 *   forward   at once
 *   reverse   as late as it may be: when the host waits for it, or another stream that the host waits for has to
 *   random    some of any stream's after a call, or none for a while
 * So a wait that is missing between two streams, or before pinned memory is written again, shows in results. */
#ifndef EMU_STREAM_H
#define EMU_STREAM_H

#include <functional>
#include <mutex>

#include "emu.h"

/* Held by every call: they may come from several host threads. */
struct emu_guard {
    emu_guard();
    ~emu_guard();
};

#define TRY_CUDA(call)                                        \
    do {                                                      \
        const cudaError_t try_error_ = (call);                \
        if (try_error_ != cudaSuccess) return try_error_;     \
    } while (0)

/* Work for a stream (NULL: the default one, which waits for all blocking streams): into its queue, or into the graph that it
 * is captured into. */
cudaError_t emu_submit(cudaStream_t stream, std::function<void()> work);
bool emu_is_captured(cudaStream_t stream);
void emu_finish_all(void); /* does what all streams have left */
/* A call that a thread may not make while it captures: says so, and the capture is invalid. False where it does not capture. */
bool emu_breaks_capture(const char *call);

#endif
