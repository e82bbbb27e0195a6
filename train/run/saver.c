/* SPDX-License-Identifier: MIT
 * One thread a checkpoint: it lives for seconds at most, and there is nothing to keep between two. */
#include "train/run/saver.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/folder.h"
#include "checkpoints/seal.h"
#include "core/file.h"
#include "core/log.h"
#include "core/mem.h"

#define MODEL    "model.safetensors"
#define STATE    "state.safetensors"
#define POSITION "state.json"

static enum ecg_status write_in(const char *dir, const char *name, const void *data, size_t n) {
    char *path = NULL;
    TRY(file_join(&path, dir, name));
    enum ecg_status status = file_write(path, data, n);
    free(path);
    return status;
}

static enum ecg_status write_files(struct snapshot *s, const char *dir) {
    const struct seal_file files[] = {{MODEL, s->model.data, s->model.n},
                                      {STATE, s->state.data, s->state.n}};
    char *text = NULL;
    enum ecg_status status;
    TRY_OUT(seal_text(&s->position, files, 2, &text));
    for (int i = 0; i < 2; i++) TRY_OUT(write_in(dir, files[i].name, files[i].data, files[i].n));
    TRY_OUT(write_in(dir, POSITION, text, strlen(text)));
out:
    free(text);
    return status;
}

static enum ecg_status write_checkpoint(struct saver *s) {
    struct folder f = {0};
    enum ecg_status status;
    TRY_OUT(folder_begin(&f, s->run, s->snapshot.step));
    TRY_OUT(write_files(&s->snapshot, f.temporary));
    TRY_OUT(folder_commit(&f, s->snapshot.is_best));
    s->whole = s->snapshot.step;
    TRY_OUT(folder_prune(s->run, s->keep));
out:
    folder_abort(&f);
    return status;
}

static void finish(struct saver *s, enum ecg_status status) {
    s->status = status;
    // a thread's message goes with it
    if (status != ECG_OK && mem_strdup(&s->message, ecg_message()) != ECG_OK) s->message = NULL;
    atomic_store(&s->is_done, true);
}

static void *work(void *context) {
    struct saver *s = context;
    double start = log_clock();
    enum ecg_status status = write_checkpoint(s);
    s->seconds = log_clock() - start;
    finish(s, status);
    return NULL;
}

static void begin(struct saver *s) {
    free(s->message);
    s->message = NULL;
    s->is_started = true;
    s->has_thread = false;
    atomic_store(&s->is_done, false);
}

void saver_start(struct saver *s) {
    sigset_t all, before;
    begin(s);
    // signals are for the thread that trains
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    s->has_thread = pthread_create(&s->thread, NULL, work, s) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!s->has_thread) work(s);
}

void saver_refuse(struct saver *s, enum ecg_status why) {
    begin(s);
    finish(s, why);
}

bool saver_is_busy(const struct saver *s) {
    return s->is_started && !atomic_load(&s->is_done);
}

bool saver_is_done(const struct saver *s) {
    return s->is_started && atomic_load(&s->is_done);
}

enum ecg_status saver_wait(struct saver *s) {
    if (!s->is_started) return ECG_OK;
    if (s->has_thread) pthread_join(s->thread, NULL);
    s->is_started = s->has_thread = false;
    return s->status;
}

void saver_free(struct saver *s) {
    saver_wait(s);
    free(s->message);
    safetensors_image_free(&s->snapshot.model);
    safetensors_image_free(&s->snapshot.state);
    json_writer_free(&s->snapshot.position);
    memset(s, 0, sizeof(*s));
}
