/* SPDX-License-Identifier: MIT
 * xxHash64, seed 0 (libxxhash): patient splits, shard and record checksums. */
#ifndef CORE_HASH_H
#define CORE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

uint64_t hash_bytes(const void *data, size_t n);
/* Of the whole file, whatever its size. Missing: ECG_ERR_NOINPUT; a failing read: ECG_ERR_IO. */
enum ecg_status hash_file(const char *path, uint64_t *out);

#endif
