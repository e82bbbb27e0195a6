/* SPDX-License-Identifier: MIT
 * What the dataset*.c files share: where each table of each shard lies, and the caches behind the reads.
 *
 *   dataset.c          opening, numbering, the public reads
 *   dataset_header.c   one shard's attributes and tables, checked
 *   dataset_files.c    file descriptors and, for what only HDF5 can read, open HDF5 files
 *   dataset_columns.c  a row of /scale, /labels, /targets
 *   dataset_chunks.c   a record of a chunked /ecg
 */
#ifndef DATA_DATASET_PRIVATE_H
#define DATA_DATASET_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "data/h5.h"
#include "data/shard.h"

/* Tables of numbers with a row a record. */
enum dataset_column { COLUMN_SCALE, COLUMN_LABELS, COLUMN_TARGETS, COLUMNS };

struct table {
    bool there;
    struct h5_info info;
    int width;    /* numbers in a row */
    void *cached; /* (N, width) float (labels: uint8_t) where no direct read is possible; or NULL */
    uint64_t last_used;
};

enum ecg_layout {
    ECG_CONTIGUOUS, /* pread at info.offset */
    ECG_CHUNKED,    /* the list of chunks is not read yet */
    ECG_CHUNKS,     /* inflated here */
    ECG_SLOW        /* by HDF5 */
};

struct shard {
    char *path;
    const char *name; /* its last part */
    size_t first, n;  /* records */
    struct h5_info ecg, record_id, patient_id;
    bool has_patient_id;
    _Atomic int layout; /* enum ecg_layout */
    struct h5_chunks chunks;
    struct table columns[COLUMNS];
    int fd, users; /* -1: not open; reads under way */
    uint64_t last_used;
};

struct chunk_scratch;

#define SLOW_FILES 8

struct dataset_private {
    struct shard *shards; /* (n_shards) */
    size_t n_shards;
    size_t record_values; /* C * L */

    pthread_mutex_t fd_lock; /* guards fd, users, last_used of shards, and these */
    size_t n_open, max_open;
    uint64_t fd_clock;

    /* guards all that is read through HDF5: these, cached tables, chunk lists */
    pthread_mutex_t slow_lock;
    struct {
        struct h5_file *file;
        const struct shard *shard;
        uint64_t last_used;
    } slow[SLOW_FILES];
    uint64_t slow_clock;
    size_t cached_bytes;
    bool warned;

    pthread_mutex_t scratch_lock;
    struct chunk_scratch *scratch; /* those not in use */
};

/* dataset_header.c. Opens the file (which h5_guard has seen), checks it all, and fills shard and schema (the caller frees both, also after a
 * failure). `first`: a missing attribute that has a default is worth a warning. */
enum ecg_status dataset_header_read(struct shard *s, struct shard_schema *schema, bool first,
                                    struct h5_file **file);

/* dataset_files.c. All n bytes at offset, or ECG_ERR_DATA (the file ends) / ECG_ERR_IO naming the shard. */
enum ecg_status dataset_pread(struct dataset_private *p, struct shard *s, void *to, size_t n,
                              uint64_t offset);
/* The HDF5 file of a shard; only with slow_lock held, valid until it is released. */
enum ecg_status dataset_slow_file(struct dataset_private *p, const struct shard *s,
                                  struct h5_file **f);
void dataset_files_close(struct dataset_private *p);

/* dataset_columns.c. Row `row` to width floats, or uint8_t for COLUMN_LABELS. */
enum ecg_status dataset_column_row(struct dataset *d, struct shard *s, enum dataset_column column,
                                   size_t row, void *out);

/* dataset_chunks.c */
enum ecg_status dataset_chunked_record(struct dataset *d, struct shard *s, size_t row,
                                       int16_t *out);
void dataset_chunks_close(struct dataset_private *p);

#endif
