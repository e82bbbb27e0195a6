/* SPDX-License-Identifier: MIT
 * The one place that knows which backends exist, and the one that opens the CUDA backend's plug-in. */
#include "kernels/find.h"

#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "core/plugin.h"
#include "kernels/cuda/plugin.h"
#include "kernels/ops.h"

/* Opened once and never closed: tables and devices point into it. */
static struct {
    pthread_mutex_t lock;
    void *handle;
    const struct ops *ops;
    cuda_plugin_report_fn *report;
    const struct cuda_bench *bench;
    const struct cuda_comm *comm;
    char path[PATH_MAX];
} plugin = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct plugin_file file = {
    .what = "device cuda",
    .name = "the CUDA backend",
    .file = CUDA_PLUGIN_FILE,
    .variable = "EINTHOVEN_CUDA_LIB",
    .missing = "build it with \"make cuda\" (needs nvcc), or use device cpu",
    .unusable = "a library named there belongs to the CUDA runtime (put its folder into "
                "LD_LIBRARY_PATH), or build both anew, \"make\" and \"make cuda\"",
};

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
    union {
        void *p;
        cuda_plugin_comm_fn *fn;
    } comm;
    TRY(plugin_symbol(&file, handle, path, "einthoven_cuda_ops", &ops.p));
    TRY(plugin_symbol(&file, handle, path, "einthoven_cuda_report", &report.p));
    TRY(plugin_symbol(&file, handle, path, "einthoven_cuda_bench", &bench.p));
    TRY(plugin_symbol(&file, handle, path, "einthoven_cuda_comm", &comm.p));
    plugin.ops = ops.fn(CUDA_PLUGIN_CONTRACT);
    if (plugin.ops == NULL)
        return ecg_fail(ECG_ERR_FAIL,
                        "device cuda: %s is of another version than this program (it does not "
                        "know contract %d): build both anew, \"make\" and \"make cuda\"",
                        path, CUDA_PLUGIN_CONTRACT);
    plugin.report = report.fn;
    plugin.bench = bench.fn();
    plugin.comm = comm.fn();
    return ECG_OK;
}

static enum ecg_status open_plugin(void) {
    char path[PATH_MAX];
    if (plugin.ops != NULL) return ECG_OK;
    void *handle;
    TRY(plugin_find(&file, path, sizeof(path)));
    TRY(plugin_open(&file, path, &handle));
    const enum ecg_status status = take_symbols(handle, path);
    if (status != ECG_OK) {
        plugin_close(handle);
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

enum ecg_status ops_cuda_comm(const struct cuda_comm **comm) {
    TRY(find_cuda());
    *comm = plugin.comm;
    return ECG_OK;
}
