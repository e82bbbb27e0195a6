/* SPDX-License-Identifier: MIT
 * PyTorch's files: round trips, views of storages, and a reader of pickles that nothing hostile gets past. Archives:
 * tests/test_pth_zip.c; PyTorch's own reading and writing: tests/test_pth.py. */
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

/* The archive of a pickle, with 96 bytes in storage 0 and 24 in storage 1. */
static const char *archive(const struct bytes *pickle) {
    struct bytes b = {0};
    pickle_archive(&b, pickle, 96, 24);
    const char *made = pickle_save(&b);
    bytes_free(&b);
    return made;
}

static void refuse(struct bytes *pickle, const char *text) {
    struct bytes b = {0};
    pickle_archive(&b, pickle, 96, 24);
    pickle_refuse(&b, text);
    bytes_free(&b);
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
    {"byt\xc3\xa9s", ST_U8, 1, {3}, small},
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
    static const char *const no_names[] = {"", "a\n", "a\x7f", "\xff", "\xed\xa0\x80"};
    for (size_t i = 0; i < sizeof no_names / sizeof *no_names; i++) {
        struct safetensors_out row = {no_names[i], ST_F32, 1, {6}, weights};
        CHECK_FAILS(pth_write(in_tmp("c.pth"), &row, 1, NULL, NULL, 0), ECG_ERR_DATA,
                    "c.pth: tensor \"");
    }
    CHECK(!file_exists(path));
}

static void same_tensors(const char *pth, const char *safetensors) {
    struct safetensors a, b;
    if (!CHECK_OK(pth_or_safetensors_open(&a, pth))) return;
    if (CHECK_OK(safetensors_open(&b, safetensors))) {
        CHECK(a.n_entries == b.n_entries && a.n_entries > 50);
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

/* The official notebook's file against the same state_dict as safetensors. */
static void official_checkpoint(void) {
    char other[4096];
    if (!check_shared()) {
        check_skip("no shared fixtures");
        return;
    }
    snprintf(path, sizeof path, "%s/fixtures/official_small.pth", check_shared());
    snprintf(other, sizeof other, "%s/fixtures/official_small.safetensors", check_shared());
    same_tensors(path, other);
}

/* What PyTorch 2 writes: more members, two prefixes, NumPy 2's scalars; and without checksums. */
static void torch2_checkpoint(void) {
    same_tensors("tests/fixtures/torch2.pth", "tests/fixtures/torch2.safetensors");
    same_tensors("tests/fixtures/torch2_bare.pth", "tests/fixtures/torch2.safetensors");
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

/* What DataParallel and torch.compile put before all names; in a safetensors file, too. */
static void prefixes_of_all_names(void) {
    static const struct pickle_view v = {"FloatStorage", "0", 24, 0, 1, {24}, {1}};
    static const struct {
        const char *names[2], *read[2]; /* read: sorted */
    } cases[] = {{{"module.a", "module.b"}, {"a", "b"}},
                 {{"module.a", "b"}, {"b", "module.a"}},
                 {{"_orig_mod.b", "_orig_mod.a"}, {"a", "b"}},
                 {{"module._orig_mod.a", "module._orig_mod.b"}, {"a", "b"}},
                 {{"_orig_mod.module.module.a", "_orig_mod.module.module.b"}, {"a", "b"}},
                 {{"module._orig_mod.a", "module.b"}, {"_orig_mod.a", "b"}},
                 {{"module.", "module.a"}, {"module.", "module.a"}},
                 {{"modules.a", "modules.b"}, {"modules.a", "modules.b"}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes pickle = {0};
        struct safetensors_out rows[2];
        struct safetensors s;
        BYTES_PUT(&pickle, "\x80\2}(");
        for (int k = 0; k < 2; k++) {
            pickle_put_string(&pickle, cases[i].names[k]);
            pickle_put_view(&pickle, &v);
            rows[k] = (struct safetensors_out){cases[i].names[k], ST_F32, 1, {6}, weights};
        }
        BYTES_PUT(&pickle, "u.");
        CHECK_OK(safetensors_write(in_tmp("prefixed.safetensors"), rows, 2, NULL, NULL, 0));
        for (int k = 0; k < 2; k++) {
            if (!CHECK_OK(pth_or_safetensors_open(&s, k ? path : archive(&pickle)))) continue;
            CHECK_STR(s.entries[0].name, cases[i].read[0]);
            CHECK_STR(s.entries[1].name, cases[i].read[1]);
            CHECK(safetensors_find(&s, cases[i].read[1]) == &s.entries[1]);
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

/* All other opcodes that there are, INST, OBJ, NEWOBJ_EX, STACK_GLOBAL and the extensions among them, end the reading. */
static void opcodes_without_a_place(void) {
    static const char known[] = "NGJKMXTUc(})]taesuqrhjQRb.\x80\x81\x85\x86\x87\x88\x89\x8a";
    size_t refused = 0;
    for (int code = 0; code < 256; code++) {
        struct bytes pickle = {0};
        char text[64];
        if (memchr(known, code, sizeof known - 1)) continue;
        snprintf(text, sizeof text, "byte 4: opcode 0x%02x has no place in weights", code);
        BYTES_PUT(&pickle, "\x80\2})");
        bytes_put(&pickle, &(char){(char)code}, 1);
        BYTES_PUT(&pickle, "posix\nsystem\n\x85R.");
        refuse(&pickle, text);
        refused++;
    }
    CHECK(refused == 256 - (sizeof known - 1));
}

/* Objects are made and changed by BUILD and NEWOBJ, too. */
static void objects(void) {
    REFUSE("\x80\2)}b.", "sets attributes of what has none");
    REFUSE("\x80\2ctorch\nSize\n}b.", "sets attributes of what has none");
    REFUSE("\x80\2ctorch._utils\n_rebuild_tensor_v2\n)R}b.", "sets attributes of what has none");
    REFUSE("\x80\2ctorch\nFloatStorage\n)\x81.", "calls a storage type");
    REFUSE("\x80\2}K\1\x85\x81.", "calls something that is no function");
    REFUSE("\x80\2ctorch\ndevice\n]\x81.", "arguments are no tuple");
    REFUSE("\x80\2ctorch._utils\n_rebuild_parameter\n}\x85R.", "a parameter without a tensor");
    /* The state of an OrderedDict is no place to hide tensors or calls: it is left out. */
    REFUSE("\x80\2"
           "ccollections\nOrderedDict\n)R}U\1aK\1sb.",
           "the state_dict is empty");
}

/* Persistent ids: what names a storage that is none, and keys that lead elsewhere. */
static void persistent_ids(void) {
    REFUSE("\x80\2U\6moduleK\1\x86Q.", "persistent id that names no storage");
    REFUSE("\x80\2]U\7storageaQ.", "persistent id that names no storage");
    static const struct {
        struct fuzz_word id;
        const char *text;
    } ids[] = {
        {FUZZ_WORD("U\7storage\x85"), "a storage of unknown type"}, /* nothing else */
        {FUZZ_WORD("(U\7storageU\1"
                   "0U\1"
                   "0U\3cpuK\x18t"),
         "a storage of unknown type"}, /* a text */
        {FUZZ_WORD("(U\7storagectorch\nFloatStorage\nK\0U\3cpuK\x18t"),
         "a storage without a key or a size"}, /* the key a number */
        {FUZZ_WORD("(U\7storagectorch\nFloatStorage\nU\1"
                   "0U\3cpuNt"),
         "a storage without a key or a size"}, /* None elements */
    };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        struct bytes pickle = {0};
        BYTES_PUT(&pickle, "\x80\2}U\1wctorch._utils\n_rebuild_tensor_v2\n(");
        bytes_put(&pickle, ids[i].id.text, ids[i].id.n);
        BYTES_PUT(&pickle, "QK\0K\1\x85K\1\x85tRs.");
        refuse(&pickle, ids[i].text);
    }
    static const char *const keys_elsewhere[] = {
        "../data.pkl", "../../x/data/0", "/x/data/0", "", "0/", "./0"};
    for (size_t i = 0; i < sizeof keys_elsewhere / sizeof *keys_elsewhere; i++) {
        struct pickle_view v = {"FloatStorage", keys_elsewhere[i], 24, 0, 1, {24}, {1}};
        struct bytes pickle = {0};
        BYTES_PUT(&pickle, "\x80\2}U\1w");
        pickle_put_view(&pickle, &v);
        BYTES_PUT(&pickle, "s.");
        refuse(&pickle, "tensor \"w\": the archive has no member \"x/data/");
    }
}

static void no_state_dict(void) {
    REFUSE("\x80\2K\1.", "neither a state_dict");
    REFUSE("\x80\2}.", "the state_dict is empty");
    REFUSE("\x80\2}U\xastate_dictK\1s.", "its \"state_dict\" is no dict");
    REFUSE("\x80\2}U\xastate_dict}s.", "the state_dict is empty");
    REFUSE("\x80\2}K\1K\2s.", "a key that is no name");
    REFUSE("\x80\2}U\0K\2s.", "a key that is no name");
    REFUSE("\x80\2}U\2a\nK\2s.", "a key that is no name");
    REFUSE("\x80\2}U\2a\0K\2s.", "a key that is no name");
    REFUSE("\x80\2}U\2a\xffK\2s.", "a key that is no name");
    REFUSE("\x80\2}U\3\xed\xa0\x80K\2s.", "a key that is no name");
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

/* tests/soak_fuzz_pth.c goes on for a minute. */
static void random_damage(void) {
    fuzz_some(&fuzz_pth, 4000);
}

int main(void) {
    CASE(round_trip);
    CASE(safetensors_by_their_content);
    CASE(equal_content_gives_equal_bytes);
    CASE(official_checkpoint);
    CASE(torch2_checkpoint);
    CASE(views_of_a_storage);
    CASE(prefixes_of_all_names);
    CASE(nothing_is_executed);
    CASE(broken_pickles);
    CASE(opcodes_without_a_place);
    CASE(objects);
    CASE(persistent_ids);
    CASE(no_state_dict);
    CASE(depth_costs_nothing);
    CASE(views_that_can_not_be);
    CASE(a_file_can_not_multiply);
    CASE(random_damage);
    return check_finish();
}
