/* SPDX-License-Identifier: MIT
 * New datasets, each made whole in one piece (contiguous, no filter). */
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "data/h5_private.h"

/* The caller drops *id, which is negative when this fails. */
static enum ecg_status make(struct h5_file *f, const char *name, hid_t type, int ndim,
                            const uint64_t *shape, bool reserve, hid_t *id) {
    hsize_t dims[H5_MAX_NDIM];
    for (int i = 0; i < ndim; i++) dims[i] = shape[i];
    hid_t space = H5Screate_simple(ndim, dims, NULL), plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(plist, false); // equal data give equal bytes
    if (reserve) {
        H5Pset_alloc_time(plist, H5D_ALLOC_TIME_EARLY);
        H5Pset_fill_time(plist, H5D_FILL_TIME_NEVER);
    }
    *id = H5Dcreate2(f->id, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    enum ecg_status status = ECG_OK;
    if (*id < 0) status = h5_fail(ECG_ERR_IO, f, name, "can't be made");
    h5_drop(space);
    h5_drop(plist);
    return status;
}

static enum ecg_status put(struct h5_file *f, const char *name, hid_t type, int ndim,
                           const uint64_t *shape, const void *v) {
    hid_t id;
    enum ecg_status status = make(f, name, type, ndim, shape, false, &id);
    bool empty = false;
    for (int i = 0; i < ndim; i++) empty = empty || shape[i] == 0;
    if (status == ECG_OK && !empty && H5Dwrite(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, v) < 0)
        status = h5_fail(ECG_ERR_IO, f, name, "can't be written");
    h5_drop(id);
    return status;
}

enum ecg_status h5_put_f32(struct h5_file *f, const char *name, int ndim, const uint64_t *shape,
                           const float *v) {
    h5_begin();
    return h5_end(put(f, name, H5T_NATIVE_FLOAT, ndim, shape, v));
}

enum ecg_status h5_put_u8(struct h5_file *f, const char *name, int ndim, const uint64_t *shape,
                          const uint8_t *v) {
    h5_begin();
    return h5_end(put(f, name, H5T_NATIVE_UINT8, ndim, shape, v));
}

enum ecg_status h5_put_i16(struct h5_file *f, const char *name, int ndim, const uint64_t *shape,
                           const int16_t *v) {
    h5_begin();
    return h5_end(put(f, name, H5T_NATIVE_INT16, ndim, shape, v));
}

enum ecg_status h5_reserve_i16(struct h5_file *f, const char *name, int ndim, const uint64_t *shape,
                               uint64_t *offset) {
    h5_begin();
    hid_t id;
    enum ecg_status status = make(f, name, H5T_NATIVE_INT16, ndim, shape, true, &id);
    if (status == ECG_OK) {
        haddr_t at = H5Dget_offset(id);
        if (at == HADDR_UNDEF) status = h5_fail(ECG_ERR_IO, f, name, "got no place in the file");
        *offset = at;
    }
    h5_drop(id);
    return h5_end(status);
}

enum ecg_status h5_put_strings(struct h5_file *f, const char *name, uint64_t n, char *const *v) {
    size_t width = 1;
    for (uint64_t i = 0; i < n; i++)
        if (strlen(v[i]) > width) width = strlen(v[i]);
    char *fields; /* (n, width), padded with 0 */
    TRY(mem_alloc((void **)&fields, n, width));
    for (uint64_t i = 0; i < n; i++) memcpy(fields + i * width, v[i], strlen(v[i]));

    h5_begin();
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, width);
    H5Tset_cset(type, H5T_CSET_UTF8);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    enum ecg_status status = put(f, name, type, 1, &n, fields);
    h5_drop(type);
    free(fields);
    return h5_end(status);
}
