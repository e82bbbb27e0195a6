/* SPDX-License-Identifier: MIT
 * safetensors files (format of huggingface/safetensors): u64 header length, JSON header, tensors. The reader maps the file
 * and checks everything before it hands out a pointer: header size, JSON, duplicate names, dtypes, shapes, that the
 * tensors tile the data exactly. */
#ifndef CHECKPOINTS_SAFETENSORS_H
#define CHECKPOINTS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "core/file.h"
#include "core/json.h"
#include "core/status.h"

#define SAFETENSORS_MAX_NDIM 8

enum safetensors_dtype { ST_F32, ST_F64, ST_F16, ST_BF16, ST_I64, ST_I32, ST_I16, ST_I8, ST_U8, ST_BOOL, ST_OTHER };

struct safetensors_entry {
    const char *name;
    enum safetensors_dtype dtype;
    const char *dtype_name; /* "F32" */
    int ndim;
    int64_t shape[SAFETENSORS_MAX_NDIM];
    size_t n;          /* elements */
    size_t bytes;
    const void *data;  /* little-endian, may be unaligned */
};

struct safetensors {
    char *path;
    struct file_map map;
    struct json *header;
    struct safetensors_entry *entries; /* sorted by name */
    size_t n_entries;
    char **meta_keys, **meta_values; /* __metadata__ */
    size_t n_meta;
    void **owned; /* memory of names and data that do not lie in the map (checkpoints/pth.h fills this struct, too) */
    size_t n_owned;
};

/* Its name ("F32") and the bytes of an element; NULL and 0 for ST_OTHER. */
const char *safetensors_dtype_name(enum safetensors_dtype dtype);
size_t safetensors_dtype_bytes(enum safetensors_dtype dtype);

/* Maps and checks the whole header. Missing: ECG_ERR_NOINPUT; anything the format forbids: ECG_ERR_DATA. */
enum ecg_status safetensors_open(struct safetensors *s, const char *path);
void safetensors_close(struct safetensors *s); /* idempotent */
const struct safetensors_entry *safetensors_find(const struct safetensors *s, const char *name); /* NULL: not there */
const char *safetensors_meta(const struct safetensors *s, const char *key);                     /* NULL: not there */
/* The tensor's bytes need not stay in memory; reading them again is fine. */
void safetensors_drop(const struct safetensors *s, const struct safetensors_entry *e);
/* Elements as fp32 (F32, F64, F16, BF16) into out (n); other dtypes are ECG_ERR_DATA. */
enum ecg_status safetensors_to_f32(const struct safetensors *s, const struct safetensors_entry *e, float *out);

/* Writing, atomic, 8-byte padded header, tensors by descending alignment, then name: equal content, equal bytes. */
struct safetensors_out {
    const char *name;
    enum safetensors_dtype dtype; /* any but ST_OTHER */
    int ndim;
    int64_t shape[SAFETENSORS_MAX_NDIM];
    const void *data;
};
enum ecg_status safetensors_write(const char *path, const struct safetensors_out *tensors, size_t n,
                                  const char *const *meta_keys, const char *const *meta_values, size_t n_meta);

/* A file's bytes in memory, as safetensors_write would write them. Zeroed is empty. */
struct safetensors_image {
    char *data;
    size_t n, cap; /* bytes used, bytes there */
};
/* Copies a tensor's `bytes` from where they lie, on a device, to host memory. */
typedef enum ecg_status safetensors_fetch_fn(void *context, const struct safetensors_out *t, size_t bytes, void *to);
/* Makes the image, in the memory that it has where that is enough. */
enum ecg_status safetensors_image_make(struct safetensors_image *image, const struct safetensors_out *tensors, size_t n,
                                       const char *const *meta_keys, const char *const *meta_values, size_t n_meta,
                                       safetensors_fetch_fn *fetch, void *context);
enum ecg_status safetensors_image_reserve(struct safetensors_image *image, size_t n); /* room for n bytes; empties it */
void safetensors_image_free(struct safetensors_image *image);                         /* idempotent */
/* How many bytes the file would have; no `data` is looked at. */
enum ecg_status safetensors_size(const struct safetensors_out *tensors, size_t n, const char *const *meta_keys,
                                 const char *const *meta_values, size_t n_meta, uint64_t *bytes);

#endif
