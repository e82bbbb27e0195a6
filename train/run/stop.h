/* SPDX-License-Identifier: MIT
 * When a run has to end, or to save, before its work is done: signals and the time limit. One state a process. */
#ifndef TRAIN_RUN_STOP_H
#define TRAIN_RUN_STOP_H

#include <stdbool.h>

#include "core/status.h"

/* In the order of their weight: ranks that differ agree on the largest. */
enum stop_wish {
    STOP_NONE,
    STOP_SAVE,     /* SIGUSR2: save and go on */
    STOP_TIME,     /* the time limit is near: save and stop */
    STOP_ASKED,    /* SIGTERM, SIGUSR1: the same */
    STOP_INTERRUPT /* SIGINT: the same, and nothing starts the run again by itself */
};

/* Catches the signals. A second SIGINT ends the process at once; the others may come again, as Slurm sends them. */
void stop_catch_signals(void);
/* From now on; NULL: no limit. "90" or "01:30:00", [D-]HH:MM[:SS] or minutes. Where SLURM_JOB_END_TIME (seconds since 1970) is set,
 * the earlier of both counts. ECG_ERR_USAGE. */
enum ecg_status stop_limit(const char *max_time);

/* Around the steps: stop_begin before the first, stop_poll after each one's work and validation, before its checkpoint. The
 * time limit is near when the longest time between two polls and the longest checkpoint so far, half as long again, would not
 * fit any more; 5 % of the limit (at most a minute) are kept for what was not measured. A STOP_SAVE is told once. */
void stop_begin(void);
enum stop_wish stop_poll(void);
void stop_saved(double seconds); /* how long a checkpoint took */

/* Where there is nothing to save: whether to stop; never STOP_SAVE. */
enum stop_wish stop_now(void);

/* What the run, all its ranks, stopped for; `first`: this is rank 0, which speaks for the job. */
void stop_settle(enum stop_wish wish, bool first);
struct stop_end {
    enum stop_wish wish;
    bool first;
    bool worked; /* at least a step was done since the start of the process */
};
struct stop_end stop_end(void);

#endif
