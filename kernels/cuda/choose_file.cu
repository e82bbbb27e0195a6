/* SPDX-License-Identifier: MIT
 * The file that keeps which convolutions are faster how: a line that names its version, a line a choice, and a last line with the
 * checksum of all before it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "kernels/cuda/choose.h"

/* Raised when kernels change so much that old times mean nothing. */
#define HEADER   "einthoven convolutions 1\n"
#define MAX_FILE ((size_t)4 << 20)
#define MAX_LINE 256

enum ecg_status choices_add(struct conv_choices *choices, struct conv_choice one) {
    if (choices->n == choices->room) {
        const int room = choices->room > 0 ? 2 * choices->room : 64;
        void *v = realloc(choices->v, (size_t)room * sizeof one);
        if (!v) return ecg_fail(ECG_ERR_NOMEM, "out of memory: %d choices", room);
        choices->v = (struct conv_choice *)v;
        choices->room = room;
    }
    choices->v[choices->n++] = one;
    return ECG_OK;
}

/* ------------------------------------------------------------------ its name */

/* Appends text; all that is no letter, digit, dot or dash becomes '_'. */
static void append(char *out, size_t n, const char *text) {
    size_t at = strlen(out);
    for (; *text && at + 1 < n; text++) {
        const char c = *text;
        const int plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                          (c >= 'A' && c <= 'Z') || c == '.' || c == '-';
        out[at++] = plain ? c : '_';
    }
    out[at] = '\0';
}

/* The cache folder's own path, made; 0 when there is none. */
static int make_folder(char *out, size_t n) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length;
    if (cache && cache[0] == '/')
        length = snprintf(out, n, "%s", cache);
    else if (home && home[0] == '/')
        length = snprintf(out, n, "%s/.cache", home);
    else
        return 0;
    if (length < 0 || (size_t)length + sizeof "/einthoven" > n) return 0;
    if (mkdir(out, 0777) != 0 && errno != EEXIST) return 0;
    memcpy(out + length, "/einthoven", sizeof "/einthoven");
    return mkdir(out, 0777) == 0 || errno == EEXIST;
}

void choices_file(char *out, size_t n, const struct vendor *v) {
    struct cudaDeviceProp prop;
    char name[400] = "conv-", folder[3500], driver[32];
    int version = 0;
    out[0] = '\0';
    if (cudaGetDeviceProperties(&prop, 0) != cudaSuccess ||
        cudaDriverGetVersion(&version) != cudaSuccess || !make_folder(folder, sizeof folder)) {
        log_warn("kernels.conv auto: no cache folder (XDG_CACHE_HOME, HOME): choices are not kept");
        return;
    }
    snprintf(driver, sizeof driver, "-driver-%d.%d", version / 1000, version % 1000 / 10);
    append(name, sizeof name, prop.name);
    append(name, sizeof name, driver);
    append(name, sizeof name, "-cublas-");
    append(name, sizeof name, vendor_cublas_version(v));
    append(name, sizeof name, "-cudnn-");
    append(name, sizeof name, vendor_cudnn_version(v));
    snprintf(out, n, "%s/%s.txt", folder, name);
}

/* ------------------------------------------------------------------ its contents */

static uint64_t checksum(const char *text, size_t n) {
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)text[i]) * 0x100000001b3u;
    return h;
}

static int put_choice(char *out, size_t n, const struct conv_choice *c) {
    const struct ops_conv s = c->s;
    return snprintf(out, n, "%s %d %d %d %d %d %d %d %d %d %s %s %.1f %.1f\n",
                    c->dtype == OPS_F32 ? "fp32" : "bf16", s.B, s.Lin, s.Lout, s.Cin, s.Cout, s.K,
                    s.S, s.G, s.P, c->backward ? "backward" : "forward",
                    c->cudnn ? "cudnn" : "custom", c->custom_us, c->cudnn_us);
}

/* 1: a and b are text; which of them it is goes to *is_b. */
static int one_of(const char *text, const char *a, const char *b, int *is_b) {
    *is_b = strcmp(text, b) == 0;
    return *is_b || strcmp(text, a) == 0;
}

static int get_choice(const char *line, struct conv_choice *c) {
    char dtype[8], pass[16], way[16];
    struct ops_conv *s = &c->s;
    int bf16;
    if (sscanf(line, "%7s %d %d %d %d %d %d %d %d %d %15s %15s %lf %lf", dtype, &s->B, &s->Lin,
               &s->Lout, &s->Cin, &s->Cout, &s->K, &s->S, &s->G, &s->P, pass, way, &c->custom_us,
               &c->cudnn_us) != 14)
        return 0;
    if (!one_of(dtype, "fp32", "bf16", &bf16) || !one_of(pass, "forward", "backward", &c->backward))
        return 0;
    c->dtype = bf16 ? OPS_BF16 : OPS_F32;
    return one_of(way, "custom", "cudnn", &c->cudnn);
}

/* The checksum's line is the last, and right. Cuts it off. */
static int is_whole(char *text, size_t n) {
    char line[32];
    if (n < sizeof(HEADER) - 1 || memcmp(text, HEADER, sizeof(HEADER) - 1) != 0) return 0;
    if (text[n - 1] != '\n') return 0;
    size_t at = n - 1;
    while (at > 0 && text[at - 1] != '\n') at--;
    snprintf(line, sizeof line, "sum %016" PRIx64 "\n", checksum(text, at));
    if (strcmp(text + at, line) != 0) return 0;
    text[at] = '\0';
    return 1;
}

static int parse(char *text, size_t n, struct conv_choices *out, enum ecg_status *status) {
    if (memchr(text, '\0', n) || !is_whole(text, n)) return 0;
    for (char *line = text + sizeof(HEADER) - 1; *line;) {
        struct conv_choice c;
        char *end = strchr(line, '\n');
        if (!get_choice(line, &c)) return 0;
        *status = choices_add(out, c);
        if (*status != ECG_OK) return 0;
        line = end + 1;
    }
    return 1;
}

enum ecg_status choices_read(struct conv_choices *out, const char *file) {
    enum ecg_status status = ECG_OK;
    FILE *f = file[0] ? fopen(file, "rb") : NULL;
    if (!f) return ECG_OK;
    char *text = (char *)malloc(MAX_FILE + 1);
    if (!text) {
        fclose(f);
        return ecg_fail(ECG_ERR_NOMEM, "out of memory: %zu bytes", MAX_FILE + 1);
    }
    const size_t n = fread(text, 1, MAX_FILE + 1, f);
    fclose(f);
    text[n <= MAX_FILE ? n : MAX_FILE] = '\0';
    if (n > MAX_FILE || !parse(text, n, out, &status)) {
        out->n = 0;
        log_warn("%s is damaged: its choices are made anew", file);
    }
    free(text);
    return status;
}

/* ------------------------------------------------------------------ writing */

static int write_all(int fd, const char *text, size_t n) {
    while (n > 0) {
        const ssize_t written = write(fd, text, n);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return 0;
        text += written;
        n -= (size_t)written;
    }
    return 1;
}

/* Beside the file, then in its place. */
static int replace(const char *file, const char *text, size_t n) {
    char temporary[4200];
    snprintf(temporary, sizeof temporary, "%s.%ld.tmp", file, (long)getpid());
    const int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return 0;
    int ok = write_all(fd, text, n) && fsync(fd) == 0;
    ok = close(fd) == 0 && ok;
    if (ok && rename(temporary, file) == 0) return 1;
    const int error = errno;
    unlink(temporary);
    errno = error;
    return 0;
}

void choices_write(const struct conv_choices *choices, char *file) {
    if (!file[0]) return;
    const size_t room = sizeof(HEADER) + (size_t)(choices->n + 1) * MAX_LINE;
    char *text = (char *)malloc(room);
    if (!text) return;
    size_t n = (size_t)snprintf(text, room, "%s", HEADER);
    for (int i = 0; i < choices->n; i++)
        if (choices->v[i].cudnn_us > 0) n += (size_t)put_choice(text + n, room - n, &choices->v[i]);
    n += (size_t)snprintf(text + n, room - n, "sum %016" PRIx64 "\n", checksum(text, n));
    if (!replace(file, text, n)) {
        log_warn("kernels.conv auto: %s: %s: choices are not kept", file, strerror(errno));
        file[0] = '\0';
    }
    free(text);
}
