/* SPDX-License-Identifier: MIT
 * data/h5: what is written comes back; wrong types, sizes and places are errors with file and object; a file cut or
 * changed anywhere ends in a status, never in a crash. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/rng.h"
#include "data/h5.h"
#include "tests/support/check.h"

/* libhdf5 loses memory when it refuses a damaged file; that is not ours to fix. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libhdf5";
}

static char *in_tmp(const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", check_tmp(), name);
    return path;
}

/* /a int16 (3, 2, 4), /b float32 (3), /c uint8 (3, 2), /id texts, attributes on the root and on /c. */
static void write_sample(const char *path) {
    struct h5_file *f;
    int16_t a[24];
    for (int i = 0; i < 24; i++) a[i] = (int16_t)(i * 100 - 1000);
    const float b[3] = {0.5f, -1.25f, 1e6f};
    const uint8_t c[6] = {0, 1, 255, 7, 8, 9};
    char *const id[3] = {"one", "zwei \xc3\xbc", ""};
    if (!CHECK_OK(h5_create(&f, path))) return;
    CHECK_OK(h5_put_attr_text(f, "/", "format", "sample"));
    CHECK_OK(h5_put_attr_number(f, "", "rate", 500.25));
    CHECK_OK(h5_put_attr_integer(f, "/", "version", 1));
    CHECK_OK(h5_put_i16(f, "/a", 3, (uint64_t[]){3, 2, 4}, a));
    CHECK_OK(h5_put_f32(f, "b", 1, (uint64_t[]){3}, b));
    CHECK_OK(h5_put_u8(f, "/c", 2, (uint64_t[]){3, 2}, c));
    CHECK_OK(h5_put_attr_text(f, "/c", "names", "x\ny"));
    CHECK_OK(h5_put_strings(f, "/id", 3, id));
    CHECK_OK(h5_close(f));
}

static void round_trip(void) {
    const char *path = in_tmp("round.h5");
    write_sample(path);
    struct h5_file *f;
    if (!CHECK_OK(h5_open(&f, path))) return;
    struct h5_info info;
    char name[32], *text;
    CHECK_OK(h5_dataset_info(f, "/a", &info));
    CHECK(info.ndim == 3 && info.shape[0] == 3 && info.shape[1] == 2 && info.shape[2] == 4);
    CHECK(info.contiguous && info.native && info.is_signed && info.offset > 0);
    CHECK_STR(h5_type_name(&info, name), "int16");
    int16_t a[16];
    CHECK_OK(h5_read_i16(f, "/a", 1, 2, a));
    CHECK(a[0] == -200 && a[15] == 1300);
    double d[3];
    CHECK_OK(h5_read_f64(f, "/b", 0, 3, d));
    CHECK(d[0] == 0.5 && d[1] == -1.25 && d[2] == 1e6);
    CHECK_OK(h5_attr_text(f, "/c", "names", &text, NULL));
    CHECK_STR(text, "x\ny");
    free(text);
    bool found;
    CHECK_OK(h5_attr_number(f, "/", "rate", &d[0], &found));
    CHECK(found && d[0] == 500.25);
    CHECK_OK(h5_attr_number(f, "/", "version", &d[0], NULL));
    CHECK(d[0] == 1);
    CHECK_OK(h5_attr_number(f, "/", "nothing", &d[0], &found));
    CHECK(!found);
    char **id;
    uint64_t n;
    CHECK_OK(h5_read_strings(f, "/id", &id, &n));
    CHECK(n == 3);
    CHECK_STR(id[0], "one");
    CHECK_STR(id[1], "zwei \xc3\xbc");
    CHECK_STR(id[2], "");
    h5_free_strings(id, n);
    CHECK(h5_has(f, "a") && h5_has(f, "/") && !h5_has(f, "/nothing") && !h5_has(f, "/x/y"));
    CHECK_OK(h5_close(f));
}

static void refuses_what_does_not_fit(void) {
    const char *path = in_tmp("wrong.h5");
    write_sample(path);
    struct h5_file *f;
    if (!CHECK_OK(h5_open(&f, path))) return;
    uint8_t u[24];
    int16_t i[3];
    double d;
    char *text;
    CHECK_FAILS(h5_read_u8(f, "/a", 0, 3, u), ECG_ERR_DATA, "out of range");
    CHECK_FAILS(h5_read_i16(f, "/b", 0, 3, i), ECG_ERR_DATA, "out of range");
    CHECK_FAILS(h5_read_u8(f, "/c", 2, 2, u), ECG_ERR_DATA, "rows 2 to 4 wanted of 3");
    CHECK_FAILS(h5_read_i16(f, "/id", 0, 3, i), ECG_ERR_DATA, "numbers wanted, found text");
    CHECK_FAILS(h5_read_f64(f, "/nothing", 0, 1, &d), ECG_ERR_DATA, "/nothing: is not there");
    CHECK_FAILS(h5_attr_text(f, "/", "rate", &text, NULL), ECG_ERR_DATA, "rate is no text");
    CHECK_FAILS(h5_attr_number(f, "/", "format", &d, NULL), ECG_ERR_DATA, "format is no number");
    CHECK_FAILS(h5_attr_number(f, "/", "gone", &d, NULL), ECG_ERR_DATA, "gone is missing");
    char **id;
    uint64_t n;
    CHECK_FAILS(h5_read_strings(f, "/b", &id, &n), ECG_ERR_DATA, "a list of texts wanted");
    CHECK_OK(h5_close(f));
    CHECK_FAILS(h5_open(&f, in_tmp("no.h5")), ECG_ERR_NOINPUT, "no.h5");
    CHECK_FAILS(h5_open(&f, check_tmp()), ECG_ERR_DATA, "is not a plain file");
    CHECK_OK(file_write(in_tmp("text.h5"), "hello", 5));
    CHECK_FAILS(h5_open(&f, in_tmp("text.h5")), ECG_ERR_DATA, "is not an HDF5 file");
    CHECK_FAILS(h5_create(&f, in_tmp("no/such.h5")), ECG_ERR_CREATE, "no/such.h5: can't create");
}

static void reserved_rows_are_the_callers(void) {
    const char *path = in_tmp("reserve.h5");
    struct h5_file *f;
    uint64_t offset;
    int16_t v[6] = {1, -2, 3, -4, 5, -6}, back[6] = {0};
    CHECK_OK(h5_create(&f, path));
    CHECK_OK(h5_reserve_i16(f, "/a", 2, (uint64_t[]){3, 2}, &offset));
    CHECK_OK(h5_put_attr_text(f, "/a", "later", "metadata after the reserved place"));
    CHECK_OK(h5_close(f));
    FILE *raw = fopen(path, "r+b");
    CHECK(raw != NULL && fseek(raw, (long)offset, SEEK_SET) == 0 && fwrite(v, 2, 6, raw) == 6);
    CHECK(raw != NULL && fclose(raw) == 0);
    CHECK_OK(h5_open(&f, path));
    CHECK_OK(h5_read_i16(f, "/a", 0, 3, back));
    CHECK(memcmp(v, back, sizeof v) == 0);
    CHECK_OK(h5_close(f));
}

/* Reads all that the sample holds, whatever comes; true when every call was ECG_OK. */
static bool read_everything(const char *path) {
    struct h5_file *f;
    if (h5_open(&f, path) != ECG_OK) return false;
    bool ok = true;
    const char *names[] = {"/a", "/b", "/c", "/id"};
    for (int i = 0; i < 4; i++) {
        struct h5_info info;
        double v[64];
        char **id;
        uint64_t n, items = 1;
        if (h5_dataset_info(f, names[i], &info) != ECG_OK) {
            ok = false;
            continue;
        }
        for (int k = 0; k < info.ndim; k++) items = items > 64 ? items : items * info.shape[k];
        if (info.type == H5_TEXT) {
            if (h5_read_strings(f, names[i], &id, &n) == ECG_OK)
                h5_free_strings(id, n);
            else
                ok = false;
        } else if (items > 64 || info.ndim == 0 ||
                   h5_read_f64(f, names[i], 0, info.shape[0], v) != ECG_OK) {
            ok = false;
        }
    }
    char *text = NULL;
    double d;
    ok = h5_attr_text(f, "/c", "names", &text, NULL) == ECG_OK && ok;
    free(text);
    ok = h5_attr_number(f, "/", "rate", &d, NULL) == ECG_OK && ok;
    return h5_close(f) == ECG_OK && ok;
}

static void truncated_files(void) {
    char *bytes;
    size_t n, refused = 0, tried = 0;
    write_sample(in_tmp("whole.h5"));
    CHECK_OK(file_read(in_tmp("whole.h5"), 1 << 20, &bytes, &n));
    CHECK(read_everything(in_tmp("whole.h5")));
    for (size_t length = 0; length < n; length += 1 + length % 89, tried++) {
        CHECK_OK(file_write(in_tmp("cut.h5"), bytes, length));
        if (!read_everything(in_tmp("cut.h5"))) refused++;
    }
    free(bytes);
    CHECK(refused == tried);
    check_note("%zu lengths of %zu bytes, all refused", tried, n);
}

/* Also in the heap of variable-length texts, which has no checksum and on which libhdf5 1.10 crashes. */
static void flipped_bytes(void) {
    char *bytes;
    size_t n, refused = 0;
    enum { TRIES = 300 };
    write_sample(in_tmp("whole.h5"));
    CHECK_OK(file_read(in_tmp("whole.h5"), 1 << 20, &bytes, &n));
    struct rng r;
    rng_init(&r, 7, RNG_SYNTH, 0, 0);
    for (int i = 0; i < TRIES; i++) {
        size_t at = rng_below(&r, n);
        char old = bytes[at];
        bytes[at] = (char)rng_u32(&r);
        CHECK_OK(file_write(in_tmp("flip.h5"), bytes, n));
        if (!read_everything(in_tmp("flip.h5"))) refused++;
        bytes[at] = old;
    }
    free(bytes);
    check_note("%zu of %d changed files refused, none crashed", refused, TRIES);
}

int main(void) {
    CASE(round_trip);
    CASE(refuses_what_does_not_fit);
    CASE(reserved_rows_are_the_callers);
    CASE(truncated_files);
    CASE(flipped_bytes);
    return check_finish();
}
