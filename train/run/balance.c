/* SPDX-License-Identifier: MIT
 * Two passes over the labels: counts, then each record's rarest. */
#include "train/run/balance.h"

#include <stdint.h>
#include <stdlib.h>

#include "core/mem.h"

/* A label's count among the records; counts[n_columns]: records without any. */
static enum ecg_status count_labels(struct dataset *d, const size_t *index, size_t n,
                                    const int *columns, int n_columns, uint8_t *row,
                                    size_t *counts) {
    for (size_t i = 0; i < n; i++) {
        bool any = false;
        TRY(dataset_labels(d, index[i], row));
        for (int k = 0; k < n_columns; k++)
            if (row[columns[k]] == 1) {
                counts[k]++;
                any = true;
            }
        if (!any) counts[n_columns]++;
    }
    return ECG_OK;
}

static size_t rarest(const uint8_t *row, const int *columns, int n_columns, const size_t *counts) {
    size_t least = SIZE_MAX;
    for (int k = 0; k < n_columns; k++)
        if (row[columns[k]] == 1 && counts[k] < least) least = counts[k];
    return least < SIZE_MAX ? least : counts[n_columns];
}

enum ecg_status balance_weights(struct dataset *d, const size_t *index, size_t n,
                                const int *columns, int n_columns, double *weight) {
    uint8_t *row = NULL;
    size_t *counts = NULL;
    enum ecg_status status;
    if (n_columns == 0)
        return ecg_fail(ECG_ERR_CONFIG, "data.balance: it balances labels, and this run has none: "
                                        "set data.balance to false");
    TRY_OUT(MEM_NEW(&row, (size_t)d->schema.labels.n));
    TRY_OUT(MEM_NEW(&counts, (size_t)n_columns + 1));
    TRY_OUT(count_labels(d, index, n, columns, n_columns, row, counts));
    for (size_t i = 0; i < n; i++) {
        TRY_OUT(dataset_labels(d, index[i], row));
        weight[i] = 1.0 / (double)rarest(row, columns, n_columns, counts);
    }
out:
    free(row);
    free(counts);
    return status;
}
