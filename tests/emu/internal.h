/* SPDX-License-Identifier: MIT
 * What the files of the emulation share. */
#ifndef EMU_INTERNAL_H
#define EMU_INTERNAL_H

#include <functional>
#include <vector>

#include "emu.h"

#if defined(__SANITIZE_ADDRESS__)
#define EMU_ASAN 1
#else
#define EMU_ASAN 0
#endif
#ifndef EMU_TSAN
#define EMU_TSAN 0
#endif
#ifndef EMU_COUNT
#define EMU_COUNT 0
#endif

static const size_t emu_device_range = (size_t)1 << 38; /* addresses reserved for device memory */
enum { emu_max_threads = 1024, emu_static_shared = 48 << 10, emu_max_shared = 227 << 10 };

enum emu_order_kind { EMU_FORWARD, EMU_REVERSE, EMU_RANDOM };
struct emu_order {
    enum emu_order_kind kind;
    uint64_t seed;
};
struct emu_order emu_get_order(void);
uint64_t emu_random(uint64_t *state);

/* A launch, as the threads that run its blocks see it. */
struct emu_job {
    const char *name;
    dim3 grid, block;
    size_t shared;
    size_t shared_limit; /* static and dynamic together */
    struct emu_call call;
};
/* Runs all blocks; device memory must be open. */
void emu_run(const struct emu_job *job);
const char *emu_kernel_name(void); /* of the launch that runs in this thread, or NULL */

/* ---- device memory ---- */
void emu_memory_open(void);
void emu_memory_close(void);
bool emu_is_device(const void *p);                     /* in the range of addresses that device memory has */
bool emu_is_allocated(const void *p, size_t bytes);    /* inside one live allocation */
bool emu_is_pinned(const void *p);                     /* in memory that cudaHostAlloc gave */
size_t emu_device_offset(const void *p);               /* of an address in that range */
const char *emu_near_allocation(const void *p);        /* for reports: where the nearest allocation lies */
/* In the memory that a thread may use beside device memory: shared, its stack, its kernel's arguments. */
bool emu_is_own(const void *p, size_t bytes);

/* ---- accesses that the twins of instructions make for a thread; pc: where in the kernel ---- */
#if EMU_TSAN
extern "C" void __tsan_read_range_pc(void *p, size_t bytes, void *pc);
extern "C" void __tsan_write_range_pc(void *p, size_t bytes, void *pc);
extern "C" void __tsan_acquire(void *at);
extern "C" void __tsan_release(void *at);
#endif
/* count.cc: checks an access of the thread that runs and, where it is to device memory, counts it */
void emu_count_access(const void *p, size_t bytes, bool write);
void emu_count_mma(void);
/* A launch or a copy begins and ends. */
void emu_count_begin(const char *name);
void emu_count_end(void);
/* Bytes [p, p + bytes) of device memory are moved by a copy. */
void emu_count_copy(const void *p, size_t bytes, bool write);

static inline void emu_note_read(const void *p, size_t bytes, void *pc) {
#if EMU_TSAN
    __tsan_read_range_pc((void *)p, bytes, pc);
#elif EMU_COUNT
    emu_count_access(p, bytes, false);
#endif
    (void)p, (void)bytes, (void)pc;
}

static inline void emu_note_write(void *p, size_t bytes, void *pc) {
#if EMU_TSAN
    __tsan_write_range_pc(p, bytes, pc);
#elif EMU_COUNT
    emu_count_access(p, bytes, true);
#endif
    (void)p, (void)bytes, (void)pc;
}

/* Edges between threads for ThreadSanitizer; nothing without it. */
static inline void emu_release(void *at) {
#if EMU_TSAN
    __tsan_release(at);
#endif
    (void)at;
}

static inline void emu_acquire(void *at) {
#if EMU_TSAN
    __tsan_acquire(at);
#endif
    (void)at;
}

/* Memory that nobody may touch now, for AddressSanitizer. */
#if EMU_ASAN
extern "C" void __asan_poison_memory_region(const volatile void *p, size_t bytes);
extern "C" void __asan_unpoison_memory_region(const volatile void *p, size_t bytes);
#endif

static inline void emu_poison(const void *p, size_t bytes) {
#if EMU_ASAN
    __asan_poison_memory_region(p, bytes);
#endif
    (void)p, (void)bytes;
}

static inline void emu_unpoison(const void *p, size_t bytes) {
#if EMU_ASAN
    __asan_unpoison_memory_region(p, bytes);
#endif
    (void)p, (void)bytes;
}

#define EMU_PC __builtin_return_address(0)

/* Is [p, p + bytes) in the shared memory of the block that runs? */
bool emu_in_shared(const void *p, size_t bytes);

/* trap.cc: explains faults in device memory from now on; gives the calling host thread a stack for that. */
void emu_trap_faults(void);
void emu_trap_stack(void);

/* symbol.cc: the name of a kernel; `otherwise` is what the launch calls it. Valid for the whole run. */
const char *emu_symbol(const void *function, const char *otherwise);

/* Work of a library in a stream, done as a launch of that name; count: adds the bytes it moves by emu_count_copy. */
void emu_library_work(const char *name, cudaStream_t stream, std::function<void()> work);

/* Sets what cudaGetLastError returns and says why. */
cudaError_t emu_failed(cudaError_t error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints "emu: ..." and stops, outside of kernels too. */
[[noreturn]] void emu_stop(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
