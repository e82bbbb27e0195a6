/* SPDX-License-Identifier: MIT
 * The accessors of a parsed document and the writer. The writer keeps only a flag for each level
 * (whether a comma is due), so that it can stream any amount without a tree. */
#include "core/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json_tree.h"
#include "core/mem.h"

#define MAX_WRITER_LEVELS ((int)(sizeof(((struct json_writer *)0)->first) / sizeof(bool)))

enum ecg_status json_parse(struct json **root, const char *text, size_t n, const char *where) {
    struct json *tree;
    *root = NULL;
    TRY(MEM_NEW(&tree, 1));
    enum ecg_status status = json_tree_parse(tree, text, n, where);
    if (status == ECG_OK)
        *root = tree;
    else
        json_free(tree);
    return status;
}

static void free_content(struct json *v) {
    for (size_t i = 0; i < v->n; i++) {
        free_content(&v->items[i]);
        if (v->keys) free(v->keys[i]);
    }
    free(v->items);
    free(v->keys);
    free(v->text);
}

void json_free(struct json *root) {
    if (!root) return;
    free_content(root);
    free(root);
}

static bool is_kind(const struct json *v, enum json_kind kind) {
    return v && v->kind == kind;
}

bool json_is_object(const struct json *v) {
    return is_kind(v, JSON_KIND_OBJECT);
}

bool json_is_array(const struct json *v) {
    return is_kind(v, JSON_KIND_ARRAY);
}

bool json_is_string(const struct json *v) {
    return is_kind(v, JSON_KIND_STRING);
}

bool json_is_integer(const struct json *v) {
    return is_kind(v, JSON_KIND_INTEGER);
}

bool json_is_number(const struct json *v) {
    return is_kind(v, JSON_KIND_INTEGER) || is_kind(v, JSON_KIND_REAL);
}

bool json_is_null(const struct json *v) {
    return is_kind(v, JSON_KIND_NULL);
}

bool json_is_bool(const struct json *v) {
    return is_kind(v, JSON_KIND_BOOL);
}

const struct json *json_get(const struct json *object, const char *key) {
    if (!json_is_object(object)) return NULL;
    for (size_t i = 0; i < object->n; i++)
        if (strcmp(object->keys[i], key) == 0) return &object->items[i];
    return NULL;
}

size_t json_size(const struct json *array_or_object) {
    return array_or_object ? array_or_object->n : 0;
}

const struct json *json_at(const struct json *array, size_t i) {
    return json_is_array(array) && i < array->n ? &array->items[i] : NULL;
}

const char *json_key_at(const struct json *object, size_t i) {
    return json_is_object(object) && i < object->n ? object->keys[i] : NULL;
}

const struct json *json_value_at(const struct json *object, size_t i) {
    return json_is_object(object) && i < object->n ? &object->items[i] : NULL;
}

const char *json_string(const struct json *v) {
    return json_is_string(v) ? v->text : NULL;
}

int64_t json_integer(const struct json *v) {
    return json_is_integer(v) ? v->integer : 0;
}

double json_number(const struct json *v) {
    if (json_is_integer(v)) return (double)v->integer;
    return is_kind(v, JSON_KIND_REAL) ? v->real : NAN;
}

bool json_bool(const struct json *v) {
    return json_is_bool(v) && v->integer;
}

/* Writer. */

static void put_bytes(struct json_writer *w, const char *bytes, size_t n) {
    if (w->failed || mem_grow((void **)&w->text, &w->cap, w->n + n + 1, 1) != ECG_OK) {
        w->failed = true;
        return;
    }
    memcpy(w->text + w->n, bytes, n);
    w->n += n;
    w->text[w->n] = 0;
}

static void put_text(struct json_writer *w, const char *text) {
    put_bytes(w, text, strlen(text));
}

static void put_indent(struct json_writer *w) {
    if (!w->pretty) return;
    put_text(w, "\n");
    for (int i = 0; i < w->depth; i++) put_text(w, "  ");
}

/* What stands before a value or a key: a comma where one is due, the indent. */
static void put_separator(struct json_writer *w) {
    if (w->after_key) {
        w->after_key = false;
        return;
    }
    if (w->depth == 0) return;
    if (!w->first[w->depth - 1]) put_text(w, ",");
    w->first[w->depth - 1] = false;
    put_indent(w);
}

static void begin(struct json_writer *w, const char *bracket) {
    put_separator(w);
    put_text(w, bracket);
    if (w->depth == MAX_WRITER_LEVELS) {
        w->failed = true;
        return;
    }
    w->first[w->depth++] = true;
}

static void end(struct json_writer *w, const char *bracket) {
    if (w->depth == 0) {
        w->failed = true;
        return;
    }
    bool empty = w->first[--w->depth];
    if (!empty) put_indent(w);
    put_text(w, bracket);
}

void json_begin_object(struct json_writer *w) {
    begin(w, "{");
}

void json_end_object(struct json_writer *w) {
    end(w, "}");
}

void json_begin_array(struct json_writer *w) {
    begin(w, "[");
}

void json_end_array(struct json_writer *w) {
    end(w, "]");
}

size_t json_utf8_length(const char *text) {
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80) return 1;
    size_t n = s[0] >= 0xC2 && s[0] < 0xE0 ? 2 : (s[0] & 0xF0) == 0xE0 ? 3 : 0;
    if (s[0] >= 0xF0 && s[0] < 0xF5) n = 4;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    if (s[0] == 0xE0 && s[1] < 0xA0) return 0;
    if (s[0] == 0xED && s[1] >= 0xA0) return 0;
    if (s[0] == 0xF0 && s[1] < 0x90) return 0;
    if (s[0] == 0xF4 && s[1] >= 0x90) return 0;
    return n;
}

static void put_quoted(struct json_writer *w, const char *text) {
    char escape[8];
    put_text(w, "\"");
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        size_t n = json_utf8_length((const char *)s);
        if (n == 0) {
            put_text(w, "\xEF\xBF\xBD");
            n = 1;
        } else if (*s == '"' || *s == '\\') {
            snprintf(escape, sizeof escape, "\\%c", *s);
            put_text(w, escape);
        } else if (*s < 0x20 || *s == 0x7F) {
            snprintf(escape, sizeof escape, "\\u%04x", *s);
            put_text(w, escape);
        } else {
            put_bytes(w, (const char *)s, n);
        }
        s += n;
    }
    put_text(w, "\"");
}

void json_put_key(struct json_writer *w, const char *key) {
    put_separator(w);
    put_quoted(w, key);
    put_text(w, w->pretty ? ": " : ":");
    w->after_key = true;
}

void json_put_string(struct json_writer *w, const char *text) {
    put_separator(w);
    put_quoted(w, text);
}

void json_put_integer(struct json_writer *w, int64_t v) {
    char number[32];
    snprintf(number, sizeof number, "%lld", (long long)v);
    put_separator(w);
    put_text(w, number);
}

void json_put_number(struct json_writer *w, double v) {
    char number[40];
    snprintf(number, sizeof number, "%.17g", v);
    put_separator(w);
    put_text(w, isfinite(v) ? number : "null");
}

void json_put_bool(struct json_writer *w, bool v) {
    put_separator(w);
    put_text(w, v ? "true" : "false");
}

void json_put_null(struct json_writer *w) {
    put_separator(w);
    put_text(w, "null");
}

enum ecg_status json_writer_take(struct json_writer *w, char **text) {
    *text = NULL;
    if (!w->text || w->pretty) put_text(w, w->pretty ? "\n" : "");
    bool whole = !w->failed && w->depth == 0 && !w->after_key;
    if (whole) {
        *text = w->text;
        w->text = NULL;
    }
    json_writer_free(w);
    if (whole) return ECG_OK;
    return ecg_fail(ECG_ERR_NOMEM,
                    "JSON text is not whole: out of memory, or nested wrongly or "
                    "deeper than %d levels",
                    MAX_WRITER_LEVELS);
}

void json_writer_free(struct json_writer *w) {
    free(w->text);
    *w = (struct json_writer){.pretty = w->pretty};
}
