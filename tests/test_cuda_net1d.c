/* SPDX-License-Identifier: MIT
 * Training on the cuda backend, emulated, beside training on the cpu backend: the losses of twenty AdamW steps from the same
 * weights on the same batch, without and with BN and attention pooling, in fp32 and in bf16, where tensor cores take every
 * convolution; and passes that the backend repeats from what it recorded beside passes that it does anew.
 * Against PyTorch: test_net1d and test_net1d_bf16. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

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
                                      bool batch_norm, enum net1d_pool pool) {
    const size_t n = (size_t)BATCH * (size_t)small.length * (size_t)small.n_leads,
                 n_labels = (size_t)BATCH * (size_t)small.n_outputs;
    *f = (struct net1d_fixture){
        .config = small, .B = BATCH, .seed = 3, .lr = LR, .weight_decay = 0.01};
    f->config.precision = precision;
    f->config.batch_norm = batch_norm;
    f->config.pool = pool;
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

static void check_follows(enum ops_dtype precision, bool batch_norm, enum net1d_pool pool) {
    struct net1d_fixture f;
    struct backend cuda = {0}, cpu = {0};
    double losses[2][STEPS];
    if (!backend_open_cuda(&cuda)) return;
    if (CHECK_OK(invent_fixture(&f, precision, batch_norm, pool)) &&
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
    if (CHECK_OK(invent_fixture(&f, precision, true, NET1D_POOL_MEAN)) &&
        backend_open_cuda(&cudnn) && CHECK_OK(cudnn.ops->choose_conv(cudnn.dev, "cudnn")) &&
        train(&cudnn, &f, losses[0]) && train(&custom, &f, losses[1]))
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
    check_follows(OPS_F32, false, NET1D_POOL_MEAN);
}

static void fp32_with_batch_norm_follows_the_cpu(void) {
    check_follows(OPS_F32, true, NET1D_POOL_MEAN);
}

static void bf16_follows_the_cpu(void) {
    check_follows(OPS_BF16, false, NET1D_POOL_MEAN);
}

static void bf16_with_batch_norm_follows_the_cpu(void) {
    check_follows(OPS_BF16, true, NET1D_POOL_MEAN);
}

static void fp32_with_attention_follows_the_cpu(void) {
    check_follows(OPS_F32, false, NET1D_POOL_ATTENTION);
}

static void bf16_with_attention_follows_the_cpu(void) {
    check_follows(OPS_BF16, false, NET1D_POOL_ATTENTION);
}

/* ------------------------------------------------------------------ recorded passes */

/* The table with a counter before an entry that every pass forward calls for each convolution. */
static struct ops counting;
static const struct ops *counted;
static int n_convolutions;

static enum ecg_status count_act_conv_fwd(struct ops_dev *dev, enum ops_dtype dtype,
                                          struct ops_conv s, const struct ops_act *act,
                                          const void *x, const float *w, const void *packed,
                                          const float *b, void *y, float *mean, float *var,
                                          float *y_mean, struct ops_ws ws) {
    n_convolutions++;
    return counted->act_conv_fwd(dev, dtype, s, act, x, w, packed, b, y, mean, var, y_mean, ws);
}

/* What twenty steps leave behind. */
struct trained {
    float *params, *extras;
    size_t n_params, n_extras;
    int64_t counters[16];
    double losses[STEPS];
    int n_convolutions;
};

/* Forward and backward of records [first, first + n) of the batch, added to the gradients. */
static enum ecg_status add_micro_batch(struct session *s, const struct objective *bce, int first,
                                       int n, double *sum) {
    struct net1d *net = &s->net;
    const int N = net->config.n_outputs;
    const struct net1d_pass pass = {.train = true, .same_weights = first > 0};
    TRY(net1d_fixture_input(s->fixture, net, first, n));
    TRY(net->ops->upload(net->dev, s->labels, s->fixture->labels + (size_t)first * (size_t)N,
                         (size_t)n * (size_t)N));
    TRY(net1d_forward(net, n, &pass));
    TRY(objective_add(bce, net->ops, net->dev, n, N, net->logits, s->labels, NULL, NULL, 1.0 / N,
                      sum, net->dlogits));
    return net1d_backward(net, n, &pass);
}

/* Step i: batches of 4 in two halves, every third one of 3 (so of 2 and 1), and a validation every fifth; from step 12 on with a
 * layer frozen. */
static enum ecg_status odd_step(struct session *s, const struct objective *bce, int i,
                                double *loss) {
    struct net1d *net = &s->net;
    const int B = i % 3 == 2 ? 3 : BATCH;
    const struct net1d_pass valid = {.train = false};
    const struct optim_rates rates = {.lr = LR, .backbone_lr = LR, .beta1 = 0.9};
    double norm;
    *loss = 0;
    if (i == 12) {
        net1d_tensor(net, "stage_list.0.block_list.0.conv2.conv.weight")->frozen = true;
        net1d_tensor(net, "stage_list.0.block_list.0.conv2.conv.bias")->frozen = true;
    }
    TRY(optim_zero_grad(&s->optim));
    for (int first = 0; first < B; first += 2)
        TRY(add_micro_batch(s, bce, first, B - first < 2 ? B - first : 2, loss));
    TRY(optim_clip(&s->optim, 1, &norm));
    TRY(optim_step(&s->optim, &rates));
    if (i % 5 != 4) return ECG_OK;
    TRY(net1d_fixture_input(s->fixture, net, 0, BATCH));
    return net1d_forward(net, BATCH, &valid);
}

static enum ecg_status train_odd(const struct backend *b, const struct net1d_fixture *f,
                                 bool graphs, struct trained *t) {
    struct session s = {0};
    struct objective bce;
    const struct backend with_counter = {b->label, &counting, b->dev};
    enum ecg_status status;
    *t = (struct trained){0};
    counted = b->ops;
    counting = *b->ops;
    counting.act_conv_fwd = count_act_conv_fwd;
    n_convolutions = 0;
    TRY_OUT(objective_init(&bce, OBJECTIVE_BCE, NULL));
    TRY_OUT(session_open(&s, &with_counter, f, true));
    s.net.graphs = graphs;
    for (int i = 0; i < STEPS; i++) TRY_OUT(odd_step(&s, &bce, i, &t->losses[i]));
    t->n_convolutions = n_convolutions;
    t->n_params = s.net.n_params;
    t->n_extras = s.net.n_extras;
    TRY_OUT(net1d_fixture_download(&s.net, s.net.params, s.net.n_params, &t->params));
    TRY_OUT(net1d_fixture_download(&s.net, s.net.extras, s.net.n_extras, &t->extras));
    if (CHECK(s.net.n_counters <= 16))
        memcpy(t->counters, s.net.counters, s.net.n_counters * sizeof(*t->counters));
    if (f->config.batch_norm) CHECK(t->counters[0] == 2 * STEPS);
out:
    session_close(&s);
    return status;
}

static void trained_free(struct trained *t) {
    free(t->params);
    free(t->extras);
}

static void compare_trained(const struct trained *a, const struct trained *b) {
    CHECK(memcmp(a->params, b->params, a->n_params * sizeof(float)) == 0);
    CHECK(memcmp(a->extras, b->extras, a->n_extras * sizeof(float)) == 0);
    CHECK(memcmp(a->counters, b->counters, sizeof(a->counters)) == 0);
    CHECK(memcmp(a->losses, b->losses, sizeof(a->losses)) == 0);
    CHECK(a->losses[STEPS - 1] < a->losses[0]);
}

/* The same bits whatever is recorded and whenever streams do their work; recorded, a pass calls the entries twice. */
static void check_recorded(enum ops_dtype precision, bool batch_norm, enum net1d_pool pool) {
    static const char *const orders[] = {"forward", "reverse", "random:3"};
    enum { CONVOLUTIONS = 10, PASSES = 2 * STEPS + STEPS / 5, KINDS = 2 + 1 };
    struct net1d_fixture f;
    struct backend cuda = {0};
    struct trained plain = {0};
    if (!backend_open_cuda(&cuda)) return;
    if (CHECK_OK(invent_fixture(&f, precision, batch_norm, pool)) &&
        CHECK_OK(train_odd(&cuda, &f, false, &plain))) {
        CHECK(plain.n_convolutions == CONVOLUTIONS * PASSES);
        for (size_t i = 0; i < sizeof(orders) / sizeof(*orders); i++) {
            struct trained again;
            setenv("EMU_ORDER", orders[i], 1);
            if (CHECK_OK(train_odd(&cuda, &f, true, &again))) compare_trained(&plain, &again);
            /* every kind once anew and once for the record, and again when a layer is frozen */
            CHECK(again.n_convolutions == CONVOLUTIONS * 2 * (2 * KINDS));
            check_note("%s: %d convolutions called, of %d", orders[i], again.n_convolutions,
                       plain.n_convolutions);
            trained_free(&again);
        }
        unsetenv("EMU_ORDER");
    }
    trained_free(&plain);
    net1d_fixture_close(&f);
    backend_close(&cuda);
}

static void fp32_is_recorded(void) {
    check_recorded(OPS_F32, false, NET1D_POOL_MEAN);
    check_recorded(OPS_F32, true, NET1D_POOL_MEAN);
    check_recorded(OPS_F32, false, NET1D_POOL_ATTENTION);
}

static void bf16_is_recorded(void) {
    check_recorded(OPS_BF16, false, NET1D_POOL_MEAN);
    check_recorded(OPS_BF16, true, NET1D_POOL_MEAN);
    check_recorded(OPS_BF16, false, NET1D_POOL_ATTENTION);
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
    CASE(fp32_with_attention_follows_the_cpu);
    CASE(bf16_with_attention_follows_the_cpu);
    CASE(fp32_is_recorded);
    CASE(bf16_is_recorded);
    CASE(libraries_follow_in_fp32);
    CASE(libraries_follow_in_bf16);
    return check_finish();
}
