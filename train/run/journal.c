/* SPDX-License-Identifier: MIT
 * Appending is plain; resuming rewrites the file once, without the lines past the checkpoint. */
#include "train/run/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/log.h"
#include "core/mem.h"

#define JOURNAL_MAX_BYTES ((size_t)4 << 30)

/* A line stays when it is whole, is JSON and its step is not past keep_step. */
static int line_stays(const char *line, size_t n, int64_t keep_step, const char *path) {
    struct json *v = NULL;
    if (json_parse(&v, line, n, path) != ECG_OK) return 0;
    const struct json *step = json_get(v, "step");
    int stays = step != NULL && json_is_integer(step) && json_integer(step) <= keep_step;
    json_free(v);
    return stays;
}

static enum ecg_status drop_past(const char *path, int64_t keep_step) {
    char *text = NULL;
    size_t size = 0;
    TRY(file_read(path, JOURNAL_MAX_BYTES, &text, &size));
    size_t kept = 0;
    for (size_t at = 0; at < size;) {
        char *end = memchr(text + at, '\n', size - at);
        if (end == NULL) break;
        size_t n = (size_t)(end - text) - at + 1;
        if (line_stays(text + at, n - 1, keep_step, path)) {
            memmove(text + kept, text + at, n);
            kept += n;
        }
        at += n;
    }
    enum ecg_status status = kept == size ? ECG_OK : file_write(path, text, kept);
    free(text);
    return status;
}

enum ecg_status journal_open(struct journal *j, const char *run, int64_t keep_step) {
    memset(j, 0, sizeof(*j));
    TRY(file_join(&j->path, run, "metrics.jsonl"));
    enum ecg_status status = file_exists(j->path) ? drop_past(j->path, keep_step) : ECG_OK;
    if (status == ECG_OK) {
        j->fd = open(j->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
        if (j->fd < 0)
            status = ecg_fail(ECG_ERR_CREATE, "%s: can't be written: %s", j->path, strerror(errno));
    }
    if (status == ECG_OK) return ECG_OK;
    free(j->path);
    j->path = NULL;
    return status;
}

void journal_close(struct journal *j) {
    if (j->path != NULL) close(j->fd);
    free(j->path);
    free(j->waiting);
    memset(j, 0, sizeof(*j));
}

enum ecg_status journal_flush(struct journal *j) {
    size_t done = 0;
    int error = 0;
    while (done < j->n_waiting && error == 0) {
        ssize_t n = write(j->fd, j->waiting + done, j->n_waiting - done);
        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            error = n == 0 ? ENOSPC : errno;
    }
    if (done > 0) memmove(j->waiting, j->waiting + done, j->n_waiting - done);
    j->n_waiting -= done;
    if (error == 0) j->is_behind = false;
    if (error == 0) return ECG_OK;
    return ecg_fail(ECG_ERR_IO, "%s: writing failed: %s", j->path, strerror(error));
}

static enum ecg_status put_line(struct journal *j, struct json_writer *w) {
    char *text = NULL;
    TRY(json_writer_take(w, &text));
    size_t n = strlen(text);
    text[n] = '\n';
    enum ecg_status status =
        mem_grow((void **)&j->waiting, &j->cap, j->n_waiting + n + 1, sizeof(*j->waiting));
    if (status == ECG_OK) {
        memcpy(j->waiting + j->n_waiting, text, n + 1);
        j->n_waiting += n + 1;
    }
    free(text);
    if (status != ECG_OK || journal_flush(j) == ECG_OK) return status;
    if (!j->is_behind)
        log_warn("%s: training goes on, its lines wait until there is room", ecg_message());
    j->is_behind = true;
    return ECG_OK;
}

static void put_head(struct json_writer *w, const char *kind, int64_t step, int64_t epoch,
                     double loss) {
    json_begin_object(w);
    json_put_key(w, "kind");
    json_put_string(w, kind);
    json_put_key(w, "step");
    json_put_integer(w, step);
    json_put_key(w, "epoch");
    json_put_integer(w, epoch);
    json_put_key(w, "loss");
    json_put_number(w, loss);
}

static void put_figures(struct json_writer *w, const char *key, const struct journal_figures *f) {
    if (f->n == 0) return;
    json_put_key(w, key);
    json_begin_object(w);
    for (int i = 0; i < f->n; i++) {
        json_put_key(w, f->name[i]);
        json_put_number(w, f->value[i]);
    }
    json_end_object(w);
}

enum ecg_status journal_put_train(struct journal *j, const struct journal_train *t) {
    struct json_writer w = {0};
    put_head(&w, "train", t->step, t->epoch, t->loss);
    json_put_key(&w, "lr");
    json_put_number(&w, t->lr);
    json_put_key(&w, "grad_norm");
    json_put_number(&w, t->grad_norm);
    json_put_key(&w, "ecg_per_s");
    json_put_number(&w, t->ecg_per_s);
    put_figures(&w, "losses", &t->losses);
    json_end_object(&w);
    return put_line(j, &w);
}

enum ecg_status journal_put_valid(struct journal *j, const struct journal_valid *v) {
    struct json_writer w = {0};
    put_head(&w, "valid", v->step, v->epoch, v->loss);
    json_put_key(&w, "macro_auroc");
    json_put_number(&w, v->macro_auroc);
    put_figures(&w, "losses", &v->losses);
    put_figures(&w, "accuracy", &v->accuracy);
    put_figures(&w, "c_index", &v->c_index);
    put_figures(&w, "mae", &v->mae);
    json_end_object(&w);
    return put_line(j, &w);
}

/* ------------------------------------------------------------------ reading */

struct valid_list {
    struct journal_valid *v;
    size_t n, cap;
};

static enum ecg_status read_line(struct valid_list *l, const char *line, size_t n,
                                 const char *where) {
    struct json *root = NULL;
    TRY(json_parse(&root, line, n, where));
    const char *kind = json_string(json_get(root, "kind"));
    enum ecg_status status = ECG_OK;
    if (kind != NULL && strcmp(kind, "valid") == 0) {
        status = mem_grow((void **)&l->v, &l->cap, l->n + 1, sizeof(*l->v));
        if (status == ECG_OK)
            l->v[l->n++] =
                (struct journal_valid){.step = json_integer(json_get(root, "step")),
                                       .epoch = json_integer(json_get(root, "epoch")),
                                       .loss = json_number(json_get(root, "loss")),
                                       .macro_auroc = json_number(json_get(root, "macro_auroc"))};
    }
    json_free(root);
    return status;
}

enum ecg_status journal_read_valid(const char *run, struct journal_valid **v, size_t *n) {
    struct valid_list list = {0};
    char *path = NULL, *text = NULL;
    size_t size;
    enum ecg_status status;
    TRY_OUT(file_join(&path, run, "metrics.jsonl"));
    TRY_OUT(file_read(path, JOURNAL_MAX_BYTES, &text, &size));
    for (char *line = text; *line != 0;) {
        size_t length = strcspn(line, "\n");
        if (length > 0) TRY_OUT(read_line(&list, line, length, path));
        line += length + (line[length] != 0);
    }
    *v = list.v;
    *n = list.n;
    list.v = NULL;
out:
    free(list.v);
    free(path);
    free(text);
    return status;
}
