/* SPDX-License-Identifier: MIT
 * The CUDA backend's table and what the plug-in exports of it. Linear layers need no scratch memory, which is what the
 * composition says of them. */
#include "kernels/cuda/cuda.cuh"

#include <pthread.h>

#include "kernels/cuda/plugin.h"

static struct ops table;

static void fill_device(struct ops *t) {
    t->name = "cuda";
    t->open = cuda_open;
    t->close = cuda_close;
    t->alloc = cuda_alloc;
    t->free = cuda_free;
    t->upload = cuda_upload;
    t->download = cuda_download;
    t->sync = cuda_sync;
    t->upload_ahead = cuda_upload_ahead;
    t->run = cuda_run;
    t->graph_free = cuda_graph_free;
    t->choose_conv = cuda_choose_conv;
}

static void fill_primitives(struct ops *t) {
    t->input_fwd = cuda_input_fwd;
    t->conv_fwd = cuda_conv_fwd;
    t->conv_bwd_x = cuda_conv_bwd_x;
    t->conv_bwd_w = cuda_conv_bwd_w;
    t->linear_fwd = cuda_linear_fwd;
    t->linear_bwd_x = cuda_linear_bwd_x;
    t->linear_bwd_w = cuda_linear_bwd_w;
    t->norm_stats = cuda_norm_stats;
    t->norm_fold = cuda_norm_fold;
    t->norm_sums = cuda_norm_sums;
    t->norm_dx = cuda_norm_dx;
    t->act_fwd = cuda_act_fwd;
    t->act_bwd = cuda_act_bwd;
    t->mean_fwd = cuda_mean_fwd;
    t->mean_bwd = cuda_mean_bwd;
    t->attention_fwd = cuda_attention_fwd;
    t->attention_bwd = cuda_attention_bwd;
    t->swish_fwd = cuda_swish_fwd;
    t->swish_bwd = cuda_swish_bwd;
    t->sigmoid_fwd = cuda_sigmoid_fwd;
    t->sigmoid_bwd = cuda_sigmoid_bwd;
    t->shortcut_fwd = cuda_shortcut_fwd;
    t->shortcut_bwd = cuda_shortcut_bwd;
    t->gate_bwd = cuda_gate_bwd;
    t->branch_bwd = cuda_branch_bwd;
    t->loss = cuda_loss;
    t->sumsq = cuda_sumsq;
    t->scale = cuda_scale;
    t->fill_zero = cuda_fill_zero;
    t->adam = cuda_adam;
    t->sgd = cuda_sgd;
    t->ema = cuda_ema;
}

static void complete_table(void) {
    fill_device(&table);
    fill_primitives(&table);
    table.conv_ws = cuda_conv_ws;
    table.norm_ws = cuda_norm_ws;
    table.conv_packed_bytes = cuda_conv_packed_bytes;
    table.conv_pack = cuda_conv_pack;
    table.act_conv_fwd = cuda_act_conv_fwd;
    table.act_conv_bwd = cuda_act_conv_bwd;
    table.se_ws = cuda_se_ws;
    table.se_fwd = cuda_se_fwd;
    table.se_bwd = cuda_se_bwd;
    table.tail_fwd = cuda_tail_fwd;
    ops_compose(&table);
}

const struct ops *cuda_table(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, complete_table);
    return &table;
}

__attribute__((visibility("default"))) const struct ops *einthoven_cuda_ops(int contract) {
    return contract == CUDA_PLUGIN_CONTRACT ? cuda_table() : NULL;
}
