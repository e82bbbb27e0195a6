/* SPDX-License-Identifier: MIT
 * Runs the case table (kernels/cases.h) on one device and on the oracle, and again on the device for the same bits; then
 * whole training steps. */
#include "train/run/selftest.h"

#include <stdio.h>

#include "kernels/cases.h"
#include "kernels/compare.h"
#include "kernels/ops.h"
#include "train/run/selftest_conv.h"
#include "train/run/selftest_step.h"

struct tally {
    size_t n_failed;
    double worst;
};

/* The device under test, opened twice: two runs must give the same bits. */
struct subject {
    const struct ops *ops;
    struct ops_dev *dev, *again, *oracle;
};

static enum ecg_status run_case(const struct op_case *c, const struct subject *s,
                                struct tally *tally) {
    char label[160];
    struct compare_result result, same;

    cases_label(c, label, sizeof(label));
    enum ecg_status status = compare_case(c, s->ops, s->dev, ops_ref(), s->oracle, &result);
    if (status == ECG_OK) status = compare_same(c, s->ops, s->dev, s->again, &same);
    if (status != ECG_OK) return ecg_fail_prefix(status, "%s: ", label);
    const int ok = result.ok && same.ok;
    printf("%s  nmse %.1e  error %3.0f %% of bound  %s%s%s\n", ok ? "ok    " : "FAILED",
           result.nmse, 100 * result.error, label, ok ? "" : ": ",
           result.ok ? same.problem : result.problem);
    tally->n_failed += !ok;
    if (!(result.error <= tally->worst)) tally->worst = result.error;
    return ECG_OK;
}

static enum ecg_status run_all(const struct subject *s, const char *device) {
    struct tally tally = {0};
    size_t n;
    const struct op_case *table = cases_table(&n);

    for (size_t i = 0; i < n; i++) TRY(run_case(&table[i], s, &tally));
    for (int precision = OPS_F32; precision <= OPS_BF16; precision++, n++) {
        bool ok;
        TRY(selftest_step(s->ops, s->dev, (enum ops_dtype)precision, &ok));
        tally.n_failed += !ok;
    }
    TRY(selftest_conv(s->ops, s->oracle, &n, &tally.n_failed));
    printf("%zu cases on %s: %zu failed; largest error %.0f %% of its bound\n", n, device,
           tally.n_failed, 100 * tally.worst);
    if (tally.n_failed == 0) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "selftest: %zu of %zu cases failed on %s", tally.n_failed, n,
                    device);
}

enum ecg_status selftest_run(const char *device, int n_threads) {
    struct subject s = {.ops = NULL};
    enum ecg_status status;

    TRY(ops_find(&s.ops, device));
    TRY_OUT(s.ops->open(&s.dev, n_threads));
    TRY_OUT(s.ops->open(&s.again, n_threads));
    TRY_OUT(ops_ref()->open(&s.oracle, 1));
    status = run_all(&s, device);
out:
    s.ops->close(s.dev);
    s.ops->close(s.again);
    ops_ref()->close(s.oracle);
    return status;
}
