/* SPDX-License-Identifier: MIT
 * What the fuzz targets have in common: random damage that follows from a seed, the rounds, and the program around a target
 * (tests/soak_fuzz_*.c). Every damaged file must be read or refused; a finding is anything else, and what the sanitizers
 * say, with which these programs are built in `make soak`. */
#ifndef TESTS_SUPPORT_FUZZ_H
#define TESTS_SUPPORT_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "core/rng.h"
#include "core/status.h"
#include "tests/support/bytes.h"

struct fuzz_result {
    size_t rounds, read, refused;
    size_t wrong; /* findings; the first one is printed with its seed and round */
    unsigned sum; /* of all bytes that were read */
};

/* A piece of the format's language that damage puts in. */
struct fuzz_word {
    const char *text;
    size_t n;
};
#define FUZZ_WORD(literal) {literal, sizeof(literal) - 1}

struct fuzz_target {
    const char *file;        /* name of the damaged file; a refusal must name it */
    enum ecg_status refusal; /* the one status that a bad file may have */
    /* Makes the round's file. */
    void (*make)(struct bytes *b, struct rng *r);
    /* Reads it to its last byte, and calls fuzz_wrong where what was read can't be. */
    enum ecg_status (*read)(const char *path, struct fuzz_result *result);
};
extern const struct fuzz_target fuzz_pth, fuzz_safetensors, fuzz_config;

void fuzz_wrong(struct fuzz_result *result, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* One to four times: a bit, a byte, a number of note, a word (n_words may be 0) put in or over, a piece moved, repeated or gone,
 * the end gone. What lies before `from` stays. */
void fuzz_damage(struct bytes *b, size_t from, struct rng *r, const struct fuzz_word *words, size_t n_words);

/* Round i is a function of seed and i alone. `rounds` of them, or for `seconds` where that is more than 0. */
struct fuzz_result fuzz_run(const struct fuzz_target *t, uint64_t seed, size_t rounds, double seconds);

/* A case of a test program: so many rounds, no finding, and some files read and some refused. */
void fuzz_some(const struct fuzz_target *t, size_t rounds);
/* main of a soak program: PROGRAM [SECONDS [SEED]]; without SECONDS those of EINTHOVEN_FUZZ_SECONDS, else 60. */
int fuzz_main(const struct fuzz_target *t, int argc, char **argv);

#endif
