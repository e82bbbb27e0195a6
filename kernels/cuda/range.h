/* SPDX-License-Identifier: MIT
 * Named stretches of host time for NVIDIA's profilers (NVTX 3, which is header files alone and does nothing where no profiler
 * listens); nothing at all where nvcc has not these headers, and in the emulation.
 *     const struct cuda_range range("forward");   from here to the end of the scope */
#ifndef KERNELS_CUDA_RANGE_H
#define KERNELS_CUDA_RANGE_H

#if !defined(EINTHOVEN_EMU) && defined(__has_include)
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define CUDA_HAS_NVTX 1
#endif
#endif

#ifdef CUDA_HAS_NVTX
struct cuda_range {
    explicit cuda_range(const char *name) {
        nvtxRangePushA(name);
    }
    ~cuda_range() {
        nvtxRangePop();
    }
};
#else
struct cuda_range {
    explicit cuda_range(const char *) {
    }
    ~cuda_range() {
    }
};
#endif
#endif
