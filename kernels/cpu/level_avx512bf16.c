/* SPDX-License-Identifier: MIT
 * The AVX-512 level with bf16 in hardware (Zen 4, Cooper Lake): fp32 as level_avx512, bit for bit. */
#define LEVEL_NAME     level_avx512bf16
#define LEVEL_TEXT     "avx512bf16"
#define LEVEL_HAS_BF16 1
#define LEVEL_FP32     level_avx512 /* whose products of fp32 are taken */

#include "kernels/cpu/avx512_template.h"

typedef int pair_anywhere __attribute__((aligned(2), may_alias));

/* acc + lo * lo + hi * hi of the pair at p and each pair of b. By hand: the compiler (gcc 12) neither folds the broadcast
 * into the instruction nor keeps more than eight accumulators in registers. */
static inline level_vec vec_dot_at(level_vec acc, const char *p, level_vec b) {
    __asm__("vdpbf16ps %2%{1to16%}, %1, %0"
            : "+v"(acc)
            : "v"(b), "m"(*(const pair_anywhere *)(const void *)p));
    return acc;
}

static inline __m256i vec_to_half(level_vec v) {
    return (__m256i)_mm512_cvtneps_pbh(v);
}

#include "kernels/cpu/level_template.h"
