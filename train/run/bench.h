/* SPDX-License-Identifier: MIT
 * bench: what this machine reaches, as figures that compare: GFLOP/s beside the backend's own large matrix product. */
#ifndef TRAIN_RUN_BENCH_H
#define TRAIN_RUN_BENCH_H

#include <stdbool.h>

#include "core/status.h"

/* Measures a 1024^3 product, then training steps and inference of the published Net1D (12 x 5000, batch 16) and of
 * configs/ptbxl_superclass.yaml's (12 x 1000, batch 32) on random input: medians. A table on stdout, or JSON. */
enum ecg_status bench_run(const char *device, int n_threads, bool json);

#endif
