/* SPDX-License-Identifier: MIT
 * Opening the stand-ins: they are part of the emulated plug-in itself. */
#include "library.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

bool emu_libraries_are(const char *word) {
    const char *text = getenv("EMU_LIBRARIES");
    return text != NULL && strcmp(text, word) == 0;
}

int emu_refuse(int status, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    fputs("emu: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    return status;
}

bool emu_holds(const void *p, size_t n, size_t element) {
    return p != NULL && (uintptr_t)p % 16 == 0 && emu_is_device(p) &&
           emu_is_allocated(p, n * element);
}

#undef dlopen
void *emu_dlopen(const char *file, int flags) {
    const bool blas = strncmp(file, "libcublas.", 10) == 0,
               dnn = strncmp(file, "libcudnn.", 9) == 0, nccl = strncmp(file, "libnccl.", 8) == 0;
    if (!blas && !dnn && !nccl) return dlopen(file, flags);
    if (emu_libraries_are("none") || (dnn && emu_libraries_are("no-cudnn"))) {
        char missing[256];
        snprintf(missing, sizeof missing, "/nowhere/%s", file);
        return dlopen(missing, flags);
    }
    Dl_info self;
    if (dladdr((const void *)&emu_dlopen, &self) == 0) return NULL;
    return dlopen(self.dli_fname, flags);
}
