/* SPDX-License-Identifier: MIT
 * Central differences over the case table. */
#include "tests/support/gradient.h"

#include <math.h>
#include <stdlib.h>

#include "core/mem.h"
#include "core/rng.h"
#include "kernels/case_run.h"

#define MOST_WORK 1e5 /* multiply-adds of the forward pass */

enum { N_SINGLE = 16, N_STEPS = 3 };
static const double steps[N_STEPS] = {1.0 / 32, 1.0 / 8, 1.0 / 128};

bool gradient_applies(const struct op_case *c) {
    struct case_plan plan = {.n = 0};
    c->family->plan(c, &plan);
    return plan.work <= MOST_WORK && !(c->flags & (CASE_DEGENERATE | CASE_BF16));
}

/* Calls the forward steps at the inputs as they are: F. */
static enum ecg_status evaluate(struct case_run *r, double *F) {
    TRY(case_run_steps(r, 1));
    TRY(case_run_fetch(r));
    *F = 0;
    for (int at = 0; at < r->plan.n; at++) {
        const struct case_buffer *b = &r->plan.buffer[at];
        if (b->upstream == CASE_NONE) continue;
        for (size_t i = 0; i < b->n; i++)
            *F += case_run_get(r, at, i) * case_run_start(r, b->upstream, i);
    }
    return ECG_OK;
}

/* F with input `at` moved by h * v; `moved` is scratch for n floats. */
static enum ecg_status evaluate_at(struct case_run *r, int at, const float *v, double h,
                                   float *moved, double *F) {
    TRY(case_run_reset(r));
    for (size_t i = 0; i < r->plan.buffer[at].n; i++)
        moved[i] = (float)(case_run_start(r, at, i) + h * v[i]);
    TRY(case_run_put(r, at, moved));
    return evaluate(r, F);
}

static enum ecg_status difference(struct case_run *r, int at, const float *v, double step,
                                  float *moved, double *slope) {
    double plus, minus, plus2, minus2;
    TRY(evaluate_at(r, at, v, step, moved, &plus));
    TRY(evaluate_at(r, at, v, -step, moved, &minus));
    TRY(evaluate_at(r, at, v, 2 * step, moved, &plus2));
    TRY(evaluate_at(r, at, v, -2 * step, moved, &minus2));
    *slope = (8 * (plus - minus) - (plus2 - minus2)) / (12 * step);
    return ECG_OK;
}

/* Compares the derivative along v with <g, v>. */
static enum ecg_status check_direction(struct case_run *r, int at, const double *g, const float *v,
                                       float *moved, struct gradient_result *result) {
    const size_t n = r->plan.buffer[at].n;
    double want = 0, g2 = 0, v2 = 0, error = INFINITY;

    for (size_t i = 0; i < n; i++) {
        want += g[i] * v[i];
        g2 += g[i] * g[i];
        v2 += (double)v[i] * v[i];
    }
    const double usual = sqrt(g2 * v2 / (double)n), size = fmax(fabs(want), usual);
    for (int i = 0; i < N_STEPS && !(error <= GRADIENT_BOUND / 4); i++) {
        double slope;
        TRY(difference(r, at, v, steps[i], moved, &slope));
        const double e = fabs(slope - want) / (size > 0 ? size : 1);
        if (e < error) error = e; /* NaN never is */
    }
    result->n_checked++;
    if (error <= result->worst) return ECG_OK;
    result->worst = error;
    result->input = r->plan.buffer[at].name;
    return ECG_OK;
}

static enum ecg_status check_input(struct case_run *r, int at, const double *g, float *v,
                                   float *moved, struct gradient_result *result) {
    const size_t n = r->plan.buffer[at].n;
    struct rng rng;

    rng_init(&rng, 99, (uint32_t)at, 0, 0);
    for (size_t i = 0; i < n; i++) v[i] = (float)((double)rng_below(&rng, 33) - 16) / 16;
    TRY(check_direction(r, at, g, v, moved, result));
    for (size_t i = 0; i < n; i++) v[i] = 0;
    for (int k = 0; k < N_SINGLE; k++) {
        const size_t i = n <= N_SINGLE ? (size_t)k : rng_below(&rng, n);
        if (i >= n) break;
        v[i] = 1;
        TRY(check_direction(r, at, g, v, moved, result));
        v[i] = 0;
    }
    return ECG_OK;
}

/* One input with all that it needs: its gradient as double, a direction and the moved input. */
static enum ecg_status check_buffer(struct case_run *r, int at, struct gradient_result *result) {
    const struct case_buffer *b = &r->plan.buffer[at];
    double *g = NULL;
    float *v = NULL, *moved = NULL;
    enum ecg_status status;

    TRY_OUT(MEM_NEW(&g, b->n));
    TRY_OUT(MEM_NEW(&v, b->n));
    TRY_OUT(MEM_NEW(&moved, b->n));
    TRY_OUT(case_run_reset(r));
    TRY_OUT(case_run_steps(r, 0));
    TRY_OUT(case_run_fetch(r));
    for (size_t i = 0; i < b->n; i++) g[i] = case_run_get(r, b->gradient, i);
    TRY_OUT(check_input(r, at, g, v, moved, result));
out:
    free(g);
    free(v);
    free(moved);
    return status;
}

enum ecg_status gradient_check(const struct op_case *c, const struct ops *ops, struct ops_dev *dev,
                               struct gradient_result *result) {
    struct case_run r = {0};
    enum ecg_status status;

    *result = (struct gradient_result){.input = ""};
    TRY_OUT(case_run_open(&r, ops, dev, c, 0, CASE_START_ZERO));
    for (int at = 0; at < r.plan.n; at++) {
        const struct case_buffer *b = &r.plan.buffer[at];
        if (b->n > 0 && b->gradient != CASE_NONE) TRY_OUT(check_buffer(&r, at, result));
    }
out:
    case_run_close(&r);
    return status;
}
