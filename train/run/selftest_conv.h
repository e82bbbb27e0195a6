/* SPDX-License-Identifier: MIT
 * Part of `einthoven selftest`: a device's second way of doing convolutions. */
#ifndef TRAIN_RUN_SELFTEST_CONV_H
#define TRAIN_RUN_SELFTEST_CONV_H

#include "kernels/ops.h"

/* Every convolution of the case table by NVIDIA's libraries: against the oracle, twice for the same bits, and our own kernels
 * against them; a line a case on stdout. Adds to *n the cases that ran and to *n_failed those that failed. Where libraries
 * are missing, or have a shape not, a line says so. Nothing where the device has one way only. */
enum ecg_status selftest_conv(const struct ops *ops, struct ops_dev *oracle, size_t *n,
                              size_t *n_failed);

#endif
