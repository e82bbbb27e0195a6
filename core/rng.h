/* SPDX-License-Identifier: MIT
 * Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011). A number is a pure function
 * of (seed, stream, a, b), so any thread or rank can draw any number in any order. */
#ifndef CORE_RNG_H
#define CORE_RNG_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One block of the generator: 4 x 32 bits from a 128-bit counter and a 64-bit key. */
void rng_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* A sequence with its own place: key = seed, counter = (block, stream, a, b). */
struct rng {
    uint32_t key[2];     /* seed */
    uint32_t counter[4]; /* [0] block number, [1] stream, [2] a, [3] b */
    uint32_t buffer[4];
    int left;            /* words of `buffer` not handed out yet */
};

/* Streams: one number for each use, so that no two uses share numbers. */
enum rng_stream {
    RNG_INIT = 1, /* a = tensor's index in the table */
    RNG_SHUFFLE,  /* a = epoch */
    RNG_DROPOUT,  /* kernels: see ops.h */
    RNG_DROP_PATH,
    RNG_AUGMENT, /* a = epoch, b = place in the epoch */
    RNG_SYNTH, /* a, b = record number, low and high word */
    RNG_BOOTSTRAP,
    RNG_BALANCE, /* a = epoch */
    RNG_MIXUP,   /* a = epoch, b = place in the epoch */
    RNG_SWEEP    /* a = trial, b = hash of the key */
};

/* Starts the sequence that (seed, stream, a, b) names: the same words at every start. */
void rng_init(struct rng *r, uint64_t seed, uint32_t stream, uint32_t a, uint32_t b);
uint32_t rng_u32(struct rng *r);
double rng_uniform(struct rng *r); /* [0, 1), 53 bits */
double rng_normal(struct rng *r);  /* mean 0, sd 1 (Box-Muller, two words pairs a call) */
uint64_t rng_below(struct rng *r, uint64_t n); /* 0 .. n-1 without bias; n >= 1 */

#ifdef __cplusplus
}
#endif
#endif
