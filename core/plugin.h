/* SPDX-License-Identifier: MIT
 * Optional parts of the program are shared libraries that are opened when they are asked for: beside the program, then in the
 * lib/einthoven beside its bin/ (PREFIX/lib/einthoven once installed), or where an environment variable says. */
#ifndef CORE_PLUGIN_H
#define CORE_PLUGIN_H

#include <stddef.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct plugin_file {
    const char *what;     /* begins messages: "device cuda" */
    const char *name;     /* "the CUDA backend" */
    const char *file;     /* "libeinthoven_cuda.so" */
    const char *variable; /* of the environment, that names the file */
    const char *missing;  /* what to do where there is none */
    const char *unusable; /* what to do where a library that it needs is not found */
};

/* Finds the file; its path into out (n). ECG_ERR_FAIL when there is none. */
enum ecg_status plugin_find(const struct plugin_file *p, char *out, size_t n);
/* Opens what plugin_find found. Its undefined names are those that the program exports. */
enum ecg_status plugin_open(const struct plugin_file *p, const char *path, void **handle);
/* What the library exports under a name. */
enum ecg_status plugin_symbol(const struct plugin_file *p, void *handle, const char *path, const char *name, void **out);
void plugin_close(void *handle);

#ifdef __cplusplus
}
#endif

#endif
