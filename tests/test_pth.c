/* SPDX-License-Identifier: MIT
 * PyTorch's files: round trips, views of storages, and a reader that nothing hostile gets past. PyTorch's own reading and
 * writing is tests/test_pth.py. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/pickle.h"
#include "checkpoints/pth.h"
#include "tests/support/check.h"
#include "tests/support/fuzz.h"
#include "tests/support/pickles.h"

static char path[4096];

static const char *in_tmp(const char *name) {
    snprintf(path, sizeof path, "%s/%s", check_tmp(), name);
    return path;
}

static const char *put_file(const char *name, const struct bytes *b) {
    FILE *f = fopen(in_tmp(name), "wb");
    if (CHECK(f != NULL)) {
        CHECK(fwrite(b->v, 1, b->n, f) == b->n);
        fclose(f);
    }
    return path;
}

/* The archive of a pickle, with 96 bytes in storage 0 and 24 in storage 1. */
static const char *archive(const struct bytes *pickle) {
    struct bytes b = {0};
    pickle_archive(&b, pickle, 96, 24);
    put_file("made.pth", &b);
    bytes_free(&b);
    return path;
}

static void refuse_file(const struct bytes *b, const char *text) {
    struct safetensors s;
    CHECK_FAILS(pth_or_safetensors_open(&s, put_file("made.pth", b)), ECG_ERR_DATA, text);
    CHECK(strstr(ecg_message(), "made.pth") != NULL);
    CHECK(s.entries == NULL && s.map.data == NULL && s.owned == NULL);
}

static void refuse(struct bytes *pickle, const char *text) {
    struct safetensors s;
    CHECK_FAILS(pth_or_safetensors_open(&s, archive(pickle)), ECG_ERR_DATA, text);
    CHECK(strstr(ecg_message(), "made.pth") != NULL);
    bytes_free(pickle);
}

#define REFUSE(literal, text)                                                                      \
    do {                                                                                           \
        struct bytes pickle_ = {0};                                                                \
        BYTES_PUT(&pickle_, literal);                                                              \
        refuse(&pickle_, text);                                                                    \
    } while (0)

/* ---- round trips ---- */

static const float weights[6] = {1.5f, -2.0f, 0.1f, 1e-45f, INFINITY, -0.0f};
static const int64_t counter = INT64_C(-9007199254740993);
static const double wide[2] = {M_PI, 1e300};
static const uint16_t halves[3] = {0x3c00, 0xfbff, 1};
static const uint8_t small[3] = {0, 1, 255};

static const struct safetensors_out sample[] = {
    {"first_conv.conv.weight", ST_F32, 3, {1, 2, 3}, weights},
    {"bn.num_batches_tracked", ST_I64, 0, {0}, &counter},
    {"empty", ST_F32, 3, {0, INT64_MAX, 7}, NULL},
    {"double", ST_F64, 1, {2}, wide},
    {"half", ST_F16, 1, {3}, halves},
    {"bfloat", ST_BF16, 2, {3, 1}, halves},
    {"bytes", ST_U8, 1, {3}, small},
};
#define N_SAMPLE (sizeof sample / sizeof *sample)
static const char *const keys[] = {"format", "einthoven.labels"};
static const char *const values[] = {"pt", "AF\nLBBB \"left\"\n\xc3\xa9"};

static void round_trip(void) {
    struct safetensors s;
    if (!CHECK_OK(pth_write(in_tmp("rt.safetensors"), sample, N_SAMPLE, keys, values, 2))) return;
    if (!CHECK_OK(pth_or_safetensors_open(&s, path)))
        return; /* by what it holds, not by its name */
    CHECK(s.n_entries == N_SAMPLE && s.n_meta == 2);
    CHECK_STR(safetensors_meta(&s, "einthoven.labels"), values[1]);
    for (size_t i = 0; i < N_SAMPLE; i++) {
        const struct safetensors_entry *e = safetensors_find(&s, sample[i].name);
        if (!CHECK(e != NULL)) continue;
        CHECK(e->dtype == sample[i].dtype && e->ndim == sample[i].ndim);
        CHECK(!memcmp(e->shape, sample[i].shape, sizeof(int64_t) * (size_t)e->ndim));
        CHECK(!e->bytes || !memcmp(e->data, sample[i].data, e->bytes));
        CHECK((e->n == 0) == !strcmp(e->name, "empty"));
        CHECK((size_t)((const char *)e->data - s.map.data) % 64 == 0);
    }
    CHECK_STR(safetensors_find(&s, "half")->dtype_name, "F16");
    safetensors_close(&s);
    safetensors_close(&s);
}

static void safetensors_by_their_content(void) {
    struct safetensors s;
    CHECK_OK(safetensors_write(in_tmp("st.pth"), sample, N_SAMPLE, keys, values, 2));
    if (!CHECK_OK(pth_or_safetensors_open(&s, path))) return;
    CHECK(s.n_entries == N_SAMPLE && s.n_meta == 2);
    safetensors_close(&s);
    CHECK_FAILS(pth_or_safetensors_open(&s, in_tmp("absent.pth")), ECG_ERR_NOINPUT, "absent.pth");
}

static void equal_content_gives_equal_bytes(void) {
    struct bytes b[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        size_t n = 0;
        CHECK_OK(pth_write(in_tmp(i ? "b.pth" : "a.pth"), sample, N_SAMPLE, keys, values, 2));
        CHECK_OK(file_read(path, 1u << 20, &b[i].v, &n));
        b[i].n = n;
    }
    CHECK(b[0].n == b[1].n && b[0].n > 0 && !memcmp(b[0].v, b[1].v, b[0].n));
    for (int i = 0; i < 2; i++) bytes_free(&b[i]);
    struct safetensors_out other = {.name = "x", .dtype = ST_OTHER};
    CHECK_FAILS(pth_write(in_tmp("c.pth"), &other, 1, NULL, NULL, 0), ECG_ERR_FAIL, "\"x\"");
    CHECK(!file_exists(path));
}

/* The official notebook's file against the same state_dict as safetensors. */
static void official_checkpoint(void) {
    char other[4096];
    struct safetensors a, b;
    if (!check_shared()) {
        check_skip("no shared fixtures");
        return;
    }
    snprintf(path, sizeof path, "%s/fixtures/official_small.pth", check_shared());
    snprintf(other, sizeof other, "%s/fixtures/official_small.safetensors", check_shared());
    if (!CHECK_OK(pth_or_safetensors_open(&a, path))) return;
    if (CHECK_OK(safetensors_open(&b, other))) {
        CHECK(a.n_entries == b.n_entries && a.n_entries > 100);
        for (size_t i = 0; i < a.n_entries && i < b.n_entries; i++) {
            const struct safetensors_entry *x = &a.entries[i], *y = &b.entries[i];
            CHECK_STR(x->name, y->name);
            CHECK(x->dtype == y->dtype && x->ndim == y->ndim && x->bytes == y->bytes);
            CHECK(!memcmp(x->shape, y->shape, sizeof *x->shape * (size_t)x->ndim));
            CHECK(!memcmp(x->data, y->data, x->bytes));
        }
        safetensors_close(&b);
    }
    safetensors_close(&a);
}

/* Views of one storage, the second one inside a Parameter; the checkpoint holds what else there is, a cycle, too. */
static void views_of_a_storage(void) {
    struct bytes pickle = {0};
    struct safetensors s;
    pickle_checkpoint(&pickle);
    if (!CHECK_OK(pth_or_safetensors_open(&s, archive(&pickle)))) return;
    const struct safetensors_entry *whole = safetensors_find(&s, "whole"),
                                   *turned = safetensors_find(&s, "transposed"),
                                   *slice = safetensors_find(&s, "slice"),
                                   *last = safetensors_find(&s, "counter");
    if (CHECK(s.n_entries == 4 && s.n_meta == 0 && whole && turned && slice && last)) {
        const char *x = whole->data;
        CHECK(whole->n == 24 && x[95] == 95 && x > s.map.data && x < s.map.data + s.map.size);
        CHECK(turned->n == 24 && turned->shape[0] == 6 && turned->shape[1] == 4);
        for (size_t i = 0; i < 24 && i < turned->n; i++)
            CHECK(!memcmp((const char *)turned->data + 4 * i, x + 4 * (i / 4 + i % 4 * 6), 4));
        static const size_t places[4] = {7, 9, 13, 15};
        CHECK(slice->n == 4 && slice->ndim == 3);
        for (size_t i = 0; i < 4 && i < slice->n; i++)
            CHECK(!memcmp((const char *)slice->data + 4 * i, x + 4 * places[i], 4));
        CHECK(last->n == 1 && last->dtype == ST_I64 && ((const char *)last->data)[7] == 23);
    }
    safetensors_close(&s);
    bytes_free(&pickle);
}

static void prefix_of_all_names(void) {
    static const struct pickle_view v = {"FloatStorage", "0", 24, 0, 1, {24}, {1}};
    for (int all = 0; all < 2; all++) {
        struct bytes pickle = {0};
        struct safetensors s;
        BYTES_PUT(&pickle, "\x80\2}(");
        pickle_put_string(&pickle, "module.a");
        pickle_put_view(&pickle, &v);
        pickle_put_string(&pickle, all ? "module.b" : "b");
        pickle_put_view(&pickle, &v);
        BYTES_PUT(&pickle, "u.");
        if (CHECK_OK(pth_or_safetensors_open(&s, archive(&pickle)))) {
            CHECK_STR(s.entries[0].name, all ? "a" : "b");
            CHECK_STR(s.entries[1].name, all ? "b" : "module.a");
            safetensors_close(&s);
        }
        bytes_free(&pickle);
    }
}

/* ---- pickles ---- */

/* A pickle that would run a command, in each of the ways that there are: refused, and the command did not run. */
static void nothing_is_executed(void) {
    char marker[4096], command[4200];
    static const struct {
        const char *module, *name;
    } calls[] = {{"posix", "system"},
                 {"os", "system"},
                 {"builtins", "eval"},
                 {"builtins", "exec"},
                 {"builtins", "getattr"},
                 {"subprocess", "check_output"},
                 {"torch", "load"},
                 {"__builtin__", "apply"},
                 {"torch._utils", "_rebuild_xla_tensor"},
                 {"collections", "OrderedDict.fromkeys"}};
    snprintf(marker, sizeof marker, "%s/it-ran", check_tmp());
    snprintf(command, sizeof command, "touch %s", marker);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct bytes pickle = {0};
        char wanted[100];
        snprintf(wanted, sizeof wanted, "byte 2: it asks for Python's \"%s.%s\"", calls[i].module,
                 calls[i].name);
        BYTES_PUT(&pickle, "\x80\2c");
        bytes_put(&pickle, calls[i].module, strlen(calls[i].module));
        BYTES_PUT(&pickle, "\n");
        bytes_put(&pickle, calls[i].name, strlen(calls[i].name));
        BYTES_PUT(&pickle, "\n");
        pickle_put_string(&pickle, command);
        BYTES_PUT(&pickle, "\x85R.");
        refuse(&pickle, wanted);
    }
    CHECK(!file_exists(marker));
}

static void broken_pickles(void) {
    REFUSE("", "byte 0: the pickle ends without a STOP");
    REFUSE("\x80", "byte 0: the pickle ends in the middle");
    REFUSE("\x80\4}.", "byte 0: not pickle protocol 2");
    REFUSE("\x80\2}", "byte 3: the pickle ends without a STOP");
    REFUSE("\x80\2X\xff\xff\xff\xff"
           "abc",
           "byte 2: the pickle ends in the middle");
    REFUSE("\x80\2ctorch\nSi", "byte 2: the pickle ends in the middle");
    REFUSE("\x80\2\x8a\xff\1.", "byte 2: the pickle ends in the middle");
    REFUSE("\x80\2.", "byte 2: the pickle ends with more or less");
    REFUSE("\x80\2}}.", "more or less than a value");
    REFUSE("\x80\2}(.", "more or less than a value");
    REFUSE("\x80\2\x86.", "byte 2: it takes from an empty stack");
    REFUSE("\x80\2}(s.", "byte 4: it takes from an empty stack");
    REFUSE("\x80\2}(R.", "empty stack");
    REFUSE("\x80\2}t.", "a mark that was never set");
    REFUSE("\x80\2e.", "a mark that was never set");
    REFUSE("\x80\2(e.", "empty stack");
    REFUSE("\x80\2}(Ku.", "byte 6: the pickle ends with more");
    REFUSE("\x80\2}(K\1u.", "sets items of what is no dict");
    REFUSE("\x80\2]K\1K\2s.", "sets items of what is no dict");
    REFUSE("\x80\2}K\1a.", "appends to something that is no list");
    REFUSE("\x80\2h\1.", "never put into the memo");
    REFUSE("\x80\2j\xff\xff\xff\xff.", "never put into the memo");
    REFUSE("\x80\2}r\xff\xff\xff\xff.", "memo's place is larger");
    REFUSE("\x80\2(q\0t.", "empty stack");
    REFUSE("\x80\2K\1)R.", "calls something that is no function");
    REFUSE("\x80\2ctorch\nSize\n]R.", "arguments are no tuple");
    REFUSE("\x80\2ctorch\nSize\n)R.", "a torch.Size without sizes");
    REFUSE("\x80\2ctorch\nFloatStorage\n)R.", "calls a storage type");
    REFUSE("\x80\2"
           "ccollections\nOrderedDict\n]\x85R.",
           "an OrderedDict with arguments");
    REFUSE("\x80\2"
           "ctorch._utils\n_rebuild_parameter\n)R.",
           "a parameter without a tensor");
    REFUSE("\x80\2K\1Q.", "persistent id that names no storage");
    REFUSE("\x80\2)Q.", "persistent id that names no storage");
    REFUSE("\x80\2K\1}b.", "sets attributes of what has none");
    REFUSE("\x80\2\x95\0\0\0\0\0\0\0\0.", "opcode 0x95");
    REFUSE("\x80\2i", "opcode 0x69");
}

static void no_state_dict(void) {
    REFUSE("\x80\2K\1.", "neither a state_dict");
    REFUSE("\x80\2}.", "the state_dict is empty");
    REFUSE("\x80\2}U\xastate_dictK\1s.", "its \"state_dict\" is no dict");
    REFUSE("\x80\2}U\xastate_dict}s.", "the state_dict is empty");
    REFUSE("\x80\2}K\1K\2s.", "a key that is no name");
    REFUSE("\x80\2}U\0K\2s.", "a key that is no name");
    REFUSE("\x80\2}U\2a\nK\2s.", "the character 0x0a");
    REFUSE("\x80\2}U\2a\0K\2s.", "the character 0x00");
    REFUSE("\x80\2}U\1aK\2s.", "tensor \"a\": the state_dict holds something else");
    REFUSE("\x80\2}q\0U\1ah\0s.", "tensor \"a\": the state_dict holds something else"); /* itself */
    REFUSE("\x80\2}U\1actorch._utils\n_rebuild_tensor_v2\n)Rs.", "its offset is no size");
    REFUSE("\x80\2}U\1actorch._utils\n_rebuild_tensor_v2\nNK\0\x86Rs.", "it has no storage");
}

/* A million lists in each other, and a list that holds itself, in a checkpoint that is fine otherwise. */
static void depth_costs_nothing(void) {
    static const struct pickle_view v = {"FloatStorage", "0", 24, 0, 1, {24}, {1}};
    struct bytes pickle = {0};
    struct safetensors s;
    BYTES_PUT(&pickle, "\x80\2}(U\4self]q\1h\1aU\4deep");
    for (int i = 0; i < 1000000; i++) BYTES_PUT(&pickle, "]");
    for (int i = 1; i < 1000000; i++) BYTES_PUT(&pickle, "a");
    BYTES_PUT(&pickle, "U\xastate_dict}U\1w");
    pickle_put_view(&pickle, &v);
    BYTES_PUT(&pickle, "su.");
    if (CHECK_OK(pth_or_safetensors_open(&s, archive(&pickle)))) safetensors_close(&s);
    for (size_t n = PICKLE_MAX_BYTES - pickle.n + 1; n > 0; n--) BYTES_PUT(&pickle, "N");
    refuse(&pickle, "more than weights need");
}

/* ---- tensors ---- */

static void views_that_can_not_be(void) {
    static const struct {
        struct pickle_view v;
        const char *text;
    } cases[] = {
        {{"FloatStorage", "0", 25, 0, 1, {24}, {1}},
         "25 elements of F32, the archive's member for it 96 bytes"},
        {{"FloatStorage", "0", 23, 0, 1, {23}, {1}}, "23 elements of F32"},
        {{"DoubleStorage", "0", 24, 0, 1, {12}, {1}}, "24 elements of F64"},
        {{"FloatStorage", "0", INT64_MAX, 0, 1, {24}, {1}},
         "its storage has 9223372036854775807 elements"},
        {{"FloatStorage", "0", -1, 0, 1, {24}, {1}}, "without a key or a size"},
        {{"FloatStorage", "2", 24, 0, 1, {24}, {1}}, "no member \"x/data/2\""},
        {{"FloatStorage", "../data.pkl", 24, 0, 1, {24}, {1}}, "no member \"x/data/../data.pkl\""},
        {{"Size", "0", 24, 0, 1, {24}, {1}}, "a storage of unknown type"},
        {{"FloatStorage", "0", 24, 1, 1, {24}, {1}}, "reaches beyond the 24 elements"},
        {{"FloatStorage", "0", 24, 24, 0, {0}, {0}}, "reaches beyond"},
        {{"FloatStorage", "0", 24, -1, 1, {1}, {1}}, "its offset is no size"},
        {{"FloatStorage", "0", 24, INT64_MAX, 1, {2}, {INT64_MAX}}, "reaches beyond"},
        {{"FloatStorage", "0", 24, 0, 2, {4, 6}, {6, 2}}, "reaches beyond"},
        {{"FloatStorage", "0", 24, 0, 2, {INT64_MAX, INT64_MAX}, {INT64_MAX, 1}}, "reaches beyond"},
        {{"FloatStorage", "0", 24, 0, 2, {INT64_MAX, 4}, {0, 1}}, "reaches beyond"},
        {{"FloatStorage", "0", 24, 0, 2, {INT64_C(1) << 62, 1}, {0, 1}}, "reaches beyond"},
        {{"FloatStorage", "0", 24, 0, 2, {1 << 20, 24}, {0, 1}},
         "more than four times the file's bytes"},
        {{"FloatStorage", "0", 24, 0, 1, {-24}, {1}}, "something other than sizes"},
        {{"FloatStorage", "0", 24, 23, 1, {24}, {-1}}, "something other than sizes"},
        {{"FloatStorage", "0", 24, 0, 9, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1, 1, 1}},
         "more than 8 axes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes pickle = {0};
        BYTES_PUT(&pickle, "\x80\2}U\1w");
        pickle_put_view(&pickle, &cases[i].v);
        BYTES_PUT(&pickle, "s.");
        refuse(&pickle, cases[i].text);
        CHECK(strstr(ecg_message(), "tensor \"w\"") != NULL);
    }
}

/* n tensors (names a0, a1 ...) of one storage. */
static void put_many(struct bytes *pickle, int n, const char *format) {
    static const struct pickle_view v = {"FloatStorage", "0", 24, 0, 2, {6, 4}, {1, 6}};
    BYTES_PUT(pickle, "\x80\2}(");
    for (int i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof name, format, i);
        pickle_put_string(pickle, name);
        if (i == 0)
            pickle_put_view(pickle, &v);
        else
            BYTES_PUT(pickle, "h\1");
        if (i == 0) BYTES_PUT(pickle, "q\1");
    }
    BYTES_PUT(pickle, "u.");
}

/* A storage that a thousand tensors share would be a thousand copies. */
static void a_file_can_not_multiply(void) {
    struct bytes pickle = {0};
    struct safetensors s;
    put_many(&pickle, 1000, "a%d");
    refuse(&pickle, "more than four times the file's bytes");
    put_many(&pickle, 2, "a");
    refuse(&pickle, "tensor \"a\": the state_dict has it twice");
    put_many(&pickle, 3, "a%d");
    if (CHECK_OK(pth_or_safetensors_open(&s, archive(&pickle)))) {
        CHECK(s.n_entries == 3);
        safetensors_close(&s);
    }
    bytes_free(&pickle);
}

/* ---- archives ---- */

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
    refuse_file(&b, text);
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
    PATCHED(1, 16, "\0\0\0\0", "\"x/data/0\" is damaged: its CRC-32 is");
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
    refuse_file(&b, "it overlaps another member");
    b.n = 0;
    bytes_put(&b, sound.v, sound.n);
    uint32_t n = data_at - pickle_at;
    for (int i = 0; i < 2; i++) {
        memcpy(entry(&b, 0) + 20 + 4 * i, &n, sizeof n);
        memcpy(b.v + pickle_at + 18 + 4 * i, &n, sizeof n);
    }
    refuse_file(&b, "it overlaps another member");
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
    if (CHECK_OK(pth_or_safetensors_open(&s, put_file("made.pth", &b)))) {
        CHECK(s.n_entries == 4);
        safetensors_close(&s);
    }
    static const uint64_t huge[] = {UINT64_C(1) << 63, UINT64_MAX, UINT64_MAX - 95, INT64_MAX};
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
        b.n = 0;
        put_zip64(&b, huge[i], 4, 0);
        refuse_file(&b, "reach beyond the directory");
        b.n = 0;
        put_zip64(&b, 96, huge[i], 0);
        refuse_file(&b, "too short for its number of members");
        b.n = 0;
        put_zip64(&b, 96, 4, huge[i]);
        refuse_file(&b, "the zip directory lies outside the file");
    }
    bytes_free(&b);
}

/* Cut anywhere, the file is refused: the directory stands at its end. */
static void truncated_anywhere(void) {
    struct bytes b = copy_sound();
    struct safetensors s;
    size_t refused = 0;
    for (b.n = 0; b.n < sound.n; b.n++)
        refused += pth_or_safetensors_open(&s, put_file("cut.pth", &b)) == ECG_ERR_DATA &&
                   strstr(ecg_message(), "cut.pth") != NULL;
    CHECK(refused == sound.n);
    check_note("%zu lengths", refused);
    bytes_put(&b, "x", 1);
    refuse_file(&b, "without a directory at its end");
    bytes_free(&b);
}

static void other_files(void) {
    struct bytes b = {0};
    BYTES_PUT(&b, "PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    refuse_file(&b, "a zip archive, but none of torch.save");
    b.n = 0;
    BYTES_PUT(&b, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.");
    refuse_file(&b, "a file of PyTorch before 1.6");
    b.n = 0;
    for (int i = 0; i < 257; i++) BYTES_PUT(&b, "\0");
    BYTES_PUT(&b, "ustar\0"
                  "00");
    refuse_file(&b, "a file of PyTorch before 1.6");
    b.n = 0;
    BYTES_PUT(&b, "\x80\2}q\0.");
    refuse_file(&b, "a Python pickle that torch.save did not write");
    bytes_free(&b);
}

/* tests/soak_fuzz_pth.c goes on for a minute. */
static void random_damage(void) {
    fuzz_some(&fuzz_pth, 4000);
}

int main(void) {
    make_sound();
    CASE(round_trip);
    CASE(safetensors_by_their_content);
    CASE(equal_content_gives_equal_bytes);
    CASE(official_checkpoint);
    CASE(views_of_a_storage);
    CASE(prefix_of_all_names);
    CASE(nothing_is_executed);
    CASE(broken_pickles);
    CASE(no_state_dict);
    CASE(depth_costs_nothing);
    CASE(views_that_can_not_be);
    CASE(a_file_can_not_multiply);
    CASE(zip_tricks);
    CASE(zip64);
    CASE(truncated_anywhere);
    CASE(other_files);
    CASE(random_damage);
    bytes_free(&sound);
    return check_finish();
}
