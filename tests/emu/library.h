/* SPDX-License-Identifier: MIT
 * Stand-ins for what the backend uses of cuBLAS, cuDNN and NCCL, in plain loops. They take the arguments that the
 * backend gives and refuse all others, with a line that says why; a pointer must hold all that is read or written through
 * it. The counting build counts each element of a tensor once. */
#ifndef EMU_LIBRARY_H
#define EMU_LIBRARY_H

#include "internal.h"

/* EMU_LIBRARIES is this word. */
bool emu_libraries_are(const char *word);

/* Says why a call is refused, and returns `status`. */
int emu_refuse(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether n elements at p are in one allocation of device memory, at a multiple of 16 bytes. */
bool emu_holds(const void *p, size_t n, size_t element);

/* What the counting build has to know of a tensor. */
static inline void emu_moves(const void *p, size_t bytes, bool write) {
    if (EMU_COUNT) emu_count_copy(p, bytes, write);
}

#endif
