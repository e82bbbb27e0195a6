/* SPDX-License-Identifier: MIT
 * Three devices: our own kernels, and the libraries twice. */
#include "train/run/selftest_conv.h"

#include <stdbool.h>
#include <stdio.h>

#include "kernels/cases.h"
#include "kernels/compare.h"

struct ways {
    const struct ops *ops;
    struct ops_dev *custom, *cudnn, *again, *oracle;
};

static enum ecg_status open_way(const struct ops *ops, struct ops_dev **dev, const char *how) {
    TRY(ops->open(dev, 0));
    return ops->choose_conv(*dev, how);
}

static enum ecg_status run_case(const struct op_case *c, const struct ways *w, size_t *n,
                                size_t *n_failed) {
    char label[160];
    struct compare_result result, same, beside;

    cases_label(c, label, sizeof(label));
    if (compare_case(c, w->ops, w->cudnn, ops_ref(), w->oracle, &result) != ECG_OK) {
        printf("NOT RUN by cudnn  %s: %s\n", label, ecg_message());
        return ECG_OK;
    }
    TRY(compare_same(c, w->ops, w->cudnn, w->again, &same));
    TRY(compare_case(c, w->ops, w->custom, w->ops, w->cudnn, &beside));
    const bool ok = result.ok && same.ok;
    printf("%s  cudnn: nmse %.1e  error %3.0f %% of bound; custom against cudnn: nmse %.1e  %3.0f "
           "%%  %s%s%s\n",
           ok ? "ok    " : "FAILED", result.nmse, 100 * result.error, beside.nmse,
           100 * beside.error, label, ok ? "" : ": ", result.ok ? same.problem : result.problem);
    *n_failed += !ok;
    ++*n;
    return ECG_OK;
}

static enum ecg_status run_all(const struct ways *w, size_t *n, size_t *n_failed) {
    size_t n_cases, n_convolutions = 0, before = *n;
    const struct op_case *table = cases_table(&n_cases);

    for (size_t i = 0; i < n_cases; i++) {
        if (table[i].family != &family_conv && table[i].family != &family_act_conv) continue;
        n_convolutions++;
        TRY(run_case(&table[i], w, n, n_failed));
    }
    printf("%zu of %zu convolutions done by cuBLAS and cuDNN too\n", *n - before, n_convolutions);
    return ECG_OK;
}

enum ecg_status selftest_conv(const struct ops *ops, struct ops_dev *oracle, size_t *n,
                              size_t *n_failed) {
    struct ways w = {.ops = ops, .oracle = oracle};
    enum ecg_status status;

    if (ops->choose_conv == NULL) return ECG_OK;
    TRY_OUT(open_way(ops, &w.custom, "custom"));
    if (open_way(ops, &w.cudnn, "cudnn") != ECG_OK) {
        printf("NOT RUN: convolutions by cuBLAS and cuDNN: %s\n", ecg_message());
        goto out;
    }
    TRY_OUT(open_way(ops, &w.again, "cudnn"));
    status = run_all(&w, n, n_failed);
out:
    ops->close(w.custom);
    ops->close(w.cudnn);
    ops->close(w.again);
    return status;
}
