/* SPDX-License-Identifier: MIT
 * Optimisers, clipping, schedules and objectives against PyTorch's numbers in tests/fixtures/optim.safetensors (made by
 * make_optim.py; its metadata says what was run), and Cox' loss also against the shared fixture. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "tests/support/check.h"
#include "tests/support/net1d_fixture.h"
#include "tests/support/net1d_session.h"
#include "train/objective/objective.h"
#include "train/optim/optim.h"
#include "train/optim/schedule.h"
#include "train/run/config.h"

#define MAX_NUMBERS 12

static struct net1d_fixture fixture;

/* The numbers of metadata `prefix` + `name`. */
static bool case_numbers(const char *prefix, const char *name, double v[MAX_NUMBERS], int n) {
    char key[96];
    snprintf(key, sizeof(key), "%s%s", prefix, name);
    const char *text = safetensors_meta(&fixture.file, key);
    for (int i = 0; i < n; i++) {
        char *end;
        if (!CHECK(text != NULL)) return false;
        v[i] = strtod(text, &end);
        if (!CHECK(end != text)) return false;
        text = end;
    }
    return true;
}

/* Calls run(name) for every name in the metadata's list `key`. */
static void for_each_case(const char *key, void (*run)(const char *name)) {
    const char *text = safetensors_meta(&fixture.file, key);
    char name[64];
    int used, n = 0;
    while (text != NULL && sscanf(text, "%63s%n", name, &used) == 1) {
        run(name);
        text += used;
        n++;
    }
    CHECK(n > 0);
}

/* Doubles of tensor name + suffix, fresh. */
static double *doubles(const struct safetensors *s, const char *name, const char *suffix,
                       size_t *n) {
    char key[96];
    double *v = NULL;
    snprintf(key, sizeof(key), "%s%s", name, suffix);
    const struct safetensors_entry *e = safetensors_find(s, key);
    if (!CHECK(e != NULL && e->dtype == ST_F64) || !CHECK_OK(MEM_NEW(&v, e->n))) return NULL;
    memcpy(v, e->data, e->n * sizeof(*v));
    *n = e->n;
    return v;
}

/* ------------------------------------------------------------------ optimiser */

static bool put_gradients(struct net1d *net, int step) {
    float *g = NULL;
    bool ok = CHECK_OK(MEM_NEW(&g, net->n_params));
    for (size_t k = 0; ok && k < net->n_tensors; k++) {
        const struct tensor *t = &net->tensors[k];
        char name[96];
        snprintf(name, sizeof(name), "grad.%s", t->name);
        for (size_t i = 0; t->kind == TENSOR_PARAM && i < t->n; i++)
            g[t->offset + i] = (float)(2 * recipe_uniform(name, (uint64_t)step, i) - 1);
    }
    ok = ok && CHECK_OK(net->ops->upload(net->dev, net->grads, g, net->n_params * sizeof(float)));
    free(g);
    return ok;
}

/* The largest difference over all parameters, which the fixture holds one after the other as the table does. */
static double parameter_error(const char *name, const struct net1d *net) {
    size_t n = 0, at = 0;
    float *wanted = net1d_fixture_f32(&fixture, name, ".params", &n), *params = NULL,
          *extras = NULL;
    double worst = NAN;
    if (!CHECK(wanted != NULL) ||
        !CHECK_OK(net1d_fixture_download(net, net->params, net->n_params, &params)) ||
        !CHECK_OK(net1d_fixture_download(net, net->extras, net->n_extras, &extras)))
        goto out;
    worst = 0;
    for (size_t k = 0; k < net->n_tensors; k++) {
        const struct tensor *t = &net->tensors[k];
        if (t->kind == TENSOR_BUFFER || t->kind == TENSOR_COUNTER) continue;
        if (!CHECK(at + t->n <= n)) break;
        const float *p = (t->kind == TENSOR_PARAM ? params : extras) + t->offset;
        for (size_t i = 0; i < t->n; i++) {
            double d = fabs((double)p[i] - wanted[at + i]);
            if (!(d <= worst)) worst = d;
        }
        at += t->n;
    }
    CHECK(at == n);
out:
    free(wanted);
    free(params);
    free(extras);
    return worst;
}

struct optim_case {
    struct optim_config config;
    struct optim_rates base;
    double max_norm;
    bool frozen, onecycle;
};

static bool read_optim_case(const char *name, struct optim_case *c) {
    double v[MAX_NUMBERS];
    if (!case_numbers("optimiser.", name, v, 9)) return false;
    c->config = (struct optim_config){.kind = (enum optim_kind)v[0],
                                      .weight_decay = v[3],
                                      .beta2 = 0.999,
                                      .eps = 1e-8,
                                      .decay_bias = v[5] != 0};
    c->base = (struct optim_rates){.lr = v[1], .backbone_lr = v[2], .beta1 = v[4]};
    c->max_norm = v[6];
    c->frozen = v[7] != 0;
    c->onecycle = v[8] != 0;
    return true;
}

static void follow_steps(const char *label, struct net1d *net, struct optim *o,
                         const struct optim_case *c, const char *name) {
    size_t steps = 0;
    double *norms = doubles(&fixture.file, name, ".norms", &steps), worst = 0;
    struct schedule schedule = {.kind = c->onecycle ? SCHEDULE_ONECYCLE : SCHEDULE_CONSTANT,
                                .total_steps = (int64_t)steps,
                                .lr = c->base.lr,
                                .beta1 = c->base.beta1,
                                .warmup = -1};
    CHECK_OK(schedule_check(&schedule));
    for (size_t i = 0; norms != NULL && i < steps; i++) {
        struct schedule_point point = schedule_at(&schedule, NULL, (int64_t)i);
        struct optim_rates rates = {.lr = c->base.lr * point.factor,
                                    .backbone_lr = c->base.backbone_lr * point.factor,
                                    .beta1 = point.beta1};
        double norm = NAN;
        if (!put_gradients(net, (int)i) || !CHECK_OK(optim_clip(o, c->max_norm, &norm)) ||
            !CHECK_OK(optim_step(o, &rates)))
            break;
        double error = fabs(norm - norms[i]) / norms[i];
        CHECK(error <= 1e-6);
        if (!(error <= worst)) worst = error;
    }
    double error = parameter_error(name, net);
    check_note("%-12s %-24s ranges %2zu parameters %.1e norms %.1e", label, name, o->n_ranges,
               error, worst);
    CHECK(error <= 1e-6);
    CHECK(o->step == (int64_t)steps);
    free(norms);
}

static void run_optimiser(const char *name) {
    for (int i = 0; i < n_backends; i++) {
        struct backend b;
        struct net1d net = {0};
        struct optim o = {0};
        struct optim_case c;
        if (backend_open(&b, i) && read_optim_case(name, &c) &&
            CHECK_OK(net1d_create(&net, &fixture.config, b.ops, b.dev, 1, true)) &&
            CHECK_OK(net1d_fixture_weights(&fixture, &net, "w."))) {
            net1d_freeze_backbone(&net, c.frozen);
            if (CHECK_OK(optim_create(&o, &c.config, &net)))
                follow_steps(b.label, &net, &o, &c, name);
        }
        optim_free(&o);
        net1d_free(&net);
        backend_close(&b);
    }
}

static void optimisers_are_torchs(void) {
    for_each_case("optimisers", run_optimiser);
}

static void ranges_follow_the_table(void) {
    struct backend b;
    struct net1d net = {0};
    struct optim o = {0};
    struct optim_config config = {.kind = OPTIM_ADAMW, .decay_bias = true};
    if (!backend_open(&b, BACKEND_REF) ||
        !CHECK_OK(net1d_create(&net, &fixture.config, b.ops, b.dev, 1, true)))
        goto out;
    if (CHECK_OK(optim_create(&o, &config, &net))) {
        CHECK(o.n_ranges == 2); /* backbone, head */
        CHECK(o.ranges[0].offset == 0 && !o.ranges[0].is_head && o.ranges[1].is_head);
    }
    optim_free(&o);
    net1d_freeze_backbone(&net, true);
    if (CHECK_OK(optim_create(&o, &config, &net))) CHECK(o.n_ranges == 1 && o.ranges[0].is_head);
    optim_free(&o);
    net1d_tensor(&net, "dense.weight")->frozen = net1d_tensor(&net, "dense.bias")->frozen = true;
    CHECK_FAILS(optim_create(&o, &config, &net), ECG_ERR_CONFIG, "frozen");
out:
    optim_free(&o);
    optim_free(&o);
    net1d_free(&net);
    backend_close(&b);
}

/* A gradient that is not finite is told, not spread by scaling. */
static void clip_reports_what_is_not_finite(void) {
    struct backend b;
    struct net1d net = {0};
    struct optim o = {0};
    struct optim_config config = {.kind = OPTIM_ADAM, .decay_bias = true};
    double norm = 0;
    if (backend_open(&b, BACKEND_REF) &&
        CHECK_OK(net1d_create(&net, &fixture.config, b.ops, b.dev, 1, true)) &&
        CHECK_OK(optim_create(&o, &config, &net))) {
        net.grads[0] = INFINITY;
        net.grads[1] = 3;
        CHECK_OK(optim_clip(&o, 1, &norm));
        CHECK(!isfinite(norm) && net.grads[1] == 3);
        CHECK_OK(optim_zero_grad(&o));
        CHECK_OK(optim_clip(&o, 1, &norm));
        CHECK(norm == 0);
    }
    optim_free(&o);
    net1d_free(&net);
    backend_close(&b);
}

/* ------------------------------------------------------------------ schedules */

static void run_schedule(const char *name) {
    double v[MAX_NUMBERS];
    size_t n = 0;
    if (!case_numbers("schedule.", name, v, 11)) return;
    struct schedule s = {.kind = (enum schedule_kind)v[0],
                         .total_steps = (int64_t)v[1],
                         .steps_per_epoch = (int64_t)v[2],
                         .lr = v[3],
                         .beta1 = v[4],
                         .gamma = v[5],
                         .every = (int64_t)v[6],
                         .warmup = v[7],
                         .min_lr = v[8],
                         .patience = (int64_t)v[9],
                         .maximize = v[10] != 0};
    double *lr = doubles(&fixture.file, name, ".lr", &n);
    double *beta1 = doubles(&fixture.file, name, ".beta1", &n);
    double *metric = doubles(&fixture.file, name, ".metric", &n), worst = 0;
    struct schedule_state state;
    CHECK_OK(schedule_check(&s));
    schedule_start(&state);
    for (size_t i = 0; lr != NULL && beta1 != NULL && metric != NULL && i < n; i++) {
        struct schedule_point point = schedule_at(&s, &state, (int64_t)i);
        double error =
            fmax(fabs(point.factor * s.lr - lr[i]) / lr[i], fabs(point.beta1 - beta1[i]));
        if (!CHECK(error <= 1e-12)) check_note("%s: step %zu off by %.3g", name, i, error);
        if (!(error <= worst)) worst = error;
        schedule_observe(&s, &state, metric[i]);
    }
    check_note("%-16s %.1e", name, worst);
    struct schedule_point last = schedule_at(&s, &state, s.total_steps - 1);
    if (s.kind == SCHEDULE_ONECYCLE)
        CHECK(schedule_at(&s, &state, s.total_steps + 5).factor == last.factor);
    free(lr);
    free(beta1);
    free(metric);
}

static void schedules_are_torchs(void) {
    for_each_case("schedules", run_schedule);
}

static void plateau_bears_nan(void) {
    struct schedule s = {.kind = SCHEDULE_PLATEAU, .lr = 1e-3, .gamma = 0.1, .patience = 1};
    struct schedule_state state;
    schedule_start(&state);
    schedule_observe(&s, &state, NAN);
    CHECK(!state.has_best && state.n_bad == 1 && state.factor == 1);
    schedule_observe(&s, &state, 2);
    CHECK(state.has_best && state.n_bad == 0);
    schedule_observe(&s, &state, NAN);
    schedule_observe(&s, &state, NAN);
    CHECK_NEAR(state.factor, 0.1, 1e-15);
    CHECK(state.best == 2);
}

static void impossible_schedules(void) {
    struct schedule s = {.kind = SCHEDULE_COSINE, .total_steps = 0, .lr = 1};
    CHECK_FAILS(schedule_check(&s), ECG_ERR_CONFIG, "no training step");
    s.total_steps = 5;
    s.warmup = NAN;
    CHECK_FAILS(schedule_check(&s), ECG_ERR_CONFIG, "schedule.warmup");
    s.warmup = 0;
    s.min_lr = 2;
    CHECK_FAILS(schedule_check(&s), ECG_ERR_CONFIG, "schedule.min_lr");
    s = (struct schedule){.kind = SCHEDULE_STEP, .gamma = 0, .every = 1, .steps_per_epoch = 1};
    CHECK_FAILS(schedule_check(&s), ECG_ERR_CONFIG, "schedule.gamma");
    s.gamma = 0.1;
    s.every = 0;
    CHECK_FAILS(schedule_check(&s), ECG_ERR_CONFIG, "schedule.every");
    s = (struct schedule){.kind = SCHEDULE_PLATEAU, .gamma = 0.1, .patience = -1};
    CHECK_FAILS(schedule_check(&s), ECG_ERR_CONFIG, "schedule.patience");
}

/* ------------------------------------------------------------------ objectives */

static void objectives_by_name(void) {
    struct objective o;
    struct ops_loss parameters = {.kind = OPS_LOSS_MSE, .lambda = 1.5, .margin = 1, .gamma = 3};
    const uint8_t labels[6] = {0, 1, 255, 1, 255, 0};
    const float targets[6] = {1, NAN, 2, 3, 4, NAN};
    for (int k = OBJECTIVE_BCE; k <= OBJECTIVE_HAZARD; k++)
        CHECK_OK(objective_init(&o, (enum objective_kind)k, NULL));
    CHECK_STR(conf_choice_name(config_options, "loss.name", OBJECTIVE_HUBER + 1), "huber");
    CHECK_OK(objective_init(&o, OBJECTIVE_HILL, &parameters));
    CHECK(o.loss.kind == OPS_LOSS_HILL && o.loss.gamma == 3 && o.reads == OBJECTIVE_LABELS);
    CHECK(objective_known(&o, 3, 2, labels, NULL) == 4);
    parameters.gamma = NAN;
    CHECK_FAILS(objective_init(&o, OBJECTIVE_FOCAL, &parameters), ECG_ERR_CONFIG, "loss.gamma");
    parameters.delta = 0;
    CHECK_FAILS(objective_init(&o, OBJECTIVE_HUBER, &parameters), ECG_ERR_CONFIG, "loss.delta");
    CHECK_OK(objective_init(&o, OBJECTIVE_MSE, &parameters));
    CHECK(o.reads == OBJECTIVE_TARGETS && objective_known(&o, 2, 3, NULL, targets) == 4);
    CHECK_OK(objective_init(&o, OBJECTIVE_COX, NULL));
    CHECK(o.reads == OBJECTIVE_SURVIVAL && objective_known(&o, 6, 1, labels, targets) == 1);
    CHECK_FAILS(objective_add(&o, ops_ref(), NULL, 1, 1, NULL, NULL, NULL, NULL, 1, NULL, NULL),
                ECG_ERR_FAIL, "not a sum");
}

/* Loss and gradient of n samples against the wanted ones; dz_step: numbers between two samples' gradients. */
static void check_cox(const char *what, size_t n, const float *z, const uint8_t *event,
                      const float *time, double loss, const double *dz, size_t dz_step) {
    void *scratch = NULL;
    float *got = NULL;
    double sum = NAN, worst = 0;
    size_t n_events = 0;
    if (!CHECK_OK(mem_alloc(&scratch, objective_cox_bytes(n), 1)) || !CHECK_OK(MEM_NEW(&got, n)))
        return;
    objective_cox(n, z, event, time, scratch, &sum, &n_events, got);
    CHECK_NEAR(sum / (double)n_events, loss, 1e-6);
    for (size_t i = 0; i < n; i++) {
        double error = fabs(got[i] - dz[i * dz_step]);
        if (!(error <= worst)) worst = error;
    }
    CHECK(worst <= 1e-6);
    check_note("%s: loss off by %.1e, gradient by %.1e", what, fabs(sum / (double)n_events - loss),
               worst);
    free(scratch);
    free(got);
}

static void cox_is_breslows(void) {
    size_t n = 0, n_loss = 0;
    float *z = net1d_fixture_f32(&fixture, "", "cox.z", &n);
    float *time = net1d_fixture_f32(&fixture, "", "cox.time", &n);
    double *loss = doubles(&fixture.file, "cox", ".loss", &n_loss);
    double *dz = doubles(&fixture.file, "cox", ".dz", &n);
    const struct safetensors_entry *event = safetensors_find(&fixture.file, "cox.event");
    if (CHECK(z != NULL && time != NULL && loss != NULL && dz != NULL && event != NULL))
        check_cox("autograd", n, z, event->data, time, loss[0], dz, 1);
    free(z);
    free(time);
    free(loss);
    free(dz);
}

static void cox_of_the_shared_fixture(void) {
    char path[512];
    struct safetensors s = {0};
    enum { COLUMNS = 5 };
    size_t n = 0, n_dz = 0, n_loss = 0;
    if (check_shared() == NULL) {
        check_skip("no shared fixtures");
        return;
    }
    snprintf(path, sizeof(path), "%s/fixtures/losses.safetensors", check_shared());
    if (!CHECK_OK(safetensors_open(&s, path))) return;
    double *time = doubles(&s, "cox", ".time", &n), *event = doubles(&s, "cox", ".event", &n);
    double *z = doubles(&s, "z", "", &n_dz), *dz = doubles(&s, "cox_breslow", ".dz", &n_dz);
    double *loss = doubles(&s, "cox_breslow", ".loss", &n_loss);
    float column[64], times[64];
    uint8_t events[64];
    if (CHECK(time != NULL && event != NULL && z != NULL && dz != NULL && loss != NULL) &&
        CHECK(n <= 64 && n_dz == n * COLUMNS)) {
        for (size_t i = 0; i < n; i++) {
            column[i] = (float)z[i * COLUMNS];
            times[i] = (float)time[i];
            events[i] = event[i] == 1;
        }
        check_cox("shared", n, column, events, times, loss[0], dz, COLUMNS);
    }
    free(time);
    free(event);
    free(z);
    free(dz);
    free(loss);
    safetensors_close(&s);
}

/* Log hazards far apart, and no event at all. */
static void cox_at_the_edges(void) {
    const float z[4] = {2000, -2000, 1500, 0}, time[4] = {1, 2, 3, 4};
    const uint8_t all[4] = {1, 1, 1, 1}, none[4] = {0, 0, 255, 0};
    const double dz[4] = {0, -0.25, 0.25, 0};
    /* risk sets from above: 0; 1500; 1500 - (-2000) = 3500; 2000 */
    check_cox("far apart", 4, z, all, time, (0 + 0 + 3500 + 0) / 4.0, dz, 1);
    double sum = NAN;
    size_t n_events = 9;
    char scratch[512] __attribute__((aligned(MEM_ALIGN)));
    float got[4] = {1, 1, 1, 1};
    if (!CHECK(objective_cox_bytes(4) <= sizeof(scratch))) return;
    objective_cox(4, z, none, time, scratch, &sum, &n_events, got);
    CHECK(sum == 0 && n_events == 0 && got[0] == 0 && got[3] == 0);
}

int main(void) {
    if (net1d_fixture_open(&fixture, net1d_fixture_path("optim.safetensors")) != ECG_OK) {
        fprintf(stderr, "%s\n", ecg_message());
        return 1;
    }
    CASE(optimisers_are_torchs);
    CASE(ranges_follow_the_table);
    CASE(clip_reports_what_is_not_finite);
    CASE(schedules_are_torchs);
    CASE(plateau_bears_nan);
    CASE(impossible_schedules);
    CASE(objectives_by_name);
    CASE(cox_is_breslows);
    CASE(cox_of_the_shared_fixture);
    CASE(cox_at_the_edges);
    net1d_fixture_close(&fixture);
    return check_finish();
}
