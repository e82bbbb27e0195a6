/* SPDX-License-Identifier: MIT
 * Files, and what is in a dataset. Every public call takes the lock, silences HDF5's own printing (it is per thread),
 * works on one object, and turns HDF5's error stack into one message: the innermost entry says what really went
 * wrong, the outer ones only repeat which calls stood around it.
 *
 * What a file claims is checked in describe() before anybody allocates: data in one piece must lie inside the file;
 * other layouts may not claim more than deflate's best ratio (1032:1) times the file's size. What lies below that,
 * libhdf5's own reading of its metadata, is not safe; see h5_guard.c. */
#include "data/h5.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/mem.h"
#include "data/h5_private.h"

#define MAX_RATIO 1100 /* logical bytes a stored byte can stand for; deflate reaches 1032 */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void h5_begin(void) {
    pthread_mutex_lock(&lock);
    static bool started;
    if (!started) {
        // Locks fail on many network file systems, and our files are written once under a temporary name.
        setenv("HDF5_USE_FILE_LOCKING", "FALSE", 0);
        // Every file is closed by us; one whose last flush failed on a full disk would crash HDF5's own exit handler.
        H5dont_atexit();
        started = true;
    }
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5Eclear2(H5E_DEFAULT);
}

enum ecg_status h5_end(enum ecg_status status) {
    pthread_mutex_unlock(&lock);
    return status;
}

void h5_version(char *text, size_t n) {
    unsigned major = 0, minor = 0, release = 0;
    h5_begin();
    (void)H5get_libversion(&major, &minor, &release);
    (void)h5_end(ECG_OK);
    snprintf(text, n, "%u.%u.%u", major, minor, release);
}

/* Up to where HDF5 starts to list times, buffers and file descriptors. */
static herr_t keep_innermost(unsigned n, const H5E_error2_t *e, void *context) {
    char *words = context;
    if (n != 0 || e->desc == NULL) return 0;
    snprintf(words, 256, "%s", e->desc);
    char *details = strstr(words, ": time = ");
    if (details != NULL) *details = 0;
    return 0;
}

enum ecg_status h5_fail(enum ecg_status status, const struct h5_file *f, const char *name,
                        const char *what) {
    char words[256] = "";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, words);
    bool is_root = strcmp(name, "/") == 0;
    return ecg_fail(status, "%s: %s%s%s%s%s%s", f->path, is_root ? "" : name, is_root ? "" : ": ",
                    what, words[0] != 0 ? " (HDF5: " : "", words, words[0] != 0 ? ")" : "");
}

/* Any kind of HDF5 identifier; a negative one is none. */
void h5_drop(hid_t id) {
    if (id >= 0) H5Idec_ref(id);
}

/* ------------------------------------------------------------------ files */

static enum ecg_status new_file(struct h5_file **out, const char *path) {
    struct h5_file *f;
    TRY(MEM_NEW(&f, 1));
    f->id = -1;
    if (mem_strdup(&f->path, path) != ECG_OK) {
        free(f);
        return ECG_ERR_NOMEM;
    }
    *out = f;
    return ECG_OK;
}

static void free_file(struct h5_file *f) {
    free(f->path);
    free(f);
}

/* Closing the file closes whatever is still open in it. New files are in the format of HDF5 1.8 (2008): unlike the
 * older default it has checksums over its metadata, so damage is found and not interpreted. */
static hid_t access_properties(bool writing) {
    hid_t plist = H5Pcreate(H5P_FILE_ACCESS);
    if (plist < 0) return plist;
    H5Pset_fclose_degree(plist, H5F_CLOSE_STRONG);
    if (writing) H5Pset_libver_bounds(plist, H5F_LIBVER_V18, H5F_LIBVER_V18);
    return plist;
}

enum ecg_status h5_open_guarded(struct h5_file **out, const char *path) {
    struct stat st;
    *out = NULL;
    if (stat(path, &st) != 0 || access(path, R_OK) != 0)
        return ecg_fail(ECG_ERR_NOINPUT, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return ecg_fail(ECG_ERR_DATA, "%s: is not a plain file", path);
    struct h5_file *f;
    TRY(new_file(&f, path));
    f->bytes = (uint64_t)st.st_size;

    h5_begin();
    hid_t access_list = access_properties(false);
    f->id = H5Fopen(path, H5F_ACC_RDONLY, access_list);
    enum ecg_status status = ECG_OK;
    if (f->id < 0)
        status =
            h5_fail(ECG_ERR_DATA, f, "/", "is not an HDF5 file, or a damaged or truncated one");
    h5_drop(access_list);
    h5_end(status);
    if (status != ECG_OK) {
        free_file(f);
        return status;
    }
    *out = f;
    return ECG_OK;
}

enum ecg_status h5_open(struct h5_file **out, const char *path) {
    *out = NULL;
    TRY(h5_guard(&path, 1));
    return h5_open_guarded(out, path);
}

enum ecg_status h5_create(struct h5_file **out, const char *path) {
    struct h5_file *f;
    *out = NULL;
    TRY(new_file(&f, path));
    f->writing = true;
    /* By itself first: the system's reason is clearer than HDF5's. */
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        ecg_fail(ECG_ERR_CREATE, "%s: can't create: %s", path, strerror(errno));
        free_file(f);
        return ECG_ERR_CREATE;
    }
    close(fd);

    h5_begin();
    hid_t access_list = access_properties(true), plist = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_obj_track_times(plist, false); // equal data give equal bytes
    f->id = H5Fcreate(path, H5F_ACC_TRUNC, plist, access_list);
    enum ecg_status status = ECG_OK;
    if (f->id < 0) status = h5_fail(ECG_ERR_IO, f, "/", "writing failed (is the disk full?)");
    h5_drop(plist);
    h5_drop(access_list);
    h5_end(status);
    if (status != ECG_OK) {
        free_file(f);
        return status;
    }
    *out = f;
    return ECG_OK;
}

enum ecg_status h5_close(struct h5_file *f) {
    if (f == NULL) return ECG_OK;
    h5_begin();
    enum ecg_status status = ECG_OK;
    if (f->writing && H5Fflush(f->id, H5F_SCOPE_LOCAL) < 0)
        status = h5_fail(ECG_ERR_IO, f, "/", "can't be written");
    if (H5Fclose(f->id) < 0 && status == ECG_OK)
        status = h5_fail(f->writing ? ECG_ERR_IO : ECG_ERR_DATA, f, "/", "can't be closed");
    h5_end(status);
    free_file(f);
    return status;
}

/* ------------------------------------------------------------------ what is in a dataset */

bool h5_is_root(const char *name) {
    return name[0] == 0 || strcmp(name, "/") == 0;
}

bool h5_has(struct h5_file *f, const char *name) {
    if (h5_is_root(name)) return true;
    h5_begin();
    // A link may be there and lead nowhere, and a path is only there when each part of it is.
    bool there = H5Oexists_by_name(f->id, name, H5P_DEFAULT) > 0;
    h5_end(ECG_OK);
    return there;
}

static bool same_type(hid_t type, hid_t native) {
    return H5Tequal(type, native) > 0;
}

static bool is_native(hid_t type) {
    return same_type(type, H5T_NATIVE_INT8) || same_type(type, H5T_NATIVE_INT16) ||
           same_type(type, H5T_NATIVE_INT32) || same_type(type, H5T_NATIVE_INT64) ||
           same_type(type, H5T_NATIVE_UINT8) || same_type(type, H5T_NATIVE_UINT16) ||
           same_type(type, H5T_NATIVE_UINT32) || same_type(type, H5T_NATIVE_UINT64) ||
           same_type(type, H5T_NATIVE_FLOAT) || same_type(type, H5T_NATIVE_DOUBLE);
}

/* An enumeration (h5py's bool) counts as its integers. */
static void describe_type(hid_t type, struct h5_info *info) {
    H5T_class_t class = H5Tget_class(type);
    hid_t base = class == H5T_ENUM ? H5Tget_super(type) : H5Tcopy(type);
    size_t bytes = H5Tget_size(type);
    info->item_bytes = bytes <= INT_MAX ? (int)bytes : 0;
    info->type = H5_OTHER;
    if (class == H5T_INTEGER || class == H5T_ENUM || class == H5T_FLOAT) {
        info->type = class == H5T_FLOAT ? H5_FLOAT : H5_INT;
        info->is_signed = class == H5T_FLOAT || H5Tget_sign(base) == H5T_SGN_2;
        info->little_endian = H5Tget_order(base) == H5T_ORDER_LE;
        info->native = is_native(base);
    } else if (class == H5T_STRING) {
        info->type = H5_TEXT;
        info->variable_text = H5Tis_variable_str(type) > 0;
        info->space_padded = !info->variable_text && H5Tget_strpad(type) == H5T_STR_SPACEPAD;
    }
    h5_drop(base);
}

/* Bytes of the whole array; false when they overflow. */
static bool total_bytes(const struct h5_info *info, uint64_t *total) {
    uint64_t t = (uint64_t)info->item_bytes;
    for (int i = 0; i < info->ndim; i++)
        if (info->shape[i] == 0) t = 0;
    for (int i = 0; i < info->ndim && t > 0; i++)
        if (__builtin_mul_overflow(t, info->shape[i], &t)) return false;
    *total = t;
    return true;
}

/* A filter that this HDF5 lacks (h5py's lzf) makes the data unreadable: better said here than after half a job. */
static enum ecg_status check_filters(const struct h5_file *f, const char *name, hid_t plist) {
    int n = H5Pget_nfilters(plist);
    for (int i = 0; i < n; i++) {
        unsigned flags, config;
        size_t n_values = 0;
        char filter[32] = "";
        H5Z_filter_t id = H5Pget_filter2(plist, (unsigned)i, &flags, &n_values, NULL,
                                         sizeof filter - 1, filter, &config);
        if (id >= 0 && H5Zfilter_avail(id) <= 0)
            return ecg_fail(ECG_ERR_DATA,
                            "%s: %s: is compressed by \"%s\" (filter %d), which is not "
                            "installed here; store it with gzip",
                            f->path, name, filter, (int)id);
    }
    return ECG_OK;
}

/* Where the data lie, and whether the file can hold them. */
static enum ecg_status describe_storage(const struct h5_file *f, const char *name, hid_t dataset,
                                        struct h5_info *info) {
    uint64_t total;
    if (!total_bytes(info, &total) || (total > 0 && info->item_bytes == 0))
        return h5_fail(ECG_ERR_DATA, f, name, "claims an impossible size");
    hid_t plist = H5Dget_create_plist(dataset);
    if (plist < 0) return h5_fail(ECG_ERR_DATA, f, name, "is damaged");
    H5D_layout_t layout = H5Pget_layout(plist);
    hsize_t chunk[H5_MAX_NDIM] = {0};
    int n_external = layout == H5D_CONTIGUOUS ? H5Pget_external_count(plist) : 0;
    bool chunked = layout == H5D_CHUNKED && H5Pget_chunk(plist, H5_MAX_NDIM, chunk) == info->ndim;
    enum ecg_status status = chunked ? check_filters(f, name, plist) : ECG_OK;
    h5_drop(plist);
    if (status != ECG_OK) return status;
    if (n_external != 0 || layout == H5D_VIRTUAL)
        return h5_fail(ECG_ERR_DATA, f, name,
                       "keeps its data in other files; copy them into this one");

    for (int i = 0; chunked && i < info->ndim; i++) info->chunk[i] = chunk[i];
    if (total == 0 || f->writing) return ECG_OK;
    if (layout == H5D_CONTIGUOUS) {
        haddr_t offset = H5Dget_offset(dataset);
        if (offset != HADDR_UNDEF) {
            if (offset > f->bytes || total > f->bytes - offset)
                return h5_fail(ECG_ERR_DATA, f, name,
                               "is truncated: the file ends before its data do");
            info->contiguous = true;
            info->offset = offset;
            return ECG_OK;
        }
    }
    if (total / MAX_RATIO > f->bytes)
        return h5_fail(ECG_ERR_DATA, f, name, "claims more data than the file can hold");
    return ECG_OK;
}

static enum ecg_status describe(const struct h5_file *f, const char *name, hid_t dataset,
                                struct h5_info *info) {
    memset(info, 0, sizeof *info);
    hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
    hsize_t shape[H5_MAX_NDIM] = {0};
    enum ecg_status status = ECG_OK;
    if (type < 0 || space < 0) {
        status = h5_fail(ECG_ERR_DATA, f, name, "is damaged");
        goto out;
    }
    info->ndim = H5Sget_simple_extent_ndims(space);
    if (info->ndim < 0 || info->ndim > H5_MAX_NDIM ||
        H5Sget_simple_extent_type(space) == H5S_NULL ||
        H5Sget_simple_extent_dims(space, shape, NULL) < 0) {
        status = h5_fail(ECG_ERR_DATA, f, name, "has no shape, or one of more than 8 axes");
        goto out;
    }
    for (int i = 0; i < info->ndim; i++) info->shape[i] = shape[i];
    describe_type(type, info);
    status = describe_storage(f, name, dataset, info);
out:
    h5_drop(type);
    h5_drop(space);
    return status;
}

enum ecg_status h5_open_dataset(const struct h5_file *f, const char *name, hid_t *id,
                                struct h5_info *info) {
    if (H5Oexists_by_name(f->id, name, H5P_DEFAULT) <= 0) {
        H5Eclear2(H5E_DEFAULT); // "component not found" would only say it again
        return h5_fail(ECG_ERR_DATA, f, name, "is not there");
    }
    *id = H5Dopen2(f->id, name, H5P_DEFAULT);
    if (*id < 0) return h5_fail(ECG_ERR_DATA, f, name, "is no dataset, or one that can't be read");
    enum ecg_status status = describe(f, name, *id, info);
    if (status != ECG_OK) h5_drop(*id);
    return status;
}

enum ecg_status h5_dataset_info(struct h5_file *f, const char *name, struct h5_info *info) {
    h5_begin();
    hid_t id;
    enum ecg_status status = h5_open_dataset(f, name, &id, info);
    if (status == ECG_OK) h5_drop(id);
    return h5_end(status);
}

const char *h5_type_name(const struct h5_info *info, char out[32]) {
    const char *order = info->little_endian || info->item_bytes == 1 ? "" : "big-endian ";
    if (info->type == H5_INT)
        snprintf(out, 32, "%s%sint%d", order, info->is_signed ? "" : "u", info->item_bytes * 8);
    else if (info->type == H5_FLOAT)
        snprintf(out, 32, "%sfloat%d", order, info->item_bytes * 8);
    else
        snprintf(out, 32, "%s", info->type == H5_TEXT ? "text" : "no number and no text");
    return out;
}

static enum ecg_status read_chunk_index(const struct h5_file *f, const char *name, hid_t dataset,
                                        hid_t space, const struct h5_info *info, bool shuffle,
                                        bool deflate, struct h5_chunks *c) {
    hsize_t n = 0;
    if (H5Dget_num_chunks(dataset, space, &n) < 0)
        return h5_fail(ECG_ERR_DATA, f, name, "has a damaged list of chunks");
    if (n > c->n) return h5_fail(ECG_ERR_DATA, f, name, "has more chunks than its shape");
    for (hsize_t i = 0; i < n; i++) {
        hsize_t at[H5_MAX_NDIM], bytes;
        unsigned skipped;
        haddr_t offset;
        if (H5Dget_chunk_info(dataset, space, i, at, &skipped, &offset, &bytes) < 0)
            return h5_fail(ECG_ERR_DATA, f, name, "has a damaged list of chunks");
        if (at[0] >= info->shape[0])
            return h5_fail(ECG_ERR_DATA, f, name, "has a chunk out of place");
        if (bytes > UINT32_MAX || offset > f->bytes || bytes > f->bytes - offset)
            return h5_fail(ECG_ERR_DATA, f, name, "is truncated: the file ends before its data do");
        bool shuffled = shuffle && (skipped & 1) == 0;
        bool deflated = deflate && (skipped & (shuffle ? 2 : 1)) == 0;
        c->v[at[0] / c->rows] = (struct h5_chunk){offset, (uint32_t)bytes, shuffled, deflated};
    }
    return ECG_OK;
}

/* True when the filters are none, shuffle, gzip, or shuffle then gzip. */
static bool plain_filters(hid_t plist, bool *shuffle, bool *deflate) {
    int n = H5Pget_nfilters(plist);
    *shuffle = *deflate = false;
    for (int i = 0; i < n; i++) {
        unsigned flags, config, values[8];
        size_t n_values = 8;
        H5Z_filter_t filter =
            H5Pget_filter2(plist, (unsigned)i, &flags, &n_values, values, 0, NULL, &config);
        if (filter == H5Z_FILTER_SHUFFLE && i == 0)
            *shuffle = true;
        else if (filter == H5Z_FILTER_DEFLATE && i == n - 1)
            *deflate = true;
        else
            return false;
    }
    return n >= 0;
}

enum ecg_status h5_chunk_index(struct h5_file *f, const char *name, struct h5_chunks *c,
                               bool *direct) {
    memset(c, 0, sizeof *c);
    *direct = false;
    h5_begin();
    struct h5_info info;
    hid_t dataset;
    enum ecg_status status = h5_open_dataset(f, name, &dataset, &info);
    if (status != ECG_OK) return h5_end(status);
    hid_t plist = H5Dget_create_plist(dataset), space = H5Dget_space(dataset);
    hid_t file_plist = H5Fget_create_plist(f->id);
    hsize_t user_block = 1; // 1.10 gives chunk addresses without it
    bool shuffle, deflate;
    bool whole_rows = info.ndim > 0 && info.chunk[0] > 0;
    for (int i = 1; i < info.ndim; i++) whole_rows = whole_rows && info.chunk[i] == info.shape[i];
    if (!whole_rows || H5Pget_userblock(file_plist, &user_block) < 0 || user_block != 0 ||
        !plain_filters(plist, &shuffle, &deflate))
        goto out;

    c->rows = info.chunk[0];
    c->n = (size_t)(info.shape[0] / c->rows + (info.shape[0] % c->rows != 0));
    TRY_OUT(MEM_NEW(&c->v, c->n));
    TRY_OUT(read_chunk_index(f, name, dataset, space, &info, shuffle, deflate, c));
    *direct = true;
    for (size_t i = 0; i < c->n; i++) // a chunk that was never written stands for the fill value
        if (c->v[i].bytes == 0) *direct = false;
out:
    if (!*direct) {
        free(c->v);
        memset(c, 0, sizeof *c);
    }
    h5_drop(plist);
    h5_drop(space);
    h5_drop(file_plist);
    h5_drop(dataset);
    return h5_end(status);
}
