/* SPDX-License-Identifier: MIT
 * Class-balanced sampling: how likely each record of the training part is drawn. */
#ifndef TRAIN_RUN_BALANCE_H
#define TRAIN_RUN_BALANCE_H

#include <stddef.h>

#include "core/status.h"
#include "data/shard.h"

/* weight[i] of record index[i]: 1 / the number of records with the rarest label that it has among `columns`; where it has none,
 * 1 / the number of records without any. An unknown label counts as absent. So each label that is some records' rarest is met
 * about as often as any other. ECG_ERR_CONFIG without columns. */
enum ecg_status balance_weights(struct dataset *d, const size_t *index, size_t n,
                                const int *columns, int n_columns, double *weight);

#endif
