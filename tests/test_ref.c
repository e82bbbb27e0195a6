/* SPDX-License-Identifier: MIT
 * The oracle, held against what does not come from us: derivatives by central differences over the case table,
 * PyTorch's losses and optimisers (tests/fixtures, made by make_losses.py and make_updates.py; and the shared losses
 * when they are there), and small cases worked out by hand. Losses and updates are tried on the cpu backend as well. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/safetensors.h"
#include "core/mem.h"
#include "kernels/dropout.h"
#include "kernels/loss.h"
#include "kernels/ops.h"
#include "tests/support/check.h"
#include "tests/support/gradient.h"

#define LOSS_BOUND   1e-6
#define UPDATE_BOUND 1e-6

static const struct ops_ws no_ws = {NULL, 0};

/* ------------------------------------------------------------------ gradients */

struct gradient_tally {
    int n_checked;
    double worst;
};

static void check_case_gradient(const struct op_case *c, struct ops_dev *dev,
                                struct gradient_tally *tally) {
    struct gradient_result g;
    char label[160];

    if (!gradient_applies(c)) return;
    if (!CHECK_OK(gradient_check(c, ops_ref(), dev, &g))) return;
    tally->n_checked += g.n_checked;
    tally->worst = fmax(tally->worst, g.worst);
    if (CHECK(g.worst <= GRADIENT_BOUND)) return;
    cases_label(c, label, sizeof(label));
    check_note("%s: gradient of %s is off by %.3g", label, g.input, g.worst);
}

static void gradients_by_differences(void) {
    struct ops_dev *dev = NULL;
    struct gradient_tally tally = {0, 0};
    size_t n;
    const struct op_case *table = cases_table(&n);

    if (!CHECK_OK(ops_ref()->open(&dev, 1))) return;
    for (size_t i = 0; i < n; i++) check_case_gradient(&table[i], dev, &tally);
    CHECK(tally.n_checked > 1000);
    check_note("%d derivatives, relative error up to %.2g (bound %.0e)", tally.n_checked,
               tally.worst, GRADIENT_BOUND);
    ops_ref()->close(dev);
}

/* A gradient that is wrong must be found: the backward pass of swish under the forward pass of sigmoid. */
static enum ecg_status sigmoid_instead(struct ops_dev *dev, size_t n, const float *x, float *y) {
    return ops_ref()->sigmoid_fwd(dev, n, x, y);
}

static void wrong_gradients_are_found(void) {
    struct ops_dev *dev = NULL;
    struct gradient_result g;
    struct ops broken = *ops_ref();
    const struct op_case c = {&family_swish, 0, 33, 0, 0, 0, 0, 0, 0};

    broken.swish_fwd = sigmoid_instead;
    if (!CHECK_OK(ops_ref()->open(&dev, 1))) return;
    CHECK_OK(gradient_check(&c, &broken, dev, &g));
    CHECK(g.worst > 100 * GRADIENT_BOUND);
    ops_ref()->close(dev);
}

/* ------------------------------------------------------------------ losses */

struct named_loss {
    const char *name;
    struct ops_loss loss;
};

static const struct named_loss losses[] = {
    {"bce", {.kind = OPS_LOSS_BCE}},
    {"hill_logpos", {.kind = OPS_LOSS_HILL, .lambda = 1.5}},
    {"hill_focalmargin",
     {.kind = OPS_LOSS_HILL, .lambda = 1.5, .focal_margin = 1, .margin = 1, .gamma = 2}},
    {"hill_l2_m05_g15",
     {.kind = OPS_LOSS_HILL, .lambda = 2, .focal_margin = 1, .margin = 0.5, .gamma = 1.5}},
    {"focal_g2_a25", {.kind = OPS_LOSS_FOCAL, .gamma = 2, .alpha = 0.25}},
    {"focal_g15_a6", {.kind = OPS_LOSS_FOCAL, .gamma = 1.5, .alpha = 0.6}},
    {"asl_gp0_gn4_m05", {.kind = OPS_LOSS_ASL, .gamma_neg = 4, .margin = 0.05}},
    {"asl_gp1_gn2_m0", {.kind = OPS_LOSS_ASL, .gamma_pos = 1, .gamma_neg = 2}},
    {"mse", {.kind = OPS_LOSS_MSE}},
    {"huber_d1", {.kind = OPS_LOSS_HUBER, .delta = 1}},
    {"huber_d25", {.kind = OPS_LOSS_HUBER, .delta = 2.5}},
};
enum { N_LOSSES = sizeof(losses) / sizeof(losses[0]) };

/* Logits with their truth, and what the file says about them. */
struct batch {
    int B, N;
    float *z, *t;               /* (B, N) */
    uint8_t *y;                 /* (B, N) */
    float *dz;                  /* (B, N), result */
    size_t n_labels, n_targets; /* known ones */
};

static void batch_free(struct batch *b) {
    free(b->z);
    free(b->t);
    free(b->y);
    free(b->dz);
}

/* Element i of a tensor as double, whatever its type. */
static double element(const struct safetensors_entry *e, size_t i) {
    double d;
    float f;
    int32_t k;
    if (e->dtype == ST_F64) return memcpy(&d, (const char *)e->data + i * sizeof(d), sizeof(d)), d;
    if (e->dtype == ST_F32) return memcpy(&f, (const char *)e->data + i * sizeof(f), sizeof(f)), f;
    if (e->dtype == ST_I32) return memcpy(&k, (const char *)e->data + i * sizeof(k), sizeof(k)), k;
    return NAN;
}

static const struct safetensors_entry *entry(const struct safetensors *file, const char *prefix,
                                             const char *name, const char *suffix) {
    char key[96];
    snprintf(key, sizeof(key), "%s%s%s", prefix, name, suffix);
    return safetensors_find(file, key);
}

static bool batch_load(struct batch *b, const struct safetensors *file, const char *prefix) {
    const struct safetensors_entry *z = entry(file, prefix, "z", ""),
                                   *y = entry(file, prefix, "y", ""),
                                   *t = entry(file, prefix, "t", "");
    if (!CHECK(z && y && t && z->ndim == 2 && y->n == z->n && t->n == z->n)) return false;
    b->B = (int)z->shape[0];
    b->N = (int)z->shape[1];
    if (!CHECK_OK(MEM_NEW(&b->z, z->n)) || !CHECK_OK(MEM_NEW(&b->t, z->n)) ||
        !CHECK_OK(MEM_NEW(&b->y, z->n)) || !CHECK_OK(MEM_NEW(&b->dz, z->n)))
        return false;
    for (size_t i = 0; i < z->n; i++) {
        b->z[i] = (float)element(z, i);
        b->t[i] = (float)element(t, i);
        b->y[i] = element(y, i) < 0 ? OPS_LABEL_UNKNOWN : (uint8_t)element(y, i);
        b->n_labels += b->y[i] != OPS_LABEL_UNKNOWN;
        b->n_targets += !isnan(b->t[i]);
    }
    return true;
}

/* Value and gradient of one loss over the batch on one backend against the file's; *worst takes the largest error,
 * of the value relative to 1 + |value|, of the gradient to the largest of its entries. Logits and targets are float
 * here and double in the file: the bound covers their rounding too. */
static void check_loss(const struct ops *ops, struct ops_dev *dev, const struct named_loss *l,
                       struct batch *b, const float *column_scale,
                       const struct safetensors_entry *value, const struct safetensors_entry *dz,
                       double *worst) {
    const bool by_target = ops_loss_takes_targets(l->loss.kind);
    const double inv_known = 1.0 / (double)(by_target ? b->n_targets : b->n_labels);
    const size_t n = (size_t)b->B * b->N;
    double sum = 5, size = 0, error = 0; /* the sum is added to */

    if (!CHECK(value && dz && dz->n == n)) return;
    for (size_t i = 0; i < n; i++) b->dz[i] = NAN;
    CHECK_OK(ops->loss(dev, &l->loss, b->B, b->N, b->z, by_target ? NULL : b->y,
                       by_target ? b->t : NULL, column_scale, inv_known, &sum, b->dz));
    const double want = element(value, 0);
    const double value_error = fabs((sum - 5) * inv_known - want) / (1 + fabs(want));
    for (size_t i = 0; i < n; i++) {
        CHECK(isfinite(b->dz[i]));
        error = fmax(error, fabs(b->dz[i] - element(dz, i)));
        size = fmax(size, fabs(element(dz, i)));
    }
    if (!CHECK(value_error <= LOSS_BOUND) || !CHECK(error <= LOSS_BOUND * size))
        check_note("%s on %s: value off by %.3g, gradient by %.3g of %.3g", l->name, ops->name,
                   value_error, error, size);
    *worst = fmax(*worst, fmax(value_error, error / size));
}

/* Every loss that the file has under `prefix`; returns how many. */
static int check_losses(const struct ops *ops, const struct safetensors *file, const char *batch,
                        const char *prefix, const float *column_scale, double *worst) {
    struct batch b = {0};
    struct ops_dev *dev = NULL;
    int n = 0;

    if (CHECK_OK(ops->open(&dev, 1)) && batch_load(&b, file, batch)) {
        for (int i = 0; i < N_LOSSES; i++) {
            const struct safetensors_entry *value = entry(file, prefix, losses[i].name, ".loss");
            if (!value) continue;
            check_loss(ops, dev, &losses[i], &b, column_scale, value,
                       entry(file, prefix, losses[i].name, ".dz"), worst);
            n++;
        }
    }
    batch_free(&b);
    ops->close(dev);
    return n;
}

static void check_own_losses(const struct ops *ops) {
    struct safetensors file = {0};
    float column_scale[16];
    double worst = 0;

    if (!CHECK_OK(safetensors_open(&file, "tests/fixtures/losses.safetensors"))) return;
    const struct safetensors_entry *cs = entry(&file, "", "column_scale", "");
    if (CHECK(cs && cs->n <= 16)) {
        for (size_t i = 0; i < cs->n; i++) column_scale[i] = (float)element(cs, i);
        CHECK(check_losses(ops, &file, "", "", NULL, &worst) == N_LOSSES);
        CHECK(check_losses(ops, &file, "", "scaled.", column_scale, &worst) == 3);
        CHECK(check_losses(ops, &file, "far.", "far.", NULL, &worst) == N_LOSSES);
        check_note("%s: relative error up to %.2g (bound %.0e)", ops->name, worst, LOSS_BOUND);
    }
    safetensors_close(&file);
}

static void losses_are_torchs(void) {
    check_own_losses(ops_ref());
    check_own_losses(ops_cpu());
}

static void losses_of_the_shared_fixture(void) {
    struct safetensors file = {0};
    char path[4096];
    double worst = 0;

    if (!check_shared()) {
        check_skip("no shared fixtures here");
        return;
    }
    snprintf(path, sizeof(path), "%s/fixtures/losses.safetensors", check_shared());
    if (!CHECK_OK(safetensors_open(&file, path))) return;
    CHECK(check_losses(ops_ref(), &file, "", "", NULL, &worst) == 7);
    CHECK(check_losses(ops_cpu(), &file, "", "", NULL, &worst) == 7);
    check_note("relative error up to %.2g (bound %.0e)", worst, LOSS_BOUND);
    safetensors_close(&file);
}

/* Far out the value grows like |z| on the wrong side and vanishes on the right one; nothing overflows. */
static void losses_far_out(void) {
    for (int i = 0; i < N_LOSSES; i++) {
        for (int k = -40; k <= 40; k++) {
            const double z = copysign(pow(10, abs(k) / 10.0), k);
            for (uint8_t label = 0; label <= 1; label++) {
                double dz = NAN;
                const double v = ops_loss_label(&losses[i].loss, z, label, &dz);
                CHECK(isfinite(v) && isfinite(dz) && v >= -0.5);
            }
        }
    }
    double dz;
    CHECK_NEAR(ops_loss_label(&losses[0].loss, -1e4, 1, &dz), 1e4, 0);
    CHECK_NEAR(dz, -1, 0);
    CHECK_NEAR(ops_loss_label(&losses[0].loss, 1e4, 1, &dz), 0, 0);
    CHECK_NEAR(dz, 0, 0);
    CHECK_NEAR(ops_loss_label(&losses[1].loss, 1e4, 0, &dz), 0.5, 0);
}

static void losses_want_their_truth(void) {
    struct ops_dev *dev = NULL;
    const float z = 0;
    const uint8_t y = 1;
    double sum = 0;

    if (!CHECK_OK(ops_ref()->open(&dev, 1))) return;
    CHECK_FAILS(ops_ref()->loss(dev, &losses[8].loss, 1, 1, &z, &y, NULL, NULL, 1, &sum, NULL),
                ECG_ERR_FAIL, "loss");
    CHECK_FAILS(ops_ref()->loss(dev, &losses[0].loss, 1, 1, &z, NULL, &z, NULL, 1, &sum, NULL),
                ECG_ERR_FAIL, "loss");
    ops_ref()->close(dev);
}

/* ------------------------------------------------------------------ optimisers */

struct update {
    const char *kind;
    int decoupled;   /* -1: sgd */
    double momentum; /* sgd */
};

static const struct update updates[] = {
    {"adam", 0, 0}, {"adamw", 1, 0}, {"sgd", -1, 0}, {"sgdm", -1, 0.9}};

enum { MAX_PARAMETERS = 64 };

static enum ecg_status update_once(const struct ops *ops, struct ops_dev *dev,
                                   const struct update *u, double decay, int64_t step, size_t n,
                                   float *p, const float *g, float *m, float *v) {
    const struct ops_adam a = {1e-2, 0.9, 0.999, 1e-8, decay, u->decoupled, step};
    if (u->decoupled >= 0) return ops->adam(dev, &a, n, p, g, m, v);
    return ops->sgd(dev, 1e-2, u->momentum, decay, step, n, p, g, u->momentum > 0 ? m : NULL);
}

/* Ten steps from `start`; the largest error relative to 1 + |parameter|. */
static double follow_updates(const struct ops *ops, const struct update *u, double decay,
                             const struct safetensors_entry *start,
                             const struct safetensors_entry *grads,
                             const struct safetensors_entry *want) {
    float p[MAX_PARAMETERS], g[MAX_PARAMETERS], m[MAX_PARAMETERS] = {0}, v[MAX_PARAMETERS] = {0};
    const size_t n = start->n, n_steps = grads->n / n;
    struct ops_dev *dev = NULL;
    double worst = 0;

    if (!CHECK_OK(ops->open(&dev, 1))) return NAN;
    for (size_t i = 0; i < n; i++) p[i] = (float)element(start, i);
    for (size_t s = 0; s < n_steps; s++) {
        for (size_t i = 0; i < n; i++) g[i] = (float)element(grads, s * n + i);
        CHECK_OK(update_once(ops, dev, u, decay, (int64_t)s + 1, n, p, g, m, v));
    }
    for (size_t i = 0; i < n; i++) {
        const double w = element(want, i), error = fabs(p[i] - w) / (1 + fabs(w));
        CHECK(error <= UPDATE_BOUND);
        worst = fmax(worst, error);
    }
    ops->close(dev);
    return worst;
}

static void updates_are_torchs(void) {
    static const double decays[] = {0, 0.01, 1};
    struct safetensors file = {0};
    double worst = 0;
    char name[32];

    if (!CHECK_OK(safetensors_open(&file, "tests/fixtures/updates.safetensors"))) return;
    const struct safetensors_entry *start = entry(&file, "", "start", ""),
                                   *grads = entry(&file, "", "grads", "");
    if (CHECK(start && grads && start->n <= MAX_PARAMETERS)) {
        for (size_t i = 0; i < sizeof(updates) / sizeof(updates[0]); i++) {
            for (int k = 0; k < 3; k++) {
                snprintf(name, sizeof(name), "%s.%g", updates[i].kind, decays[k]);
                const struct safetensors_entry *want = safetensors_find(&file, name);
                if (!CHECK(want && want->n == start->n)) continue;
                worst = fmax(worst,
                             follow_updates(ops_ref(), &updates[i], decays[k], start, grads, want));
                worst = fmax(worst,
                             follow_updates(ops_cpu(), &updates[i], decays[k], start, grads, want));
            }
        }
        check_note("relative error up to %.2g (bound %.0e)", worst, UPDATE_BOUND);
    }
    safetensors_close(&file);
}

/* ------------------------------------------------------------------ by hand */

static void same_padding(void) {
    /* FACTS of the official network: stride 2 pads 7 on the left for even and odd lengths, stride 1 too. */
    struct ops_conv s = ops_conv_same(1, 5000, 12, 64, 16, 2, 1);
    CHECK(s.Lout == 2500 && s.P == 7);
    s = ops_conv_same(1, 625, 64, 64, 16, 2, 4);
    CHECK(s.Lout == 313 && s.P == 7);
    s = ops_conv_same(1, 313, 64, 64, 16, 1, 4);
    CHECK(s.Lout == 313 && s.P == 7);
    s = ops_conv_same(1, 5, 1, 1, 1, 3, 1);
    CHECK(s.Lout == 2 && s.P == 0);
    s = ops_conv_same(1, 1, 1, 1, 16, 2, 1);
    CHECK(s.Lout == 1 && s.P == 7);
}

static void convolution_by_hand(void) {
    const struct ops_conv s =
        ops_conv_same(1, 4, 2, 2, 3, 1, 2); /* two groups of one channel, P 1 */
    const float x[] = {1, 10, 2, 20, 3, 30, 4, 40}, w[] = {1, 2, 3, -1, 0, 1}, b[] = {100, 0};
    const float want[] = {100 + 8, 20, 100 + 14, 20, 100 + 20, 20, 100 + 11, -30};
    struct ops_dev *dev = NULL;
    float y[8];

    if (!CHECK_OK(ops_ref()->open(&dev, 1))) return;
    CHECK_OK(ops_ref()->conv_fwd(dev, OPS_F32, s, x, w, b, y, no_ws));
    for (int i = 0; i < 8; i++) CHECK_NEAR(y[i], want[i], 0);
    const struct ops_conv uneven = {1, 4, 4, 2, 3, 1, 1, 2, 0};
    CHECK_FAILS(ops_ref()->conv_fwd(dev, OPS_F32, uneven, x, w, b, y, no_ws), ECG_ERR_FAIL, "G 2");
    ops_ref()->close(dev);
}

/* Windows of two over 5 samples, one channel widened to three: of equal samples the first gets the gradient, of a
 * negative last sample and the padded zero behind it nobody, of a zero sample and that padded zero the sample. */
static void pooling_by_hand(void) {
    const struct ops_blc s = {1, 3, 3};
    const float h[9] = {0}, dy[] = {0, 1, 0, 0, 2, 0, 0, 4, 0};
    const float x[2][5] = {{3, 3, -1, 2, -5}, {-1, -2, 0, 0, 0}};
    const float want_y[2][3] = {{3, 2, 0}, {-1, 0, 0}};
    const float want_dx[2][5] = {{1, 0, 0, 2, 0}, {1, 0, 2, 0, 4}};
    struct ops_dev *dev = NULL;
    float y[9], dx[5];

    if (!CHECK_OK(ops_ref()->open(&dev, 1))) return;
    for (int k = 0; k < 2; k++) {
        CHECK_OK(ops_ref()->shortcut_fwd(dev, OPS_F32, s, 5, 1, 2, h, NULL, x[k], y));
        CHECK_OK(ops_ref()->shortcut_bwd(dev, OPS_F32, s, 5, 1, 2, x[k], dy, dx));
        for (int l = 0; l < 3; l++) {
            CHECK_NEAR(y[3 * l], 0, 0);
            CHECK_NEAR(y[3 * l + 1], want_y[k][l], 0);
            CHECK_NEAR(y[3 * l + 2], 0, 0);
        }
        for (int i = 0; i < 5; i++) CHECK_NEAR(dx[i], want_dx[k][i], 0);
    }
    ops_ref()->close(dev);
}

static void normalisation_by_hand(void) {
    const struct ops_blc s = {2, 2, 1};
    const float x[] = {1, 3, 5, 7}, one = 1, zero = 0;
    float mean, var, scale, shift, run_mean = 10, run_var = 2;
    struct ops_dev *dev = NULL;

    if (!CHECK_OK(ops_ref()->open(&dev, 1))) return;
    CHECK_OK(ops_ref()->norm_stats(dev, OPS_F32, s, x, &mean, &var, no_ws));
    CHECK_NEAR(mean, 4, 0);
    CHECK_NEAR(var, 5, 0);
    CHECK_OK(ops_ref()->norm_fold(dev, 1, &mean, &var, &one, &zero, 0, &scale, &shift, &run_mean,
                                  &run_var, 0.1, 4));
    CHECK_NEAR(scale, 1 / sqrt(5), 1e-7);
    CHECK_NEAR(shift, -4 / sqrt(5), 1e-6);
    CHECK_NEAR(run_mean, 9.4, 1e-6);
    CHECK_NEAR(run_var, 0.9 * 2 + 0.1 * 20 / 3, 1e-6);
    CHECK_FAILS(ops_ref()->norm_fold(dev, 1, &mean, &var, &one, &zero, 0, &scale, &shift, &run_mean,
                                     &run_var, 0.1, 1),
                ECG_ERR_FAIL, "row");
    ops_ref()->close(dev);
}

/* The mask does not depend on where a range starts or on how the batch is cut, and keeps what it should. */
static void dropout_is_a_function_of_place(void) {
    enum { N = 4001 };
    struct ops_act act = {.drop = 0.3f, .seed = 77, .stream = 3, .step = 9, .sample0 = 5};
    static float whole[N], part[N];
    int n_kept = 0;

    ops_dropout_factors(&act, 2, 0, N, whole);
    for (uint32_t start = 0; start < 9; start++) {
        ops_dropout_factors(&act, 2, start, N - start, part);
        CHECK(memcmp(part, whole + start, (N - start) * sizeof(*part)) == 0);
    }
    act.sample0 = 7;
    ops_dropout_factors(&act, 0, 0, N, part);
    CHECK(memcmp(part, whole, sizeof(part)) == 0);
    for (int i = 0; i < N; i++) {
        CHECK(whole[i] == 0 || whole[i] == (float)(1 / (1 - (double)act.drop)));
        n_kept += whole[i] != 0;
    }
    CHECK_NEAR(n_kept / (double)N, 0.7, 0.03);
    act.step = 10;
    ops_dropout_factors(&act, 0, 0, N, part);
    CHECK(memcmp(part, whole, sizeof(part)) != 0);
}

static void backends_by_name(void) {
    const struct ops *ops = NULL;
    CHECK_OK(ops_find(&ops, "cpu"));
    CHECK_STR(ops->name, "cpu");
    CHECK_OK(ops_find(&ops, "ref"));
    CHECK_STR(ops->name, "ref");
    setenv("EINTHOVEN_CUDA_LIB", "/nowhere/plugin.so", 1);
    CHECK_FAILS(ops_find(&ops, "cuda"), ECG_ERR_FAIL, "/nowhere/plugin.so");
    unsetenv("EINTHOVEN_CUDA_LIB");
    CHECK(ops == NULL);
    CHECK_FAILS(ops_find(&ops, "gpu"), ECG_ERR_CONFIG, "gpu");
}

int main(void) {
    CASE(gradients_by_differences);
    CASE(wrong_gradients_are_found);
    CASE(losses_are_torchs);
    CASE(losses_of_the_shared_fixture);
    CASE(losses_far_out);
    CASE(losses_want_their_truth);
    CASE(updates_are_torchs);
    CASE(same_padding);
    CASE(convolution_by_hand);
    CASE(pooling_by_hand);
    CASE(normalisation_by_hand);
    CASE(dropout_is_a_function_of_place);
    CASE(backends_by_name);
    return check_finish();
}
