/* SPDX-License-Identifier: MIT
 * Checkpoint folders. Every change of name is one rename(2), and what a kill between two of them leaves behind is either
 * ignored or put right by the next folder_begin:
 *   .writing        a checkpoint being written; removed
 *   .old-STEP       the folder that a new one of the same step replaces; back to STEP when the new one is not there yet
 *   .removed-STEP   a folder being pruned; removed
 *   .new-LINK       a link about to replace LINK; removed */
#include "checkpoints/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"

#define WRITING    ".writing"
#define OLD        ".old-"
#define REMOVED    ".removed-"
#define NEW_LINK   ".new-"
#define STEP       "step-"
#define NAME_BYTES 64 /* any of the names above */

static const char *const links[] = {"last", "best"};

static bool has_prefix(const char *name, const char *prefix) {
    return !strncmp(name, prefix, strlen(prefix));
}

static enum ecg_status rename_in(const char *dir, const char *from, const char *to) {
    char *a = NULL, *b = NULL;
    enum ecg_status status = ECG_OK;
    TRY_OUT(file_join(&a, dir, from));
    TRY_OUT(file_join(&b, dir, to));
    if (rename(a, b))
        status = ecg_fail(ECG_ERR_IO, "%s: can't be renamed to %s: %s", a, to, strerror(errno));
out:
    free(a);
    free(b);
    return status;
}

static enum ecg_status remove_in(const char *dir, const char *name) {
    char *path = NULL;
    TRY(file_join(&path, dir, name));
    enum ecg_status status = file_remove_tree(path);
    free(path);
    return status;
}

static bool is_dir_in(const char *dir, const char *name) {
    char *path = NULL;
    if (file_join(&path, dir, name) != ECG_OK) return false;
    bool is = file_is_dir(path);
    free(path);
    return is;
}

/* What `link` points at, a name in `dir`; "" when it is no link. */
static void link_target(const char *dir, const char *link, char target[NAME_BYTES]) {
    char *path = NULL;
    target[0] = 0;
    if (file_join(&path, dir, link) != ECG_OK) return;
    ssize_t n = readlink(path, target, NAME_BYTES);
    target[n > 0 && n < NAME_BYTES ? n : 0] = 0;
    free(path);
}

/* Puts right what a killed run left. */
static enum ecg_status tidy(const char *checkpoints) {
    struct file_list entries = {0};
    enum ecg_status status = ECG_OK;
    TRY_OUT(file_list_dir(&entries, checkpoints, "", false));
    for (size_t i = 0; i < entries.n; i++) {
        const char *name = entries.names[i];
        if (has_prefix(name, OLD) && !is_dir_in(checkpoints, name + strlen(OLD)))
            TRY_OUT(rename_in(checkpoints, name, name + strlen(OLD)));
        else if (has_prefix(name, OLD) || has_prefix(name, REMOVED) || has_prefix(name, NEW_LINK) ||
                 !strcmp(name, WRITING))
            TRY_OUT(remove_in(checkpoints, name));
    }
out:
    file_list_free(&entries);
    return status;
}

enum ecg_status folder_begin(struct folder *f, const char *run, int64_t step) {
    *f = (struct folder){.step = step};
    enum ecg_status status = ECG_OK;
    TRY_OUT(file_join(&f->checkpoints, run, "checkpoints"));
    TRY_OUT(file_mkdirs(f->checkpoints));
    TRY_OUT(tidy(f->checkpoints));
    TRY_OUT(file_join(&f->temporary, f->checkpoints, WRITING));
    TRY_OUT(file_mkdirs(f->temporary));
out:
    if (status != ECG_OK) folder_abort(f);
    return status;
}

static enum ecg_status sync_file(const char *dir, const char *name) {
    char *path = NULL;
    TRY(file_join(&path, dir, name));
    enum ecg_status status = ECG_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fsync(fd))
        status = ecg_fail(ECG_ERR_IO, "%s: can't be synced: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    free(path);
    return status;
}

static enum ecg_status sync_files(const char *dir) {
    struct file_list files = {0};
    enum ecg_status status = ECG_OK;
    TRY_OUT(file_list_dir(&files, dir, "", false));
    for (size_t i = 0; i < files.n; i++) TRY_OUT(sync_file(dir, files.names[i]));
    TRY_OUT(file_sync_dir(dir));
out:
    file_list_free(&files);
    return status;
}

static enum ecg_status point_link(const char *checkpoints, const char *link, const char *target) {
    char fresh[NAME_BYTES], *path = NULL;
    snprintf(fresh, sizeof fresh, NEW_LINK "%s", link);
    enum ecg_status status = ECG_OK;
    TRY_OUT(remove_in(checkpoints, fresh));
    TRY_OUT(file_join(&path, checkpoints, fresh));
    if (symlink(target, path))
        TRY_OUT(ecg_fail(ECG_ERR_IO, "%s: can't make a link: %s", path, strerror(errno)));
    TRY_OUT(rename_in(checkpoints, fresh, link));
out:
    free(path);
    return status;
}

enum ecg_status folder_commit(struct folder *f, bool is_best) {
    char name[NAME_BYTES], old[NAME_BYTES + sizeof OLD];
    snprintf(name, sizeof name, STEP "%08lld", (long long)f->step);
    snprintf(old, sizeof old, OLD "%s", name);
    enum ecg_status status = ECG_OK;
    TRY_OUT(sync_files(f->temporary));
    bool replaces = is_dir_in(f->checkpoints, name);
    if (replaces) TRY_OUT(rename_in(f->checkpoints, name, old));
    TRY_OUT(rename_in(f->checkpoints, WRITING, name));
    TRY_OUT(file_sync_dir(f->checkpoints));
    if (replaces) TRY_OUT(remove_in(f->checkpoints, old));
    // `best` before `last`: killed in between, the run goes on from the older checkpoint and comes to this one again
    if (is_best) TRY_OUT(point_link(f->checkpoints, "best", name));
    TRY_OUT(point_link(f->checkpoints, "last", name));
    TRY_OUT(file_sync_dir(f->checkpoints));
out:
    folder_abort(f);
    return status;
}

void folder_abort(struct folder *f) {
    if (f->temporary) file_remove_tree(f->temporary);
    free(f->temporary);
    free(f->checkpoints);
    *f = (struct folder){0};
}

static bool is_linked(const char *checkpoints, const char *name) {
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        char target[NAME_BYTES];
        link_target(checkpoints, links[i], target);
        if (!strcmp(target, name)) return true;
    }
    return false;
}

enum ecg_status folder_prune(const char *run, int keep) {
    struct file_list entries = {0};
    char *checkpoints = NULL, last[NAME_BYTES];
    enum ecg_status status = ECG_OK;
    TRY_OUT(file_join(&checkpoints, run, "checkpoints"));
    TRY_OUT(tidy(checkpoints));
    TRY_OUT(file_list_dir(&entries, checkpoints, "", false));
    link_target(checkpoints, "last", last);
    int newer = 0;
    for (size_t i = entries.n; i-- > 0;) { // sorted by name, so by step
        const char *name = entries.names[i];
        if (!has_prefix(name, STEP)) continue;
        bool left_behind =
            last[0] && strcmp(name, last) > 0; // by a run that went on from before it
        if ((!left_behind && newer++ < keep) || is_linked(checkpoints, name)) continue;
        char removed[NAME_BYTES];
        snprintf(removed, sizeof removed, REMOVED "%.40s", name);
        TRY_OUT(rename_in(checkpoints, name, removed)); // no half folder under a step's name
        TRY_OUT(remove_in(checkpoints, removed));
    }
out:
    file_list_free(&entries);
    free(checkpoints);
    return status;
}

enum ecg_status folder_resolve(const char *run, const char *link, char **path) {
    char *checkpoints = NULL, target[NAME_BYTES], old[NAME_BYTES + sizeof OLD];
    *path = NULL;
    TRY(file_join(&checkpoints, run, "checkpoints"));
    link_target(checkpoints, link, target);
    snprintf(old, sizeof old, OLD "%s", target);
    enum ecg_status status = ECG_OK;
    if (target[0] && is_dir_in(checkpoints, target))
        status = file_join(path, checkpoints, target);
    else if (target[0] &&
             is_dir_in(checkpoints, old)) // killed while this folder was being replaced
        status = file_join(path, checkpoints, old);
    else if (!target[0] && is_dir_in(checkpoints, link)) // a copy of a run, its links followed
        status = file_join(path, checkpoints, link);
    free(checkpoints);
    return status;
}

/* The step folders older than `target` ("": all) below the names that l has, newest first. */
static enum ecg_status add_older(struct file_list *l, const char *checkpoints,
                                 const struct file_list *entries, const char *target) {
    for (size_t i = entries->n; i-- > 0;) {
        const char *name = entries->names[i];
        if (!has_prefix(name, STEP) || !is_dir_in(checkpoints, name)) continue;
        if (target[0] && strcmp(name, target) >= 0) continue;
        TRY(file_join(&l->names[l->n], checkpoints, name));
        l->n++;
    }
    return ECG_OK;
}

enum ecg_status folder_list(const char *run, struct file_list *l) {
    struct file_list entries = {0};
    char *checkpoints = NULL, *last = NULL, target[NAME_BYTES];
    enum ecg_status status;
    *l = (struct file_list){0};
    TRY_OUT(file_join(&checkpoints, run, "checkpoints"));
    TRY_OUT(folder_resolve(run, "last", &last));
    link_target(checkpoints, "last", target);
    if (last == NULL && !target[0]) goto out;
    if (last == NULL) TRY_OUT(file_join(&last, checkpoints, target));
    TRY_OUT(file_list_dir(&entries, checkpoints, "", false));
    TRY_OUT(MEM_NEW(&l->names, entries.n + 1));
    l->names[l->n++] = last;
    last = NULL;
    TRY_OUT(add_older(l, checkpoints, &entries, target));
out:
    if (status != ECG_OK) file_list_free(l);
    file_list_free(&entries);
    free(last);
    free(checkpoints);
    return status;
}
