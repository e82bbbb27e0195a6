/* SPDX-License-Identifier: MIT
 * The cpu backend over the whole case table: at each SIMD level against the oracle, with other numbers of threads,
 * sample by sample, and its gradients by differences. */
#include <stdlib.h>

#include "kernels/compare.h"
#include "kernels/ops.h"
#include "tests/support/check.h"
#include "tests/support/gradient.h"

/* The SIMD levels. */
#define LEVELS(X) X(avx512bf16) X(avx512) X(avx2) X(portable)

struct tally {
    size_t n;
    double nmse[2]; /* fp32's, bf16's */
    double nmse_share, error;
};

static double larger(double a, double b) {
    return a > b ? a : b;
}

/* Takes in one comparison. */
static void compared(enum ecg_status status, const struct op_case *c,
                     const struct compare_result *r, struct tally *t) {
    char label[160];
    double *nmse = &t->nmse[(c->flags & CASE_BF16) != 0];

    if (!CHECK_OK(status)) return;
    t->n++;
    *nmse = larger(r->nmse, *nmse);
    t->nmse_share = larger(r->nmse_share, t->nmse_share);
    t->error = larger(r->error, t->error);
    if (CHECK(r->ok)) return;
    cases_label(c, label, sizeof(label));
    check_note("%s: %s (nmse %.2g, %.2g of bound, error %.2g of bound)", label, r->problem, r->nmse,
               r->nmse_share, r->error);
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
    struct tally t = {0};

    if (!dev || !CHECK_OK(ops_ref()->open(&oracle, 1))) return;
    for (size_t i = 0; i < n; i++)
        compared(compare_case(&table[i], ops_cpu(), dev, ops_ref(), oracle, &r), &table[i], &r, &t);
    check_note("%zu cases, nmse up to %.2g (bf16: %.2g), %.2f of its bound, errors up to %.2f", t.n,
               t.nmse[0], t.nmse[1], t.nmse_share, t.error);
    ops_cpu()->close(dev);
    ops_ref()->close(oracle);
}

#define AGAINST_THE_ORACLE(level)                                                                  \
    static void level##_against_the_oracle(void) {                                                 \
        compare_table(#level);                                                                     \
    }
LEVELS(AGAINST_THE_ORACLE)

static void same_bytes_for_any_number_of_threads(void) {
    struct ops_dev *one = NULL, *other = NULL;
    struct compare_result r;
    struct tally t = {0};
    size_t n;
    const struct op_case *table = cases_table(&n);

    if (!CHECK_OK(ops_cpu()->open(&one, 1))) return;
    for (int threads = 2; threads <= 5; threads += 3) {
        if (!CHECK_OK(ops_cpu()->open(&other, threads))) break;
        for (size_t i = 0; i < n; i++)
            compared(compare_same(&table[i], ops_cpu(), one, other, &r), &table[i], &r, &t);
        ops_cpu()->close(other);
    }
    ops_cpu()->close(one);
}

static void samples_do_not_see_their_neighbours(void) {
    struct ops_dev *dev = NULL;
    struct compare_result r;
    struct tally t = {0};
    size_t n;
    const struct op_case *table = cases_table(&n);

    if (!CHECK_OK(ops_cpu()->open(&dev, 2))) return;
    for (size_t i = 0; i < n; i++)
        compared(compare_alone(&table[i], ops_cpu(), dev, &r), &table[i], &r, &t);
    ops_cpu()->close(dev);
}

static void gradients_by_differences(void) {
    struct ops_dev *dev = NULL;
    struct gradient_result g;
    size_t n;
    const struct op_case *table = cases_table(&n);
    double worst = 0;
    int n_checked = 0;

    if (!CHECK_OK(ops_cpu()->open(&dev, 1))) return;
    for (size_t i = 0; i < n; i++) {
        if (!gradient_applies(&table[i])) continue;
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
#define RUN(level) CASE(level##_against_the_oracle);
    LEVELS(RUN)
    CASE(same_bytes_for_any_number_of_threads);
    CASE(samples_do_not_see_their_neighbours);
    CASE(gradients_by_differences);
    return check_finish();
}
