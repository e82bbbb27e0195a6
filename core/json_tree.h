/* SPDX-License-Identifier: MIT
 * The tree that the parser (json_parse.c) builds and the accessors (json.c) read; nobody else includes
 * it. The two are apart because jansson's header uses the same names as ours. */
#ifndef CORE_JSON_TREE_H
#define CORE_JSON_TREE_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

enum json_kind {
    JSON_KIND_NULL,
    JSON_KIND_BOOL,
    JSON_KIND_INTEGER,
    JSON_KIND_REAL,
    JSON_KIND_STRING,
    JSON_KIND_ARRAY,
    JSON_KIND_OBJECT
};

struct json {
    enum json_kind kind;
    int64_t integer;    /* integer; bool: 0 or 1 */
    double real;
    char *text;         /* string */
    size_t n;           /* children */
    struct json *items; /* (n) array's items, object's values */
    char **keys;        /* (n) object's keys, in the file's order */
};

/* Parses into a zeroed value. After a failure it holds what was read so far, to be freed all the same. */
enum ecg_status json_tree_parse(struct json *to, const char *text, size_t n, const char *where);

#endif
