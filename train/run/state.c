/* SPDX-License-Identifier: MIT
 * Checkpoints of a run: model.safetensors (weights, what others read), state.safetensors (moments) and state.json
 * (position, and the seal of all three). Everything that training reads again is stored exactly. A save takes a snapshot,
 * which the saver writes while the training goes on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/folder.h"
#include "checkpoints/safetensors.h"
#include "checkpoints/seal.h"
#include "core/file.h"
#include "core/json.h"
#include "core/log.h"
#include "core/mem.h"
#include "train/run/ema.h"
#include "train/run/stop.h"
#include "train/run/trainer.h"

#define STATE_MAX_BYTES ((size_t)1 << 20)
#define PIECE_BYTES     ((size_t)1 << 22) /* of a moment, from the file's map to the device */

/* ------------------------------------------------------------------ saving */

static void put_integer(struct json_writer *w, const char *key, int64_t v) {
    json_put_key(w, key);
    json_put_integer(w, v);
}

static void put_number(struct json_writer *w, const char *key, double v) {
    json_put_key(w, key);
    json_put_number(w, v);
}

static void put_bool(struct json_writer *w, const char *key, bool v) {
    json_put_key(w, key);
    json_put_bool(w, v);
}

/* When each layer was opened, from the stem to the head. */
static void put_starts(struct json_writer *w, const struct optim *o) {
    json_put_key(w, "layer_starts");
    json_begin_array(w);
    for (int i = 0; i < o->n_layers; i++) json_put_integer(w, o->start[i]);
    json_end_array(w);
}

/* Leaves the object open: the seal goes into it. */
static void put_position(const struct trainer *t, struct json_writer *w) {
    const struct trainer_position *at = &t->at;
    json_writer_free(w);
    w->pretty = true;
    json_begin_object(w);
    put_integer(w, "step", at->step);
    put_integer(w, "epoch", at->epoch);
    put_integer(w, "batch", (int64_t)at->batch);
    put_integer(w, "updates", t->optim.step);
    if (t->optim.config.by_layer) put_starts(w, &t->optim);
    put_bool(w, "has_best", at->has_best);
    put_number(w, "best", at->best);
    put_integer(w, "best_step", at->best_step);
    put_integer(w, "stale", at->stale);
    put_number(w, "plateau_factor", at->schedule.factor);
    put_bool(w, "plateau_has_best", at->schedule.has_best);
    put_number(w, "plateau_best", at->schedule.best);
    put_integer(w, "plateau_bad", at->schedule.n_bad);
    put_bool(w, "finished", at->finished);
}

static enum ecg_status fetch_moments(void *context, const struct safetensors_out *t, size_t bytes,
                                     void *to) {
    const struct trainer *trainer = context;
    return trainer->ops->download(trainer->dev, to, t->data, bytes);
}

#define WEIGHTS_ROW                                                                                \
    "weights" /* of a run with an average, which is what model.safetensors then holds */

static const float *moment(const struct trainer *t, int i) {
    return t->gathered[i] != NULL ? t->gathered[i] : i == 0 ? t->optim.m : t->optim.v;
}

/* Of optim.zero every rank brings its part; rank 0 keeps the whole until the snapshot is taken. */
static enum ecg_status gather_moments(struct trainer *t) {
    const struct optim *o = &t->optim;
    for (int i = 0; i < optim_moments(o) && o->config.shard_n > 0; i++) {
        void *all;
        size_t n;
        TRY(ranks_gather(&t->ranks, i == 0 ? o->m : o->v, optim_shard(o), sizeof(float), &all, &n));
        if (ranks_writes(&t->ranks))
            t->gathered[i] = all;
        else
            free(all);
    }
    return ECG_OK;
}

static void drop_moments(struct trainer *t) {
    for (int i = 0; i < 2; i++) {
        free(t->gathered[i]);
        t->gathered[i] = NULL;
    }
}

/* One flat array each, in the parameters' own layout. While it is saved, the average is in its place in the network. */
static size_t moments_rows(const struct trainer *t, struct safetensors_out rows[3]) {
    const struct optim *o = &t->optim;
    const int64_t n = (int64_t)o->n;
    size_t m = (size_t)optim_moments(o);
    rows[0] = (struct safetensors_out){
        .name = "optim.m", .dtype = ST_F32, .ndim = 1, .shape = {n}, .data = moment(t, 0)};
    rows[1] = (struct safetensors_out){
        .name = "optim.v", .dtype = ST_F32, .ndim = 1, .shape = {n}, .data = moment(t, 1)};
    if (ema_bytes(t) > 0)
        rows[m++] = (struct safetensors_out){
            .name = WEIGHTS_ROW, .dtype = ST_F32, .ndim = 1, .shape = {n}, .data = t->average};
    return m;
}

enum ecg_status trainer_state_size(const struct trainer *t, uint64_t *bytes) {
    struct safetensors_out rows[3];
    size_t n = moments_rows(t, rows);
    return safetensors_size(rows, n, NULL, NULL, 0, bytes);
}

enum ecg_status trainer_prune(const struct trainer *t) {
    return folder_prune(t->run, (int)t->config->train.keep);
}

/* Thresholds are written as text, whose length is known when they are. */
#define THRESHOLD_BYTES 32

enum ecg_status trainer_snapshot_bytes(const struct trainer *t, uint64_t *model, uint64_t *state) {
    TRY(weights_size(&t->net, &t->meta, model));
    *model += (uint64_t)t->meta.outputs.n * THRESHOLD_BYTES;
    return trainer_state_size(t, state);
}

/* Whether snapshots are taken beside the training, or only one at its end. */
bool trainer_saves_midway(const struct trainer *t) {
    return t->config->train.save_every > 0 || t->has_valid;
}

enum ecg_status trainer_prepare_saving(struct trainer *t) {
    struct saver *s = &t->saver;
    uint64_t model, state;
    s->run = t->run;
    s->keep = (int)t->config->train.keep;
    s->whole = -1;
    if (!ranks_writes(&t->ranks) || !trainer_saves_midway(t)) return ECG_OK;
    TRY(trainer_snapshot_bytes(t, &model, &state));
    TRY(safetensors_image_reserve(&s->snapshot.model, model));
    TRY(safetensors_image_reserve(&s->snapshot.state, state));
    /* touched here, so that the first save need not wait for the pages */
    memset(s->snapshot.model.data, 0, model);
    memset(s->snapshot.state.data, 0, state);
    return ECG_OK;
}

static enum ecg_status take_snapshot(struct trainer *t, bool is_best) {
    struct snapshot *s = &t->saver.snapshot;
    struct safetensors_out rows[3];
    size_t n = moments_rows(t, rows);
    TRY(t->ops->sync(t->dev));
    s->step = t->at.step;
    s->is_best = is_best;
    t->saving = t->at;
    put_position(t, &s->position);
    TRY(ema_swap(t));
    TRY(weights_image(&s->model, &t->net, &t->meta));
    TRY(safetensors_image_make(&s->state, rows, n, NULL, NULL, 0, fetch_moments, t));
    TRY(ema_swap(t));
    return t->ops->sync(t->dev);
}

/* No checkpoint has the weights that were the best: those that one has are. */
static void forget_best(struct trainer *t) {
    struct trainer_position *at = &t->at;
    if (!at->has_best || at->best_step != t->saver.snapshot.step) return;
    at->has_best = t->saved.has_best;
    at->best = t->saved.best;
    at->best_step = t->saved.best_step;
}

/* Waits for the save under way, if any. */
static enum ecg_status settle(struct trainer *t) {
    if (!saver_is_busy(&t->saver) && !saver_is_done(&t->saver)) return ECG_OK;
    enum ecg_status status = saver_wait(&t->saver);
    stop_saved(t->saver.seconds);
    if (status == ECG_OK)
        t->saved = t->saving;
    else
        forget_best(t);
    return status;
}

static const char *why(const struct trainer *t) {
    return t->saver.message != NULL ? t->saver.message : "out of memory";
}

static void warn_not_saved(const struct trainer *t) {
    char last[80] = "there is no checkpoint yet";
    if (t->saver.whole >= 0)
        snprintf(last, sizeof last, "the last checkpoint is that of step %lld",
                 (long long)t->saver.whole);
    log_warn("the checkpoint of step %lld is not saved: %s: training goes on, the next save tries "
             "again; %s",
             (long long)t->saver.snapshot.step, why(t), last);
}

void trainer_saved(struct trainer *t, bool wait) {
    if (!wait && !saver_is_done(&t->saver)) return;
    if (settle(t) != ECG_OK) warn_not_saved(t);
}

enum ecg_status trainer_save(struct trainer *t, bool is_best) {
    struct saver *s = &t->saver;
    if (saver_is_busy(s))
        log_info("step %lld: waiting until the checkpoint of step %lld is written",
                 (long long)t->at.step, (long long)s->snapshot.step);
    trainer_saved(t, true);
    TRY(trainer_share_statistics(t));
    enum ecg_status status = gather_moments(t);
    if (status == ECG_OK && ranks_writes(&t->ranks)) status = take_snapshot(t, is_best);
    drop_moments(t);
    if (status != ECG_OK || !ranks_writes(&t->ranks)) return status;
    /* no checkpoint before the lines that it stands for */
    status = journal_flush(&t->journal);
    if (status != ECG_OK)
        saver_refuse(s, status);
    else
        saver_start(s);
    return ECG_OK;
}

enum ecg_status trainer_save_end(struct trainer *t) {
    char from[60] = "starts from the beginning";
    if (settle(t) == ECG_OK) return ECG_OK;
    if (t->saver.whole >= 0)
        snprintf(from, sizeof from, "goes on from step %lld", (long long)t->saver.whole);
    return ecg_fail(ECG_ERR_IO,
                    "the checkpoint of step %lld, at which this run ends, is not saved: %s: make "
                    "room, then run again with --resume, which %s",
                    (long long)t->at.step, why(t), from);
}

/* ------------------------------------------------------------------ loading */

/* Loads one file of a checkpoint folder. */
static enum ecg_status with_file(struct trainer *t, const char *dir, const char *name,
                                 enum ecg_status (*act)(struct trainer *t, const char *path)) {
    char *path = NULL;
    TRY(file_join(&path, dir, name));
    enum ecg_status status = act(t, path);
    free(path);
    return status;
}

struct reader {
    const struct json *object;
    const char *path;
    enum ecg_status status;
};

static const struct json *member(struct reader *r, const char *key,
                                 bool (*is)(const struct json *)) {
    const struct json *v = json_get(r->object, key);
    if (r->status == ECG_OK && (v == NULL || !is(v)))
        r->status = ecg_fail(ECG_ERR_DATA, "%s: %s is missing or of the wrong type", r->path, key);
    return r->status == ECG_OK ? v : NULL;
}

static int64_t get_count(struct reader *r, const char *key) {
    int64_t v = json_integer(member(r, key, json_is_integer));
    if (r->status == ECG_OK && v < 0)
        r->status = ecg_fail(ECG_ERR_DATA, "%s: %s is negative", r->path, key);
    return v;
}

static double get_number(struct reader *r, const char *key) {
    return json_number(member(r, key, json_is_number));
}

static bool get_bool(struct reader *r, const char *key) {
    return json_bool(member(r, key, json_is_bool));
}

static void get_starts(struct reader *r, struct optim *o) {
    const struct json *list = member(r, "layer_starts", json_is_array);
    if (r->status == ECG_OK && json_size(list) != (size_t)o->n_layers)
        r->status =
            ecg_fail(ECG_ERR_DATA, "%s: layer_starts has %zu entries, the network %d layers",
                     r->path, json_size(list), o->n_layers);
    for (int i = o->n_layers - 1; r->status == ECG_OK && i >= 0; i--) {
        o->start[i] = json_integer(json_at(list, (size_t)i));
        if (o->start[i] >= 0) o->lowest = i;
    }
}

static enum ecg_status load_position(struct trainer *t, const char *path) {
    char *text = NULL;
    size_t size = 0;
    struct json *root = NULL;
    enum ecg_status status;
    TRY_OUT(file_read(path, STATE_MAX_BYTES, &text, &size));
    TRY_OUT(json_parse(&root, text, size, path));
    struct reader r = {root, path, ECG_OK};
    struct trainer_position *at = &t->at;
    at->step = get_count(&r, "step");
    at->epoch = (uint32_t)get_count(&r, "epoch");
    at->batch = (size_t)get_count(&r, "batch");
    t->optim.step = get_count(&r, "updates");
    if (t->optim.config.by_layer) get_starts(&r, &t->optim);
    at->has_best = get_bool(&r, "has_best");
    at->best = get_number(&r, "best");
    at->best_step = get_count(&r, "best_step");
    at->stale = get_count(&r, "stale");
    at->schedule.factor = get_number(&r, "plateau_factor");
    at->schedule.has_best = get_bool(&r, "plateau_has_best");
    at->schedule.best = get_number(&r, "plateau_best");
    at->schedule.n_bad = get_count(&r, "plateau_bad");
    at->finished = get_bool(&r, "finished");
    status = r.status;
    if (status == ECG_OK && at->batch > 0 && at->batch >= (size_t)t->steps_per_epoch)
        status = ecg_fail(ECG_ERR_DATA,
                          "%s: batch %zu of an epoch of %lld: another data set or batch size?",
                          path, at->batch, (long long)t->steps_per_epoch);
out:
    json_free(root);
    free(text);
    return status;
}

/* Values [from, from + count) of a flat array. */
static enum ecg_status load_moment(struct trainer *t, const struct safetensors *s, const char *name,
                                   size_t from, size_t count, float *out) {
    const struct safetensors_entry *e = safetensors_find(s, name);
    if (e == NULL || e->n != t->optim.n || e->dtype != ST_F32)
        return ecg_fail(ECG_ERR_DATA, "%s: %s is missing or has not the network's %zu values",
                        s->path, name, t->optim.n);
    const char *data = (const char *)e->data + from * sizeof(float);
    size_t bytes = count * sizeof(float);
    for (size_t at = 0, n; at < bytes; at += n) {
        n = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
        TRY(t->ops->upload(t->dev, (char *)out + at, data + at, n));
        file_map_drop(&s->map, data + at, n);
    }
    return ECG_OK;
}

static enum ecg_status load_moments(struct trainer *t, const char *path) {
    struct safetensors s;
    size_t from = t->optim.config.shard_from, n = optim_shard(&t->optim);
    TRY(safetensors_open(&s, path));
    enum ecg_status status = load_moment(t, &s, "optim.m", from, n, t->optim.m);
    if (status == ECG_OK && t->optim.v != NULL)
        status = load_moment(t, &s, "optim.v", from, n, t->optim.v);
    if (status == ECG_OK && t->average != NULL)
        status = load_moment(t, &s, WEIGHTS_ROW, 0, t->optim.n, t->average);
    safetensors_close(&s);
    return status;
}

static enum ecg_status load_weights(struct trainer *t, const char *path) {
    struct safetensors s;
    TRY(safetensors_open(&s, path));
    enum ecg_status status = weights_load(&t->net, &s, WEIGHTS_ALL, NULL);
    safetensors_close(&s);
    return status;
}

static enum ecg_status load(struct trainer *t, const char *dir) {
    TRY(with_file(t, dir, "state.json", load_position));
    TRY(with_file(t, dir, "model.safetensors", load_weights));
    TRY(with_file(t, dir, "state.safetensors", load_moments));
    TRY(ema_swap(t));
    t->saver.whole = t->at.step;
    t->saved = t->at;
    return ECG_OK;
}

/* The newest checkpoint that is whole; NULL without any. */
static enum ecg_status find_whole(const struct file_list *dirs, const char **dir) {
    *dir = NULL;
    for (size_t i = 0; i < dirs->n; i++) {
        if (seal_check(dirs->names[i]) == ECG_OK) {
            *dir = dirs->names[i];
            if (i > 0) log_warn("going on from the checkpoint before: %s", *dir);
            return ECG_OK;
        }
        log_warn("a damaged checkpoint: %s", ecg_message());
    }
    if (dirs->n == 0) return ECG_OK;
    return ecg_fail(ECG_ERR_DATA,
                    "%s is damaged and no checkpoint before it is whole, so there is nothing to go "
                    "on from (nothing was deleted): put a whole copy there, or train anew into "
                    "another --out; train.keep of 2 or more keeps checkpoints to fall back on",
                    dirs->names[0]);
}

enum ecg_status trainer_load_last(struct trainer *t, bool *found) {
    struct file_list dirs = {0};
    const char *dir = NULL;
    enum ecg_status status;
    *found = false;
    TRY_OUT(folder_list(t->run, &dirs));
    TRY_OUT(find_whole(&dirs, &dir));
    if (dir != NULL) TRY_OUT(load(t, dir));
    *found = dir != NULL;
out:
    file_list_free(&dirs);
    return status;
}
