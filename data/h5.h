/* SPDX-License-Identifier: MIT
 * The only door to HDF5: small typed calls over libhdf5, every failure naming file and object. HDF5 has one
 * global lock and is not used from two threads at a time: callers open, read tables and close; records are
 * read by pread at the offsets that h5_dataset_info gives. Types are converted by HDF5. */
#ifndef DATA_H5_H
#define DATA_H5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#define H5_MAX_NDIM 8

enum h5_class { H5_INT, H5_FLOAT, H5_TEXT, H5_OTHER };

struct h5_info {
    int ndim; /* 0: scalar */
    uint64_t shape[H5_MAX_NDIM];
    enum h5_class type;
    int item_bytes;     /* of the stored type */
    bool is_signed;
    bool little_endian;
    bool contiguous;    /* stored in one piece without filters, and allocated */
    uint64_t offset;    /* of that piece in the file */
    uint64_t chunk[H5_MAX_NDIM]; /* chunk shape; all 0 when not chunked */
};

struct h5_file; /* an open file */
/* Not there: ECG_ERR_NOINPUT; not HDF5 or damaged: ECG_ERR_DATA. */
enum ecg_status h5_open(struct h5_file **f, const char *path);
/* A new file, made under the very name given (callers write to a temporary name and rename). */
enum ecg_status h5_create(struct h5_file **f, const char *path);
/* Close reports what flushing found (disk full: ECG_ERR_IO). NULL is fine. */
enum ecg_status h5_close(struct h5_file *f);

bool h5_has(struct h5_file *f, const char *name);
enum ecg_status h5_dataset_info(struct h5_file *f, const char *name, struct h5_info *info);

/* Reads rows [first, first+n) along axis 0 (the whole dataset: first 0, n = shape[0]) converted to the C type. */
enum ecg_status h5_read_f64(struct h5_file *f, const char *name, uint64_t first, uint64_t n, double *out);
enum ecg_status h5_read_f32(struct h5_file *f, const char *name, uint64_t first, uint64_t n, float *out);
enum ecg_status h5_read_i16(struct h5_file *f, const char *name, uint64_t first, uint64_t n, int16_t *out);
enum ecg_status h5_read_i64(struct h5_file *f, const char *name, uint64_t first, uint64_t n, int64_t *out);
enum ecg_status h5_read_u8(struct h5_file *f, const char *name, uint64_t first, uint64_t n, uint8_t *out);
/* A 1-D dataset of strings of any kind (fixed or variable, ASCII or UTF-8) or of integers (as decimals):
 * fresh array of fresh 0-terminated strings; free with h5_free_strings. */
enum ecg_status h5_read_strings(struct h5_file *f, const char *name, char ***out, uint64_t *n);
void h5_free_strings(char **s, uint64_t n);

/* Attributes of the root ("" or "/") or of a dataset. Text of any string kind, also a 1-element array; numbers of
 * any numeric type. `found` may be NULL: then a missing one is ECG_ERR_DATA. */
enum ecg_status h5_attr_text(struct h5_file *f, const char *object, const char *name, char **out, bool *found);
enum ecg_status h5_attr_number(struct h5_file *f, const char *object, const char *name, double *out, bool *found);

/* Writing: datasets made once with all rows, or extended by rows. */
enum ecg_status h5_put_attr_text(struct h5_file *f, const char *object, const char *name, const char *text);
enum ecg_status h5_put_attr_number(struct h5_file *f, const char *object, const char *name, double v);
enum ecg_status h5_put_attr_integer(struct h5_file *f, const char *object, const char *name, int64_t v);
/* Whole datasets, contiguous; shape of ndim axes. */
enum ecg_status h5_put_f32(struct h5_file *f, const char *name, int ndim, const uint64_t *shape, const float *v);
enum ecg_status h5_put_u8(struct h5_file *f, const char *name, int ndim, const uint64_t *shape, const uint8_t *v);
enum ecg_status h5_put_i16(struct h5_file *f, const char *name, int ndim, const uint64_t *shape, const int16_t *v);
/* 1-D fixed-length UTF-8 strings, as long as the longest. */
enum ecg_status h5_put_strings(struct h5_file *f, const char *name, uint64_t n, char *const *v);

#endif
