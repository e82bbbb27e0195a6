/* SPDX-License-Identifier: MIT
 * The table and the arithmetic; every figure's source stands in the header. */
#include "train/run/gpu_model.h"

#include <math.h>
#include <string.h>

#include "train/run/ranks.h"

static const struct gpu gpus[] = {
    {"a100", 312e12, 19.5e12, 80e9, 2.039e12, 300e9, 25e9},
    {"h100", 989e12, 67e12, 80e9, 3.35e12, 450e9, 50e9},
    {"h200", 989e12, 67e12, 141e9, 4.8e12, 450e9, 50e9},
    {"b200", 2250e12, 75e12, 180e9, 8e12, 900e9, 50e9},
    {"l40s", 362e12, 91.6e12, 48e9, 0.864e12, 32e9, 25e9},
};
#define N_GPUS (int)(sizeof(gpus) / sizeof(*gpus))

/* Measured ECG/s of the header as parts of the H200's roofline, without the update. */
#define EFFICIENCY_FP32      0.149
#define EFFICIENCY_BF16      0.158
#define EFFICIENCY_LIBRARIES 0.220
#define COPY                 0.87 /* of the memory's bandwidth: what an update reaches (4.17 of 4.8 TB/s) */
#define LINK                 0.8
#define LATENCY              20e-6
#define LATENCY_NODES        10e-6

const char *gpu_names(void) {
    static char text[128];
    text[0] = 0;
    for (int i = 0; i < N_GPUS; i++) strcat(strcat(text, i > 0 ? ", " : ""), gpus[i].name);
    return text;
}

enum ecg_status gpu_find(const struct gpu **gpu, const char *name) {
    for (int i = 0; i < N_GPUS; i++)
        if (strcmp(gpus[i].name, name) == 0) {
            *gpu = &gpus[i];
            return ECG_OK;
        }
    return ecg_fail(ECG_ERR_USAGE, "--gpu: %s is none of %s", name, gpu_names());
}

/* All sums of a step; t->buckets and t->sum_bytes too. */
static void model_sums(const struct gpu_step *s, struct gpu_times *t) {
    double bytes = s->parameters * sizeof(float), speed = s->gpu->link;
    if (s->ranks == 1) return;
    double ports = s->gpu->port * s->ranks / s->nodes;
    if (s->nodes > 1) speed = s->ranks > s->nodes ? fmin(speed, ports) : ports;
    t->buckets = (int)ceil(s->parameters / (double)RANKS_BUCKET);
    t->sum_bytes = 2.0 * (s->ranks - 1) / s->ranks * bytes;
    t->sums = t->sum_bytes / (LINK * speed) +
              t->buckets * (LATENCY + LATENCY_NODES * ceil(log2((double)s->nodes)));
}

static const char *what_binds(const struct gpu_times *t) {
    double beside = t->compute + t->exposed + t->update;
    if (t->reading > beside) return "reading";
    if (t->exposed > t->compute) return "sums of gradients";
    if (t->update > t->compute) return "update";
    return t->memory > t->arithmetic ? "memory bandwidth" : "arithmetic";
}

void gpu_model(const struct gpu_step *s, struct gpu_times *t) {
    const struct gpu *g = s->gpu;
    double records = s->records / s->ranks;
    *t = (struct gpu_times){0};
    t->efficiency = !s->bf16       ? EFFICIENCY_FP32
                    : s->libraries ? EFFICIENCY_LIBRARIES
                                   : EFFICIENCY_BF16;
    t->arithmetic = records * s->flop / (s->bf16 ? g->bf16 : g->fp32);
    t->memory = records * s->bytes / g->bandwidth;
    t->compute = fmax(t->arithmetic, t->memory) / t->efficiency;
    /* weight and moments are read and written, the gradient read and cleared */
    t->update = s->parameters * sizeof(float) * (2 + 2 * s->moments + 2) / (COPY * g->bandwidth);
    model_sums(s, t);
    double last = t->buckets > 0 ? t->sums / t->buckets : 0;
    double backward = t->compute * (1 - s->forward);
    t->exposed = last + fmax(0, t->sums - last - backward);
    t->reading = s->records / s->nodes * s->file_bytes / s->disk;
    double alone = t->compute + t->update;
    t->step = fmax(alone + t->exposed, t->reading);
    t->scaling = alone / t->step;
    t->binds = what_binds(t);
}
