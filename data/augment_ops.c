/* SPDX-License-Identifier: MIT
 * Each operation draws in the order in which it is written here; a test repeats the draws. */
#include "data/augment_ops.h"

#include <math.h>
#include <string.h>

static const double pi = 3.14159265358979323846;

static float *row_of(const struct augment_work *w, int c) {
    return w->s->x + (size_t)c * (size_t)w->length;
}

static size_t row_bytes(int samples) {
    return (size_t)samples * sizeof(float);
}

static double symmetric(struct rng *r) { /* [-1, 1) */
    return 2 * rng_uniform(r) - 1;
}

/* 0 .. bound of the record's samples, all alike likely. */
static int draw_samples(struct rng *r, double bound, int length) {
    return (int)rng_below(r, (uint64_t)(bound * length) + 1);
}

static void scaling(struct augment_work *w, struct rng *r, double m) {
    for (int c = 0; c < w->n_leads; c++) {
        float factor = (float)(1 + AUGMENT_MAX_SCALING * m * symmetric(r)), *x = row_of(w, c);
        for (int t = 0; t < w->length; t++) x[t] *= factor;
    }
}

/* One row from its copy. */
static void warp_row(const struct augment_work *w, const float *from, float *to) {
    const int last = w->length - 1;
    for (int t = 0; t <= last; t++) {
        int i = w->s->at[t];
        float f = w->s->part[t];
        float before = from[i > 0 ? i - 1 : 0], a = from[i], b = from[i < last ? i + 1 : last],
              after = from[i + 2 <= last ? i + 2 : last];
        float slope_a = 0.5f * (b - before), slope_b = 0.5f * (after - a), rise = b - a;
        float curve = 3 * rise - 2 * slope_a - slope_b, twist = slope_a + slope_b - 2 * rise;
        to[t] = a + f * (slope_a + f * (curve + f * twist));
    }
}

void augment_warp(struct augment_work *w, double depth, int waves, double phase) {
    const int last = w->length - 1;
    for (int t = 0; t <= last; t++) {
        double time = t + depth * (sin(2 * pi * waves * t / last + phase) - sin(phase));
        int i = time <= 0 ? 0 : time >= last ? last : (int)time;
        w->s->at[t] = i;
        w->s->part[t] = time <= 0 || time >= last ? 0 : (float)(time - i);
    }
    for (int c = 0; c < w->n_leads; c++) {
        memcpy(w->s->row, row_of(w, c), row_bytes(w->length));
        warp_row(w, w->s->row, row_of(w, c));
    }
}

static void time_warp(struct augment_work *w, struct rng *r, double m) {
    double speed = AUGMENT_MAX_TIME_WARP * m * symmetric(r);
    int waves = 1 + (int)rng_below(r, 3);
    double phase = 2 * pi * rng_uniform(r);
    if (w->length < 2) return;
    augment_warp(w, speed * (w->length - 1) / (2 * pi * waves), waves, phase);
}

/* The row, times a gain within [-1, 1] of its own, to each lead. */
static void add_row(struct augment_work *w, struct rng *r) {
    for (int c = 0; c < w->n_leads; c++) {
        float gain = (float)symmetric(r), *x = row_of(w, c);
        for (int t = 0; t < w->length; t++) x[t] += gain * w->s->row[t];
    }
}

static void add_wave(struct augment_work *w, double amplitude, double frequency, double phase) {
    double step = 2 * pi * frequency / w->sampling_rate;
    for (int t = 0; t < w->length; t++) w->s->row[t] += (float)(amplitude * sin(step * t + phase));
}

/* What breathing and moving electrodes do. */
static void wander(struct augment_work *w, struct rng *r, double m) {
    enum { WAVES = 3 };
    double most = AUGMENT_MAX_WANDER * m * rng_uniform(r) * w->sd, share[WAVES], sum = 0;
    for (int i = 0; i < WAVES; i++) sum += share[i] = 1 - rng_uniform(r);
    memset(w->s->row, 0, row_bytes(w->length));
    for (int i = 0; i < WAVES; i++) {
        double frequency = 0.05 + 0.45 * rng_uniform(r), phase = 2 * pi * rng_uniform(r);
        add_wave(w, most * share[i] / sum, frequency, phase);
    }
    add_row(w, r);
}

static void powerline(struct augment_work *w, struct rng *r, double m) {
    double amplitude = AUGMENT_MAX_POWERLINE * m * rng_uniform(r) * w->sd;
    double frequency = rng_below(r, 2) == 0 ? 50 : 60, phase = 2 * pi * rng_uniform(r);
    memset(w->s->row, 0, row_bytes(w->length));
    add_wave(w, amplitude, frequency, phase);
    add_row(w, r);
}

/* Box and Muller's pair in float: this is most of what augmentation costs. */
static void normal_pair(struct rng *r, float out[2]) {
    float u = (float)(((double)rng_u32(r) + 1) * 0x1p-32); /* (0, 1]: its logarithm is finite */
    float angle = (float)(2 * pi * 0x1p-32 * rng_u32(r)), radius = sqrtf(-2 * logf(u));
    out[0] = radius * cosf(angle);
    out[1] = radius * sinf(angle);
}

static void noise(struct augment_work *w, struct rng *r, double m) {
    float sd = (float)(AUGMENT_MAX_NOISE * m * rng_uniform(r) * w->sd), pair[2];
    size_t n = (size_t)w->n_leads * (size_t)w->length;
    for (size_t i = 0; i < n; i++) {
        if (i % 2 == 0) normal_pair(r, pair);
        w->s->x[i] += sd * pair[i % 2];
    }
}

static void shift(struct augment_work *w, struct rng *r, double m) {
    int most = (int)(AUGMENT_MAX_SHIFT * m * w->length);
    int later = (int)rng_below(r, 2 * (uint64_t)most + 1) - most;
    int kept = w->length - (later < 0 ? -later : later);
    for (int c = 0; c < w->n_leads; c++) {
        float *x = row_of(w, c);
        memmove(x + (later > 0 ? later : 0), x + (later < 0 ? -later : 0), row_bytes(kept));
        memset(later > 0 ? x : x + kept, 0, row_bytes(w->length - kept));
    }
}

static void crop(struct augment_work *w, struct rng *r, double m) {
    int cut = draw_samples(r, AUGMENT_MAX_CROP * m, w->length), kept = w->length - cut;
    int first = (int)rng_below(r, (uint64_t)cut + 1);
    for (int c = 0; c < w->n_leads; c++) {
        float *x = row_of(w, c);
        memmove(x, x + first, row_bytes(kept));
        memset(x + kept, 0, row_bytes(cut));
    }
}

static void cutout(struct augment_work *w, struct rng *r, double m) {
    int window = draw_samples(r, AUGMENT_MAX_CUTOUT * m, w->length);
    int first = (int)rng_below(r, (uint64_t)(w->length - window) + 1);
    for (int c = 0; c < w->n_leads; c++) memset(row_of(w, c) + first, 0, row_bytes(window));
}

static void lead_drop(struct augment_work *w, struct rng *r, double m) {
    int order[LEADS_MAX], most = (int)ceil(AUGMENT_MAX_LEAD_DROP * m * w->n_leads);
    if (most > w->n_leads - 1) most = w->n_leads - 1;
    if (most < 1) return;
    int n = 1 + (int)rng_below(r, (uint64_t)most);
    for (int c = 0; c < w->n_leads; c++) order[c] = c;
    for (int i = 0; i < n; i++) {
        int j = i + (int)rng_below(r, (uint64_t)(w->n_leads - i)), dropped = order[j];
        order[j] = order[i];
        memset(row_of(w, dropped), 0, row_bytes(w->length));
    }
}

static const struct {
    void (*run)(struct augment_work *w, struct rng *r, double m);
    bool exact, wants_sd;
} table[AUGMENT_N_OPS] = {
    [AUGMENT_SCALING] = {scaling, false, false},    [AUGMENT_TIME_WARP] = {time_warp, false, false},
    [AUGMENT_WANDER] = {wander, false, true},       [AUGMENT_NOISE] = {noise, false, true},
    [AUGMENT_POWERLINE] = {powerline, false, true}, [AUGMENT_SHIFT] = {shift, true, false},
    [AUGMENT_CROP] = {crop, true, false},           [AUGMENT_CUTOUT] = {cutout, true, false},
    [AUGMENT_LEAD_DROP] = {lead_drop, true, false}};

void augment_op_run(enum augment_op op, struct augment_work *w, struct rng *r, double magnitude) {
    table[op].run(w, r, magnitude);
}

bool augment_op_is_exact(enum augment_op op) {
    return table[op].exact;
}

bool augment_op_wants_sd(enum augment_op op) {
    return table[op].wants_sd;
}
