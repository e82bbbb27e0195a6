/* SPDX-License-Identifier: MIT
 * safetensors: round trips, conversions, byte-determinism, and a reader that nothing hostile gets past. The library's own
 * reading and writing of the same files is tests/test_safetensors.py. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/safetensors.h"
#include "tests/support/check.h"
#include "tests/support/fuzz.h"

static char path[4096];

static const char *in_tmp(const char *name) {
    snprintf(path, sizeof path, "%s/%s", check_tmp(), name);
    return path;
}

/* A file of this header and `data_bytes` zero bytes; `length` < 0: the header's own. */
static const char *forge(const char *header, size_t header_bytes, size_t data_bytes,
                         int64_t length) {
    uint64_t n = length < 0 ? header_bytes : (uint64_t)length;
    FILE *f = fopen(in_tmp("forged.safetensors"), "wb");
    if (!f) return path;
    fwrite(&n, 1, sizeof n, f);
    fwrite(header, 1, header_bytes, f);
    for (size_t i = 0; i < data_bytes; i++) fputc(0, f);
    fclose(f);
    return path;
}

static void refuse(const char *header, size_t data_bytes, const char *text) {
    struct safetensors s;
    CHECK_FAILS(safetensors_open(&s, forge(header, strlen(header), data_bytes, -1)), ECG_ERR_DATA,
                text);
    CHECK_FAILS(safetensors_open(&s, path), ECG_ERR_DATA,
                "forged.safetensors"); /* names the file */
    CHECK(s.entries == NULL && s.map.data == NULL);
}

static const float weights[6] = {1.5f, -2.0f, 0.1f, 1e-45f, INFINITY, -0.0f};
static const int64_t counter = INT64_C(-9007199254740993);
static const double wide[2] = {M_PI, 1e300};
static const uint8_t bytes[3] = {0, 1, 255};

static const struct safetensors_out sample[] = {
    {"b.bytes", ST_U8, 1, {3}, bytes},
    {"first_conv.conv.weight", ST_F32, 3, {1, 2, 3}, weights},
    {"bn.num_batches_tracked", ST_I64, 0, {0}, &counter},
    {"empty", ST_F32, 2, {4, 0}, NULL},
    {"a \"quoted\" \xc3\xa9 name", ST_F64, 1, {2}, wide},
};
#define N_SAMPLE (sizeof sample / sizeof *sample)
static const char *const meta_keys[] = {"format", "einthoven.labels"};
static const char *const values[] = {"pt", "AF\nLBBB \"left\"\n"};

static void round_trip(void) {
    struct safetensors s;
    if (!CHECK_OK(
            safetensors_write(in_tmp("rt.safetensors"), sample, N_SAMPLE, meta_keys, values, 2)))
        return;
    if (!CHECK_OK(safetensors_open(&s, path))) return;
    CHECK(s.n_entries == N_SAMPLE && s.n_meta == 2);
    CHECK_STR(safetensors_meta(&s, "format"), "pt");
    CHECK_STR(safetensors_meta(&s, "einthoven.labels"), values[1]);
    CHECK(safetensors_meta(&s, "absent") == NULL && safetensors_find(&s, "absent") == NULL);
    for (size_t i = 1; i < s.n_entries; i++)
        CHECK(strcmp(s.entries[i - 1].name, s.entries[i].name) < 0);
    for (size_t i = 0; i < N_SAMPLE; i++) {
        const struct safetensors_entry *e = safetensors_find(&s, sample[i].name);
        if (!CHECK(e != NULL)) continue;
        CHECK(e->dtype == sample[i].dtype && e->ndim == sample[i].ndim);
        CHECK(!memcmp(e->shape, sample[i].shape, sizeof(int64_t) * (size_t)e->ndim));
        CHECK(!e->bytes || !memcmp(e->data, sample[i].data, e->bytes));
    }
    const struct safetensors_entry *scalar = safetensors_find(&s, "bn.num_batches_tracked");
    CHECK(scalar && scalar->n == 1 && scalar->bytes == 8);
    CHECK_STR(safetensors_find(&s, "b.bytes")->dtype_name, "U8");
    safetensors_close(&s);
    safetensors_close(&s);
}

static char *slurp(const char *name, size_t *n) {
    char *data = NULL;
    CHECK_OK(file_read(in_tmp(name), 1u << 24, &data, n));
    return data;
}

/* The order of tensors and of metadata that the caller has makes no difference; header and data are aligned. */
static void equal_content_gives_equal_bytes(void) {
    struct safetensors_out reversed[N_SAMPLE];
    for (size_t i = 0; i < N_SAMPLE; i++) reversed[i] = sample[N_SAMPLE - 1 - i];
    const char *const keys2[] = {meta_keys[1], meta_keys[0]}, *const values2[] = {values[1],
                                                                                  values[0]};
    CHECK_OK(safetensors_write(in_tmp("one.safetensors"), sample, N_SAMPLE, meta_keys, values, 2));
    CHECK_OK(safetensors_write(in_tmp("two.safetensors"), reversed, N_SAMPLE, keys2, values2, 2));
    size_t n1 = 0, n2 = 0;
    char *one = slurp("one.safetensors", &n1), *two = slurp("two.safetensors", &n2);
    if (CHECK(one && two && n1 > 8)) {
        CHECK(n1 == n2 && !memcmp(one, two, n1));
        uint64_t header;
        memcpy(&header, one, sizeof header);
        CHECK(header % 8 == 0);
    }
    free(one);
    free(two);
}

/* Data that `fetch` brings, three bytes apart from where the row says, as if they lay on a device. */
static enum ecg_status fetch(void *context, const struct safetensors_out *t, size_t size,
                             void *to) {
    int *calls = context;
    ++*calls;
    memcpy(to, (const char *)t->data + 3, size);
    return ECG_OK;
}

static enum ecg_status fail(void *context, const struct safetensors_out *t, size_t size, void *to) {
    (void)context, (void)t, (void)size, (void)to;
    return ecg_fail(ECG_ERR_FAIL, "the device is gone");
}

/* An image has the file's bytes, as many as safetensors_size says, and keeps its memory. */
static void data_from_elsewhere(void) {
    const size_t n = 700001;
    float *large = calloc(n, sizeof *large);
    size_t n1 = 0;
    uint64_t size = 0;
    int calls = 0;
    struct safetensors_image image = {0};
    if (!CHECK(large != NULL)) return;
    for (size_t i = 0; i < n; i++) large[i] = (float)i;
    struct safetensors_out rows[2] = {{"a", ST_F32, 1, {(int64_t)n}, large}, sample[0]};
    CHECK_OK(safetensors_write(in_tmp("here.safetensors"), rows, 2, meta_keys, values, 2));
    CHECK_OK(safetensors_size(rows, 2, meta_keys, values, 2, &size));
    CHECK_OK(safetensors_image_reserve(&image, size));
    const char *memory = image.data;
    for (int i = 0; i < 2; i++) rows[i].data = (const char *)rows[i].data - 3;
    CHECK_OK(safetensors_image_make(&image, rows, 2, meta_keys, values, 2, fetch, &calls));
    char *one = slurp("here.safetensors", &n1);
    CHECK(one && n1 == image.n && n1 == size && !memcmp(one, image.data, n1));
    CHECK(calls == 2 && image.data == memory);
    CHECK_FAILS(safetensors_image_make(&image, rows, 2, meta_keys, values, 2, fail, NULL),
                ECG_ERR_FAIL, "the device is gone");
    safetensors_image_free(&image);
    safetensors_image_free(&image);
    free(large);
    free(one);
}

static void conversions(void) {
    static const struct {
        uint16_t bits;
        float value;
    } halves[] = {{0x0000, 0.0f},     {0x3c00, 1.0f},      {0xc000, -2.0f},
                  {0x7bff, 65504.0f}, {0x0400, 0x1p-14f},  {0x03ff, 0x1.ff8p-15f},
                  {0x0001, 0x1p-24f}, {0x8001, -0x1p-24f}, {0x3555, 0x1.554p-2f},
                  {0x7c00, INFINITY}, {0xfc00, -INFINITY}};
    enum { N = sizeof halves / sizeof *halves };
    char header[256];
    snprintf(header, sizeof header,
             "{\"h\":{\"dtype\":\"F16\",\"shape\":[%d],\"data_offsets\":[0,%d]},"
             "\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[%d,%d]},"
             "\"i\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[%d,%d]}}",
             N + 1, 2 * N + 2, 2 * N + 2, 2 * N + 6, 2 * N + 6, 2 * N + 10);
    FILE *f = fopen(in_tmp("half.safetensors"), "wb");
    if (!CHECK(f != NULL)) return;
    uint64_t n = strlen(header);
    uint16_t nan = 0x7e01, brains[2] = {0x3fc0, 0xff80};
    fwrite(&n, 1, 8, f);
    fwrite(header, 1, n, f);
    for (int i = 0; i < N; i++) fwrite(&halves[i].bits, 1, 2, f);
    fwrite(&nan, 1, 2, f);
    fwrite(brains, 1, 4, f);
    fwrite("\1\0\0\0", 1, 4, f);
    fclose(f);

    struct safetensors s;
    float out[N + 1];
    if (!CHECK_OK(safetensors_open(&s, path))) return;
    CHECK_OK(safetensors_to_f32(&s, safetensors_find(&s, "h"), out));
    for (int i = 0; i < N; i++) CHECK(!memcmp(&out[i], &halves[i].value, 4));
    CHECK(isnan(out[N]));
    CHECK_OK(safetensors_to_f32(&s, safetensors_find(&s, "b"), out));
    CHECK(out[0] == 1.5f && out[1] == -INFINITY);
    CHECK_FAILS(safetensors_to_f32(&s, safetensors_find(&s, "i"), out), ECG_ERR_DATA, "I32");
    safetensors_close(&s);

    double rounded[2] = {1.0 + 0x1p-24, 1.0 + 0x1.8p-23}; /* ties to even: down, up */
    struct safetensors_out d = {"d", ST_F64, 1, {2}, rounded};
    CHECK_OK(safetensors_write(in_tmp("wide.safetensors"), &d, 1, NULL, NULL, 0));
    if (!CHECK_OK(safetensors_open(&s, path))) return;
    CHECK(s.n_meta == 0);
    CHECK_OK(safetensors_to_f32(&s, safetensors_find(&s, "d"), out));
    CHECK(out[0] == 1.0f && out[1] == 1.0f + 0x1p-22f);
    safetensors_close(&s);
}

static void allowed_oddities(void) {
    struct safetensors s;
    if (CHECK_OK(safetensors_open(&s, forge("{}", 2, 0, -1)))) CHECK(s.n_entries == 0);
    safetensors_close(&s);
    const char *odd = "{\"x\":{\"dtype\":\"F9\",\"shape\":[3],\"data_offsets\":[0,5]},"
                      "\"y\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[5,7]},"
                      "\"z\":{\"dtype\":\"U16\",\"shape\":[0],\"data_offsets\":[5,5]}}   ";
    if (!CHECK_OK(safetensors_open(&s, forge(odd, strlen(odd), 7, -1)))) return;
    const struct safetensors_entry *x = safetensors_find(&s, "x");
    CHECK(x && x->dtype == ST_OTHER && x->bytes == 5);
    CHECK_STR(x ? x->dtype_name : "", "F9");
    float out[4];
    CHECK_FAILS(safetensors_to_f32(&s, x, out), ECG_ERR_DATA, "F9");
    safetensors_close(&s);
}

#define T(dtype, shape, b, e)                                                                      \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" b "," e "]}"

static void hostile_headers(void) {
    struct safetensors s;
    CHECK_FAILS(safetensors_open(&s, in_tmp("absent.safetensors")), ECG_ERR_NOINPUT, "absent");
    CHECK_FAILS(safetensors_open(&s, forge("{}", 2, 0, INT64_MAX)), ECG_ERR_DATA, "limit");
    CHECK_FAILS(safetensors_open(&s, forge("{}", 2, 0, 100)), ECG_ERR_DATA, "truncated");
    CHECK_FAILS(safetensors_open(&s, forge("", 0, 0, -1)), ECG_ERR_DATA, "'{'");
    refuse(" {}", 0, "'{'");
    refuse("{} x", 0, "");
    refuse("{\"a\":", 0, "");
    refuse("{\"a\":1}", 0, "\"a\"");
    refuse("{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "missing");
    refuse("{\"a\":{\"dtype\":1,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype");
    refuse("{\"a\":" T("F32", "1", "0", "4") "}", 4, "shape");
    refuse("{\"a\":" T("F32", "[-1]", "0", "4") "}", 4, "shape");
    refuse("{\"a\":" T("F32", "[1.0]", "0", "4") "}", 4, "shape");
    refuse("{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, "8 axes");
    refuse("{\"a\":" T("F32", "[4294967296,4294967296]", "0", "0") "}", 0, "overflow");
    refuse("{\"a\":" T("F32", "[4611686018427387904]", "0", "0") "}", 0, "do not make up");
    refuse("{\"a\":" T("F32", "[99999999999999999999]", "0", "0") "}", 0, "");
    refuse("{\"a\":" T("F32", "[2]", "0", "4") "}", 4, "do not make up");
    refuse("{\"a\":" T("F4", "[1]", "0", "1") "}", 1, "do not make up");
    refuse("{\"a\":" T("F32", "[1]", "-4", "0") "}", 4, "outside");
    refuse("{\"a\":" T("F32", "[1]", "4", "0") "}", 4, "outside");
    refuse("{\"a\":" T("F32", "[1]", "4", "8") "}", 4, "outside");
    refuse("{\"a\":" T("F32", "[1]", "0", "9223372036854775807") "}", 4, "outside");
    refuse("{\"a\":" T("F32", "[1]", "0.0", "4.0") "}", 4, "data_offsets");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "data_offsets");
    refuse("{\"a\":" T("F32", "[1]", "4", "8") "}", 8, "hole");
    refuse("{\"a\":" T("F32", "[1]", "0", "4") "}", 5, "behind the last");
    refuse("{}", 1, "behind the last");
    refuse("{\"a\":" T("F32", "[2]", "0", "8") ",\"b\":" T("F32", "[2]", "4", "12") "}", 12,
           "overlap");
    refuse("{\"a\":" T("F32", "[1]", "0", "4") ",\"b\":" T("F32", "[1]", "0", "4") "}", 4,
           "overlap");
    refuse("{\"a\":" T("F32", "[1]", "0", "4") ",\"a\":" T("F32", "[1]", "4", "8") "}", 8, "");
    refuse("{\"__metadata__\":[]}", 0, "__metadata__");
    refuse("{\"__metadata__\":{\"k\":1}}", 0, "\"k\"");
    refuse("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, "");
}

/* With JSON's own ways to say one thing twice, or to hide it. */
static void keys(void) {
    static const char one[] = "a \"quoted\" \xc3\xa9\n\t/ name";
    const char *escaped =
        "{\"a \\\"quoted\\\" \\u00e9\\n\\t\\/ name\":" T("F32", "[1]", "0", "4") "}";
    struct safetensors s;
    if (CHECK_OK(safetensors_open(&s, forge(escaped, strlen(escaped), 4, -1))))
        CHECK(safetensors_find(&s, one));
    safetensors_close(&s);
    const char *hidden = "{\"\\u005f_metadata__\":{\"\\u0061\":\"b\"}}";
    if (CHECK_OK(safetensors_open(&s, forge(hidden, strlen(hidden), 0, -1))))
        CHECK_STR(safetensors_meta(&s, "a"), "b");
    safetensors_close(&s);
    refuse("{\"a\":" T("F32", "[1]", "0", "4") ",\"\\u0061\":" T("F32", "[1]", "4", "8") "}", 8,
           "header:1:62: duplicate object key");
    refuse(
        "{\"x\":" T(
            "I8", "[0]", "0",
            "0") ",\"w\":{\"dtype\":\"F32\",\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        4, "duplicate object key near '\"dtype\"' in \"w\"");
    refuse("{\"w\":{\"shape\":[1],\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4,
           "in \"w\"");
    refuse(
        "{\"w\":{\"shape\":[1],\"dtype\":\"F32\",\"data_offsets\":[0,4],\"data_offsets\":[0,4]}}",
        4, "in \"w\"");
    refuse("{\"__metadata__\":{\"k\":\"1\"},\"__metadata__\":{\"l\":\"2\"}}", 0,
           "duplicate object key near '\"__metadata__\"'");
    refuse("{\"__metadata__\":{\"k\":\"1\",\"k\":\"1\"}}", 0, "near '\"k\"' in \"__metadata__\"");
    refuse("{\"a\\u0000\":" T("F32", "[1]", "0", "4") "}", 4, "header:1:");
    refuse("{\"\xff\":" T("F32", "[1]", "0", "4") "}", 4, "header:1:");
    refuse("{\"\\ud800\":" T("F32", "[1]", "0", "4") "}", 4, "header:1:");
}

/* Empty tensors may stand anywhere between others, but inside none and not behind the data. */
static void empty_tensors(void) {
    const char *good =
        "{\"a\":" T("F32", "[0,3]", "0", "0") ",\"b\":" T("F32", "[1]", "0", "4") ",\"c\":" T(
            "I64", "[5,0,9223372036854775807]", "4",
            "4") ",\"d\":" T("F16", "[2]", "4", "8") ",\"e\":" T("U8", "[0]", "8", "8") "}";
    struct safetensors s;
    if (CHECK_OK(safetensors_open(&s, forge(good, strlen(good), 8, -1)))) {
        CHECK(s.n_entries == 5 && safetensors_find(&s, "c")->n == 0 &&
              safetensors_find(&s, "d")->n == 2);
        safetensors_close(&s);
    }
    refuse("{\"a\":" T("F32", "[0]", "8", "8") "}", 0,
           "tensor \"a\": data_offsets [8, 8] lie outside");
    refuse("{\"a\":" T("F32", "[2]", "0", "8") ",\"b\":" T("F32", "[0]", "4", "4") "}", 8,
           "tensor \"b\": its data overlap");
    refuse("{\"a\":" T("F32", "[0]", "0", "4") "}", 4,
           "tensor \"a\": its shape and dtype F32 do not make up its 4 bytes");
    refuse("{\"a\":" T("F32", "[]", "0", "0") "}", 0, "tensor \"a\": its shape and dtype F32");
    refuse("{\"a\":" T("F32", "[0]", "0", "0") ",\"b\":" T("F32", "[1]", "4", "8") "}", 8,
           "tensor \"b\": there is a hole");
}

/* The header's length, and what no memory or address may come from. */
static void lengths(void) {
    static const uint64_t huge[] = {UINT64_C(1) << 63, UINT64_MAX, UINT64_MAX - 7,
                                    UINT64_C(1) << 32, 100000001};
    struct safetensors s;
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
        struct bytes b = {0};
        bytes_put(&b, &huge[i], sizeof huge[i]);
        BYTES_PUT(&b, "{}");
        bytes_save(&b, in_tmp("forged.safetensors"));
        CHECK_FAILS(safetensors_open(&s, path), ECG_ERR_DATA,
                    "over the format's limit of 100000000");
        bytes_free(&b);
    }
    CHECK_FAILS(safetensors_open(&s, forge("{}", 2, 0, 100000000)), ECG_ERR_DATA,
                "truncated: a header of 100000000 bytes");
    CHECK_FAILS(safetensors_open(&s, forge("{}", 2, 0, 3)), ECG_ERR_DATA,
                "truncated: a header of 3 bytes");
    refuse("{\"a\":" T("F64", "[2305843009213693952]", "0", "8") "}", 8,
           "tensor \"a\": its shape and dtype F64");
    refuse("{\"a\":" T("F64", "[1]", "0", "9223372036854775808") "}", 8, "in \"a\"");
}

static void deep_nesting(void) {
    enum { DEPTH = 10000 };
    static char text[2 * DEPTH + 16];
    size_t n = (size_t)sprintf(text, "{\"a\":");
    memset(text + n, '[', DEPTH);
    memset(text + n + DEPTH, ']', DEPTH);
    text[n + 2 * DEPTH] = '}';
    struct safetensors s;
    CHECK_FAILS(safetensors_open(&s, forge(text, n + 2 * DEPTH + 1, 0, -1)), ECG_ERR_DATA,
                "forged");
}

/* No truncation opens. */
static void cut_anywhere(void) {
    size_t n = 0, refused = 0;
    struct safetensors s;
    CHECK_OK(safetensors_write(in_tmp("seed.safetensors"), sample, N_SAMPLE, meta_keys, values, 2));
    char *data = slurp("seed.safetensors", &n);
    for (size_t cut = 0; data && cut < n; cut++) {
        bytes_save(&(struct bytes){.v = data, .n = cut}, in_tmp("cut.safetensors"));
        refused +=
            safetensors_open(&s, path) == ECG_ERR_DATA && strstr(ecg_message(), "cut.safetensors");
    }
    CHECK(n > 0 && refused == n);
    free(data);
}

/* tests/soak_fuzz_safetensors.c goes on for a minute. */
static void random_damage(void) {
    fuzz_some(&fuzz_safetensors, 4000);
}

static void shared_fixtures(void) {
    static const char *const names[] = {"net1d_small",    "net1d_small_bn", "net1d_small_1lead",
                                        "metrics",        "losses",         "preprocess",
                                        "official_small", "net1d_full"};
    const char *shared = check_shared();
    if (!shared) {
        check_skip("no shared fixtures here");
        return;
    }
    size_t tensors = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct safetensors s;
        snprintf(path, sizeof path, "%s/fixtures/%s.safetensors", shared, names[i]);
        if (CHECK_OK(safetensors_open(&s, path))) tensors += s.n_entries;
        safetensors_close(&s);
    }
    check_note("%zu tensors", tensors);
}

/* Reads a file and writes all it holds again, for tests/test_safetensors.py. */
static int copy_file(const char *from, const char *to) {
    struct safetensors s;
    if (safetensors_open(&s, from) != ECG_OK) {
        fprintf(stderr, "%s\n", ecg_message());
        return 1;
    }
    struct safetensors_out *out = calloc(s.n_entries + 1, sizeof *out);
    for (size_t i = 0; out && i < s.n_entries; i++) {
        const struct safetensors_entry *e = &s.entries[i];
        out[i] = (struct safetensors_out){e->name, e->dtype, e->ndim, {0}, e->data};
        memcpy(out[i].shape, e->shape, sizeof e->shape);
    }
    enum ecg_status status =
        safetensors_write(to, out, s.n_entries, (const char *const *)s.meta_keys,
                          (const char *const *)s.meta_values, s.n_meta);
    if (status != ECG_OK) fprintf(stderr, "%s\n", ecg_message());
    free(out);
    safetensors_close(&s);
    return status != ECG_OK;
}

int main(int argc, char **argv) {
    if (argc == 3) return copy_file(argv[1], argv[2]);
    CASE(round_trip);
    CASE(equal_content_gives_equal_bytes);
    CASE(data_from_elsewhere);
    CASE(conversions);
    CASE(allowed_oddities);
    CASE(hostile_headers);
    CASE(keys);
    CASE(empty_tensors);
    CASE(lengths);
    CASE(deep_nesting);
    CASE(cut_anywhere);
    CASE(random_damage);
    CASE(shared_fixtures);
    return check_finish();
}
