/* SPDX-License-Identifier: MIT
 * Evaluation of groups of classes, times to an event and targets with a standard deviation: a small cohort counted by hand,
 * classes against the same columns as labels, intervals against resamples that are written out, and the files as a program
 * would read them. */
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

#define U EVALUATION_UNKNOWN

static char *ids[] = {"r0", "r1", "r2", "r3", "r4", "r5"};
static char *stages[] = {"mild", "moderate", "severe"};
static char *sexes[] = {"f", "m"};
static char *targets[] = {"age", "LVEF"};
/* clang-format off */
static const float stage_scores[] = { 2, -1, -3,  /* mild, true */
                                      1,  1, -2,  /* equal: the first, mild; moderate is true */
                                     -4, -1,  3,  /* severe, true */
                                     -1,  2, -2,  /* moderate; severe is true */
                                      3,  0, -1,  /* mild; severe is true */
                                      0,  1,  0}; /* unknown */
static const float sex_scores[] = {1, -1,  -1, 1,  2, -2,  -3, 3,  1, -1,  1, -1};
static const int stage[] = {0, 1, 2, 2, 2, -1}, sex[] = {0, 1, 0, 1, 1, -1};
static const float risk[] = {3, 2, 2, 1, 9, 5};
static const uint8_t event[] = {1, 1, 0, 0, 1, U};
static const float waited[] = {1, 2, 2, 5, NAN, 3};
static const float predictions[] = {60, 50,  70, 40,  50, 30,  40, 60,  80, 55,  20, 20};
static const float truth[] =       {62, 50,  60, NAN, 50, 36,  44, 61,  80, 55,  NAN, NAN};
static const float sds[] =         { 1, NAN, 4, NAN,   2, NAN, NAN, NAN, 3, NAN, 1, NAN};
/* clang-format on */

static const struct evaluation_classes groups[] = {{"stage", 3, stages, true, stage_scores, stage},
                                                   {"sex", 2, sexes, false, sex_scores, sex}};
static const struct evaluation_survival death = {"death", risk, event, waited};

static struct evaluation_input small_cohort(void) {
    return (struct evaluation_input){.n = 6,
                                     .record_ids = ids,
                                     .n_targets = 2,
                                     .target_names = targets,
                                     .predictions = predictions,
                                     .targets = truth,
                                     .sds = sds,
                                     .n_groups = 2,
                                     .groups = groups,
                                     .n_survivals = 1,
                                     .survivals = &death};
}

static void check_groups(const struct evaluation *e) {
    const struct group_result *r = &e->groups[0];
    /* called: 0 0 2 1 0, true: 0 1 2 2 2 */
    const uint64_t counts[9] = {1, 0, 0, 1, 0, 0, 1, 1, 1};
    CHECK(r->n == 5 && !memcmp(r->counts, counts, sizeof counts));
    CHECK_NEAR(r->value[AGREEMENT_ACCURACY], 2.0 / 5, 1e-15);
    CHECK_NEAR(r->value[AGREEMENT_BALANCED_ACCURACY], (1 + 0 + 1.0 / 3) / 3, 1e-15);
    CHECK_NEAR(r->value[AGREEMENT_MACRO_F1], (2.0 / 4 + 0 + 2.0 / 4) / 3, 1e-15);
    CHECK_NEAR(r->value[AGREEMENT_KAPPA], 1 - (3.0 / 5) / (1 - (3 + 1 + 3) / 25.0), 1e-15);
    CHECK_NEAR(r->value[AGREEMENT_MAE], (0 + 1 + 0 + 1 + 2) / 5.0, 1e-15);
    CHECK_NEAR(r->value[AGREEMENT_QUADRATIC_KAPPA],
               1 - 6.0 * 5 / (1 * (1 * 1 + 1 * 4) + 1 * (3 + 1) + 3 * (3 * 4 + 1)), 1e-15);
    const struct label_result *severe = &r->classes[2];
    CHECK(severe == &e->labels[2] && severe->n == 5 && severe->positives == 3);
    CHECK_NEAR(severe->sensitivity, 1.0 / 3, 1e-15);
    CHECK(severe->specificity == 1 && severe->ppv == 1 && isnan(severe->threshold));
    CHECK_NEAR(severe->npv, 2.0 / 4, 1e-15);
    CHECK_NEAR(severe->f1, 2.0 / 4, 1e-15);
    CHECK_NEAR(severe->auroc, 5.5 / 6, 1e-15); /* 3 -2 -1 against -3 -2 */
    r = &e->groups[1];
    CHECK(r->n == 5 && r->value[AGREEMENT_ACCURACY] == 4.0 / 5 && r->classes == &e->labels[3]);
    CHECK(isnan(r->value[AGREEMENT_QUADRATIC_KAPPA]) && isnan(r->value[AGREEMENT_MAE]));
    CHECK(isnan(r->ci[AGREEMENT_ACCURACY].low));
    CHECK(e->n_columns == 5 && e->n_ranked == 5);
    double sum = 0;
    for (size_t k = 0; k < 5; k++) sum += e->labels[k].auroc;
    CHECK_NEAR(e->macro_auroc, sum / 5, 1e-15);
}

static void counted_by_hand(void) {
    struct evaluation_input in = small_cohort();
    struct evaluation e;
    if (!CHECK_OK(evaluation_run(&e, &in))) return;
    check_groups(&e);
    /* r0 before r1, r2, r3; r1 before r3, and before r2 that was censored then: risks equal */
    const struct survival_result *s = &e.survivals[0];
    CHECK(s->n == 4 && s->events == 2 && s->c.pairs == 5);
    CHECK_NEAR(s->c.index, 4.5 / 5, 1e-15);
    CHECK(isnan(s->c_index_ci.low));
    const struct target_result *t = &e.targets[0]; /* errors 2 10 0 4 0; with sd 2/1 10/4 0/2 0/3 */
    CHECK(t->n == 5 && t->n_sd == 4);
    CHECK_NEAR(t->r.mae, 16.0 / 5, 1e-12);
    CHECK_NEAR(t->g.coverage, 2.0 / 4, 1e-15);
    CHECK_NEAR(t->g.nll, 0.5 * log(2 * M_PI) + (log(24) + 2 + 3.125) / 4, 1e-12);
    t = &e.targets[1];
    CHECK(t->n == 4 && t->n_sd == 0 && isnan(t->g.nll) && isnan(t->g.coverage));
    CHECK_NEAR(t->r.mae, 7.0 / 4, 1e-12);
    CHECK_STR(e.main.name, "macro_auroc");
    CHECK(e.main.value == e.macro_auroc);
    evaluation_free(&e);
    evaluation_free(&e);
}

static void refused(struct evaluation_input in, const char *text) {
    struct evaluation e;
    CHECK_FAILS(evaluation_run(&e, &in), ECG_ERR_DATA, text);
    CHECK(e.labels == NULL && e.groups == NULL);
}

static void bad_input_is_refused(void) {
    struct evaluation_input in = small_cohort();
    struct evaluation_classes group = groups[0];
    int odd[6] = {0, 1, 3, 2, 2, -1};
    float scores[18], far[12];
    in.n_groups = 1;
    in.groups = &group;
    group.truth = odd;
    refused(in, "record r2, stage: class 3");
    odd[2] = -2;
    refused(in, "record r2, stage: class -2");
    group.truth = stage;
    group.scores = memcpy(scores, stage_scores, sizeof scores);
    scores[4] = NAN;
    refused(in, "record r1, stage moderate");
    scores[4] = 1;
    scores[17] = INFINITY; /* where the truth is unknown nothing is measured */
    struct evaluation e;
    if (CHECK_OK(evaluation_run(&e, &in))) evaluation_free(&e);
    group.n_classes = 1;
    CHECK_FAILS(evaluation_run(&e, &in), ECG_ERR_CONFIG, "stage: 1 classes");
    in = small_cohort();
    struct evaluation_survival survival = death;
    uint8_t strange[6] = {1, 2, 0, 0, 1, U};
    in.survivals = &survival;
    survival.event = strange;
    refused(in, "record r1, event death: 2");
    survival.event = event;
    survival.risk = memcpy(far, risk, sizeof risk);
    far[3] = NAN;
    refused(in, "record r3, event death");
    in = small_cohort();
    in.sds = memcpy(far, sds, sizeof sds);
    far[4] = 0;
    refused(in, "record r2, target age: a standard deviation of 0");
    far[4] = INFINITY;
    refused(in, "record r2, target age: a standard deviation of inf");
}

/* The first defined of macro AUROC, C-index, MAE, accuracy. */
static void main_metric_is_the_first_defined(void) {
    struct evaluation_input in = small_cohort();
    struct evaluation_classes group = groups[1];
    struct evaluation e;
    int one[6] = {1, 1, 1, -1, -1, -1};
    float never[12];
    group.truth = one; /* no AUROC */
    in.n_groups = 1;
    in.groups = &group;
    if (CHECK_OK(evaluation_run(&e, &in))) {
        CHECK_STR(e.main.name, "c_index");
        CHECK(e.main.value == e.survivals[0].c.index);
    }
    evaluation_free(&e);
    in.n_survivals = 0;
    if (CHECK_OK(evaluation_run(&e, &in))) {
        CHECK_STR(e.main.name, "mae");
        CHECK(e.main.value == e.targets[0].r.mae);
    }
    evaluation_free(&e);
    for (size_t i = 0; i < 12; i++) never[i] = NAN;
    in.targets = never;
    if (CHECK_OK(evaluation_run(&e, &in))) {
        CHECK_STR(e.main.name, "accuracy");
        CHECK_NEAR(e.main.value, 1.0 / 3, 1e-15);
    }
    evaluation_free(&e);
    in.n_groups = 0;
    if (CHECK_OK(evaluation_run(&e, &in))) {
        CHECK_STR(e.main.name, "macro_auroc");
        CHECK(isnan(e.main.value));
    }
    evaluation_free(&e);
}

/* A cohort of several records a patient: a group of four classes, and a time to an event. */
enum { N = 90, PATIENTS = 60, G = 4 };
struct cohort {
    float scores[N * G], risk[N], time[N];
    uint8_t labels[N * G], event[N];
    int truth[N];
    uint64_t patients[N];
    struct evaluation_classes group;
    struct evaluation_survival survival;
};
static char *letters[] = {"a", "b", "c", "d"};

static void draw_cohort(struct cohort *c) {
    struct rng r;
    rng_init(&r, 12, 1000, 0, 0);
    for (size_t i = 0; i < N; i++) {
        c->truth[i] = (int)rng_below(&r, G + 1) - 1;
        for (int k = 0; k < G; k++) {
            c->scores[i * G + (size_t)k] = (float)(rng_normal(&r) + (k == c->truth[i]));
            c->labels[i * G + (size_t)k] = c->truth[i] < 0 ? U : k == c->truth[i];
        }
        c->risk[i] = (float)rng_below(&r, 12);
        c->time[i] = (float)ceil(rng_uniform(&r) * (20 - c->risk[i]));
        c->event[i] = (uint8_t)(i % 11 == 0 ? U : rng_uniform(&r) < 0.5);
        c->patients[i] = i % PATIENTS; /* in rising order, as units are numbered */
    }
    c->group = (struct evaluation_classes){"letter", G, letters, true, c->scores, c->truth};
    c->survival = (struct evaluation_survival){"end", c->risk, c->event, c->time};
}

/* One class against the others is a label: the same areas, the same intervals, bit for bit. */
static void classes_are_labels(void) {
    struct cohort c;
    draw_cohort(&c);
    struct evaluation_input as_group = {.n = N,
                                        .patients = c.patients,
                                        .n_groups = 1,
                                        .groups = &c.group,
                                        .intervals = true,
                                        .seed = 3},
                            as_labels = {.n = N,
                                         .patients = c.patients,
                                         .n_labels = G,
                                         .label_names = letters,
                                         .logits = c.scores,
                                         .labels = c.labels,
                                         .intervals = true,
                                         .seed = 3};
    struct evaluation e, e2;
    CHECK_OK(evaluation_run(&e, &as_group));
    CHECK_OK(evaluation_run(&e2, &as_labels));
    if (CHECK(e.labels && e2.labels && e.resamples == 1000)) {
        for (size_t k = 0; k < G; k++) {
            const struct label_result *a = &e.labels[k], *b = &e2.labels[k];
            CHECK(a->n == b->n && a->positives == b->positives && a->auroc == b->auroc);
            CHECK(a->auprc == b->auprc && a->brier == b->brier);
            CHECK(!memcmp(&a->auroc_ci, &b->auroc_ci, sizeof a->auroc_ci));
            CHECK(!memcmp(&a->auprc_ci, &b->auprc_ci, sizeof a->auprc_ci));
            CHECK(!isnan(a->f1) && isnan(b->f1));
        }
        CHECK(e.macro_auroc == e2.macro_auroc && e.n_ranked == G);
        CHECK(!memcmp(&e.macro_auprc_ci, &e2.macro_auprc_ci, sizeof e.macro_auprc_ci));
        CHECK(!memcmp(&e.main.ci, &e.macro_auroc_ci, sizeof e.main.ci));
    }
    evaluation_free(&e);
    evaluation_free(&e2);
}

/* One resample written out: accuracy, error in classes, C-index by counting. */
struct resample {
    double accuracy, mae, c_index;
};

static struct resample count_resample(const struct cohort *c, const size_t *record, size_t n) {
    double hits = 0, steps = 0, known = 0, won = 0, pairs = 0;
    for (size_t a = 0; a < n; a++) {
        size_t i = record[a];
        if (c->truth[i] >= 0) {
            int called = (int)evaluation_call(c->scores + i * G, G);
            known++;
            hits += called == c->truth[i];
            steps += abs(called - c->truth[i]);
        }
        if (c->event[i] != 1) continue;
        for (size_t b = 0; b < n; b++) {
            size_t j = record[b];
            if (c->event[j] == U || c->time[j] < c->time[i]) continue;
            if (c->time[j] == c->time[i] && c->event[j] == 1) continue;
            pairs++;
            won += c->risk[i] > c->risk[j] ? 1 : c->risk[i] == c->risk[j] ? 0.5 : 0;
        }
    }
    return (struct resample){hits / known, steps / known, won / pairs};
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of 1000 values the quantiles fall on 24.975 and 974.025. */
static void check_interval(struct interval i, double v[1000]) {
    qsort(v, 1000, sizeof *v, by_value);
    CHECK_NEAR(i.low, v[24] + 0.975 * (v[25] - v[24]), 1e-12);
    CHECK_NEAR(i.high, v[974] + 0.025 * (v[975] - v[974]), 1e-12);
    CHECK(i.low < i.high);
}

static void intervals_are_those_of_written_out_resamples(void) {
    struct cohort c;
    static double accuracy[1000], mae[1000], c_index[1000];
    draw_cohort(&c);
    for (uint32_t r = 0; r < 1000; r++) {
        size_t record[N * 8], n = 0;
        struct rng rng;
        rng_init(&rng, 4, RNG_BOOTSTRAP, r, 0);
        for (size_t i = 0; i < PATIENTS; i++)
            for (size_t at = rng_below(&rng, PATIENTS); at < N && n < N * 8; at += PATIENTS)
                record[n++] = at;
        struct resample v = count_resample(&c, record, n);
        accuracy[r] = v.accuracy;
        mae[r] = v.mae;
        c_index[r] = v.c_index;
    }
    struct evaluation_input in = {.n = N,
                                  .patients = c.patients,
                                  .n_groups = 1,
                                  .groups = &c.group,
                                  .n_survivals = 1,
                                  .survivals = &c.survival,
                                  .intervals = true,
                                  .seed = 4};
    struct evaluation e;
    if (!CHECK_OK(evaluation_run(&e, &in))) return;
    const struct group_result *g = &e.groups[0];
    CHECK(e.n_patients == PATIENTS);
    check_interval(g->ci[AGREEMENT_ACCURACY], accuracy);
    check_interval(g->ci[AGREEMENT_MAE], mae);
    check_interval(e.survivals[0].c_index_ci, c_index);
    for (int i = 0; i < AGREEMENTS; i++)
        CHECK(g->ci[i].low < g->value[i] && g->value[i] < g->ci[i].high);
    check_note("C-index %.3f (%.3f-%.3f)", e.survivals[0].c.index, e.survivals[0].c_index_ci.low,
               e.survivals[0].c_index_ci.high);
    evaluation_free(&e);
}

static const struct json *member(const struct json *v, const char *a, const char *b) {
    v = v ? json_get(v, a) : NULL;
    return v ? json_get(v, b) : NULL;
}

static double number(const struct json *v, const char *key) {
    return v ? json_number(json_get(v, key)) : NAN;
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
    const struct json *s = member(root, "classes", "stage"),
                      *sexed = member(root, "classes", "sex"),
                      *end = member(root, "survivals", "death");
    CHECK_STR(json_string(member(root, "main", "name")), "macro_auroc");
    CHECK(json_number(member(root, "main", "value")) == e->macro_auroc);
    CHECK(json_size(member(root, "main", "ci")) == 2);
    CHECK(json_integer(member(root, "macro", "labels")) == 5);
    CHECK(number(s, "quadratic_kappa") == e->groups[0].value[AGREEMENT_QUADRATIC_KAPPA]);
    CHECK(json_size(json_get(s, "kappa_ci")) == 2 && json_size(json_get(s, "accuracy_ci")) == 2);
    CHECK(json_integer(json_at(json_at(json_get(s, "confusion"), 2), 0)) == 1);
    CHECK(number(member(s, "classes", "severe"), "npv") == 0.5);
    CHECK(json_is_null(json_get(member(s, "classes", "mild"), "threshold")));
    CHECK(number(sexed, "accuracy") == 0.8 && json_get(sexed, "mae") == NULL);
    CHECK(number(end, "c_index") == e->survivals[0].c.index && number(end, "pairs") == 5);
    CHECK(json_integer(json_get(end, "events")) == 2 &&
          json_size(json_get(end, "c_index_ci")) == 2);
    CHECK(number(member(root, "targets", "age"), "nll") == e->targets[0].g.nll);
    CHECK(json_is_null(json_get(member(root, "targets", "LVEF"), "coverage")));
    CHECK(json_size(json_get(root, "labels")) == 0);
    json_free(root);
    free(data);
}

static const char *cell(const struct csv *c, size_t row, const char *name) {
    int column = csv_column(c, name);
    return CHECK(column > 0) ? c->cells[row * c->n_columns + (size_t)column] : "";
}

static void check_csv(const char *path) {
    struct csv c;
    if (!CHECK_OK(csv_read(&c, path))) return;
    CHECK(c.n_rows == 6 && c.n_columns == 1 + 5 + 4 + 3 + 6);
    CHECK_STR(cell(&c, 1, "stage_called"), "mild");
    CHECK_STR(cell(&c, 1, "stage_true"), "moderate");
    CHECK_STR(cell(&c, 5, "stage_true"), "");
    CHECK_NEAR(strtod(cell(&c, 2, "stage_severe_prob"), NULL), evaluation_prob(3), 1e-9);
    CHECK_STR(cell(&c, 3, "sex_called"), "m");
    CHECK_STR(cell(&c, 0, "death_risk"), "3");
    CHECK_STR(cell(&c, 2, "death_event"), "0");
    CHECK_STR(cell(&c, 5, "death_event"), "");
    CHECK_STR(cell(&c, 3, "death_time"), "5");
    CHECK_STR(cell(&c, 4, "death_time"), "");
    CHECK_STR(cell(&c, 1, "age_sd"), "4");
    CHECK_STR(cell(&c, 3, "age_sd"), "");
    CHECK_STR(cell(&c, 3, "LVEF_true"), "61");
    csv_free(&c);
}

static void files_hold_the_results(void) {
    char path[4200];
    struct evaluation_input in = small_cohort();
    struct evaluation e;
    in.intervals = true;
    if (!CHECK_OK(evaluation_run(&e, &in))) return;
    if (CHECK_OK(evaluation_write(&e, &in, check_tmp()))) {
        snprintf(path, sizeof path, "%s/metrics.json", check_tmp());
        check_json(path, &e);
        snprintf(path, sizeof path, "%s/predictions.csv", check_tmp());
        check_csv(path);
    }
    char *table = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&table, &n);
    if (CHECK(f != NULL)) {
        evaluation_print(&e, &in, f);
        fclose(f);
        CHECK(strstr(table, "stage: severe") && strstr(table, "sex: m") && strstr(table, "death"));
        CHECK(strstr(table, "over 5 of 5 labels") && strstr(table, "q.kappa"));
        CHECK(strstr(table, "NLL") && !strstr(table, "nan"));
    }
    free(table);
    evaluation_free(&e);
}

int main(void) {
    CASE(counted_by_hand);
    CASE(bad_input_is_refused);
    CASE(main_metric_is_the_first_defined);
    CASE(classes_are_labels);
    CASE(intervals_are_those_of_written_out_resamples);
    CASE(files_hold_the_results);
    return check_finish();
}
