/* SPDX-License-Identifier: MIT
 * Philox4x32-10 after Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 * Ten rounds of two 32 x 32 -> 64 bit products; the key moves on by the Weyl constants between rounds. */
#include "core/rng.h"

#include <assert.h>
#include <math.h>

#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u
#define PHILOX_W0 0x9E3779B9u /* golden ratio */
#define PHILOX_W1 0xBB67AE85u /* sqrt(3) - 1 */

static const double two_pi = 6.283185307179586476925;

void rng_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)PHILOX_M0 * c0, p1 = (uint64_t)PHILOX_M1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += PHILOX_W0;
        k1 += PHILOX_W1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void rng_init(struct rng *r, uint64_t seed, uint32_t stream, uint32_t a, uint32_t b) {
    *r =
        (struct rng){.key = {(uint32_t)seed, (uint32_t)(seed >> 32)}, .counter = {0, stream, a, b}};
}

uint32_t rng_u32(struct rng *r) {
    if (r->left == 0) {
        rng_philox4x32(r->counter, r->key, r->buffer);
        r->counter[0]++;
        r->left = 4;
    }
    return r->buffer[4 - r->left--];
}

/* High word first. */
static uint64_t rng_u64(struct rng *r) {
    uint64_t high = rng_u32(r);
    return high << 32 | rng_u32(r);
}

double rng_uniform(struct rng *r) {
    return (double)(rng_u64(r) >> 11) * 0x1p-53;
}

double rng_normal(struct rng *r) {
    double u = 1 - rng_uniform(r); /* (0, 1]: its logarithm is finite */
    double angle = two_pi * rng_uniform(r);
    return sqrt(-2 * log(u)) * cos(angle);
}

uint64_t rng_below(struct rng *r, uint64_t n) {
    assert(n >= 1);
    uint64_t biased = (0 - n) % n; /* 2^64 mod n: as many values as must be thrown away */
    uint64_t x;
    do x = rng_u64(r);
    while (x < biased);
    return x % n;
}
