/* SPDX-License-Identifier: MIT
 * Streams, events and graphs: see the header. */
#include "stream.h"

#include <stdlib.h>
#include <time.h>

#include <algorithm>
#include <deque>

#include "internal.h"

typedef std::vector<std::function<void()>> emu_work;

struct emu_graph {
    emu_work work;
    bool is_invalid;
};
struct emu_graph_exec {
    std::shared_ptr<const emu_work> work; /* a launch that waits in a queue keeps it */
};

/* How far a stream had come: after its first `n` items. */
struct mark {
    struct emu_stream *stream; /* NULL: nothing to wait for */
    uint64_t n;
};
struct item {
    struct mark after;
    std::function<void()> work; /* may be empty */
};
struct emu_stream {
    struct emu_graph *capture; /* what its work is kept in, or NULL */
    bool origin;               /* the capture began in this stream */
    bool blocks;               /* the default stream waits for it */
    std::deque<struct item> queue;
    uint64_t n_given, n_done; /* items */
};
struct emu_event {
    struct emu_graph *capture; /* recorded in this capture */
    bool recorded;
    struct mark mark;
    std::shared_ptr<double> at; /* seconds: when its stream came to it */
};

/* Those that exist: a capture's end is told to all that take part. */
static std::vector<struct emu_stream *> streams; /* in the order of their making */
static std::vector<struct emu_event *> events;
static std::recursive_mutex lock;
static thread_local struct emu_graph *own_capture; /* that this thread has begun */

emu_guard::emu_guard() {
    lock.lock();
}

emu_guard::~emu_guard() {
    lock.unlock();
}

/* ---- when work is done ---- */
static bool is_done(const struct mark *m) {
    return m->stream == NULL || m->stream->n_done >= m->n;
}

static void finish(struct mark m);

static void do_next(struct emu_stream *stream) {
    const struct item next = std::move(stream->queue.front());
    stream->queue.pop_front();
    finish(next.after);
    if (next.work) next.work();
    stream->n_done++;
}

static void finish(struct mark m) {
    while (!is_done(&m)) do_next(m.stream);
}

static void finish_stream(struct emu_stream *stream) {
    finish({stream, stream->n_given});
}

void emu_finish_all(void) {
    emu_guard guard;
    for (struct emu_stream *one : streams) finish_stream(one);
}

/* One piece of work after the other, of any stream whose next one need not wait: about 2 of them, or for a while none, so that
 * the host runs ahead. */
static void do_some(uint64_t seed) {
    static uint64_t state = seed;
    static bool rests = false;
    if (emu_random(&state) % 32 == 0) rests = !rests;
    while (!rests && emu_random(&state) % 3 != 0) {
        std::vector<struct emu_stream *> ready;
        for (struct emu_stream *one : streams)
            if (!one->queue.empty() && is_done(&one->queue.front().after)) ready.push_back(one);
        if (ready.empty()) return;
        do_next(ready[emu_random(&state) % ready.size()]);
    }
}

static void enqueue(struct emu_stream *stream, struct item item) {
    const struct emu_order order = emu_get_order();
    stream->queue.push_back(std::move(item));
    stream->n_given++;
    if (order.kind == EMU_FORWARD) finish_stream(stream);
    if (order.kind == EMU_RANDOM) do_some(order.seed);
}

static cudaError_t invalid_capture(void) {
    return emu_failed(cudaErrorStreamCaptureInvalidated, "a call for a capture that is invalid");
}

cudaError_t emu_submit(cudaStream_t stream, std::function<void()> work) {
    emu_guard guard;
    if (stream == NULL) {
        for (struct emu_stream *one : streams)
            if (one->blocks && one->capture == NULL) finish_stream(one);
        work();
    } else if (stream->capture == NULL) {
        enqueue(stream, {{NULL, 0}, std::move(work)});
    } else if (stream->capture->is_invalid) {
        return invalid_capture();
    } else {
        stream->capture->work.push_back(std::move(work));
    }
    return cudaSuccess;
}

bool emu_is_captured(cudaStream_t stream) {
    return stream != NULL && stream->capture != NULL;
}

bool emu_breaks_capture(const char *call) {
    if (own_capture == NULL) return false;
    own_capture->is_invalid = true;
    emu_failed(cudaErrorStreamCaptureUnsupported, "%s while a stream is captured", call);
    return true;
}

/* ---- streams ---- */
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags) {
    emu_guard guard;
    *out = new struct emu_stream();
    (*out)->blocks = flags != cudaStreamNonBlocking;
    streams.push_back(*out);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *out) {
    return cudaStreamCreateWithFlags(out, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int) {
    return cudaStreamCreateWithFlags(out, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    emu_guard guard;
    finish_stream(stream);
    for (struct emu_stream *one : streams)
        for (struct item &item : one->queue)
            if (item.after.stream == stream) item.after.stream = NULL;
    for (struct emu_event *one : events)
        if (one->mark.stream == stream) one->mark.stream = NULL;
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    emu_guard guard;
    if (emu_is_captured(stream)) {
        stream->capture->is_invalid = true;
        return emu_failed(cudaErrorStreamCaptureUnsupported,
                          "cudaStreamSynchronize of a stream that is captured");
    }
    return stream == NULL ? emu_submit(NULL, [] {}) : (finish_stream(stream), cudaSuccess);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    return cudaStreamSynchronize(stream);
}

cudaError_t cudaDeviceSynchronize(void) {
    if (emu_breaks_capture("cudaDeviceSynchronize")) return cudaErrorStreamCaptureUnsupported;
    emu_finish_all();
    return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void *context) {
    return emu_submit(stream, [=] { fn(context); });
}

/* ---- events ---- */
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned) {
    emu_guard guard;
    *out = new struct emu_event();
    events.push_back(*out);
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *out) {
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    emu_guard guard;
    events.erase(std::find(events.begin(), events.end(), event));
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    emu_guard guard;
    const auto at = std::make_shared<double>();
    const auto stamp = [at] {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        *at = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    };
    if (stream != NULL && stream->capture == NULL)
        enqueue(stream, {{NULL, 0}, stamp});
    else
        stamp();
    event->at = at;
    event->recorded = true;
    event->capture = stream == NULL ? NULL : stream->capture;
    event->mark = {stream, stream == NULL ? 0 : stream->n_given};
    return cudaSuccess;
}

/* A stream that waits for an event of a captured one is captured with it. */
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    emu_guard guard;
    if (stream == NULL) {
        finish(event->mark);
    } else if (stream->capture != NULL && event->capture == NULL && event->recorded) {
        stream->capture->is_invalid = true;
        return emu_failed(cudaErrorStreamCaptureIsolation,
                          "a stream that is captured waits for what is not in its capture");
    } else if (event->capture != NULL) {
        if (stream->capture == NULL) stream->capture = event->capture;
    } else if (stream->capture == NULL && event->mark.stream != NULL) {
        enqueue(stream, {event->mark, {}});
    }
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    emu_guard guard;
    if (event->capture == NULL) {
        finish(event->mark);
        return cudaSuccess;
    }
    event->capture->is_invalid = true;
    return emu_failed(cudaErrorStreamCaptureUnsupported,
                      "cudaEventSynchronize of a captured event");
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    return cudaEventSynchronize(event);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to) {
    if (!from->recorded || !to->recorded)
        return emu_failed(cudaErrorInvalidResourceHandle,
                          "cudaEventElapsedTime of an event not recorded");
    *ms = (float)(1e3 * (*to->at - *from->at));
    return cudaSuccess;
}

/* ---- graphs ---- */
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode) {
    emu_guard guard;
    const char *graphs = getenv("EMU_GRAPHS");
    if (graphs != NULL && graphs[0] == '0')
        return emu_failed(cudaErrorNotSupported, "EMU_GRAPHS=0: cudaStreamBeginCapture");
    if (stream == NULL || stream->capture != NULL)
        return emu_failed(
            cudaErrorStreamCaptureUnsupported,
            "cudaStreamBeginCapture of the default stream, or of one that is captured");
    own_capture = stream->capture = new struct emu_graph();
    stream->origin = true;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out) {
    emu_guard guard;
    *out = NULL;
    if (stream == NULL || stream->capture == NULL || !stream->origin)
        return emu_failed(cudaErrorStreamCaptureUnmatched,
                          "cudaStreamEndCapture of a stream whose capture did not begin there");
    *out = stream->capture;
    stream->origin = false;
    own_capture = NULL;
    for (struct emu_stream *one : streams)
        if (one->capture == *out) one->capture = NULL;
    for (struct emu_event *one : events) {
        if (one->capture != *out) continue;
        one->capture = NULL;
        one->recorded = false;
        one->mark = {NULL, 0};
    }
    if (!(*out)->is_invalid) return cudaSuccess;
    delete *out;
    *out = NULL;
    return invalid_capture();
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *out) {
    *out = emu_is_captured(stream) ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long) {
    *out = new emu_graph_exec{std::make_shared<const emu_work>(graph->work)};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    const std::shared_ptr<const emu_work> all = exec->work;
    return emu_submit(stream, [all] {
        for (const std::function<void()> &work : *all) work();
    });
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
