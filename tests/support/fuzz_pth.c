/* SPDX-License-Identifier: MIT
 * .pth: damage to the file anywhere, to its directory at the end, to the pickle with an archive around it that is sound (else
 * its CRC would keep almost everything from the stack machine), and wrong numbers that all the rest agrees with: sizes of
 * members, views of storages. */
#include <libdeflate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/pickle.h"
#include "checkpoints/pth.h"
#include "checkpoints/zip.h"
#include "tests/support/check.h"
#include "tests/support/fuzz.h"
#include "tests/support/fuzz_tensors.h"
#include "tests/support/pickles.h"

static const struct fuzz_word opcodes[] = {
    FUZZ_WORD("\x80\2"), FUZZ_WORD("N"),      FUZZ_WORD("G"),      FUZZ_WORD("\x88"),
    FUZZ_WORD("\x89"),   FUZZ_WORD("J"),      FUZZ_WORD("K\1"),    FUZZ_WORD("M"),
    FUZZ_WORD("\x8a"),   FUZZ_WORD("X"),      FUZZ_WORD("T"),      FUZZ_WORD("U\1a"),
    FUZZ_WORD("c"),      FUZZ_WORD("("),      FUZZ_WORD("}"),      FUZZ_WORD("]"),
    FUZZ_WORD(")"),      FUZZ_WORD("t"),      FUZZ_WORD("\x85"),   FUZZ_WORD("\x86"),
    FUZZ_WORD("\x87"),   FUZZ_WORD("a"),      FUZZ_WORD("e"),      FUZZ_WORD("s"),
    FUZZ_WORD("u"),      FUZZ_WORD("q\1"),    FUZZ_WORD("r"),      FUZZ_WORD("h\1"),
    FUZZ_WORD("j"),      FUZZ_WORD("Q"),      FUZZ_WORD("R"),      FUZZ_WORD("\x81"),
    FUZZ_WORD("b"),      FUZZ_WORD("."),      FUZZ_WORD("PK\1\2"), FUZZ_WORD("PK\3\4"),
    FUZZ_WORD("PK\5\6"), FUZZ_WORD("PK\6\6"), FUZZ_WORD("PK\6\7"),
};
#define N_OPCODES (sizeof opcodes / sizeof *opcodes)

/* A view of storage 0 that ends close to the storage's end, a number of it wrong now and then. */
static struct pickle_view random_view(struct rng *r) {
    struct pickle_view v = {"FloatStorage", "0", 24, 0, (int)rng_below(r, 4), {0}, {0}};
    int64_t last = 0;
    for (int i = 0; i < v.ndim; i++) {
        v.shape[i] = (int64_t)rng_below(r, 8) - (rng_below(r, 30) == 0);
        v.strides[i] = (int64_t)rng_below(r, 7) - (rng_below(r, 30) == 0);
        if (v.shape[i] > 0) last += (v.shape[i] - 1) * v.strides[i];
    }
    v.offset = v.numel - 3 - last + (int64_t)rng_below(r, 5);
    if (v.offset < 0 && rng_below(r, 8)) v.offset = 0;
    if (rng_below(r, 8) == 0) v.numel += (int64_t)rng_below(r, 5) - 2;
    if (rng_below(r, 16) == 0) v.type = "DoubleStorage";
    return v;
}

static void put_views(struct bytes *pickle, struct rng *r) {
    BYTES_PUT(pickle, "\x80\2}(");
    for (int i = 0, n = 1 + (int)rng_below(r, 3); i < n; i++) {
        char name[] = {(char)('a' + i), 0};
        struct pickle_view v = random_view(r);
        pickle_put_string(pickle, name);
        pickle_put_view(pickle, &v);
    }
    BYTES_PUT(pickle, "u.");
}

/* A member gets another size, in both of its headers, with the CRC-32 of what it then holds. */
static void resize_member(struct bytes *b, struct rng *r) {
    uint32_t central, at, bytes, crc;
    uint16_t name, extra;
    memcpy(&central, b->v + b->n - 6, sizeof central);
    for (uint64_t i = rng_below(r, 4);; i--) {
        memcpy(&name, b->v + central + 28, sizeof name);
        if (i == 0) break;
        central += 46u + name;
    }
    memcpy(&bytes, b->v + central + 20, sizeof bytes);
    memcpy(&at, b->v + central + 42, sizeof at);
    memcpy(&extra, b->v + at + 28, sizeof extra);
    bytes += (uint32_t)rng_below(r, 200) - 100;
    const char *data = b->v + at + 30 + name + extra;
    size_t room = (size_t)(b->v + b->n - data);
    crc = libdeflate_crc32(0, data, bytes < room ? bytes : room);
    for (int i = 0; i < 2; i++) {
        memcpy(b->v + at + 18 + 4 * i, &bytes, sizeof bytes);
        memcpy(b->v + central + 20 + 4 * i, &bytes, sizeof bytes);
    }
    memcpy(b->v + at + 14, &crc, sizeof crc);
    memcpy(b->v + central + 16, &crc, sizeof crc);
}

static void make(struct bytes *b, struct rng *r) {
    struct bytes pickle = {0};
    uint64_t place = rng_below(r, 5);
    if (place == 4)
        put_views(&pickle, r);
    else
        pickle_checkpoint(&pickle);
    if (place == 0) fuzz_damage(&pickle, 0, r, opcodes, N_OPCODES);
    pickle_archive(b, &pickle, 96, 24);
    if (place == 1) fuzz_damage(b, 0, r, opcodes, N_OPCODES);
    if (place == 2) fuzz_damage(b, b->n - 260, r, opcodes, N_OPCODES); /* the directory */
    if (place == 3) resize_member(b, r);
    bytes_free(&pickle);
}

/* Members lie apart, in front of the directory. */
static void check_members(const struct safetensors *s, struct fuzz_result *result) {
    struct zip z;
    if (zip_open(&z, s->path, s->map.data, s->map.size) != ECG_OK) {
        fuzz_wrong(result, "a second time: %s", ecg_message());
        return;
    }
    for (size_t i = 0; i < z.n; i++) {
        const struct zip_member *m = &z.members[i];
        size_t end = (size_t)(m->data - s->map.data) + m->bytes;
        if (end > s->map.size - 22) fuzz_wrong(result, "member %zu ends outside", i);
        for (size_t k = 0; k < z.n; k++)
            if (z.members[k].at > m->at && z.members[k].at < end)
                fuzz_wrong(result, "members %zu and %zu overlap", i, k);
    }
    zip_close(&z);
}

/* Storages hold 0, 1, 2 ... modulo 251: bytes of an element that are no such piece lie outside of them. */
static void check_values(const struct safetensors *s, struct fuzz_result *result) {
    for (size_t i = 0; i < s->n_entries; i++) {
        const struct safetensors_entry *e = &s->entries[i];
        const unsigned char *v = e->data;
        size_t size = e->n ? e->bytes / e->n : 1;
        for (size_t k = 1; k < e->bytes; k++)
            if (k % size && v[k] != (v[k - 1] + 1) % 251) {
                fuzz_wrong(result, "tensor %s: byte %zu is not of its storage", e->name, k);
                return;
            }
    }
}

/* The pickle alone, in memory that ends where it ends: in the archive something follows. */
static void read_pickle(const char *path) {
    struct file_map map;
    struct zip z;
    struct pickle pickle;
    if (file_map_open(&map, path) != ECG_OK) return;
    if (zip_open(&z, path, map.data, map.size) == ECG_OK) {
        const struct zip_member *m = zip_find(&z, "x/data.pkl", 10);
        char *copy = m && m->bytes ? malloc(m->bytes) : NULL;
        if (copy) {
            memcpy(copy, m->data, m->bytes);
            if (pickle_read(&pickle, path, copy, m->bytes) == ECG_OK) pickle_free(&pickle);
            free(copy);
        }
        zip_close(&z);
    }
    file_map_close(&map);
}

static enum ecg_status read(const char *path, struct fuzz_result *result) {
    struct safetensors s;
    read_pickle(path);
    TRY(pth_or_safetensors_open(&s, path));
    fuzz_check_tensors(&s, result);
    check_values(&s, result);
    check_members(&s, result);
    if (result->read % 64 == 0) fuzz_write_again(&s, pth_write, result);
    safetensors_close(&s);
    return ECG_OK;
}

const struct fuzz_target fuzz_pth = {"fuzz.pth", ECG_ERR_DATA, make, read};
