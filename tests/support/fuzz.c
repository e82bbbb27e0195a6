/* SPDX-License-Identifier: MIT
 * See fuzz.h. Numbers of note are those at which a check is likely to be one off. */
#include "tests/support/fuzz.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/support/check.h"

#define FUZZ_STREAM 1000 /* of the counter-based numbers; no product's */

static uint64_t present_seed; /* of the run, for fuzz_wrong */

void fuzz_wrong(struct fuzz_result *result, const char *format, ...) {
    va_list args;
    if (result->wrong++ > 0) return;
    printf("    seed %llu, round %zu: ", (unsigned long long)present_seed, result->rounds);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

/* ---- damage ---- */

static void put_number(struct bytes *b, size_t at, struct rng *r) {
    static const uint64_t notable[] = {0,
                                       1,
                                       0x7f,
                                       0x80,
                                       0xff,
                                       0xffff,
                                       0x7fffffff,
                                       0xffffffff,
                                       UINT64_C(1) << 62,
                                       INT64_MAX,
                                       (uint64_t)INT64_MAX + 1,
                                       UINT64_MAX};
    uint64_t v = notable[rng_below(r, sizeof notable / sizeof *notable)];
    size_t n = (size_t)1 << rng_below(r, 4), room = b->n - at;
    memcpy(b->v + at, &v, n < room ? n : room);
}

static void put_word(struct bytes *b, size_t at, struct rng *r, const struct fuzz_word *words,
                     size_t n_words) {
    const struct fuzz_word *w = &words[rng_below(r, n_words)];
    if (rng_below(r, 2) == 0)
        bytes_insert(b, at, w->text, w->n);
    else
        memcpy(b->v + at, w->text, w->n < b->n - at ? w->n : b->n - at);
}

/* A piece at `at` stands somewhere else, too: over what was there, or between. */
static void copy_piece(struct bytes *b, size_t from, size_t at, struct rng *r) {
    char piece[40];
    size_t room = b->n - at, n = 1 + rng_below(r, room < sizeof piece ? room : sizeof piece);
    memcpy(piece, b->v + at, n);
    if (rng_below(r, 2) == 0)
        bytes_insert(b, from + rng_below(r, b->n - from + 1), piece, n);
    else
        memcpy(b->v + from + rng_below(r, b->n - from - n + 1), piece, n);
}

static void damage_once(struct bytes *b, size_t from, struct rng *r, const struct fuzz_word *words,
                        size_t n_words) {
    if (b->n <= from) return;
    size_t at = from + rng_below(r, b->n - from), room = b->n - at, n;
    switch (rng_below(r, n_words ? 8 : 6)) {
    case 0:
        b->v[at] ^= (char)(1 << rng_below(r, 8));
        break;
    case 1:
        b->v[at] = (char)rng_below(r, 256);
        break;
    case 2:
        put_number(b, at, r);
        break;
    case 3:
        copy_piece(b, from, at, r);
        break;
    case 4: /* a piece is gone */
        n = 1 + rng_below(r, room < 20 ? room : 20);
        memmove(b->v + at, b->v + at + n, room - n);
        b->n -= n;
        break;
    case 5:
        if (rng_below(r, 8) == 0) b->n = at;
        break;
    default:
        put_word(b, at, r, words, n_words);
    }
}

void fuzz_damage(struct bytes *b, size_t from, struct rng *r, const struct fuzz_word *words,
                 size_t n_words) {
    for (uint64_t n = 1 + rng_below(r, 4); n > 0; n--) damage_once(b, from, r, words, n_words);
}

/* ---- rounds ---- */

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void one_round(const struct fuzz_target *t, const char *path, struct fuzz_result *result) {
    struct bytes b = {0};
    struct rng r;
    rng_init(&r, present_seed, FUZZ_STREAM, (uint32_t)result->rounds,
             (uint32_t)((uint64_t)result->rounds >> 32));
    t->make(&b, &r);
    bytes_save(&b, path);
    bytes_free(&b);
    enum ecg_status status = t->read(path, result);
    if (status == ECG_OK)
        result->read++;
    else
        result->refused++;
    if (status != ECG_OK && (status != t->refusal || !strstr(ecg_message(), t->file)))
        fuzz_wrong(result, "status %d: %s", (int)status, ecg_message());
}

struct fuzz_result fuzz_run(const struct fuzz_target *t, uint64_t seed, size_t rounds,
                            double seconds) {
    struct fuzz_result result = {0};
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", check_tmp(), t->file);
    present_seed = seed;
    double until = seconds_now() + seconds;
    for (; seconds > 0 ? seconds_now() < until : result.rounds < rounds; result.rounds++)
        one_round(t, path, &result);
    return result;
}

static void must_hold(const struct fuzz_result *r) {
    CHECK(r->wrong == 0 && r->read > 0 && r->refused > 0);
    check_note("%zu files: %zu read, %zu refused", r->rounds, r->read, r->refused);
}

void fuzz_some(const struct fuzz_target *t, size_t rounds) {
    struct fuzz_result r = fuzz_run(t, UINT64_C(0x9e3779b97f4a7c15), rounds, 0);
    must_hold(&r);
}

static const struct fuzz_target *target;
static double seconds;
static uint64_t seed = 1;

static void damaged_files(void) {
    /* At once: a sanitizer ends the program, and leaves the round's file where it is. */
    check_note("seed %llu, %s/%s", (unsigned long long)seed, check_tmp(), target->file);
    fflush(stdout);
    struct fuzz_result r = fuzz_run(target, seed, 0, seconds);
    must_hold(&r);
}

int fuzz_main(const struct fuzz_target *t, int argc, char **argv) {
    const char *given = argc > 1 ? argv[1] : getenv("EINTHOVEN_FUZZ_SECONDS");
    target = t;
    seconds = given && *given ? strtod(given, NULL) : 60;
    if (argc > 2) seed = strtoull(argv[2], NULL, 0);
    if (!(seconds > 0)) {
        fprintf(stderr, "%s [SECONDS [SEED]]\n", argv[0]);
        return 2;
    }
    CASE(damaged_files);
    return check_finish();
}
