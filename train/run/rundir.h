/* SPDX-License-Identifier: MIT
 * The run folder's frame: config.yaml, manifest.json, and the rules of --out and --resume. */
#ifndef TRAIN_RUN_RUNDIR_H
#define TRAIN_RUN_RUNDIR_H

#include <stdbool.h>

#include "core/status.h"
#include "train/run/config.h"
#include "train/run/source.h"

/* Looks only. Without resume `run` must not exist or be empty, else ECG_ERR_CREATE. */
enum ecg_status rundir_check(const char *run, bool resume);
/* Makes the folder, locks it (flock) until the caller closes *fd, and removes what a killed run left half-written. Another
 * process that holds the lock: ECG_ERR_CREATE. *fd is -1 where there is nothing to close. */
enum ecg_status rundir_lock(const char *run, int *fd);
/* Writes config.yaml (resolved) and manifest.json (versions, git, data, host, command). A config.yaml that
 * is there already (resume) must be the same in every line but for the keys that don't touch the result (threads,
 * workers), else ECG_ERR_CONFIG shows the first difference. */
enum ecg_status rundir_describe(const char *run, const struct config *c, const char *command,
                                const struct source *train, const struct source *valid);
/* That comparison for any file that holds a dump of a config. */
enum ecg_status rundir_check_config(const char *path, const struct config *c);

#endif
