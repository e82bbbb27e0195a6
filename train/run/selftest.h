/* SPDX-License-Identifier: MIT
 * `einthoven selftest`: every operation of a backend against the oracle, on this machine's own hardware. */
#ifndef TRAIN_RUN_SELFTEST_H
#define TRAIN_RUN_SELFTEST_H

#include "core/status.h"

/* One line a case of the case table on stdout: operation and shape, mean squared error, largest error as a share of
 * its bound, verdict (a second run must give the same bits); a line for training steps in each precision, against the cpu
 * backend (selftest_step.h); where there are libraries beside the device's own kernels, a line a convolution done by them
 * (selftest_conv.h); then one closing line. n_threads 0: all allowed cores. ECG_ERR_FAIL when a case fails or the
 * device is not there. */
enum ecg_status selftest_run(const char *device, int n_threads);

#endif
