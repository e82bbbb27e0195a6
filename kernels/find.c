/* SPDX-License-Identifier: MIT
 * The one place that knows which backends exist, and the one that opens the CUDA backend's plug-in: beside the program,
 * then in the lib/einthoven beside its bin/ (PREFIX/lib/einthoven once installed), or where EINTHOVEN_CUDA_LIB says. */
#include "kernels/find.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/plugin.h"
#include "kernels/ops.h"

/* Opened once and never closed: tables and devices point into it. */
static struct {
    pthread_mutex_t lock;
    void *handle;
    const struct ops *ops;
    cuda_plugin_report_fn *report;
    const struct cuda_bench *bench;
    char path[PATH_MAX];
} plugin = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The folder of the running program, with a slash at its end. */
static enum ecg_status program_folder(char *out, size_t n) {
    const ssize_t length = readlink("/proc/self/exe", out, n - 1);
    if (length < 0)
        return ecg_fail(ECG_ERR_FAIL,
                        "device cuda: /proc/self/exe: %s; EINTHOVEN_CUDA_LIB may name the plug-in",
                        strerror(errno));
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

static int is_there(char *out, size_t n, const char *folder, const char *name) {
    const int length = snprintf(out, n, "%s%s", folder, name);
    return length < (int)n && access(out, R_OK) == 0;
}

static enum ecg_status find_file(char *out, size_t n) {
    const char *named = getenv("EINTHOVEN_CUDA_LIB");
    char beside[PATH_MAX], prefix[PATH_MAX];
    if (named != NULL && named[0] != '\0') {
        if (is_there(out, n, "", named)) return ECG_OK;
        return ecg_fail(ECG_ERR_FAIL, "device cuda: EINTHOVEN_CUDA_LIB=%s: %s", named,
                        strerror(errno));
    }
    TRY(program_folder(beside, sizeof(beside)));
    if (is_there(out, n, beside, CUDA_PLUGIN_FILE)) return ECG_OK;
    memcpy(prefix, beside, sizeof(prefix));
    folder_above(prefix);
    if (is_there(out, n, prefix, "lib/einthoven/" CUDA_PLUGIN_FILE)) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL,
                    "device cuda: the CUDA backend " CUDA_PLUGIN_FILE
                    " is neither in %s nor in %slib/einthoven/: build it with \"make cuda\" (needs "
                    "nvcc), or use device cpu",
                    beside, prefix);
}

/* What the plug-in exports under a name; NULL and a failure when it does not. */
static enum ecg_status find_symbol(void *handle, const char *path, const char *name, void **out) {
    *out = dlsym(handle, name);
    if (*out != NULL) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "device cuda: %s is not einthoven's CUDA backend: %s", path,
                    dlerror());
}

static enum ecg_status take_symbols(void *handle, const char *path) {
    /* A function pointer goes through an object of the same size: ISO C has no cast from void *. */
    union {
        void *p;
        cuda_plugin_ops_fn *fn;
    } ops;
    union {
        void *p;
        cuda_plugin_report_fn *fn;
    } report;
    union {
        void *p;
        cuda_plugin_bench_fn *fn;
    } bench;
    TRY(find_symbol(handle, path, "einthoven_cuda_ops", &ops.p));
    TRY(find_symbol(handle, path, "einthoven_cuda_report", &report.p));
    TRY(find_symbol(handle, path, "einthoven_cuda_bench", &bench.p));
    plugin.ops = ops.fn(CUDA_PLUGIN_CONTRACT);
    if (plugin.ops == NULL)
        return ecg_fail(ECG_ERR_FAIL,
                        "device cuda: %s is of another version than this program (it does not "
                        "know contract %d): build both anew, \"make\" and \"make cuda\"",
                        path, CUDA_PLUGIN_CONTRACT);
    plugin.report = report.fn;
    plugin.bench = bench.fn();
    return ECG_OK;
}

static enum ecg_status open_plugin(void) {
    char path[PATH_MAX];
    if (plugin.ops != NULL) return ECG_OK;
    TRY(find_file(path, sizeof(path)));
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        return ecg_fail(ECG_ERR_FAIL,
                        "device cuda: the CUDA backend can't be loaded: %s; a library named there "
                        "belongs to the CUDA runtime (put its folder into LD_LIBRARY_PATH), or "
                        "build both anew, \"make\" and \"make cuda\"",
                        dlerror());
    const enum ecg_status status = take_symbols(handle, path);
    if (status != ECG_OK) {
        dlclose(handle);
        return status;
    }
    plugin.handle = handle;
    memcpy(plugin.path, path, sizeof(path));
    return ECG_OK;
}

static enum ecg_status find_cuda(void) {
    pthread_mutex_lock(&plugin.lock);
    const enum ecg_status status = open_plugin();
    pthread_mutex_unlock(&plugin.lock);
    return status;
}

enum ecg_status ops_find(const struct ops **out, const char *device) {
    *out = NULL;
    if (strcmp(device, "cpu") == 0) {
        *out = ops_cpu();
        return ECG_OK;
    }
    if (strcmp(device, "ref") == 0) {
        *out = ops_ref();
        return ECG_OK;
    }
    if (strcmp(device, "cuda") == 0) {
        TRY(find_cuda());
        *out = plugin.ops;
        return ECG_OK;
    }
    return ecg_fail(ECG_ERR_CONFIG, "device \"%s\" is not known; known are cpu, cuda and ref",
                    device);
}

enum ecg_status ops_cuda_report(struct cuda_report *report, const char **path) {
    TRY(find_cuda());
    plugin.report(report);
    *path = plugin.path;
    return ECG_OK;
}

enum ecg_status ops_cuda_bench(const struct cuda_bench **bench) {
    TRY(find_cuda());
    *bench = plugin.bench;
    return ECG_OK;
}
