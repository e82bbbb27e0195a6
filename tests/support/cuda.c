/* SPDX-License-Identifier: MIT */
#include "tests/support/cuda.h"

#include <stdlib.h>
#include <unistd.h>

#include "tests/support/check.h"

const struct ops *cuda_emulated(void) {
    const struct ops *ops = NULL;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    check_skip("the emulation has sanitized builds of its own: make emu-test");
    return NULL;
#endif
    setenv("EINTHOVEN_CUDA_LIB", "build/emu/libeinthoven_cuda.so", 0);
    if (access(getenv("EINTHOVEN_CUDA_LIB"), R_OK) != 0) {
        check_skip("the emulated CUDA backend is not built: make emu");
        return NULL;
    }
    CHECK_OK(ops_find(&ops, "cuda"));
    return ops;
}
