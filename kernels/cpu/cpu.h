/* SPDX-License-Identifier: MIT
 * What the files of the CPU backend share. Functions named cpu_<entry of struct ops> are that entry
 * (kernels/ops.h says what they do); this header lets cpu.c put them into the table.
 *
 * Work is cut into tasks by the shape and the number of threads. Where the cut decides the order of a sum
 * (weight gradients, statistics, losses) it depends on the shape alone; everywhere else each output is
 * computed whole by one task, so its bits cannot depend on the cut. */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include "core/mem.h"
#include "core/pool.h"
#include "kernels/cpu/level.h"
#include "kernels/ops.h"

struct ops_dev {
    struct ops_dev_head head;
    struct pool *pool;
    int n_threads;
    const struct level *level;
};

/* The level named by the environment variable EINTHOVEN_CPU, else the best one that this processor has. */
enum ecg_status cpu_dispatch(const struct level **out);

/* ECG_ERR_FAIL, naming op and shape, unless the backend has them. */
enum ecg_status cpu_check_blc(const char *op, enum ops_dtype dtype, struct ops_blc s);
enum ecg_status cpu_check_conv(const char *op, enum ops_dtype dtype, struct ops_conv s);
/* The arena over a call's scratch memory, after its size was found to be enough. */
enum ecg_status cpu_scratch(const char *op, struct ops_ws ws, size_t needed, struct arena *arena);

/* Runs n_tasks tasks; in the calling thread alone when `work`, in floating-point operations or so, is not
 * worth waking another one. */
void cpu_run(struct ops_dev *dev, size_t n_tasks, double work, pool_fn *fn, void *context);

/* The part [from, to) of n things that task `task` of n_tasks owns: nearly equal parts in order. */
struct cpu_part {
    size_t from, to;
};
struct cpu_part cpu_part(size_t n, size_t n_tasks, size_t task);

static inline int cpu_min(int a, int b) {
    return a < b ? a : b;
}

static inline int cpu_max(int a, int b) {
    return a > b ? a : b;
}

static inline size_t cpu_ceil_div(size_t n, size_t d) {
    return (n + d - 1) / d;
}

static inline size_t cpu_round_up(size_t n, size_t to) {
    return cpu_ceil_div(n, to) * to;
}

/* Bytes of an element, and where element i of x lies. */
static inline size_t cpu_size(enum ops_dtype dtype) {
    return dtype == OPS_F32 ? sizeof(float) : sizeof(uint16_t);
}

static inline const void *cpu_at(enum ops_dtype dtype, const void *x, int64_t i) {
    return (const char *)x + i * (int64_t)cpu_size(dtype);
}

static inline void *cpu_out(enum ops_dtype dtype, void *x, int64_t i) {
    return (char *)x + i * (int64_t)cpu_size(dtype);
}

/* Some rows and columns of an activation tensor x of n_rows * C elements, seen through `act` (NULL: as they
 * are): rows row0, row0 + row_step, ... (n of them; a row is one (b, l)), columns [c0, c0 + cols). */
struct cpu_rows {
    const struct ops_act *act;
    enum ops_dtype dtype; /* of x, and of a or dn below */
    const void *x;
    int C, L; /* L rows a sample: finds the element's place for dropout */
    int64_t row0;
    int row_step, n, c0, cols;
    float *factor; /* scratch of `cols` floats where act drops */
};
/* a = act(x), rows a_row apart, cut into panels of columns as level.act_fwd does it. */
void cpu_act_rows(const struct level *v, const struct cpu_rows *t, void *a, ptrdiff_t a_row,
                  int panel, ptrdiff_t panel_step);
/* The same for bf16 without dropout, pairs of rows, as level.act_zip does it. */
void cpu_act_zip(const struct level *v, const struct cpu_rows *t, uint32_t *pairs, ptrdiff_t row,
                 int panel, ptrdiff_t panel_step);
/* The gradient at n, given da (rows da_row apart), = or += into dn, a tensor like x. */
void cpu_act_rows_bwd(const struct level *v, const struct cpu_rows *t, const float *da,
                      ptrdiff_t da_row, int add, void *dn);

/* Whether an activation (or NULL) leaves everything as it is. */
int cpu_act_is_none(const struct ops_act *act);

/* Bytes of scratch memory of each pass, with its weights packed or not. */
size_t cpu_conv_fwd_ws(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s, int packed);
size_t cpu_conv_bwd_x_ws(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s, int packed);
size_t cpu_conv_bwd_w_ws(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s);

/* The three passes with `act` on the input's side; NULL: none. packed: w packed (cpu_conv_pack), or NULL. `add` and x belong to act's backward. */
enum ecg_status cpu_conv_fwd_act(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                 const struct ops_act *act, const void *x, const float *w,
                                 const void *packed, const float *b, void *y, struct ops_ws ws);
enum ecg_status cpu_conv_bwd_x_act(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                   const struct ops_act *act, const void *x, const void *dy,
                                   const float *w, const void *packed, int add, void *dn,
                                   struct ops_ws ws);
enum ecg_status cpu_conv_bwd_w_act(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                   const struct ops_act *act, const void *x, const void *dy,
                                   float *dw, float *db, struct ops_ws ws);

enum ecg_status cpu_input_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                              int n_file_leads, const int16_t *ecg, const float *scale,
                              const int *lead, enum ops_normalize normalize, void *x);
enum ecg_status cpu_conv_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                             const void *x, const float *w, const float *b, void *y,
                             struct ops_ws ws);
enum ecg_status cpu_conv_bwd_x(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                               const void *dy, const float *w, void *dx, struct ops_ws ws);
enum ecg_status cpu_conv_bwd_w(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                               const void *x, const void *dy, float *dw, float *db,
                               struct ops_ws ws);
enum ecg_status cpu_linear_fwd(struct ops_dev *dev, int M, int K, int N, const float *x,
                               const float *w, const float *b, float *y, struct ops_ws ws);
enum ecg_status cpu_linear_bwd_x(struct ops_dev *dev, int M, int K, int N, const float *dy,
                                 const float *w, float *dx, struct ops_ws ws);
enum ecg_status cpu_linear_bwd_w(struct ops_dev *dev, int M, int K, int N, const float *x,
                                 const float *dy, float *dw, float *db, struct ops_ws ws);
enum ecg_status cpu_norm_stats(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                               const void *x, float *mean, float *var, struct ops_ws ws);
enum ecg_status cpu_norm_fold(struct ops_dev *dev, int C, const float *mean, const float *var,
                              const float *gamma, const float *beta, double eps, float *scale,
                              float *shift, float *running_mean, float *running_var,
                              double momentum, double rows);
enum ecg_status cpu_norm_sums(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                              const void *x, const void *dn, const struct ops_norm *norm,
                              struct ops_ws ws);
enum ecg_status cpu_norm_dx(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                            const void *x, const void *dn, const struct ops_norm *norm,
                            const struct ops_side *side, void *dx);
enum ecg_status cpu_act_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                            const struct ops_act *act, const void *x, void *a);
enum ecg_status cpu_act_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                            const struct ops_act *act, const void *x, const void *da, int add,
                            void *dn);
enum ecg_status cpu_mean_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const void *x, float *m);
enum ecg_status cpu_mean_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const float *dm, void *dx);
enum ecg_status cpu_attention_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                  const void *x, const float *w, float *a, float *m);
enum ecg_status cpu_attention_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                  const void *x, const float *w, const float *a, const float *dm,
                                  float *de, float *dw, void *dx, struct ops_ws ws);
enum ecg_status cpu_swish_fwd(struct ops_dev *dev, size_t n, const float *x, float *y);
enum ecg_status cpu_swish_bwd(struct ops_dev *dev, size_t n, const float *x, const float *dy,
                              float *dx);
enum ecg_status cpu_sigmoid_fwd(struct ops_dev *dev, size_t n, const float *x, float *y);
enum ecg_status cpu_sigmoid_bwd(struct ops_dev *dev, size_t n, const float *y, const float *dy,
                                float *dx);
enum ecg_status cpu_shortcut_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                 int Li, int Ci, int S, const void *h, const float *gate,
                                 const void *x, void *y);
enum ecg_status cpu_shortcut_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                 int Li, int Ci, int S, const void *x, const void *dy, void *dx);
enum ecg_status cpu_gate_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const void *dy, const void *h, float *dgate);
enum ecg_status cpu_branch_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                               const void *dy, const float *gate, const float *dm, void *dh);
enum ecg_status cpu_loss(struct ops_dev *dev, const struct ops_loss *kind, int B, int N,
                         const float *logits, const uint8_t *labels, const float *targets,
                         const float *column_scale, double inv_known, double *loss_sum,
                         float *dlogits);
enum ecg_status cpu_sumsq(struct ops_dev *dev, size_t n, const float *x, double *sum);
enum ecg_status cpu_scale(struct ops_dev *dev, size_t n, double a, float *x);
enum ecg_status cpu_fill_zero(struct ops_dev *dev, void *x, size_t bytes);
enum ecg_status cpu_adam(struct ops_dev *dev, const struct ops_adam *a, size_t n, float *p,
                         const float *g, float *m, float *v);
enum ecg_status cpu_sgd(struct ops_dev *dev, double lr, double momentum, double weight_decay,
                        int64_t step, size_t n, float *p, const float *g, float *m);
enum ecg_status cpu_ema(struct ops_dev *dev, size_t n, double decay, const float *p, float *average);
size_t cpu_conv_ws(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s, int packed, int backward);
size_t cpu_linear_ws(struct ops_dev *dev, int M, int K, int N);
size_t cpu_norm_ws(struct ops_dev *dev, struct ops_blc s);
size_t cpu_conv_packed_bytes(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                             int backward);
enum ecg_status cpu_conv_pack(struct ops_dev *dev, enum ops_dtype dtype, size_t n,
                              const struct ops_pack *list, struct ops_ws ws);
enum ecg_status cpu_act_conv_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                 const struct ops_act *act, const void *x, const float *w,
                                 const void *packed, const float *b, void *y, float *mean,
                                 float *var, float *y_mean, struct ops_ws ws);
enum ecg_status cpu_act_conv_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                 const struct ops_act *act, const void *x, const float *w,
                                 const void *packed, const void *dy,
                                 const struct ops_branch *branch, const struct ops_behind *behind, float *dw, float *db, const struct ops_side *side, void *dn, const struct ops_norm *norm, struct ops_ws ws);

#endif
