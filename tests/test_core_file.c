/* SPDX-License-Identifier: MIT
 * Files: an output is whole or not there, whatever ends the writer (a close, a kill, a full disk), and
 * each kind of failure has its own status with the path in its message. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"
#include "tests/support/check.h"

/* check_tmp()/name; at most four at a time. */
static const char *in_tmp(const char *name) {
    static char paths[4][4300];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", check_tmp(), name);
    return path;
}

static bool holds(const char *path, const char *text) {
    char *data;
    size_t n;
    if (file_read(path, 1000000, &data, &n) != ECG_OK) return false;
    bool same = n == strlen(text) && memcmp(data, text, n + 1) == 0;
    free(data);
    return same;
}

static size_t files_in(const char *dir) {
    struct file_list l;
    CHECK_OK(file_list_dir(&l, dir, "", false));
    size_t n = l.n;
    file_list_free(&l);
    return n;
}

static void read_whole(void) {
    char *data;
    size_t n;
    CHECK_OK(file_write(in_tmp("r"), "a\0b", 3));
    CHECK_OK(file_read(in_tmp("r"), 3, &data, &n));
    CHECK(n == 3 && memcmp(data, "a\0b", 4) == 0);
    free(data);
    CHECK_FAILS(file_read(in_tmp("r"), 2, &data, &n), ECG_ERR_DATA, "larger than the 2 bytes");
    CHECK(data == NULL && n == 0);
    CHECK_FAILS(file_read(in_tmp("none"), 9, &data, &n), ECG_ERR_NOINPUT, "none: No such file");
    CHECK_FAILS(file_read(check_tmp(), 9, &data, &n), ECG_ERR_DATA, "not a plain file");
    CHECK(mkfifo(in_tmp("pipe"), 0600) == 0);
    CHECK_FAILS(file_read(in_tmp("pipe"), 9, &data, &n), ECG_ERR_DATA, "not a plain file");
    CHECK_OK(file_write(in_tmp("empty"), NULL, 0));
    CHECK_OK(file_read(in_tmp("empty"), 0, &data, &n));
    CHECK(n == 0 && data && *data == 0);
    free(data);
    if (file_exists("/proc/self/status")) { /* a file that claims to have no bytes */
        CHECK_OK(file_read("/proc/self/status", 100000, &data, &n));
        CHECK(n > 100 && strlen(data) == n);
        free(data);
        CHECK_FAILS(file_read("/proc/self/status", 10, &data, &n), ECG_ERR_DATA, "larger");
    }
}

static void map(void) {
    struct file_map m;
    CHECK_OK(file_write(in_tmp("m"), "hello", 5));
    CHECK_OK(file_map_open(&m, in_tmp("m")));
    CHECK(m.size == 5 && memcmp(m.data, "hello", 5) == 0);
    file_map_drop(&m, m.data + 1, 3);
    file_map_drop(&m, m.data, 5);
    CHECK(memcmp(m.data, "hello", 5) == 0);
    file_map_close(&m);
    static char large[100000];
    for (size_t i = 0; i < sizeof large; i++) large[i] = (char)(i % 251);
    CHECK_OK(file_write(in_tmp("m"), large, sizeof large));
    if (CHECK_OK(file_map_open(&m, in_tmp("m")))) {
        CHECK(memcmp(m.data, large, sizeof large) == 0);
        file_map_drop(&m, m.data + 5000, 90000);
        CHECK(memcmp(m.data, large, sizeof large) == 0);
    }
    file_map_close(&m);
    file_map_close(&m);
    CHECK_OK(file_write(in_tmp("m0"), "", 0));
    CHECK_OK(file_map_open(&m, in_tmp("m0")));
    CHECK(m.data == NULL && m.size == 0);
    file_map_close(&m);
    CHECK_FAILS(file_map_open(&m, in_tmp("none")), ECG_ERR_NOINPUT, "none");
    CHECK_FAILS(file_map_open(&m, check_tmp()), ECG_ERR_DATA, "not a plain file");
}

/* Another program truncates a file that is mapped here, as `cp` over it does. */
static void map_of_a_file_cut_short(void) {
    const char *path = in_tmp("cut");
    struct file_map m;
    char *bytes = NULL;
    if (!CHECK_OK(MEM_NEW(&bytes, 100000))) return;
    if (!CHECK_OK(file_write(path, bytes, 100000)) || !CHECK_OK(file_map_open(&m, path))) goto out;
    if (!CHECK(truncate(path, 10) == 0)) goto out;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDERR_FILENO);
        file_map_guard();
        _exit(((volatile const char *)m.data)[90000]);
    }
    int code = 0;
    CHECK(child > 0 && waitpid(child, &code, 0) == child);
    CHECK(WIFEXITED(code) && WEXITSTATUS(code) == ecg_exit_code(ECG_ERR_IO));
    file_map_close(&m);
out:
    free(bytes);
}

static void whole_or_not_there(void) {
    struct file_out f;
    CHECK_OK(file_mkdirs(in_tmp("out")));
    const char *path = in_tmp("out/x");
    CHECK_OK(file_out_open(&f, path));
    fputs("first", f.stream);
    CHECK(!file_exists(path));
    file_out_close(&f); /* never committed */
    file_out_close(&f);
    CHECK(!file_exists(path) && files_in(in_tmp("out")) == 0);
    CHECK_OK(file_write(path, "old", 3));
    CHECK_OK(file_out_open(&f, path));
    fputs("new", f.stream);
    fflush(f.stream);
    CHECK(holds(path, "old"));
    CHECK_OK(file_out_commit(&f));
    CHECK(holds(path, "new") && files_in(in_tmp("out")) == 1);
    file_out_close(&f); /* after a commit: nothing to do */
    CHECK(holds(path, "new"));
    /* Two writers of one name at a time: each has a temporary file of its own, the last commit wins. */
    struct file_out g;
    CHECK_OK(file_out_open(&f, path));
    CHECK_OK(file_out_open(&g, path));
    fputs("f", f.stream);
    fputs("g", g.stream);
    CHECK_OK(file_out_commit(&g));
    CHECK_OK(file_out_commit(&f));
    CHECK(holds(path, "f") && files_in(in_tmp("out")) == 1);
}

static void refused_outputs(void) {
    struct file_out f;
    CHECK_OK(file_write(in_tmp("plain"), "x", 1));
    CHECK_FAILS(file_out_open(&f, in_tmp("plain/x")), ECG_ERR_CREATE, "plain/x: can't create");
    CHECK_FAILS(file_out_open(&f, in_tmp("none/x")), ECG_ERR_CREATE, "none/x: can't create");
    CHECK_FAILS(file_out_open(&f, check_tmp()), ECG_ERR_CREATE, "not a plain file");
    CHECK_FAILS(file_out_open(&f, "/dev/null"), ECG_ERR_CREATE, "not a plain file");
    CHECK_FAILS(file_mkdirs(in_tmp("plain/y")), ECG_ERR_CREATE, "can't create the folder");
    CHECK_FAILS(file_mkdirs(in_tmp("plain")), ECG_ERR_CREATE, "can't create the folder");
}

/* Runs in a child: a limit on the size of files stands for a full disk. Exit code 0: as it should be. */
static int write_on_full_disk(const char *path, size_t n) {
    struct rlimit limit = {.rlim_cur = 4096, .rlim_max = 4096};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    char *data = calloc(n, 1);
    enum ecg_status status = file_write(path, data, n);
    free(data);
    return status == ECG_ERR_IO && strstr(ecg_message(), "writing failed") ? 0 : 1;
}

static void full_disk(void) {
    /* One size fails at the last flush, the other in the middle of writing. */
    static const size_t sizes[] = {4097, 1000000};
    CHECK_OK(file_mkdirs(in_tmp("full")));
    CHECK_OK(file_write(in_tmp("full/x"), "old", 3));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int result = -1;
        pid_t child = fork();
        if (child == 0) _exit(write_on_full_disk(in_tmp("full/x"), sizes[i]));
        CHECK(waitpid(child, &result, 0) == child && WIFEXITED(result));
        CHECK(WEXITSTATUS(result) == 0);
        CHECK(holds(in_tmp("full/x"), "old") && files_in(in_tmp("full")) == 1);
    }
}

static void killed_writer(void) {
    int ready[2], result;
    char byte;
    CHECK_OK(file_mkdirs(in_tmp("kill")));
    CHECK_OK(file_write(in_tmp("kill/x.h5"), "old", 3));
    CHECK(pipe(ready) == 0);
    pid_t child = fork();
    if (child == 0) {
        struct file_out f;
        if (file_out_open(&f, in_tmp("kill/x.h5")) != ECG_OK) _exit(1);
        fputs("half", f.stream);
        fflush(f.stream);
        if (write(ready[1], "r", 1) != 1) _exit(1);
        for (;;) pause();
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    kill(child, SIGKILL);
    CHECK(waitpid(child, &result, 0) == child && WIFSIGNALED(result));
    close(ready[0]);
    close(ready[1]);
    CHECK(holds(in_tmp("kill/x.h5"), "old"));
    struct file_list l;
    CHECK_OK(
        file_list_dir(&l, in_tmp("kill"), ".h5", true)); /* what it left is not taken for data */
    CHECK(l.n == 1);
    file_list_free(&l);
    static const char *const others[] = {"kill/x.tmp-1", "kill/x.tmp-a-1", "kill/x.tmp-1-2b"};
    for (int i = 0; i < 3; i++) CHECK_OK(file_write(in_tmp(others[i]), "x", 1));
    CHECK_OK(file_list_dir(&l, in_tmp("kill"), "", true));
    CHECK(l.n == 5);
    file_list_free(&l);
    CHECK_OK(file_remove_temporaries(in_tmp("."))); /* below a folder too */
    CHECK_OK(file_list_dir(&l, in_tmp("kill"), "", true));
    CHECK(l.n == 4 && holds(in_tmp("kill/x.h5"), "old"));
    file_list_free(&l);
    CHECK_FAILS(file_remove_temporaries(in_tmp("none")), ECG_ERR_NOINPUT, "none");
}

static void lists(void) {
    static const char *const files[] = {"b.hea", "a.hea", "a.dat", "sub/deep/c.hea", "sub/a.hea"};
    CHECK_OK(file_mkdirs(in_tmp("l/sub/deep/")));
    CHECK_OK(file_mkdirs(in_tmp("l/sub/deep")));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char name[100];
        snprintf(name, sizeof name, "l/%s", files[i]);
        CHECK_OK(file_write(in_tmp(name), "x", 1));
    }
    CHECK(symlink(".", in_tmp("l/loop")) == 0);
    CHECK(symlink("a.hea", in_tmp("l/z.hea")) == 0);
    struct file_list l;
    CHECK_OK(file_list_dir(&l, in_tmp("l"), ".hea", true));
    static const char *const wanted[] = {"a.hea", "b.hea", "sub/a.hea", "sub/deep/c.hea", "z.hea"};
    if (CHECK(l.n == 5))
        for (int i = 0; i < 5; i++) CHECK_STR(l.names[i], wanted[i]);
    file_list_free(&l);
    file_list_free(&l);
    CHECK_OK(file_list_dir(&l, in_tmp("l"), "", false));
    CHECK(l.n == 6);
    file_list_free(&l);
    CHECK_FAILS(file_list_dir(&l, in_tmp("none"), "", true), ECG_ERR_NOINPUT, "none");
    CHECK(!file_dir_is_empty(in_tmp("l")) && file_dir_is_empty(in_tmp("none")));
    CHECK_OK(file_remove_tree(in_tmp("l")));
    CHECK(!file_exists(in_tmp("l")));
    CHECK_OK(file_remove_tree(in_tmp("l")));
    CHECK_OK(file_mkdirs(in_tmp("l")));
    CHECK(file_dir_is_empty(in_tmp("l")) && file_is_dir(in_tmp("l")));
}

/* A link is removed, not what it leads to. */
static void remove_keeps_linked(void) {
    CHECK_OK(file_mkdirs(in_tmp("keep")));
    CHECK_OK(file_write(in_tmp("keep/x"), "x", 1));
    CHECK_OK(file_mkdirs(in_tmp("gone")));
    CHECK(symlink("../keep", in_tmp("gone/link")) == 0);
    CHECK_OK(file_remove_tree(in_tmp("gone")));
    CHECK(!file_exists(in_tmp("gone")) && holds(in_tmp("keep/x"), "x"));
}

static void joins(void) {
    static const char *const rows[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *path;
        CHECK_OK(file_join(&path, rows[i][0], rows[i][1]));
        CHECK_STR(path, rows[i][2]);
        free(path);
    }
}

int main(void) {
    CASE(read_whole);
    CASE(map);
    CASE(map_of_a_file_cut_short);
    CASE(whole_or_not_there);
    CASE(refused_outputs);
    CASE(full_disk);
    CASE(killed_writer);
    CASE(lists);
    CASE(remove_keeps_linked);
    CASE(joins);
    return check_finish();
}
