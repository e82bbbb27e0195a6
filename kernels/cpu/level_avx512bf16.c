/* SPDX-License-Identifier: MIT
 * The AVX-512 level with bf16 in hardware (Zen 4, Cooper Lake): fp32 as level_avx512, bit for bit. */
#define LEVEL_NAME     level_avx512bf16
#define LEVEL_TEXT     "avx512bf16"
#define LEVEL_HAS_BF16 1
#define LEVEL_FP32     level_avx512 /* whose products of fp32 are taken */

#include "kernels/cpu/avx512_template.h"

/* acc + lo * lo + hi * hi of each pair of bf16 */
static inline level_vec vec_dot(level_vec acc, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b);
}

static inline __m256i vec_to_half(level_vec v) {
    return (__m256i)_mm512_cvtneps_pbh(v);
}

#include "kernels/cpu/level_template.h"
