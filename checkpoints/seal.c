/* SPDX-License-Identifier: MIT
 * The seal. The hash of state.json itself stands in it, so its last line is written and compared as text. */
#include "checkpoints/seal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/mem.h"

#define MAX_BYTES  ((size_t)1 << 20)
#define FILES      "files"
#define SIZE       "bytes"
#define HASH       "xxhash64"
#define LAST_LINE  ",\n  \"" HASH "\": \"%016llx\"\n}\n"
#define LINE_BYTES 64 /* bytes of the last line */

static void hex(char text[17], uint64_t hash) {
    snprintf(text, 17, "%016llx", (unsigned long long)hash);
}

/* The last line of a text whose first n bytes are what it seals. */
static void last_line(char line[LINE_BYTES], const char *text, size_t n) {
    snprintf(line, LINE_BYTES, LAST_LINE, (unsigned long long)hash_bytes(text, n));
}

static void put_file(struct json_writer *w, const struct seal_file *f) {
    char text[17];
    hex(text, hash_bytes(f->data, f->n));
    json_put_key(w, f->name);
    json_begin_object(w);
    json_put_key(w, SIZE);
    json_put_integer(w, (int64_t)f->n);
    json_put_key(w, HASH);
    json_put_string(w, text);
    json_end_object(w);
}

enum ecg_status seal_text(struct json_writer *w, const struct seal_file *files, size_t n,
                          char **text) {
    static const char end[] = "\n}\n"; /* of a pretty object; the last line takes its place */
    char line[LINE_BYTES], *open = NULL;
    *text = NULL;
    json_put_key(w, FILES);
    json_begin_object(w);
    for (size_t i = 0; i < n; i++) put_file(w, &files[i]);
    json_end_object(w);
    json_end_object(w);
    TRY(json_writer_take(w, &open));
    size_t kept = strlen(open) - strlen(end);
    enum ecg_status status = MEM_NEW(text, kept + sizeof line);
    if (status == ECG_OK) {
        last_line(line, open, kept);
        memcpy(*text, open, kept);
        memcpy(*text + kept, line, strlen(line) + 1);
    }
    free(open);
    return status;
}

static enum ecg_status check_last_line(const char *path, const char *text, size_t n) {
    char line[LINE_BYTES];
    last_line(line, text, 0);
    size_t length = strlen(line);
    if (n >= length) last_line(line, text, n - length);
    if (n >= length && memcmp(text + n - length, line, length) == 0) return ECG_OK;
    return ecg_fail(ECG_ERR_DATA, "%s: its last line is not the checksum of what stands before",
                    path);
}

static enum ecg_status check_file(const char *dir, const char *name, const struct json *sealed) {
    const struct json *size = json_get(sealed, SIZE), *sum = json_get(sealed, HASH);
    char *path = NULL, text[17];
    struct stat info;
    uint64_t hash;
    enum ecg_status status = ECG_OK;
    if (strchr(name, '/') != NULL || !json_is_integer(size) || !json_is_string(sum))
        return ecg_fail(ECG_ERR_DATA, "%s/state.json: " FILES ": %.100s is not sealed as it should",
                        dir, name);
    TRY_OUT(file_join(&path, dir, name));
    if (stat(path, &info) != 0) TRY_OUT(ecg_fail(ECG_ERR_NOINPUT, "%s: %s", path, strerror(errno)));
    if (info.st_size != json_integer(size))
        TRY_OUT(ecg_fail(ECG_ERR_DATA, "%s: has %lld bytes, not the %lld that were written", path,
                         (long long)info.st_size, (long long)json_integer(size)));
    TRY_OUT(hash_file(path, &hash));
    hex(text, hash);
    if (strcmp(text, json_string(sum)) != 0)
        TRY_OUT(ecg_fail(ECG_ERR_DATA,
                         "%s: its bytes are not those that were written (xxHash64 %s, not %s)",
                         path, text, json_string(sum)));
out:
    free(path);
    return status;
}

enum ecg_status seal_check(const char *dir) {
    char *path = NULL, *text = NULL;
    size_t n = 0;
    struct json *root = NULL;
    enum ecg_status status;
    TRY_OUT(file_join(&path, dir, "state.json"));
    TRY_OUT(file_read(path, MAX_BYTES, &text, &n));
    TRY_OUT(check_last_line(path, text, n));
    TRY_OUT(json_parse(&root, text, n, path));
    const struct json *files = json_get(root, FILES);
    if (files == NULL || !json_is_object(files))
        TRY_OUT(ecg_fail(ECG_ERR_DATA, "%s: " FILES " is missing or no object", path));
    for (size_t i = 0; i < json_size(files); i++)
        TRY_OUT(check_file(dir, json_key_at(files, i), json_value_at(files, i)));
out:
    json_free(root);
    free(text);
    free(path);
    return status;
}
