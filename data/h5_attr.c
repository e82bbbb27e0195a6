/* SPDX-License-Identifier: MIT
 * Attributes: text of every string kind and numbers of every numeric type in; variable-length UTF-8, double and int64
 * out (h5py hands those out as str, float and int). */
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "data/h5_private.h"

#define MAX_BYTES  (1 << 20) /* of an attribute that we read: nobody's list of names is longer */
#define MAX_POINTS 4096

struct attr {
    hid_t id, type, space;
    size_t item_bytes, n;
};

static void close_attr(struct attr *a) {
    h5_drop(a->id);
    h5_drop(a->type);
    h5_drop(a->space);
}

static const char *object_name(const char *object) {
    return h5_is_root(object) ? "/" : object;
}

static enum ecg_status fail_attr(const struct h5_file *f, const char *object, const char *name,
                                 const char *what) {
    return ecg_fail(ECG_ERR_DATA, "%s: %s: attribute %s %s", f->path, object_name(object), name,
                    what);
}

/* Leaves *found false, or fails when found is NULL, when there is no such attribute. */
static enum ecg_status open_attr(const struct h5_file *f, const char *object, const char *name,
                                 struct attr *a, bool *found) {
    *a = (struct attr){.id = -1, .type = -1, .space = -1};
    bool there = H5Aexists_by_name(f->id, object_name(object), name, H5P_DEFAULT) > 0;
    if (found != NULL) *found = there;
    if (!there) return found != NULL ? ECG_OK : fail_attr(f, object, name, "is missing");
    a->id = H5Aopen_by_name(f->id, object_name(object), name, H5P_DEFAULT, H5P_DEFAULT);
    if (a->id >= 0) {
        a->type = H5Aget_type(a->id);
        a->space = H5Aget_space(a->id);
    }
    hssize_t points = a->space >= 0 ? H5Sget_simple_extent_npoints(a->space) : -1;
    a->item_bytes = a->type >= 0 ? H5Tget_size(a->type) : 0;
    if (points < 1 || points > MAX_POINTS || a->item_bytes == 0 ||
        a->item_bytes > (size_t)(MAX_BYTES / points))
        return fail_attr(f, object, name, "is damaged, empty or too large");
    a->n = (size_t)points;
    return ECG_OK;
}

/* Joins n texts of at most `width` bytes each, `stride` apart or pointed to, by newlines. */
static enum ecg_status join(char **out, const struct attr *a, const char *items, bool variable,
                            bool space_padded) {
    size_t total = 1;
    for (size_t i = 0; i < a->n; i++) {
        const char *s = variable ? ((char *const *)items)[i] : items + i * a->item_bytes;
        total += 1 + (s == NULL ? 0 : variable ? strlen(s) : a->item_bytes);
    }
    TRY(mem_alloc((void **)out, total, 1));
    char *to = *out;
    for (size_t i = 0; i < a->n; i++) {
        const char *s = variable ? ((char *const *)items)[i] : items + i * a->item_bytes;
        size_t n = s == NULL ? 0 : variable ? strlen(s) : strnlen(s, a->item_bytes);
        while (space_padded && n > 0 && s[n - 1] == ' ') n--;
        if (i > 0) *to++ = '\n';
        if (n > 0) memcpy(to, s, n);
        to += n;
    }
    *to = 0;
    return ECG_OK;
}

static enum ecg_status read_text(const struct h5_file *f, const char *object, const char *name,
                                 const struct attr *a, char **out) {
    if (H5Tget_class(a->type) != H5T_STRING) return fail_attr(f, object, name, "is no text");
    bool variable = H5Tis_variable_str(a->type) > 0;
    bool space_padded = !variable && H5Tget_strpad(a->type) == H5T_STR_SPACEPAD;
    hid_t memory = H5Tcopy(variable ? H5T_C_S1 : a->type);
    if (variable) {
        H5Tset_size(memory, H5T_VARIABLE);
        H5Tset_cset(memory, H5Tget_cset(a->type));
    }
    char *items = NULL;
    enum ecg_status status;
    TRY_OUT(mem_alloc((void **)&items, a->n, variable ? sizeof(char *) : a->item_bytes));
    if (H5Aread(a->id, memory, items) < 0) {
        status = fail_attr(f, object, name, "can't be read");
        goto out;
    }
    status = join(out, a, items, variable, space_padded);
    if (variable) H5Dvlen_reclaim(memory, a->space, H5P_DEFAULT, items);
out:
    free(items);
    h5_drop(memory);
    return status;
}

enum ecg_status h5_attr_text(struct h5_file *f, const char *object, const char *name, char **out,
                             bool *found) {
    struct attr a;
    *out = NULL;
    h5_begin();
    enum ecg_status status = open_attr(f, object, name, &a, found);
    if (status == ECG_OK && a.id >= 0) status = read_text(f, object, name, &a, out);
    close_attr(&a);
    return h5_end(status);
}

enum ecg_status h5_attr_number(struct h5_file *f, const char *object, const char *name, double *out,
                               bool *found) {
    struct attr a;
    h5_begin();
    enum ecg_status status = open_attr(f, object, name, &a, found);
    if (status != ECG_OK || a.id < 0) goto out;
    H5T_class_t class = H5Tget_class(a.type);
    if (a.n != 1 || (class != H5T_INTEGER && class != H5T_FLOAT && class != H5T_ENUM))
        status = fail_attr(f, object, name, "is no number");
    else if (H5Aread(a.id, H5T_NATIVE_DOUBLE, out) < 0)
        status = fail_attr(f, object, name, "can't be read");
out:
    close_attr(&a);
    return h5_end(status);
}

static enum ecg_status put(struct h5_file *f, const char *object, const char *name, hid_t type,
                           const void *v) {
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t id = H5Acreate_by_name(f->id, object_name(object), name, type, space, H5P_DEFAULT,
                                 H5P_DEFAULT, H5P_DEFAULT);
    enum ecg_status status = ECG_OK;
    if (id < 0 || H5Awrite(id, type, v) < 0)
        status = h5_fail(ECG_ERR_IO, f, name, "attribute can't be written");
    h5_drop(id);
    h5_drop(space);
    return status;
}

enum ecg_status h5_put_attr_text(struct h5_file *f, const char *object, const char *name,
                                 const char *text) {
    h5_begin();
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    enum ecg_status status = put(f, object, name, type, &text);
    h5_drop(type);
    return h5_end(status);
}

enum ecg_status h5_put_attr_number(struct h5_file *f, const char *object, const char *name,
                                   double v) {
    h5_begin();
    return h5_end(put(f, object, name, H5T_NATIVE_DOUBLE, &v));
}

enum ecg_status h5_put_attr_integer(struct h5_file *f, const char *object, const char *name,
                                    int64_t v) {
    h5_begin();
    return h5_end(put(f, object, name, H5T_NATIVE_INT64, &v));
}
