/* SPDX-License-Identifier: MIT
 * One shard file on its way: made under a temporary name with room for n records in one piece, filled by pwrite,
 * given its final name when whole. */
#ifndef DATA_SHARD_ROOM_H
#define DATA_SHARD_ROOM_H

#include <stdint.h>

#include "core/status.h"
#include "data/h5.h"
#include "data/shard.h"

struct shard_room {
    char *path; /* temporary */
    struct h5_file *file;
    int fd;
    uint64_t offset; /* of record 0 in the file */
    size_t record_bytes;
};

/* DIR/name + ".tmp" with its attributes and room for n records. */
enum ecg_status shard_room_open(struct shard_room *r, const char *dir, const char *name, size_t n,
                                const struct shard_schema *schema);
enum ecg_status shard_room_write(const struct shard_room *r, size_t row, const int16_t *ecg);
/* The first n records of `from`. */
enum ecg_status shard_room_copy(const struct shard_room *to, const struct shard_room *from,
                                size_t n);
/* Syncs, hashes and renames; closes the room also when it fails (then nothing is left). */
enum ecg_status shard_room_commit(struct shard_room *r, const char *final_path, uint64_t *hash);
/* Removes what was not committed. Idempotent; safe after a failed open. */
void shard_room_close(struct shard_room *r);

#endif
