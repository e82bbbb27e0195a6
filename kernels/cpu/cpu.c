/* SPDX-License-Identifier: MIT
 * The CPU backend's device, memory and table; what is asked of every entry: its checks and its threads. */
#include "kernels/cpu/cpu.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Below this many operations a second thread gains less than its waking costs. */
#define WORTH_THREADS 2e5

enum ecg_status cpu_check_blc(const char *op, enum ops_dtype dtype, struct ops_blc s) {
    if (dtype != OPS_F32 && dtype != OPS_BF16)
        return ecg_fail(ECG_ERR_FAIL, "cpu: %s: no such precision: %d", op, (int)dtype);
    if (s.B >= 1 && s.L >= 1 && s.C >= 1) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "cpu: %s: no such shape: (%d, %d, %d)", op, s.B, s.L, s.C);
}

enum ecg_status cpu_check_conv(const char *op, enum ops_dtype dtype, struct ops_conv s) {
    TRY(cpu_check_blc(op, dtype, (struct ops_blc){s.B, s.Lin, s.Cin}));
    TRY(cpu_check_blc(op, dtype, (struct ops_blc){s.B, s.Lout, s.Cout}));
    if (s.K >= 1 && s.S >= 1 && s.P >= 0 && s.G >= 1 && s.Cin % s.G == 0 && s.Cout % s.G == 0)
        return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "cpu: %s: no such shape: Cin %d, Cout %d, K %d, S %d, G %d, P %d",
                    op, s.Cin, s.Cout, s.K, s.S, s.G, s.P);
}

enum ecg_status cpu_scratch(const char *op, struct ops_ws ws, size_t needed, struct arena *arena) {
    if (ws.n < needed)
        return ecg_fail(ECG_ERR_FAIL, "cpu: %s: scratch memory of %zu bytes, %zu needed", op, ws.n,
                        needed);
    *arena = (struct arena){.base = ws.p, .used = 0, .size = ws.n};
    return ECG_OK;
}

void cpu_run(struct ops_dev *dev, size_t n_tasks, double work, pool_fn *fn, void *context) {
    if (work >= WORTH_THREADS) {
        pool_run(dev->pool, n_tasks, fn, context);
        return;
    }
    for (size_t task = 0; task < n_tasks; task++) fn(context, task, 0);
}

struct cpu_part cpu_part(size_t n, size_t n_tasks, size_t task) {
    const size_t each = n / n_tasks, more = n % n_tasks;
    const size_t from = task * each + (task < more ? task : more);
    return (struct cpu_part){from, from + each + (task < more)};
}

static void cpu_close(struct ops_dev *dev) {
    if (!dev) return;
    pool_destroy(dev->pool);
    free(dev);
}

static enum ecg_status cpu_open(struct ops_dev **out, int n_threads) {
    struct ops_dev *dev;
    enum ecg_status status = ECG_OK;
    *out = NULL;
    TRY(MEM_NEW(&dev, 1));
    dev->head.ops = ops_cpu();
    TRY_OUT(cpu_dispatch(&dev->level));
    TRY_OUT(pool_create(&dev->pool, n_threads));
    dev->n_threads = pool_threads(dev->pool);
    *out = dev;
    return ECG_OK;
out:
    cpu_close(dev);
    return status;
}

static enum ecg_status cpu_alloc(struct ops_dev *dev, void **p, size_t bytes) {
    (void)dev;
    return mem_alloc(p, bytes, 1);
}

static void cpu_free(struct ops_dev *dev, void *p) {
    (void)dev;
    free(p);
}

static enum ecg_status cpu_copy(struct ops_dev *dev, void *to, const void *from, size_t bytes) {
    (void)dev;
    memcpy(to, from, bytes);
    return ECG_OK;
}

static enum ecg_status cpu_sync(struct ops_dev *dev) {
    (void)dev;
    return ECG_OK;
}

static struct ops table = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .upload = cpu_copy,
    .download = cpu_copy,
    .sync = cpu_sync,
    .input_fwd = cpu_input_fwd,
    .conv_fwd = cpu_conv_fwd,
    .conv_bwd_x = cpu_conv_bwd_x,
    .conv_bwd_w = cpu_conv_bwd_w,
    .linear_fwd = cpu_linear_fwd,
    .linear_bwd_x = cpu_linear_bwd_x,
    .linear_bwd_w = cpu_linear_bwd_w,
    .norm_stats = cpu_norm_stats,
    .norm_fold = cpu_norm_fold,
    .norm_sums = cpu_norm_sums,
    .norm_dx = cpu_norm_dx,
    .act_fwd = cpu_act_fwd,
    .act_bwd = cpu_act_bwd,
    .mean_fwd = cpu_mean_fwd,
    .mean_bwd = cpu_mean_bwd,
    .attention_fwd = cpu_attention_fwd,
    .attention_bwd = cpu_attention_bwd,
    .swish_fwd = cpu_swish_fwd,
    .swish_bwd = cpu_swish_bwd,
    .sigmoid_fwd = cpu_sigmoid_fwd,
    .sigmoid_bwd = cpu_sigmoid_bwd,
    .shortcut_fwd = cpu_shortcut_fwd,
    .shortcut_bwd = cpu_shortcut_bwd,
    .gate_bwd = cpu_gate_bwd,
    .branch_bwd = cpu_branch_bwd,
    .loss = cpu_loss,
    .sumsq = cpu_sumsq,
    .scale = cpu_scale,
    .fill_zero = cpu_fill_zero,
    .adam = cpu_adam,
    .sgd = cpu_sgd,
    .ema = cpu_ema,
    .conv_ws = cpu_conv_ws,
    .linear_ws = cpu_linear_ws,
    .norm_ws = cpu_norm_ws,
    .conv_packed_bytes = cpu_conv_packed_bytes,
    .conv_pack = cpu_conv_pack,
    .act_conv_fwd = cpu_act_conv_fwd,
    .act_conv_bwd = cpu_act_conv_bwd,
};

static void complete_table(void) {
    ops_compose(&table);
}

const struct ops *ops_cpu(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, complete_table);
    return &table;
}
