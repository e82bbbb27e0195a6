/* SPDX-License-Identifier: MIT
 * Evaluation: results of a small cohort counted by hand, unknown labels and one-class labels, intervals against their own
 * definition and against the normal approximation, and the files as a program would read them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/csv.h"
#include "core/file.h"
#include "core/json.h"
#include "core/rng.h"
#include "tests/support/check.h"
#include "train/report/bootstrap.h"
#include "train/report/evaluation.h"

static char *labels[] = {"AF", "all present", "never known", "a \"b\", c"};
static char *targets[] = {"age"};
static char *ids[] = {"r0", "r1", "dir/r2", "r,3", "r4", "r5"};

#define U EVALUATION_UNKNOWN
/* clang-format off */
static const float logits[] = {-2, 1, 0,  3,    /* r0 */
                               -1, 1, 0,  2,
                                0, 2, 0,  1,
                                1, 3, 0,  0,
                                2, 4, 0, -1,
                                9, 5, 0, -2};
static const uint8_t truth[] = {0, 1, U, 0,
                                1, 1, U, 0,
                                0, 1, U, 1,
                                1, U, U, 0,
                                1, 1, U, 1,
                                U, 1, U, 1};
/* clang-format on */
static const float ages[] = {30, 40, 50, 60, 70, 80}, known_ages[] = {32, 40, NAN, 56, 70, 90};

static struct evaluation_input small_cohort(void) {
    return (struct evaluation_input){.n = 6,
                                     .record_ids = ids,
                                     .n_labels = 4,
                                     .label_names = labels,
                                     .logits = logits,
                                     .labels = truth,
                                     .n_targets = 1,
                                     .target_names = targets,
                                     .predictions = ages,
                                     .targets = known_ages};
}

static void counted_by_hand(void) {
    const double thresholds[] = {0.5, 0.9, 0.5, NAN};
    struct evaluation_input in = small_cohort();
    struct evaluation e;
    in.thresholds = thresholds;
    if (!CHECK_OK(evaluation_run(&e, &in))) return;
    const struct label_result *r =
        &e.labels[0]; /* scores -2 -1 0 1 2 for 0 1 0 1 1: 5 of 6 pairs won */
    CHECK(r->n == 5 && r->positives == 3);
    CHECK_NEAR(r->auroc, 5.0 / 6, 1e-15);
    CHECK_NEAR(r->auprc, (1.0 + 1.0 + 3.0 / 4) / 3, 1e-15);
    CHECK_NEAR(r->sensitivity, 2.0 / 3, 1e-15); /* p(0) = 0.5 counts as positive: one false alarm */
    CHECK_NEAR(r->specificity, 1.0 / 2, 1e-15);
    CHECK_NEAR(r->f1, 4.0 / 6, 1e-15);
    r = &e.labels[1]; /* one class: no rank, but a Brier score and a sensitivity */
    CHECK(r->n == 5 && r->positives == 5 && isnan(r->auroc) && isnan(r->auprc) &&
          isnan(r->specificity));
    CHECK_NEAR(r->sensitivity, 2.0 / 5, 1e-15);
    CHECK(r->brier > 0);
    r = &e.labels[2];
    CHECK(r->n == 0 && isnan(r->auroc) && isnan(r->brier) && isnan(r->f1));
    CHECK(isnan(e.labels[3].sensitivity) && isnan(e.labels[3].threshold));
    CHECK(e.n_ranked == 2 && e.resamples == 0 && isnan(e.macro_auroc_ci.low));
    CHECK_NEAR(e.macro_auroc, (5.0 / 6 + e.labels[3].auroc) / 2, 1e-15);
    CHECK(e.targets[0].n == 5);
    CHECK_NEAR(e.targets[0].r.mae, (2 + 0 + 4 + 0 + 10) / 5.0, 1e-12);
    evaluation_free(&e);
    evaluation_free(&e);
}

static void bad_outputs_are_refused(void) {
    struct evaluation_input in = small_cohort();
    struct evaluation e;
    float broken[24];
    memcpy(broken, logits, sizeof broken);
    broken[4] = NAN;
    in.logits = broken;
    CHECK_FAILS(evaluation_run(&e, &in), ECG_ERR_DATA, "r1");
    CHECK(e.labels == NULL);
    broken[4] = logits[4];
    broken[20] = INFINITY; /* where the truth is unknown nothing is measured */
    if (CHECK_OK(evaluation_run(&e, &in))) evaluation_free(&e);
    uint8_t odd[24];
    memcpy(odd, truth, sizeof odd);
    odd[0] = 2;
    in = small_cohort();
    in.labels = odd;
    CHECK_FAILS(evaluation_run(&e, &in), ECG_ERR_DATA, "AF");
    float far[6];
    memcpy(far, ages, sizeof far);
    far[5] = -INFINITY;
    in = small_cohort();
    in.predictions = far;
    CHECK_FAILS(evaluation_run(&e, &in), ECG_ERR_DATA, "age");
}

static void thresholds_are_youdens(void) {
    struct evaluation_input in = small_cohort();
    double t[4];
    if (!CHECK_OK(evaluation_thresholds(&in, t))) return;
    CHECK(t[0] == evaluation_prob(1)); /* 2 of 3 found, no false alarm */
    CHECK(isnan(t[1]) && isnan(t[2]) && !isnan(t[3]));
}

/* N records of two a patient, normal scores one standard deviation apart. */
struct cohort {
    size_t n;
    float *logits;
    uint8_t *labels;
    uint64_t *patients;
};

static struct cohort draw_cohort(size_t n) {
    struct cohort c = {n, calloc(n, sizeof(float)), calloc(n, 1), calloc(n, sizeof(uint64_t))};
    struct rng r;
    rng_init(&r, 11, 1000, 0, 0);
    for (size_t i = 0; c.logits && c.labels && c.patients && i < n; i++) {
        c.labels[i] = rng_uniform(&r) < 0.4;
        c.logits[i] = (float)(rng_normal(&r) + c.labels[i]);
        c.patients[i] = UINT64_C(0x9E3779B97F4A7C15) * (i / 2 + 1);
    }
    return c;
}

static void free_cohort(struct cohort *c) {
    free(c->logits);
    free(c->labels);
    free(c->patients);
}

static struct evaluation_input cohort_input(const struct cohort *c) {
    return (struct evaluation_input){.n = c->n,
                                     .n_labels = 1,
                                     .label_names = labels,
                                     .logits = c->logits,
                                     .labels = c->labels,
                                     .intervals = true,
                                     .seed = 1};
}

/* Hanley and McNeil's standard error of an AUROC. */
static double standard_error(double a, double p, double n) {
    double q1 = a / (2 - a), q2 = 2 * a * a / (1 + a);
    return sqrt((a * (1 - a) + (p - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / (p * n));
}

static void intervals_are_as_wide_as_theory(void) {
    struct cohort c = draw_cohort(2000);
    struct evaluation_input in = cohort_input(&c);
    struct evaluation e, again;
    if (CHECK_OK(evaluation_run(&e, &in))) {
        const struct label_result *r = &e.labels[0];
        CHECK(e.resamples == 1000 && e.n_patients == 2000);
        double wide = 2 * 1.96 *
                      standard_error(r->auroc, (double)r->positives, (double)(r->n - r->positives));
        double width = r->auroc_ci.high - r->auroc_ci.low;
        CHECK(r->auroc_ci.low < r->auroc && r->auroc < r->auroc_ci.high);
        CHECK(r->auprc_ci.low < r->auprc && r->auprc < r->auprc_ci.high);
        CHECK_NEAR(width / wide, 1, 0.15);
        CHECK(e.macro_auroc_ci.low == r->auroc_ci.low && e.macro_auprc_ci.high == r->auprc_ci.high);
        check_note("width %.4f, Hanley-McNeil %.4f", width, wide);
        if (CHECK_OK(evaluation_run(&again, &in))) CHECK(!memcmp(&again.labels[0], r, sizeof *r));
        evaluation_free(&again);
        in.patients = c.patients;
        if (CHECK_OK(evaluation_run(&again, &in))) CHECK(again.n_patients == 1000);
        CHECK(again.labels[0].auroc == r->auroc && again.labels[0].auroc_ci.low != r->auroc_ci.low);
        evaluation_free(&again);
    }
    evaluation_free(&e);
    free_cohort(&c);
}

/* Whole patients are drawn: with every record doubled under one patient, metrics and intervals stay what they were. */
static void patients_are_drawn_whole(void) {
    struct cohort c = draw_cohort(300), twice = draw_cohort(600);
    for (size_t i = 0; i < 600; i++) {
        twice.logits[i] = c.logits[i / 2];
        twice.labels[i] = c.labels[i / 2];
        twice.patients[i] = i / 2; /* in rising order, as units are numbered */
    }
    struct evaluation_input in = cohort_input(&c), in2 = cohort_input(&twice);
    in2.patients = twice.patients;
    struct evaluation e, e2;
    CHECK_OK(evaluation_run(&e, &in));
    CHECK_OK(evaluation_run(&e2, &in2));
    if (CHECK(e.labels && e2.labels)) {
        CHECK_NEAR(e2.labels[0].auroc, e.labels[0].auroc, 1e-14);
        CHECK_NEAR(e2.labels[0].auroc_ci.low, e.labels[0].auroc_ci.low, 1e-14);
        CHECK_NEAR(e2.labels[0].auprc_ci.high, e.labels[0].auprc_ci.high, 1e-14);
    }
    evaluation_free(&e);
    evaluation_free(&e2);
    free_cohort(&c);
    free_cohort(&twice);
}

static void resamples_fall_with_size(void) {
    CHECK(bootstrap_resamples(10) == 1000 && bootstrap_resamples(5000) == 1000);
    CHECK(bootstrap_resamples(40000) == 500 && bootstrap_resamples(10000000) == 200);
}

static const struct json *member(const struct json *v, const char *a, const char *b) {
    v = v ? json_get(v, a) : NULL;
    return v ? json_get(v, b) : NULL;
}

static void check_json(const char *path, const struct evaluation *e) {
    char *data = NULL;
    size_t n;
    struct json *root = NULL;
    if (!CHECK_OK(file_read(path, 1 << 20, &data, &n)) ||
        !CHECK_OK(json_parse(&root, data, n, path))) {
        free(data);
        return;
    }
    const struct json *af = member(root, "labels", "AF"),
                      *none = member(root, "labels", "all present");
    CHECK(json_number(member(root, "macro", "auroc")) == e->macro_auroc);
    CHECK(json_number(json_get(af, "auroc")) == e->labels[0].auroc);
    CHECK(json_integer(json_get(af, "positives")) == 3);
    CHECK(json_is_null(json_get(af, "threshold")) && json_is_null(json_get(af, "f1")));
    CHECK(json_size(json_get(af, "auroc_ci")) == 2);
    CHECK(json_number(json_at(json_get(af, "auroc_ci"), 0)) == e->labels[0].auroc_ci.low);
    CHECK(json_is_null(json_get(none, "auroc")) && json_is_null(json_get(none, "auroc_ci")));
    CHECK(member(root, "labels", "a \"b\", c") != NULL);
    CHECK(json_number(json_get(member(root, "targets", "age"), "rmse")) == e->targets[0].r.rmse);
    CHECK(json_size(json_get(member(root, "targets", "age"), "mae_ci")) == 2);
    json_free(root);
    free(data);
}

static void check_csv(const char *path) {
    struct csv c;
    if (!CHECK_OK(csv_read(&c, path))) return;
    CHECK(c.n_rows == 6 && c.n_columns == 11);
    int prob = csv_column(&c, "AF_prob"), known = csv_column(&c, "AF_true"),
        age = csv_column(&c, "age_true");
    if (CHECK(prob > 0 && known > 0 && age > 0 && csv_column(&c, "a \"b\", c_prob") > 0)) {
        CHECK_STR(c.cells[3 * c.n_columns], "r,3");
        CHECK_NEAR(strtod(c.cells[1 * c.n_columns + (size_t)prob], NULL), evaluation_prob(-1),
                   1e-9);
        CHECK_STR(c.cells[4 * c.n_columns + (size_t)known], "1");
        CHECK_STR(c.cells[5 * c.n_columns + (size_t)known], ""); /* unknown */
        CHECK_STR(c.cells[2 * c.n_columns + (size_t)age], "");
        CHECK_STR(c.cells[5 * c.n_columns + (size_t)age], "90");
    }
    csv_free(&c);
}

static void files_hold_the_results(void) {
    char dir[4096], path[4200];
    struct evaluation_input in = small_cohort();
    struct evaluation e;
    in.intervals = true;
    if (!CHECK_OK(evaluation_run(&e, &in))) return;
    snprintf(dir, sizeof dir, "%s/a/out", check_tmp());
    if (CHECK_OK(evaluation_write(&e, &in, dir))) {
        snprintf(path, sizeof path, "%s/metrics.json", dir);
        check_json(path, &e);
        snprintf(path, sizeof path, "%s/predictions.csv", dir);
        check_csv(path);
    }
    CHECK_FAILS(evaluation_write(&e, &in, path), ECG_ERR_CREATE,
                "predictions.csv"); /* a file, not a folder */
    char *table = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&table, &n);
    if (CHECK(f != NULL)) {
        evaluation_print(&e, &in, f);
        fclose(f);
        CHECK(strstr(table, "over 2 of 4 labels") && strstr(table, "never known") &&
              strstr(table, "age"));
        CHECK(!strstr(table, "nan"));
    }
    free(table);
    evaluation_free(&e);
}

int main(void) {
    CASE(counted_by_hand);
    CASE(bad_outputs_are_refused);
    CASE(thresholds_are_youdens);
    CASE(intervals_are_as_wide_as_theory);
    CASE(patients_are_drawn_whole);
    CASE(resamples_fall_with_size);
    CASE(files_hold_the_results);
    return check_finish();
}
