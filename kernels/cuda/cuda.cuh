/* SPDX-License-Identifier: MIT
 * What the files of the CUDA backend share on the host's side. Functions named cuda_<entry of struct ops> are that
 * entry (kernels/ops.h says what they do); this header lets table.cu put them into the table.
 *
 * All work of a device goes to its one stream, in the order of the calls; upload_ahead's copies alone have a stream of their
 * own. An entry checks its shapes, launches, and asks for the launch's error; what fails later, on the GPU, is reported by
 * sync, or at once with EINTHOVEN_CUDA_SYNC=1.
 * Where a sum is cut into parts, the cut follows from the shape alone, and a second kernel adds the parts in their order:
 * results depend neither on the GPU nor on which block ran first. Elements are counted in int: a tensor has at
 * most 2^31 - 1 of them. */
#ifndef KERNELS_CUDA_CUDA_CUH
#define KERNELS_CUDA_CUDA_CUH

#include "kernels/cuda/compat.h"

#include "kernels/cuda/gemm.h"
#include "kernels/ops.h"

/* Partial sums that a scalar (a loss, a sum of squares) is made of, at most. */
#define CUDA_MAX_PARTS   1024
/* Scalars that wait for the next sync, at most; one more waits itself. */
#define CUDA_MAX_SCALARS 256

/* Pinned memory that a batch is copied from. */
struct cuda_stage {
    char *memory;
    size_t bytes;
    cudaEvent_t copied; /* the copies of its last batch are done */
};

/* Where the sum goes that sync brings. */
struct cuda_promise {
    double *to;
    int adds; /* *to +=, else = */
};

struct ops_dev {
    struct ops_dev_head head;
    cudaStream_t stream;
    double *parts;   /* (CUDA_MAX_PARTS) on the device, of one scalar */
    double *scalars; /* (CUDA_MAX_SCALARS) on the device */
    double *fetched; /* (CUDA_MAX_SCALARS) the same, pinned, on the host */
    struct cuda_promise promised[CUDA_MAX_SCALARS];
    int n_promised;
    cudaStream_t copies;        /* upload_ahead's */
    cudaEvent_t launched;       /* what the stream had been given at the last upload_ahead */
    struct cuda_stage stage[2]; /* taken in turn */
    int turn;
    int no_graphs; /* they can't be had, or are not wanted */
    int capturing;
    int blocking; /* wait after each launch */
    int general; /* EINTHOVEN_CUDA_CONV=general: no tensor cores, so that the general kernels can be tested */
    int profiling; /* each launch is timed by itself (profile.cu): nothing may be replayed from a graph */
    struct choose *choose; /* how convolutions are done: choose.h */
    struct gemm_gpu gpu;
};

/* The backend's completed table. */
const struct ops *cuda_table(void);

/* The error of the call just made, in CUDA's own words after the text. ECG_OK for cudaSuccess. */
enum ecg_status cuda_check(cudaError_t error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* struct cuda_comm's choose. */
enum ecg_status cuda_choose_gpu(int local_rank);

/* upload_ahead's stream, events and memory. */
enum ecg_status cuda_ahead_open(struct ops_dev *dev);
void cuda_ahead_close(struct ops_dev *dev);

/* After an entry's launches: what went wrong, with the entry's name and shape. */
enum ecg_status cuda_done(struct ops_dev *dev, const char *op, const char *shape);
enum ecg_status cuda_done_blc(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                              struct ops_blc s);
enum ecg_status cuda_done_conv(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                               struct ops_conv s);
enum ecg_status cuda_done_n(struct ops_dev *dev, const char *op, size_t n);

/* ECG_ERR_FAIL, naming op and shape, unless the backend has them. */
enum ecg_status cuda_check_blc(const char *op, enum ops_dtype dtype, struct ops_blc s);
enum ecg_status cuda_check_conv(const char *op, enum ops_dtype dtype, struct ops_conv s);

/* Cuts `bytes` off the front of scratch memory, at a multiple of 256; NULL when it does not hold them. */
void *cuda_take(struct ops_ws *ws, size_t bytes);
enum ecg_status cuda_too_small(const char *op, struct ops_ws ws);
/* Bytes that cuda_take takes. */
size_t cuda_room(size_t bytes);

static inline int cuda_ceil_div(int n, int d) {
    return (int)(((int64_t)n + d - 1) / d);
}

static inline int cuda_min(int a, int b) {
    return a < b ? a : b;
}

static inline int cuda_max(int a, int b) {
    return a > b ? a : b;
}

static inline size_t cuda_size(enum ops_dtype dtype) {
    return dtype == OPS_F32 ? sizeof(float) : sizeof(uint16_t);
}

static inline int cuda_elements(struct ops_blc s) {
    return s.B * s.L * s.C;
}

/* Channels that a thread of an elementwise kernel takes at once: 8 when all of these are multiples of 8, else 1. */
static inline int cuda_width(int a, int b, int c) {
    return a % 8 == 0 && b % 8 == 0 && c % 8 == 0 ? 8 : 1;
}

/* Blocks of `threads` threads for n items. */
static inline int cuda_blocks(size_t n, int threads) {
    return (int)((n + (size_t)threads - 1) / (size_t)threads);
}

/* How a sum over `rows` rows of C channels is cut. */
struct cuda_cut {
    int parts, rows; /* so many rows a part, fewer in the last */
};
struct cuda_cut cuda_cut_rows(int rows);

/* ECG_ERR_FAIL while a graph is recorded, which must not hold this. */
enum ecg_status cuda_unrecorded(const struct ops_dev *dev, const char *op);

/* Adds parts[0 .. n) of a device's scalar in their order; the next sync hands the sum out: *sum +=, or = . */
enum ecg_status cuda_promise_scalar(struct ops_dev *dev, const char *op, int n, int adds,
                                    double *sum);

extern "C" {

/* db[c] += sum over the rows of x (rows, C). */
enum ecg_status cuda_column_sums(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                 int rows, int C, const void *x, float *db, struct ops_ws ws);
/* db[c] += sum over the rows of weight[row]*x (rows, C). */
enum ecg_status cuda_weighted_sums(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                   int rows, int C, const void *x, const float *weight, float *db,
                                   struct ops_ws ws);
size_t cuda_column_ws(int rows, int C); /* of both */

enum ecg_status cuda_input_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                               int n_file_leads, const int16_t *ecg, const float *scale,
                               const int *lead, enum ops_normalize normalize, void *x);
enum ecg_status cuda_conv_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                              const void *x, const float *w, const float *b, void *y,
                              struct ops_ws ws);
enum ecg_status cuda_conv_bwd_x(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                const void *dy, const float *w, void *dx, struct ops_ws ws);
enum ecg_status cuda_conv_bwd_w(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                const void *x, const void *dy, float *dw, float *db,
                                struct ops_ws ws);
enum ecg_status cuda_linear_fwd(struct ops_dev *dev, int M, int K, int N, const float *x,
                                const float *w, const float *b, float *y, struct ops_ws ws);
enum ecg_status cuda_linear_bwd_x(struct ops_dev *dev, int M, int K, int N, const float *dy,
                                  const float *w, float *dx, struct ops_ws ws);
enum ecg_status cuda_linear_bwd_w(struct ops_dev *dev, int M, int K, int N, const float *x,
                                  const float *dy, float *dw, float *db, struct ops_ws ws);
enum ecg_status cuda_norm_stats(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                const void *x, float *mean, float *var, struct ops_ws ws);
enum ecg_status cuda_norm_fold(struct ops_dev *dev, int C, const float *mean, const float *var,
                               const float *gamma, const float *beta, double eps, float *scale,
                               float *shift, float *running_mean, float *running_var,
                               double momentum, double rows);
enum ecg_status cuda_norm_sums(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                               const void *x, const void *dn, const struct ops_norm *norm,
                               struct ops_ws ws);
enum ecg_status cuda_norm_dx(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const void *x, const void *dn, const struct ops_norm *norm,
                             const struct ops_side *side, void *dx);
enum ecg_status cuda_act_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const struct ops_act *act, const void *x, void *a);
enum ecg_status cuda_act_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const struct ops_act *act, const void *x, const void *da, int add,
                             void *dn);
enum ecg_status cuda_mean_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                              const void *x, float *m);
enum ecg_status cuda_mean_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                              const float *dm, void *dx);
enum ecg_status cuda_attention_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                   const void *x, const float *w, float *a, float *m);
enum ecg_status cuda_attention_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                   const void *x, const float *w, const float *a, const float *dm,
                                   float *de, float *dw, void *dx, struct ops_ws ws);
enum ecg_status cuda_swish_fwd(struct ops_dev *dev, size_t n, const float *x, float *y);
enum ecg_status cuda_swish_bwd(struct ops_dev *dev, size_t n, const float *x, const float *dy,
                               float *dx);
enum ecg_status cuda_sigmoid_fwd(struct ops_dev *dev, size_t n, const float *x, float *y);
enum ecg_status cuda_sigmoid_bwd(struct ops_dev *dev, size_t n, const float *y, const float *dy,
                                 float *dx);
enum ecg_status cuda_shortcut_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                  int Li, int Ci, int S, const void *h, const float *gate,
                                  const void *x, void *y);
enum ecg_status cuda_shortcut_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                  int Li, int Ci, int S, const void *x, const void *dy, void *dx);
/* dx += instead of =. */
enum ecg_status cuda_shortcut_add(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                  int Li, int Ci, int S, const void *x, const void *dy, void *dx);
enum ecg_status cuda_gate_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                              const void *dy, const void *h, float *dgate);
enum ecg_status cuda_branch_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                const void *dy, const float *gate, const float *dm, void *dh);
enum ecg_status cuda_loss(struct ops_dev *dev, const struct ops_loss *kind, int B, int N,
                          const float *logits, const uint8_t *labels, const float *targets,
                          const float *column_scale, double inv_known, double *loss_sum,
                          float *dlogits);
enum ecg_status cuda_sumsq(struct ops_dev *dev, size_t n, const float *x, double *sum);
enum ecg_status cuda_scale(struct ops_dev *dev, size_t n, double a, float *x);
enum ecg_status cuda_adam(struct ops_dev *dev, const struct ops_adam *a, size_t n, float *p,
                          const float *g, float *m, float *v);
enum ecg_status cuda_sgd(struct ops_dev *dev, double lr, double momentum, double weight_decay,
                         int64_t step, size_t n, float *p, const float *g, float *m);
enum ecg_status cuda_ema(struct ops_dev *dev, size_t n, double decay, const float *p,
                         float *average);
size_t cuda_conv_ws(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s, int packed,
                    int backward);
size_t cuda_norm_ws(struct ops_dev *dev, struct ops_blc s);
enum ecg_status cuda_tail_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s, int Li,
                              int Ci, int S, const void *h, const float *gate, const void *x,
                              void *y, float *mean, float *var, struct ops_ws ws);
/* Of tail_fwd's statistics. */
size_t cuda_tail_ws(struct ops_blc s);
size_t cuda_conv_packed_bytes(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                              int backward);
enum ecg_status cuda_conv_pack(struct ops_dev *dev, enum ops_dtype dtype, size_t n,
                               const struct ops_pack *list, struct ops_ws ws);
enum ecg_status cuda_act_conv_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                  const struct ops_act *act, const void *x, const float *w,
                                  const void *packed, const float *b, void *y, float *mean,
                                  float *var, float *y_mean, struct ops_ws ws);
enum ecg_status cuda_act_conv_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                  const struct ops_act *act, const void *x, const float *w,
                                  const void *packed, const void *dy,
                                  const struct ops_branch *branch, const struct ops_behind *behind,
                                  float *dw, float *db, const struct ops_side *side, void *dn,
                                  const struct ops_norm *norm, struct ops_ws ws);
enum ecg_status cuda_se_fwd(struct ops_dev *dev, int B, int C, int H, const float *m,
                            const float *w1, const float *b1, const float *w2, const float *b2,
                            float *z, float *gate, struct ops_ws ws);
enum ecg_status cuda_se_bwd(struct ops_dev *dev, int B, int C, int H, const float *m,
                            const float *z, const float *gate, const float *dgate, const float *w1,
                            const float *w2, float *dm, float *dw1, float *db1, float *dw2,
                            float *db2, struct ops_ws ws);
size_t cuda_se_ws(struct ops_dev *dev, int B, int C, int H);

enum ecg_status cuda_choose_conv(struct ops_dev *dev, const char *how);
enum ecg_status cuda_open(struct ops_dev **dev, int n_threads);
void cuda_close(struct ops_dev *dev);
enum ecg_status cuda_alloc(struct ops_dev *dev, void **p, size_t bytes);
void cuda_free(struct ops_dev *dev, void *p);
enum ecg_status cuda_upload(struct ops_dev *dev, void *device, const void *host, size_t bytes);
enum ecg_status cuda_download(struct ops_dev *dev, void *host, const void *device, size_t bytes);
enum ecg_status cuda_sync(struct ops_dev *dev);
enum ecg_status cuda_upload_ahead(struct ops_dev *dev, const struct ops_upload *list, int n);
enum ecg_status cuda_run(struct ops_dev *dev, const char *name, struct ops_graph **graph,
                         enum ecg_status (*work)(void *context), void *context);
void cuda_graph_free(struct ops_dev *dev, struct ops_graph *graph);
enum ecg_status cuda_fill_zero(struct ops_dev *dev, void *x, size_t bytes);
}

#endif
