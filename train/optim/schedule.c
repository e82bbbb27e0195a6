/* SPDX-License-Identifier: MIT
 * Schedules in closed form, each the definition of PyTorch's class of that name. */
#include "train/optim/schedule.h"

#include <math.h>

#define PI                     3.14159265358979323846
/* PyTorch's defaults of OneCycleLR and ReduceLROnPlateau */
#define ONECYCLE_DIV           25.0
#define ONECYCLE_FINAL_DIV     1e4
#define ONECYCLE_WARMUP        0.3
#define ONECYCLE_BASE_MOMENTUM 0.85
#define ONECYCLE_MAX_MOMENTUM  0.95
#define PLATEAU_THRESHOLD      1e-4
#define PLATEAU_EPS            1e-8 /* a smaller change of the rate is not made */

enum ecg_status schedule_check(const struct schedule *s) {
    bool is_planned = s->kind == SCHEDULE_COSINE || s->kind == SCHEDULE_ONECYCLE;
    bool drops = s->kind == SCHEDULE_STEP || s->kind == SCHEDULE_PLATEAU;
    bool has_floor = s->kind == SCHEDULE_COSINE || s->kind == SCHEDULE_PLATEAU;
    if (is_planned && s->total_steps < 1)
        return ecg_fail(ECG_ERR_CONFIG, "schedule: this run has no training step");
    if (is_planned && !(s->warmup <= 1))
        return ecg_fail(ECG_ERR_CONFIG, "schedule.warmup: %g is not a part of the run (0 .. 1)",
                        s->warmup);
    if (drops && !(s->gamma > 0 && s->gamma <= 1))
        return ecg_fail(ECG_ERR_CONFIG, "schedule.gamma: %g is outside (0, 1]", s->gamma);
    if (s->kind == SCHEDULE_STEP && (s->every < 1 || s->steps_per_epoch < 1))
        return ecg_fail(ECG_ERR_CONFIG, "schedule.every: %lld is not a number of epochs",
                        (long long)s->every);
    if (s->kind == SCHEDULE_PLATEAU && s->patience < 0)
        return ecg_fail(ECG_ERR_CONFIG, "schedule.patience: %lld is below 0",
                        (long long)s->patience);
    if (has_floor && !(s->min_lr >= 0 && s->min_lr <= s->lr))
        return ecg_fail(ECG_ERR_CONFIG, "schedule.min_lr: %g is outside 0 .. optim.lr %g",
                        s->min_lr, s->lr);
    return ECG_OK;
}

void schedule_start(struct schedule_state *state) {
    *state = (struct schedule_state){.factor = 1};
}

/* From a to b along half a cosine, t in [0, 1]. */
static double cosine(double a, double b, double t) {
    return b + (a - b) / 2 * (1 + cos(PI * t));
}

static double floor_factor(const struct schedule *s) {
    return s->lr > 0 ? s->min_lr / s->lr : 0;
}

static double step_factor(const struct schedule *s, int64_t step) {
    int64_t epoch = step / s->steps_per_epoch;
    return pow(s->gamma, (double)(epoch / s->every));
}

static double cosine_factor(const struct schedule *s, int64_t step) {
    double warmup = s->warmup < 0 ? 0 : s->warmup;
    int64_t rising = (int64_t)round(warmup * (double)s->total_steps);
    if (step < rising) return (double)(step + 1) / (double)(rising + 1);
    if (step >= s->total_steps) return floor_factor(s);
    double t = (double)(step - rising) / (double)(s->total_steps - rising);
    return cosine(1, floor_factor(s), t);
}

/* Two half cosines that meet at (not necessarily whole) step warmup * total - 1; the last step is total - 1. */
static struct schedule_point onecycle(const struct schedule *s, int64_t step) {
    double warmup = s->warmup < 0 ? ONECYCLE_WARMUP : s->warmup;
    double peak = warmup * (double)s->total_steps - 1, last = (double)(s->total_steps - 1);
    double first = 1 / ONECYCLE_DIV, end = first / ONECYCLE_FINAL_DIV;
    double x = (double)step < last ? (double)step : last;
    struct schedule_point point;
    if (x <= peak && peak > 0) {
        point.factor = cosine(first, 1, x / peak);
        point.beta1 = cosine(ONECYCLE_MAX_MOMENTUM, ONECYCLE_BASE_MOMENTUM, x / peak);
    } else {
        double t = last > peak ? (x - peak) / (last - peak) : 1;
        point.factor = cosine(1, end, t);
        point.beta1 = cosine(ONECYCLE_BASE_MOMENTUM, ONECYCLE_MAX_MOMENTUM, t);
    }
    return point;
}

struct schedule_point schedule_at(const struct schedule *s, const struct schedule_state *state,
                                  int64_t step) {
    struct schedule_point point = {.factor = 1, .beta1 = s->beta1};
    switch (s->kind) {
    case SCHEDULE_CONSTANT:
        break;
    case SCHEDULE_STEP:
        point.factor = step_factor(s, step);
        break;
    case SCHEDULE_COSINE:
        point.factor = cosine_factor(s, step);
        break;
    case SCHEDULE_ONECYCLE:
        point = onecycle(s, step);
        break;
    case SCHEDULE_PLATEAU:
        point.factor = state->factor;
        break;
    }
    return point;
}

static bool is_better(const struct schedule *s, const struct schedule_state *state, double metric) {
    if (isnan(metric)) return false;
    if (!state->has_best) return true;
    return s->maximize ? metric > state->best * (1 + PLATEAU_THRESHOLD)
                       : metric < state->best * (1 - PLATEAU_THRESHOLD);
}

void schedule_observe(const struct schedule *s, struct schedule_state *state, double metric) {
    if (s->kind != SCHEDULE_PLATEAU) return;
    if (is_better(s, state, metric)) {
        state->best = metric;
        state->has_best = true;
        state->n_bad = 0;
        return;
    }
    state->n_bad++;
    if (state->n_bad <= s->patience) return;
    double lower = fmax(state->factor * s->gamma, floor_factor(s));
    if ((state->factor - lower) * s->lr > PLATEAU_EPS) state->factor = lower;
    state->n_bad = 0;
}
