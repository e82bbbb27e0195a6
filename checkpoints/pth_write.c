/* SPDX-License-Identifier: MIT
 * A .pth of tensors. The pickle has no memo: each tensor is written out in full, some 150 bytes. Only opcodes and globals
 * that torch.load(weights_only=True) of PyTorch 1.13 takes: no floats, for one. */
#include "checkpoints/pth.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/pickle.h"
#include "checkpoints/zip.h"
#include "core/mem.h"

#define FOLDER "archive/"

struct text {
    char *bytes;
    size_t n, cap;
    enum ecg_status status; /* of the first failure */
};

static void put(struct text *t, const void *bytes, size_t n) {
    if (t->status == ECG_OK) t->status = mem_grow((void **)&t->bytes, &t->cap, t->n + n, 1);
    if (t->status != ECG_OK) return;
    memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
}

static void put_op(struct text *t, const char *opcodes) {
    put(t, opcodes, strlen(opcodes));
}

static void put_string(struct text *t, const char *s) {
    uint32_t n = (uint32_t)strlen(s);
    put_op(t, "X");
    put(t, &n, sizeof n);
    put(t, s, n);
}

/* BININT, or LONG1 of 8 bytes. */
static void put_integer(struct text *t, int64_t v) {
    int32_t small = (int32_t)v;
    put_op(t, small == v ? "J" : "\x8a\x08");
    put(t, small == v ? (const void *)&small : &v, small == v ? sizeof small : sizeof v);
}

static void put_integers(struct text *t, const int64_t *v, int n) {
    put_op(t, "(");
    for (int i = 0; i < n; i++) put_integer(t, v[i]);
    put_op(t, "t");
}

/* Digits of a storage's key. */
static void key_text(char key[24], size_t i) {
    snprintf(key, 24, "%zu", i);
}

static void put_tensor(struct text *t, const struct safetensors_out *tensor, size_t i,
                       int64_t n_elements) {
    int64_t strides[SAFETENSORS_MAX_NDIM];
    uint64_t step = 1; /* may wrap where there are no elements and strides mean nothing */
    char key[24];
    key_text(key, i);
    for (int k = tensor->ndim; k-- > 0; step *= (uint64_t)tensor->shape[k])
        strides[k] = n_elements ? (int64_t)step : 1;
    put_string(t, tensor->name);
    put_op(t, "ctorch._utils\n_rebuild_tensor_v2\n((");
    put_string(t, "storage");
    put_op(t, "ctorch\n");
    put_op(t, pickle_storage_name(tensor->dtype));
    put_op(t, "\n");
    put_string(t, key);
    put_string(t, "cpu");
    put_integer(t, n_elements);
    put_op(t, "tQ");
    put_integer(t, 0);
    put_integers(t, tensor->shape, tensor->ndim);
    put_integers(t, strides, tensor->ndim);
    put_op(t, "\x89"
              "ccollections\nOrderedDict\n)RtR");
}

static enum ecg_status count(const char *path, const struct safetensors_out *t, size_t *bytes) {
    bool fits = pickle_storage_name(t->dtype) && t->ndim >= 0 && t->ndim <= SAFETENSORS_MAX_NDIM;
    *bytes = safetensors_dtype_bytes(t->dtype);
    for (int i = 0; fits && i < t->ndim; i++)
        fits = t->shape[i] >= 0 && !__builtin_mul_overflow(*bytes, (size_t)t->shape[i], bytes) &&
               *bytes <= INT64_MAX;
    if (!pickle_is_name(t->name))
        return ecg_fail(ECG_ERR_DATA, "%s: tensor \"%.100s\": a .pth has no such names", path,
                        t->name);
    if (fits) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL,
                    "%s: tensor \"%.100s\" can't be written: its dtype, axes or sizes", path,
                    t->name);
}

static enum ecg_status put_all(struct text *t, const char *path,
                               const struct safetensors_out *tensors, size_t n,
                               const char *const *meta_keys, const char *const *meta_values,
                               size_t n_meta) {
    put_op(t, "\x80\x02}(");
    put_string(t, "state_dict");
    put_op(t, "ccollections\nOrderedDict\n)R(");
    for (size_t i = 0; i < n; i++) {
        size_t bytes;
        TRY(count(path, &tensors[i], &bytes));
        put_tensor(t, &tensors[i], i, (int64_t)(bytes / safetensors_dtype_bytes(tensors[i].dtype)));
    }
    put_op(t, "u");
    put_string(t, "einthoven");
    put_op(t, "}(");
    for (size_t i = 0; i < n_meta; i++) {
        put_string(t, meta_keys[i]);
        put_string(t, meta_values[i]);
    }
    put_op(t, "uu.");
    return t->status;
}

enum ecg_status pth_write(const char *path, const struct safetensors_out *tensors, size_t n,
                          const char *const *meta_keys, const char *const *meta_values,
                          size_t n_meta) {
    struct text pickle = {0};
    struct file_out f = {0};
    struct zip_out zip = {.file = &f};
    enum ecg_status status = ECG_OK;
    TRY_OUT(put_all(&pickle, path, tensors, n, meta_keys, meta_values, n_meta));
    TRY_OUT(file_out_open(&f, path));
    TRY_OUT(zip_put(&zip, FOLDER "data.pkl", pickle.bytes, pickle.n));
    TRY_OUT(zip_put(&zip, FOLDER "byteorder", "little", 6));
    for (size_t i = 0; i < n; i++) {
        char name[48] = FOLDER "data/";
        size_t bytes;
        TRY_OUT(count(path, &tensors[i], &bytes));
        key_text(name + strlen(name), i);
        TRY_OUT(zip_put(&zip, name, tensors[i].data, bytes));
    }
    TRY_OUT(zip_put(&zip, FOLDER "version", "3\n", 2));
    TRY_OUT(zip_finish(&zip));
    TRY_OUT(file_out_commit(&f));
out:
    zip_out_free(&zip);
    file_out_close(&f);
    free(pickle.bytes);
    return status;
}
