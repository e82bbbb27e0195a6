/* SPDX-License-Identifier: MIT
 * Rows of numbers and of texts. HDF5 converts numbers and would silently clip and round; the callback here turns
 * that into an error. Texts reach the caller's function outside the lock, so it may use HDF5 itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "data/h5_private.h"

/* ------------------------------------------------------------------ reading numbers */

/* HDF5 would clip and round; a value that does not fit is an error instead. */
static H5T_conv_ret_t refuse(H5T_conv_except_t what, hid_t from, hid_t to, void *a, void *b,
                             void *context) {
    (void)from, (void)a, (void)b;
    bool out_of_range = what == H5T_CONV_EXCEPT_RANGE_HI || what == H5T_CONV_EXCEPT_RANGE_LOW;
    bool no_integer = what == H5T_CONV_EXCEPT_TRUNCATE || what == H5T_CONV_EXCEPT_NAN ||
                      what == H5T_CONV_EXCEPT_PINF || what == H5T_CONV_EXCEPT_NINF;
    if (!out_of_range && !(no_integer && H5Tget_class(to) == H5T_INTEGER))
        return H5T_CONV_UNHANDLED;
    *(bool *)context = true;
    return H5T_CONV_ABORT;
}

/* The selection of rows in the file, and the same shape in memory. */
static enum ecg_status select_rows(const struct h5_file *f, const char *name, hid_t dataset,
                                   const struct h5_info *info, uint64_t first, uint64_t n,
                                   hid_t *file_space, hid_t *memory_space) {
    hsize_t start[H5_MAX_NDIM] = {first}, count[H5_MAX_NDIM] = {n};
    uint64_t rows = info->ndim > 0 ? info->shape[0] : 1;
    if (first > rows || n > rows - first)
        return ecg_fail(ECG_ERR_DATA, "%s: %s: rows %llu to %llu wanted of %llu", f->path, name,
                        (unsigned long long)first, (unsigned long long)(first + n),
                        (unsigned long long)rows);
    for (int i = 1; i < info->ndim; i++) count[i] = info->shape[i];
    *file_space = H5Dget_space(dataset);
    *memory_space =
        info->ndim > 0 ? H5Screate_simple(info->ndim, count, NULL) : H5Screate(H5S_SCALAR);
    if (*file_space < 0 || *memory_space < 0 ||
        (info->ndim > 0 &&
         H5Sselect_hyperslab(*file_space, H5S_SELECT_SET, start, NULL, count, NULL) < 0))
        return h5_fail(ECG_ERR_DATA, f, name, "can't select rows");
    return ECG_OK;
}

static bool has_items(const struct h5_info *info, uint64_t n) {
    for (int i = 1; i < info->ndim; i++)
        if (info->shape[i] == 0) return false;
    return n > 0;
}

static enum ecg_status read_rows(const struct h5_file *f, const char *name, hid_t dataset,
                                 const struct h5_info *info, uint64_t first, uint64_t n,
                                 hid_t memory_type, void *out) {
    hid_t file_space = -1, memory_space = -1, transfer = -1;
    bool refused = false;
    enum ecg_status status;
    TRY_OUT(select_rows(f, name, dataset, info, first, n, &file_space, &memory_space));
    if (!has_items(info, n)) goto out;
    transfer = H5Pcreate(H5P_DATASET_XFER);
    if (transfer < 0 || H5Pset_type_conv_cb(transfer, refuse, &refused) < 0 ||
        H5Dread(dataset, memory_type, memory_space, file_space, transfer, out) < 0)
        status = refused
                     ? ecg_fail(ECG_ERR_DATA, "%s: %s: holds a value out of range", f->path, name)
                     : h5_fail(ECG_ERR_DATA, f, name, "can't be read");
out:
    h5_drop(file_space);
    h5_drop(memory_space);
    h5_drop(transfer);
    return status;
}

static enum ecg_status read_numbers(struct h5_file *f, const char *name, uint64_t first, uint64_t n,
                                    hid_t memory_type, void *out) {
    struct h5_info info;
    hid_t dataset;
    TRY(h5_open_dataset(f, name, &dataset, &info));
    enum ecg_status status;
    char found[32];
    if (info.type == H5_INT || info.type == H5_FLOAT)
        status = read_rows(f, name, dataset, &info, first, n, memory_type, out);
    else
        status = ecg_fail(ECG_ERR_DATA, "%s: %s: numbers wanted, found %s", f->path, name,
                          h5_type_name(&info, found));
    h5_drop(dataset);
    return status;
}

enum ecg_status h5_read_f64(struct h5_file *f, const char *name, uint64_t first, uint64_t n,
                            double *out) {
    h5_begin();
    return h5_end(read_numbers(f, name, first, n, H5T_NATIVE_DOUBLE, out));
}

enum ecg_status h5_read_f32(struct h5_file *f, const char *name, uint64_t first, uint64_t n,
                            float *out) {
    h5_begin();
    return h5_end(read_numbers(f, name, first, n, H5T_NATIVE_FLOAT, out));
}

enum ecg_status h5_read_i16(struct h5_file *f, const char *name, uint64_t first, uint64_t n,
                            int16_t *out) {
    h5_begin();
    return h5_end(read_numbers(f, name, first, n, H5T_NATIVE_INT16, out));
}

enum ecg_status h5_read_u8(struct h5_file *f, const char *name, uint64_t first, uint64_t n,
                           uint8_t *out) {
    h5_begin();
    return h5_end(read_numbers(f, name, first, n, H5T_NATIVE_UINT8, out));
}

/* ------------------------------------------------------------------ reading text */

static hid_t text_memory_type(hid_t stored) {
    if (H5Tis_variable_str(stored) <= 0) return H5Tcopy(stored);
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5Tget_cset(stored));
    return type;
}

/* Text of a fixed field: up to the first 0 or the end, without padding blanks. */
static size_t field_length(const char *field, const struct h5_info *info) {
    size_t n = strnlen(field, (size_t)info->item_bytes);
    while (info->space_padded && n > 0 && field[n - 1] == ' ') n--;
    return n;
}

/* Rows of any stored kind, still to be looked at by the caller's function (outside the lock). */
struct text_rows {
    struct h5_info info;
    void *items; /* (n) int64_t, char * or item_bytes chars */
    hid_t type, space;
};

static enum ecg_status read_text_rows(struct h5_file *f, const char *name, uint64_t first,
                                      uint64_t n, struct text_rows *t) {
    hid_t dataset, stored = -1;
    TRY(h5_open_dataset(f, name, &dataset, &t->info));
    enum ecg_status status;
    char found[32];
    if ((t->info.type != H5_TEXT && t->info.type != H5_INT) || t->info.ndim != 1) {
        status = ecg_fail(ECG_ERR_DATA, "%s: %s: a list of texts wanted, found %d axes of %s",
                          f->path, name, t->info.ndim, h5_type_name(&t->info, found));
        goto out;
    }
    if (n > t->info.shape[0]) n = t->info.shape[0] + 1; // select_rows refuses it
    size_t item = t->info.type == H5_INT  ? sizeof(int64_t)
                  : t->info.variable_text ? sizeof(char *)
                                          : (size_t)t->info.item_bytes;
    TRY_OUT(mem_alloc(&t->items, n, item));
    stored = H5Dget_type(dataset);
    t->type = t->info.type == H5_INT ? H5Tcopy(H5T_NATIVE_INT64) : text_memory_type(stored);
    TRY_OUT(read_rows(f, name, dataset, &t->info, first, n, t->type, t->items));
    hsize_t rows = n;
    t->space = H5Screate_simple(1, &rows, NULL);
out:
    h5_drop(stored);
    h5_drop(dataset);
    return status;
}

static void free_text_rows(struct text_rows *t) {
    h5_begin();
    if (t->info.variable_text && t->space >= 0)
        H5Dvlen_reclaim(t->type, t->space, H5P_DEFAULT, t->items);
    h5_drop(t->type);
    h5_drop(t->space);
    h5_end(ECG_OK);
    free(t->items);
}

enum ecg_status h5_each_string(struct h5_file *f, const char *name, uint64_t first, uint64_t n,
                               h5_text_fn *fn, void *context) {
    struct text_rows t = {.type = -1, .space = -1};
    char *field = NULL, digits[24];
    h5_begin();
    enum ecg_status status = h5_end(read_text_rows(f, name, first, n, &t));
    if (status != ECG_OK) goto out;
    TRY_OUT(mem_alloc((void **)&field, (size_t)t.info.item_bytes + 1, 1));
    for (uint64_t i = 0; i < n && status == ECG_OK; i++) {
        const char *text = field;
        size_t n_bytes;
        if (t.info.type == H5_INT) {
            n_bytes = (size_t)snprintf(digits, sizeof digits, "%lld",
                                       (long long)((const int64_t *)t.items)[i]);
            text = digits;
        } else if (t.info.variable_text) {
            const char *s = ((char *const *)t.items)[i];
            text = s != NULL ? s : "";
            n_bytes = strlen(text);
        } else {
            const char *s = (const char *)t.items + i * (uint64_t)t.info.item_bytes;
            n_bytes = field_length(s, &t.info);
            memcpy(field, s, n_bytes);
            field[n_bytes] = 0;
        }
        status = fn(context, first + i, text, n_bytes);
    }
out:
    free(field);
    free_text_rows(&t);
    return status;
}

static enum ecg_status keep_string(void *context, uint64_t row, const char *text, size_t n_bytes) {
    (void)n_bytes;
    return mem_strdup(&((char **)context)[row], text);
}

enum ecg_status h5_read_strings(struct h5_file *f, const char *name, char ***out, uint64_t *n) {
    struct h5_info info;
    char **s;
    *out = NULL;
    TRY(h5_dataset_info(f, name, &info));
    uint64_t rows = info.ndim > 0 ? info.shape[0] : 0;
    TRY(MEM_NEW(&s, rows));
    enum ecg_status status = h5_each_string(f, name, 0, rows, keep_string, s);
    if (status != ECG_OK) {
        h5_free_strings(s, rows);
        return status;
    }
    *out = s;
    *n = rows;
    return ECG_OK;
}

void h5_free_strings(char **s, uint64_t n) {
    for (uint64_t i = 0; s != NULL && i < n; i++) free(s[i]);
    free(s);
}
