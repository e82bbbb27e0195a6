/* SPDX-License-Identifier: MIT
 * The simulator's outcomes against their laws, as data/simulator.h states them. */
#include <math.h>
#include <string.h>

#include "data/simulator.h"
#include "tests/support/check.h"

struct outcome {
    struct simulated t;
    bool died, is_low, fibrillates;
    double days, log_hazard, lvef, mean, sd, rate;
};
static const struct simulator_options fated = {
    .seed = 11, .sampling_rate = 2, .seconds = 4, .noise = 0, .outcomes = true};

static int label(const char *name) {
    return names_find(simulator_labels(&fated), name);
}

static bool outcome_make(uint64_t number, struct outcome *out) {
    double mv[12 * 8];
    if (!CHECK_OK(simulator_record(&fated, number, mv, &out->t))) return false;
    const struct names *l = simulator_labels(&fated), *t = simulator_targets(&fated);
    const float *v = out->t.targets;
    out->died = out->t.labels[names_find(l, "death")];
    out->is_low = out->t.labels[names_find(l, "low_lvef")];
    out->fibrillates = out->t.labels[label("atrial_fibrillation")];
    out->days = v[names_find(t, "follow_up_days")];
    out->log_hazard = v[names_find(t, "log_hazard")];
    out->lvef = v[names_find(t, "lvef")];
    out->mean = v[names_find(t, "lvef_mean")];
    out->sd = v[names_find(t, "lvef_sd")];
    out->rate = v[names_find(t, "heart_rate")];
    return true;
}

static void outcomes_change_nothing_else(void) {
    struct simulator_options plain = fated;
    plain.outcomes = false;
    CHECK(simulator_labels(&plain)->n == 18 && simulator_labels(&fated)->n == 20);
    CHECK(simulator_targets(&plain)->n == 7 && simulator_targets(&fated)->n == 12);
    for (uint64_t n = 0; n < 200; n++) {
        double a[12 * 8], b[12 * 8];
        struct simulated with, without;
        if (!CHECK_OK(simulator_record(&fated, n, a, &with)) ||
            !CHECK_OK(simulator_record(&plain, n, b, &without)))
            return;
        CHECK(!memcmp(a, b, sizeof a));
        CHECK(!memcmp(with.labels, without.labels, 18));
        CHECK(!memcmp(with.targets, without.targets, 7 * sizeof(float)));
    }
}

/* The formulas of the header, from the record's own columns. */
static void outcomes_follow_their_formulas(void) {
    double worst = 0;
    for (uint64_t n = 0; n < 2000; n++) {
        struct outcome o;
        if (!outcome_make(n, &o)) return;
        const uint8_t *l = o.t.labels;
        const int lbbb = l[label("lbbb")], lvh = l[label("lvh")], af = o.fibrillates;
        CHECK(o.days == floor(o.days) && o.days >= 1 && o.days <= 3650);
        CHECK(o.is_low == (o.lvef < 50) && o.sd == (af ? 8 : 4));
        if (isnan(o.rate)) continue;
        const double hazard =
            -8.3 + 0.035 * (o.rate - 75) + 1.2 * af + 1.5 * lbbb + lvh + 0.8 * l[label("long_qt")];
        const double mean = 62 - 0.15 * (o.rate - 75) - 16 * lbbb - 10 * af - 6 * lvh -
                            12 * l[label("anterior_st_elevation")];
        worst = fmax(worst, fmax(fabs(hazard - o.log_hazard), fabs(mean - o.mean)));
    }
    check_note("largest difference %.1e", worst);
    CHECK(worst <= 1e-5);
}

/* Of an exponential law, deaths and summed hazard agree whatever the censoring, at any level of risk and in any part of the
 * follow-up (the martingale of a counting process). */
static void deaths_are_exponential(void) {
    enum { N = 20000, LEVELS = 3, PARTS = 3 };
    double deaths[LEVELS][PARTS] = {{0}}, expected[LEVELS][PARTS] = {{0}}, censored = 0;
    for (uint64_t n = 0; n < N; n++) {
        struct outcome o;
        if (!outcome_make(n, &o)) return;
        const int level = o.log_hazard < -8 ? 0 : o.log_hazard < -7 ? 1 : 2;
        censored += !o.died;
        for (int k = 0; k < PARTS; k++) {
            const double from = 400 * k, to = k + 1 < PARTS ? 400 * (k + 1) : 1e9;
            const double lived = fmin(o.days, to) - from;
            if (lived > 0) expected[level][k] += lived * exp(o.log_hazard);
            deaths[level][k] += o.died && o.days > from && o.days <= to;
        }
    }
    for (int i = 0; i < LEVELS; i++)
        for (int k = 0; k < PARTS; k++) {
            const double z = (deaths[i][k] - expected[i][k]) / sqrt(expected[i][k]);
            check_note("risk %d, part %d: %.0f deaths, %.1f expected", i, k, deaths[i][k],
                       expected[i][k]);
            CHECK(expected[i][k] > 100 && fabs(z) < 4);
        }
    check_note("%.1f %% censored", 100 * censored / N);
    CHECK(censored > 0.45 * N && censored < 0.55 * N);
}

static void lvef_scatters_as_stated(void) {
    double sum[2] = {0}, square[2] = {0}, within[2] = {0}, n[2] = {0};
    for (uint64_t i = 0; i < 20000; i++) {
        struct outcome o;
        if (!outcome_make(i, &o)) return;
        const double z = (o.lvef - o.mean) / o.sd;
        const int k = o.fibrillates;
        n[k]++, sum[k] += z, square[k] += z * z, within[k] += fabs(z) < 0.674489750196;
    }
    for (int k = 0; k < 2; k++) {
        check_note("%.0f records: mean %.3f, variance %.3f, half %.3f", n[k], sum[k] / n[k],
                   square[k] / n[k], within[k] / n[k]);
        CHECK(fabs(sum[k] / n[k]) < 4 / sqrt(n[k]));
        CHECK(fabs(square[k] / n[k] - 1) < 4 * sqrt(2 / n[k]));
        CHECK(fabs(within[k] / n[k] - 0.5) < 4 * 0.5 / sqrt(n[k]));
    }
}

int main(void) {
    CASE(outcomes_change_nothing_else);
    CASE(outcomes_follow_their_formulas);
    CASE(deaths_are_exponential);
    CASE(lvef_scatters_as_stated);
    return check_finish();
}
