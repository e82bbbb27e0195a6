/* SPDX-License-Identifier: MIT
 * The dropout mask from Philox: one block of four words serves four neighbouring elements. */
#include "kernels/dropout.h"

#include "core/rng.h"

void ops_dropout_factors(const struct ops_act *act, int b, uint32_t i0, uint32_t n, float *factor) {
    const uint32_t key[2] = {(uint32_t)act->seed, (uint32_t)(act->seed >> 32)};
    const double drop = act->drop;
    const float keep = (float)(1.0 / (1.0 - drop));
    uint32_t counter[4] = {0, act->stream, act->step, (uint32_t)(act->sample0 + (uint64_t)b)};
    uint32_t words[4];

    for (uint32_t j = 0; j < n; j++) {
        const uint32_t i = i0 + j;
        if (j == 0 || i % 4 == 0) {
            counter[0] = i / 4;
            rng_philox4x32(counter, key, words);
        }
        factor[j] = words[i % 4] * 0x1p-32 >= drop ? keep : 0;
    }
}
