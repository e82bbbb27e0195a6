/* SPDX-License-Identifier: MIT
 * Peak of AVX-512 BF16: 16 sums of 2 products of bf16 numbers each, an instruction. The factors are 1 and 2^-20, so that the
 * sums stay small normal numbers. */
#include <immintrin.h>

#define PEAK_NAME peak_avx512bf16
#define PEAK_VEC  __m512
#define PEAK_SUMS 24
#define PEAK_FLOP (4 * 16)

static inline __m512 peak_start(float x) {
    return _mm512_set1_ps(x);
}

static inline __m512 peak_step(__m512 sum) {
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi16(0x3f80),
                            (__m512bh)_mm512_set1_epi16(0x3580));
}

#include "kernels/cpu/peak_template.h"
