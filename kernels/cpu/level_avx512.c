/* SPDX-License-Identifier: MIT
 * The AVX-512 level. */
#define LEVEL_NAME level_avx512
#define LEVEL_TEXT "avx512"

#include "kernels/cpu/avx512_template.h"
#include "kernels/cpu/level_template.h"
