/* SPDX-License-Identifier: MIT
 * Runs the case table (kernels/cases.h) on one device and on the oracle. */
#include "train/run/selftest.h"

#include <stdio.h>

#include "kernels/cases.h"
#include "kernels/compare.h"
#include "kernels/ops.h"

struct tally {
    size_t n_failed;
    double worst;
};

static enum ecg_status run_case(const struct op_case *c, const struct ops *ops, struct ops_dev *dev,
                                struct ops_dev *oracle_dev, struct tally *tally) {
    char label[160];
    struct compare_result result;

    cases_label(c, label, sizeof(label));
    const enum ecg_status status = compare_case(c, ops, dev, ops_ref(), oracle_dev, &result);
    if (status != ECG_OK) return ecg_fail_prefix(status, "%s: ", label);
    if (result.ok)
        printf("ok      nmse %.1e  error %3.0f %% of bound  %s\n", result.nmse, 100 * result.error,
               label);
    else
        printf("FAILED  nmse %.1e  error %3.0f %% of bound  %s: %s\n", result.nmse,
               100 * result.error, label, result.problem);
    tally->n_failed += !result.ok;
    if (result.error > tally->worst) tally->worst = result.error;
    return ECG_OK;
}

enum ecg_status selftest_run(const char *device, int n_threads) {
    const struct ops *ops = NULL;
    struct ops_dev *dev = NULL, *oracle_dev = NULL;
    struct tally tally = {0};
    enum ecg_status status;
    size_t n;
    const struct op_case *table = cases_table(&n);

    TRY(ops_find(&ops, device));
    TRY_OUT(ops->open(&dev, n_threads));
    TRY_OUT(ops_ref()->open(&oracle_dev, 1));
    for (size_t i = 0; i < n; i++) TRY_OUT(run_case(&table[i], ops, dev, oracle_dev, &tally));
    printf("%zu cases on %s: %zu failed; largest error %.0f %% of its bound\n", n, device,
           tally.n_failed, 100 * tally.worst);
    if (tally.n_failed > 0)
        status = ecg_fail(ECG_ERR_FAIL, "selftest: %zu of %zu cases failed on %s", tally.n_failed,
                          n, device);
out:
    ops->close(dev);
    ops_ref()->close(oracle_dev);
    return status;
}
