/* SPDX-License-Identifier: MIT
 * What the h5*.c files share, and the only place that includes hdf5.h: nobody else may include this header. */
#ifndef DATA_H5_PRIVATE_H
#define DATA_H5_PRIVATE_H

#include <hdf5.h>

#include "data/h5.h"

struct h5_file {
    hid_t id;
    char *path;
    uint64_t bytes; /* size of the file when it was opened */
    bool writing;
};

/* Around every use of HDF5: takes the lock; releases it and hands `status` on. */
void h5_begin(void);
enum ecg_status h5_end(enum ecg_status status);

/* "FILE: OBJECT: what (HDF5: its innermost message)". Call it before any other HDF5 call. */
enum ecg_status h5_fail(enum ecg_status status, const struct h5_file *f, const char *name,
                        const char *what);

/* Releases any kind of HDF5 identifier; a negative one is none. */
void h5_drop(hid_t id);

bool h5_is_root(const char *name);

/* The caller drops *id when this is ECG_OK. */
enum ecg_status h5_open_dataset(const struct h5_file *f, const char *name, hid_t *id,
                                struct h5_info *info);

#endif
