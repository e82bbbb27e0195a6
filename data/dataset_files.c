/* SPDX-License-Identifier: MIT
 * File descriptors of shards, opened at first use; when too many are open the one longest unused is closed. A data
 * set of 10 million records has 2500 shards, more than most systems let a process open by default. HDF5 files for
 * what only HDF5 can read are kept likewise, a few at a time. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "data/dataset_private.h"

/* False when every open one is being read. */
static bool close_oldest(struct dataset_private *p) {
    struct shard *oldest = NULL;
    for (size_t i = 0; i < p->n_shards; i++) {
        struct shard *s = &p->shards[i];
        if (s->fd < 0 || s->users > 0) continue;
        if (oldest == NULL || s->last_used < oldest->last_used) oldest = s;
    }
    if (oldest == NULL) return false;
    close(oldest->fd);
    oldest->fd = -1;
    p->n_open--;
    return true;
}

static enum ecg_status open_shard(struct dataset_private *p, struct shard *s) {
    if (p->n_open >= p->max_open) close_oldest(p);
    do {
        s->fd = open(s->path, O_RDONLY | O_CLOEXEC);
    } while (s->fd < 0 && (errno == EMFILE || errno == ENFILE) && close_oldest(p));
    if (s->fd < 0) return ecg_fail(ECG_ERR_NOINPUT, "%s: %s", s->path, strerror(errno));
    p->n_open++;
    return ECG_OK;
}

static enum ecg_status acquire(struct dataset_private *p, struct shard *s, int *fd) {
    pthread_mutex_lock(&p->fd_lock);
    enum ecg_status status = s->fd < 0 ? open_shard(p, s) : ECG_OK;
    if (status == ECG_OK) {
        s->users++;
        s->last_used = ++p->fd_clock;
        *fd = s->fd;
    }
    pthread_mutex_unlock(&p->fd_lock);
    return status;
}

static void release(struct dataset_private *p, struct shard *s) {
    pthread_mutex_lock(&p->fd_lock);
    s->users--;
    pthread_mutex_unlock(&p->fd_lock);
}

static enum ecg_status pread_all(const struct shard *s, int fd, char *to, size_t n,
                                 uint64_t offset) {
    while (n > 0) {
        ssize_t got = pread(fd, to, n, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return ecg_fail(ECG_ERR_IO, "%s: reading failed: %s", s->path, strerror(errno));
        if (got == 0)
            return ecg_fail(ECG_ERR_DATA, "%s: is truncated: it ends at byte %llu, %zu more wanted",
                            s->path, (unsigned long long)offset, n);
        to += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return ECG_OK;
}

enum ecg_status dataset_pread(struct dataset_private *p, struct shard *s, void *to, size_t n,
                              uint64_t offset) {
    int fd;
    TRY(acquire(p, s, &fd));
    enum ecg_status status = pread_all(s, fd, to, n, offset);
    release(p, s);
    return status;
}

enum ecg_status dataset_slow_file(struct dataset_private *p, const struct shard *s,
                                  struct h5_file **f) {
    int oldest = 0;
    for (int i = 0; i < SLOW_FILES; i++) {
        if (p->slow[i].shard == s) {
            p->slow[i].last_used = ++p->slow_clock;
            *f = p->slow[i].file;
            return ECG_OK;
        }
        if (p->slow[i].last_used < p->slow[oldest].last_used) oldest = i;
    }
    h5_close(p->slow[oldest].file);
    p->slow[oldest].file = NULL;
    p->slow[oldest].shard = NULL;
    TRY(h5_open_guarded(f, s->path)); // dataset_open has guarded all
    p->slow[oldest].file = *f;
    p->slow[oldest].shard = s;
    p->slow[oldest].last_used = ++p->slow_clock;
    return ECG_OK;
}

void dataset_files_close(struct dataset_private *p) {
    for (size_t i = 0; i < p->n_shards; i++)
        if (p->shards[i].fd >= 0) close(p->shards[i].fd);
    for (int i = 0; i < SLOW_FILES; i++) h5_close(p->slow[i].file);
}
