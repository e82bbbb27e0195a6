/* SPDX-License-Identifier: MIT
 * Net1D with activations in bf16, on the oracle, at each SIMD level and on the cuda backend, emulated, against what PyTorch
 * computed in fp32. Every activation is rounded to 8 bits; what that does to logits, gradient and losses is small, but where
 * rounding makes the two samples of a pooling window equal or changes their order, the whole gradient takes the other way.
 * With a few hundred windows that shows in the layers below (PyTorch's own autocast is off by 4 % in the plain network's
 * first weights). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/check.h"
#include "tests/support/net1d_session.h"

#define LOGITS_BOUND   0.005 /* of the logits' range */
#define GRADIENT_BOUND 0.1   /* ||d|| / ||g|| over all tensors together */
#define LOSS_BOUND     0.001 /* of each of ten steps' losses, relative */

struct worst {
    double logits, gradient, losses;
};

/* Largest difference from the fixture's logits over their range; NaN where either holds one. */
static double logits_error(const struct session *s, const char *prefix) {
    size_t n = 0;
    float *wanted = net1d_fixture_f32(s->fixture, prefix, ".logits", &n), *got = NULL;
    double low = INFINITY, high = -INFINITY, most = 0;
    if (!CHECK(wanted != NULL && n == (size_t)s->fixture->B * (size_t)s->net.config.n_outputs) ||
        !CHECK_OK(net1d_fixture_download(&s->net, s->net.logits, n, &got)))
        most = NAN;
    for (size_t i = 0; got != NULL && i < n; i++) {
        const double d = fabs((double)got[i] - (double)wanted[i]);
        if (!(d <= most)) most = d;
        low = fmin(low, (double)wanted[i]);
        high = fmax(high, (double)wanted[i]);
    }
    free(wanted);
    free(got);
    return most / (high - low);
}

/* ||d|| / ||g|| of the whole gradient. */
static double gradient_error(const struct session *s) {
    double difference = 0, whole = 0;
    for (size_t i = 0; i < s->net.n_tensors; i++) {
        const struct tensor *t = &s->net.tensors[i];
        size_t n = 0;
        if (t->kind != TENSOR_PARAM) continue;
        float *wanted = net1d_fixture_f32(s->fixture, "grad.", t->name, &n), *got = NULL;
        if (CHECK(wanted != NULL && n == t->n) &&
            CHECK_OK(net1d_fixture_download(&s->net, s->net.grads + t->offset, n, &got))) {
            for (size_t k = 0; k < n; k++) {
                const double d = (double)got[k] - (double)wanted[k];
                difference += d * d;
                whole += (double)wanted[k] * (double)wanted[k];
            }
        }
        free(wanted);
        free(got);
    }
    return sqrt(difference / whole);
}

static double losses_error(struct session *s) {
    const struct safetensors_entry *e = safetensors_find(&s->fixture->file, "adamw.losses");
    double most = 0;
    if (!CHECK(e != NULL && e->dtype == ST_F64 && e->n == 10)) return NAN;
    for (size_t i = 0; i < e->n; i++) {
        double wanted, loss = NAN;
        memcpy(&wanted, (const char *)e->data + i * sizeof(wanted), sizeof(wanted));
        if (!CHECK_OK(session_step(s, &loss))) return NAN;
        const double error = fabs(loss - wanted) / wanted;
        if (!(error <= most)) most = error;
    }
    return most;
}

static void check_backend(const struct backend *backend, const struct net1d_fixture *f) {
    const struct net1d_pass eval = {.train = false};
    struct session s = {0};
    struct worst w = {NAN, NAN, NAN};
    double loss;
    if (CHECK_OK(session_open(&s, backend, f, true)) &&
        CHECK_OK(net1d_forward(&s.net, f->B, &eval)))
        w.logits = logits_error(&s, "eval");
    if (CHECK_OK(session_restart(&s)) && CHECK_OK(session_gradients(&s, &loss)))
        w.gradient = gradient_error(&s);
    if (CHECK_OK(session_restart(&s))) w.losses = losses_error(&s);
    CHECK(w.logits <= LOGITS_BOUND);
    CHECK(w.gradient <= GRADIENT_BOUND);
    CHECK(w.losses <= LOSS_BOUND);
    check_note("%-14s logits %.1e of their range, gradient %.1e, losses %.1e", backend->label,
               w.logits, w.gradient, w.losses);
    session_close(&s);
}

static bool open_fixture(struct net1d_fixture *f, const char *path) {
    if (path == NULL || !CHECK_OK(net1d_fixture_open(f, path))) return false;
    f->config.precision = OPS_BF16;
    return true;
}

static void check_fixture(const char *name) {
    struct net1d_fixture f;
    if (!open_fixture(&f, net1d_fixture_path(name))) return;
    for (int i = 0; i < n_backends; i++) {
        struct backend backend;
        if (backend_open(&backend, i)) check_backend(&backend, &f);
        backend_close(&backend);
    }
    net1d_fixture_close(&f);
}

static void check_on_cuda(const char *path) {
    struct net1d_fixture f;
    struct backend backend;
    if (backend_open_cuda(&backend) && open_fixture(&f, path)) {
        check_backend(&backend, &f);
        net1d_fixture_close(&f);
    }
    backend_close(&backend);
}

static void plain(void) {
    check_fixture("net1d_plain.safetensors");
}

static void batch_norm(void) {
    check_fixture("net1d_bn.safetensors");
}

static void odd_shapes(void) {
    check_fixture("net1d_odd.safetensors");
}

static void plain_on_cuda(void) {
    check_on_cuda(net1d_fixture_path("net1d_plain.safetensors"));
}

static void batch_norm_on_cuda(void) {
    check_on_cuda(net1d_fixture_path("net1d_bn.safetensors"));
}

static void odd_shapes_on_cuda(void) {
    check_on_cuda(net1d_fixture_path("net1d_odd.safetensors"));
}

static void official_small_on_cuda(void) {
    check_on_cuda(net1d_fixture_shared("net1d_small.safetensors"));
}

static void official_small_bn_on_cuda(void) {
    check_on_cuda(net1d_fixture_shared("net1d_small_bn.safetensors"));
}

static void official_one_lead_on_cuda(void) {
    check_on_cuda(net1d_fixture_shared("net1d_small_1lead.safetensors"));
}

int main(void) {
    CASE(plain);
    CASE(batch_norm);
    CASE(odd_shapes);
    CASE(plain_on_cuda);
    CASE(batch_norm_on_cuda);
    CASE(odd_shapes_on_cuda);
    CASE(official_small_on_cuda);
    CASE(official_small_bn_on_cuda);
    CASE(official_one_lead_on_cuda);
    return check_finish();
}
