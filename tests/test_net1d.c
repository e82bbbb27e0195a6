/* SPDX-License-Identifier: MIT
 * Net1D against PyTorch, on the oracle, on the cpu backend at every SIMD level of this machine and on the cuda backend,
 * emulated: logits, features, loss, every gradient, running statistics, ten AdamW steps. Our own fixtures come from tests/fixtures/make_net1d.py;
 * the shared ones from the official class. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/check.h"
#include "tests/support/net1d_fixture.h"
#include "tests/support/net1d_session.h"

/* A few times what was measured; the fixtures' own bounds are 1e-4, 1e-4 and 1e-5. */
#define LOGITS_BOUND   1e-4
#define GRADIENT_BOUND 2e-5
#define LOSS_BOUND     1e-5
#define RUNNING_BOUND  1e-5

static void check_tensor(const char *what, const struct session *s, const float *device, size_t n,
                         const char *name, double *worst) {
    size_t n_wanted = 0;
    float *wanted = net1d_fixture_f32(s->fixture, "", name, &n_wanted), *got = NULL;
    if (!CHECK(wanted != NULL && n_wanted == n)) {
        check_note("%s: the fixture has no %s of %zu numbers", what, name, n);
    } else if (CHECK_OK(net1d_fixture_download(&s->net, device, n, &got))) {
        double error = max_error(got, wanted, n);
        if (!(error <= LOGITS_BOUND)) check_note("%s: %s off by %.3g", what, name, error);
        CHECK(error <= LOGITS_BOUND);
        if (!(error <= *worst)) *worst = error;
    }
    free(wanted);
    free(got);
}

static void check_outputs(struct session *s, const char *pass, double *worst) {
    char name[64];
    size_t B = (size_t)s->fixture->B;
    snprintf(name, sizeof(name), "%s.logits", pass);
    check_tensor(pass, s, s->net.logits, B * (size_t)s->fixture->config.n_outputs, name, worst);
    snprintf(name, sizeof(name), "%s.features", pass);
    check_tensor(pass, s, s->net.features, B * (size_t)net1d_features(&s->fixture->config), name,
                 worst);
}

/* The bias of a convolution that feeds a BN has a gradient of exactly zero; what both sides compute is rounding. */
static bool is_noise(const struct net1d_fixture *f, const char *name) {
    return f->config.batch_norm &&
           (strcmp(name, "first_conv.conv.bias") == 0 || strstr(name, "conv1.conv.bias") != NULL ||
            strstr(name, "conv2.conv.bias") != NULL);
}

static double whole_gradient_norm(const struct session *s) {
    double sum = 0;
    for (size_t i = 0; i < s->net.n_tensors; i++) {
        const struct tensor *t = &s->net.tensors[i];
        size_t n = 0;
        float *g =
            t->kind == TENSOR_PARAM ? net1d_fixture_f32(s->fixture, "grad.", t->name, &n) : NULL;
        double norm = norm_of(g, n);
        sum += norm * norm;
        free(g);
    }
    return sqrt(sum);
}

static double gradient_error(const struct session *s, const struct tensor *t, double whole) {
    size_t n = 0;
    float *wanted = net1d_fixture_f32(s->fixture, "grad.", t->name, &n), *got = NULL;
    double error = NAN;
    if (CHECK(wanted != NULL && n == t->n) &&
        CHECK_OK(net1d_fixture_download(&s->net, s->net.grads + t->offset, n, &got))) {
        error = norm_error(got, wanted, n);
        if (is_noise(s->fixture, t->name)) error *= norm_of(wanted, n) / whole;
    }
    free(wanted);
    free(got);
    return error;
}

static void check_gradients(const struct session *s, double *worst) {
    double whole = whole_gradient_norm(s);
    for (size_t i = 0; i < s->net.n_tensors; i++) {
        const struct tensor *t = &s->net.tensors[i];
        if (t->kind != TENSOR_PARAM) continue;
        double error = gradient_error(s, t, whole);
        if (!CHECK(error <= GRADIENT_BOUND)) check_note("grad %s off by %.3g", t->name, error);
        if (!(error <= *worst)) *worst = error;
    }
}

static void check_running_statistics(const struct session *s, double *worst) {
    for (size_t i = 0; i < s->net.n_tensors; i++) {
        const struct tensor *t = &s->net.tensors[i];
        if (t->kind != TENSOR_BUFFER || !s->net.config.batch_norm) continue;
        size_t n = 0;
        float *wanted = net1d_fixture_f32(s->fixture, "after1.", t->name, &n), *got = NULL;
        if (CHECK(wanted != NULL && n == t->n) &&
            CHECK_OK(net1d_fixture_download(&s->net, s->net.extras + t->offset, n, &got))) {
            double error = norm_of(wanted, n) > 0 ? norm_error(got, wanted, n) : norm_of(got, n);
            if (!CHECK(error <= RUNNING_BOUND)) check_note("%s off by %.3g", t->name, error);
            if (!(error <= *worst)) *worst = error;
        }
        free(wanted);
        free(got);
    }
}

/* The steps that the fixture did, each loss before its update. */
static void check_adamw(struct session *s, double *worst) {
    const struct safetensors_entry *e = safetensors_find(&s->fixture->file, "adamw.losses");
    if (!CHECK(e != NULL && e->dtype == ST_F64)) return;
    for (size_t i = 0; i < e->n; i++) {
        double wanted, loss;
        memcpy(&wanted, (const char *)e->data + i * sizeof(wanted), sizeof(wanted));
        if (!CHECK_OK(session_step(s, &loss))) return;
        double error = fabs(loss - wanted);
        if (!CHECK(error <= LOSS_BOUND)) check_note("loss of step %zu off by %.3g", i, error);
        if (!(error <= *worst)) *worst = error;
    }
}

/* What the trained weights give in eval mode. Not with BN: the steps of its noise biases (see is_noise) reach the
 * running means. */
static void check_trained(struct session *s, double *worst) {
    const struct net1d_pass pass = {.train = false};
    if (s->net.config.batch_norm) return;
    if (CHECK_OK(net1d_forward(&s->net, s->fixture->B, &pass)))
        check_outputs(s, "adamw.eval", worst);
}

static void check_inference(const struct backend *backend, const struct net1d_fixture *f,
                            double *worst) {
    struct session s = {0};
    if (CHECK_OK(session_open(&s, backend, f, false)) &&
        CHECK_OK(net1d_forward(&s.net, f->B, &(struct net1d_pass){.train = false})))
        check_outputs(&s, "eval", worst);
    session_close(&s);
}

static void check_training(const struct backend *backend, const struct net1d_fixture *f) {
    struct session s = {0};
    double eval = 0, train = 0, grad = 0, running = 0, losses = 0, trained = 0, loss = 0;
    size_t n = 0;
    float *wanted = net1d_fixture_f32(f, "", "train.loss", &n);
    check_inference(backend, f, &eval);
    if (!CHECK(wanted != NULL) || !CHECK_OK(session_open(&s, backend, f, true)) ||
        !CHECK_OK(session_gradients(&s, &loss)))
        goto out;
    CHECK_NEAR(loss, wanted[0], LOSS_BOUND);
    check_outputs(&s, "train", &train);
    check_gradients(&s, &grad);
    check_running_statistics(&s, &running);
    if (!CHECK_OK(session_restart(&s))) goto out;
    check_adamw(&s, &losses);
    check_trained(&s, &trained);
    check_note("%-12s eval %.1e train %.1e grad %.1e running %.1e losses %.1e trained %.1e",
               backend->label, eval, train, grad, running, losses, trained);
out:
    free(wanted);
    session_close(&s);
}

static void check_fixture(const char *path) {
    struct net1d_fixture f;
    if (!CHECK_OK(net1d_fixture_open(&f, path))) return;
    for (int i = 0; i < n_backends; i++) {
        struct backend backend;
        if (backend_open(&backend, i)) check_training(&backend, &f);
        backend_close(&backend);
    }
    net1d_fixture_close(&f);
}

static void check_on_cuda(const char *path) {
    struct net1d_fixture f;
    struct backend backend;
    if (backend_open_cuda(&backend) && CHECK_OK(net1d_fixture_open(&f, path))) {
        check_training(&backend, &f);
        net1d_fixture_close(&f);
    }
    backend_close(&backend);
}

/* PyTorch's state_dict, "name:64x12x16" by "name:", against the table: names, order, shapes. */
static void check_table(const struct net1d_fixture *f) {
    struct backend backend;
    struct net1d net = {0};
    const char *text = safetensors_meta(&f->file, "state_dict");
    if (!CHECK(text != NULL) || !backend_open(&backend, BACKEND_REF)) return;
    CHECK_OK(net1d_create(&net, &f->config, backend.ops, backend.dev, 1, false));
    for (size_t i = 0; i < net.n_tensors; i++) {
        const struct tensor *t = &net.tensors[i];
        char got[160], wanted[160];
        int n = snprintf(got, sizeof(got), "%s:", t->name), used = 0;
        for (int k = 0; k < t->ndim; k++)
            n += snprintf(got + n, sizeof(got) - (size_t)n, "%s%lld", k > 0 ? "x" : "",
                          (long long)t->shape[k]);
        if (!CHECK(sscanf(text, "%159s%n", wanted, &used) == 1) || !CHECK_STR(got, wanted)) break;
        text += used;
    }
    CHECK(text[strspn(text, " ")] == '\0');
    net1d_free(&net);
    backend_close(&backend);
}

static void table_is_the_state_dict(void) {
    const char *const names[] = {"net1d_plain.safetensors", "net1d_odd.safetensors"};
    for (int i = 0; i < 2; i++) {
        struct net1d_fixture f;
        if (CHECK_OK(net1d_fixture_open(&f, net1d_fixture_path(names[i])))) check_table(&f);
        net1d_fixture_close(&f);
    }
}

static void plain(void) {
    check_fixture(net1d_fixture_path("net1d_plain.safetensors"));
}

static void batch_norm(void) {
    check_fixture(net1d_fixture_path("net1d_bn.safetensors"));
}

static void odd_shapes(void) {
    check_fixture(net1d_fixture_path("net1d_odd.safetensors"));
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

static void check_shared_fixture(const char *name) {
    const char *path = net1d_fixture_shared(name);
    if (path != NULL) check_fixture(path);
}

static void official_small(void) {
    check_shared_fixture("net1d_small.safetensors");
}

static void official_small_bn(void) {
    check_shared_fixture("net1d_small_bn.safetensors");
}

static void official_one_lead(void) {
    check_shared_fixture("net1d_small_1lead.safetensors");
}

static void check_shared_on_cuda(const char *name) {
    const char *path = net1d_fixture_shared(name);
    if (path != NULL) check_on_cuda(path);
}

static void official_small_on_cuda(void) {
    check_shared_on_cuda("net1d_small.safetensors");
}

static void official_small_bn_on_cuda(void) {
    check_shared_on_cuda("net1d_small_bn.safetensors");
}

static void official_one_lead_on_cuda(void) {
    check_shared_on_cuda("net1d_small_1lead.safetensors");
}

/* A state_dict saved by the official class has our table's entries and no others. */
static void official_checkpoint_fits(void) {
    const char *path = net1d_fixture_shared("net1d_small.safetensors");
    struct net1d_fixture small;
    struct safetensors s;
    struct backend backend;
    struct net1d net = {0};
    if (path == NULL || !CHECK_OK(net1d_fixture_open(&small, path))) return;
    path = net1d_fixture_shared("official_small.safetensors");
    if (CHECK_OK(safetensors_open(&s, path)) && CHECK(backend_open(&backend, BACKEND_REF))) {
        CHECK_OK(net1d_create(&net, &small.config, backend.ops, backend.dev, 1, false));
        CHECK(s.n_entries == net.n_tensors);
        for (size_t i = 0; i < net.n_tensors; i++) {
            const struct tensor *t = &net.tensors[i];
            const struct safetensors_entry *e = safetensors_find(&s, t->name);
            if (!CHECK(e != NULL) || !CHECK(e->ndim == t->ndim)) continue;
            CHECK(e->dtype == (t->kind == TENSOR_COUNTER ? ST_I64 : ST_F32));
            CHECK(memcmp(e->shape, t->shape, (size_t)t->ndim * sizeof(*t->shape)) == 0);
        }
        net1d_free(&net);
        backend_close(&backend);
    }
    safetensors_close(&s);
    net1d_fixture_close(&small);
}

/* The full network's fixture holds of each gradient its norm and its product with a probe of the recipe. */
static void check_probe(const struct session *s, const struct tensor *t, double *worst) {
    char name[160], probe_name[100];
    snprintf(name, sizeof(name), "grad_norm_probe.%s", t->name);
    snprintf(probe_name, sizeof(probe_name), "probe.%s", t->name);
    const struct safetensors_entry *e = safetensors_find(&s->fixture->file, name);
    float *g = NULL;
    if (!CHECK(e != NULL && e->dtype == ST_F64 && e->n == 2) ||
        !CHECK_OK(net1d_fixture_download(&s->net, s->net.grads + t->offset, t->n, &g)))
        return;
    double wanted[2], dot = 0, probe_norm = 0;
    memcpy(wanted, e->data, sizeof(wanted));
    for (size_t i = 0; i < t->n; i++) {
        float probe = (float)(2 * recipe_uniform(probe_name, s->fixture->seed, i) - 1);
        dot += (double)probe * g[i];
        probe_norm += (double)probe * probe;
    }
    double error = fabs(norm_of(g, t->n) - wanted[0]) / wanted[0];
    error = fmax(error, fabs(dot - wanted[1]) / (wanted[0] * sqrt(probe_norm)));
    if (!CHECK(error <= GRADIENT_BOUND)) check_note("grad %s off by %.3g", t->name, error);
    if (!(error <= *worst)) *worst = error;
    free(g);
}

static void check_full(const struct backend *backend, const struct net1d_fixture *f) {
    struct session s = {0};
    double outputs = 0, grad = 0, losses = 0, loss;
    size_t live = 0;
    if (!CHECK_OK(session_open(&s, backend, f, true)) || !CHECK_OK(session_gradients(&s, &loss)))
        goto out;
    check_outputs(&s, "train", &outputs);
    for (size_t i = 0; i < s.net.n_tensors; i++) {
        if (s.net.tensors[i].kind != TENSOR_PARAM) continue;
        check_probe(&s, &s.net.tensors[i], &grad);
        live++;
    }
    CHECK(live == 204 && s.net.n_tensors == 509 && s.net.n_live == 30752646);
    if (!CHECK_OK(session_restart(&s))) goto out;
    check_adamw(&s, &losses);
    check_note("%-12s train %.1e grad %.1e losses %.1e", backend->label, outputs, grad, losses);
out:
    session_close(&s);
}

/* The published widths. The oracle's naive loops would take minutes: the fastest backend alone. */
static void official_full(void) {
    struct net1d_fixture f;
    struct backend backend;
    const char *path = net1d_fixture_shared("net1d_full.safetensors");
    if (path == NULL || !CHECK_OK(net1d_fixture_open(&f, path))) return;
    if (CHECK(backend_open(&backend, BACKEND_FASTEST))) check_full(&backend, &f);
    backend_close(&backend);
    net1d_fixture_close(&f);
}

int main(void) {
    CASE(table_is_the_state_dict);
    CASE(plain);
    CASE(batch_norm);
    CASE(odd_shapes);
    CASE(plain_on_cuda);
    CASE(batch_norm_on_cuda);
    CASE(odd_shapes_on_cuda);
    CASE(official_small);
    CASE(official_small_bn);
    CASE(official_one_lead);
    CASE(official_small_on_cuda);
    CASE(official_small_bn_on_cuda);
    CASE(official_one_lead_on_cuda);
    CASE(official_checkpoint_fits);
    CASE(official_full);
    return check_finish();
}
