/* SPDX-License-Identifier: MIT
 * .pth files with random damage: every one must be read or refused, and nothing else may happen. */
#ifndef TESTS_SUPPORT_FUZZ_PTH_H
#define TESTS_SUPPORT_FUZZ_PTH_H

#include <stddef.h>
#include <stdint.h>

struct fuzz_result {
    size_t rounds, read, refused;
    size_t wrong; /* another status than ECG_OK and ECG_ERR_DATA, or a message that does not name the file */
    unsigned sum; /* of all bytes that were read */
};

/* Damages a good file in `rounds` ways, or for `seconds` where that is more than 0; the ways follow from `seed`. What is read is
 * read to its last byte; and written and read again. */
struct fuzz_result fuzz_pth(uint64_t seed, size_t rounds, double seconds);

#endif
