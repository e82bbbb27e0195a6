/* SPDX-License-Identifier: MIT
 * The bounds of bf16, from both sides: a backend that computes as the contract allows passes the whole table, and one
 * that makes a mistake is found, even where the mistake is a rounding that is missing. */
#include <math.h>
#include <string.h>

#include "kernels/bf16.h"
#include "kernels/compare.h"
#include "tests/support/check.h"
#include "tests/support/float_ops.h"

#define MOST_WORK 4e6 /* multiply-adds of the forward pass: float_ops is slow */

static const struct op_case conv_case = {&family_conv, 2, 79, 12, 16, 16, 2, 1, CASE_BF16};
static const struct op_case act_case = {&family_act, 2, 79, 5, 0, 0, 0, 0, CASE_SWISH | CASE_BF16};
static const struct op_case norm_case = {&family_norm, 2, 79, 5, 0, 0, 0, 0, CASE_BF16};
static const struct op_case mean_case = {&family_mean, 2, 79, 5, 0, 0, 0, 0, CASE_BF16};
static const struct op_case shortcut_case = {&family_shortcut, 2, 33, 5, 8, 0, 2, 0, CASE_BF16};
static const struct op_case fused_case = {&family_act_conv,
                                          2,
                                          79,
                                          24,
                                          24,
                                          5,
                                          1,
                                          2,
                                          CASE_SWISH | CASE_DROP | CASE_SIDE | CASE_STATS |
                                              CASE_Y_MEAN | CASE_BF16};

static struct compare_result compare(const struct op_case *c, const struct ops *ops) {
    struct compare_result result = {0};
    struct ops_dev *dev = NULL;

    if (!CHECK_OK(ops_ref()->open(&dev, 1))) return result;
    CHECK_OK(compare_case(c, ops, dev, ops_ref(), dev, &result));
    ops_ref()->close(dev);
    return result;
}

static void check_found(const struct op_case *c, const struct ops *broken, const char *text) {
    const struct compare_result r = compare(c, broken);
    if (!CHECK(!r.ok && strstr(r.problem, text) != NULL))
        check_note("looked for \"%s\", found \"%s\"", text, r.problem);
}

/* ------------------------------------------------------------------ convolution and activation */

static void honest_arithmetic_passes(void) {
    size_t n, n_run = 0;
    const struct op_case *table = cases_table(&n);
    double nmse = 0, nmse_share = 0, error = 0;
    char label[160];

    for (size_t i = 0; i < n; i++) {
        struct case_plan plan = {.n = 0};
        table[i].family->plan(&table[i], &plan);
        if (!(table[i].flags & CASE_BF16) || plan.work > MOST_WORK) continue;
        const struct compare_result r = compare(&table[i], float_ops(MISTAKE_NONE));
        n_run++;
        nmse = fmax(nmse, r.nmse);
        nmse_share = fmax(nmse_share, r.nmse_share);
        error = fmax(error, r.error);
        if (CHECK(r.ok)) continue;
        cases_label(&table[i], label, sizeof(label));
        check_note("%s: %s", label, r.problem);
    }
    CHECK(n_run > 250);
    check_note("%zu cases, nmse up to %.2g, %.2f of its bound, errors up to %.2f", n_run, nmse,
               nmse_share, error);
}

static void mistakes_are_found(void) {
    for (int m = MISTAKE_NONE + 1; m < N_MISTAKES; m++) {
        const struct compare_result fused = compare(&fused_case, float_ops((enum mistake)m)),
                                    conv = compare(&conv_case, float_ops((enum mistake)m));
        const int of_act = m == MISTAKE_RAW_ACT || m == MISTAKE_SLOPE || m == MISTAKE_NO_ADD;
        const int is_nan = m == MISTAKE_NAN;
        if (CHECK(!fused.ok && conv.ok == of_act) &&
            CHECK(!is_nan || strstr(fused.problem, "not finite")))
            continue;
        check_note("%s: \"%s\", \"%s\"", mistake_name((enum mistake)m), fused.problem,
                   conv.problem);
    }
    CHECK(compare(&fused_case, float_ops(MISTAKE_NONE)).ok);
    CHECK(compare(&conv_case, float_ops(MISTAKE_NONE)).ok);
}

/* Where a mistake shows: not only somewhere. */
static void the_buffer_is_named(void) {
    static const struct {
        enum mistake mistake;
        const struct op_case *c;
        const char *text;
    } known[] = {
        {MISTAKE_TAP, &conv_case, "too large: y of float"},
        {MISTAKE_RAW_WEIGHTS, &conv_case, "mean squared error too large: y of float"},
        {MISTAKE_RAW_ACT, &fused_case, "mean squared error too large: y of float"},
        {MISTAKE_LAST_ROW, &conv_case, "too large: dw of float"},
        {MISTAKE_LAST_ROW, &fused_case, "too large: mean of float"},
        {MISTAKE_SLOPE, &fused_case, "too large: dn of float"},
        {MISTAKE_SLOPE, &act_case, "too large: dn of float"},
        {MISTAKE_CUT_OUTPUT, &act_case, "mean squared error too large: a of float"},
        {MISTAKE_NO_ADD, &fused_case, "too large: dn of float"},
        {MISTAKE_NAN, &act_case, "not finite, or not written: a of float"},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        check_found(known[i].c, float_ops(known[i].mistake), known[i].text);
}

/* ------------------------------------------------------------------ what has no bound but one rounding */

/* The oracle's act_fwd with its largest element `moved` bf16 numbers further. */
static int moved;

static enum ecg_status act_moved(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                 const struct ops_act *act, const void *x, void *a) {
    uint16_t *at = a;
    TRY(ops_ref()->act_fwd(dev, dtype, s, act, x, a));
    for (int i = 1; i < s.B * s.L * s.C; i++) {
        if (fabsf(bf16_to_float(((uint16_t *)a)[i])) > fabsf(bf16_to_float(*at)))
            at = (uint16_t *)a + i;
    }
    *at = (uint16_t)(*at + moved);
    return ECG_OK;
}

static void one_flip_passes_and_three_do_not(void) {
    struct ops broken = *ops_ref();
    broken.act_fwd = act_moved;
    for (moved = -1; moved <= 1; moved++) CHECK(compare(&act_case, &broken).ok);
    moved = 3;
    check_found(&act_case, &broken, "error too large: a of");
    moved = -3;
    check_found(&act_case, &broken, "error too large: a of");
}

static enum ecg_status norm_stats_unbiased(struct ops_dev *dev, enum ops_dtype dtype,
                                           struct ops_blc s, const void *x, float *mean, float *var,
                                           struct ops_ws ws) {
    const float rows = (float)(s.B * s.L);
    TRY(ops_ref()->norm_stats(dev, dtype, s, x, mean, var, ws));
    for (int c = 0; c < s.C; c++) var[c] *= rows / (rows - 1);
    return ECG_OK;
}

static enum ecg_status mean_of_one_more(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                        const void *x, float *m) {
    TRY(ops_ref()->mean_fwd(dev, dtype, s, x, m));
    for (int i = 0; i < s.B * s.C; i++) m[i] *= (float)s.L / (float)(s.L + 1);
    return ECG_OK;
}

/* The gate goes by bf16 on its way in: it is no factor of a convolution. */
static enum ecg_status shortcut_rounds_gate(struct ops_dev *dev, enum ops_dtype dtype,
                                            struct ops_blc s, int Li, int Ci, int S, const void *h,
                                            const float *gate, const void *x, void *y) {
    float rounded[16];
    for (int i = 0; i < s.B * s.C; i++) rounded[i] = bf16_to_float(bf16_from_float(gate[i]));
    return ops_ref()->shortcut_fwd(dev, dtype, s, Li, Ci, S, h, rounded, x, y);
}

/* Every gradient one element too early. */
static enum ecg_status shortcut_shifts(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                       int Li, int Ci, int S, const void *x, const void *dy,
                                       void *dx) {
    uint16_t *grad = dx;
    TRY(ops_ref()->shortcut_bwd(dev, dtype, s, Li, Ci, S, x, dy, dx));
    const uint16_t first = grad[0];
    memmove(grad, grad + 1, ((size_t)s.B * Li * Ci - 1) * sizeof(*grad));
    grad[(size_t)s.B * Li * Ci - 1] = first;
    return ECG_OK;
}

static enum ecg_status gate_short(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                  const void *dy, const void *h, float *dgate) {
    TRY(ops_ref()->gate_bwd(dev, dtype, s, dy, h, dgate));
    dgate[1] -= bf16_to_float(((const uint16_t *)dy)[1]) * bf16_to_float(((const uint16_t *)h)[1]);
    return ECG_OK;
}

static void broken_primitives_are_found(void) {
    struct ops broken = *ops_ref();
    CHECK(compare(&norm_case, &broken).ok && compare(&mean_case, &broken).ok);
    CHECK(compare(&shortcut_case, &broken).ok);
    broken.norm_stats = norm_stats_unbiased;
    check_found(&norm_case, &broken, "too large: var of");
    broken.mean_fwd = mean_of_one_more;
    check_found(&mean_case, &broken, "too large: m of");
    broken = *ops_ref();
    broken.shortcut_fwd = shortcut_rounds_gate;
    check_found(&shortcut_case, &broken, "error too large: y of");
    broken = *ops_ref();
    broken.shortcut_bwd = shortcut_shifts;
    check_found(&shortcut_case, &broken, "too large: dx of");
    broken = *ops_ref();
    broken.gate_bwd = gate_short;
    check_found(&shortcut_case, &broken, "too large: dgate of");
}

/* ------------------------------------------------------------------ bytes */

static enum ecg_status act_behind(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                  const struct ops_act *act, const void *x, void *a) {
    TRY(ops_ref()->act_fwd(dev, dtype, s, act, x, a));
    ((uint16_t *)a)[(size_t)s.B * s.L * s.C] = 0;
    return ECG_OK;
}

static enum ecg_status act_unwritten(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                     const struct ops_act *act, const void *x, void *a) {
    const struct ops_blc less = {s.B, s.L - 1, s.C};
    return ops_ref()->act_fwd(dev, dtype, less, act, x, a);
}

static enum ecg_status act_into_input(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                      const struct ops_act *act, const void *x, void *a) {
    TRY(ops_ref()->act_fwd(dev, dtype, s, act, x, a));
    memcpy((void *)(uintptr_t)x, a, sizeof(uint16_t));
    return ECG_OK;
}

static void guards_are_two_bytes_away(void) {
    struct ops broken = *ops_ref();
    broken.act_fwd = act_behind;
    check_found(&act_case, &broken, "written behind its end: a of");
    broken.act_fwd = act_unwritten;
    check_found(&act_case, &broken, "not finite, or not written: a of");
    broken.act_fwd = act_into_input;
    check_found(&act_case, &broken, "an input was changed: x of");
}

/* One bit of one number that depends on the size of the batch, or on the device. */
static struct ops_dev *odd_device;

static enum ecg_status conv_by_place(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                                     const void *x, const float *w, const float *b, void *y,
                                     struct ops_ws ws) {
    TRY(ops_ref()->conv_fwd(dev, dtype, s, x, w, b, y, ws));
    const size_t last = (size_t)s.B * s.Lout * s.Cout - 1;
    if (odd_device ? dev == odd_device : s.B > 1) ((uint16_t *)y)[last] ^= 1;
    return ECG_OK;
}

static void single_bits_are_compared(void) {
    struct ops broken = *ops_ref();
    struct compare_result r;
    struct ops_dev *dev = NULL, *other = NULL;

    broken.conv_fwd = conv_by_place;
    if (!CHECK_OK(ops_ref()->open(&dev, 1)) || !CHECK_OK(ops_ref()->open(&other, 1))) return;
    CHECK_OK(compare_alone(&conv_case, ops_ref(), dev, &r));
    CHECK(r.ok);
    CHECK_OK(compare_same(&conv_case, ops_ref(), dev, other, &r));
    CHECK(r.ok);
    odd_device = NULL;
    CHECK_OK(compare_alone(&conv_case, &broken, dev, &r));
    CHECK(!r.ok && strstr(r.problem, "rest of the batch: y of") != NULL);
    odd_device = other;
    CHECK_OK(compare_same(&conv_case, &broken, dev, other, &r));
    CHECK(!r.ok && strstr(r.problem, "number of threads: y of") != NULL);
    ops_ref()->close(dev);
    ops_ref()->close(other);
}

/* ------------------------------------------------------------------ the table */

/* Every row in bf16 stands there in fp32 as well, and every family with a dtype has some. */
static void both_precisions_have_the_same_rows(void) {
    static const struct op_family *const families[] = {
        &family_input, &family_conv,     &family_norm,    &family_act,
        &family_mean,  &family_shortcut, &family_act_conv};
    enum { N = sizeof(families) / sizeof(families[0]) };
    size_t n, n_bf16[N] = {0};
    const struct op_case *table = cases_table(&n);

    for (size_t i = 0; i < n; i++) {
        struct op_case twin = table[i];
        size_t n_twins = 0;
        if (!(twin.flags & CASE_BF16)) continue;
        twin.flags &= ~CASE_BF16;
        for (size_t k = 0; k < n; k++) n_twins += memcmp(&table[k], &twin, sizeof(twin)) == 0;
        CHECK(n_twins >= 1);
        for (int k = 0; k < N; k++) n_bf16[k] += twin.family == families[k];
    }
    for (int k = 0; k < N; k++) CHECK(n_bf16[k] >= 10);
}

int main(void) {
    CASE(honest_arithmetic_passes);
    CASE(mistakes_are_found);
    CASE(the_buffer_is_named);
    CASE(one_flip_passes_and_three_do_not);
    CASE(broken_primitives_are_found);
    CASE(guards_are_two_bytes_away);
    CASE(single_bits_are_compared);
    CASE(both_precisions_have_the_same_rows);
    return check_finish();
}
