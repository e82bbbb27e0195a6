/* SPDX-License-Identifier: MIT
 * What bench says of a GPU beyond what it says of every device: its peaks, and the time of single kernels. */
#include <math.h>
#include <stdio.h>

#include "train/run/bench_private.h"

enum ecg_status bench_gpu_peaks(struct bench *b) {
    struct ops_dev *dev = NULL;
    TRY(b->ops->open(&dev, b->o->threads));
    enum ecg_status status = b->gpu->peaks(dev, b->o->quick ? 0.02 : 0.3, &b->card);
    b->ops->close(dev);
    b->peak = (struct peak){
        .share = NAN, .fp32 = b->card.fp32, .bf16 = b->card.bf16, .memory = b->card.memory};
    return status;
}

void bench_gpu_print(struct bench *b) {
    const struct cuda_peaks *p = &b->card;
    if (!b->o->json) {
        printf("%s, %s, %d multiprocessors, %.0f MiB of L2: peaks %.3g TFLOP/s fp32, %.3g TFLOP/s "
               "bf16 (mma.sync), %.0f GB/s copied\n",
               b->o->device, p->name, p->processors, (double)p->l2 / 1048576, 1e-3 * p->fp32,
               1e-3 * p->bf16, p->memory);
        fflush(stdout);
        return;
    }
    bench_put_text(b, "gpu", p->name);
    json_put_key(&b->w, "multiprocessors");
    json_put_integer(&b->w, p->processors);
    bench_put(b, "l2_mib", (double)p->l2 / 1048576);
    json_put_key(&b->w, "peaks");
    json_begin_object(&b->w);
    bench_put(b, "fp32_gflops", p->fp32);
    bench_put(b, "bf16_gflops", p->bf16);
    bench_put(b, "memory_gb_s", p->memory);
    json_end_object(&b->w);
}

/* ------------------------------------------------------------------ kernels */

static void put_kernel(struct bench *b, const struct cuda_kernel *k, double total, int steps) {
    const double launches = (double)k->launches / steps, share = 100 * k->seconds / total;
    if (!b->o->json) {
        printf("  %9.1f %10.1f us %5.1f %%  %s\n", launches, 1e6 * k->seconds / steps, share,
               k->name);
        return;
    }
    json_begin_object(&b->w);
    bench_put_text(b, "kernel", k->name);
    bench_put(b, "launches", launches);
    bench_put(b, "seconds", k->seconds / steps);
    bench_put(b, "percent", share);
    json_end_object(&b->w);
}

void bench_gpu_kernels(struct bench *b, const struct cuda_profile *p, int steps) {
    const double launches = (double)p->launches / steps;
    if (b->o->json) {
        json_put_key(&b->w, "kernels");
        json_begin_object(&b->w);
        bench_put(b, "launches", launches);
        bench_put(b, "seconds", p->seconds / steps);
        bench_put(b, "empty_kernel_seconds", p->empty);
        json_put_key(&b->w, "list");
        json_begin_array(&b->w);
    } else {
        printf("    kernels of a training step: %.0f launches, %.2f ms (an empty one takes %.1f us "
               "by this measure)\n",
               launches, 1e3 * p->seconds / steps, 1e6 * p->empty);
    }
    for (int i = 0; i < p->n; i++) put_kernel(b, &p->kernel[i], p->seconds, steps);
    if (!b->o->json) return;
    json_end_array(&b->w);
    json_end_object(&b->w);
}
