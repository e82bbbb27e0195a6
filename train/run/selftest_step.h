/* SPDX-License-Identifier: MIT
 * A few training steps of a small network on one device and on the cpu backend. */
#ifndef TRAIN_RUN_SELFTEST_STEP_H
#define TRAIN_RUN_SELFTEST_STEP_H

#include <stdbool.h>

#include "core/status.h"
#include "kernels/ops.h"

/* Prints a line: how far losses and gradient norms are from the cpu's, as a share of themselves, and whether two runs on the
 * device leave the same bits, with dropout, and without it one whose passes the backend may repeat from what it recorded and one
 * whose passes are all done anew. *ok: within 1e-4 in fp32, 1 % in bf16, and the same bits. */
enum ecg_status selftest_step(const struct ops *ops, struct ops_dev *dev, enum ops_dtype precision,
                              bool *ok);

#endif
