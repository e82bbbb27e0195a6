/* SPDX-License-Identifier: MIT
 * What the parts of bench share. */
#ifndef TRAIN_RUN_BENCH_PRIVATE_H
#define TRAIN_RUN_BENCH_PRIVATE_H

#include <stddef.h>
#include <stdint.h>

#include "core/json.h"
#include "kernels/cpu/peak.h"
#include "kernels/cuda/plugin.h"
#include "kernels/ops.h"
#include "train/model/net1d.h"
#include "train/run/bench.h"

struct bench_model {
    const char *name;
    struct net1d_config config; /* batch_norm and precision are the caller's to set */
    int batch, gpu_batch;
};

struct bench {
    const struct bench_options *o;
    const struct ops *ops;
    struct peak peak;     /* a GPU's have no level, threads and share */
    const struct cuda_bench *gpu; /* NULL: a host backend */
    struct cuda_peaks card;       /* the GPU's */
    struct json_writer w; /* with o->json; else text goes out as it comes */
};

enum { BENCH_DTYPES = 2 }; /* enum ops_dtype counts them */

extern const struct bench_model bench_models[]; /* ends with name == NULL */
extern const char *const bench_dtype_names[BENCH_DTYPES];

int bench_batch(const struct bench *b, const struct bench_model *m);
/* GFLOP/s to hold a precision against: bf16 where there is no instruction for it is computed in fp32. */
double bench_peak(const struct bench *b, enum ops_dtype dtype);

/* Median seconds of `run`, which is called once before to warm up: at least `runs` times and for `seconds`. */
enum ecg_status bench_median(int runs, double seconds, enum ecg_status (*run)(void *),
                             void *context, double *median);

/* Median seconds of one call of `run`, which starts work on `dev` and does not wait for it. On a GPU many calls go before
 * each wait: a short kernel's own time, not that of waiting. */
enum ecg_status bench_op(const struct bench *b, struct ops_dev *dev,
                         enum ecg_status (*run)(void *), void *context, double *seconds);
/* Copies of what an operation reads and writes, `bytes`, that it should take in turn so that a GPU's L2 holds none; 1 on hosts. */
int bench_copies(const struct bench *b, double bytes);

/* n numbers of [-0.5, 0.5), as `dtype`, into ops memory; after the first 2^20 they repeat. */
enum ecg_status bench_fill(const struct ops *ops, struct ops_dev *dev, enum ops_dtype dtype,
                           void *to, size_t n);
/* Sample i of the input (b, lead, l), counted through the batch, is the upper 16 bits of splitmix64's i-th number from
 * seed 0, as int16; records are then normalised as in training. */
int16_t bench_sample(uint64_t i);

/* Members of the JSON object that is open: "key": number (NaN: null), text. */
void bench_put(struct bench *b, const char *key, double value);
void bench_put_text(struct bench *b, const char *key, const char *text);
/* "key": {unit: rate, "percent_of_peak": share, "seconds": seconds} */
void bench_put_rate(struct bench *b, const char *key, const char *unit, double rate, double peak,
                    double seconds);

/* A GPU's peaks, and what goes before everything else. */
enum ecg_status bench_gpu_peaks(struct bench *b);
void bench_gpu_print(struct bench *b);
/* A table of kernels over `steps` training steps, "kernels" in JSON. */
void bench_gpu_kernels(struct bench *b, const struct cuda_profile *p, int steps);

/* Tables of `ops`: measured whole before anything is written, so that a refusal leaves nothing behind. */
enum ecg_status bench_convs(struct bench *b, const struct bench_model *m, enum ops_dtype dtype);
enum ecg_status bench_elements(struct bench *b, const struct bench_model *m, enum ops_dtype dtype);
/* Parts. */
enum ecg_status bench_train(struct bench *b);
enum ecg_status bench_loader(struct bench *b);

#endif
