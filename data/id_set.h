/* SPDX-License-Identifier: MIT
 * The ids seen so far, as 64-bit hashes: 8 to 16 bytes each, so that 10 million fit anywhere. Two different ids share
 * a hash once in 370,000 imports of 10 million records. */
#ifndef DATA_ID_SET_H
#define DATA_ID_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

struct id_set {
    uint64_t *slots; /* 0 = free */
    size_t n, n_slots;
};

bool id_set_has(const struct id_set *s, const char *id);
enum ecg_status id_set_add(struct id_set *s, const char *id);
void id_set_free(struct id_set *s);

#endif
