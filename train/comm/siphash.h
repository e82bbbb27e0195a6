/* SPDX-License-Identifier: MIT
 * SipHash-2-4 (Aumasson and Bernstein 2012): a keyed 64-bit tag that can't be made without the key. */
#ifndef TRAIN_COMM_SIPHASH_H
#define TRAIN_COMM_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t siphash(const uint64_t key[2], const void *data, size_t bytes);

#endif
