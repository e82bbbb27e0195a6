/* SPDX-License-Identifier: MIT
 * JSON text to a tree of our own, over jansson. The copy gives constant-time access by index in the
 * file's order, and keeps jansson's header (whose names are ours too) in this one file. */
#include <jansson.h>
#include <stdio.h>

#include "core/json_tree.h"
#include "core/mem.h"

#define MAX_LEVELS 64
#define MAX_BYTES  (16u << 20)
#define MAX_VALUES (1u << 20)
#define MAX_NOTE   160 /* of a message */

static enum ecg_status copy_value(struct json *to, json_t *from, int level, const char *where);

static enum ecg_status copy_array(struct json *to, json_t *from, int level, const char *where) {
    size_t n = json_array_size(from);
    to->kind = JSON_KIND_ARRAY;
    TRY(MEM_NEW(&to->items, n));
    for (size_t i = 0; i < n; i++) {
        struct json *item = &to->items[to->n++];
        TRY(copy_value(item, json_array_get(from, i), level, where));
    }
    return ECG_OK;
}

static enum ecg_status copy_object(struct json *to, json_t *from, int level, const char *where) {
    size_t n = json_object_size(from);
    const char *key;
    json_t *value;
    to->kind = JSON_KIND_OBJECT;
    TRY(MEM_NEW(&to->items, n));
    TRY(MEM_NEW(&to->keys, n));
    json_object_foreach(from, key, value) {
        struct json *item = &to->items[to->n];
        TRY(mem_strdup(&to->keys[to->n++], key));
        TRY(copy_value(item, value, level, where));
    }
    return ECG_OK;
}

/* Children are counted before they are filled, so that what was copied before a failure can be freed. */
static enum ecg_status copy_value(struct json *to, json_t *from, int level, const char *where) {
    if (level > MAX_LEVELS)
        return ecg_fail(ECG_ERR_DATA, "%s: JSON nested deeper than %d levels", where, MAX_LEVELS);
    switch (json_typeof(from)) {
    case JSON_OBJECT:
        return copy_object(to, from, level + 1, where);
    case JSON_ARRAY:
        return copy_array(to, from, level + 1, where);
    case JSON_STRING:
        to->kind = JSON_KIND_STRING;
        return mem_strdup(&to->text, json_string_value(from));
    case JSON_INTEGER:
        to->kind = JSON_KIND_INTEGER;
        to->integer = json_integer_value(from);
        return ECG_OK;
    case JSON_REAL:
        to->kind = JSON_KIND_REAL;
        to->real = json_real_value(from);
        return ECG_OK;
    case JSON_TRUE:
    case JSON_FALSE:
        to->kind = JSON_KIND_BOOL;
        to->integer = json_typeof(from) == JSON_TRUE;
        return ECG_OK;
    case JSON_NULL:
        break;
    }
    to->kind = JSON_KIND_NULL;
    return ECG_OK;
}

/* An upper bound on the values in the text. jansson spends some 200 bytes on "{}", so without a limit a
 * small hostile file takes gigabytes. */
static size_t count_values(const char *text, size_t n) {
    size_t values = 1;
    for (size_t i = 0; i < n; i++) values += text[i] == ',' || text[i] == '[' || text[i] == '{';
    return values;
}

/* ' in "KEY"' for a place below a member of the root, "" for any other. */
static const char *member_at(char note[MAX_NOTE], const char *text, size_t place) {
    size_t depth = 0, key = 0,
           key_end = 0; /* the last string on the root's own level that a ':' followed */
    size_t begin = 0;
    note[0] = 0;
    for (size_t i = 0; i < place; i++) {
        if (text[i] == '"') {
            for (begin = ++i; i < place && text[i] != '"'; i++) i += text[i] == '\\';
            if (depth == 1 && i + 1 < place && text[i + 1] == ':') key = begin, key_end = i;
        } else if (text[i] == '{' || text[i] == '[') {
            depth++;
        } else if (text[i] == '}' || text[i] == ']') {
            depth -= depth > 0;
        }
    }
    int n = key_end - key < MAX_NOTE / 2 ? (int)(key_end - key) : MAX_NOTE / 2;
    if (depth > 1 && key) snprintf(note, MAX_NOTE, " in \"%.*s\"", n, text + key);
    return note;
}

enum ecg_status json_tree_parse(struct json *to, const char *text, size_t n, const char *where) {
    if (n > MAX_BYTES)
        return ecg_fail(ECG_ERR_DATA, "%s: %zu bytes of JSON; at most %u are read", where, n,
                        MAX_BYTES);
    if (count_values(text, n) > MAX_VALUES)
        return ecg_fail(ECG_ERR_DATA, "%s: more than %u values of JSON", where, MAX_VALUES);
    json_error_t error;
    json_t *parsed = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (!parsed && json_error_code(&error) == json_error_out_of_memory)
        return ecg_fail(ECG_ERR_NOMEM, "%s: out of memory", where);
    if (!parsed) {
        char note[MAX_NOTE];
        size_t place =
            error.position > 0 && (size_t)error.position < n ? (size_t)error.position : 0;
        return ecg_fail(ECG_ERR_DATA, "%s:%d:%d: %s%s", where, error.line, error.column, error.text,
                        member_at(note, text, place));
    }
    enum ecg_status status = copy_value(to, parsed, 0, where);
    json_decref(parsed);
    return status;
}
