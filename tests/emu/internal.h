/* SPDX-License-Identifier: MIT
 * What the files of the emulation share. */
#ifndef EMU_INTERNAL_H
#define EMU_INTERNAL_H

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
    const std::function<void()> *body;
};
/* Runs all blocks; device memory must be open. */
void emu_run(const struct emu_job *job);
const char *emu_kernel_name(void); /* of the launch that runs in this thread, or NULL */

/* ---- device memory ---- */
void emu_memory_open(void);
void emu_memory_close(void);
bool emu_is_device(const void *p);                     /* in the range of addresses that device memory has */
bool emu_is_allocated(const void *p, size_t bytes);    /* inside one live allocation */

/* ---- accesses that the twins make for a thread: counted and checked in the build that has such checks ---- */
void emu_note_read(const void *p, size_t bytes);
void emu_note_write(const void *p, size_t bytes);

/* Is [p, p + bytes) in the shared memory of the block that runs? */
bool emu_in_shared(const void *p, size_t bytes);

/* Prints "emu: ..." and stops, outside of kernels too. */
[[noreturn]] void emu_stop(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
