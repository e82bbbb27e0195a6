/* SPDX-License-Identifier: MIT
 * Work that repeats, as a CUDA graph: a step's several hundred launches become one. The first time it is done in the usual way, so
 * that whatever a library or an entry sets up at its first use is there; the second time it is captured; from then on it
 * is replayed. Where capturing fails (some executors of these binaries know no graphs) it goes on in the usual way. */
#include "kernels/cuda/cuda.cuh"

#include <stdlib.h>

#include "core/log.h"
#include "kernels/cuda/range.h"

struct ops_graph {
    cudaGraphExec_t exec; /* NULL: done once, not captured yet */
};

static enum ecg_status instantiate(struct ops_graph *graph, cudaGraph_t captured) {
    const cudaError_t error = cudaGraphInstantiate(&graph->exec, captured, 0);
    cudaGraphDestroy(captured);
    if (error != cudaSuccess) graph->exec = NULL;
    return cuda_check(error, "making a graph");
}

/* Nothing of `work` is done here. */
static enum ecg_status capture(struct ops_dev *dev, struct ops_graph *graph,
                               enum ecg_status (*work)(void *), void *context) {
    cudaGraph_t captured = NULL;
    TRY(cuda_check(cudaStreamBeginCapture(dev->stream, cudaStreamCaptureModeThreadLocal),
                   "beginning to record a graph"));
    dev->capturing = 1;
    const enum ecg_status status = work(context);
    dev->capturing = 0;
    const cudaError_t ended = cudaStreamEndCapture(dev->stream, &captured);
    if (status == ECG_OK && ended == cudaSuccess) return instantiate(graph, captured);
    if (captured) cudaGraphDestroy(captured);
    return status != ECG_OK ? status : cuda_check(ended, "recording a graph");
}

static void do_without(struct ops_dev *dev, const char *name) {
    cudaGetLastError(); /* told here; it is no later call's */
    dev->no_graphs = 1;
    log_warn("the %s pass can't be a CUDA graph, each kernel is launched by itself from now on: %s",
             name, ecg_message());
}

enum ecg_status cuda_run(struct ops_dev *dev, const char *name, struct ops_graph **graph,
                         enum ecg_status (*work)(void *context), void *context) {
    const struct cuda_range range(name);
    if (!graph || dev->no_graphs || dev->profiling || dev->capturing) return work(context);
    if (!*graph) {
        *graph = (struct ops_graph *)calloc(1, sizeof **graph);
        if (!*graph) return ecg_fail(ECG_ERR_NOMEM, "out of memory: %zu bytes", sizeof **graph);
        return work(context);
    }
    if (!(*graph)->exec && capture(dev, *graph, work, context) != ECG_OK) {
        do_without(dev, name);
        return work(context);
    }
    return cuda_check(cudaGraphLaunch((*graph)->exec, dev->stream), "launching the %s graph", name);
}

enum ecg_status cuda_unrecorded(const struct ops_dev *dev, const char *op) {
    return dev->capturing ? ecg_fail(ECG_ERR_FAIL, "cuda: %s inside work that is recorded", op)
                          : ECG_OK;
}

void cuda_graph_free(struct ops_dev *dev, struct ops_graph *graph) {
    (void)dev;
    if (!graph) return;
    if (graph->exec) cudaGraphExecDestroy(graph->exec);
    free(graph);
}
