/* SPDX-License-Identifier: MIT
 * safetensors, both ways. A file is u64 n (little-endian) | n bytes of JSON | data. Nothing in it is trusted: every number of
 * the header is checked before it becomes a pointer, and the tensors, sorted by offset, must tile the data exactly, so that
 * no byte is read twice, left out, or outside the map. */
#include "checkpoints/safetensors.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are stored little-endian");
_Static_assert(sizeof(size_t) == 8, "tensor sizes need 64 bits");

#define MAX_HEADER 100000000 /* bytes; the limit of the format's own library */
#define PREFIX     8         /* bytes of the header's length */
#define METADATA   "__metadata__"

/* Every dtype of the format. Those without a value of their own in the enum can be listed, but not read. */
static const struct dtype {
    const char *name;
    enum safetensors_dtype dtype;
    int bits;
} dtypes[] = {
    {"F32", ST_F32, 32},          {"F64", ST_F64, 64},      {"F16", ST_F16, 16},
    {"BF16", ST_BF16, 16},        {"I64", ST_I64, 64},      {"I32", ST_I32, 32},
    {"I16", ST_I16, 16},          {"I8", ST_I8, 8},         {"U8", ST_U8, 8},
    {"BOOL", ST_BOOL, 8},         {"U16", ST_OTHER, 16},    {"U32", ST_OTHER, 32},
    {"U64", ST_OTHER, 64},        {"C64", ST_OTHER, 64},    {"F8_E5M2", ST_OTHER, 8},
    {"F8_E4M3", ST_OTHER, 8},     {"F8_E8M0", ST_OTHER, 8}, {"F8_E5M2FNUZ", ST_OTHER, 8},
    {"F8_E4M3FNUZ", ST_OTHER, 8}, {"F6_E2M3", ST_OTHER, 6}, {"F6_E3M2", ST_OTHER, 6},
    {"F4", ST_OTHER, 4},
};
#define N_DTYPES (sizeof dtypes / sizeof *dtypes)

static const struct dtype *dtype_by_name(const char *name) {
    for (size_t i = 0; i < N_DTYPES; i++)
        if (!strcmp(dtypes[i].name, name)) return &dtypes[i];
    return NULL;
}

static const struct dtype *dtype_by_value(enum safetensors_dtype value) {
    for (size_t i = 0; i < N_DTYPES; i++)
        if (dtypes[i].dtype == value && value != ST_OTHER) return &dtypes[i];
    return NULL;
}

const char *safetensors_dtype_name(enum safetensors_dtype dtype) {
    const struct dtype *known = dtype_by_value(dtype);
    return known ? known->name : NULL;
}

size_t safetensors_dtype_bytes(enum safetensors_dtype dtype) {
    const struct dtype *known = dtype_by_value(dtype);
    return known ? (size_t)known->bits / 8 : 0;
}

/* false: the product does not fit */
static bool count_elements(const int64_t *shape, int ndim, size_t *n) {
    *n = 1;
    for (int i = 0; i < ndim; i++)
        if (__builtin_mul_overflow(*n, (size_t)shape[i], n)) return false;
    return true;
}

/* Bytes of n elements; false: they do not fit, or are no whole bytes. */
static bool count_bytes(size_t n, int bits, size_t *bytes) {
    size_t total;
    if (__builtin_mul_overflow(n, (size_t)bits, &total) || total % 8) return false;
    *bytes = total / 8;
    return true;
}

/* ---- reading ---- */

static enum ecg_status bad_tensor(const struct safetensors *s, const char *name, const char *what) {
    return ecg_fail(ECG_ERR_DATA, "%s: tensor \"%.100s\": %s", s->path, name, what);
}

static enum ecg_status read_shape(const struct safetensors *s, struct safetensors_entry *e,
                                  const struct json *shape) {
    if (!json_is_array(shape)) return bad_tensor(s, e->name, "\"shape\" is not a list");
    if (json_size(shape) > SAFETENSORS_MAX_NDIM)
        return bad_tensor(s, e->name, "\"shape\" has more than 8 axes");
    e->ndim = (int)json_size(shape);
    for (int i = 0; i < e->ndim; i++) {
        const struct json *extent = json_at(shape, (size_t)i);
        if (!json_is_integer(extent) || json_integer(extent) < 0)
            return bad_tensor(s, e->name, "\"shape\" holds something other than sizes");
        e->shape[i] = json_integer(extent);
    }
    if (!count_elements(e->shape, e->ndim, &e->n))
        return bad_tensor(s, e->name, "the product of its shape overflows");
    return ECG_OK;
}

static enum ecg_status read_offsets(const struct safetensors *s, struct safetensors_entry *e,
                                    const struct json *offsets, const char *base, size_t size) {
    const struct json *begin = NULL, *end = NULL;
    if (json_is_array(offsets) && json_size(offsets) == 2) {
        begin = json_at(offsets, 0);
        end = json_at(offsets, 1);
    }
    if (!begin || !json_is_integer(begin) || !json_is_integer(end))
        return bad_tensor(s, e->name, "\"data_offsets\" is not a pair of integers");
    int64_t b = json_integer(begin), t = json_integer(end);
    if (b < 0 || t < b || (uint64_t)t > size)
        return ecg_fail(
            ECG_ERR_DATA,
            "%s: tensor \"%.100s\": data_offsets [%lld, %lld] lie outside the %zu bytes of "
            "data (is the file truncated?)",
            s->path, e->name, (long long)b, (long long)t, size);
    e->data = base + b;
    e->bytes = (size_t)(t - b);
    return ECG_OK;
}

static enum ecg_status read_entry(const struct safetensors *s, struct safetensors_entry *e,
                                  const struct json *info, const char *base, size_t size) {
    if (!json_is_object(info)) return bad_tensor(s, e->name, "its entry is not an object");
    const struct json *dtype = json_get(info, "dtype"), *shape = json_get(info, "shape"),
                      *offsets = json_get(info, "data_offsets");
    if (!dtype || !shape || !offsets)
        return bad_tensor(s, e->name, "\"dtype\", \"shape\" or \"data_offsets\" is missing");
    if (!json_is_string(dtype)) return bad_tensor(s, e->name, "\"dtype\" is not a string");
    e->dtype_name = json_string(dtype);
    TRY(read_shape(s, e, shape));
    TRY(read_offsets(s, e, offsets, base, size));

    const struct dtype *known = dtype_by_name(e->dtype_name);
    e->dtype = known ? known->dtype : ST_OTHER;
    size_t bytes;
    if (known && (!count_bytes(e->n, known->bits, &bytes) || bytes != e->bytes))
        return ecg_fail(
            ECG_ERR_DATA,
            "%s: tensor \"%.100s\": its shape and dtype %s do not make up its %zu bytes", s->path,
            e->name, e->dtype_name, e->bytes);
    return ECG_OK;
}

static enum ecg_status read_metadata(struct safetensors *s, const struct json *metadata) {
    if (!json_is_object(metadata))
        return ecg_fail(ECG_ERR_DATA, "%s: " METADATA " is not an object", s->path);
    size_t n = json_size(metadata);
    TRY(MEM_NEW(&s->meta_keys, n));
    TRY(MEM_NEW(&s->meta_values, n));
    for (size_t i = 0; i < n; i++) {
        const char *key = json_key_at(metadata, i);
        const char *value = json_string(json_value_at(metadata, i));
        if (!value)
            return ecg_fail(ECG_ERR_DATA, "%s: " METADATA ": \"%.100s\" is not a string", s->path,
                            key);
        TRY(mem_strdup(&s->meta_keys[i], key));
        s->n_meta = i + 1;
        TRY(mem_strdup(&s->meta_values[i], value));
    }
    return ECG_OK;
}

static int by_place(const void *a, const void *b) {
    const struct safetensors_entry *x = a, *y = b;
    if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return (x->bytes > y->bytes) -
           (x->bytes < y->bytes); /* empty tensors before the one they stand at */
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct safetensors_entry *)a)->name,
                  ((const struct safetensors_entry *)b)->name);
}

/* Sorted by place the tensors must cover [base, base + size) without holes, overlaps or a tail. */
static enum ecg_status check_tiling(struct safetensors *s, const char *base, size_t size) {
    qsort(s->entries, s->n_entries, sizeof *s->entries, by_place);
    const char *at = base;
    for (size_t i = 0; i < s->n_entries; i++) {
        const struct safetensors_entry *e = &s->entries[i];
        if (e->data != at)
            return bad_tensor(s, e->name,
                              (const char *)e->data < at ? "its data overlap another tensor's"
                                                         : "there is a hole before its data");
        at += e->bytes;
    }
    if (at != base + size)
        return ecg_fail(ECG_ERR_DATA, "%s: %zu bytes behind the last tensor", s->path,
                        (size_t)(base + size - at));
    return ECG_OK;
}

static enum ecg_status parse_header(struct safetensors *s, const char **base, size_t *size) {
    uint64_t n;
    if (s->map.size < PREFIX)
        return ecg_fail(ECG_ERR_DATA, "%s: too short for a safetensors file (%zu bytes)", s->path,
                        s->map.size);
    memcpy(&n, s->map.data, PREFIX);
    if (n > MAX_HEADER)
        return ecg_fail(
            ECG_ERR_DATA,
            "%s: not a safetensors file: its header claims %llu bytes, over the format's "
            "limit of %d",
            s->path, (unsigned long long)n, MAX_HEADER);
    if (n > s->map.size - PREFIX)
        return ecg_fail(ECG_ERR_DATA, "%s: truncated: a header of %llu bytes in a file of %zu",
                        s->path, (unsigned long long)n, s->map.size);
    const char *text = s->map.data + PREFIX;
    if (n == 0 || text[0] != '{')
        return ecg_fail(ECG_ERR_DATA,
                        "%s: not a safetensors file: its header does not start with '{'", s->path);
    char *where;
    TRY(MEM_NEW(&where, strlen(s->path) + 16));
    strcat(strcpy(where, s->path), ": header");
    enum ecg_status status = json_parse(&s->header, text, (size_t)n, where);
    free(where);
    TRY(status);
    if (!json_is_object(s->header))
        return ecg_fail(ECG_ERR_DATA, "%s: the header is not an object", s->path);
    *base = text + n;
    *size = s->map.size - PREFIX - (size_t)n;
    return ECG_OK;
}

static enum ecg_status read_all(struct safetensors *s) {
    const char *base = NULL;
    size_t size = 0;
    TRY(parse_header(s, &base, &size));
    size_t n = json_size(s->header);
    TRY(MEM_NEW(&s->entries, n));
    for (size_t i = 0; i < n; i++) {
        const char *key = json_key_at(s->header, i);
        const struct json *value = json_value_at(s->header, i);
        if (!strcmp(key, METADATA)) {
            TRY(read_metadata(s, value));
            continue;
        }
        struct safetensors_entry *e = &s->entries[s->n_entries];
        e->name = key;
        TRY(read_entry(s, e, value, base, size));
        s->n_entries++;
    }
    TRY(check_tiling(s, base, size));
    qsort(s->entries, s->n_entries, sizeof *s->entries, by_name);
    return ECG_OK;
}

enum ecg_status safetensors_open(struct safetensors *s, const char *path) {
    *s = (struct safetensors){0};
    enum ecg_status status = ECG_OK;
    TRY_OUT(mem_strdup(&s->path, path));
    TRY_OUT(file_map_open(&s->map, path));
    TRY_OUT(read_all(s));
out:
    if (status != ECG_OK) safetensors_close(s);
    return status;
}

void safetensors_close(struct safetensors *s) {
    for (size_t i = 0; i < s->n_meta; i++) {
        free(s->meta_keys[i]);
        free(s->meta_values[i]);
    }
    for (size_t i = 0; i < s->n_owned; i++) free(s->owned[i]);
    free(s->owned);
    free(s->meta_keys);
    free(s->meta_values);
    free(s->entries);
    json_free(s->header);
    file_map_close(&s->map);
    free(s->path);
    *s = (struct safetensors){0};
}

const struct safetensors_entry *safetensors_find(const struct safetensors *s, const char *name) {
    struct safetensors_entry key = {.name = name};
    if (!s->n_entries) return NULL;
    return bsearch(&key, s->entries, s->n_entries, sizeof *s->entries, by_name);
}

const char *safetensors_meta(const struct safetensors *s, const char *key) {
    for (size_t i = 0; i < s->n_meta; i++)
        if (!strcmp(s->meta_keys[i], key)) return s->meta_values[i];
    return NULL;
}

void safetensors_drop(const struct safetensors *s, const struct safetensors_entry *e) {
    const char *data = e->data;
    if (e->bytes && data >= s->map.data && data < s->map.data + s->map.size)
        file_map_drop(&s->map, data, e->bytes);
}

static float bits_to_float(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Exact: every half is a float. A subnormal half is its mantissa times 2^-24. */
static float half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023;
    if (exponent == 31) return bits_to_float(sign | 0x7f800000u | mantissa << 13);
    if (exponent) return bits_to_float(sign | (exponent + 112) << 23 | mantissa << 13);
    float magnitude = (float)mantissa * 0x1p-24f;
    return sign ? -magnitude : magnitude;
}

enum ecg_status safetensors_to_f32(const struct safetensors *s, const struct safetensors_entry *e,
                                   float *out) {
    const char *data = e->data;
    switch (e->dtype) {
    case ST_F32:
        if (e->n) memcpy(out, data, e->n * sizeof *out);
        return ECG_OK;
    case ST_F64:
        for (size_t i = 0; i < e->n; i++) {
            double v;
            memcpy(&v, data + i * sizeof v, sizeof v);
            out[i] = (float)v;
        }
        return ECG_OK;
    case ST_F16:
    case ST_BF16:
        for (size_t i = 0; i < e->n; i++) {
            uint16_t v;
            memcpy(&v, data + i * sizeof v, sizeof v);
            out[i] = e->dtype == ST_F16 ? half_to_float(v) : bits_to_float((uint32_t)v << 16);
        }
        return ECG_OK;
    default:
        return ecg_fail(ECG_ERR_DATA, "%s: tensor \"%.100s\" holds %s, not floating-point numbers",
                        s->path, e->name, e->dtype_name);
    }
}

/* ---- writing ---- */

struct place {
    const struct safetensors_out *tensor;
    const struct dtype *dtype;
    size_t bytes;
};

static int by_alignment(const void *a, const void *b) {
    const struct place *x = a, *y = b;
    if (x->dtype->bits != y->dtype->bits) return y->dtype->bits - x->dtype->bits;
    return strcmp(x->tensor->name, y->tensor->name);
}

static enum ecg_status check_out(const char *path, const struct safetensors_out *t,
                                 struct place *p) {
    *p = (struct place){.tensor = t, .dtype = dtype_by_value(t->dtype)};
    if (!p->dtype || t->ndim < 0 || t->ndim > SAFETENSORS_MAX_NDIM || !strcmp(t->name, METADATA))
        return ecg_fail(ECG_ERR_FAIL,
                        "%s: tensor \"%.100s\" can't be written: its name, dtype or axes", path,
                        t->name);
    size_t n;
    for (int i = 0; i < t->ndim; i++)
        if (t->shape[i] < 0)
            return ecg_fail(ECG_ERR_FAIL, "%s: tensor \"%.100s\": negative size", path, t->name);
    if (!count_elements(t->shape, t->ndim, &n) || !count_bytes(n, p->dtype->bits, &p->bytes))
        return ecg_fail(ECG_ERR_FAIL, "%s: tensor \"%.100s\": its size overflows", path, t->name);
    return ECG_OK;
}

static int by_text(const void *a, const void *b) {
    return strcmp(**(const char *const *const *)a, **(const char *const *const *)b);
}

/* Metadata by key, whatever order the caller had. */
static enum ecg_status put_metadata(struct json_writer *w, const char *const *keys,
                                    const char *const *values, size_t n) {
    const char *const **order;
    TRY(MEM_NEW(&order, n));
    for (size_t i = 0; i < n; i++) order[i] = &keys[i];
    qsort(order, n, sizeof *order, by_text);
    json_put_key(w, METADATA);
    json_begin_object(w);
    for (size_t i = 0; i < n; i++) {
        json_put_key(w, *order[i]);
        json_put_string(w, values[order[i] - keys]);
    }
    json_end_object(w);
    free(order);
    return ECG_OK;
}

static void put_tensor(struct json_writer *w, const struct place *p, size_t begin) {
    json_put_key(w, p->tensor->name);
    json_begin_object(w);
    json_put_key(w, "dtype");
    json_put_string(w, p->dtype->name);
    json_put_key(w, "shape");
    json_begin_array(w);
    for (int i = 0; i < p->tensor->ndim; i++) json_put_integer(w, p->tensor->shape[i]);
    json_end_array(w);
    json_put_key(w, "data_offsets");
    json_begin_array(w);
    json_put_integer(w, (int64_t)begin);
    json_put_integer(w, (int64_t)(begin + p->bytes));
    json_end_array(w);
    json_end_object(w);
}

/* A file on its way out: the tensors in the file's order, and the header, padded, without its length in front. */
struct writer {
    struct place *places; /* (n) */
    size_t n;
    char *header;
    uint64_t header_bytes, data_bytes;
};

static void writer_free(struct writer *w) {
    free(w->places);
    free(w->header);
}

/* Appends the spaces that make the header's length a multiple of PREFIX. */
static enum ecg_status pad_header(const char *path, struct writer *w, const char *text) {
    size_t length = strlen(text), padding = (PREFIX - length % PREFIX) % PREFIX;
    w->header_bytes = length + padding;
    if (w->header_bytes > MAX_HEADER)
        return ecg_fail(ECG_ERR_FAIL, "%s: the header would be larger than the format allows",
                        path);
    TRY(MEM_NEW(&w->header, w->header_bytes));
    memcpy(w->header, text, length);
    memset(w->header + length, ' ', padding);
    return ECG_OK;
}

static enum ecg_status writer_begin(struct writer *w, const char *path,
                                    const struct safetensors_out *tensors, size_t n,
                                    const char *const *meta_keys, const char *const *meta_values,
                                    size_t n_meta) {
    enum ecg_status status = ECG_OK;
    struct json_writer json = {0};
    char *text = NULL;
    w->n = n;
    TRY_OUT(MEM_NEW(&w->places, n));
    for (size_t i = 0; i < n; i++) TRY_OUT(check_out(path, &tensors[i], &w->places[i]));
    qsort(w->places, n, sizeof *w->places, by_alignment);

    json_begin_object(&json);
    if (n_meta) TRY_OUT(put_metadata(&json, meta_keys, meta_values, n_meta));
    for (size_t i = 0; i < n; i++) {
        put_tensor(&json, &w->places[i], w->data_bytes);
        w->data_bytes += w->places[i].bytes;
    }
    json_end_object(&json);
    TRY_OUT(json_writer_take(&json, &text));
    TRY_OUT(pad_header(path, w, text));
out:
    json_writer_free(&json);
    free(text);
    return status;
}

static enum ecg_status put_bytes(struct file_out *f, const void *data, size_t n) {
    if (n && fwrite(data, 1, n, f->stream) != n)
        return ecg_fail(ECG_ERR_IO, "%s: writing failed (is the disk full?)", f->path);
    return ECG_OK;
}

static enum ecg_status write_file(const char *path, const struct writer *w) {
    struct file_out f = {0};
    enum ecg_status status = ECG_OK;
    TRY_OUT(file_out_open(&f, path));
    TRY_OUT(put_bytes(&f, &w->header_bytes, sizeof w->header_bytes));
    TRY_OUT(put_bytes(&f, w->header, w->header_bytes));
    for (size_t i = 0; i < w->n; i++)
        TRY_OUT(put_bytes(&f, w->places[i].tensor->data, w->places[i].bytes));
    TRY_OUT(file_out_commit(&f));
out:
    file_out_close(&f);
    return status;
}

enum ecg_status safetensors_write(const char *path, const struct safetensors_out *tensors, size_t n,
                                  const char *const *meta_keys, const char *const *meta_values,
                                  size_t n_meta) {
    struct writer w = {0};
    enum ecg_status status = writer_begin(&w, path, tensors, n, meta_keys, meta_values, n_meta);
    if (status == ECG_OK) status = write_file(path, &w);
    writer_free(&w);
    return status;
}

/* The bytes that write_file would write. */
static enum ecg_status fill_image(struct safetensors_image *image, const struct writer *w,
                                  safetensors_fetch_fn *fetch, void *context) {
    size_t n = PREFIX + w->header_bytes + w->data_bytes;
    TRY(safetensors_image_reserve(image, n));
    image->n = n;
    memcpy(image->data, &w->header_bytes, PREFIX);
    memcpy(image->data + PREFIX, w->header, w->header_bytes);
    char *to = image->data + PREFIX + w->header_bytes;
    for (size_t i = 0; i < w->n; i++) {
        TRY(fetch(context, w->places[i].tensor, w->places[i].bytes, to));
        to += w->places[i].bytes;
    }
    return ECG_OK;
}

enum ecg_status safetensors_image_make(struct safetensors_image *image,
                                       const struct safetensors_out *tensors, size_t n,
                                       const char *const *meta_keys, const char *const *meta_values,
                                       size_t n_meta, safetensors_fetch_fn *fetch, void *context) {
    struct writer w = {0};
    enum ecg_status status =
        writer_begin(&w, "safetensors", tensors, n, meta_keys, meta_values, n_meta);
    if (status == ECG_OK) status = fill_image(image, &w, fetch, context);
    writer_free(&w);
    return status;
}

enum ecg_status safetensors_image_reserve(struct safetensors_image *image, size_t n) {
    if (image->cap >= n) return ECG_OK;
    safetensors_image_free(image);
    TRY(MEM_NEW(&image->data, n));
    image->cap = n;
    return ECG_OK;
}

void safetensors_image_free(struct safetensors_image *image) {
    free(image->data);
    *image = (struct safetensors_image){0};
}

enum ecg_status safetensors_size(const struct safetensors_out *tensors, size_t n,
                                 const char *const *meta_keys, const char *const *meta_values,
                                 size_t n_meta, uint64_t *bytes) {
    struct writer w = {0};
    enum ecg_status status =
        writer_begin(&w, "safetensors", tensors, n, meta_keys, meta_values, n_meta);
    *bytes = PREFIX + w.header_bytes + w.data_bytes;
    writer_free(&w);
    return status;
}
