/* SPDX-License-Identifier: MIT
 * Training on the cuda backend, emulated, beside training on the cpu backend: the losses of twenty AdamW steps from the same
 * weights on the same batch, without and with BN, in fp32 and in bf16, where tensor cores take every convolution.
 * Against PyTorch: test_net1d and test_net1d_bf16. */
#include <math.h>
#include <stdlib.h>

#include "core/mem.h"
#include "tests/support/check.h"
#include "tests/support/net1d_session.h"

#define STEPS      20
#define BATCH      4
#define LR         3e-3
#define FP32_BOUND 1e-4
#define BF16_BOUND 0.01 /* relative */
#define FALL                                                                                       \
    0.8 /* what is left of the loss after the steps, at most: a network that stands still follows anything */

/* Widths of which tensor cores take every convolution; lengths (150, 75, 38, 19) that no tile divides. */
static const struct net1d_config small = {
    .n_leads = 12,
    .length = 150,
    .base_filters = 16,
    .n_stages = 2,
    .filters = {16, 32},
    .blocks = {1, 2},
    .kernel_size = 16,
    .stride = 2,
    .group_width = 16,
    .n_outputs = 5,
};

/* A fixture without a file: weights are made by the recipe, input and labels here. */
static enum ecg_status invent_fixture(struct net1d_fixture *f, enum ops_dtype precision,
                                      bool batch_norm) {
    const size_t n = (size_t)BATCH * (size_t)small.length * (size_t)small.n_leads,
                 n_labels = (size_t)BATCH * (size_t)small.n_outputs;
    *f = (struct net1d_fixture){
        .config = small, .B = BATCH, .seed = 3, .lr = LR, .weight_decay = 0.01};
    f->config.precision = precision;
    f->config.batch_norm = batch_norm;
    TRY(MEM_NEW(&f->x, n));
    TRY(MEM_NEW(&f->labels, n_labels));
    for (size_t i = 0; i < n; i++) f->x[i] = (float)(4 * recipe_uniform("x", 3, i) - 2);
    for (size_t i = 0; i < n_labels; i++) f->labels[i] = recipe_uniform("y", 3, i) < 0.4;
    return ECG_OK;
}

static bool train(const struct backend *b, const struct net1d_fixture *f, double losses[STEPS]) {
    struct session s = {0};
    bool ok = CHECK_OK(session_open(&s, b, f, true));
    for (int i = 0; ok && i < STEPS; i++) ok = CHECK_OK(session_step(&s, &losses[i]));
    session_close(&s);
    return ok;
}

static void compare_losses(const double cuda[STEPS], const double cpu[STEPS],
                           enum ops_dtype precision) {
    const double bound = precision == OPS_BF16 ? BF16_BOUND : FP32_BOUND;
    double worst = 0;
    for (int i = 0; i < STEPS; i++) {
        const double difference = fabs(cuda[i] - cpu[i]),
                     error = precision == OPS_BF16 ? difference / cpu[i] : difference;
        if (!CHECK(error <= bound)) check_note("loss of step %d off by %.3g", i, error);
        if (!(error <= worst)) worst = error;
    }
    CHECK(cpu[STEPS - 1] <= FALL * cpu[0]);
    check_note("loss from %.4f to %.4f, off by %.1e at most", cpu[0], cpu[STEPS - 1], worst);
}

static void check_follows(enum ops_dtype precision, bool batch_norm) {
    struct net1d_fixture f;
    struct backend cuda = {0}, cpu = {0};
    double losses[2][STEPS];
    if (!backend_open_cuda(&cuda)) return;
    if (CHECK_OK(invent_fixture(&f, precision, batch_norm)) &&
        CHECK(backend_open(&cpu, BACKEND_FASTEST)) && train(&cuda, &f, losses[0]) &&
        train(&cpu, &f, losses[1]))
        compare_losses(losses[0], losses[1], precision);
    net1d_fixture_close(&f);
    backend_close(&cpu);
    backend_close(&cuda);
}

/* kernels.conv: cudnn, by the emulation's stand-ins, beside custom. */
static void check_libraries(enum ops_dtype precision) {
    struct net1d_fixture f;
    struct backend custom = {0}, cudnn = {0};
    double losses[2][STEPS];
    if (!backend_open_cuda(&custom)) return;
    if (CHECK_OK(invent_fixture(&f, precision, true)) && backend_open_cuda(&cudnn) &&
        CHECK_OK(cudnn.ops->choose_conv(cudnn.dev, "cudnn")) && train(&cudnn, &f, losses[0]) &&
        train(&custom, &f, losses[1]))
        compare_losses(losses[0], losses[1], precision);
    net1d_fixture_close(&f);
    backend_close(&cudnn);
    backend_close(&custom);
}

static void libraries_follow_in_fp32(void) {
    check_libraries(OPS_F32);
}

static void libraries_follow_in_bf16(void) {
    check_libraries(OPS_BF16);
}

static void fp32_follows_the_cpu(void) {
    check_follows(OPS_F32, false);
}

static void fp32_with_batch_norm_follows_the_cpu(void) {
    check_follows(OPS_F32, true);
}

static void bf16_follows_the_cpu(void) {
    check_follows(OPS_BF16, false);
}

static void bf16_with_batch_norm_follows_the_cpu(void) {
    check_follows(OPS_BF16, true);
}

/* Only they want packed weights. */
static void tensor_cores_take_every_convolution(void) {
    struct backend cuda;
    struct net1d_walk walk;
    int n = 1;
    if (!backend_open_cuda(&cuda)) return;
    struct ops_conv stem = net1d_walk_start(&walk, &small, BATCH), conv[3];
    CHECK(cuda.ops->conv_packed_bytes(cuda.dev, OPS_BF16, stem, true) > 0);
    while (net1d_walk_block(&walk, conv))
        for (int i = 0; i < 3; i++, n++)
            CHECK(cuda.ops->conv_packed_bytes(cuda.dev, OPS_BF16, conv[i], true) > 0);
    CHECK(n == 10);
    backend_close(&cuda);
}

int main(void) {
    CASE(tensor_cores_take_every_convolution);
    CASE(fp32_follows_the_cpu);
    CASE(fp32_with_batch_norm_follows_the_cpu);
    CASE(bf16_follows_the_cpu);
    CASE(bf16_with_batch_norm_follows_the_cpu);
    CASE(libraries_follow_in_fp32);
    CASE(libraries_follow_in_bf16);
    return check_finish();
}
