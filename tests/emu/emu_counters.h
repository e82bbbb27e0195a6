/* SPDX-License-Identifier: MIT
 * What the counting build of the emulation (EMU_MODE=count) has seen of each kernel. The functions are there in every build, and in
 * the plug-in, where dlsym finds them. Valid C and C++. */
#ifndef EMU_COUNTERS_H
#define EMU_COUNTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct emu_counter {
    const char *kernel; /* its name with template arguments; "copy" and "memset" for cudaMemcpy* and
                           cudaMemset*; valid for the whole run */
    uint64_t launches;
    uint64_t bytes_read, bytes_written;   /* distinct 32-byte sectors of device memory in each launch, times 32, summed over launches:
                                             what DRAM moves when the cache catches all reuse inside a launch */
    uint64_t issued_read, issued_written; /* the sizes of all accesses of all threads: what L2 moves at most */
    uint64_t mma;                         /* m16n8k16 operations of a warp, 4096 floating-point operations each */
};

bool emu_counters_available(void); /* does this build count? */
void emu_counters_reset(void);
/* Writes up to n counters in the order of first launches and returns how many there are. */
size_t emu_counters_get(struct emu_counter *list, size_t n);
/* Launches of kernels so far, in every build. */
uint64_t emu_launches(void);
/* A table of them, and their sum. */
void emu_counters_print(void);

#ifdef __cplusplus
}
#endif
#endif
