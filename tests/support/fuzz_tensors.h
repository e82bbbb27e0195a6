/* SPDX-License-Identifier: MIT
 * What must hold for any file of tensors that was read, damaged or not. */
#ifndef TESTS_SUPPORT_FUZZ_TENSORS_H
#define TESTS_SUPPORT_FUZZ_TENSORS_H

#include "checkpoints/safetensors.h"
#include "tests/support/fuzz.h"

/* Names in order, sizes that follow from shapes and dtypes; reads every byte. */
void fuzz_check_tensors(const struct safetensors *s, struct fuzz_result *result);

typedef enum ecg_status fuzz_write_fn(const char *path, const struct safetensors_out *tensors, size_t n,
                                      const char *const *meta_keys, const char *const *meta_values, size_t n_meta);
/* Written by `write` and read again, the file holds the same. */
void fuzz_write_again(const struct safetensors *s, fuzz_write_fn *write, struct fuzz_result *result);

#endif
