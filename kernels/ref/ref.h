/* SPDX-License-Identifier: MIT
 * What the files of the oracle share. Every function here is an entry of `struct ops` (kernels/ops.h says what it
 * does); this header only lets ref.c put them into the table. Plain loops in the order of the formula, sums in
 * double, results rounded to float, and to bf16 from there. Nothing here is tuned, and nothing runs in threads. */
#ifndef KERNELS_REF_REF_H
#define KERNELS_REF_REF_H

#include "kernels/bf16.h"
#include "kernels/ops.h"

struct ops_dev {
    struct ops_dev_head head;
};

/* Element i of an activation. */
static inline double ref_get(enum ops_dtype dtype, const void *x, size_t i) {
    if (dtype == OPS_F32) return ((const float *)x)[i];
    return bf16_to_float(((const uint16_t *)x)[i]);
}

static inline void ref_put(enum ops_dtype dtype, void *x, size_t i, double v) {
    if (dtype == OPS_F32)
        ((float *)x)[i] = (float)v;
    else
        ((uint16_t *)x)[i] = bf16_from_float((float)v);
}

/* ECG_ERR_FAIL, naming the op, unless the oracle has it: a known dtype and extents of at least one. */
enum ecg_status ref_check_blc(const char *op, enum ops_dtype dtype, struct ops_blc s);
enum ecg_status ref_check_conv(const char *op, enum ops_dtype dtype, struct ops_conv s);

/* 1 / (1 + exp(-z)), exact at both ends of the range. */
double ref_sigmoid(double z);

enum ecg_status ref_input_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                              int n_file_leads, const int16_t *ecg, const float *scale,
                              const int *lead, enum ops_normalize normalize, void *x);
enum ecg_status ref_conv_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                             const void *x, const float *w, const float *b, void *y,
                             struct ops_ws ws);
enum ecg_status ref_conv_bwd_x(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                               const void *dy, const float *w, void *dx, struct ops_ws ws);
enum ecg_status ref_conv_bwd_w(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                               const void *x, const void *dy, float *dw, float *db,
                               struct ops_ws ws);
enum ecg_status ref_linear_fwd(struct ops_dev *dev, int M, int K, int N, const float *x,
                               const float *w, const float *b, float *y, struct ops_ws ws);
enum ecg_status ref_linear_bwd_x(struct ops_dev *dev, int M, int K, int N, const float *dy,
                                 const float *w, float *dx, struct ops_ws ws);
enum ecg_status ref_linear_bwd_w(struct ops_dev *dev, int M, int K, int N, const float *x,
                                 const float *dy, float *dw, float *db, struct ops_ws ws);
enum ecg_status ref_norm_stats(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                               const void *x, float *mean, float *var, struct ops_ws ws);
enum ecg_status ref_norm_fold(struct ops_dev *dev, int C, const float *mean, const float *var,
                              const float *gamma, const float *beta, double eps, float *scale,
                              float *shift, float *running_mean, float *running_var,
                              double momentum, double rows);
enum ecg_status ref_norm_sums(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                              const void *x, const void *dn, const struct ops_norm *norm,
                              struct ops_ws ws);
enum ecg_status ref_norm_dx(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                            const void *x, const void *dn, const struct ops_norm *norm,
                            const struct ops_side *side, void *dx);
enum ecg_status ref_act_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                            const struct ops_act *act, const void *x, void *a);
enum ecg_status ref_act_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                            const struct ops_act *act, const void *x, const void *da, int add,
                            void *dn);
enum ecg_status ref_swish_fwd(struct ops_dev *dev, size_t n, const float *x, float *y);
enum ecg_status ref_swish_bwd(struct ops_dev *dev, size_t n, const float *x, const float *dy,
                              float *dx);
enum ecg_status ref_sigmoid_fwd(struct ops_dev *dev, size_t n, const float *x, float *y);
enum ecg_status ref_sigmoid_bwd(struct ops_dev *dev, size_t n, const float *y, const float *dy,
                                float *dx);
enum ecg_status ref_mean_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const void *x, float *m);
enum ecg_status ref_mean_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const float *dm, void *dx);
enum ecg_status ref_attention_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                  const void *x, const float *w, float *a, float *m);
enum ecg_status ref_attention_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                  const void *x, const float *w, const float *a, const float *dm,
                                  float *de, float *dw, void *dx, struct ops_ws ws);
enum ecg_status ref_shortcut_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                 int Li, int Ci, int S, const void *h, const float *gate,
                                 const void *x, void *y);
enum ecg_status ref_shortcut_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                 int Li, int Ci, int S, const void *x, const void *dy, void *dx);
enum ecg_status ref_gate_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                             const void *dy, const void *h, float *dgate);
enum ecg_status ref_branch_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                               const void *dy, const float *gate, const float *dm, void *dh);
enum ecg_status ref_loss(struct ops_dev *dev, const struct ops_loss *kind, int B, int N,
                         const float *logits, const uint8_t *labels, const float *targets,
                         const float *column_scale, double inv_known, double *loss_sum,
                         float *dlogits);
enum ecg_status ref_sumsq(struct ops_dev *dev, size_t n, const float *x, double *sum);
enum ecg_status ref_scale(struct ops_dev *dev, size_t n, double a, float *x);
enum ecg_status ref_adam(struct ops_dev *dev, const struct ops_adam *a, size_t n, float *p,
                         const float *g, float *m, float *v);
enum ecg_status ref_sgd(struct ops_dev *dev, double lr, double momentum, double weight_decay,
                        int64_t step, size_t n, float *p, const float *g, float *m);
enum ecg_status ref_ema(struct ops_dev *dev, size_t n, double decay, const float *p, float *average);

#endif
