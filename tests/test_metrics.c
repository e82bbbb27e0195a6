/* SPDX-License-Identifier: MIT
 * Metrics against scikit-learn and SciPy (tests/fixtures/make_metrics.py), against counting over all pairs, and at the edges
 * where they are not defined. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/safetensors.h"
#include "core/rng.h"
#include "tests/support/check.h"
#include "train/report/metrics.h"

#define BOUND 1e-9

/* Column k of tensor `name` (rows, columns) in double; caller frees. */
static double *column(const struct safetensors *s, const char *name, size_t k, size_t *rows) {
    const struct safetensors_entry *e = safetensors_find(s, name);
    if (!CHECK(e != NULL)) return NULL;
    size_t n = (size_t)e->shape[0], columns = e->n / n;
    double *out = calloc(n, sizeof *out);
    for (size_t i = 0; out && i < n; i++) {
        const char *at = (const char *)e->data + (i * columns + k) * (e->bytes / e->n);
        float f;
        if (e->dtype == ST_F64) memcpy(&out[i], at, sizeof out[i]);
        if (e->dtype == ST_F32) memcpy(&f, at, sizeof f), out[i] = (double)f;
        if (e->dtype == ST_U8) out[i] = *(const uint8_t *)at;
    }
    if (rows) *rows = n;
    return out;
}

static double number(const struct safetensors *s, const char *name, size_t i) {
    double *v = column(s, name, 0, NULL), x = v ? v[i] : NAN;
    free(v);
    return x;
}

static double worst; /* largest deviation of the present case */

static void near(double a, double b) {
    double d = fabs(a - b);
    CHECK_NEAR(a, b, BOUND);
    if (!(d <= worst)) worst = d;
}

struct labelled {
    double *p;
    uint8_t *y;
    size_t n;
};

static struct labelled labelled_column(const struct safetensors *s, size_t k) {
    struct labelled l = {.p = column(s, "p", k, &l.n)};
    double *y = column(s, "y", k, NULL);
    l.y = calloc(l.n, 1);
    for (size_t i = 0; y && l.y && i < l.n; i++) l.y[i] = y[i] != 0;
    free(y);
    return l;
}

static void check_areas(const struct safetensors *s, size_t k, const struct labelled *l) {
    double auroc, auprc;
    CHECK_OK(metrics_auroc(l->p, l->y, l->n, &auroc));
    CHECK_OK(metrics_auprc(l->p, l->y, l->n, &auprc));
    near(auroc, number(s, "auroc", k));
    near(auprc, number(s, "auprc", k));
    near(metrics_brier(l->p, l->y, l->n), number(s, "brier", k));
}

static void check_confusion(const struct safetensors *s, const char *prefix, size_t k,
                            struct confusion c) {
    char name[64];
    snprintf(name, sizeof name, "%ssensitivity", prefix);
    near(metrics_sensitivity(c), number(s, name, k));
    snprintf(name, sizeof name, "%sspecificity", prefix);
    near(metrics_specificity(c), number(s, name, k));
    snprintf(name, sizeof name, "%sf1", prefix);
    near(metrics_f1(c), number(s, name, k));
}

/* Undefined there: undefined here. */
static void near_or_undefined(double a, double b) {
    if (isnan(b))
        CHECK(isnan(a));
    else
        near(a, b);
}

/* `unit` is the relative step of the reference's MAE and RMSE: 0 when they were taken in double. */
static void check_regression(const struct safetensors *s, double unit) {
    size_t n;
    double *p = column(s, "reg.p", 0, &n), *y = column(s, "reg.y", 0, NULL);
    if (p && y) {
        struct regression r = metrics_regression(p, y, n);
        double mae = number(s, "reg.mae_rmse_r2_pearson", 0);
        double rmse = number(s, "reg.mae_rmse_r2_pearson", 1);
        CHECK_NEAR(r.mae, mae, BOUND + unit * mae);
        CHECK_NEAR(r.rmse, rmse, BOUND + unit * rmse);
        near(r.r2, number(s, "reg.mae_rmse_r2_pearson", 2));
        near(r.pearson, number(s, "reg.mae_rmse_r2_pearson", 3));
    }
    free(p);
    free(y);
}

static void scikit_learn(void) {
    struct safetensors s;
    worst = 0;
    if (!CHECK_OK(safetensors_open(&s, "tests/fixtures/metrics.safetensors"))) return;
    for (size_t k = 0; k < 6; k++) {
        struct labelled l = labelled_column(&s, k);
        double threshold = 0;
        check_areas(&s, k, &l);
        CHECK_OK(metrics_youden(l.p, l.y, l.n, &threshold));
        CHECK(threshold == number(&s, "youden", k));
        struct confusion c = metrics_confusion(l.p, l.y, l.n, threshold);
        check_confusion(&s, "", k, c);
        near_or_undefined(metrics_ppv(c), number(&s, "ppv", k));
        near_or_undefined(metrics_npv(c), number(&s, "npv", k));
        free(l.p);
        free(l.y);
    }
    check_regression(&s, 0);
    safetensors_close(&s);
    check_note("largest deviation %.1e (bound %.0e)", worst, BOUND);
}

static void predicted_spread(void) {
    struct safetensors s;
    size_t n;
    worst = 0;
    if (!CHECK_OK(safetensors_open(&s, "tests/fixtures/metrics.safetensors"))) return;
    double *p = column(&s, "reg.p", 0, &n), *y = column(&s, "reg.y", 0, NULL),
           *sd = column(&s, "reg.sd", 0, NULL);
    if (p && y && sd) {
        struct gaussian g = metrics_gaussian(p, sd, y, n);
        near(g.nll, number(&s, "reg.nll_coverage", 0));
        near(g.coverage, number(&s, "reg.nll_coverage", 1));
    }
    free(p);
    free(y);
    free(sd);
    safetensors_close(&s);
    check_note("largest deviation %.1e (bound %.0e)", worst, BOUND);
}

enum { CLASSES = 5 };

static void agreement_of_classes(void) {
    struct safetensors s;
    worst = 0;
    if (!CHECK_OK(safetensors_open(&s, "tests/fixtures/metrics.safetensors"))) return;
    const struct safetensors_entry *e = safetensors_find(&s, "cls.agreement");
    if (CHECK(e && e->dtype == ST_F64 && e->n == 4 * AGREEMENTS))
        for (size_t k = 0; k < 4; k++) {
            size_t n = 0;
            double *truth = column(&s, "cls.truth", k, &n),
                   *calls = column(&s, "cls.calls", k, NULL), ours[AGREEMENTS], theirs[AGREEMENTS];
            uint64_t counts[CLASSES * CLASSES] = {0};
            for (size_t i = 0; truth && calls && i < n; i++)
                counts[(size_t)truth[i] * CLASSES + (size_t)calls[i]]++;
            metrics_agreement(ours, counts, CLASSES);
            memcpy(theirs, (const char *)e->data + k * sizeof theirs, sizeof theirs);
            for (int i = 0; i < AGREEMENTS; i++) near(ours[i], theirs[i]);
            free(truth);
            free(calls);
        }
    safetensors_close(&s);
    check_note("largest deviation %.1e (bound %.0e)", worst, BOUND);
}

static void concordance_of_risks(void) {
    struct safetensors s;
    worst = 0;
    if (!CHECK_OK(safetensors_open(&s, "tests/fixtures/metrics.safetensors"))) return;
    const struct safetensors_entry *e = safetensors_find(&s, "surv.index_pairs");
    if (CHECK(e && e->dtype == ST_F64 && e->n == 6))
        for (size_t k = 0; k < 3; k++) {
            size_t n = 0;
            double *risk = column(&s, "surv.risk", k, &n), *t = column(&s, "surv.time", k, NULL),
                   *known = column(&s, "surv.event", k, NULL), theirs[2];
            float *time = calloc(n + 1, sizeof *time);
            uint8_t *event = calloc(n + 1, 1);
            struct concordance c = {0};
            for (size_t i = 0; risk && t && known && time && event && i < n; i++) {
                time[i] = (float)t[i];
                event[i] = known[i] != 0;
            }
            memcpy(theirs, (const char *)e->data + k * sizeof theirs, sizeof theirs);
            if (CHECK_OK(metrics_concordance_sort(&c, risk, event, time, NULL, n))) {
                struct c_index index = metrics_concordance_index(&c, NULL);
                near(index.index, theirs[0]);
                CHECK(index.pairs == theirs[1]);
            }
            metrics_concordance_free(&c);
            free(risk);
            free(t);
            free(known);
            free(time);
            free(event);
        }
    safetensors_close(&s);
    check_note("largest deviation %.1e (bound %.0e)", worst, BOUND);
}

static void shared_fixture(void) {
    struct safetensors s;
    char path[4096];
    if (!check_shared()) {
        check_skip("no shared fixtures here");
        return;
    }
    worst = 0;
    snprintf(path, sizeof path, "%s/fixtures/metrics.safetensors", check_shared());
    if (!CHECK_OK(safetensors_open(&s, path))) return;
    for (size_t k = 0; k < 6; k++) {
        struct labelled l = labelled_column(&s, k);
        double threshold = 0;
        check_areas(&s, k, &l);
        CHECK_OK(metrics_youden(l.p, l.y, l.n, &threshold));
        near(threshold, number(&s, "youden_threshold", k));
        threshold = metrics_balanced_threshold(l.p, l.y, l.n);
        near(threshold, number(&s, "official.threshold", k));
        // the official code calls p > t in fp32
        check_confusion(&s, "official.", k,
                        metrics_confusion(l.p, l.y, l.n, nextafter((double)(float)threshold, 2)));
        free(l.p);
        free(l.y);
    }
    // scikit-learn was given fp32 arrays here and averaged them in fp32: its MAE and RMSE have 24 bits
    check_regression(&s, FLT_EPSILON);
    safetensors_close(&s);
    check_note("largest deviation %.1e (bound %.0e)", worst, BOUND);
}

/* The definition itself: pairs of a positive and a negative, ties half. */
static double pair_auroc(const double *p, const uint8_t *y, const uint16_t *w, size_t n) {
    double won = 0, pairs = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            if (y[i] && !y[j]) {
                double both = (double)w[i] * w[j];
                won += both * (p[i] > p[j] ? 1 : p[i] == p[j] ? 0.5 : 0);
                pairs += both;
            }
    return won / pairs;
}

/* Weighted areas = plain areas of the entries written out as often as they weigh, and = pair counting. */
static void weights_are_repetitions(void) {
    enum { N = 60 };
    double p[N], long_p[4 * N], auroc, auprc, direct;
    uint8_t y[N], long_y[4 * N];
    uint16_t w[N];
    uint32_t unit[N];
    struct rng r;
    rng_init(&r, 5, 1000, 0, 0);
    worst = 0;
    for (int round = 0; round < 20; round++) {
        size_t n = 0;
        for (uint32_t i = 0; i < N; i++) {
            p[i] = (double)rng_below(&r, 12) / 12;
            y[i] = rng_uniform(&r) < 0.3;
            w[i] = (uint16_t)rng_below(&r, 5);
            unit[i] = i;
            for (int k = 0; k < w[i]; k++) {
                long_p[n] = p[i];
                long_y[n++] = y[i];
            }
        }
        struct ranking rank;
        if (!CHECK_OK(metrics_rank(&rank, p, y, unit, N))) return;
        metrics_rank_areas(&rank, w, &auroc, &auprc);
        metrics_rank_free(&rank);
        near(auroc, pair_auroc(p, y, w, N));
        CHECK_OK(metrics_auroc(long_p, long_y, n, &direct));
        near(auroc, direct);
        CHECK_OK(metrics_auprc(long_p, long_y, n, &direct));
        near(auprc, direct);
    }
    check_note("largest deviation %.1e", worst);
}

/* The definition itself, over all pairs. */
static struct c_index pair_index(const double *risk, const uint8_t *event, const float *time,
                                 const uint16_t *w, size_t n) {
    double won = 0, pairs = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            if (event[i] && (time[i] < time[j] || (time[i] == time[j] && !event[j]))) {
                double both = (double)w[i] * w[j];
                won += both * (risk[i] > risk[j] ? 1 : risk[i] == risk[j] ? 0.5 : 0);
                pairs += both;
            }
    return (struct c_index){won / pairs, pairs};
}

/* Heavy ties in risks and times, from no to nearly all censored; weighted as drawn again and again by a bootstrap. */
static void concordance_is_pair_counting(void) {
    enum { N = 150 };
    double risk[N], long_risk[4 * N];
    uint8_t event[N], long_event[4 * N];
    float time[N], long_time[4 * N];
    uint16_t w[N];
    struct rng r;
    rng_init(&r, 6, 1000, 0, 0);
    worst = 0;
    for (int round = 0; round < 60; round++) {
        size_t n = 0;
        uint64_t risks = 1 + rng_below(&r, 40), times = 1 + rng_below(&r, 40);
        double censored = round / 61.0;
        for (size_t i = 0; i < N; i++) {
            risk[i] = (double)rng_below(&r, risks) - 3;
            time[i] = (float)rng_below(&r, times) / 4;
            event[i] = rng_uniform(&r) >= censored;
            w[i] = (uint16_t)rng_below(&r, 5);
            for (int k = 0; k < w[i]; k++) {
                long_risk[n] = risk[i];
                long_time[n] = time[i];
                long_event[n++] = event[i];
            }
        }
        struct concordance c, drawn;
        if (!CHECK_OK(metrics_concordance_sort(&c, risk, event, time, NULL, N))) return;
        struct c_index ours = metrics_concordance_index(&c, w),
                       pairs = pair_index(risk, event, time, w, N);
        CHECK(ours.pairs == pairs.pairs);
        near_or_undefined(ours.index, pairs.index);
        if (CHECK_OK(metrics_concordance_sort(&drawn, long_risk, long_event, long_time, NULL, n))) {
            pairs = metrics_concordance_index(&drawn, NULL);
            CHECK(ours.pairs == pairs.pairs);
            near_or_undefined(ours.index, pairs.index);
            metrics_concordance_free(&drawn);
        }
        metrics_concordance_free(&c);
    }
    check_note("largest deviation %.1e", worst);
}

/* Who has an event at the time of another's censoring went first; two events of one time say nothing. */
static void concordance_at_equal_times(void) {
    const double risk[] = {2, 1, 3};
    const float time[] = {5, 5, 5};
    const uint8_t one[] = {1, 0, 1}, all[] = {1, 1, 1}, none[] = {0, 0, 0};
    struct concordance c;
    if (CHECK_OK(metrics_concordance_sort(&c, risk, one, time, NULL, 3))) {
        struct c_index index = metrics_concordance_index(&c, NULL);
        CHECK(index.pairs == 2 && index.index == 1);
        metrics_concordance_free(&c);
        metrics_concordance_free(&c);
    }
    if (CHECK_OK(metrics_concordance_sort(&c, risk, all, time, NULL, 3)))
        CHECK(isnan(metrics_concordance_index(&c, NULL).index));
    metrics_concordance_free(&c);
    if (CHECK_OK(metrics_concordance_sort(&c, risk, none, time, NULL, 3)))
        CHECK(isnan(metrics_concordance_index(&c, NULL).index));
    metrics_concordance_free(&c);
    if (CHECK_OK(metrics_concordance_sort(&c, risk, all, time, NULL, 0)))
        CHECK(isnan(metrics_concordance_index(&c, NULL).index));
    metrics_concordance_free(&c);
}

static void undefined_is_nan(void) {
    double p[3] = {0.2, 0.4, 0.6}, v = 0;
    uint8_t none[3] = {0}, all[3] = {1, 1, 1};
    CHECK_OK(metrics_auroc(p, none, 3, &v));
    CHECK(isnan(v));
    CHECK_OK(metrics_auroc(p, all, 3, &v));
    CHECK(isnan(v));
    CHECK_OK(metrics_auprc(p, none, 3, &v));
    CHECK(isnan(v));
    CHECK_OK(metrics_auprc(p, all, 3, &v));
    CHECK_NEAR(v, 1, 0);
    CHECK_OK(metrics_youden(p, all, 3, &v));
    CHECK(isnan(v));
    CHECK_OK(metrics_auroc(p, all, 0, &v));
    CHECK(isnan(v) && isnan(metrics_brier(p, all, 0)));
    CHECK(isnan(metrics_balanced_threshold(p, none, 3)));
    struct confusion c = metrics_confusion(p, none, 3, 0.7);
    CHECK(c.tn == 3 && isnan(metrics_sensitivity(c)) && isnan(metrics_f1(c)));
    CHECK_NEAR(metrics_specificity(c), 1, 0);
    CHECK(isnan(metrics_ppv(c)) && metrics_npv(c) == 1);
    c = metrics_confusion(p, all, 3, 0.4); /* the threshold itself is positive */
    CHECK(c.tp == 2 && c.fn == 1 && isnan(metrics_specificity(c)));
    c = metrics_confusion(p, all, 3, 0.1);
    CHECK(metrics_ppv(c) == 1 && isnan(metrics_npv(c)));
    uint64_t nothing[4] = {0}, one_class[4] = {0, 0, 0, 7};
    double a[AGREEMENTS];
    metrics_agreement(a, nothing, 2);
    for (int i = 0; i < AGREEMENTS; i++) CHECK(isnan(a[i]));
    metrics_agreement(a, one_class, 2);
    CHECK(a[AGREEMENT_ACCURACY] == 1 && a[AGREEMENT_MACRO_F1] == 1 && a[AGREEMENT_MAE] == 0);
    CHECK(isnan(a[AGREEMENT_KAPPA]) && isnan(a[AGREEMENT_QUADRATIC_KAPPA]));
    CHECK(isnan(metrics_gaussian(p, p, p, 0).nll));
    double flat[3] = {1, 1, 1};
    struct regression r = metrics_regression(p, flat, 3);
    CHECK(isnan(r.r2) && isnan(r.pearson));
    CHECK_NEAR(r.mae, 0.6, 1e-15);
    CHECK(isnan(metrics_regression(p, p, 0).mae));
}

int main(void) {
    CASE(scikit_learn);
    CASE(predicted_spread);
    CASE(agreement_of_classes);
    CASE(concordance_of_risks);
    CASE(shared_fixture);
    CASE(weights_are_repetitions);
    CASE(concordance_is_pair_counting);
    CASE(concordance_at_equal_times);
    CASE(undefined_is_nan);
    return check_finish();
}
