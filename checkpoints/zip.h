/* SPDX-License-Identifier: MIT
 * Zip archives (PKWARE's APPNOTE 6.3) as torch.save makes them: every member stored, sizes in the central directory only,
 * ZIP64 where needed. The reader works on a mapped file and hands out pointers into it after it has checked that every
 * member lies inside the file, in front of the directory, and apart from all others. */
#ifndef CHECKPOINTS_ZIP_H
#define CHECKPOINTS_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/file.h"
#include "core/status.h"

struct zip_member {
    const char *name; /* name_bytes of them, no terminating 0; points into the map, like data */
    size_t name_bytes;
    const char *data;
    size_t bytes;
    size_t at;    /* of its local header in the file */
    uint32_t crc; /* as the directory says; zip_check compares */
    bool checked; /* and they were the same, or the archive has none */
};

struct zip {
    const char *path; /* the caller's, for messages */
    struct zip_member *members; /* sorted by name; (n) */
    size_t n;
    bool has_crc; /* false: all are 0, as torch.save leaves them after set_crc32_options(False) */
};

/* The directory of an archive that lies at [data, data + size). Compressed or encrypted members, two of one name, overlaps,
 * sizes and places that can't be: ECG_ERR_DATA with the place. Memory: the directory's size at most, twice. */
enum ecg_status zip_open(struct zip *z, const char *path, const char *data, size_t size);
void zip_close(struct zip *z); /* idempotent */
struct zip_member *zip_find(const struct zip *z, const char *name, size_t name_bytes); /* NULL: not there */
/* Compares the CRC-32 of the member's data, the first time that it is asked: ECG_ERR_DATA when they are damaged. In an
 * archive without CRCs nothing is compared. */
enum ecg_status zip_check(const struct zip *z, struct zip_member *m);

/* Writing: members in the order of the calls, data at multiples of 64 bytes, no times: equal content, equal bytes. */
struct zip_out {
    struct file_out *file; /* open; commit stays the caller's */
    struct zip_written *written;
    size_t n, cap;
    uint64_t at; /* bytes written */
};
/* ZIP64 fields are written from 4 GiB or 65535 members on. The name is copied; one of more than 255 bytes: ECG_ERR_FAIL. */
enum ecg_status zip_put(struct zip_out *z, const char *name, const void *data, size_t n);
enum ecg_status zip_finish(struct zip_out *z); /* writes the directory */
void zip_out_free(struct zip_out *z);          /* idempotent */

#endif
