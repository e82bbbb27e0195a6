/* SPDX-License-Identifier: MIT
 * Peak of the portable level: 4 floats, a multiplication and an addition. */
#define PEAK_NAME peak_portable
#define PEAK_VEC  peak_vec
#define PEAK_SUMS 14
#define PEAK_FLOP (2 * 4)

typedef float peak_vec __attribute__((vector_size(16)));

static inline peak_vec peak_start(float x) {
    return (peak_vec){x, x, x, x};
}

static inline peak_vec peak_step(peak_vec sum) {
    return sum * 0.5f + 1.0f;
}

#include "kernels/cpu/peak_template.h"
