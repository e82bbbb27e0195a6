/* SPDX-License-Identifier: MIT
 * The cpu backend over the whole case table: at each SIMD level against the oracle, with other numbers of threads,
 * sample by sample, and its gradients by differences. */
#include <stdlib.h>
#include <string.h>

#include "kernels/compare.h"
#include "kernels/ops.h"
#include "tests/support/check.h"
#include "tests/support/gradient.h"

#define GRADIENT_WORK 1e5 /* differences call a forward pass some hundred times: small cases only */

static void report(const struct op_case *c, const struct compare_result *r) {
    char label[160];
    if (CHECK(r->ok)) return;
    cases_label(c, label, sizeof(label));
    check_note("%s: %s (nmse %.2g, error %.2g of bound)", label, r->problem, r->nmse, r->error);
}

/* Opens the backend at a SIMD level ("" = the best); skips the case where the processor lacks it. */
static struct ops_dev *open_level(const char *level, int n_threads) {
    struct ops_dev *dev = NULL;
    if (*level) setenv("EINTHOVEN_CPU", level, 1);
    const enum ecg_status status = ops_cpu()->open(&dev, n_threads);
    unsetenv("EINTHOVEN_CPU");
    if (status != ECG_OK) check_skip(ecg_message());
    return dev;
}

static void compare_table(const char *level) {
    struct ops_dev *dev = open_level(level, 2), *oracle = NULL;
    struct compare_result r;
    size_t n;
    const struct op_case *table = cases_table(&n);
    double nmse = 0, error = 0;

    if (!dev || !CHECK_OK(ops_ref()->open(&oracle, 1))) return;
    for (size_t i = 0; i < n; i++) {
        if (!CHECK_OK(compare_case(&table[i], ops_cpu(), dev, ops_ref(), oracle, &r))) continue;
        report(&table[i], &r);
        if (r.nmse > nmse) nmse = r.nmse;
        if (r.error > error) error = r.error;
    }
    check_note("%zu cases, nmse up to %.2g (bound %.0e), errors up to %.2f of their bound", n, nmse,
               COMPARE_NMSE, error);
    ops_cpu()->close(dev);
    ops_ref()->close(oracle);
}

static void avx512_against_the_oracle(void) {
    compare_table("avx512");
}

static void avx2_against_the_oracle(void) {
    compare_table("avx2");
}

static void portable_against_the_oracle(void) {
    compare_table("portable");
}

static void same_bytes_for_any_number_of_threads(void) {
    struct ops_dev *one = NULL, *other = NULL;
    struct compare_result r;
    size_t n;
    const struct op_case *table = cases_table(&n);

    if (!CHECK_OK(ops_cpu()->open(&one, 1))) return;
    for (int threads = 2; threads <= 5; threads += 3) {
        if (!CHECK_OK(ops_cpu()->open(&other, threads))) break;
        for (size_t i = 0; i < n; i++) {
            if (CHECK_OK(compare_same(&table[i], ops_cpu(), one, other, &r))) report(&table[i], &r);
        }
        ops_cpu()->close(other);
    }
    ops_cpu()->close(one);
}

static void samples_do_not_see_their_neighbours(void) {
    struct ops_dev *dev = NULL;
    struct compare_result r;
    size_t n;
    const struct op_case *table = cases_table(&n);

    if (!CHECK_OK(ops_cpu()->open(&dev, 2))) return;
    for (size_t i = 0; i < n; i++) {
        if (CHECK_OK(compare_alone(&table[i], ops_cpu(), dev, &r))) report(&table[i], &r);
    }
    ops_cpu()->close(dev);
}

static void gradients_by_differences(void) {
    struct ops_dev *dev = NULL;
    struct gradient_result g;
    struct case_plan plan;
    size_t n;
    const struct op_case *table = cases_table(&n);
    double worst = 0;
    int n_checked = 0;

    if (!CHECK_OK(ops_cpu()->open(&dev, 1))) return;
    for (size_t i = 0; i < n; i++) {
        memset(&plan, 0, sizeof(plan));
        table[i].family->plan(&table[i], &plan);
        if (plan.work > GRADIENT_WORK || table[i].flags & CASE_DEGENERATE) continue;
        if (!CHECK_OK(gradient_check(&table[i], ops_cpu(), dev, &g))) continue;
        char label[160];
        if (!CHECK(g.worst <= GRADIENT_BOUND)) {
            cases_label(&table[i], label, sizeof(label));
            check_note("%s: gradient of %s is off by %.3g", label, g.input, g.worst);
        }
        n_checked += g.n_checked;
        if (g.worst > worst) worst = g.worst;
    }
    check_note("%d derivatives, relative error up to %.2g (bound %.0e)", n_checked, worst,
               GRADIENT_BOUND);
    ops_cpu()->close(dev);
}

int main(void) {
    CASE(avx512_against_the_oracle);
    CASE(avx2_against_the_oracle);
    CASE(portable_against_the_oracle);
    CASE(same_bytes_for_any_number_of_threads);
    CASE(samples_do_not_see_their_neighbours);
    CASE(gradients_by_differences);
    return check_finish();
}
