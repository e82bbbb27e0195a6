/* SPDX-License-Identifier: MIT
 * safetensors: a header made of a few tensors, whose sizes and places are wrong in one number now and then (a hole, an overlap,
 * a byte too many: what a check that is one off lets through), then damage to its text under a length that is right, or to the
 * file anywhere. What is read must tile its data, which is counted here once more. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/safetensors.h"
#include "tests/support/fuzz.h"
#include "tests/support/fuzz_tensors.h"

#define MAX_TENSORS 6

static const struct fuzz_word words[] = {
    FUZZ_WORD("{"),
    FUZZ_WORD("}"),
    FUZZ_WORD("["),
    FUZZ_WORD("]"),
    FUZZ_WORD(","),
    FUZZ_WORD(":"),
    FUZZ_WORD("\""),
    FUZZ_WORD("\\"),
    FUZZ_WORD("\\u0000"),
    FUZZ_WORD("\\u0061"),
    FUZZ_WORD("\\ud800"),
    FUZZ_WORD("\0"),
    FUZZ_WORD("\xff\xfe"),
    FUZZ_WORD("null"),
    FUZZ_WORD("true"),
    FUZZ_WORD("-1"),
    FUZZ_WORD("0"),
    FUZZ_WORD("1e3"),
    FUZZ_WORD("4.0"),
    FUZZ_WORD("9223372036854775807"),
    FUZZ_WORD("9223372036854775808"),
    FUZZ_WORD("4611686018427387904"),
    FUZZ_WORD("\"a\":{"),
    FUZZ_WORD("\"dtype\":\"F32\","),
    FUZZ_WORD("\"shape\":[1],"),
    FUZZ_WORD("\"data_offsets\":[0,4],"),
    FUZZ_WORD("\"__metadata__\":{\"k\":\"v\"},"),
    FUZZ_WORD("{}"),
};
#define N_WORDS (sizeof words / sizeof *words)

static const char *const dtypes[] = {"F32", "F64", "F16", "BF16", "I64", "I32",
                                     "I16", "I8",  "U8",  "BOOL", "U64", "F4"};
static const int bits[] = {32, 64, 16, 16, 64, 32, 16, 8, 8, 8, 64, 4};
#define N_DTYPES (sizeof bits / sizeof *bits)

/* A number beside the right one, or far from it. */
static int64_t other_than(int64_t right, struct rng *r) {
    static const int64_t far_away[] = {-1, INT64_MAX, INT64_MAX - 1, INT64_C(1) << 62, INT64_MIN};
    if (rng_below(r, 4) == 0) return far_away[rng_below(r, 5)];
    return right + (rng_below(r, 2) ? 1 : -1) * (int64_t)(1 + rng_below(r, 8));
}

static void put_shape(struct bytes *b, struct rng *r, bool is_wrong, int64_t *n) {
    int ndim = (int)rng_below(r, 4), wrong = is_wrong ? (int)rng_below(r, 4) : -1;
    *n = 1;
    for (int i = 0; i < ndim; i++) {
        int64_t extent = (int64_t)rng_below(r, 5);
        *n *= extent;
        bytes_text(b, "%s%lld", i ? "," : "",
                   (long long)(i == wrong ? other_than(extent, r) : extent));
    }
}

/* A tensor from `*at` on, and where it ends. */
static void put_tensor(struct bytes *b, struct rng *r, int i, int64_t *at, bool is_wrong) {
    static const char *const names[] = {"a",     "b.weight",   "\\u00e9",
                                        "q\\\"", "dense.bias", "\xc3\xa9"};
    size_t dtype = rng_below(r, N_DTYPES);
    int64_t n, begin = *at, end;
    int place = is_wrong ? (int)rng_below(r, 4) : -1;
    bytes_text(b, "\"%s%d\":{\"dtype\":\"%s\",\"shape\":[", names[rng_below(r, 6)],
               place == 3 ? 0 : i, dtypes[dtype]);
    put_shape(b, r, place == 0, &n);
    end = *at += (n * bits[dtype] + 7) / 8;
    if (place == 1) begin = other_than(begin, r);
    if (place == 2) end = other_than(end, r);
    bytes_text(b, "],\"data_offsets\":[%lld,%lld]}", (long long)begin, (long long)end);
}

static void make(struct bytes *b, struct rng *r) {
    struct bytes header = {0};
    int n = (int)rng_below(r, MAX_TENSORS), wrong = (int)rng_below(r, 2 * MAX_TENSORS);
    int64_t size = 0;
    uint64_t place = rng_below(r, 4);
    BYTES_PUT(&header, "{");
    if (rng_below(r, 2))
        BYTES_PUT(&header, "\"__metadata__\":{\"format\":\"pt\",\"\\u00e9\":\"a\\nb\"}");
    for (int i = 0; i < n; i++) {
        if (header.n > 1) BYTES_PUT(&header, ",");
        put_tensor(&header, r, i, &size, i == wrong);
    }
    BYTES_PUT(&header, "}");
    if (place == 0) fuzz_damage(&header, 0, r, words, N_WORDS);
    while (header.n % 8) BYTES_PUT(&header, " ");
    uint64_t length = header.n;
    bytes_put(b, &length, sizeof length);
    bytes_put(b, header.v, header.n);
    if (rng_below(r, 16) == 0) size += (int64_t)rng_below(r, 9) - 4; /* a tail, or cut */
    for (int64_t i = 0; i < size; i++) bytes_put(b, &(char){(char)(i % 251)}, 1);
    if (place == 1) fuzz_damage(b, 0, r, words, N_WORDS);
    bytes_free(&header);
}

/* No byte of the data is left out or stands in two tensors: each one is counted. */
static void check_tiling(const struct safetensors *s, struct fuzz_result *result) {
    uint64_t length;
    memcpy(&length, s->map.data, sizeof length);
    const char *base = s->map.data + sizeof length + length;
    size_t size = (size_t)(s->map.data + s->map.size - base);
    unsigned char *times = calloc(size + 1, 1);
    if (!times) abort();
    for (size_t i = 0; i < s->n_entries; i++) {
        const struct safetensors_entry *e = &s->entries[i];
        size_t from = (size_t)((const char *)e->data - base);
        if (from > size || e->bytes > size - from) {
            fuzz_wrong(result, "tensor %s lies outside the data", e->name);
            continue;
        }
        for (size_t k = 0; k < e->bytes; k++) times[from + k]++;
    }
    for (size_t k = 0; k < size; k++)
        if (times[k] != 1) {
            fuzz_wrong(result, "byte %zu of %zu stands in %d tensors", k, size, times[k]);
            break;
        }
    free(times);
}

static bool can_be_written(const struct safetensors *s) {
    for (size_t i = 0; i < s->n_entries; i++)
        if (s->entries[i].dtype == ST_OTHER) return false;
    return true;
}

static enum ecg_status read(const char *path, struct fuzz_result *result) {
    struct safetensors s;
    TRY(safetensors_open(&s, path));
    check_tiling(&s, result);
    fuzz_check_tensors(&s, result);
    if (result->read % 64 == 0 && can_be_written(&s))
        fuzz_write_again(&s, safetensors_write, result);
    safetensors_close(&s);
    return ECG_OK;
}

const struct fuzz_target fuzz_safetensors = {"fuzz.safetensors", ECG_ERR_DATA, make, read};
