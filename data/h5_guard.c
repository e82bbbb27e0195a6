/* SPDX-License-Identifier: MIT
 * libhdf5 1.10 believes what it reads: one changed byte in a hundred, in files without checksums, makes it run out of
 * its buffers or for ever. So a child process looks first: it opens each file and goes through everything that we
 * might read later. If it dies or stands still, the file is damaged, and the program goes on with that message.
 *
 * The fork happens with the lock held, so that no other thread is inside HDF5 just then; the child runs on with this
 * one thread, and leaves by _exit. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/log.h"
#include "core/mem.h"
#include "data/h5_private.h"

#define PATIENCE_MS 60000 /* for one file */
#define MAX_NUMBERS                                                                                \
    65536 /* of a table that the child reads whole; of a larger one it reads a row */

/* ------------------------------------------------------------------ in the child */

struct name_list {
    char **v;
    size_t n, cap;
};

static void keep_name(struct name_list *list, const char *name) {
    if (mem_grow((void **)&list->v, &list->cap, list->n + 1, sizeof *list->v) != ECG_OK) return;
    if (mem_strdup(&list->v[list->n], name) == ECG_OK) list->n++;
}

static void free_names(struct name_list *list) {
    for (size_t i = 0; i < list->n; i++) free(list->v[i]);
    free(list->v);
}

static herr_t keep_link(hid_t group, const char *name, const H5L_info_t *info, void *list) {
    (void)group, (void)info;
    keep_name(list, name);
    return 0;
}

static herr_t keep_attribute(hid_t object, const char *name, const H5A_info_t *info, void *list) {
    (void)object, (void)info;
    keep_name(list, name);
    return 0;
}

static void look_at_attributes(struct h5_file *f, const char *object) {
    struct name_list names = {0};
    hsize_t from = 0;
    h5_begin();
    H5Aiterate_by_name(f->id, object, H5_INDEX_NAME, H5_ITER_NATIVE, &from, keep_attribute, &names,
                       H5P_DEFAULT);
    h5_end(ECG_OK);
    for (size_t i = 0; i < names.n; i++) {
        char *text;
        double number;
        if (h5_attr_text(f, object, names.v[i], &text, NULL) == ECG_OK) free(text);
        h5_attr_number(f, object, names.v[i], &number, NULL);
    }
    free_names(&names);
}

static enum ecg_status ignore_text(void *context, uint64_t row, const char *text, size_t n_bytes) {
    (void)context, (void)row, (void)text, (void)n_bytes;
    return ECG_OK;
}

static void look_at_numbers(struct h5_file *f, const char *name, const struct h5_info *info) {
    uint64_t in_row = 1, rows = info->ndim > 0 ? info->shape[0] : 1;
    for (int i = 1; i < info->ndim; i++)
        if (__builtin_mul_overflow(in_row, info->shape[i], &in_row)) return;
    if (in_row > MAX_NUMBERS) return;
    if (in_row > 0 && rows > MAX_NUMBERS / in_row) rows = 1;
    double *values;
    if (MEM_NEW(&values, in_row * rows) != ECG_OK) return;
    h5_read_f64(f, name, 0, rows, values);
    free(values);
}

/* Goes through the list of all chunks. */
static void look_at_chunks(struct h5_file *f, const char *name) {
    hsize_t n;
    h5_begin();
    hid_t dataset = H5Dopen2(f->id, name, H5P_DEFAULT);
    hid_t space = dataset >= 0 ? H5Dget_space(dataset) : -1;
    if (space >= 0) H5Dget_num_chunks(dataset, space, &n);
    h5_drop(space);
    h5_drop(dataset);
    h5_end(ECG_OK);
}

static void look_at_object(struct h5_file *f, const char *name) {
    struct h5_info info;
    look_at_attributes(f, name);
    if (h5_is_root(name) || h5_dataset_info(f, name, &info) != ECG_OK) return;
    if (info.chunk[0] > 0) look_at_chunks(f, name);
    if (info.type == H5_INT || info.type == H5_FLOAT) look_at_numbers(f, name, &info);
    // Fixed fields in one piece hold nothing that HDF5 would follow.
    if (info.type == H5_TEXT && info.ndim == 1 && (info.variable_text || !info.contiguous))
        h5_each_string(f, name, 0, info.shape[0], ignore_text, NULL);
}

static void look_at_file(const char *path) {
    struct h5_file *f;
    struct name_list names = {0};
    if (h5_open_guarded(&f, path) != ECG_OK) return;
    keep_name(&names, "/");
    h5_begin();
    H5Lvisit(f->id, H5_INDEX_NAME, H5_ITER_NATIVE, keep_link, &names);
    h5_end(ECG_OK);
    for (size_t i = 0; i < names.n; i++) look_at_object(f, names.v[i]);
    free_names(&names);
    h5_close(f);
}

/* Says one byte a file that was survived. */
static _Noreturn void child(const char *const *paths, size_t n, int report) {
    int nowhere = open("/dev/null", O_WRONLY);
    if (nowhere >= 0)
        dup2(nowhere, STDERR_FILENO); // a dying allocator's last words are not for the user
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    signal(SIGPIPE, SIG_DFL); // the parent may be gone
    for (size_t i = 0; i < n; i++) {
        look_at_file(paths[i]);
        while (write(report, "", 1) < 0 && errno == EINTR) continue;
    }
    _exit(0);
}

/* ------------------------------------------------------------------ in the parent */

/* How many files the child has reported when it ends, or stands still for too long. */
static size_t count_reports(int from, size_t n, bool *still) {
    size_t done = 0;
    char bytes[256];
    *still = false;
    while (done < n) {
        struct pollfd p = {.fd = from, .events = POLLIN};
        int ready = poll(&p, 1, PATIENCE_MS);
        if (ready < 0 && errno == EINTR) continue;
        *still = ready == 0;
        if (ready <= 0) break;
        ssize_t got = read(from, bytes, sizeof bytes);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        done += (size_t)got;
    }
    return done;
}

enum ecg_status h5_guard(const char *const *paths, size_t n) {
    int ends[2];
    if (n == 0) return ECG_OK;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return ecg_fail(ECG_ERR_FAIL, "can't make a pipe: %s", strerror(errno));
    h5_begin();
    pid_t pid = fork();
    if (pid == 0) {
        h5_end(ECG_OK);
        close(ends[0]);
        child(paths, n, ends[1]);
    }
    h5_end(ECG_OK);
    close(ends[1]);
    if (pid < 0) {
        log_warn("%s: HDF5 files are opened without a look by a second process: %s", paths[0],
                 strerror(errno));
        close(ends[0]);
        return ECG_OK;
    }
    bool still;
    size_t done = count_reports(ends[0], n, &still);
    close(ends[0]);
    if (done < n) kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
    if (done == n) return ECG_OK;
    return ecg_fail(ECG_ERR_DATA, "%s: is damaged: HDF5 %s on it", paths[done],
                    still ? "does not come to an end" : "crashes");
}
