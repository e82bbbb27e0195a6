/* SPDX-License-Identifier: MIT
 * A run that exists is never overwritten; a resumed run must be the same run. */
#include "train/run/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/pool.h"
#include "train/run/version.h"

/* Keys whose value changes nothing that is computed. */
static bool line_is_free(const char *line) {
    static const char *const keys[] = {
        "threads:", "workers:", "recompute:", "cuda_graph:", "keep:", "comm:", "zero:"};
    line += strspn(line, " ");
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
        if (strncmp(line, keys[i], strlen(keys[i])) == 0) return true;
    return false;
}

/* Compares two dumps line by line; both have the table's keys in the table's order. */
static enum ecg_status compare(const char *path, char *old, char *now) {
    char *save_old = NULL, *save_now = NULL;
    char *a = strtok_r(old, "\n", &save_old), *b = strtok_r(now, "\n", &save_now);
    for (; a != NULL || b != NULL;
         a = strtok_r(NULL, "\n", &save_old), b = strtok_r(NULL, "\n", &save_now)) {
        if (a != NULL && b != NULL && (strcmp(a, b) == 0 || (line_is_free(a) && line_is_free(b))))
            continue;
        return ecg_fail(ECG_ERR_CONFIG,
                        "--resume: the config is not the run's: %s has \"%s\", now it is \"%s\"",
                        path, a != NULL ? a + strspn(a, " ") : "",
                        b != NULL ? b + strspn(b, " ") : "");
    }
    return ECG_OK;
}

enum ecg_status rundir_check_config(const char *path, const struct config *c) {
    struct config old = {0};
    char *old_text = NULL, *now_text = NULL;
    enum ecg_status status;
    TRY_OUT(config_load(&old, path, NULL, 0));
    TRY_OUT(conf_dump(config_options, &old, &old_text));
    TRY_OUT(conf_dump(config_options, c, &now_text));
    TRY_OUT(compare(path, old_text, now_text));
out:
    config_free(&old);
    free(old_text);
    free(now_text);
    return status;
}

enum ecg_status rundir_check(const char *run, bool resume) {
    if (file_exists(run) && !file_is_dir(run))
        return ecg_fail(ECG_ERR_CREATE, "%s: is a file; --out names a folder", run);
    if (!resume && !file_dir_is_empty(run))
        return ecg_fail(
            ECG_ERR_CREATE,
            "%s: holds a run or something else already: choose another --out, or --resume to go "
            "on with that run",
            run);
    return ECG_OK;
}

enum ecg_status rundir_lock(const char *run, int *fd) {
    TRY(file_mkdirs(run));
    *fd = open(run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0) return ecg_fail(ECG_ERR_CREATE, "%s: %s", run, strerror(errno));
    // A process that was killed just now may still be on its way out.
    const struct timespec pause = {0, 100000000};
    int error = 0;
    for (int i = 0; i < 20; i++) {
        if (flock(*fd, LOCK_EX | LOCK_NB) == 0) return file_remove_temporaries(run);
        error = errno;
        if (error != EWOULDBLOCK) break;
        nanosleep(&pause, NULL);
    }
    close(*fd);
    *fd = -1;
    // A file system without locks (some NFS) is no reason not to train.
    if (error != EWOULDBLOCK) return ECG_OK;
    return ecg_fail(ECG_ERR_CREATE, "%s: another process is training in this run folder", run);
}

static void put_text(struct json_writer *w, const char *key, const char *text) {
    json_put_key(w, key);
    json_put_string(w, text);
}

/* A data set by its path, records, and the hash of its dataset.json (which holds every shard's hash), null without one. */
static enum ecg_status put_source(struct json_writer *w, const char *key, const struct source *s) {
    json_put_key(w, key);
    if (s == NULL || s->data == NULL) {
        json_put_null(w);
        return ECG_OK;
    }
    char *path = NULL, hex[17];
    TRY(file_join(&path, s->data->path, "dataset.json"));
    uint64_t hash = 0;
    bool has_hash = file_exists(path) && hash_file(path, &hash) == ECG_OK;
    free(path);
    json_begin_object(w);
    put_text(w, "path", s->data->path);
    json_put_key(w, "records");
    json_put_integer(w, (int64_t)s->n);
    json_put_key(w, "dataset_xxhash64");
    snprintf(hex, sizeof(hex), "%016llx", (unsigned long long)hash);
    if (has_hash)
        json_put_string(w, hex);
    else
        json_put_null(w);
    json_end_object(w);
    return ECG_OK;
}

static enum ecg_status write_manifest(const char *run, const char *command,
                                      const struct source *train, const struct source *valid) {
    struct json_writer w = {.pretty = true};
    struct utsname host;
    char started[32] = "", *text = NULL, *path = NULL;
    time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc) != NULL)
        strftime(started, sizeof(started), "%Y-%m-%dT%H:%M:%SZ", &utc);
    json_begin_object(&w);
    put_text(&w, "einthoven", EINTHOVEN_VERSION);
    put_text(&w, "git", version_git());
    put_text(&w, "compiler", __VERSION__);
    put_text(&w, "command", command);
    put_text(&w, "started", started);
    if (uname(&host) == 0) {
        put_text(&w, "host", host.nodename);
        put_text(&w, "system", host.release);
    }
    json_put_key(&w, "cores");
    json_put_integer(&w, pool_default_threads());
    enum ecg_status status;
    TRY_OUT(put_source(&w, "train", train));
    TRY_OUT(put_source(&w, "valid", valid));
    json_end_object(&w);
    TRY_OUT(json_writer_take(&w, &text));
    TRY_OUT(file_join(&path, run, "manifest.json"));
    TRY_OUT(file_write(path, text, strlen(text)));
out:
    json_writer_free(&w);
    free(text);
    free(path);
    return status;
}

enum ecg_status rundir_describe(const char *run, const struct config *c, const char *command,
                                const struct source *train, const struct source *valid) {
    char *text = NULL, *path = NULL;
    enum ecg_status status;
    TRY_OUT(conf_dump(config_options, c, &text));
    TRY_OUT(file_join(&path, run, "config.yaml"));
    if (file_exists(path)) TRY_OUT(rundir_check_config(path, c));
    TRY_OUT(file_write(path, text, strlen(text)));
    TRY_OUT(write_manifest(run, command, train, valid));
out:
    free(text);
    free(path);
    return status;
}
