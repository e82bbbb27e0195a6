/* SPDX-License-Identifier: MIT
 * Messages, memory, random numbers, hashes and the log. Philox is held against the known answers that
 * Random123 publishes (kat_vectors), xxHash64 against its specification's values. */
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/rng.h"
#include "core/status.h"
#include "tests/support/check.h"

static void *fail_elsewhere(void *unused) {
    (void)unused;
    ecg_fail(ECG_ERR_IO, "other thread");
    return NULL;
}

static void messages(void) {
    CHECK(ecg_fail(ECG_ERR_DATA, "record %d of %s", 3, "a.h5") == ECG_ERR_DATA);
    CHECK_STR(ecg_message(), "record 3 of a.h5");
    CHECK(ecg_fail_prefix(ECG_ERR_IO, "shard %d: ", 7) == ECG_ERR_IO);
    CHECK_STR(ecg_message(), "shard 7: record 3 of a.h5");
    ecg_fail(ECG_ERR_DATA, "again: %s", ecg_message()); /* an argument inside the message */
    CHECK_STR(ecg_message(), "again: shard 7: record 3 of a.h5");
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, fail_elsewhere, NULL) == 0);
    pthread_join(thread, NULL);
    CHECK_STR(ecg_message(), "again: shard 7: record 3 of a.h5");
    ecg_fail(ECG_ERR_DATA, "\033[31m%s\a", "x\ty\n");
    CHECK_STR(ecg_message(), "?[31mx\ty\n?");
    char *large = malloc(5001);
    memset(large, 'x', 5000);
    large[5000] = 0;
    ecg_fail(ECG_ERR_DATA, "%s", large);
    CHECK(strlen(ecg_message()) == 2047);
    CHECK_STR(ecg_message() + 2044, "...");
    ecg_fail(ECG_ERR_DATA, "end");
    ecg_fail_prefix(ECG_ERR_DATA, "%s", large);
    CHECK_STR(ecg_message() + 2044, "...");
    free(large);
    CHECK(ecg_exit_code(ECG_ERR_NOMEM) == 1 && ecg_exit_code(ECG_ERR_CONFIG) == 78);
    CHECK(ecg_exit_code(ECG_OK) == 0 && ecg_exit_code(ECG_ERR_STOPPED) == 75);
}

/* Resident memory of this process in bytes; 0: not known. */
static size_t resident(void) {
    long total = 0, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL) return 0;
    if (fscanf(f, "%ld %ld", &total, &pages) != 2) pages = 0;
    fclose(f);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* A large array is zero wherever it is read, also in memory that was used before, and takes memory only there. */
static void large_arrays_become_resident_when_used(void) {
    const size_t n = (size_t)256 << 20;
    unsigned char *p = NULL;
    for (int round = 0; round < 3; round++) {
        size_t before = resident(), odd = n + (size_t)round * 1000;
        if (!CHECK_OK(MEM_NEW(&p, odd))) return;
        CHECK((uintptr_t)p % MEM_ALIGN == 0);
        CHECK(resident() < before + n / 4); /* a sanitizer's own notes take an eighth */
        for (size_t i = 0; i < odd; i += 4093 * 61) CHECK(p[i] == 0);
        CHECK(p[0] == 0 && p[odd - 1] == 0);
        memset(p, 255, (size_t)8 << 20);
        memset(p + odd - 5000, 255, 5000);
        free(p);
    }
    for (size_t bytes = (size_t)3 << 20; bytes < (size_t)6 << 20; bytes += 500001) {
        size_t wrong = 0; /* from the heap, which holds what was freed */
        if (!CHECK_OK(MEM_NEW(&p, bytes))) return;
        for (size_t i = 0; i < bytes; i++) wrong += p[i] != 0;
        CHECK(wrong == 0);
        memset(p, 255, bytes);
        free(p);
    }
}

static void memory(void) {
    double *p = NULL;
    if (!CHECK_OK(MEM_NEW(&p, 1000))) return;
    CHECK((uintptr_t)p % MEM_ALIGN == 0);
    for (int i = 0; i < 1000; i++) CHECK_NEAR(p[i], 0, 0);
    free(p);
    CHECK_OK(MEM_NEW(&p, 0));
    CHECK(p != NULL);
    free(p);
    CHECK_FAILS(MEM_NEW(&p, SIZE_MAX / 4), ECG_ERR_NOMEM, "out of memory");
    CHECK(p == NULL);
    CHECK_FAILS(MEM_NEW(&p, SIZE_MAX / 8), ECG_ERR_NOMEM, "out of memory");

    int *list = NULL;
    size_t cap = 0;
    for (size_t i = 0; i < 1000; i++) {
        CHECK_OK(mem_grow((void **)&list, &cap, i + 1, sizeof *list));
        CHECK(cap > i && list[i] == 0);
        list[i] = (int)i;
    }
    for (int i = 0; i < 1000; i++) CHECK(list[i] == i);
    CHECK(cap < 2100);
    CHECK_FAILS(mem_grow((void **)&list, &cap, SIZE_MAX / 2, sizeof *list), ECG_ERR_NOMEM,
                "memory");
    CHECK(list[999] == 999); /* untouched by the failure */
    free(list);
}

static void *carve_all(struct arena *a, char **second) {
    char *first = arena_carve(a, 100);
    *second = arena_carve(a, 1);
    arena_carve(a, 0);
    return first;
}

static void arenas(void) {
    struct arena a = {0};
    char *first, *second;
    CHECK(carve_all(&a, &second) == NULL && second == NULL);
    CHECK(a.used == 192);
    if (!CHECK_OK(arena_commit(&a))) return;
    first = carve_all(&a, &second);
    CHECK(first && second == first + 128 && (uintptr_t)first % MEM_ALIGN == 0);
    CHECK(a.used == a.size && first[99] == 0);
    arena_free(&a);
    arena_free(&a);
    arena_carve(&a, SIZE_MAX - 100);
    arena_carve(&a, SIZE_MAX - 100); /* the sum overflows: it must not wrap round to a small one */
    CHECK_FAILS(arena_commit(&a), ECG_ERR_NOMEM, "out of memory");
    arena_free(&a);
}

static void philox_known_answers(void) {
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } rows[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint32_t out[4];
        rng_philox4x32(rows[i].counter, rows[i].key, out);
        for (int k = 0; k < 4; k++) CHECK(out[k] == rows[i].out[k]);
    }
}

static void random_sequences(void) {
    struct rng r, other;
    rng_init(&r, 0, 0, 0, 0); /* the first known answer's counter and key */
    CHECK_NEAR(rng_uniform(&r), (double)(0x6627e8d5e169c58dull >> 11) / 9007199254740992.0, 0);
    CHECK(rng_u32(&r) == 0xbc57ac4c);
    uint64_t seed = 0x299f31d0a4093822ull;
    rng_init(&r, seed, 0x85a308d3, 0x13198a2e, 0x03707344);
    r.counter[0] = 0x243f6a88;
    CHECK(rng_u32(&r) == 0xd16cfe09);
    /* Each part of the place counts, and so does the block number. */
    rng_init(&r, 1, RNG_SYNTH, 2, 3);
    uint32_t first = rng_u32(&r);
    rng_init(&other, 1ull << 32 | 1, RNG_SYNTH, 2, 3);
    CHECK(rng_u32(&other) != first);
    rng_init(&other, 1, RNG_INIT, 2, 3);
    CHECK(rng_u32(&other) != first);
    rng_init(&other, 1, RNG_SYNTH, 3, 2);
    CHECK(rng_u32(&other) != first);
    for (int i = 0; i < 3; i++) rng_u32(&r);
    CHECK(rng_u32(&r) != first); /* the second block */
}

static void random_distributions(void) {
    enum { N = 200000 };
    struct rng r;
    double sum = 0, squares = 0, fourth = 0, uniform = 0;
    long counts[7] = {0};
    rng_init(&r, 42, RNG_AUGMENT, 0, 0);
    for (int i = 0; i < N; i++) {
        double x = rng_normal(&r), u = rng_uniform(&r);
        sum += x;
        squares += x * x;
        fourth += x * x * x * x;
        uniform += u;
        if (!(u >= 0 && u < 1)) CHECK(u >= 0 && u < 1);
        uint64_t k = rng_below(&r, 7);
        if (!CHECK(k < 7)) return;
        counts[k]++;
    }
    /* Bounds: five standard errors. */
    check_note("mean %.4f, variance %.4f, fourth moment %.3f, uniform mean %.4f", sum / N,
               squares / N, fourth / N, uniform / N);
    CHECK_NEAR(sum / N, 0, 5 / sqrt(N));
    CHECK_NEAR(squares / N, 1, 5 * sqrt(2.0 / N));
    CHECK_NEAR(fourth / N, 3, 5 * sqrt(96.0 / N));
    CHECK_NEAR(uniform / N, 0.5, 5 * sqrt(1.0 / 12 / N));
    double chi = 0;
    for (int k = 0; k < 7; k++) chi += pow((double)counts[k] - N / 7.0, 2) / (N / 7.0);
    check_note("chi-square of 7 bins %.2f (bound 22.5: p = 0.001)", chi);
    CHECK(chi <= 22.5);
    CHECK(rng_below(&r, 1) == 0);
    /* Just above 2^63 nearly half of the draws are thrown away. */
    uint64_t limit = (1ull << 63) + 1;
    for (int i = 0; i < 1000; i++) CHECK(rng_below(&r, limit) < limit);
}

static void hashes(void) {
    char path[4200];
    uint64_t h = 0;
    CHECK(hash_bytes("", 0) == 0xEF46DB3751D8E999ull);
    CHECK(hash_bytes("abc", 3) == 0x44BC2CF5AD770999ull);
    size_t n = 700001; /* more than one piece */
    char *data = malloc(n);
    for (size_t i = 0; i < n; i++) data[i] = (char)(i * 31);
    snprintf(path, sizeof path, "%s/h", check_tmp());
    CHECK_OK(file_write(path, data, n));
    CHECK_OK(hash_file(path, &h));
    CHECK(h == hash_bytes(data, n));
    free(data);
    CHECK_FAILS(hash_file("/no/such", &h), ECG_ERR_NOINPUT, "/no/such");
    CHECK_FAILS(hash_file(check_tmp(), &h), ECG_ERR_IO, check_tmp());
}

/* Everything that log_all writes to stderr, in fresh memory. */
static char *logged(void (*log_all)(void)) {
    char path[4200], *text = NULL;
    size_t n;
    snprintf(path, sizeof path, "%s/log", check_tmp());
    fflush(stderr);
    int saved = dup(STDERR_FILENO), fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    dup2(fd, STDERR_FILENO);
    log_all();
    dup2(saved, STDERR_FILENO);
    close(fd);
    close(saved);
    CHECK_OK(file_read(path, 100000, &text, &n));
    return text;
}

static void log_each_level(void) {
    log_error("e %d", 1);
    log_warn("w");
    log_info("i");
    struct progress p;
    progress_start(&p, "import");
    progress_update(&p, 1, 10, "x"); /* nothing yet: a log file gets a line every 10 s */
    p.last = p.start -= 100;
    progress_update(&p, 25, 100, "9 ECG/s");
    progress_end(&p);
}

static void log_lines(void) {
    char *text = logged(log_each_level);
    if (!text) return;
    CHECK_STR(text, "einthoven: error: e 1\neinthoven: warning: w\neinthoven: i\n"
                    "einthoven: import: 25 %  25/100  ETA 0:05:00  9 ECG/s\n");
    free(text);
    log_set_level(LOG_WARN);
    text = logged(log_each_level);
    CHECK_STR(text, "einthoven: error: e 1\neinthoven: warning: w\n");
    free(text);
    log_set_level(LOG_INFO);
}

int main(void) {
    CASE(messages);
    CASE(memory);
    CASE(large_arrays_become_resident_when_used);
    CASE(arenas);
    CASE(philox_known_answers);
    CASE(random_sequences);
    CASE(random_distributions);
    CASE(hashes);
    CASE(log_lines);
    return check_finish();
}
