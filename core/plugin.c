/* SPDX-License-Identifier: MIT
 * Names are resolved at once (RTLD_NOW): a name that the program lacks is an error message here, not a crash later. */
#include "core/plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The folder of the running program, with a slash at its end. */
static enum ecg_status program_folder(const struct plugin_file *p, char *out, size_t n) {
    const ssize_t length = readlink("/proc/self/exe", out, n - 1);
    if (length < 0)
        return ecg_fail(ECG_ERR_FAIL, "%s: /proc/self/exe: %s; %s may name the plug-in", p->what,
                        strerror(errno), p->variable);
    out[length] = '\0';
    strrchr(out, '/')[1] = '\0';
    return ECG_OK;
}

/* The folder above, that of PREFIX/bin/: PREFIX/. */
static void folder_above(char *folder) {
    folder[strlen(folder) - 1] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash != NULL) slash[1] = '\0';
}

static bool is_there(char *out, size_t n, const char *folder, const char *between,
                     const char *name) {
    const int length = snprintf(out, n, "%s%s%s", folder, between, name);
    return length < (int)n && access(out, R_OK) == 0;
}

enum ecg_status plugin_find(const struct plugin_file *p, char *out, size_t n) {
    const char *named = getenv(p->variable);
    char beside[PATH_MAX], prefix[PATH_MAX];
    if (named != NULL && named[0] != '\0') {
        if (is_there(out, n, "", "", named)) return ECG_OK;
        return ecg_fail(ECG_ERR_FAIL, "%s: %s=%s: %s", p->what, p->variable, named,
                        strerror(errno));
    }
    TRY(program_folder(p, beside, sizeof(beside)));
    if (is_there(out, n, beside, "", p->file)) return ECG_OK;
    memcpy(prefix, beside, sizeof(prefix));
    folder_above(prefix);
    if (is_there(out, n, prefix, "lib/einthoven/", p->file)) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "%s: %s %s is neither in %s nor in %slib/einthoven/: %s", p->what,
                    p->name, p->file, beside, prefix, p->missing);
}

enum ecg_status plugin_open(const struct plugin_file *p, const char *path, void **handle) {
    *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (*handle != NULL) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "%s: %s can't be loaded: %s; %s", p->what, p->name, dlerror(),
                    p->unusable);
}

enum ecg_status plugin_symbol(const struct plugin_file *p, void *handle, const char *path,
                              const char *name, void **out) {
    *out = dlsym(handle, name);
    if (*out != NULL) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "%s: %s is not einthoven's: %s", p->what, path, dlerror());
}

void plugin_close(void *handle) {
    dlclose(handle);
}
