/* SPDX-License-Identifier: MIT
 * Batches on their way in: from ordinary memory into one of two pinned pieces by this thread, from there to the GPU on a stream
 * of its own, beside the step that is under way.
 *
 *     the stream:  step i .......... [launched]  step i+1 ..... waits for [copied] of batch i+2
 *     copies:      batch i+1         waits for [launched] of the call before: batch i+2 -> the memory that step i read */
#include "kernels/cuda/cuda.cuh"

#include <string.h>

#include "kernels/cuda/range.h"

enum ecg_status cuda_ahead_open(struct ops_dev *dev) {
    TRY(cuda_check(cudaStreamCreateWithFlags(&dev->copies, cudaStreamNonBlocking),
                   "making a stream"));
    TRY(cuda_check(cudaEventCreateWithFlags(&dev->launched, cudaEventDisableTiming),
                   "making an event"));
    for (int i = 0; i < 2; i++)
        TRY(cuda_check(cudaEventCreateWithFlags(&dev->stage[i].copied, cudaEventDisableTiming),
                       "making an event"));
    return ECG_OK;
}

void cuda_ahead_close(struct ops_dev *dev) {
    if (dev->copies) cudaStreamDestroy(dev->copies);
    if (dev->launched) cudaEventDestroy(dev->launched);
    for (int i = 0; i < 2; i++) {
        if (dev->stage[i].copied) cudaEventDestroy(dev->stage[i].copied);
        if (dev->stage[i].memory) cudaFreeHost(dev->stage[i].memory);
    }
}

/* The piece is free when the copies of its last batch are done. */
static enum ecg_status take_stage(struct cuda_stage *s, size_t bytes) {
    TRY(cuda_check(cudaEventSynchronize(s->copied), "waiting for a batch's copy"));
    if (bytes <= s->bytes) return ECG_OK;
    if (s->memory) cudaFreeHost(s->memory);
    s->memory = NULL;
    s->bytes = 0;
    TRY(cuda_check(cudaMallocHost((void **)&s->memory, bytes),
                   "allocating %zu bytes of pinned memory", bytes));
    s->bytes = bytes;
    return ECG_OK;
}

enum ecg_status cuda_upload_ahead(struct ops_dev *dev, const struct ops_upload *list, int n) {
    const struct cuda_range range("upload");
    struct cuda_stage *s = &dev->stage[dev->turn];
    size_t bytes = 0, at = 0;
    TRY(cuda_unrecorded(dev, "upload_ahead"));
    for (int i = 0; i < n; i++) bytes += cuda_room(list[i].bytes);
    TRY(take_stage(s, bytes));
    TRY(cuda_check(cudaStreamWaitEvent(dev->copies, dev->launched, 0), "ordering a batch's copy"));
    TRY(cuda_check(cudaEventRecord(dev->launched, dev->stream), "ordering a batch's copy"));
    for (int i = 0; i < n; i++) {
        if (list[i].bytes == 0) continue;
        memcpy(s->memory + at, list[i].host, list[i].bytes);
        TRY(cuda_check(cudaMemcpyAsync(list[i].device, s->memory + at, list[i].bytes,
                                       cudaMemcpyHostToDevice, dev->copies),
                       "copying %zu bytes to the GPU", list[i].bytes));
        at += cuda_room(list[i].bytes);
    }
    TRY(cuda_check(cudaEventRecord(s->copied, dev->copies), "ordering a batch's copy"));
    TRY(cuda_check(cudaStreamWaitEvent(dev->stream, s->copied, 0), "ordering a batch's copy"));
    dev->turn = 1 - dev->turn;
    return ECG_OK;
}
