/* SPDX-License-Identifier: MIT
 * What libeinthoven_cuda.so, the CUDA backend's plug-in, exports. kernels/find.c opens it when device "cuda" is asked
 * for; nothing else of it is visible.
 *
 * The plug-in has no copy of core/ or kernels/: it finds ecg_fail, log_warn, ops_compose and the like in the program that opens
 * it, which therefore exports those few names (kernels/exports.ld). So a failure inside the plug-in sets the program's own message,
 * and there is one completed table of compositions. A symbol that the program lacks is dlopen's error message, not a
 * crash: the plug-in is opened with RTLD_NOW.
 * Valid C and C++17. */
#ifndef KERNELS_CUDA_PLUGIN_H
#define KERNELS_CUDA_PLUGIN_H

#include <stddef.h>

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CUDA_PLUGIN_FILE "libeinthoven_cuda.so"

/* What both sides must agree on: the tables' layout counts by itself; the number before it is raised whenever an entry
 * changes its arguments or its meaning. */
#define CUDA_PLUGIN_CONTRACT                                                                       \
    (2000 + (int)((sizeof(struct ops) + sizeof(struct cuda_bench) + sizeof(struct cuda_comm)) /    \
                  sizeof(void *)))

/* The completed table; NULL when `contract` is not the plug-in's own CUDA_PLUGIN_CONTRACT. */
const struct ops *einthoven_cuda_ops(int contract);
typedef const struct ops *cuda_plugin_ops_fn(int contract);

/* What `einthoven doctor` says about CUDA. Versions are texts like "13.0", "" where unknown; `problem` says why the
 * thing can't be used and what to do, "" when it can. */
struct cuda_device {
    char name[128];
    int major, minor;   /* compute capability */
    int processors;     /* multiprocessors */
    size_t memory, free; /* bytes */
    char problem[160];
};

struct cuda_library {
    char name[16]; /* "cuBLAS" */
    char version[32];
    char problem[256];
};

#define CUDA_MAX_DEVICES   16
#define CUDA_MAX_LIBRARIES 4

struct cuda_report {
    char problem[512];
    char driver[16];  /* the newest CUDA that the driver knows */
    char runtime[16]; /* that the plug-in was built with */
    int n_devices;
    struct cuda_device device[CUDA_MAX_DEVICES];
    int n_libraries;
    struct cuda_library library[CUDA_MAX_LIBRARIES];
};

/* Never fails. */
void einthoven_cuda_report(struct cuda_report *report);
typedef void cuda_plugin_report_fn(struct cuda_report *report);

/* What `einthoven bench` measures of the GPU, and on it. */
struct cuda_peaks {
    char name[128];
    int processors; /* multiprocessors */
    size_t l2;      /* bytes */
    double fp32;    /* GFLOP/s of fused multiply-adds, 2 FLOP each */
    double bf16;    /* GFLOP/s of mma.sync, bf16 products into fp32 sums: what sm_80's instructions reach on this GPU */
    double memory;  /* GB/s of a copy between two buffers larger than the L2, bytes read and written together */
};

#define CUDA_MAX_KERNELS 256

struct cuda_kernel {
    char name[192]; /* with template arguments, cut where it is longer */
    uint64_t launches;
    double seconds; /* of all of them */
};

struct cuda_profile {
    double empty; /* seconds that an empty kernel takes by the same measure: every launch's time has some of it */
    uint64_t launches;
    double seconds; /* of all launches */
    int n;
    struct cuda_kernel kernel[CUDA_MAX_KERNELS]; /* the longest time first */
};

struct cuda_bench {
    /* About `seconds` for each peak; medians. */
    enum ecg_status (*peaks)(struct ops_dev *dev, double seconds, struct cuda_peaks *peaks);
    /* Bytes of the GPU's memory that are in use, by whomever. */
    enum ecg_status (*memory_used)(size_t *bytes);
    /* Times every kernel that the device launches until profile_stop, of one device and one thread at a time. Copies and
     * memsets are not counted. A stop ends it even when it fails. */
    enum ecg_status (*profile_start)(struct ops_dev *dev);
    enum ecg_status (*profile_stop)(struct ops_dev *dev, struct cuda_profile *profile);
};

/* Sums over the GPUs of several processes, by NCCL. The order of NCCL's sums depends on the number of ranks, how the GPUs are connected
 * and NCCL's version and settings, not on time: the same bits from run to run on the same machine. */
#define CUDA_COMM_ID_BYTES 128
struct cuda_sums;
struct cuda_comm {
    /* Before the device is opened: this process takes the GPU of its number among the node's ranks, or the only one where the launcher
     * shows each rank its own. Fails where there are fewer GPUs than ranks. */
    enum ecg_status (*choose)(int local_rank);
    /* Rank 0 makes the id, and brings it to all. */
    enum ecg_status (*id)(char id[CUDA_COMM_ID_BYTES]);
    /* All ranks meet, within `seconds`; each has a GPU of its own. */
    enum ecg_status (*open)(struct cuda_sums **out, struct ops_dev *dev, const char *id, int rank, int size,
                            double seconds);
    /* x (n), in the device's memory, = its sum over the ranks: after all that dev has been given so far, beside what it is given
     * from now on. x is untouched until join. */
    enum ecg_status (*start)(struct cuda_sums *s, float *x, size_t n);
    /* What dev is given from now on comes after all sums that were started. The host waits for nothing. */
    enum ecg_status (*join)(struct cuda_sums *s);
    /* Whether NCCL found a failure meanwhile. */
    enum ecg_status (*check)(struct cuda_sums *s);
    /* Ends all sums that are under way, from any thread; their results are undefined and later calls fail. */
    void (*abort)(struct cuda_sums *s);
    void (*close)(struct cuda_sums *s, int failed); /* `failed`: waits for nobody. NULL is fine */
};

const struct cuda_comm *einthoven_cuda_comm(void);
typedef const struct cuda_comm *cuda_plugin_comm_fn(void);

const struct cuda_bench *einthoven_cuda_bench(void);
typedef const struct cuda_bench *cuda_plugin_bench_fn(void);

#ifdef __cplusplus
}
#endif
#endif
