/* SPDX-License-Identifier: MIT
 * Comparison of one case: by error against the oracle, or byte by byte. */
#include "kernels/compare.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/case_run.h"

static void fault(struct compare_result *res, const struct case_run *r, int at, const char *what) {
    if (!res->ok) return;
    res->ok = 0;
    snprintf(res->problem, sizeof(res->problem), "%s: %s of %s", what, r->plan.buffer[at].name,
             r->call.ops->name);
}

static int is_finite_buffer(const struct case_run *r, int at) {
    for (size_t i = 0; i < r->plan.buffer[at].n; i++) {
        if (!isfinite(case_run_get(r, at, i))) return 0;
    }
    return 1;
}

/* Looks over one run: guards, inputs, finite results. */
static void inspect(const struct case_run *r, struct compare_result *res) {
    int at = 0;
    const char *damage = case_run_damage(r, &at);
    if (damage) fault(res, r, at, damage);
    for (at = 0; at < r->plan.n; at++) {
        const struct case_buffer *b = &r->plan.buffer[at];
        if (b->n == 0 || b->role == CASE_INPUT) continue;
        if (!is_finite_buffer(r, at)) fault(res, r, at, "not finite, or not written");
    }
}

/* How far a buffer may be off. */
struct tolerance {
    double fixed;  /* of every element */
    double own;    /* times |element| */
    double handed; /* times |what was added to the element| */
    double nmse;
};

/* The largest |element|. */
static double size_of(const struct case_run *r, int at) {
    double size = 0;
    for (size_t i = 0; i < r->plan.buffer[at].n; i++)
        size = fmax(size, fabs(case_run_get(r, at, i)));
    return size;
}

/* What flipped roundings of few out of n numbers make of the NMSE. */
static double flips_nmse(size_t n) {
    return COMPARE_NMSE_BF16 * fmin(1, 1.0 / 64 + 16 / (double)n);
}

static struct tolerance tolerance_of(const struct case_run *oracle, int at, double scale) {
    const struct case_buffer *b = &oracle->plan.buffer[at];
    struct tolerance t = {.fixed = 8 * FLT_EPSILON * sqrt((double)b->terms) * scale,
                          .nmse = COMPARE_NMSE};
    if (b->bf16) {
        t.own = COMPARE_ULP;
        t.nmse += flips_nmse(b->n);
    }
    if (b->product > 0) {
        t.fixed += COMPARE_ULP * b->product * (2 + (double)b->terms / 256);
        t.nmse += flips_nmse(b->n_factors);
    }
    if (b->hands_on) {
        t.handed = COMPARE_ULP / 2;
        t.fixed += t.handed * b->beside;
        t.nmse += COMPARE_NMSE_BF16;
    }
    if (b->mean_of != CASE_NONE) {
        const double y = size_of(oracle, b->mean_of), rows = (double)b->mean_rows;
        const double mean = COMPARE_ULP * y / sqrt(rows);
        t.fixed += b->mean_power == 2 ? 2 * y * mean : b->mean_power == 1 ? mean : rows * mean;
        t.nmse += COMPARE_NMSE_BF16;
    }
    return t;
}

static double bound_of(struct tolerance t, const struct case_run *oracle, int at, size_t i) {
    const double want = case_run_get(oracle, at, i);
    const int adds = oracle->plan.buffer[at].role == CASE_UPDATED;
    const double added = want - (adds ? case_run_start(oracle, at, i) : 0);
    return t.fixed + t.own * fabs(want) + t.handed * fabs(added);
}

static void compare_buffer(const struct case_run *r, const struct case_run *oracle, int at,
                           struct compare_result *res) {
    const struct case_buffer *b = &r->plan.buffer[at];
    const struct tolerance t = tolerance_of(oracle, at, fmax(b->scale, size_of(oracle, at)));
    double square = 0, reference = 0, error = 0;

    for (size_t i = 0; i < b->n; i++) {
        const double want = case_run_get(oracle, at, i), d = case_run_get(r, at, i) - want;
        const double bound = bound_of(t, oracle, at, i);
        square += d * d;
        reference += want * want;
        error = fmax(error, bound > 0 ? fabs(d) / bound : fabs(d));
    }
    reference = fmax(reference, (double)b->n * b->scale * b->scale);
    const double nmse = reference > 0 ? square / reference : square;

    res->nmse = fmax(res->nmse, nmse);
    res->nmse_share = fmax(res->nmse_share, nmse / t.nmse);
    res->error = fmax(res->error, error);
    if (!(nmse <= t.nmse)) fault(res, r, at, "mean squared error too large");
    if (!(error <= 1)) fault(res, r, at, "largest error too large");
}

static enum ecg_status run(struct case_run *r, const struct ops *ops, struct ops_dev *dev,
                           const struct op_case *c, uint64_t sample0, int forward_only) {
    TRY(case_run_open(r, ops, dev, c, sample0, CASE_START_FULL));
    TRY(case_run_steps(r, forward_only));
    return case_run_fetch(r);
}

static void start_result(struct compare_result *res) {
    memset(res, 0, sizeof(*res));
    res->ok = 1;
}

enum ecg_status compare_case(const struct op_case *c, const struct ops *ops, struct ops_dev *dev,
                             const struct ops *oracle, struct ops_dev *oracle_dev,
                             struct compare_result *result) {
    struct case_run a = {0}, b = {0};
    enum ecg_status status;

    start_result(result);
    TRY_OUT(run(&a, ops, dev, c, 0, 0));
    TRY_OUT(run(&b, oracle, oracle_dev, c, 0, 0));
    inspect(&a, result);
    inspect(&b, result);
    for (int at = 0; at < a.plan.n && result->ok; at++) {
        if (a.plan.buffer[at].n > 0 && a.plan.buffer[at].role != CASE_INPUT)
            compare_buffer(&a, &b, at, result);
    }
out:
    case_run_close(&a);
    case_run_close(&b);
    return status;
}

enum ecg_status compare_same(const struct op_case *c, const struct ops *ops, struct ops_dev *dev,
                             struct ops_dev *other, struct compare_result *result) {
    struct case_run a = {0}, b = {0};
    enum ecg_status status;

    start_result(result);
    TRY_OUT(run(&a, ops, dev, c, 0, 0));
    TRY_OUT(run(&b, ops, other, c, 0, 0));
    inspect(&a, result);
    inspect(&b, result);
    for (int at = 0; at < a.plan.n; at++) {
        const size_t bytes = a.plan.buffer[at].n * case_element(&a.plan.buffer[at]);
        if (bytes > 0 && memcmp(case_run_bytes(&a, at), case_run_bytes(&b, at), bytes) != 0)
            fault(result, &a, at, "is not the same in two runs");
    }
out:
    case_run_close(&a);
    case_run_close(&b);
    return status;
}

/* The forward results of sample `sample` of the batch `all` against the batch of one. */
static void compare_sample(const struct case_run *all, const struct case_run *one, int sample,
                           struct compare_result *res) {
    for (int at = 0; at < one->plan.n; at++) {
        const struct case_buffer *b = &one->plan.buffer[at];
        const size_t bytes = b->n * case_element(b);
        if (!b->per_sample || bytes == 0) continue;
        const char *in_batch = case_run_bytes(all, at);
        if (memcmp(in_batch + (size_t)sample * bytes, case_run_bytes(one, at), bytes) != 0)
            fault(res, one, at, "depends on the rest of the batch");
    }
}

static int has_samples(const struct op_case *c) {
    struct case_plan plan = {.n = 0};
    int n = 0;
    c->family->plan(c, &plan);
    for (int at = 0; at < plan.n; at++)
        n += plan.buffer[at].per_sample && plan.buffer[at].role != CASE_INPUT;
    return n > 0;
}

enum ecg_status compare_alone(const struct op_case *c, const struct ops *ops, struct ops_dev *dev,
                              struct compare_result *result) {
    struct case_run all = {0}, one = {0};
    struct op_case single = *c;
    enum ecg_status status;

    start_result(result);
    if (!has_samples(c)) return ECG_OK;
    single.B = 1;
    TRY_OUT(run(&all, ops, dev, c, 0, 1));
    for (int sample = 0; sample < c->B; sample++) {
        TRY_OUT(run(&one, ops, dev, &single, (uint64_t)sample, 1));
        compare_sample(&all, &one, sample, result);
        case_run_close(&one);
    }
out:
    case_run_close(&all);
    case_run_close(&one);
    return status;
}
