/* SPDX-License-Identifier: MIT
 * Included first by every .cu file. The same sources are built by nvcc for a GPU and, with -DEINTHOVEN_EMU
 * and -Itests/emu, by a C++ compiler for the emulation that tests run (tests/emu/emu.h says what it checks).
 *
 *   LAUNCH(kernel, grid, block, shared_bytes, stream, args...)
 *                         kernel<<<...>>>(args); kernel may be an instance in parentheses, (name<1, 2>); grid and
 *                         block are int or dim3. The caller checks cudaGetLastError() after every launch.
 *   SHARED(T, name, n)    n elements of T, 16-byte aligned, shared by the block; a declaration inside a kernel or
 *                         a DEVICE function. Its contents are undefined (emulation: NaN).
 *   DYN_SHARED(T, name)   the launch's shared_bytes as T *, 16-byte aligned
 *   DEVICE                a function of device code
 *
 * Kernels are `static __global__ void __launch_bounds__(n) name(...)`. Beyond the C++ language they use threadIdx,
 * blockIdx, blockDim, gridDim, __syncthreads, __syncwarp, the __shfl*_sync and __ballot_sync family, __ldg, integer
 * atomicAdd, the float math functions and the wrappers of kernels/cuda/ptx.h, in both builds. */
#ifndef KERNELS_CUDA_COMPAT_H
#define KERNELS_CUDA_COMPAT_H

#include <stddef.h>
#include <stdint.h>

#ifdef EINTHOVEN_EMU

#include <emu.h>

#else

#include <cuda_runtime.h>

#define LAUNCH_KERNEL(kernel, grid, block, shared_bytes, stream, ...) \
    kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)

#define SHARED(T, name, n) __shared__ __align__(16) T name[n]

#define DYN_SHARED(T, name)                                             \
    extern __shared__ __align__(16) unsigned char einthoven_dynamic[];  \
    T *const name = reinterpret_cast<T *>(einthoven_dynamic)

#define DEVICE static __device__ __forceinline__

#endif

/* Profiling, by kernels/cuda/profile.cu: while it is on, an event is recorded before and after each launch. */
extern int cuda_profiling;
void cuda_profile_before(const void *kernel, cudaStream_t stream);
void cuda_profile_after(cudaStream_t stream);

template <class... P> static inline void cuda_before_launch(void (*kernel)(P...), cudaStream_t stream) {
    if (cuda_profiling) cuda_profile_before((const void *)kernel, stream);
}

static inline void cuda_after_launch(cudaStream_t stream) {
    if (cuda_profiling) cuda_profile_after(stream);
}

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                        \
    (cuda_before_launch(kernel, stream),                                              \
     LAUNCH_KERNEL(kernel, (grid), (block), (shared_bytes), (stream), ##__VA_ARGS__), \
     cuda_after_launch(stream))

#endif
