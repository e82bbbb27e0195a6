/* SPDX-License-Identifier: MIT
 * What struct cuda_bench (kernels/cuda/plugin.h) is made of. */
#ifndef KERNELS_CUDA_BENCH_CUH
#define KERNELS_CUDA_BENCH_CUH

#include "kernels/cuda/plugin.h"

enum ecg_status cuda_measure_peaks(struct ops_dev *dev, double seconds, struct cuda_peaks *peaks);
enum ecg_status cuda_profile_start(struct ops_dev *dev);
enum ecg_status cuda_profile_stop(struct ops_dev *dev, struct cuda_profile *profile);

#endif
