/* SPDX-License-Identifier: MIT
 * Three places to damage: the file anywhere, its directory at the end, and the pickle with an archive around it that is sound
 * (else its CRC would keep almost everything from the stack machine). */
#include "tests/support/fuzz_pth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "checkpoints/pth.h"
#include "tests/support/check.h"
#include "tests/support/pickles.h"

static uint64_t state;

/* xorshift64* */
static uint64_t draw(uint64_t below) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (state * UINT64_C(2685821657736338717) >> 16) % below;
}

static void damage_once(struct bytes *b, size_t from) {
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
    static const char opcodes[] = "\x80NG\x88\x89JKM\x8aXTUc(})]t\x85\x86\x87"
                                  "aesuqrhjQR\x81"
                                  "b.";
    size_t at = from + draw(b->n - from), room = b->n - at, n;
    switch (draw(7)) {
    case 0:
        b->v[at] ^= (char)(1 << draw(8));
        break;
    case 1:
        b->v[at] = (char)draw(256);
        break;
    case 2:
        b->v[at] = opcodes[draw(sizeof opcodes - 1)];
        break;
    case 3: {
        uint64_t v = notable[draw(sizeof notable / sizeof *notable)];
        n = (size_t)1 << draw(4);
        memcpy(b->v + at, &v, n < room ? n : room);
        break;
    }
    case 4: /* a piece of it somewhere else */
        n = 1 + draw(room < 40 ? room : 40);
        memmove(b->v + from + draw(b->n - from - n + 1), b->v + at, n);
        break;
    case 5: /* a piece is gone */
        n = 1 + draw(room < 20 ? room : 20);
        memmove(b->v + at, b->v + at + n, room - n);
        if (b->n - n > from) b->n -= n;
        break;
    default:
        if (draw(8) == 0 && at > from) b->n = at;
    }
}

static void damage(struct bytes *b, size_t from) {
    for (uint64_t n = 1 + draw(4); n > 0; n--) damage_once(b, from);
}

static void write_plain(const char *path, const struct bytes *b) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(b->v, 1, b->n, f) != b->n || fclose(f) != 0) abort();
}

static unsigned read_to_the_end(const struct safetensors *s) {
    unsigned sum = 0;
    for (size_t i = 0; i < s->n_entries; i++)
        for (size_t k = 0; k < s->entries[i].bytes; k++)
            sum = sum * 31 + ((const unsigned char *)s->entries[i].data)[k];
    return sum;
}

static bool survives_writing(const struct safetensors *s, const char *path) {
    struct safetensors again;
    struct safetensors_out *rows = calloc(s->n_entries, sizeof *rows);
    if (!rows) abort();
    for (size_t i = 0; i < s->n_entries; i++) {
        const struct safetensors_entry *e = &s->entries[i];
        rows[i] = (struct safetensors_out){e->name, e->dtype, e->ndim, {0}, e->data};
        memcpy(rows[i].shape, e->shape, sizeof rows[i].shape);
    }
    bool same = pth_write(path, rows, s->n_entries, (const char *const *)s->meta_keys,
                          (const char *const *)s->meta_values, s->n_meta) == ECG_OK &&
                pth_or_safetensors_open(&again, path) == ECG_OK;
    if (same) {
        same = again.n_entries == s->n_entries && read_to_the_end(&again) == read_to_the_end(s);
        safetensors_close(&again);
    }
    free(rows);
    return same;
}

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct fuzz_result fuzz_pth(uint64_t seed, size_t rounds, double seconds) {
    struct fuzz_result r = {0};
    struct bytes pickle = {0}, sound = {0}, b = {0};
    char path[4096], other[4096];
    snprintf(path, sizeof path, "%s/fuzz.pth", check_tmp());
    snprintf(other, sizeof other, "%s/again.pth", check_tmp());
    pickle_checkpoint(&pickle);
    pickle_archive(&sound, &pickle, 96, 24);
    state = seed;
    double until = seconds_now() + seconds;
    for (; seconds > 0 ? seconds_now() < until : r.rounds < rounds; r.rounds++) {
        struct bytes p = {0};
        b.n = 0;
        switch (draw(3)) {
        case 0:
            bytes_put(&b, sound.v, sound.n);
            damage(&b, 0);
            break;
        case 1:
            bytes_put(&b, sound.v, sound.n);
            damage(&b, sound.n - 260); /* the directory */
            break;
        default:
            bytes_put(&p, pickle.v, pickle.n);
            damage(&p, 0);
            pickle_archive(&b, &p, 96, 24);
        }
        bytes_free(&p);
        write_plain(path, &b);
        struct safetensors s;
        enum ecg_status status = pth_or_safetensors_open(&s, path);
        if (status == ECG_OK) {
            r.read++;
            r.sum += read_to_the_end(&s);
            if (r.read % 64 == 0) r.wrong += !survives_writing(&s, other);
            safetensors_close(&s);
        } else {
            r.refused++;
            r.wrong += status != ECG_ERR_DATA || !strstr(ecg_message(), "fuzz.pth");
        }
    }
    bytes_free(&pickle);
    bytes_free(&sound);
    bytes_free(&b);
    return r;
}
