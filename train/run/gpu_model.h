/* SPDX-License-Identifier: MIT
 * How long a training step takes on GPUs, by arithmetic: a roofline from the network's own shapes times a measured efficiency,
 * the sums of the gradients, and the reading of records.
 *
 * Figures of a GPU, from NVIDIA's data sheets, SXM boards unless said otherwise, products dense (half of what is printed
 * "with sparsity"):
 *   a100  A100 Tensor Core GPU data sheet (80 GB): bf16 312 TFLOP/s, fp32 19.5, 2,039 GB/s, NVLink 600 GB/s
 *   h100  H100 Tensor Core GPU data sheet: bf16 989, fp32 67, 80 GB, 3.35 TB/s, NVLink 900 GB/s
 *   h200  H200 Tensor Core GPU data sheet: bf16 989, fp32 67, 141 GB, 4.8 TB/s, NVLink 900 GB/s
 *   b200  HGX B200 data sheet, an eighth of the board: bf16 2,250, fp32 75, 180 GB, 8 TB/s, NVLink 1.8 TB/s
 *   l40s  L40S data sheet: bf16 362, fp32 91.6, 48 GB, 864 GB/s, no NVLink: PCIe 4.0 x16, 64 GB/s
 * NVLink and PCIe count both directions there, so one direction has half. Network: one port a GPU, as DGX and HGX nodes are
 * built: 200 Gb/s (HDR InfiniBand) for a100 and l40s, 400 Gb/s (NDR) for the others.
 *
 * Efficiency: the published network, batch 256, trained on an H200 at 1,421 ECG/s in fp32, and in bf16 at 11,087 by our own
 * convolutions and 15,334 with kernels.conv auto (README.md). That is the share of the roofline that the model takes for every
 * GPU and network; on any GPU but the H200 it is a guess. Nothing is added for launches: below some 64 records a GPU at a time
 * the truth is slower.
 *
 * Sums: 2 (R - 1) / R of the gradients' fp32 bytes go through each GPU's link (a ring), at 80 % of its one direction; between
 * nodes the ports of all GPUs of a node work together. Each bucket (RANKS_BUCKET or, of a larger layer, more) costs a latency on top: 20 us within a node
 * and 10 us for each doubling of the nodes (assumed, of the size that NCCL's own tests show). Sums run beside the backward
 * pass; the last bucket can't, nor what is longer than that pass. */
#ifndef TRAIN_RUN_GPU_MODEL_H
#define TRAIN_RUN_GPU_MODEL_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

struct gpu {
    const char *name;
    double bf16, fp32;        /* FLOP/s */
    double memory, bandwidth; /* bytes, bytes/s */
    double link, port;        /* bytes/s in one direction: to GPUs of the node, to other nodes */
};

/* ECG_ERR_USAGE names the known ones. */
enum ecg_status gpu_find(const struct gpu **gpu, const char *name);
/* "a100, h100, ..." for --help. */
const char *gpu_names(void);

struct gpu_step {
    const struct gpu *gpu;
    int ranks, nodes;
    double records;       /* of a step, over all ranks */
    double flop, bytes;   /* a record, forward and backward: operations, device memory */
    double forward;       /* the forward pass' part of both */
    bool bf16, libraries; /* activations; kernels.conv auto or cudnn */
    double parameters;    /* trained */
    double moments;       /* of each */
    double file_bytes;    /* a record on disk */
    double disk;          /* bytes/s that the files give a node */
};

/* Seconds a step. */
struct gpu_times {
    double efficiency;
    double arithmetic, memory; /* at the data sheet's peaks */
    double compute;            /* the larger of the two over the efficiency: forward and backward */
    double sums, exposed;      /* all of them; what does not fit beside the backward pass */
    double update, reading;
    double step;     /* all but the reading, or the reading where that takes longer: it runs beside */
    double scaling;  /* the step without sums and reading over the step */
    double sum_bytes; /* through each GPU's link */
    int buckets; /* at most */
    const char *binds; /* what a faster one of would help most */
};
void gpu_model(const struct gpu_step *s, struct gpu_times *t);

#endif
