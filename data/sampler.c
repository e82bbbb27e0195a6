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

void sampler_cumulate(size_t n, const double *weight, double *upto) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) upto[i] = sum += weight[i];
}

/* The first place whose sum lies above v. */
static size_t place_of(size_t n, const double *upto, double v) {
    size_t low = 0, high = n - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (upto[middle] > v)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

void sampler_draw(size_t n, const double *upto, uint64_t seed, uint32_t epoch, size_t *order) {
    struct rng r;
    rng_init(&r, seed, RNG_BALANCE, epoch, 0);
    for (size_t i = 0; i < n; i++) order[i] = place_of(n, upto, rng_uniform(&r) * upto[n - 1]);
}
