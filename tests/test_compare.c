/* SPDX-License-Identifier: MIT
 * The comparison behind selftest and test_cpu_ops finds what it is there to find: backends that are broken on
 * purpose, one way each, are reported with the buffer and what is wrong with it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/compare.h"
#include "tests/support/check.h"
#include "train/run/selftest.h"

static const struct op_case swish_case = {&family_swish, 0, 33, 0, 0, 0, 0, 0, 0};
static const struct op_case linear_case = {&family_linear, 3, 0, 5, 4, 0, 0, 0, 0};
static const struct op_case conv_case = {&family_conv, 2, 9, 4, 8, 3, 1, 2, 0};

/* What `broken` gives on the case; "" when nothing is found. */
static const char *found(const struct op_case *c, const struct ops *broken) {
    static struct compare_result result;
    struct ops_dev *dev = NULL;

    if (!CHECK_OK(ops_ref()->open(&dev, 1))) return "";
    CHECK_OK(compare_case(c, broken, dev, ops_ref(), dev, &result));
    ops_ref()->close(dev);
    CHECK(result.ok == (result.problem[0] == 0));
    return result.problem;
}

static void nothing_to_find(void) {
    CHECK_STR(found(&swish_case, ops_ref()), "");
    CHECK_STR(found(&linear_case, ops_ref()), "");
    CHECK_STR(found(&conv_case, ops_ref()), "");
}

static enum ecg_status swish_off(struct ops_dev *dev, size_t n, const float *x, float *y) {
    TRY(ops_ref()->swish_fwd(dev, n, x, y));
    y[n - 1] *= 1.0001f;
    return ECG_OK;
}

static enum ecg_status swish_nan(struct ops_dev *dev, size_t n, const float *x, float *y) {
    TRY(ops_ref()->swish_fwd(dev, n, x, y));
    y[n / 2] = NAN;
    return ECG_OK;
}

static enum ecg_status swish_short(struct ops_dev *dev, size_t n, const float *x, float *y) {
    return ops_ref()->swish_fwd(dev, n - 1, x, y);
}

static enum ecg_status swish_behind(struct ops_dev *dev, size_t n, const float *x, float *y) {
    TRY(ops_ref()->swish_fwd(dev, n, x, y));
    y[n] = 0;
    return ECG_OK;
}

static enum ecg_status swish_before(struct ops_dev *dev, size_t n, const float *x, float *y) {
    TRY(ops_ref()->swish_fwd(dev, n, x, y));
    y[-1] = 0;
    return ECG_OK;
}

static enum ecg_status swish_into_input(struct ops_dev *dev, size_t n, const float *x, float *y) {
    TRY(ops_ref()->swish_fwd(dev, n, x, y));
    memcpy((void *)(uintptr_t)x, y, sizeof(*y));
    return ECG_OK;
}

static void broken_results_are_found(void) {
    static const struct {
        enum ecg_status (*swish_fwd)(struct ops_dev *, size_t, const float *, float *);
        const char *text;
    } ways[] = {
        {swish_off, "error too large: y of"},
        {swish_nan, "not finite, or not written: y of"},
        {swish_short, "not finite, or not written: y of"},
        {swish_behind, "written behind its end: y of"},
        {swish_before, "written before its start: y of"},
        {swish_into_input, "an input was changed: x of"},
    };
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct ops broken = *ops_ref();
        broken.swish_fwd = ways[i].swish_fwd;
        const char *problem = found(&swish_case, &broken);
        if (!CHECK(strstr(problem, ways[i].text) != NULL)) check_note("found: \"%s\"", problem);
    }
}

/* "=" where the contract says "+=". */
static enum ecg_status linear_assigns(struct ops_dev *dev, int M, int K, int N, const float *x,
                                      const float *dy, float *dw, float *db, struct ops_ws ws) {
    memset(dw, 0, (size_t)N * K * sizeof(*dw));
    return ops_ref()->linear_bwd_w(dev, M, K, N, x, dy, dw, db, ws);
}

static void assigning_instead_of_adding_is_found(void) {
    struct ops broken = *ops_ref();
    broken.linear_bwd_w = linear_assigns;
    CHECK(strstr(found(&linear_case, &broken), "dw of") != NULL);
}

static enum ecg_status conv_beyond_ws(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                      const void *x, const float *w, const float *b, void *y,
                                      struct ops_ws ws) {
    memset((char *)ws.p + ws.n, 0, 4);
    return ops_ref()->conv_fwd(dev, dtype, s, x, w, b, y, ws);
}

static void scratch_overrun_is_found(void) {
    struct ops broken = *ops_ref();
    struct compare_result result;
    struct ops_dev *dev = NULL;

    broken.conv_fwd = conv_beyond_ws;
    if (!CHECK_OK(ops_ref()->open(&dev, 1))) return;
    CHECK_FAILS(compare_case(&conv_case, &broken, dev, ops_ref(), dev, &result), ECG_ERR_FAIL,
                "outside its scratch memory");
    ops_ref()->close(dev);
}

/* A result that depends on the sample's place in the batch. */
static enum ecg_status conv_by_place(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                     const void *x, const float *w, const float *b, void *y,
                                     struct ops_ws ws) {
    TRY(ops_ref()->conv_fwd(dev, dtype, s, x, w, b, y, ws));
    float *last = (float *)y + (size_t)s.B * s.Lout * s.Cout - 1;
    if (s.B > 1) *last = nextafterf(*last, INFINITY);
    return ECG_OK;
}

static void dependence_on_the_batch_is_found(void) {
    struct ops broken = *ops_ref();
    struct compare_result result;
    struct ops_dev *dev = NULL;

    if (!CHECK_OK(ops_ref()->open(&dev, 1))) return;
    CHECK_OK(compare_alone(&conv_case, &broken, dev, &result));
    CHECK(result.ok);
    broken.conv_fwd = conv_by_place;
    CHECK_OK(compare_alone(&conv_case, &broken, dev, &result));
    CHECK(!result.ok && strstr(result.problem, "rest of the batch: y of") != NULL);
    ops_ref()->close(dev);
}

static void every_family_is_in_the_table(void) {
    static const struct op_family *const families[] = {
        &family_input,    &family_conv,     &family_linear,  &family_norm, &family_act,
        &family_mean,     &family_swish,    &family_sigmoid, &family_loss, &family_shortcut,
        &family_sums,     &family_adam,     &family_sgd,     &family_ema,  &family_se,
        &family_act_conv, &family_attention};
    size_t n;
    const struct op_case *table = cases_table(&n);

    for (size_t k = 0; k < sizeof(families) / sizeof(families[0]); k++) {
        size_t n_rows = 0;
        for (size_t i = 0; i < n; i++) n_rows += table[i].family == families[k];
        CHECK(n_rows >= 5);
    }
}

static void selftest_of_a_missing_device(void) {
    setenv("EINTHOVEN_CUDA_LIB", "/nowhere", 1);
    CHECK_FAILS(selftest_run("cuda", 1), ECG_ERR_FAIL, "EINTHOVEN_CUDA_LIB=/nowhere");
    unsetenv("EINTHOVEN_CUDA_LIB");
}

int main(void) {
    CASE(nothing_to_find);
    CASE(broken_results_are_found);
    CASE(assigning_instead_of_adding_is_found);
    CASE(scratch_overrun_is_found);
    CASE(dependence_on_the_batch_is_found);
    CASE(every_family_is_in_the_table);
    CASE(selftest_of_a_missing_device);
    return check_finish();
}
