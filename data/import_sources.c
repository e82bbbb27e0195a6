/* SPDX-License-Identifier: MIT
 * A source is told by what is there: a folder, a header, a header of that name plus ".hea", else a
 * list. */
#include "data/import_sources.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"

static const size_t max_list_bytes = (size_t)1 << 30;

static bool is_header(const char *path) {
    size_t n = strlen(path);
    return n > 4 && strcmp(path + n - 4, ".hea") == 0;
}

/* Takes ownership of both strings, also on failure. */
static enum ecg_status add(struct source_list *l, char *path, char *id) {
    enum ecg_status status =
        mem_grow((void **)&l->paths, &l->cap_paths, l->n + 1, sizeof *l->paths);
    if (status == ECG_OK)
        status = mem_grow((void **)&l->ids, &l->cap_ids, l->n + 1, sizeof *l->ids);
    if (status != ECG_OK) {
        free(path);
        free(id);
        return status;
    }
    if (is_header(id)) id[strlen(id) - 4] = '\0';
    l->paths[l->n] = path;
    l->ids[l->n++] = id;
    return ECG_OK;
}

/* The record `name` below `folder`; its id is `name` without leading "./" and "/". */
static enum ecg_status add_record(struct source_list *l, const char *folder, const char *name) {
    char *path, *id;
    if (name[0] == '/')
        TRY(mem_strdup(&path, name));
    else
        TRY(file_join(&path, folder, name));
    while (name[0] == '/' || (name[0] == '.' && name[1] == '/')) name++;
    enum ecg_status status = mem_strdup(&id, name);
    if (status == ECG_OK) return add(l, path, id);
    free(path);
    return status;
}

/* All headers below base/below; ids start with `below`. */
static enum ecg_status add_folder(struct source_list *l, const char *base, const char *below) {
    struct file_list files = {0};
    char *folder = NULL, *name = NULL;
    enum ecg_status status = ECG_OK;
    if (below[0] == '/')
        TRY_OUT(mem_strdup(&folder, below));
    else
        TRY_OUT(file_join(&folder, base, below));
    TRY_OUT(file_list_dir(&files, folder, ".hea", true));
    for (size_t i = 0; i < files.n; i++) {
        TRY_OUT(file_join(&name, below, files.names[i]));
        TRY_OUT(add_record(l, base, name));
        free(name);
        name = NULL;
    }
out:
    free(name);
    free(folder);
    file_list_free(&files);
    return status;
}

/* The folder part of a path, "." when it has none; the name part in *name. */
static enum ecg_status split(const char *path, char **folder, const char **name) {
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    return *folder ? ECG_OK : ecg_fail(ECG_ERR_NOMEM, "out of memory");
}

static enum ecg_status add_line(struct source_list *l, const char *folder, char *line) {
    while (isspace((unsigned char)*line)) line++;
    size_t n = strlen(line);
    while (n > 0 && isspace((unsigned char)line[n - 1])) line[--n] = '\0';
    if (n == 0 || line[0] == '#') return ECG_OK;
    char *path;
    if (line[0] == '/')
        TRY(mem_strdup(&path, line));
    else
        TRY(file_join(&path, folder, line));
    bool is_folder = file_is_dir(path);
    free(path);
    return is_folder ? add_folder(l, folder, line) : add_record(l, folder, line);
}

static enum ecg_status add_list(struct source_list *l, const char *path) {
    char *text = NULL, *folder = NULL;
    const char *name;
    size_t size;
    enum ecg_status status;
    TRY_OUT(file_read(path, max_list_bytes, &text, &size));
    if (memchr(text, '\0', size)) {
        status = ecg_fail(ECG_ERR_DATA, "%s: neither a folder, a WFDB header nor a list of records",
                          path);
        goto out;
    }
    TRY_OUT(split(path, &folder, &name));
    for (char *line = text, *end; *line; line = end) {
        end = line + strcspn(line, "\n");
        if (*end) *end++ = '\0';
        TRY_OUT(add_line(l, folder, line));
    }
out:
    free(text);
    free(folder);
    return status;
}

static enum ecg_status add_source(struct source_list *l, const char *source) {
    if (file_is_dir(source)) return add_folder(l, source, "");
    char *folder = NULL, *header = NULL;
    const char *name;
    enum ecg_status status;
    TRY_OUT(split(source, &folder, &name));
    TRY_OUT(mem_alloc((void **)&header, strlen(source) + 5, 1));
    strcat(strcpy(header, source), ".hea");
    if (is_header(source) || file_exists(header))
        status = file_exists(source) || file_exists(header)
                     ? add_record(l, folder, name)
                     : ecg_fail(ECG_ERR_NOINPUT, "%s: no such file", source);
    else
        status = add_list(l, source);
out:
    free(folder);
    free(header);
    return status;
}

enum ecg_status source_list_find(struct source_list *l, char *const *sources, int n_sources) {
    *l = (struct source_list){0};
    enum ecg_status status = ECG_OK;
    for (int i = 0; i < n_sources; i++) TRY_OUT(add_source(l, sources[i]));
    if (l->n == 0)
        status = ecg_fail(ECG_ERR_NOINPUT, "%s: no WFDB record (.hea) found",
                          n_sources ? sources[0] : "");
out:
    if (status != ECG_OK) source_list_free(l);
    return status;
}

void source_list_free(struct source_list *l) {
    for (size_t i = 0; i < l->n; i++) {
        free(l->paths[i]);
        free(l->ids[i]);
    }
    free(l->paths);
    free(l->ids);
    *l = (struct source_list){0};
}
