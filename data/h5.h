/* SPDX-License-Identifier: MIT
 * The only door to HDF5: small typed calls over libhdf5, every failure naming file, object and HDF5's own words. One
 * lock inside serialises all calls, so any thread may call; records are therefore not read through here but by pread
 * at the places that h5_dataset_info and h5_chunk_index give. HDF5 converts types; a value that the wanted type
 * cannot hold (300 as uint8, 0.5 as integer) is ECG_ERR_DATA, never clipped.
 * Files are not trusted: a dataset that claims more bytes than its file can hold is ECG_ERR_DATA before anybody
 * allocates, and data that lie in other files (external, virtual) are refused. */
#ifndef DATA_H5_H
#define DATA_H5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#define H5_MAX_NDIM 8

/* The version of the HDF5 library that runs, "1.10.8". */
void h5_version(char *text, size_t n);

enum h5_class { H5_INT, H5_FLOAT, H5_TEXT, H5_OTHER };

struct h5_info {
    int ndim; /* 0: scalar */
    uint64_t shape[H5_MAX_NDIM];
    enum h5_class type;
    int item_bytes; /* of the stored type */
    bool is_signed;
    bool little_endian;
    /* Numbers: the stored bytes are those of a C int8 .. int64, uint8 .. uint64, float or double. */
    bool native;
    /* Text: strings of variable length, stored elsewhere; else item_bytes each. */
    bool variable_text;
    bool space_padded; /* text of fixed length: trailing blanks are padding */
    /* Stored in one piece without filters, allocated, and wholly inside the file. */
    bool contiguous;
    uint64_t offset;             /* of that piece in the file */
    uint64_t chunk[H5_MAX_NDIM]; /* chunk shape; all 0 when not chunked */
};

struct h5_file; /* an open file */
/* Not there: ECG_ERR_NOINPUT; not HDF5 or damaged: ECG_ERR_DATA. A child process goes through the file first, because
 * libhdf5 crashes on many damaged ones; that costs about as much again as opening it. */
enum ecg_status h5_open(struct h5_file **f, const char *path);
/* The same in two steps, for many files: one child looks at all of them, then they are opened without. */
enum ecg_status h5_guard(const char *const *paths, size_t n);
enum ecg_status h5_open_guarded(struct h5_file **f, const char *path);
/* A new file, made under the very name given (callers write to a temporary name and rename). */
enum ecg_status h5_create(struct h5_file **f, const char *path);
/* Close reports what flushing found (disk full: ECG_ERR_IO). NULL is fine. */
enum ecg_status h5_close(struct h5_file *f);

/* Whether an object is there, dataset or group. */
bool h5_has(struct h5_file *f, const char *name);
/* No such dataset: ECG_ERR_DATA. */
enum ecg_status h5_dataset_info(struct h5_file *f, const char *name, struct h5_info *info);

/* Reads rows [first, first+n) along axis 0 (the whole dataset: first 0, n = shape[0]) converted to the C type. */
enum ecg_status h5_read_f64(struct h5_file *f, const char *name, uint64_t first, uint64_t n,
                            double *out);
enum ecg_status h5_read_f32(struct h5_file *f, const char *name, uint64_t first, uint64_t n,
                            float *out);
enum ecg_status h5_read_i16(struct h5_file *f, const char *name, uint64_t first, uint64_t n,
                            int16_t *out);
enum ecg_status h5_read_u8(struct h5_file *f, const char *name, uint64_t first, uint64_t n,
                           uint8_t *out);
/* The type as people name it ("int16", "big-endian int16", "float64", "text"), for messages. */
const char *h5_type_name(const struct h5_info *info, char out[32]);

/* Calls fn for each of the rows [first, first+n) of a 1-D dataset of strings of any kind (fixed or variable, ASCII or
 * UTF-8) or of integers (as decimals). `text` is 0-terminated and n_bytes long. The first failure ends it. */
typedef enum ecg_status h5_text_fn(void *context, uint64_t row, const char *text, size_t n_bytes);
enum ecg_status h5_each_string(struct h5_file *f, const char *name, uint64_t first, uint64_t n,
                               h5_text_fn *fn, void *context);
/* A 1-D dataset of strings of any kind (fixed or variable, ASCII or UTF-8) or of integers (as decimals):
 * fresh array of fresh 0-terminated strings; free with h5_free_strings. */
enum ecg_status h5_read_strings(struct h5_file *f, const char *name, char ***out, uint64_t *n);
void h5_free_strings(char **s, uint64_t n);

/* Where the chunks of a dataset lie that is chunked by whole rows with no filter but shuffle and gzip. */
struct h5_chunk {
    uint64_t offset;
    uint32_t bytes;
    bool shuffled, deflated;
};
struct h5_chunks {
    uint64_t rows; /* in a chunk; the last one is padded to as many */
    size_t n;
    struct h5_chunk *v; /* (n) in the order of rows; free() */
};
/* `direct` false: stored in a way that only HDF5 can read; c is empty then. */
enum ecg_status h5_chunk_index(struct h5_file *f, const char *name, struct h5_chunks *c,
                               bool *direct);

/* Attributes of the root ("" or "/") or of a dataset. Text of any string kind; an array of strings comes as
 * lines, joined by newlines; numbers of any numeric type. `found` may be NULL: then a missing one is ECG_ERR_DATA. */
enum ecg_status h5_attr_text(struct h5_file *f, const char *object, const char *name, char **out,
                             bool *found);
enum ecg_status h5_attr_number(struct h5_file *f, const char *object, const char *name, double *out,
                               bool *found);

/* Writing: datasets made once with all rows, or extended by rows. */
enum ecg_status h5_put_attr_text(struct h5_file *f, const char *object, const char *name,
                                 const char *text);
enum ecg_status h5_put_attr_number(struct h5_file *f, const char *object, const char *name,
                                   double v);
enum ecg_status h5_put_attr_integer(struct h5_file *f, const char *object, const char *name,
                                    int64_t v);
/* Whole datasets, contiguous; shape of ndim axes. */
enum ecg_status h5_put_f32(struct h5_file *f, const char *name, int ndim, const uint64_t *shape,
                           const float *v);
enum ecg_status h5_put_u8(struct h5_file *f, const char *name, int ndim, const uint64_t *shape,
                          const uint8_t *v);
enum ecg_status h5_put_i16(struct h5_file *f, const char *name, int ndim, const uint64_t *shape,
                           const int16_t *v);
/* An int16 dataset that lies in the file at *offset with its contents undefined: the caller writes them by pwrite,
 * before or after h5_close. */
enum ecg_status h5_reserve_i16(struct h5_file *f, const char *name, int ndim, const uint64_t *shape,
                               uint64_t *offset);
/* 1-D fixed-length UTF-8 strings, as long as the longest. */
enum ecg_status h5_put_strings(struct h5_file *f, const char *name, uint64_t n, char *const *v);

#endif
