/* SPDX-License-Identifier: MIT
 * The simulator against the textbook: what a ruler (tests/support/measure) reads off its noise-free signals must lie in
 * the definition of each condition that is labelled, must not where the label is absent, and must agree with the targets.
 * Also: determinism, rates, lengths, noise, patients. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/pool.h"
#include "data/simulator.h"
#include "tests/support/check.h"
#include "tests/support/measure.h"

enum { RECORDS = 1000, LENGTH = 5000, SAMPLES = 12 * LENGTH };
enum { I, II, III, AVR, AVL, AVF, V1, V2, V3, V4, V5, V6 };

static const struct simulator_options clean = {
    .seed = 7, .sampling_rate = 500, .seconds = 10, .noise = 0};

/* ------------------------------------------------------------------ what was simulated and what is seen */

struct seen {
    struct simulated truth;
    struct measured m;
};

static int label(const char *name) {
    return names_find(simulator_labels(&clean), name);
}

static double target(const struct seen *s, const char *name) {
    return s->truth.targets[names_find(simulator_targets(&clean), name)];
}

static bool has(const struct seen *s, const char *name) {
    return s->truth.labels[label(name)] == 1;
}

static bool is_sinus(const struct seen *s) {
    return has(s, "sinus_rhythm") || has(s, "sinus_bradycardia") || has(s, "sinus_tachycardia");
}

/* Records with noise-free signals, measured once for all cases. NULL when one failed. */
static const struct seen *all_seen(void) {
    static struct seen seen[RECORDS];
    static bool is_done;
    if (is_done) return seen;
    static double mv[SAMPLES];
    int unread = 0;
    for (int i = 0; i < RECORDS; i++) {
        if (!CHECK_OK(simulator_record(&clean, (uint64_t)i, mv, &seen[i].truth))) return NULL;
        unread += !measure_ecg(mv, LENGTH, clean.sampling_rate, &seen[i].m);
    }
    check_note("%d of %d records could not be measured", unread, RECORDS);
    CHECK(unread <= RECORDS / 100);
    is_done = true;
    return seen;
}

/* ------------------------------------------------------------------ definitions */

typedef double reading(const struct seen *s);

static double heart_rate(const struct seen *s) {
    return s->m.heart_rate;
}
static double irregularity(const struct seen *s) {
    return s->m.rr_spread_usual;
}
static double p_likeness(const struct seen *s) {
    return s->m.p_likeness;
}
static double pr(const struct seen *s) {
    return s->m.pr_ms;
}
static double qrs(const struct seen *s) {
    return s->m.qrs_ms;
}
static double qtc(const struct seen *s) {
    return s->m.qt_ms / sqrt(60 / s->m.heart_rate);
}
static double axis(const struct seen *s) {
    return s->m.axis_deg;
}
static double early_wide(const struct seen *s) {
    return s->m.n_early_wide;
}
static double early_usual(const struct seen *s) {
    return s->m.n_early_usual;
}
static double sokolow(const struct seen *s) {
    return s->m.sokolow_mv;
}
static double limb_voltage(const struct seen *s) {
    return s->m.limb_mv;
}
static double late_v1(const struct seen *s) {
    return s->m.late_mv[V1];
}
static double late_v6(const struct seen *s) {
    return s->m.late_mv[V6];
}
static double late_i(const struct seen *s) {
    return s->m.late_mv[I];
}
static double q_v6(const struct seen *s) {
    return s->m.s_mv[V6] / s->m.r_mv[V6];
}
static double r_s_v1(const struct seen *s) {
    return s->m.r_mv[V1] / s->m.s_mv[V1];
}
static double t_v6(const struct seen *s) {
    return s->m.t_mv[V6];
}
static double t_v1(const struct seen *s) {
    return s->m.t_mv[V1];
}
static double st_inferior(const struct seen *s) {
    return fmin(s->m.st_mv[II], fmin(s->m.st_mv[III], s->m.st_mv[AVF]));
}
static double st_avl(const struct seen *s) {
    return s->m.st_mv[AVL];
}
static double st_i(const struct seen *s) {
    return s->m.st_mv[I];
}
static double st_v2_v3(const struct seen *s) {
    return fmin(s->m.st_mv[V2], s->m.st_mv[V3]);
}
static double st_v4(const struct seen *s) {
    return s->m.st_mv[V4];
}

/* Which records a rule speaks of, besides the label. */
enum group { ANY, SINUS, SLOW_SINUS, NARROW, NO_FLUTTER, STEADY, WITH_T };

static bool in_group(const struct seen *s, enum group g) {
    switch (g) {
    case SINUS:
        return is_sinus(s);
    case SLOW_SINUS:
        return is_sinus(s) && !has(s, "sinus_tachycardia"); /* P and T stand apart */
    case NARROW:
        return !has(s, "lbbb") && !has(s, "rbbb") && !has(s, "atrial_flutter");
    case NO_FLUTTER:
        return !has(s, "atrial_flutter");
    case STEADY:
        return is_sinus(s) && !has(s, "lbbb");
    case WITH_T: /* a T that has an end, and no P upon it */
        return is_sinus(s) && !has(s, "sinus_tachycardia") && s->m.t_height_mv > 0.2;
    case ANY:
        break;
    }
    return true;
}

/* Of the records with (or without) the label, at least `share` have the reading within [low, high]. */
struct rule {
    const char *label;
    bool with;
    enum group group;
    reading *read;
    const char *what;
    double low, high, share;
};
#define WITH(name, group, read, low, high)                                                         \
    { name, true, group, read, #read, low, high, 0.95 }
#define WITHOUT(name, group, read, low, high)                                                      \
    { name, false, group, read, #read, low, high, 0.95 }

static const struct rule rhythm_rules[] = {
    WITH("sinus_rhythm", ANY, heart_rate, 50, 110),
    WITH("sinus_bradycardia", ANY, heart_rate, 20, 59),
    WITH("sinus_tachycardia", ANY, heart_rate, 100, 180),
    WITHOUT("atrial_fibrillation", SINUS, p_likeness, 0.75, 1),
    WITHOUT("sinus_tachycardia", SINUS, heart_rate, 20, 105),
    WITHOUT("sinus_bradycardia", SINUS, heart_rate, 55, 180),
    WITH("atrial_fibrillation", ANY, irregularity, 0.09, 2),
    WITH("atrial_fibrillation", ANY, p_likeness, -1, 0.75),
    WITH("atrial_fibrillation", ANY, heart_rate, 40, 190),
    WITH("sinus_tachycardia", ANY, irregularity, 0, 0.06),
    WITH("normal_ecg", ANY, irregularity, 0, 0.2),
    WITH("pvc", NO_FLUTTER, early_wide, 1, 40),
    WITHOUT("pvc", SINUS, early_wide, 0, 0),
    WITH("pac", ANY, early_usual, 1, 40),
    WITHOUT("pac", SLOW_SINUS, early_usual, 0, 0),
};

static const struct rule conduction_rules[] = {
    WITH("first_degree_av_block", ANY, pr, 200, 400),
    WITHOUT("first_degree_av_block", SLOW_SINUS, pr, 105, 200),
    WITH("lbbb", NO_FLUTTER, qrs, 120, 220),
    WITH("lbbb", NO_FLUTTER, r_s_v1, 0, 0.4), /* rS or QS in V1 */
    WITH("lbbb", NO_FLUTTER, late_v1, -3, 0),
    WITH("lbbb", NO_FLUTTER, late_v6, 0, 3), /* broad R to its end in V6 and I */
    WITH("lbbb", NO_FLUTTER, late_i, 0, 3),
    WITH("lbbb", NO_FLUTTER, q_v6, 0, 0.25), /* no septal q */
    WITH("lbbb", SINUS, t_v6, -2, 0.05),     /* T against QRS */
    WITH("lbbb", SINUS, t_v1, -0.05, 2),
    WITH("rbbb", NO_FLUTTER, qrs, 120, 200),
    WITH("rbbb", NO_FLUTTER, late_v1, 0.03, 3),   /* R' in V1 */
    WITH("rbbb", NO_FLUTTER, late_v6, -3, -0.03), /* wide S in V6 and I */
    WITH("rbbb", NO_FLUTTER, late_i, -3, -0.02),
    WITH("normal_ecg", ANY, qrs, 60, 119),
    WITHOUT("lbbb", NARROW, qrs, 55, 119),
};

static const struct rule morphology_rules[] = {
    WITH("lvh", NO_FLUTTER, sokolow, 3.5, 8),
    WITHOUT("lvh", ANY, sokolow, 0, 3.5),
    WITH("low_voltage", ANY, limb_voltage, 0, 0.5),
    WITHOUT("low_voltage", ANY, limb_voltage, 0.5, 6),
    WITH("left_axis_deviation", SINUS, axis, -90, -26),
    WITHOUT("left_axis_deviation", SINUS, axis, -36, 180),
    WITH("right_axis_deviation", SINUS, axis, 86, 180),
    WITHOUT("right_axis_deviation", SINUS, axis, -180, 94),
    WITH("inferior_st_elevation", NO_FLUTTER, st_inferior, 0.1, 2),
    WITH("inferior_st_elevation", NO_FLUTTER, st_avl, -2, -0.05), /* its mirror image */
    WITH("inferior_st_elevation", NO_FLUTTER, st_i, -2, 0),
    WITHOUT("inferior_st_elevation", STEADY, st_inferior, -2, 0.1),
    WITH("anterior_st_elevation", NO_FLUTTER, st_v2_v3, 0.15, 2),
    WITH("anterior_st_elevation", NO_FLUTTER, st_v4, 0.1, 2),
    WITHOUT("anterior_st_elevation", STEADY, st_v2_v3, -2, 0.15),
    WITH("long_qt", WITH_T, qtc, 480, 800),
    WITHOUT("long_qt", WITH_T, qtc, 320, 480),
    WITH("normal_ecg", WITH_T, qtc, 330, 470),
};

static void hold_rules(const struct rule *rules, size_t n) {
    const struct seen *seen = all_seen();
    if (!seen) return;
    for (size_t k = 0; k < n; k++) {
        const struct rule *r = &rules[k];
        if (!CHECK(label(r->label) >= 0)) return;
        int total = 0, inside = 0;
        for (int i = 0; i < RECORDS; i++) {
            if (has(&seen[i], r->label) != r->with || !in_group(&seen[i], r->group)) continue;
            const double x = r->read(&seen[i]);
            total++;
            inside += x >= r->low && x <= r->high;
        }
        check_note("%s%s: %s in [%g, %g]: %d of %d", r->with ? "" : "no ", r->label, r->what,
                   r->low, r->high, inside, total);
        CHECK(total >= 25);
        CHECK(inside >= r->share * total);
    }
}

static void rhythms_read_as_defined(void) {
    hold_rules(rhythm_rules, sizeof rhythm_rules / sizeof rhythm_rules[0]);
}

static void conduction_reads_as_defined(void) {
    hold_rules(conduction_rules, sizeof conduction_rules / sizeof conduction_rules[0]);
}

static void morphology_reads_as_defined(void) {
    hold_rules(morphology_rules, sizeof morphology_rules / sizeof morphology_rules[0]);
}

/* ------------------------------------------------------------------ targets */

static void hold_target(const char *name, reading *read, enum group group, double tolerance,
                        bool is_relative) {
    const struct seen *seen = all_seen();
    if (!seen) return;
    int total = 0, inside = 0;
    for (int i = 0; i < RECORDS; i++) {
        if (!in_group(&seen[i], group)) continue;
        const double want = target(&seen[i], name), off = fabs(read(&seen[i]) - want);
        total++;
        inside += off <= (is_relative ? tolerance * want : tolerance);
    }
    check_note("%s within %g%s: %d of %d", name, is_relative ? 100 * tolerance : tolerance,
               is_relative ? " %" : "", inside, total);
    CHECK(total > 300);
    CHECK(inside >= 0.95 * total);
}

static double qt(const struct seen *s) {
    return s->m.qt_ms;
}

static void targets_agree_with_the_signal(void) {
    hold_target("heart_rate", heart_rate, ANY, 0.02, true);
    hold_target("pr_ms", pr, SLOW_SINUS, 15, false);
    hold_target("qrs_ms", qrs, NO_FLUTTER, 12, false);
    hold_target("qt_ms", qt, WITH_T, 25, false);
    hold_target("axis_deg", axis, STEADY, 15, false);
    const struct seen *seen = all_seen();
    for (int i = 0; seen && i < RECORDS; i++)
        CHECK(isnan(target(&seen[i], "pr_ms")) == !is_sinus(&seen[i]));
}

static void conditions_are_common_enough(void) {
    const struct seen *seen = all_seen();
    if (!seen) return;
    for (int k = 0; k < simulator_labels(&clean)->n; k++) {
        int n = 0;
        for (int i = 0; i < RECORDS; i++) n += seen[i].truth.labels[k];
        const char *name = simulator_labels(&clean)->v[k];
        const bool is_usual = !strcmp(name, "sinus_rhythm") || !strcmp(name, "normal_ecg");
        check_note("%s %.1f %%", name, 100.0 * n / RECORDS);
        CHECK(n >= 0.03 * RECORDS && n <= (is_usual ? 0.75 : 0.17) * RECORDS);
    }
    for (int i = 0; i < RECORDS; i++) {
        const int rhythms = is_sinus(&seen[i]) + has(&seen[i], "atrial_fibrillation") +
                            has(&seen[i], "atrial_flutter");
        CHECK(rhythms == 1);
    }
}

/* ------------------------------------------------------------------ patients */

/* Mean of a reading over women or men without bundle branch block. */
static double mean_of_sex(const struct seen *seen, reading *read, double sex) {
    double sum = 0;
    int n = 0;
    for (int i = 0; i < RECORDS; i++) {
        const double x = read(&seen[i]);
        if (!in_group(&seen[i], NARROW) || !in_group(&seen[i], SLOW_SINUS) ||
            target(&seen[i], "sex") != sex)
            continue;
        if (has(&seen[i], "long_qt") || !(fabs(x) < 1000)) continue;
        sum += x, n++;
    }
    return sum / n;
}

static double age_correlation(const struct seen *seen, reading *read) {
    double n = 0, sx = 0, sy = 0, sxx = 0, syy = 0, sxy = 0;
    for (int i = 0; i < RECORDS; i++) {
        if (!has(&seen[i], "normal_ecg")) continue;
        const double x = target(&seen[i], "age"), y = read(&seen[i]);
        if (!(fabs(y) < 1000)) continue;
        n++, sx += x, sy += y, sxx += x * x, syy += y * y, sxy += x * y;
    }
    return (n * sxy - sx * sy) / sqrt((n * sxx - sx * sx) * (n * syy - sy * sy));
}

static double t_v5(const struct seen *s) {
    return s->m.t_mv[V5];
}

static void age_and_sex_show(void) {
    const struct seen *seen = all_seen();
    if (!seen) return;
    const double qrs_gap = mean_of_sex(seen, qrs, 0) - mean_of_sex(seen, qrs, 1);
    const double qtc_gap = mean_of_sex(seen, qtc, 1) - mean_of_sex(seen, qtc, 0);
    const double voltage_gap = mean_of_sex(seen, sokolow, 0) - mean_of_sex(seen, sokolow, 1);
    check_note("men - women: QRS %.1f ms, QTc %.1f ms, Sokolow-Lyon %.2f mV", qrs_gap, -qtc_gap,
               voltage_gap);
    CHECK(qrs_gap > 4 && qrs_gap < 14);
    CHECK(qtc_gap > 6 && qtc_gap < 30);
    CHECK(voltage_gap > 0);
    const double by_axis = age_correlation(seen, axis), by_t = age_correlation(seen, t_v5);
    const double by_rr = age_correlation(seen, irregularity);
    check_note("correlation with age: axis %.2f, T in V5 %.2f, RR changes %.2f", by_axis, by_t,
               by_rr);
    CHECK(by_axis < -0.2 && by_axis > -0.9);
    CHECK(by_t < -0.1 && by_t > -0.9);
    CHECK(by_rr < -0.2 && by_rr > -0.9);
}

static void patients_keep_age_sex_and_fold(void) {
    const struct seen *seen = all_seen();
    if (!seen) return;
    int folds[11] = {0};
    for (int i = 0; i < RECORDS; i++) {
        const struct simulated *t = &seen[i].truth;
        if (!CHECK(t->fold >= 1 && t->fold <= 10)) return;
        folds[t->fold]++;
        if (i == 0 || t->patient != seen[i - 1].truth.patient) continue;
        CHECK(target(&seen[i], "age") == target(&seen[i - 1], "age"));
        CHECK(target(&seen[i], "sex") == target(&seen[i - 1], "sex"));
        CHECK(t->fold == seen[i - 1].truth.fold);
    }
    const double each = RECORDS / (seen[RECORDS - 1].truth.patient + 1.0);
    check_note("%.3f records a patient", each);
    CHECK(each > 1.25 && each < 1.35);
    for (int f = 1; f <= 10; f++) CHECK(folds[f] > RECORDS / 20 && folds[f] < RECORDS / 5);
}

/* ------------------------------------------------------------------ the signal itself */

static void limb_leads_obey_einthoven(void) {
    struct simulator_options o = clean;
    static double mv[SAMPLES];
    struct simulated t;
    o.noise = 1;
    double worst = 0;
    for (uint64_t n = 0; n < 40; n++) {
        if (!CHECK_OK(simulator_record(&o, n, mv, &t))) return;
        for (int i = 0; i < LENGTH; i++) {
            const double one = mv[i], two = mv[LENGTH + i],
                         sum = mv[3 * LENGTH + i] + mv[4 * LENGTH + i] + mv[5 * LENGTH + i];
            worst = fmax(worst, fabs(mv[III * LENGTH + i] - (two - one)));
            worst = fmax(worst, fabs(sum)); /* Goldberger: aVR + aVL + aVF = 0 */
            worst = fmax(worst, fabs(mv[AVR * LENGTH + i] + 0.5 * (one + two)));
            worst = fmax(worst, fabs(mv[AVL * LENGTH + i] - (one - 0.5 * two)));
            worst = fmax(worst, fabs(mv[AVF * LENGTH + i] - (two - 0.5 * one)));
        }
    }
    check_note("largest deviation %.1e mV", worst);
    CHECK(worst <= 1e-14);
}

struct batch {
    const struct simulator_options *o;
    double *mv; /* (n, 12, LENGTH) */
    struct simulated *truth;
};

static void make_one(void *context, size_t task, int worker) {
    (void)worker;
    const struct batch *b = context;
    memset(&b->truth[task], 0, sizeof b->truth[task]);
    if (simulator_record(b->o, 1000 + task, b->mv + task * SAMPLES, &b->truth[task]) != ECG_OK)
        b->mv[task * SAMPLES] = NAN;
}

static void threads_change_nothing(void) {
    enum { N = 24 };
    struct simulator_options o = clean;
    o.noise = 1;
    double *mv[3];
    struct simulated truth[3][N];
    for (int k = 0; k < 3; k++) {
        struct pool *pool;
        mv[k] = malloc(N * SAMPLES * sizeof *mv[k]);
        struct batch b = {&o, mv[k], truth[k]};
        if (!CHECK_OK(pool_create(&pool, 1 << k))) return;
        pool_run(pool, N, make_one, &b);
        pool_destroy(pool);
    }
    for (int k = 1; k < 3; k++) {
        CHECK(memcmp(mv[0], mv[k], N * SAMPLES * sizeof *mv[0]) == 0);
        CHECK(memcmp(truth[0], truth[k], sizeof truth[0]) == 0);
    }
    for (int n = 1; n < N; n++)
        CHECK(memcmp(mv[0], mv[0] + n * SAMPLES, SAMPLES * sizeof *mv[0]) != 0);
    o.seed++;
    struct batch other = {&o, mv[1], truth[1]};
    make_one(&other, 0, 0);
    CHECK(memcmp(mv[0], mv[1], SAMPLES * sizeof *mv[0]) != 0);
    for (int k = 0; k < 3; k++) free(mv[k]);
}

/* The same record at a rate that divides 500 Hz is every so many-th sample. */
static void rates_give_the_same_signal(void) {
    static double fine[SAMPLES], coarse[SAMPLES];
    static const int rates[2] = {250, 100};
    double worst = 0;
    for (int k = 0; k < 2; k++) {
        struct simulator_options o = clean;
        o.sampling_rate = rates[k];
        const int step = 500 / rates[k], length = LENGTH / step;
        for (uint64_t n = 0; n < 30; n++) {
            struct simulated a, b;
            if (!CHECK_OK(simulator_record(&clean, n, fine, &a)) ||
                !CHECK_OK(simulator_record(&o, n, coarse, &b)))
                return;
            CHECK(memcmp(a.labels, b.labels, sizeof a.labels) == 0);
            CHECK(memcmp(a.targets, b.targets, sizeof a.targets) == 0);
            for (int lead = 0; lead < 12; lead++)
                for (int i = 0; i < length; i++) {
                    const double d =
                        fabs(coarse[lead * length + i] - fine[lead * LENGTH + i * step]);
                    if (!(d <= worst)) worst = d;
                }
        }
    }
    check_note("largest difference %.1e mV", worst);
    CHECK(worst <= 1e-9);
}

static void noise_is_added_and_nothing_else(void) {
    static double still[SAMPLES], noisy[SAMPLES];
    double mean[3];
    for (int k = 1; k <= 2; k++) {
        struct simulator_options o = clean;
        o.noise = k;
        double sum = 0;
        for (uint64_t n = 0; n < 60; n++) {
            struct simulated a, b;
            if (!CHECK_OK(simulator_record(&clean, n, still, &a)) ||
                !CHECK_OK(simulator_record(&o, n, noisy, &b)))
                return;
            CHECK(memcmp(a.labels, b.labels, sizeof a.labels) == 0);
            CHECK(memcmp(a.targets, b.targets, sizeof a.targets) == 0);
            double square = 0;
            for (int i = 0; i < SAMPLES; i++)
                square += (noisy[i] - still[i]) * (noisy[i] - still[i]);
            sum += sqrt(square / SAMPLES);
        }
        mean[k] = sum / 60;
        check_note("noise %d: mean RMS %.3f mV", k, mean[k]);
    }
    CHECK(mean[1] > 0.01 && mean[1] < 0.3);
    CHECK(mean[2] > 1.4 * mean[1]);
}

static void any_rate_and_length_is_finite(void) {
    static const struct simulator_options odd[] = {
        {1, 100, 10, 1, false},     {2, 257.3, 7.77, 1, false}, {3, 400, 10, 3, false},
        {4, 1000, 3, 1, false},     {5, 500, 0.002, 1, false},  {6, 1, 30, 1, false},
        {7, 2000, 1.5, 100, false}, {8, 40, 60, 0, false},
    };
    for (size_t k = 0; k < sizeof odd / sizeof odd[0]; k++) {
        int length;
        if (!CHECK_OK(simulator_length(&odd[k], &length))) return;
        CHECK(length == (int)lround(odd[k].sampling_rate * odd[k].seconds));
        double *mv = malloc(12 * (size_t)length * sizeof *mv);
        for (uint64_t n = 0; n < 60; n++) {
            struct simulated t;
            if (!CHECK_OK(simulator_record(&odd[k], n * 7919 + (n << 40), mv, &t))) break;
            double largest = 0;
            for (int i = 0; i < 12 * length; i++)
                if (!(fabs(mv[i]) <= largest)) largest = fabs(mv[i]);
            CHECK(largest <
                  (odd[k].noise > 3 ? 300 : 30)); /* fits 16 bits at 1 uV when noise is sane */
        }
        free(mv);
    }
}

static void bad_options_are_refused(void) {
    static const struct simulator_options bad[] = {
        {1, 0, 10, 1, false},    {1, NAN, 10, 1, false},       {1, -500, 10, 1, false},
        {1, 500, 0, 1, false},   {1, 500, INFINITY, 1, false}, {1, 500, NAN, 1, false},
        {1, 500, 10, -1, false}, {1, 500, 10, NAN, false},     {1, 100000, 86400, 1, false},
        {1, 1, 0.1, 1, false},
    };
    double mv[12];
    struct simulated t;
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++)
        CHECK_FAILS(simulator_record(&bad[k], 0, mv, &t), ECG_ERR_USAGE,
                    k < 8 ? "give" : "a record holds");
}

static void throughput(void) {
    struct simulator_options o = clean;
    o.noise = 1;
    static double mv[SAMPLES];
    struct simulated t;
    const double start = log_clock();
    for (uint64_t n = 0; n < 400; n++)
        if (!CHECK_OK(simulator_record(&o, n, mv, &t))) return;
    check_note("%.0f records/s on one core (12 leads, 10 s, 500 Hz, with noise)",
               400 / (log_clock() - start));
}

int main(void) {
    CASE(rhythms_read_as_defined);
    CASE(conduction_reads_as_defined);
    CASE(morphology_reads_as_defined);
    CASE(targets_agree_with_the_signal);
    CASE(conditions_are_common_enough);
    CASE(age_and_sex_show);
    CASE(patients_keep_age_sex_and_fold);
    CASE(limb_leads_obey_einthoven);
    CASE(threads_change_nothing);
    CASE(rates_give_the_same_signal);
    CASE(noise_is_added_and_nothing_else);
    CASE(any_rate_and_length_is_finite);
    CASE(bad_options_are_refused);
    CASE(throughput);
    return check_finish();
}
