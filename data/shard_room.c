/* SPDX-License-Identifier: MIT
 * One shard file on its way. HDF5 writes the metadata, the records are written beside it into the place that it
 * reserved, through a descriptor of our own. */
#include "data/shard_room.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/mem.h"

#define COPY_BYTES ((size_t)1 << 20)

void shard_room_close(struct shard_room *r) {
    if (r->path == NULL) return;
    h5_close(r->file);
    if (r->fd >= 0) close(r->fd);
    unlink(r->path);
    free(r->path);
    *r = (struct shard_room){.fd = -1};
}

static enum ecg_status put_attributes(struct h5_file *f, const struct shard_schema *s) {
    char *leads;
    TRY(h5_put_attr_text(f, "/", "format", "ecg-shard"));
    TRY(h5_put_attr_integer(f, "/", "version", 1));
    TRY(h5_put_attr_number(f, "/", "sampling_rate", s->sampling_rate));
    TRY(h5_put_attr_text(f, "/", "units", s->units));
    TRY(h5_put_attr_text(f, "/", "preprocessing", s->preprocessing));
    TRY(leads_format(&s->leads, &leads));
    enum ecg_status status = h5_put_attr_text(f, "/", "leads", leads);
    free(leads);
    return status;
}

enum ecg_status shard_room_open(struct shard_room *r, const char *dir, const char *name, size_t n,
                                const struct shard_schema *s) {
    const uint64_t shape[3] = {n, (uint64_t)s->leads.n, (uint64_t)s->length};
    char temporary[64];
    enum ecg_status status;
    *r = (struct shard_room){.fd = -1};
    r->record_bytes = (size_t)s->leads.n * (size_t)s->length * sizeof(int16_t);
    snprintf(temporary, sizeof temporary, "%s.tmp", name);
    TRY_OUT(file_join(&r->path, dir, temporary));
    TRY_OUT(h5_create(&r->file, r->path));
    TRY_OUT(put_attributes(r->file, s));
    TRY_OUT(h5_reserve_i16(r->file, "/ecg", 3, shape, &r->offset));
    r->fd = open(r->path, O_RDWR | O_CLOEXEC);
    if (r->fd >= 0) return ECG_OK;
    status = ecg_fail(ECG_ERR_CREATE, "%s: %s", r->path, strerror(errno));
out:
    shard_room_close(r);
    return status;
}

static enum ecg_status write_at(const struct shard_room *r, const void *from, size_t n,
                                uint64_t offset) {
    const char *at = from;
    while (n > 0) {
        ssize_t put = pwrite(r->fd, at, n, (off_t)offset);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0)
            return ecg_fail(ECG_ERR_IO, "%s: writing failed: %s", r->path, strerror(errno));
        at += put;
        n -= (size_t)put;
        offset += (uint64_t)put;
    }
    return ECG_OK;
}

enum ecg_status shard_room_write(const struct shard_room *r, size_t row, const int16_t *ecg) {
    return write_at(r, ecg, r->record_bytes, r->offset + (uint64_t)row * r->record_bytes);
}

enum ecg_status shard_room_copy(const struct shard_room *to, const struct shard_room *from,
                                size_t n) {
    uint64_t total = (uint64_t)n * from->record_bytes;
    char *buffer;
    TRY(MEM_NEW(&buffer, COPY_BYTES));
    enum ecg_status status = ECG_OK;
    for (uint64_t done = 0; done < total && status == ECG_OK;) {
        size_t want = total - done < COPY_BYTES ? (size_t)(total - done) : COPY_BYTES;
        ssize_t got = pread(from->fd, buffer, want, (off_t)(from->offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            status = ecg_fail(ECG_ERR_IO, "%s: reading back failed: %s", from->path,
                              got < 0 ? strerror(errno) : "it is too short");
            break;
        }
        status = write_at(to, buffer, (size_t)got, to->offset + done);
        done += (uint64_t)got;
    }
    free(buffer);
    return status;
}

enum ecg_status shard_room_commit(struct shard_room *r, const char *final_path, uint64_t *hash) {
    enum ecg_status status;
    struct h5_file *file = r->file;
    r->file = NULL;
    TRY_OUT(h5_close(file));
    if (fsync(r->fd) != 0) {
        status = ecg_fail(ECG_ERR_IO, "%s: syncing failed: %s", r->path, strerror(errno));
        goto out;
    }
    TRY_OUT(hash_file(r->path, hash));
    if (rename(r->path, final_path) != 0)
        status = ecg_fail(ECG_ERR_IO, "%s: renaming failed: %s", final_path, strerror(errno));
out:
    shard_room_close(r); // after the rename there is nothing under the temporary name
    return status;
}
