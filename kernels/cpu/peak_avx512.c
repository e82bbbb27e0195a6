/* SPDX-License-Identifier: MIT
 * Peak of the AVX-512 level: fused multiply-adds of 16 floats. */
#include <immintrin.h>

#define PEAK_NAME peak_avx512
#define PEAK_VEC  __m512
#define PEAK_SUMS 24
#define PEAK_FLOP (2 * 16)

static inline __m512 peak_start(float x) {
    return _mm512_set1_ps(x);
}

static inline __m512 peak_step(__m512 sum) {
    return _mm512_fmadd_ps(sum, _mm512_set1_ps(0.5f), _mm512_set1_ps(1.0f));
}

#include "kernels/cpu/peak_template.h"
