/* SPDX-License-Identifier: MIT
 * Checkpoints written in the background and their seal: the snapshot's bytes, whole at any moment under kill -9, nothing
 * left by a save that fails, every damage found. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "checkpoints/folder.h"
#include "checkpoints/seal.h"
#include "core/file.h"
#include "tests/support/check.h"
#include "train/run/saver.h"

#define MODEL_BYTES 300000
#define STATE_BYTES 500000

static char run[4096];

static const char *fresh_run(const char *name) {
    snprintf(run, sizeof run, "%s/%s", check_tmp(), name);
    return run;
}

/* RUN/checkpoints/LINK/NAME, each "" or a name. */
static const char *place(const char *link, const char *name) {
    static char path[4400];
    snprintf(path, sizeof path, "%s/checkpoints/%s/%s", run, link, name);
    return path;
}

/* What stands at byte i of a step's files. */
static char content(int64_t step, size_t i) {
    return (char)((uint64_t)step * 31 + i * 7 + i / 251);
}

static bool take(struct saver *s, int64_t step, bool is_best) {
    struct snapshot *p = &s->snapshot;
    bool ok = CHECK_OK(safetensors_image_reserve(&p->model, MODEL_BYTES)) &&
              CHECK_OK(safetensors_image_reserve(&p->state, STATE_BYTES));
    if (!ok) return false;
    p->model.n = MODEL_BYTES;
    p->state.n = STATE_BYTES;
    for (size_t i = 0; i < MODEL_BYTES; i++) p->model.data[i] = content(step, i);
    for (size_t i = 0; i < STATE_BYTES; i++) p->state.data[i] = content(step + 1, i);
    p->step = step;
    p->is_best = is_best;
    json_writer_free(&p->position);
    p->position.pretty = true;
    json_begin_object(&p->position);
    json_put_key(&p->position, "step");
    json_put_integer(&p->position, step);
    return true;
}

static enum ecg_status save(struct saver *s, int64_t step, bool is_best) {
    if (!take(s, step, is_best)) return ECG_ERR_FAIL;
    saver_start(s);
    return saver_wait(s);
}

static bool file_is(const char *link, const char *name, int64_t step, size_t n) {
    char *data = NULL;
    size_t got = 0;
    bool same = CHECK_OK(file_read(place(link, name), 1u << 20, &data, &got)) && CHECK(got == n);
    for (size_t i = 0; same && i < n; i++) same = data[i] == content(step, i);
    free(data);
    return same;
}

static void snapshot_is_written(void) {
    struct saver s = {.run = fresh_run("written"), .keep = 2, .whole = -1};
    CHECK(!saver_is_busy(&s) && !saver_is_done(&s) && saver_wait(&s) == ECG_OK);
    for (int64_t step = 1; step <= 5; step++) {
        CHECK_OK(save(&s, step, step == 2));
        CHECK(s.whole == step && s.message == NULL);
        CHECK_OK(seal_check(place("last", "")));
        CHECK(file_is("last", "model.safetensors", step, MODEL_BYTES));
        CHECK(file_is("last", "state.safetensors", step + 1, STATE_BYTES));
    }
    CHECK(file_is("best", "model.safetensors", 2, MODEL_BYTES));
    CHECK(!file_exists(place("step-00000003", "")) && file_exists(place("step-00000004", "")));
    saver_free(&s);
    saver_free(&s);
}

/* Every byte of state.json, some of the others, a cut, a missing file: the message names the file. */
static void damage_is_found(void) {
    static const char *const names[] = {"model.safetensors", "state.safetensors", "state.json"};
    struct saver s = {.run = fresh_run("damage"), .keep = 1};
    CHECK_OK(save(&s, 7, true));
    saver_free(&s);
    char dir[4400];
    snprintf(dir, sizeof dir, "%s", place("last", ""));
    for (int k = 0; k < 3; k++) {
        char *data = NULL;
        size_t n = 0;
        if (!CHECK_OK(file_read(place("last", names[k]), 1u << 20, &data, &n))) return;
        for (size_t at = 0; at < n; at += k == 2 ? 1 : 99991) {
            data[at] ^= 1 << at % 8;
            CHECK_OK(file_write(place("last", names[k]), data, n));
            CHECK_FAILS(seal_check(dir), ECG_ERR_DATA, names[k]);
            data[at] ^= 1 << at % 8;
        }
        CHECK_OK(file_write(place("last", names[k]), data, n - 1));
        CHECK_FAILS(seal_check(dir), ECG_ERR_DATA, names[k]);
        CHECK_OK(file_write(place("last", names[k]), data, 0));
        CHECK_FAILS(seal_check(dir), ECG_ERR_DATA, names[k]);
        CHECK(unlink(place("last", names[k])) == 0);
        CHECK_FAILS(seal_check(dir), ECG_ERR_NOINPUT, names[k]);
        CHECK_OK(file_write(place("last", names[k]), data, n));
        CHECK_OK(seal_check(dir));
        free(data);
    }
}

/* A seal is no way to files elsewhere, and no object but its own. */
static void hostile_seals(void) {
    struct json_writer w = {.pretty = true};
    const struct seal_file file = {"../x", "abc", 3};
    char *text = NULL, dir[4200];
    fresh_run("hostile");
    CHECK_OK(file_mkdirs(run));
    snprintf(dir, sizeof dir, "%s/state.json", run);
    json_begin_object(&w);
    CHECK_OK(seal_text(&w, &file, 1, &text));
    CHECK_OK(file_write(dir, text, strlen(text)));
    CHECK_FAILS(seal_check(run), ECG_ERR_DATA, "../x is not sealed");
    free(text);
    json_begin_object(&w);
    CHECK_OK(seal_text(&w, NULL, 0, &text));
    CHECK_OK(file_write(dir, text, strlen(text)));
    CHECK_OK(seal_check(run));
    free(text);
}

static size_t entries(void) {
    struct file_list l;
    if (!CHECK_OK(file_list_dir(&l, place("", ""), "", false))) return 0;
    size_t n = l.n;
    file_list_free(&l);
    return n;
}

/* A limit on the size of a file stands for a full disk. */
static void failed_save_leaves_nothing(void) {
    struct saver s = {.run = fresh_run("full"), .keep = 1, .whole = -1};
    struct rlimit before, small;
    CHECK_OK(save(&s, 1, true));
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
    signal(SIGXFSZ, SIG_IGN);
    small = before;
    small.rlim_cur = MODEL_BYTES + 1000; /* the second file does not fit */
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    enum ecg_status status = save(&s, 2, true);
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
    CHECK(status == ECG_ERR_IO && s.whole == 1);
    CHECK(s.message && strstr(s.message, "state.safetensors") &&
          strstr(s.message, strerror(EFBIG)));
    CHECK(entries() == 3); /* best, last, step-00000001 */
    CHECK_OK(seal_check(place("last", "")));
    CHECK(file_is("last", "model.safetensors", 1, MODEL_BYTES));
    CHECK_OK(save(&s, 3, false));
    CHECK(s.whole == 3 && s.message == NULL &&
          file_is("best", "model.safetensors", 1, MODEL_BYTES));
    saver_free(&s);
}

static void save_to_no_folder(void) {
    struct saver s = {.run = fresh_run("file"), .keep = 1, .whole = -1};
    CHECK_OK(file_write(run, "x", 1));
    CHECK(save(&s, 1, false) == ECG_ERR_CREATE && s.whole == -1 && s.message != NULL);
    ecg_fail(ECG_ERR_IO, "the reason");
    saver_refuse(&s, ECG_ERR_IO);
    CHECK(saver_is_done(&s) && saver_wait(&s) == ECG_ERR_IO);
    CHECK_STR(s.message, "the reason");
    saver_free(&s);
}

/* What a run goes on from: `last`, then what is older; what is newer goes with the next save. */
static void older_ones_are_listed(void) {
    struct saver s = {.run = fresh_run("listed"), .keep = 3};
    struct file_list l;
    CHECK_OK(folder_list(run, &l));
    CHECK(l.n == 0);
    for (int64_t step = 1; step <= 4; step++) CHECK_OK(save(&s, step, step == 1));
    CHECK(unlink(place("", "last")) == 0 && symlink("step-00000003", place("", "last")) == 0);
    CHECK_OK(folder_list(run, &l));
    if (CHECK(l.n == 3)) {
        CHECK_STR(strrchr(l.names[0], '/'), "/step-00000003");
        CHECK_STR(strrchr(l.names[1], '/'), "/step-00000002");
        CHECK_STR(strrchr(l.names[2], '/'), "/step-00000001");
    }
    file_list_free(&l);
    CHECK_OK(file_remove_tree(place("step-00000003", "")));
    CHECK_OK(folder_list(run, &l)); /* the folder that `last` means is gone */
    CHECK(l.n == 3 && !file_exists(l.names[0]));
    file_list_free(&l);
    CHECK_OK(save(&s, 3, false));
    CHECK(!file_exists(place("step-00000004", "")) && file_exists(place("step-00000002", "")));
    CHECK(unlink(place("", "last")) == 0);
    CHECK_OK(folder_list(run, &l));
    CHECK(l.n == 0);
    file_list_free(&l);
    saver_free(&s);
}

static void save_for_ever(int64_t step) {
    struct saver s = {.run = run, .keep = 2};
    for (;; step++)
        if (save(&s, step, step % 3 == 0) != ECG_OK) _exit(1);
}

/* The newest is whole, and so is each one that a run could fall back on. */
static void kill_at_any_moment(void) {
    enum { KILLS = 30 };
    struct saver s = {.run = fresh_run("kills"), .keep = 2};
    CHECK_OK(save(&s, 1, true));
    saver_free(&s);
    size_t writing = 0;
    for (int i = 0; i < KILLS; i++) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) save_for_ever(2);
        if (!CHECK(child > 0)) return;
        nanosleep(&(struct timespec){.tv_nsec = 5000000 + i * 1791239L % 37000000}, NULL);
        int how = 0;
        kill(child, SIGKILL);
        waitpid(child, &how, 0);
        CHECK(WIFSIGNALED(how)); /* else it met an error of its own */
        writing += file_exists(place("", ".writing"));
        struct file_list l;
        if (!CHECK_OK(folder_list(run, &l)) || !CHECK(l.n > 0)) return;
        for (size_t k = 0; k < l.n; k++) CHECK_OK(seal_check(l.names[k]));
        file_list_free(&l);
    }
    check_note("%d kills, %zu of them while a checkpoint was being written", KILLS, writing);
}

int main(void) {
    CASE(snapshot_is_written);
    CASE(damage_is_found);
    CASE(hostile_seals);
    CASE(failed_save_leaves_nothing);
    CASE(save_to_no_folder);
    CASE(older_ones_are_listed);
    CASE(kill_at_any_moment);
    return check_finish();
}
