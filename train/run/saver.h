/* SPDX-License-Identifier: MIT
 * Checkpoints written in the background: the caller fills the snapshot, a thread of its own writes, syncs, renames and
 * prunes while the training goes on. One is under way at most. What the disk has is whole at every moment
 * (checkpoints/folder.h); a save that fails leaves nothing behind. */
#ifndef TRAIN_RUN_SAVER_H
#define TRAIN_RUN_SAVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "checkpoints/safetensors.h"
#include "core/json.h"
#include "core/status.h"

/* All that a checkpoint holds, in host memory of its own. */
struct snapshot {
    struct safetensors_image model, state;
    struct json_writer position; /* state.json, its object still open */
    int64_t step;
    bool is_best;
};

struct saver {
    const char *run; /* RUN */
    int keep;        /* see folder_prune */
    struct snapshot snapshot; /* the caller's, but from saver_start to saver_wait */
    int64_t whole;            /* step of the newest checkpoint that is known to be whole; -1: none */
    /* what follows is the saver's own */
    pthread_t thread;
    bool is_started, has_thread;
    atomic_bool is_done;
    enum ecg_status status;
    double seconds; /* that it took */
    char *message;  /* of a failure */
};

/* Writes the snapshot in the background (here and now where no thread can be had). */
void saver_start(struct saver *s);
/* A save that fails before it begins, with the present message. */
void saver_refuse(struct saver *s, enum ecg_status why);
/* Started, and not done yet. */
bool saver_is_busy(const struct saver *s);
/* Started, and done: saver_wait would not wait. */
bool saver_is_done(const struct saver *s);
/* Waits for the save under way, and returns how it went; ECG_OK without one. s->message has the reason of a failure. */
enum ecg_status saver_wait(struct saver *s);
void saver_free(struct saver *s); /* waits; idempotent, zeroed is fine */

#endif
