/* SPDX-License-Identifier: MIT
 * Slurm's node lists: "n[01-03,07],m1", "rack[1-2]n[0-3]-ib". */
#ifndef TRAIN_COMM_HOSTLIST_H
#define TRAIN_COMM_HOSTLIST_H

#include <stddef.h>

#include "core/status.h"

/* The list's host number `index` (0: the first) in Slurm's order, in which the last bracket runs fastest.
 * ECG_ERR_FAIL when the list is malformed, has no such host, or the name does not fit into `size` bytes. */
enum ecg_status hostlist_at(const char *list, size_t index, char *host, size_t size);

#endif
