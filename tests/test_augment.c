/* SPDX-License-Identifier: MIT
 * Augmentation of one record: each operation against a plain one in double that repeats its draws, the views of lead I
 * against the hexaxial formulas, the distributions of what is drawn. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "data/augment.h"
#include "tests/support/check.h"

enum { C = 12, L = 700, ALL = (1 << AUGMENT_N_OPS) - 1 };
static const double pi = 3.14159265358979323846;
static const int every_lead[C] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static const float stored_scale = 0.005f;

static struct augment_options only(unsigned ops, int n, double magnitude) {
    return (struct augment_options){
        .ops = ops, .n = n, .magnitude = magnitude, .probability = 1, .lead_probability = 0.5};
}

static struct shard_schema schema_of(const char *leads, int length, double rate) {
    struct shard_schema s = {.sampling_rate = rate, .length = length};
    CHECK_OK(leads_parse(&s.leads, leads));
    return s;
}

static const char *const twelve = "I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6";

/* A thread's memory for `a`; free base. */
static void *make_scratch(const struct augment *a, struct augment_scratch *s) {
    struct arena arena = {0};
    augment_carve(a, &arena, s);
    CHECK_OK(arena_commit(&arena));
    augment_carve(a, &arena, s);
    return arena.base;
}

/* Sums of two waves and of chance; offset, and no lead like another. */
static void make_record(int16_t *ecg, int n_leads, int length) {
    struct rng r;
    rng_init(&r, 11, RNG_SYNTH, 0, 0);
    for (int c = 0; c < n_leads; c++)
        for (int t = 0; t < length; t++)
            ecg[c * length + t] = (int16_t)lrint(300 * sin(0.05 * t + c) + 90 * cos(0.21 * t) + 25 +
                                                 40 * rng_normal(&r));
}

/* ------------------------------------------------------------------ the same operations, plainly */

static double plain_at(const double *x, int length, int i) {
    return x[i < 0 ? 0 : i >= length ? length - 1 : i];
}

/* Catmull-Rom in its basis form. */
static double plain_cubic(const double *x, int length, double time) {
    if (time <= 0) return x[0];
    if (time >= length - 1) return x[length - 1];
    int i = (int)floor(time);
    double f = time - i, p0 = plain_at(x, length, i - 1), p1 = x[i],
           p2 = plain_at(x, length, i + 1), p3 = plain_at(x, length, i + 2);
    return p0 * (-f + 2 * f * f - f * f * f) / 2 + p1 * (2 - 5 * f * f + 3 * f * f * f) / 2 +
           p2 * (f + 4 * f * f - 3 * f * f * f) / 2 + p3 * (-f * f + f * f * f) / 2;
}

static void plain_warp(double *x, int length, double speed, int waves, double phase) {
    double old[L], depth = speed * (length - 1) / (2 * pi * waves);
    memcpy(old, x, (size_t)length * sizeof *x);
    for (int t = 0; t < length; t++)
        x[t] = plain_cubic(
            old, length, t + depth * (sin(2 * pi * waves * t / (length - 1) + phase) - sin(phase)));
}

/* x[t] = old[t - later], 0 from outside; then 0 from `end` on. */
static void plain_move(double *x, int length, int later, int end) {
    double old[L];
    memcpy(old, x, (size_t)length * sizeof *x);
    for (int t = 0; t < length; t++) {
        int from = t - later;
        x[t] = from >= 0 && from < length && t < end ? old[from] : 0;
    }
}

struct plain {
    double *x; /* (n, length) */
    int n, length;
    double rate, sd;
};

static void plain_waves(struct plain *p, const double *amplitude, const double *frequency,
                        const double *phase, int n, struct rng *r) {
    for (int c = 0; c < p->n; c++) {
        double gain = 2 * rng_uniform(r) - 1;
        for (int t = 0; t < p->length; t++)
            for (int i = 0; i < n; i++)
                p->x[c * p->length + t] +=
                    gain * amplitude[i] * sin(2 * pi * frequency[i] * t / p->rate + phase[i]);
    }
}

static void plain_wander(struct plain *p, struct rng *r, double m) {
    double most = AUGMENT_MAX_WANDER * m * rng_uniform(r) * p->sd, a[3], f[3], phase[3], sum = 0;
    for (int i = 0; i < 3; i++) sum += a[i] = 1 - rng_uniform(r);
    for (int i = 0; i < 3; i++) {
        f[i] = 0.05 + 0.45 * rng_uniform(r);
        phase[i] = 2 * pi * rng_uniform(r);
        a[i] *= most / sum;
    }
    plain_waves(p, a, f, phase, 3, r);
}

static void plain_powerline(struct plain *p, struct rng *r, double m) {
    double a = AUGMENT_MAX_POWERLINE * m * rng_uniform(r) * p->sd;
    double f = rng_below(r, 2) ? 60 : 50, phase = 2 * pi * rng_uniform(r);
    plain_waves(p, &a, &f, &phase, 1, r);
}

static void plain_noise(struct plain *p, struct rng *r, double m) {
    double sd = AUGMENT_MAX_NOISE * m * rng_uniform(r) * p->sd, radius = 0, angle = 0;
    for (int i = 0; i < p->n * p->length; i++) {
        if (i % 2 == 0) {
            radius = sqrt(-2 * log((float)((rng_u32(r) + 1.0) / 4294967296.0)));
            angle = 2 * pi * rng_u32(r) / 4294967296.0;
        }
        p->x[i] += sd * radius * (i % 2 ? sin(angle) : cos(angle));
    }
}

static void plain_lead_drop(struct plain *p, struct rng *r, double m) {
    int order[C], most = (int)ceil(AUGMENT_MAX_LEAD_DROP * m * p->n);
    if (most > p->n - 1) most = p->n - 1;
    int n = 1 + (int)rng_below(r, (uint64_t)most);
    for (int c = 0; c < p->n; c++) order[c] = c;
    for (int i = 0; i < n; i++) {
        int j = i + (int)rng_below(r, (uint64_t)(p->n - i)), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
        for (int t = 0; t < p->length; t++) p->x[order[i] * p->length + t] = 0;
    }
}

static void plain_op(enum augment_op op, struct plain *p, struct rng *r, double m) {
    double *x = p->x;
    int length = p->length, a, b;
    switch (op) {
    case AUGMENT_SCALING:
        for (int c = 0; c < p->n; c++) {
            double factor = 1 + AUGMENT_MAX_SCALING * m * (2 * rng_uniform(r) - 1);
            for (int t = 0; t < length; t++) x[c * length + t] *= factor;
        }
        break;
    case AUGMENT_TIME_WARP: {
        double speed = AUGMENT_MAX_TIME_WARP * m * (2 * rng_uniform(r) - 1);
        a = 1 + (int)rng_below(r, 3);
        double phase = 2 * pi * rng_uniform(r);
        for (int c = 0; c < p->n; c++) plain_warp(x + c * length, length, speed, a, phase);
        break;
    }
    case AUGMENT_WANDER:
        plain_wander(p, r, m);
        break;
    case AUGMENT_NOISE:
        plain_noise(p, r, m);
        break;
    case AUGMENT_POWERLINE:
        plain_powerline(p, r, m);
        break;
    case AUGMENT_SHIFT:
        a = (int)(AUGMENT_MAX_SHIFT * m * length);
        b = (int)rng_below(r, 2 * (uint64_t)a + 1) - a;
        for (int c = 0; c < p->n; c++) plain_move(x + c * length, length, b, length);
        break;
    case AUGMENT_CROP:
        a = (int)rng_below(r, (uint64_t)(AUGMENT_MAX_CROP * m * length) + 1);
        b = (int)rng_below(r, (uint64_t)a + 1);
        for (int c = 0; c < p->n; c++) plain_move(x + c * length, length, -b, length - a);
        break;
    case AUGMENT_CUTOUT:
        a = (int)rng_below(r, (uint64_t)(AUGMENT_MAX_CUTOUT * m * length) + 1);
        b = (int)rng_below(r, (uint64_t)(length - a) + 1);
        for (int c = 0; c < p->n; c++)
            for (int t = b; t < b + a; t++) x[c * length + t] = 0;
        break;
    case AUGMENT_LEAD_DROP:
        plain_lead_drop(p, r, m);
        break;
    case AUGMENT_N_OPS:
        break;
    }
}

static double plain_sd(const double *x, int n) {
    double mean = 0, squares = 0;
    for (int i = 0; i < n; i++) mean += x[i] / n;
    for (int i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean) / n;
    return sqrt(squares);
}

/* ------------------------------------------------------------------ one record through both */

/* All of `ops` at one place, on three leads of five, against the plain ones. Returns the largest difference in the record's
 * new quantisation step. */
static double compare_at(unsigned ops, double magnitude, uint32_t place) {
    enum { FILE_LEADS = 5, TAKEN = 3 };
    static const int taken[TAKEN] = {4, 0, 2};
    static int16_t stored[FILE_LEADS * L], ecg[FILE_LEADS * L];
    static double x[TAKEN * L];
    struct shard_schema schema = schema_of("I,II,V1,V2,V3", L, 250);
    struct augment_options o = only(ops, __builtin_popcount(ops), magnitude);
    struct augment_place at = {.seed = 0x123456789abcull, .epoch = 3, .place = place};
    struct augment a;
    struct augment_scratch s;
    CHECK_OK(augment_init(&a, &o, &schema, taken, TAKEN));
    make_record(stored, FILE_LEADS, L);
    memcpy(ecg, stored, sizeof ecg);
    float scale = stored_scale;
    void *memory = make_scratch(&a, &s);
    augment_record(&a, &at, &s, ecg, &scale);
    free(memory);

    struct plain p = {.x = x, .n = TAKEN, .length = L, .rate = 250};
    for (int c = 0; c < TAKEN; c++)
        for (int t = 0; t < L; t++) x[c * L + t] = stored[taken[c] * L + t];
    p.sd = plain_sd(x, TAKEN * L);
    struct rng r;
    rng_init(&r, at.seed, RNG_AUGMENT, at.epoch, at.place);
    rng_uniform(&r); /* whether at all */
    for (int i = 0; i < o.n; i++) rng_below(&r, (uint64_t)(o.n - i));
    for (int op = 0; op < AUGMENT_N_OPS; op++)
        if (ops >> op & 1) plain_op((enum augment_op)op, &p, &r, magnitude);

    CHECK(memcmp(ecg + L, stored + L, L * sizeof *ecg) == 0); /* leads that are not taken */
    double worst = 0;
    for (int c = 0; c < TAKEN; c++)
        for (int t = 0; t < L; t++) {
            double d = fabs(ecg[taken[c] * L + t] - x[c * L + t] * stored_scale / scale);
            if (!(d <= worst)) worst = d;
        }
    return worst;
}

static void operations_equal_plain_ones(void) {
    const unsigned exact =
        1u << AUGMENT_SHIFT | 1u << AUGMENT_CROP | 1u << AUGMENT_CUTOUT | 1u << AUGMENT_LEAD_DROP;
    for (int op = 0; op < AUGMENT_N_OPS; op++) {
        double worst = 0;
        for (uint32_t place = 0; place < 120; place++) {
            double d = compare_at(1u << op, place % 3 == 0 ? 0.3 : 1, place);
            if (!(d <= worst)) worst = d;
        }
        check_note("%s %.3g steps", augment_op_names[op], worst);
        CHECK(worst <= (exact >> op & 1 ? 0 : 0.53)); /* half a step, and float's rounding */
    }
}

static void operations_together(void) {
    for (uint32_t place = 0; place < 60; place++) {
        CHECK(compare_at(ALL, 1, place) <= 0.6);
        CHECK(compare_at(1u << AUGMENT_SHIFT | 1u << AUGMENT_CUTOUT, 0.7, place) == 0);
    }
}

static void nothing_to_do(void) {
    static int16_t stored[C * L], ecg[C * L];
    struct shard_schema schema = schema_of(twelve, L, 500);
    struct augment a;
    struct augment_scratch s;
    struct augment_options still = only(ALL, AUGMENT_N_OPS, 0), never = only(ALL, 3, 1);
    never.probability = 0;
    CHECK(!augment_any(&still) && !augment_any(&never));
    make_record(stored, C, L);
    memcpy(ecg, stored, sizeof ecg);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(augment_init(&a, i == 0 ? &still : &never, &schema, every_lead, C));
        void *memory = make_scratch(&a, &s);
        for (uint32_t place = 0; place < 50; place++) {
            struct augment_place at = {1, 0, place};
            float scale = stored_scale;
            augment_record(&a, &at, &s, ecg, &scale);
            CHECK(memcmp(ecg, stored, sizeof ecg) == 0 && scale == stored_scale);
        }
        free(memory);
    }
}

/* Flat records and records of one sample come through. */
static void smallest_records(void) {
    int16_t ecg[2] = {0, 0};
    int lead[2] = {0, 1};
    for (int length = 1; length <= 2; length++) {
        struct shard_schema schema = schema_of(length == 1 ? "I,II" : "V1", length, 500);
        unsigned ops = length == 1 ? ALL : ALL & ~(1u << AUGMENT_LEAD_DROP);
        struct augment_options o = only(ops, __builtin_popcount(ops), 1);
        struct augment a;
        struct augment_scratch s;
        CHECK_OK(augment_init(&a, &o, &schema, lead, schema.leads.n));
        void *memory = make_scratch(&a, &s);
        for (uint32_t place = 0; place < 50; place++) {
            struct augment_place at = {1, 0, place};
            float scale = 1;
            augment_record(&a, &at, &s, ecg, &scale);
            CHECK(ecg[0] == 0 && ecg[1] == 0 && isfinite(scale));
        }
        free(memory);
    }
}

/* ------------------------------------------------------------------ properties */

/* What an operation added to lead 0 of a long record, in units of the stored integers; *sd: the record's. */
static void added(enum augment_op op, double rate, uint32_t place, double *x, int length,
                  double *sd) {
    struct shard_schema schema = schema_of("I,V1", length, rate);
    struct augment_options o = only(1u << op, 1, 1);
    struct augment_place at = {77, 1, place};
    int16_t *ecg = malloc(2 * (size_t)length * sizeof *ecg);
    int16_t *stored = malloc(2 * (size_t)length * sizeof *stored);
    struct augment a;
    struct augment_scratch s;
    float scale = 1;
    CHECK_OK(augment_init(&a, &o, &schema, every_lead, 2));
    void *memory = make_scratch(&a, &s);
    make_record(stored, 2, length);
    memcpy(ecg, stored, 2 * (size_t)length * sizeof *ecg);
    double *all = malloc(2 * (size_t)length * sizeof *all);
    for (int i = 0; i < 2 * length; i++) all[i] = stored[i];
    *sd = plain_sd(all, 2 * length);
    augment_record(&a, &at, &s, ecg, &scale);
    for (int t = 0; t < length; t++) x[t] = (double)ecg[t] * scale - stored[t];
    free(all);
    free(ecg);
    free(stored);
    free(memory);
}

/* The part of x's energy between two frequencies, under a Hann window. */
static double energy_part(const double *x, int length, double rate, double low, double high) {
    double inside = 0, total = 0;
    for (int k = 0; k <= length / 2; k++) {
        double re = 0, im = 0, f = k * rate / length;
        for (int t = 0; t < length; t++) {
            double w = 0.5 - 0.5 * cos(2 * pi * t / length);
            re += w * x[t] * cos(2 * pi * k * t / length);
            im += w * x[t] * sin(2 * pi * k * t / length);
        }
        total += re * re + im * im;
        if (f >= low && f <= high) inside += re * re + im * im;
    }
    return inside / total;
}

static void wander_stays_in_its_band(void) {
    enum { N = 2000 };
    static double x[N];
    double sd, largest = 0;
    for (uint32_t place = 0; place < 4; place++) {
        added(AUGMENT_WANDER, 10, place, x, N, &sd); /* 200 s */
        double part = energy_part(x, N, 10, 0.05 - 0.015, 0.5 + 0.015);
        CHECK(part > 0.9999);
        for (int t = 0; t < N; t++) largest = fmax(largest, fabs(x[t]) / sd);
    }
    check_note("largest %.3g sd", largest);
    CHECK(largest > 0.1 && largest <= AUGMENT_MAX_WANDER + 0.01);
}

static void powerline_is_a_wave(void) {
    enum { N = 2000 };
    static double x[N];
    double sd;
    int at_50 = 0, at_60 = 0;
    for (uint32_t place = 0; place < 8; place++) {
        added(AUGMENT_POWERLINE, 500, place, x, N, &sd);
        double fifty = energy_part(x, N, 500, 49, 51), sixty = energy_part(x, N, 500, 59, 61);
        CHECK(fmax(fifty, sixty) > 0.99);
        at_50 += fifty > sixty;
        at_60 += sixty > fifty;
        for (int t = 0; t < N; t++) CHECK(fabs(x[t]) <= AUGMENT_MAX_POWERLINE * sd * 1.01);
    }
    CHECK(at_50 > 0 && at_60 > 0);
}

static void noise_is_white_and_gaussian(void) {
    enum { N = 200001 };
    double *x = malloc(N * sizeof *x), sd;
    for (uint32_t place = 0; place < 3; place++) {
        added(AUGMENT_NOISE, 500, place, x, N, &sd);
        double mean = 0, m2 = 0, m4 = 0, next = 0, second = 0;
        for (int t = 0; t < N; t++) mean += x[t] / N;
        for (int t = 0; t < N; t++) {
            double d = x[t] - mean;
            m2 += d * d / N;
            m4 += d * d * d * d / N;
            if (t + 2 < N) next += d * (x[t + 1] - mean) / N;
            if (t + 2 < N) second += d * (x[t + 2] - mean) / N;
        }
        double bound = 5 / sqrt(N);
        CHECK(m2 > 0 && sqrt(m2) <= AUGMENT_MAX_NOISE * sd * 1.02);
        CHECK_NEAR(mean / sqrt(m2), 0, bound);
        CHECK_NEAR(m4 / (m2 * m2), 3, bound * sqrt(24));
        CHECK_NEAR(next / m2, 0, bound);
        CHECK_NEAR(second / m2, 0, bound);
    }
    free(x);
}

static bool flat(const int16_t *row) {
    for (int t = 0; t < L; t++)
        if (row[t] != 0) return false;
    return true;
}

/* One of three operations for 3 records in 10, each as often; never all leads, never more than half. */
static void operations_are_drawn_alike(void) {
    enum { N = 6000 };
    static int16_t stored[C * L], ecg[C * L];
    struct shard_schema schema = schema_of(twelve, L, 500);
    struct augment_options o =
        only(1u << AUGMENT_LEAD_DROP | 1u << AUGMENT_SCALING | 1u << AUGMENT_CUTOUT, 1, 1);
    struct augment a;
    struct augment_scratch s;
    o.probability = 0.3;
    make_record(stored, C, L);
    CHECK_OK(augment_init(&a, &o, &schema, every_lead, C));
    void *memory = make_scratch(&a, &s);
    int n_scaled = 0, n_dropped = 0, n_untouched = 0, n_flat = 0;
    for (uint32_t place = 0; place < N; place++) {
        struct augment_place at = {5, 2, place};
        float scale = stored_scale;
        int dropped = 0;
        memcpy(ecg, stored, sizeof ecg);
        augment_record(&a, &at, &s, ecg, &scale);
        for (int c = 0; c < C; c++) dropped += flat(ecg + c * L);
        CHECK(dropped <= C / 2);
        n_flat += dropped;
        n_dropped += dropped > 0;
        n_scaled += scale != stored_scale;
        n_untouched += memcmp(ecg, stored, sizeof ecg) == 0;
    }
    free(memory);
    double five_sd = 5 * sqrt(N * 0.1 * 0.9);
    CHECK_NEAR(n_scaled, 0.1 * N, five_sd);
    CHECK_NEAR(n_dropped, 0.1 * N, five_sd);
    CHECK_NEAR(n_untouched, 0.7 * N, 5 * sqrt(N * 0.21) + 0.1 * N / (0.3 * L));
    CHECK_NEAR((double)n_flat / n_dropped, 3.5, 5 * 1.71 / sqrt(n_dropped)); /* 1 .. 6 alike */
}

/* ------------------------------------------------------------------ lead augmentation */

/* The six views by their definition from I and II. */
static double view_value(int view, double i, double ii) {
    const double value[AUGMENT_VIEWS] = {i - ii / 2, (i + ii) / 2, ii,
                                         i - ii,     ii - i / 2,   i / 2 - ii};
    return value[view];
}

/* Which view a record got, by its samples within `tolerance` integers' worth of the new scale; 6: lead I; -1: none. */
static int which_view(const int16_t *stored, int i_row, int ii_row, const int16_t *row, float scale,
                      double tolerance) {
    for (int v = 0; v <= AUGMENT_VIEWS; v++) {
        bool same = true;
        for (int t = 0; t < L && same; t++) {
            double i = stored[i_row * L + t], ii = stored[ii_row * L + t];
            double want = (v == AUGMENT_VIEWS ? i : view_value(v, i, ii)) * (double)stored_scale;
            same = fabs(row[t] * (double)scale - want) <= tolerance * fabs((double)scale);
        }
        if (same) return v;
    }
    return -1;
}

/* Runs lead augmentation over a data set with `leads`; tolerance 0: the views are stored. */
static void views_of(const char *leads, double tolerance) {
    enum { N = 6000 };
    static int16_t stored[C * L], ecg[C * L];
    struct shard_schema schema = schema_of(leads, L, 500);
    int row = leads_find(&schema.leads, "I"), second = leads_find(&schema.leads, "II");
    int count[AUGMENT_VIEWS + 1] = {0};
    struct augment_options o = {.lead = true, .lead_probability = 0.5};
    struct augment a;
    struct augment_scratch s;
    CHECK(augment_any(&o));
    CHECK_OK(augment_init(&a, &o, &schema, &row, 1));
    void *memory = make_scratch(&a, &s);
    make_record(stored, schema.leads.n, L);
    for (int t = 0; t < L; t++) { /* even, so that the stored halves are whole */
        int16_t i = stored[row * L + t] &= ~1, ii = stored[second * L + t] &= ~1;
        static const char *const derived[] = {"aVL", "aVR", "III", "aVF"};
        const int value[] = {i - ii / 2, -(i + ii) / 2, ii - i, ii - i / 2};
        for (int k = 0; k < 4; k++) {
            int to = leads_find(&schema.leads, derived[k]);
            if (to >= 0) stored[to * L + t] = (int16_t)value[k];
        }
    }
    for (uint32_t place = 0; place < N; place++) {
        struct augment_place at = {21, 4, place};
        float scale = stored_scale;
        memcpy(ecg, stored, sizeof ecg);
        augment_record(&a, &at, &s, ecg, &scale);
        int view = which_view(stored, row, second, ecg + row * L, scale, tolerance);
        if (!CHECK(view >= 0)) break;
        CHECK(tolerance > 0 || fabsf(scale) == stored_scale);
        count[view]++;
    }
    free(memory);
    for (int v = 0; v < AUGMENT_VIEWS; v++)
        CHECK_NEAR(count[v], N / 12.0, 5 * sqrt(N / 12.0 * 11 / 12));
    CHECK_NEAR(count[AUGMENT_VIEWS], N / 2.0, 5 * sqrt(N / 4.0));
    check_note("%s: I %d, others %d %d %d %d %d %d", leads, count[6], count[0], count[1], count[2],
               count[3], count[4], count[5]);
}

static void views_of_lead_one(void) {
    views_of(twelve, 0);
    views_of("V1,AVF,DII,aVR,DI,avl,III", 0);
    views_of("V2,II,I", 0.501);
    views_of("I,II,aVF", 0.501);
}

static void views_with_operations(void) {
    static int16_t ecg[L * 2];
    struct shard_schema schema = schema_of("I,II", L, 500);
    struct augment_options o = only(1u << AUGMENT_NOISE | 1u << AUGMENT_SHIFT, 2, 1);
    struct augment a;
    struct augment_scratch s;
    int lead = 0, n_negative = 0;
    o.lead = true;
    CHECK_OK(augment_init(&a, &o, &schema, &lead, 1));
    void *memory = make_scratch(&a, &s);
    for (uint32_t place = 0; place < 100; place++) {
        struct augment_place at = {21, 4, place};
        float scale = stored_scale;
        int peak = 0;
        make_record(ecg, 2, L);
        augment_record(&a, &at, &s, ecg, &scale);
        for (int t = 0; t < L; t++) peak = abs(ecg[t]) > peak ? abs(ecg[t]) : peak;
        CHECK(peak >= 32767 * 0.5 && peak <= 32767); /* shift after noise may lose the peak */
        n_negative += scale < 0;
    }
    free(memory);
    CHECK(n_negative > 10 && n_negative < 45); /* a quarter */
}

static void wrong_set_ups(void) {
    struct augment a;
    struct augment_options o = {.lead = true, .lead_probability = 0.5};
    struct shard_schema all = schema_of(twelve, L, 500), one = schema_of("I,V1", L, 500),
                        slow = schema_of(twelve, L, 120), absent = schema_of("I", L, 0);
    CHECK_FAILS(augment_init(&a, &o, &all, every_lead, 12), ECG_ERR_CONFIG,
                "model.in_leads to [I]");
    CHECK_FAILS(augment_init(&a, &o, &all, every_lead + 1, 1), ECG_ERR_CONFIG, "lead I alone");
    CHECK_FAILS(augment_init(&a, &o, &one, every_lead, 1), ECG_ERR_CONFIG, "neither aVL nor");
    CHECK_OK(augment_init(&a, &o, &absent, every_lead, 1));
    o = only(1u << AUGMENT_LEAD_DROP, 1, 1);
    CHECK_FAILS(augment_init(&a, &o, &all, every_lead, 1), ECG_ERR_CONFIG, "lead_drop");
    CHECK_OK(augment_init(&a, &o, &all, every_lead, 2));
    o = only(1u << AUGMENT_POWERLINE, 1, 1);
    CHECK_FAILS(augment_init(&a, &o, &slow, every_lead, 12), ECG_ERR_CONFIG,
                "and the data has 120");
}

/* ------------------------------------------------------------------ mixup */

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Beta(alpha, alpha): mean 1/2, variance 1 / (4 (2 alpha + 1)), kurtosis 3 - 6 / (2 alpha + 3). */
static void beta_moments(void) {
    enum { N = 20000 };
    static double x[N];
    const double alphas[] = {0.001, 0.2, 0.5, 1, 4, 50, 1000};
    for (size_t k = 0; k < sizeof alphas / sizeof *alphas; k++) {
        double alpha = alphas[k], mean = 0, variance = 0, distance = 0;
        struct rng r;
        rng_init(&r, 1, RNG_MIXUP, 0, (uint32_t)k);
        for (int i = 0; i < N; i++) {
            x[i] = augment_beta(&r, alpha);
            CHECK(x[i] >= 0 && x[i] <= 1);
            mean += x[i] / N;
            variance += (x[i] - 0.5) * (x[i] - 0.5) / N;
        }
        double v = 1 / (4 * (2 * alpha + 1)), kurtosis = 3 - 6 / (2 * alpha + 3);
        CHECK_NEAR(mean, 0.5, 5 * sqrt(v / N));
        CHECK_NEAR(variance, v, 5 * v * sqrt((kurtosis - 1) / N) + 1e-6);
        if (alpha != 0.5 && alpha != 1) continue;
        qsort(x, N, sizeof *x, by_size);
        for (int i = 0; i < N; i++) { /* Kolmogorov and Smirnov: 1.95 / sqrt(N) at 0.1 % */
            double cdf = alpha == 1 ? x[i] : 2 / pi * asin(sqrt(x[i]));
            distance = fmax(distance, fabs(cdf - (i + 0.5) / N));
        }
        check_note("alpha %g: distance %.4f (bound %.4f)", alpha, distance, 1.95 / sqrt(N));
        CHECK(distance < 1.95 / sqrt(N));
    }
}

static void mixes_in_physical_units(void) {
    static int16_t stored[2][C * L], ecg[2][C * L];
    const float lambda[2] = {0.3f, 0.85f};
    const int taken[2] = {7, 1};
    struct shard_schema schema = schema_of(twelve, L, 500);
    struct augment_options o = {.mixup = 0.2};
    struct augment a;
    float scale[2] = {0.004f, -0.0012f};
    CHECK(augment_any(&o));
    CHECK_OK(augment_init(&a, &o, &schema, taken, 2));
    make_record(stored[0], C, L);
    for (int i = 0; i < C * L; i++) stored[1][i] = (int16_t)(stored[0][C * L - 1 - i] * 3 + 5);
    memcpy(ecg, stored, sizeof ecg);
    augment_mix(&a, lambda, (int16_t *[2]){ecg[0], ecg[1]}, (float *[2]){&scale[0], &scale[1]});
    double worst = 0;
    for (int c = 0; c < C; c++)
        for (int t = 0; t < L; t++) {
            int at = c * L + t;
            if (c != 7 && c != 1) {
                CHECK(ecg[0][at] == stored[0][at] && ecg[1][at] == stored[1][at]);
                continue;
            }
            double x = stored[0][at] * (double)0.004f, y = stored[1][at] * (double)-0.0012f;
            double p = lambda[0] * x + (1 - (double)lambda[0]) * y;
            double q = (1 - (double)lambda[1]) * x + lambda[1] * y;
            worst = fmax(worst, fabs(ecg[0][at] - p / scale[0]));
            worst = fmax(worst, fabs(ecg[1][at] - q / scale[1]));
        }
    check_note("largest error %.3f steps", worst);
    CHECK(worst > 0 && worst <= 0.51);
}

int main(void) {
    CASE(operations_equal_plain_ones);
    CASE(operations_together);
    CASE(nothing_to_do);
    CASE(smallest_records);
    CASE(wander_stays_in_its_band);
    CASE(powerline_is_a_wave);
    CASE(noise_is_white_and_gaussian);
    CASE(operations_are_drawn_alike);
    CASE(views_of_lead_one);
    CASE(views_with_operations);
    CASE(wrong_set_ups);
    CASE(beta_moments);
    CASE(mixes_in_physical_units);
    return check_finish();
}
