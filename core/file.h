/* SPDX-License-Identifier: MIT
 * Files: whole reads with a limit, atomic writes (a temporary name beside the target, fsync, rename,
 * fsync of the folder), folders. Every failure names the path. */
#ifndef CORE_FILE_H
#define CORE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "core/status.h"

/* Whole file as bytes plus a terminating 0 that `size` does not count. Larger than `max_bytes` or not a
 * plain file: ECG_ERR_DATA. Missing or unreadable: ECG_ERR_NOINPUT. Free *data with free(). */
enum ecg_status file_read(const char *path, size_t max_bytes, char **data, size_t *size);

/* Read-only memory map. An empty file maps to data == NULL, size 0. */
struct file_map {
    const char *data;
    size_t size;
};
enum ecg_status file_map_open(struct file_map *m, const char *path);
void file_map_close(struct file_map *m);
/* Bytes [from, from + n) of the map need not stay in memory; reading them again is fine. */
void file_map_drop(const struct file_map *m, const void *from, size_t n);
/* A map is the file itself: a file that somebody else cuts short has no bytes any more where the map is read. From this call
 * on that ends the program with a message and the exit code of ECG_ERR_IO, not with a signal. For main. */
void file_map_guard(void);

/* An output that is whole or not there. Until commit, `path` is untouched; close without commit removes
 * the temporary file. Can't be created: ECG_ERR_CREATE; a failing write or sync (disk full): ECG_ERR_IO. */
struct file_out {
    char *path, *temporary;
    FILE *stream; /* write here */
};
enum ecg_status file_out_open(struct file_out *f, const char *path);
enum ecg_status file_out_commit(struct file_out *f); /* flush, fsync, rename, fsync folder, close */
void file_out_close(struct file_out *f);             /* discards what was not committed; idempotent */

/* Writes n bytes atomically. */
enum ecg_status file_write(const char *path, const void *data, size_t n);

bool file_exists(const char *path); /* file, folder or anything else; links are followed */
bool file_is_dir(const char *path);
enum ecg_status file_mkdirs(const char *path);          /* mkdir -p; ECG_ERR_CREATE */
enum ecg_status file_sync_dir(const char *path);        /* makes renames in it last; ECG_ERR_IO */
enum ecg_status file_remove_tree(const char *path);     /* rm -r; a path that is not there is fine */
bool file_dir_is_empty(const char *path);               /* true when it does not exist, false for a file */

/* Sorted names that end in `suffix` ("" = all). A plain list gives files and folders; a recursive one gives
 * files only, as paths below `dir` ("a/b.hea"), and does not follow symlinks to folders. */
struct file_list {
    char **names;
    size_t n, cap;
};
enum ecg_status file_list_dir(struct file_list *l, const char *dir, const char *suffix, bool recursive);
void file_list_free(struct file_list *l);
/* Removes what killed writers left anywhere below `dir`: "NAME.tmp-PID-N". Only for a folder that nobody else writes to. */
enum ecg_status file_remove_temporaries(const char *dir);

/* "dir/name" in fresh memory. */
enum ecg_status file_join(char **out, const char *dir, const char *name);

#endif
