/* SPDX-License-Identifier: MIT
 * Files and folders over POSIX. An output is written under a name of its own beside the target and
 * renamed when it is whole and synced; the temporary name ends in ".tmp-PID-N", so that no list by
 * suffix ever takes it for data. */
#include "core/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include "core/mem.h"

/* Opens a plain file. O_NONBLOCK keeps a named pipe from stopping the program; on plain files it does
 * nothing. */
static enum ecg_status open_plain(const char *path, int *fd, struct stat *info) {
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) return ecg_fail(ECG_ERR_NOINPUT, "%s: %s", path, strerror(errno));
    enum ecg_status status = ECG_OK;
    if (fstat(*fd, info) != 0)
        status = ecg_fail(ECG_ERR_IO, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(info->st_mode))
        status = ecg_fail(ECG_ERR_DATA, "%s: not a plain file", path);
    if (status != ECG_OK) close(*fd);
    return status;
}

static enum ecg_status too_large(const char *path, size_t max_bytes) {
    return ecg_fail(ECG_ERR_DATA, "%s: larger than the %zu bytes allowed here", path, max_bytes);
}

enum ecg_status file_read(const char *path, size_t max_bytes, char **data, size_t *size) {
    enum ecg_status status = ECG_OK;
    int fd;
    struct stat info;
    char *text = NULL;
    size_t n = 0, cap = 0;
    *data = NULL;
    *size = 0;
    TRY(open_plain(path, &fd, &info));
    if ((uintmax_t)info.st_size > max_bytes) {
        status = too_large(path, max_bytes);
        goto out;
    }
    TRY_OUT(mem_grow((void **)&text, &cap, (size_t)info.st_size + 2, 1));
    /* To the end, not to st_size: the file may be growing, or be one of /proc that gives size 0. */
    for (;;) {
        ssize_t got = read(fd, text + n, cap - 1 - n);
        if (got == 0) break;
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            status = ecg_fail(ECG_ERR_IO, "%s: reading failed: %s", path, strerror(errno));
            goto out;
        }
        n += (size_t)got;
        if (n > max_bytes) {
            status = too_large(path, max_bytes);
            goto out;
        }
        if (n == cap - 1) TRY_OUT(mem_grow((void **)&text, &cap, cap + 1, 1));
    }
    text[n] = 0;
    *data = text;
    *size = n;
    text = NULL;
out:
    free(text);
    close(fd);
    return status;
}

/* The rest of a map's last page can be read; the address sanitizer is told that it must not be. */
#ifdef __SANITIZE_ADDRESS__
static void guard_rest(const struct file_map *m, bool on) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), rest = (page - m->size % page) % page;
    if (on)
        __asan_poison_memory_region(m->data + m->size, rest);
    else
        __asan_unpoison_memory_region(m->data + m->size, rest);
}
#else
static void guard_rest(const struct file_map *m, bool on) {
    (void)m, (void)on;
}
#endif

enum ecg_status file_map_open(struct file_map *m, const char *path) {
    int fd;
    struct stat info;
    *m = (struct file_map){0};
    TRY(open_plain(path, &fd, &info));
    enum ecg_status status = ECG_OK;
    if (info.st_size > 0) {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            status = ecg_fail(ECG_ERR_IO, "%s: can't map: %s", path, strerror(errno));
        else
            *m = (struct file_map){.data = data, .size = (size_t)info.st_size};
        if (m->data) guard_rest(m, true);
    }
    close(fd);
    return status;
}

void file_map_close(struct file_map *m) {
    if (m->data) {
        guard_rest(m, false);
        munmap((void *)m->data, m->size);
    }
    *m = (struct file_map){0};
}

void file_map_drop(const struct file_map *m, const void *from, size_t n) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), begin = (size_t)((const char *)from - m->data);
    size_t first = (begin + page - 1) / page * page, last = (begin + n) / page * page;
    if (last > first) madvise((void *)(m->data + first), last - first, MADV_DONTNEED);
}

/* Only what a signal handler may call. */
static void on_lost_page(int number, siginfo_t *info, void *context) {
    static const char text[] = "einthoven: error: a file that was being read became shorter\n";
    (void)context;
    if (info->si_code != BUS_ADRERR) { /* not ours: the access is repeated, and ends the program */
        signal(number, SIG_DFL);
        return;
    }
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(ecg_exit_code(ECG_ERR_IO));
    _exit(ecg_exit_code(ECG_ERR_IO));
}

void file_map_guard(void) {
    struct sigaction action = {.sa_sigaction = on_lost_page, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &action, NULL);
}

/* A target that exists must be a plain file: renaming over /dev/null or a folder is never meant. */
static enum ecg_status check_target(const char *path) {
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return ecg_fail(ECG_ERR_CREATE, "%s: exists and is not a plain file", path);
    return ECG_OK;
}

#define TEMPORARY ".tmp-"
#define DIGITS    "0123456789"

/* Creates "path.tmp-PID-N" with the first N that is free. */
static int create_temporary(const char *path, char *name, size_t size) {
    static atomic_uint serial;
    int fd;
    do {
        snprintf(name, size, "%s" TEMPORARY "%ld-%u", path, (long)getpid(),
                 atomic_fetch_add(&serial, 1u));
        fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (fd < 0 && errno == EEXIST);
    return fd;
}

enum ecg_status file_out_open(struct file_out *f, const char *path) {
    enum ecg_status status = ECG_OK;
    *f = (struct file_out){0};
    TRY(check_target(path));
    size_t size = strlen(path) + 64;
    TRY(mem_strdup(&f->path, path));
    char *name = NULL;
    int fd = -1;
    TRY_OUT(MEM_NEW(&name, size));
    fd = create_temporary(path, name, size);
    if (fd < 0) {
        status = ecg_fail(ECG_ERR_CREATE, "%s: can't create: %s", path, strerror(errno));
        goto out;
    }
    f->temporary = name;
    name = NULL;
    f->stream = fdopen(fd, "wb");
    if (!f->stream) {
        status = ecg_fail(ECG_ERR_CREATE, "%s: can't create: %s", path, strerror(errno));
        close(fd);
    }
out:
    free(name);
    if (status != ECG_OK) file_out_close(f);
    return status;
}

/* The folder that holds `path`, in fresh memory. */
static enum ecg_status folder_of(char **out, const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return mem_strdup(out, ".");
    TRY(mem_strdup(out, path));
    (*out)[slash == path ? 1 : slash - path] = 0;
    return ECG_OK;
}

static enum ecg_status write_failed(const char *path) {
    return ecg_fail(ECG_ERR_IO, "%s: writing failed: %s", path,
                    errno ? strerror(errno) : "is the disk full?");
}

enum ecg_status file_out_commit(struct file_out *f) {
    enum ecg_status status = ECG_OK;
    char *folder = NULL;
    errno = 0;
    bool bad = ferror(f->stream) != 0;
    bad = fflush(f->stream) != 0 || bad;
    bad = bad || fsync(fileno(f->stream)) != 0;
    if (bad) status = write_failed(f->path);
    if (fclose(f->stream) != 0 && !bad) status = write_failed(f->path);
    f->stream = NULL;
    if (status == ECG_OK && rename(f->temporary, f->path) != 0)
        status = ecg_fail(ECG_ERR_CREATE, "%s: can't rename %s to it: %s", f->path, f->temporary,
                          strerror(errno));
    if (status == ECG_OK) {
        free(f->temporary); /* it has become the target: nothing to remove any more */
        f->temporary = NULL;
        status = folder_of(&folder, f->path);
    }
    if (status == ECG_OK) status = file_sync_dir(folder);
    free(folder);
    file_out_close(f);
    return status;
}

void file_out_close(struct file_out *f) {
    if (f->stream) fclose(f->stream);
    if (f->temporary) unlink(f->temporary);
    free(f->temporary);
    free(f->path);
    *f = (struct file_out){0};
}

/* Bytes written at once: of a larger piece the kernel may make large pages of its cache, which then are in the memory of
 * whoever maps the file and reads a little of it. */
#define PIECE_BYTES ((size_t)1 << 20)

enum ecg_status file_write(const char *path, const void *data, size_t n) {
    struct file_out f;
    TRY(file_out_open(&f, path));
    for (size_t at = 0, piece; at < n; at += piece) {
        piece = n - at < PIECE_BYTES ? n - at : PIECE_BYTES;
        if (fwrite((const char *)data + at, 1, piece, f.stream) == piece) continue;
        enum ecg_status status = write_failed(path); /* here errno still has the reason */
        file_out_close(&f);
        return status;
    }
    return file_out_commit(&f);
}

bool file_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

bool file_is_dir(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static enum ecg_status make_dir(const char *path) {
    if (mkdir(path, 0777) == 0) return ECG_OK;
    int error = errno;
    if (file_is_dir(path)) return ECG_OK;
    return ecg_fail(ECG_ERR_CREATE, "%s: can't create the folder: %s", path, strerror(error));
}

enum ecg_status file_mkdirs(const char *path) {
    enum ecg_status status = ECG_OK;
    char *part;
    TRY(mem_strdup(&part, path));
    for (char *c = part + (*part == '/'); *c && status == ECG_OK; c++) {
        if (*c != '/') continue;
        *c = 0;
        status = make_dir(part);
        *c = '/';
    }
    if (status == ECG_OK) status = make_dir(path);
    free(part);
    return status;
}

enum ecg_status file_sync_dir(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* EINVAL: a file system that has no folder sync (some network ones); its rename is all there is. */
    bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);
    int error = errno;
    if (fd >= 0) close(fd);
    if (ok) return ECG_OK;
    return ecg_fail(ECG_ERR_IO, "%s: can't sync the folder: %s", path, strerror(error));
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info, (void)kind, (void)where;
    if (remove(path) == 0 || errno == ENOENT) return 0;
    ecg_fail(ECG_ERR_IO, "%s: can't remove: %s", path, strerror(errno));
    return 1;
}

enum ecg_status file_remove_tree(const char *path) {
    struct stat info;
    if (lstat(path, &info) != 0 && errno == ENOENT) return ECG_OK;
    int result = nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    if (result == 0) return ECG_OK;
    if (result > 0) return ECG_ERR_IO; /* remove_entry has set the message */
    return ecg_fail(ECG_ERR_IO, "%s: can't remove: %s", path, strerror(errno));
}

static bool is_dot_name(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

bool file_dir_is_empty(const char *path) {
    DIR *d = opendir(path);
    if (!d) return errno == ENOENT || errno == ENOTDIR;
    bool empty = true;
    struct dirent *e;
    while (empty && (e = readdir(d)) != NULL) empty = is_dot_name(e->d_name);
    closedir(d);
    return empty;
}

enum ecg_status file_join(char **out, const char *dir, const char *name) {
    size_t n = strlen(dir), size = n + strlen(name) + 2;
    TRY(MEM_NEW(out, size));
    snprintf(*out, size, "%s%s%s", dir, n == 0 || dir[n - 1] == '/' ? "" : "/", name);
    return ECG_OK;
}

static enum ecg_status list_add(struct file_list *l, char *name) {
    enum ecg_status status = mem_grow((void **)&l->names, &l->cap, l->n + 1, sizeof *l->names);
    if (status == ECG_OK)
        l->names[l->n++] = name;
    else
        free(name);
    return status;
}

static bool ends_with(const char *text, const char *suffix) {
    size_t n = strlen(text), k = strlen(suffix);
    return n >= k && strcmp(text + n - k, suffix) == 0;
}

enum entry_kind { ENTRY_FILE, ENTRY_FOLDER, ENTRY_LINK_TO_FOLDER };

static enum entry_kind entry_kind(int folder_fd, const char *name) {
    struct stat info;
    if (fstatat(folder_fd, name, &info, AT_SYMLINK_NOFOLLOW) != 0) return ENTRY_FILE;
    if (S_ISDIR(info.st_mode)) return ENTRY_FOLDER;
    if (S_ISLNK(info.st_mode) && fstatat(folder_fd, name, &info, 0) == 0 && S_ISDIR(info.st_mode))
        return ENTRY_LINK_TO_FOLDER;
    return ENTRY_FILE;
}

/* Lists the folder dir/below: names go to `l`, folders of a recursive list to `pending`. */
static enum ecg_status list_one(struct file_list *l, struct file_list *pending, const char *dir,
                                const char *below, const char *suffix, bool recursive) {
    enum ecg_status status = ECG_OK;
    char *path, *name;
    TRY(file_join(&path, dir, below));
    DIR *d = opendir(path);
    if (!d) {
        status = ecg_fail(ECG_ERR_NOINPUT, "%s: %s", path, strerror(errno));
        goto out;
    }
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(d);
        if (!e && errno != 0) status = ecg_fail(ECG_ERR_IO, "%s: %s", path, strerror(errno));
        if (!e) break;
        if (is_dot_name(e->d_name)) continue;
        enum entry_kind kind = recursive ? entry_kind(dirfd(d), e->d_name) : ENTRY_FILE;
        if (kind == ENTRY_LINK_TO_FOLDER) continue;
        if (kind == ENTRY_FILE && !ends_with(e->d_name, suffix)) continue;
        TRY_OUT(file_join(&name, below, e->d_name));
        TRY_OUT(list_add(kind == ENTRY_FOLDER ? pending : l, name));
    }
out:
    if (d) closedir(d);
    free(path);
    return status;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum ecg_status file_list_dir(struct file_list *l, const char *dir, const char *suffix,
                              bool recursive) {
    /* A list of folders still to do instead of recursion: one folder is open at a time. */
    struct file_list pending = {0};
    *l = (struct file_list){0};
    enum ecg_status status = list_one(l, &pending, dir, "", suffix, recursive);
    while (status == ECG_OK && pending.n > 0) {
        char *below = pending.names[--pending.n];
        status = list_one(l, &pending, dir, below, suffix, recursive);
        free(below);
    }
    file_list_free(&pending);
    if (status != ECG_OK)
        file_list_free(l);
    else if (l->n > 1)
        qsort(l->names, l->n, sizeof *l->names, compare_names);
    return status;
}

/* Whether a name is one that create_temporary gives. */
static bool is_temporary(const char *name) {
    const char *mark = NULL;
    for (const char *at = name; (at = strstr(at, TEMPORARY)) != NULL; at++) mark = at;
    if (!mark) return false;
    const char *pid = mark + strlen(TEMPORARY);
    size_t n = strspn(pid, DIGITS);
    if (n == 0 || pid[n] != '-') return false;
    const char *serial = pid + n + 1;
    n = strspn(serial, DIGITS);
    return n > 0 && serial[n] == '\0';
}

enum ecg_status file_remove_temporaries(const char *dir) {
    struct file_list files;
    TRY(file_list_dir(&files, dir, "", true));
    enum ecg_status status = ECG_OK;
    for (size_t i = 0; i < files.n && status == ECG_OK; i++) {
        if (!is_temporary(files.names[i])) continue;
        char *path = NULL;
        status = file_join(&path, dir, files.names[i]);
        if (status == ECG_OK) status = file_remove_tree(path);
        free(path);
    }
    file_list_free(&files);
    return status;
}

void file_list_free(struct file_list *l) {
    for (size_t i = 0; i < l->n; i++) free(l->names[i]);
    free(l->names);
    *l = (struct file_list){0};
}
