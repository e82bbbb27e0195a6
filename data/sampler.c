/* SPDX-License-Identifier: MIT
 * The order of an epoch, a pure function of seed and epoch. */
#include "core/rng.h"
#include "data/loader.h"

void sampler_order(size_t n, bool shuffle, uint64_t seed, uint32_t epoch, size_t *order) {
    for (size_t i = 0; i < n; i++) order[i] = i;
    if (!shuffle) return;
    struct rng r;
    rng_init(&r, seed, RNG_SHUFFLE, epoch, 0);
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)rng_below(&r, i), kept = order[i - 1];
        order[i - 1] = order[j];
        order[j] = kept;
    }
}
