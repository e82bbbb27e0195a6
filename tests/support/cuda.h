/* SPDX-License-Identifier: MIT
 * The cuda backend as built for the emulation, opened as the program opens its plug-in. */
#ifndef TESTS_SUPPORT_CUDA_H
#define TESTS_SUPPORT_CUDA_H

#include "kernels/ops.h"

/* Its table. Where it was not built (no C++ compiler) the present case is skipped; where it can't be opened the case
 * fails; NULL then. The file: $EINTHOVEN_CUDA_LIB, else build/emu/libeinthoven_cuda.so. */
const struct ops *cuda_emulated(void);

#endif
