/* SPDX-License-Identifier: MIT
 * See pickles.h. Archives are written by the project's own writer into memory: its layout is PyTorch's, and a test against
 * PyTorch itself is tests/test_pth.py. */
#include "tests/support/pickles.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/pth.h"
#include "checkpoints/zip.h"
#include "tests/support/check.h"

void pickle_put_string(struct bytes *b, const char *text) {
    uint32_t n = (uint32_t)strlen(text);
    BYTES_PUT(b, "X");
    bytes_put(b, &n, sizeof n);
    bytes_put(b, text, n);
}

void pickle_put_integer(struct bytes *b, int64_t v) {
    BYTES_PUT(b, "\x8a\x08");
    bytes_put(b, &v, sizeof v);
}

void pickle_put_view(struct bytes *b, const struct pickle_view *v) {
    BYTES_PUT(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
    pickle_put_string(b, "storage");
    BYTES_PUT(b, "ctorch\n");
    bytes_put(b, v->type, strlen(v->type));
    BYTES_PUT(b, "\n");
    pickle_put_string(b, v->key);
    pickle_put_string(b, "cuda:0");
    pickle_put_integer(b, v->numel);
    BYTES_PUT(b, "tQ");
    pickle_put_integer(b, v->offset);
    BYTES_PUT(b, "(");
    for (int i = 0; i < v->ndim; i++) pickle_put_integer(b, v->shape[i]);
    BYTES_PUT(b, "t(");
    for (int i = 0; i < v->ndim; i++) pickle_put_integer(b, v->strides[i]);
    BYTES_PUT(b, "t\x89"
                 "ccollections\nOrderedDict\n)RtR");
}

static void put_storage(struct zip_out *zip, const char *name, size_t n) {
    char *data = malloc(n + 1);
    if (!data) abort();
    for (size_t i = 0; i < n; i++) data[i] = (char)(i % 251);
    if (zip_put(zip, name, data, n) != ECG_OK) abort();
    free(data);
}

void pickle_archive(struct bytes *out, const struct bytes *pickle, size_t n0, size_t n1) {
    char *text = NULL;
    size_t n = 0;
    struct file_out f = {.stream = open_memstream(&text, &n)};
    struct zip_out zip = {.file = &f};
    if (!f.stream || zip_put(&zip, "x/data.pkl", pickle->v, pickle->n) != ECG_OK) abort();
    put_storage(&zip, "x/data/0", n0);
    put_storage(&zip, "x/data/1", n1);
    if (zip_put(&zip, "x/version", "3\n", 2) != ECG_OK || zip_finish(&zip) != ECG_OK ||
        fclose(f.stream) != 0)
        abort();
    zip_out_free(&zip);
    out->n = 0;
    bytes_put(out, text, n);
    free(text);
}

const char *pickle_save(const struct bytes *archive) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/made.pth", check_tmp());
    bytes_save(archive, path);
    return path;
}

void pickle_refuse(const struct bytes *archive, const char *text) {
    struct safetensors s;
    CHECK_FAILS(pth_or_safetensors_open(&s, pickle_save(archive)), ECG_ERR_DATA, text);
    CHECK(strstr(ecg_message(), "made.pth") != NULL);
    CHECK(s.entries == NULL && s.map.data == NULL && s.owned == NULL);
}

static void put_state_dict(struct bytes *b) {
    static const struct pickle_view whole = {"FloatStorage", "0", 24, 0, 2, {4, 6}, {6, 1}},
                                    transposed = {"FloatStorage", "0", 24, 0, 2, {6, 4}, {1, 6}},
                                    slice = {"FloatStorage", "0", 24, 7, 3, {2, 1, 2}, {6, 9, 2}},
                                    counter = {"LongStorage", "1", 3, 2, 0, {0}, {0}};
    BYTES_PUT(b, "ccollections\nOrderedDict\nq\x05)Rq\x06(");
    pickle_put_string(b, "whole");
    BYTES_PUT(b, "q\x07");
    pickle_put_view(b, &whole);
    BYTES_PUT(b, "r\x20\0\0\0");
    pickle_put_string(b, "transposed");
    BYTES_PUT(b, "ctorch._utils\n_rebuild_parameter\n(");
    pickle_put_view(b, &transposed);
    BYTES_PUT(b, "\x88h\5)RtR");
    pickle_put_string(b, "slice");
    pickle_put_view(b, &slice);
    pickle_put_string(b, "counter");
    pickle_put_view(b, &counter);
    BYTES_PUT(b, "u}");
    pickle_put_string(b, "_metadata");
    BYTES_PUT(b, "h\5)Rsb");
}

void pickle_checkpoint(struct bytes *b) {
    BYTES_PUT(b, "\x80\2}q\1(");
    pickle_put_string(b, "epoch");
    BYTES_PUT(b, "K\3");
    pickle_put_string(b, "step");
    BYTES_PUT(b, "M\x10\x27");
    pickle_put_string(b, "state_dict");
    put_state_dict(b);
    pickle_put_string(b, "optimizer");
    BYTES_PUT(b, "}(");
    pickle_put_string(b, "state");
    BYTES_PUT(b, "}K\0}(U\4stepJ\1\0\0\0T\2\0\0\0hej\x20\0\0\0us");
    pickle_put_string(b, "groups");
    BYTES_PUT(b, "](}(U\2lrG?PbM\xd2\xf1\xa9\xfc"
                 "U\5betasG?\xec\xcc\xcc\xcc\xcc\xcc\xcdG?\xef\xf7\xce\xd9"
                 "\x16\x87+\x86U\3nonNu]K\1a]K\2\x85"
                 "aeu");
    pickle_put_string(b, "val_auroc");
    BYTES_PUT(
        b,
        "cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nU\2f8\x89\x88\x87R(K\3U\1<NNNJ\xff\xff\xff\xff"
        "J\xff\xff\xff\xffK\0tbc_codecs\nencode\nX\4\0\0\0abcdU\6latin1\x86R\x86R");
    pickle_put_string(b, "size");
    BYTES_PUT(b, "ctorch\nSize\nK\2K\3\x86\x85Rctorch\ndevice\nU\3cpu\x85\x81\x86");
    pickle_put_string(b, "self");
    BYTES_PUT(b, "h\1u.");
}
