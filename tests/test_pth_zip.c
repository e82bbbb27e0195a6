/* SPDX-License-Identifier: MIT
 * Zip archives: those that lie about their members, and ZIP64 both ways. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "checkpoints/pth.h"
#include "checkpoints/zip.h"
#include "tests/support/check.h"
#include "tests/support/pickles.h"

static struct bytes sound; /* an archive that is read */

static void make_sound(void) {
    struct bytes pickle = {0};
    pickle_checkpoint(&pickle);
    pickle_archive(&sound, &pickle, 96, 24);
    bytes_free(&pickle);
}

/* Entry i of the directory of an archive with four members, whose end is its last 22 bytes. */
static char *entry(struct bytes *b, int i) {
    uint32_t at;
    memcpy(&at, b->v + b->n - 6, sizeof at);
    for (; i > 0; i--) {
        uint16_t name;
        memcpy(&name, b->v + at + 28, sizeof name);
        at += 46u + name;
    }
    return b->v + at;
}

static struct bytes copy_sound(void) {
    struct bytes b = {0};
    bytes_put(&b, sound.v, sound.n);
    return b;
}

/* Bytes [at, at + n) of entry i are replaced. */
static void patched(int i, size_t at, const void *with, size_t n, const char *text) {
    struct bytes b = copy_sound();
    memcpy((i < 4 ? entry(&b, i) : b.v + b.n - 22) + at, with, n);
    pickle_refuse(&b, text);
    bytes_free(&b);
}
#define PATCHED(i, at, literal, text) patched(i, at, literal, sizeof(literal) - 1, text)

static void zip_tricks(void) {
    struct bytes b = copy_sound();
    uint32_t pickle_at, data_at;
    memcpy(&pickle_at, entry(&b, 0) + 42, sizeof pickle_at);
    memcpy(&data_at, entry(&b, 1) + 42, sizeof data_at);
    PATCHED(1, 8, "\1\0", "it is encrypted");
    PATCHED(1, 10, "\x8\0", "it is compressed");
    PATCHED(1, 20, "\1\0\0\0", "it is stored, yet has two sizes");
    PATCHED(1, 20, "\xff\xff\xff\xff\xff\xff\xff\xff", "without a ZIP64 field");
    PATCHED(1, 20, "\xfe\xff\xff\xff\xfe\xff\xff\xff", "reach beyond the directory");
    PATCHED(1, 20, "\x5f\0\0\0\x5f\0\0\0", "another size than the directory");
    PATCHED(1, 42, "\xfe\xff\xff\xff", "its header is not where the directory says");
    PATCHED(1, 46, "y", "its header has another name");
    PATCHED(1, 16, "\0\0\0\0", "its header has another CRC-32 than the directory");
    PATCHED(1, 30, "\xff\xff", "reaches beyond it");
    PATCHED(1, 0, "Q", "the zip directory is damaged");
    PATCHED(4, 4, "\1\0", "in several parts");
    PATCHED(4, 8, "\3\0\3\0", "bytes behind the last entry");
    PATCHED(4, 8, "\5\0\5\0", "the zip directory is ");
    PATCHED(4, 8, "\xfe\xff\xfe\xff", "too short for its number of members");
    PATCHED(4, 12, "\xfe\xff\xff\xff", "the zip directory lies outside the file");
    PATCHED(4, 16, "\xfe\xff\xff\xff", "the zip directory lies outside the file");
    PATCHED(4, 16, "\xff\xff\xff\xff", "needs a ZIP64 record");
    PATCHED(4, 20, "\1\0", "without a directory at its end");

    /* One member under two entries, then one whose data hold another's header. */
    memcpy(entry(&b, 2) + 46, "x/data/0", 8);
    memcpy(entry(&b, 2) + 42, &data_at, sizeof data_at);
    memcpy(entry(&b, 2) + 16, entry(&b, 1) + 16, 12);
    pickle_refuse(&b, "it overlaps another member");
    b.n = 0;
    bytes_put(&b, sound.v, sound.n);
    uint32_t n = data_at - pickle_at;
    for (int i = 0; i < 2; i++) {
        memcpy(entry(&b, 0) + 20 + 4 * i, &n, sizeof n);
        memcpy(b.v + pickle_at + 18 + 4 * i, &n, sizeof n);
    }
    pickle_refuse(&b, "it overlaps another member");
    bytes_free(&b);
}

static void put_number(struct bytes *b, uint64_t v, size_t n) {
    bytes_put(b, &v, n);
}

/* The archive with its end in ZIP64, and the sizes of member 1 in a ZIP64 field; they are `plain`, n members are told. */
static void put_zip64(struct bytes *b, uint64_t plain, uint64_t n, uint64_t directory) {
    struct bytes from = copy_sound();
    size_t begin = (size_t)(entry(&from, 0) - from.v), second = (size_t)(entry(&from, 1) - from.v),
           third = (size_t)(entry(&from, 2) - from.v), end = from.n - 22;
    memset(from.v + second + 20, 0xff, 8);
    from.v[second + 30] = 20;
    bytes_put(b, from.v, third);
    put_number(b, 1, 2);
    put_number(b, 16, 2);
    put_number(b, plain, 8);
    put_number(b, plain, 8);
    bytes_put(b, from.v + third, end - third);
    size_t at = b->n;
    BYTES_PUT(b, "PK\6\6\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
    put_number(b, n, 8);
    put_number(b, n, 8);
    put_number(b, at - begin, 8);
    put_number(b, directory ? directory : begin, 8);
    BYTES_PUT(b, "PK\6\7\0\0\0\0");
    put_number(b, at, 8);
    BYTES_PUT(b, "\1\0\0\0PK\5\6\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
    bytes_free(&from);
}

static void zip64(void) {
    struct bytes b = {0};
    struct safetensors s;
    put_zip64(&b, 96, 4, 0);
    if (CHECK_OK(pth_or_safetensors_open(&s, pickle_save(&b)))) {
        CHECK(s.n_entries == 4);
        safetensors_close(&s);
    }
    static const uint64_t huge[] = {UINT64_C(1) << 63, UINT64_MAX, UINT64_MAX - 95, INT64_MAX};
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
        b.n = 0;
        put_zip64(&b, huge[i], 4, 0);
        pickle_refuse(&b, "reach beyond the directory");
        b.n = 0;
        put_zip64(&b, 96, huge[i], 0);
        pickle_refuse(&b, "too short for its number of members");
        b.n = 0;
        put_zip64(&b, 96, 4, huge[i]);
        pickle_refuse(&b, "the zip directory lies outside the file");
    }
    bytes_free(&b);
}

/* Cut anywhere, the file is refused: the directory stands at its end. */
static void truncated_anywhere(void) {
    struct bytes b = copy_sound();
    struct safetensors s;
    size_t refused = 0;
    for (b.n = 0; b.n < sound.n; b.n++)
        refused += pth_or_safetensors_open(&s, pickle_save(&b)) == ECG_ERR_DATA &&
                   strstr(ecg_message(), "made.pth") != NULL;
    CHECK(refused == sound.n);
    check_note("%zu lengths", refused);
    bytes_put(&b, "x", 1);
    pickle_refuse(&b, "without a directory at its end");
    bytes_free(&b);
}

/* The headers of member 1 and the directory say different things. */
static void two_truths(void) {
    static const struct {
        size_t at; /* in the local header */
        const char *bytes;
        size_t n;
        const char *text;
    } cases[] = {{0, "PK\1\2", 4, "its header is not where the directory says"},
                 {8, "\x8\0", 2, "its header says that it is compressed"},
                 {14, "\1\2\3\4", 4, "its header has another CRC-32 than the directory"},
                 {18, "\x5f\0\0\0", 4, "its header has another size than the directory"},
                 {22, "\x61\0\0\0", 4, "its header has another size than the directory"},
                 {26, "\x9\0", 2, "its header has another name"},
                 {28, "\xff\xff", 2, "its data reach beyond the directory"},
                 {30, "y", 1, "its header has another name"}};
    uint32_t at;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes b = copy_sound();
        memcpy(&at, entry(&b, 1) + 42, sizeof at);
        memcpy(b.v + at + cases[i].at, cases[i].bytes, cases[i].n);
        pickle_refuse(&b, cases[i].text);
        bytes_free(&b);
    }
    /* Member 2 by the name of member 1, in both of its headers. */
    struct bytes b = copy_sound();
    memcpy(&at, entry(&b, 2) + 42, sizeof at);
    memcpy(entry(&b, 2) + 46, "x/data/0", 8);
    memcpy(b.v + at + 30, "x/data/0", 8);
    pickle_refuse(&b, "there are two of this name");
    bytes_free(&b);
}

/* torch.serialization.set_crc32_options(False) leaves zeros, in all members; a single zero is damage. */
static void without_checksums(void) {
    struct bytes b = copy_sound();
    struct safetensors s;
    uint32_t at;
    for (int i = 0; i < 4; i++) {
        memcpy(&at, entry(&b, i) + 42, sizeof at);
        memset(entry(&b, i) + 16, 0, 4);
        memset(b.v + at + 14, 0, 4);
        if (i < 3) pickle_refuse(&b, "is damaged: its CRC-32 is");
    }
    if (CHECK_OK(pth_or_safetensors_open(&s, pickle_save(&b)))) {
        CHECK(s.n_entries == 4);
        safetensors_close(&s);
    }
    bytes_free(&b);
}

/* ---- writing beyond 4 GiB ---- */

#define LARGE ((size_t)4 << 30)
#define ROOM  (LARGE + ((size_t)64 << 20))

/* A file in memory that is never touched where the data are the zeros at `zeros`. */
struct sparse {
    const char *zeros;
    char *map;
    size_t n;
};

static char *map_zeros(size_t n) {
    char *p =
        mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    madvise(p, n, MADV_HUGEPAGE);
    return p;
}

static ssize_t sparse_write(void *context, const char *data, size_t n) {
    struct sparse *f = context;
    if (n > ROOM - f->n) return 0;
    if (data < f->zeros || data >= f->zeros + LARGE) memcpy(f->map + f->n, data, n);
    f->n += n;
    return (ssize_t)n;
}

static void zip64_is_written(void) {
    struct sparse f = {.zeros = map_zeros(LARGE), .map = map_zeros(ROOM)};
    if (!f.zeros || !f.map) {
        check_skip("no 8 GiB of addresses");
        return;
    }
    FILE *stream = fopencookie(&f, "w", (cookie_io_functions_t){.write = sparse_write});
    struct file_out file = {.stream = stream};
    struct zip_out out = {.file = &file};
    struct zip in;
    const size_t least = UINT32_MAX;
    /* "y" starts and ends before 4 GiB, "z" is the first behind; sizes just below and at the limit. */
    for (size_t large = least - 1; large <= least + 1; large++) {
        out = (struct zip_out){.file = &file};
        f.n = 0;
        CHECK_OK(zip_put(&out, "x", "first", 5));
        CHECK_OK(zip_put(&out, "y", f.zeros, large));
        CHECK_OK(zip_put(&out, "z", "behind", 6));
        CHECK_OK(zip_finish(&out));
        CHECK(fflush(stream) == 0);
        zip_out_free(&out);
        if (!CHECK_OK(zip_open(&in, "large.pth", f.map, f.n))) continue;
        struct zip_member *x = zip_find(&in, "x", 1), *y = zip_find(&in, "y", 1),
                          *z = zip_find(&in, "z", 1);
        if (CHECK(in.n == 3 && x && y && z)) {
            CHECK(y->bytes == large && z->at > UINT32_MAX && !memcmp(z->data, "behind", 6));
            CHECK(x->at == 0 && (size_t)(y->data - f.map) % 64 == 0 &&
                  (size_t)(z->data - f.map) % 64 == 0);
            CHECK_OK(zip_check(&in, x));
            CHECK_OK(zip_check(&in, z));
            if (large == least) CHECK_OK(zip_check(&in, y));
        }
        zip_close(&in);
    }
    fclose(stream);
    munmap((void *)f.zeros, LARGE);
    munmap(f.map, ROOM);
}

/* The number of members has 16 bits without ZIP64. */
static void many_members(void) {
    for (size_t n = 65534; n <= 65536; n++) {
        char *text = NULL, name[24];
        size_t size = 0;
        struct file_out f = {.stream = open_memstream(&text, &size)};
        struct zip_out out = {.file = &f};
        struct zip in;
        for (size_t i = 0; i < n; i++) {
            snprintf(name, sizeof name, "%zu", i);
            if (zip_put(&out, name, "", 0) != ECG_OK) break;
        }
        CHECK_OK(zip_finish(&out));
        fclose(f.stream);
        zip_out_free(&out);
        if (CHECK_OK(zip_open(&in, "many.pth", text, size))) CHECK(in.n == n);
        zip_close(&in);
        free(text);
    }
    struct file_out f = {.path = "long.pth"};
    struct zip_out out = {.file = &f};
    char name[300];
    memset(name, 'n', sizeof name);
    name[299] = 0;
    CHECK_FAILS(zip_put(&out, name, "", 0), ECG_ERR_FAIL, "long.pth: a name too long");
    zip_out_free(&out);
}

static void other_files(void) {
    struct bytes b = {0};
    BYTES_PUT(&b, "PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    pickle_refuse(&b, "a zip archive, but none of torch.save");
    b.n = 0;
    BYTES_PUT(&b, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.");
    pickle_refuse(&b, "a file of PyTorch before 1.6");
    b.n = 0;
    for (int i = 0; i < 257; i++) BYTES_PUT(&b, "\0");
    BYTES_PUT(&b, "ustar\0"
                  "00");
    pickle_refuse(&b, "a file of PyTorch before 1.6");
    b.n = 0;
    BYTES_PUT(&b, "\x80\2}q\0.");
    pickle_refuse(&b, "a Python pickle that torch.save did not write");
    bytes_free(&b);
}

int main(void) {
    make_sound();
    CASE(zip_tricks);
    CASE(two_truths);
    CASE(without_checksums);
    CASE(zip64);
    CASE(zip64_is_written);
    CASE(many_members);
    CASE(truncated_anywhere);
    CASE(other_files);
    bytes_free(&sound);
    return check_finish();
}
