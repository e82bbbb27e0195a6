/* SPDX-License-Identifier: MIT
 * JSON in (a tree over jansson; duplicate keys refused, depth and size limited) and out (a writer that
 * needs no tree). Doubles are written with 17 digits, so they read back bit for bit; NaN and infinities
 * become null. */
#ifndef CORE_JSON_H
#define CORE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

/* Hidden: jansson has a json_string and a json_integer of its own, which ours must never stand in for at
 * link time. */
#pragma GCC visibility push(hidden)

struct json; /* a value of a parsed document; owned by the document's root */

/* Parses exactly n bytes of UTF-8. `where` names the source in messages ("model.safetensors: header").
 * Bad JSON, a duplicate key (also in which member of the root), an escaped NUL, an integer beyond 64 bits, more than 64 levels, a million
 * values (commas and brackets) or 16 MiB: ECG_ERR_DATA with where:line:column. */
enum ecg_status json_parse(struct json **root, const char *text, size_t n, const char *where);
void json_free(struct json *root); /* the root only; NULL is fine */

bool json_is_object(const struct json *v);
bool json_is_array(const struct json *v);
bool json_is_string(const struct json *v);
bool json_is_integer(const struct json *v);
bool json_is_number(const struct json *v); /* integer or real */
bool json_is_null(const struct json *v);
bool json_is_bool(const struct json *v);

const struct json *json_get(const struct json *object, const char *key); /* NULL: not there */
size_t json_size(const struct json *array_or_object);
const struct json *json_at(const struct json *array, size_t i);
/* Members in the file's order: i of [0, json_size). */
const char *json_key_at(const struct json *object, size_t i);
const struct json *json_value_at(const struct json *object, size_t i);
const char *json_string(const struct json *v);  /* NULL when not a string */
int64_t json_integer(const struct json *v);     /* 0 when not an integer */
double json_number(const struct json *v);       /* NaN when not a number */
bool json_bool(const struct json *v);

/* Writer to a growing string. Commas and quoting are its own business; nesting up to 32. */
struct json_writer {
    char *text; /* 0-terminated */
    size_t n, cap;
    int depth;
    bool first[32];
    bool after_key;
    bool pretty; /* newlines, one at the end too, and two-space indents; set before the first call */
    bool failed; /* out of memory; reported by json_writer_take */
};
void json_begin_object(struct json_writer *w);
void json_end_object(struct json_writer *w);
void json_begin_array(struct json_writer *w);
void json_end_array(struct json_writer *w);
void json_put_key(struct json_writer *w, const char *key);
void json_put_string(struct json_writer *w, const char *text); /* invalid UTF-8 bytes become U+FFFD */
void json_put_integer(struct json_writer *w, int64_t v);
void json_put_number(struct json_writer *w, double v);
void json_put_bool(struct json_writer *w, bool v);
void json_put_null(struct json_writer *w);
/* Bytes of the valid UTF-8 character at s (no overlong form, no surrogate, up to U+10FFFF), which ends in a 0; 0: none. */
size_t json_utf8_length(const char *s);
/* Hands the text to the caller (free()), resets the writer. */
enum ecg_status json_writer_take(struct json_writer *w, char **text);
void json_writer_free(struct json_writer *w);

#pragma GCC visibility pop

#endif
