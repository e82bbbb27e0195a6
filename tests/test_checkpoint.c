/* SPDX-License-Identifier: MIT
 * Checkpoint folders: whole or not there, at every step between two renames and under kill -9 at any moment. */
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "checkpoints/folder.h"
#include "core/file.h"
#include "tests/support/check.h"

#define PARTS      3
#define PART_BYTES 40000

static char run[4096], text[4200];

static const char *fresh_run(const char *name) {
    snprintf(run, sizeof run, "%s/%s", check_tmp(), name);
    return run;
}

static const char *below(const char *name) {
    snprintf(text, sizeof text, "%s/checkpoints/%s", run, name);
    return text;
}

/* A checkpoint of PARTS files, each full of its step. */
static enum ecg_status write_parts(const struct folder *f, int64_t step) {
    static int64_t content[PART_BYTES / sizeof(int64_t)];
    for (size_t i = 0; i < sizeof content / sizeof *content; i++) content[i] = step;
    for (int part = 0; part < PARTS; part++) {
        char path[4200];
        snprintf(path, sizeof path, "%s/part%d", f->temporary, part);
        TRY(file_write(path, content, sizeof content));
    }
    return ECG_OK;
}

static enum ecg_status save(const char *dir, int64_t step, bool is_best) {
    struct folder f;
    TRY(folder_begin(&f, dir, step));
    enum ecg_status status = write_parts(&f, step);
    if (status == ECG_OK) return folder_commit(&f, is_best);
    folder_abort(&f);
    return status;
}

/* The step of a whole checkpoint; -1: not whole. */
static int64_t step_of(const char *folder) {
    int64_t step = -1;
    for (int part = 0; part < PARTS; part++) {
        char path[4200], *data = NULL;
        size_t n = 0;
        snprintf(path, sizeof path, "%s/part%d", folder, part);
        if (file_read(path, PART_BYTES, &data, &n) != ECG_OK || n != PART_BYTES) {
            free(data);
            return -1;
        }
        for (size_t i = 0; i < n; i += sizeof step) {
            int64_t v;
            memcpy(&v, data + i, sizeof v);
            if (step == -1) step = v;
            if (v != step) step = -2;
        }
        free(data);
    }
    return step;
}

/* The step that a link leads to; -1: not whole, -3: no link. */
static int64_t linked_step(const char *link) {
    char *path = NULL;
    if (!CHECK_OK(folder_resolve(run, link, &path)) || !path) return -3;
    int64_t step = step_of(path);
    free(path);
    return step;
}

static void links_follow(void) {
    fresh_run("links");
    CHECK(linked_step("last") == -3); /* no run yet */
    CHECK_OK(save(run, 10, true));
    CHECK_OK(save(run, 20, false));
    CHECK(linked_step("last") == 20 && linked_step("best") == 10);
    char target[64] = "";
    CHECK(readlink(below("last"), target, sizeof target - 1) > 0);
    CHECK_STR(target, "step-00000020"); /* relative: the run can be moved */
    CHECK_OK(save(run, 30, true));
    CHECK(linked_step("last") == 30 && linked_step("best") == 30);
    CHECK(!file_exists(below(".writing")) && !file_exists(below(".new-last")));
}

static void abort_leaves_nothing(void) {
    fresh_run("abort");
    CHECK_OK(save(run, 1, true));
    struct folder f;
    if (!CHECK_OK(folder_begin(&f, run, 2))) return;
    CHECK_OK(write_parts(&f, 2));
    folder_abort(&f);
    folder_abort(&f);
    struct file_list entries;
    CHECK_OK(file_list_dir(&entries, below(""), "", false));
    CHECK(entries.n == 3); /* best, last, step-00000001 */
    file_list_free(&entries);
    CHECK(linked_step("last") == 1);
}

static void same_step_is_replaced(void) {
    fresh_run("replace");
    CHECK_OK(save(run, 5, true));
    char path[4300];
    snprintf(path, sizeof path, "%s/stale", below("step-00000005"));
    CHECK_OK(file_write(path, "x", 1));
    CHECK_OK(save(run, 5, true));
    CHECK(linked_step("last") == 5 && !file_exists(path) &&
          !file_exists(below(".old-step-00000005")));
}

static void prune_keeps_what_is_linked(void) {
    fresh_run("prune");
    for (int64_t step = 1; step <= 6; step++) CHECK_OK(save(run, step, step == 2));
    CHECK_OK(folder_prune(run, 2));
    static const bool stays[] = {false, true, false,
                                 false, true, true}; /* 2 is best, 5 and 6 the newest */
    for (int step = 1; step <= 6; step++) {
        char name[32];
        snprintf(name, sizeof name, "step-%08d", step);
        CHECK(file_exists(below(name)) == stays[step - 1]);
    }
    CHECK_OK(file_mkdirs(below(".removed-step-00000003"))); /* killed while it was removed */
    CHECK_OK(folder_prune(run, 0));
    CHECK(!file_exists(below(".removed-step-00000003")));
    CHECK(linked_step("best") == 2 && linked_step("last") == 6);
    CHECK(!file_exists(below("step-00000005")));
}

static void dangling_link_is_none(void) {
    fresh_run("dangling");
    CHECK_OK(save(run, 1, false));
    CHECK_OK(file_remove_tree(below("step-00000001")));
    CHECK(linked_step("last") == -3 && linked_step("best") == -3);
}

static void rename_in_run(const char *from, const char *to) {
    char path[4200];
    snprintf(path, sizeof path, "%s", below(from));
    CHECK(rename(path, below(to)) == 0);
}

/* Every state that a kill between two system calls can leave, made by hand. */
static void killed_between_renames(void) {
    fresh_run("between");
    CHECK_OK(save(run, 1, true));
    rename_in_run("step-00000001", ".old-step-00000001"); /* before the new folder came */
    CHECK(linked_step("last") == 1 && linked_step("best") == 1);
    CHECK_OK(save(run, 2, false)); /* puts it back */
    CHECK(file_exists(below("step-00000001")) && linked_step("best") == 1 &&
          linked_step("last") == 2);

    CHECK(mkdir(below(".old-step-00000002"), 0777) == 0); /* after it came */
    CHECK(mkdir(below(".removed-step-00000000"), 0777) == 0);
    CHECK(mkdir(below(".writing"), 0777) == 0);
    CHECK(symlink("step-00000001", below(".new-last")) == 0);
    CHECK(linked_step("last") == 2);
    CHECK_OK(save(run, 3, false));
    CHECK(linked_step("last") == 3);
    static const char *const leftovers[] = {".old-step-00000002", ".removed-step-00000000",
                                            ".writing", ".new-last"};
    struct stat info;
    for (size_t i = 0; i < sizeof leftovers / sizeof *leftovers; i++)
        CHECK(lstat(below(leftovers[i]), &info) != 0);
}

static void unwritable_place(void) {
    struct folder f;
    fresh_run("file");
    CHECK_OK(file_write(run, "x", 1));
    CHECK_FAILS(folder_begin(&f, run, 1), ECG_ERR_CREATE, run);
    CHECK(f.temporary == NULL);
}

/* A child that saves, sometimes twice at one step, and prunes, until it is killed. */
static void save_for_ever(int64_t step) {
    for (;; step++) {
        if (save(run, step, step % 3 == 0) != ECG_OK || save(run, step, step % 3 == 0) != ECG_OK)
            _exit(1);
        if (folder_prune(run, 1) != ECG_OK) _exit(1);
    }
}

static void kill_at_any_moment(void) {
    enum { KILLS = 40 };
    fresh_run("kills");
    CHECK_OK(save(run, 0, true));
    int64_t last = 0;
    for (int i = 0; i < KILLS; i++) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) save_for_ever(last + 1);
        if (!CHECK(child > 0)) return;
        nanosleep(&(struct timespec){.tv_nsec = 3000000 + i * 791239L % 17000000}, NULL);
        int how = 0;
        kill(child, SIGKILL);
        waitpid(child, &how, 0);
        CHECK(WIFSIGNALED(how)); /* else it met an error of its own */
        int64_t now = linked_step("last"), best = linked_step("best");
        if (!CHECK(now >= last && best >= 0 && best % 3 == 0)) return;
        last = now;
    }
    check_note("%d kills, %" PRId64 " checkpoints", KILLS, last);
}

int main(void) {
    CASE(links_follow);
    CASE(abort_leaves_nothing);
    CASE(same_step_is_replaced);
    CASE(prune_keeps_what_is_linked);
    CASE(dangling_link_is_none);
    CASE(killed_between_renames);
    CASE(unwritable_place);
    CASE(kill_at_any_moment);
    return check_finish();
}
