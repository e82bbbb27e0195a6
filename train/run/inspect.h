/* SPDX-License-Identifier: MIT
 * inspect: what is in a shard, a data set, a weights file, a checkpoint or a run; for people or as JSON. */
#ifndef TRAIN_RUN_INSPECT_H
#define TRAIN_RUN_INSPECT_H

#include <stdbool.h>

#include "core/status.h"

/* Prints on stdout. ECG_ERR_NOINPUT when the path is none of these. */
enum ecg_status inspect_run(const char *path, bool json);

#endif
