/* SPDX-License-Identifier: MIT
 * Checkpoint folders of a run: RUN/checkpoints/step-00001000/ and the links last and best. A folder is written under a
 * temporary name, every file synced, then renamed: it is whole or it is not there. */
#ifndef CHECKPOINTS_FOLDER_H
#define CHECKPOINTS_FOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/file.h"
#include "core/status.h"

struct folder {
    char *checkpoints; /* RUN/checkpoints */
    char *temporary;   /* where the files of the checkpoint being written go */
    int64_t step;
};

/* Starts a checkpoint: makes RUN/checkpoints and an empty temporary folder (leftovers of a killed run are removed). */
enum ecg_status folder_begin(struct folder *f, const char *run, int64_t step);
/* Syncs and renames to step-%08d (an older folder of that step is replaced), then points `last`, and `best` when asked, at
 * it: links are replaced atomically (new link under another name, rename). */
enum ecg_status folder_commit(struct folder *f, bool is_best);
void folder_abort(struct folder *f); /* removes the temporary folder; idempotent */
/* Removes step folders that neither link points at, but for the newest `keep` up to `last`, and the leftovers of a killed
 * run. Folders newer than `last` are those that a run left behind which went on from a checkpoint before them. */
enum ecg_status folder_prune(const char *run, int keep);
/* Fresh path of RUN/checkpoints/<link>, resolved; NULL when there is none. A dangling link counts as none. */
enum ecg_status folder_resolve(const char *run, const char *link, char **path);
/* Paths of what a run can go on from, newest first: the folder that `last` means, there or not, and the step folders before
 * it. Without `last`: none. Whether they are whole is not looked at (checkpoints/seal.h). */
enum ecg_status folder_list(const char *run, struct file_list *paths);

#endif
