/* SPDX-License-Identifier: MIT
 * Peak of the AVX2 level: fused multiply-adds of 8 floats. */
#include <immintrin.h>

#define PEAK_NAME peak_avx2
#define PEAK_VEC  __m256
#define PEAK_SUMS 12
#define PEAK_FLOP (2 * 8)

static inline __m256 peak_start(float x) {
    return _mm256_set1_ps(x);
}

static inline __m256 peak_step(__m256 sum) {
    return _mm256_fmadd_ps(sum, _mm256_set1_ps(0.5f), _mm256_set1_ps(1.0f));
}

#include "kernels/cpu/peak_template.h"
