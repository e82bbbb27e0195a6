/* SPDX-License-Identifier: MIT
 * CUDA's kernel language for a C++ compiler: kernels/cuda/compat.h includes this instead of cuda_runtime.h when .cu files
 * are built with -DEINTHOVEN_EMU. A launch runs its blocks one after the other; the threads of a block are fibers, which
 * change places only where CUDA lets threads wait for each other. What is undefined in CUDA stops the program here, with one line
 * that begins with "emu:" and names the kernel, the block and the thread.
 *
 * Always checked: launch limits; shared memory (contents are NaN at first, writes beyond an array are found at the block's end);
 * barriers and warp operations that not all named threads reach; cp.async (the destination holds NaN until the wait, the source
 * must not change before it); alignment for cp.async and ldmatrix; kinds of pointers in copies. Device memory is NaN at first, lies between guard
 * pages, and cannot be touched by host code.
 *
 * Environment:
 *   EMU_ORDER=forward|reverse|random[:SEED]   the order in which threads, warps and blocks run, and when streams do their work:
 *                                             at once, as late as waits allow, at random
 *   EMU_GRAPHS=0                              streams can't be captured
 *   EMU_THREADS=N                             blocks on N host threads (1; the counting and the TSan build always use 1)
 *   EMU_MEMORY=BYTES                          what cudaMemGetInfo calls total (8 GiB)
 *   EMU_LIBRARIES=none|no-cudnn|wrong         which of NVIDIA's libraries can be opened (both); wrong: their results are */
#ifndef EMU_H
#define EMU_H

#include <dlfcn.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <memory>
#include <tuple>

#include "emu_types.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

#define DEVICE static inline

/* ---- where a call stands: EMU_PLACE as the last parameter, EMU_HERE passes it on ---- */
#define EMU_PLACE const char *emu_file = __builtin_FILE(), int emu_line = __builtin_LINE()
#define EMU_PLACE_ARG const char *emu_file, int emu_line
#define EMU_HERE  emu_file, emu_line

/* ---- threads ---- */
struct emu_block {
    uint3 index; /* blockIdx */
    dim3 block, grid;
};

struct emu_thread {
    uint3 index; /* threadIdx */
    struct emu_block *block;
};

extern __thread struct emu_thread *emu_self; /* the thread that runs; NULL in host code */

#ifdef __SANITIZE_THREAD__ /* accesses to the emulation's own memory are no accesses of the kernel's */
uint3 emu_thread_index(void);
uint3 emu_block_index(void);
dim3 emu_block_dim(void);
dim3 emu_grid_dim(void);
#define threadIdx (emu_thread_index())
#define blockIdx  (emu_block_index())
#define blockDim  (emu_block_dim())
#define gridDim   (emu_grid_dim())
#else
#define threadIdx (emu_self->index)
#define blockIdx  (emu_self->block->index)
#define blockDim  (emu_self->block->block)
#define gridDim   (emu_self->block->grid)
#endif
static const int warpSize = 32;

/* Stops the program with a report on the thread that runs. */
[[noreturn]] void emu_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

void *emu_shared(const void *key, size_t bytes, EMU_PLACE);
void *emu_dynamic_shared(void);

#define SHARED(T, name, n)       \
    static char name##_emu_key; \
    T *const name = (T *)emu_shared(&name##_emu_key, sizeof(T) * (size_t)(n))
#define DYN_SHARED(T, name) T *const name = (T *)emu_dynamic_shared()

void emu_syncthreads(EMU_PLACE);
void emu_syncwarp(uint32_t mask, EMU_PLACE);
void emu_mma_bf16(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1, EMU_PLACE);
void emu_ldsm(uint32_t *r, const void *row, int n, bool transpose, EMU_PLACE);
void emu_cp16(void *dst, const void *src, bool ok, EMU_PLACE);
void emu_cp_commit(void);
void emu_cp_wait(int n, EMU_PLACE);
uint32_t emu_ballot(uint32_t mask, bool value, EMU_PLACE);
/* kind: 'i' from lane `operand`, 'x' from lane ^ operand, 'd' from lane + operand, 'u' from lane - operand */
uint64_t emu_shuffle(uint32_t mask, uint64_t value, char kind, int operand, int width, EMU_PLACE);
int64_t emu_atomic_add(void *p, int64_t v, int bytes);
int64_t emu_atomic_max(void *p, int64_t v, bool is_signed);

static inline void __syncthreads(EMU_PLACE) {
    emu_syncthreads(EMU_HERE);
}

static inline void __syncwarp(uint32_t mask = 0xffffffffu, EMU_PLACE) {
    emu_syncwarp(mask, EMU_HERE);
}

static inline uint32_t __ballot_sync(uint32_t mask, int value, EMU_PLACE) {
    return emu_ballot(mask, value != 0, EMU_HERE);
}

static inline int __any_sync(uint32_t mask, int value, EMU_PLACE) {
    return emu_ballot(mask, value != 0, EMU_HERE) != 0;
}

static inline int __all_sync(uint32_t mask, int value, EMU_PLACE) {
    return emu_ballot(mask, value != 0, EMU_HERE) == mask;
}

template <class T> static inline T emu_shuffle_of(uint32_t mask, T value, char kind, int operand, int width, EMU_PLACE_ARG) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles take 4 or 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = emu_shuffle(mask, bits, kind, operand, width, EMU_HERE);
    memcpy(&value, &bits, sizeof value);
    return value;
}

template <class T> static inline T __shfl_sync(uint32_t mask, T value, int lane, int width = 32, EMU_PLACE) {
    return emu_shuffle_of(mask, value, 'i', lane, width, EMU_HERE);
}

template <class T> static inline T __shfl_xor_sync(uint32_t mask, T value, int bits, int width = 32, EMU_PLACE) {
    return emu_shuffle_of(mask, value, 'x', bits, width, EMU_HERE);
}

template <class T> static inline T __shfl_down_sync(uint32_t mask, T value, unsigned delta, int width = 32, EMU_PLACE) {
    return emu_shuffle_of(mask, value, 'd', (int)delta, width, EMU_HERE);
}

template <class T> static inline T __shfl_up_sync(uint32_t mask, T value, unsigned delta, int width = 32, EMU_PLACE) {
    return emu_shuffle_of(mask, value, 'u', (int)delta, width, EMU_HERE);
}

/* Integers only: sums of floats in an order that changes are not wanted. */
static inline int atomicAdd(int *p, int v) {
    return (int)emu_atomic_add(p, v, 4);
}

static inline unsigned atomicAdd(unsigned *p, unsigned v) {
    return (unsigned)emu_atomic_add(p, v, 4);
}

static inline unsigned long long atomicAdd(unsigned long long *p, unsigned long long v) {
    return (unsigned long long)emu_atomic_add(p, (int64_t)v, 8);
}

static inline int atomicMax(int *p, int v) {
    return (int)emu_atomic_max(p, v, true);
}

static inline unsigned atomicMax(unsigned *p, unsigned v) {
    return (unsigned)emu_atomic_max(p, v, false);
}

/* ---- arithmetic ---- */
template <class T> static inline T __ldg(const T *p) {
    return *p;
}

static inline uint32_t __float_as_uint(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline int __float_as_int(float f) {
    return (int)__float_as_uint(f);
}

static inline float __uint_as_float(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline float __int_as_float(int i) {
    return __uint_as_float((uint32_t)i);
}

/* macros, since glibc declares functions of these names */
#define __expf expf
#define __logf logf

static inline float __fdividef(float a, float b) {
    return a / b;
}

static inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}

static inline float __fmaf_rn(float a, float b, float c) {
    return fmaf(a, b, c);
}

static inline float __fmul_rn(float a, float b) {
    return a * b;
}

static inline float __fadd_rn(float a, float b) {
    return a + b;
}

static inline float __fdiv_rn(float a, float b) {
    return a / b;
}

static inline float __fsqrt_rn(float a) {
    return sqrtf(a);
}

static inline uint32_t __umulhi(uint32_t a, uint32_t b) {
    return (uint32_t)((uint64_t)a * b >> 32);
}

static inline int __popc(uint32_t x) {
    return __builtin_popcount(x);
}

static inline int __clz(int x) {
    return x == 0 ? 32 : __builtin_clz((unsigned)x);
}

static inline int __ffs(int x) {
    return __builtin_ffs(x);
}

static inline void __threadfence(void) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

[[noreturn]] static inline void __trap(void) {
    emu_fail("__trap()");
}

#define EMU_MIN_MAX(T)                \
    static inline T min(T a, T b) {   \
        return a < b ? a : b;         \
    }                                 \
    static inline T max(T a, T b) {   \
        return a < b ? b : a;         \
    }
EMU_MIN_MAX(int)
EMU_MIN_MAX(unsigned)
EMU_MIN_MAX(long)
EMU_MIN_MAX(unsigned long)
EMU_MIN_MAX(long long)
EMU_MIN_MAX(unsigned long long)
#undef EMU_MIN_MAX

static inline float min(float a, float b) {
    return fminf(a, b);
}

static inline float max(float a, float b) {
    return fmaxf(a, b);
}

/* bf16, to the nearest even, NaN stays NaN (CUDA gives 0x7fff) */
static inline uint16_t emu_bf16(float f) {
    const uint32_t u = __float_as_uint(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

/* ---- launches ---- */
struct emu_call { /* a kernel and its arguments */
    const void *kernel;
    std::shared_ptr<const void> args;
    size_t bytes; /* of args */
    void (*run)(const void *kernel, const void *args);
};
void emu_launch(const char *name, dim3 grid, dim3 block, size_t shared, cudaStream_t stream, struct emu_call call);

template <class T> struct emu_same {
    using type = T;
};

template <class... P> static inline void emu_run_kernel(const void *kernel, const void *args) {
    std::apply((void (*)(P...))kernel, *(const std::tuple<P...> *)args);
}

/* The arguments are converted to the kernel's parameters now, the kernel may run later (graphs). */
template <class... P>
static inline void emu_launch_kernel(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                                     cudaStream_t stream, typename emu_same<P>::type... args) {
    const auto kept = std::make_shared<const std::tuple<P...>>(args...);
    emu_launch(name, grid, block, shared, stream, {(const void *)kernel, kept, sizeof *kept, emu_run_kernel<P...>});
}

#define LAUNCH_KERNEL(kernel, grid, block, shared_bytes, stream, ...) \
    emu_launch_kernel(#kernel, kernel, grid, block, shared_bytes, stream, ##__VA_ARGS__)

#include "emu_runtime.h"

/* dlopen as the backend calls it: NVIDIA's libraries are stand-ins (library.cc). */
void *emu_dlopen(const char *file, int flags);
#define dlopen emu_dlopen

#endif
