/* SPDX-License-Identifier: MIT
 * Sessions: see the header. */
#include "tests/support/net1d_session.h"

#include <stdlib.h>

#include "tests/support/check.h"
#include "tests/support/cuda.h"

static const struct {
    const char *label, *device, *level;
} backends[] = {
    {"ref", "ref", NULL},
    {"cpu avx512bf16", "cpu", "avx512bf16"},
    {"cpu avx512", "cpu", "avx512"},
    {"cpu avx2", "cpu", "avx2"},
    {"cpu portable", "cpu", "portable"},
};
const int n_backends = (int)(sizeof(backends) / sizeof(backends[0]));

const struct net1d_config net1d_published = {
    .n_leads = 12,
    .length = 5000,
    .base_filters = 64,
    .n_stages = 7,
    .filters = {64, 160, 160, 400, 400, 1024, 1024},
    .blocks = {2, 2, 2, 3, 3, 4, 4},
    .kernel_size = 16,
    .stride = 2,
    .group_width = 16,
    .n_outputs = 150,
};

const struct net1d_config net1d_small = {
    .n_leads = 3,
    .length = 50,
    .base_filters = 8,
    .n_stages = 2,
    .filters = {8, 16},
    .blocks = {2, 2},
    .kernel_size = 6,
    .stride = 2,
    .group_width = 4,
    .n_outputs = 3,
};

bool backend_open_threads(struct backend *b, int i, int n_threads) {
    *b = (struct backend){.label = i < 0 ? "cpu" : backends[i].label};
    const char *level = i < 0 ? NULL : backends[i].level;
    if (level != NULL)
        setenv("EINTHOVEN_CPU", level, 1);
    else
        unsetenv("EINTHOVEN_CPU");
    if (ops_find(&b->ops, i < 0 ? "cpu" : backends[i].device) != ECG_OK ||
        b->ops->open(&b->dev, n_threads) != ECG_OK) {
        check_note("%s left out: %s", b->label, ecg_message());
        b->dev = NULL;
        return false;
    }
    return true;
}

bool backend_open(struct backend *b, int i) {
    return backend_open_threads(b, i, 2);
}

bool backend_open_cuda(struct backend *b) {
    *b = (struct backend){.label = "cuda", .ops = cuda_emulated()};
    return b->ops != NULL && CHECK_OK(b->ops->open(&b->dev, 0));
}

void backend_close(struct backend *b) {
    if (b->dev != NULL) b->ops->close(b->dev);
    b->dev = NULL;
}

enum ecg_status session_restart(struct session *s) {
    const struct net1d_fixture *f = s->fixture;
    TRY(net1d_fixture_weights(f, &s->net, "w."));
    if (!s->net.training) return ECG_OK;
    optim_free(&s->optim);
    struct optim_config config = {.kind = OPTIM_ADAMW,
                                  .weight_decay = f->weight_decay,
                                  .beta2 = 0.999,
                                  .eps = 1e-8,
                                  .decay_bias = true};
    return optim_create(&s->optim, &config, &s->net);
}

enum ecg_status session_open(struct session *s, const struct backend *b,
                             const struct net1d_fixture *f, bool training) {
    *s = (struct session){.fixture = f};
    size_t n_labels = (size_t)f->B * (size_t)f->config.n_outputs;
    TRY(net1d_create(&s->net, &f->config, b->ops, b->dev, f->B, training));
    TRY(b->ops->alloc(b->dev, (void **)&s->labels, n_labels));
    TRY(b->ops->upload(b->dev, s->labels, f->labels, n_labels));
    TRY(net1d_fixture_input(f, &s->net, 0, f->B));
    return session_restart(s);
}

void session_close(struct session *s) {
    if (s->labels != NULL) s->net.ops->free(s->net.dev, s->labels);
    s->labels = NULL;
    optim_free(&s->optim);
    net1d_free(&s->net);
}

enum ecg_status session_gradients(struct session *s, double *loss) {
    struct net1d *net = &s->net;
    const struct net1d_pass pass = {.train = true, .seed = 1};
    int B = s->fixture->B, N = s->fixture->config.n_outputs;
    struct objective bce;
    double sum = 0;
    TRY(objective_init(&bce, OBJECTIVE_BCE, NULL));
    TRY(optim_zero_grad(&s->optim));
    TRY(net1d_forward(net, B, &pass));
    TRY(objective_add(&bce, net->ops, net->dev, B, N, net->logits, s->labels, NULL, NULL,
                      1.0 / (B * N), &sum, net->dlogits));
    TRY(net1d_backward(net, B, &pass));
    TRY(net->ops->sync(net->dev));
    *loss = sum / (B * N);
    return ECG_OK;
}

enum ecg_status session_step(struct session *s, double *loss) {
    TRY(session_gradients(s, loss));
    double lr = s->fixture->lr;
    return optim_step(&s->optim, &(struct optim_rates){.lr = lr, .backbone_lr = lr, .beta1 = 0.9});
}
