/* SPDX-License-Identifier: MIT
 * The oracle's table, its memory (plain host memory) and its shape checks. */
#include "kernels/ref/ref.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

enum ecg_status ref_check_blc(const char *op, enum ops_dtype dtype, struct ops_blc s) {
    if (dtype != OPS_F32 && dtype != OPS_BF16)
        return ecg_fail(ECG_ERR_FAIL, "ref: %s: no such dtype: %d", op, (int)dtype);
    if (s.B >= 1 && s.L >= 1 && s.C >= 1) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "ref: %s: no such shape: (%d, %d, %d)", op, s.B, s.L, s.C);
}

enum ecg_status ref_check_conv(const char *op, enum ops_dtype dtype, struct ops_conv s) {
    TRY(ref_check_blc(op, dtype, (struct ops_blc){s.B, s.Lin, s.Cin}));
    TRY(ref_check_blc(op, dtype, (struct ops_blc){s.B, s.Lout, s.Cout}));
    if (s.K >= 1 && s.S >= 1 && s.P >= 0 && s.G >= 1 && s.Cin % s.G == 0 && s.Cout % s.G == 0)
        return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "ref: %s: no such shape: Cin %d, Cout %d, K %d, S %d, G %d, P %d",
                    op, s.Cin, s.Cout, s.K, s.S, s.G, s.P);
}

static enum ecg_status ref_open(struct ops_dev **dev, int n_threads) {
    (void)n_threads;
    TRY(MEM_NEW(dev, 1));
    (*dev)->head.ops = ops_ref();
    return ECG_OK;
}

static void ref_close(struct ops_dev *dev) {
    free(dev);
}

static enum ecg_status ref_alloc(struct ops_dev *dev, void **p, size_t bytes) {
    (void)dev;
    return mem_alloc(p, bytes, 1);
}

static void ref_free(struct ops_dev *dev, void *p) {
    (void)dev;
    free(p);
}

static enum ecg_status ref_copy(struct ops_dev *dev, void *to, const void *from, size_t bytes) {
    (void)dev;
    memcpy(to, from, bytes);
    return ECG_OK;
}

static enum ecg_status ref_sync(struct ops_dev *dev) {
    (void)dev;
    return ECG_OK;
}

static enum ecg_status ref_fill_zero(struct ops_dev *dev, void *x, size_t bytes) {
    (void)dev;
    memset(x, 0, bytes);
    return ECG_OK;
}

static struct ops table = {
    .name = "ref",
    .open = ref_open,
    .close = ref_close,
    .alloc = ref_alloc,
    .free = ref_free,
    .upload = ref_copy,
    .download = ref_copy,
    .sync = ref_sync,
    .input_fwd = ref_input_fwd,
    .conv_fwd = ref_conv_fwd,
    .conv_bwd_x = ref_conv_bwd_x,
    .conv_bwd_w = ref_conv_bwd_w,
    .linear_fwd = ref_linear_fwd,
    .linear_bwd_x = ref_linear_bwd_x,
    .linear_bwd_w = ref_linear_bwd_w,
    .norm_stats = ref_norm_stats,
    .norm_fold = ref_norm_fold,
    .norm_sums = ref_norm_sums,
    .norm_dx = ref_norm_dx,
    .act_fwd = ref_act_fwd,
    .act_bwd = ref_act_bwd,
    .mean_fwd = ref_mean_fwd,
    .mean_bwd = ref_mean_bwd,
    .attention_fwd = ref_attention_fwd,
    .attention_bwd = ref_attention_bwd,
    .swish_fwd = ref_swish_fwd,
    .swish_bwd = ref_swish_bwd,
    .sigmoid_fwd = ref_sigmoid_fwd,
    .sigmoid_bwd = ref_sigmoid_bwd,
    .shortcut_fwd = ref_shortcut_fwd,
    .shortcut_bwd = ref_shortcut_bwd,
    .gate_bwd = ref_gate_bwd,
    .branch_bwd = ref_branch_bwd,
    .loss = ref_loss,
    .sumsq = ref_sumsq,
    .scale = ref_scale,
    .fill_zero = ref_fill_zero,
    .adam = ref_adam,
    .sgd = ref_sgd,
    .ema = ref_ema,
};

static void complete_table(void) {
    ops_compose(&table);
}

const struct ops *ops_ref(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, complete_table);
    return &table;
}
