/* SPDX-License-Identifier: MIT
 * YAML documents as a tree with line numbers, over libyaml's events. One document a file; aliases,
 * tags, duplicate keys, non-scalar keys, too many levels, bytes or values are errors (78, with
 * file:line:column). An empty document is a null. */
#ifndef CORE_YAML_H
#define CORE_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

/* Hidden: libyaml has a yaml_free of its own, which ours must never stand in for at link time. */
#pragma GCC visibility push(hidden)

#define YAML_MAX_LEVELS 64
#define YAML_MAX_BYTES  (8u << 20)
#define YAML_MAX_VALUES (1u << 20) /* scalars, lists and maps; of each some 200 bytes are kept */

enum yaml_kind { YAML_SCALAR, YAML_LIST, YAML_MAP };

struct yaml_node {
    enum yaml_kind kind;
    char *text;               /* scalar: its text */
    bool quoted;              /* scalar: '...' or "..." or block: always a string */
    int line, column;         /* 1-based */
    int key_line, key_column; /* where its key stands, when it is a value of a map; else 0 */
    size_t n;                 /* children */
    struct yaml_node **items; /* list items, map values */
    char **keys;              /* map: n keys */
};

/* Parses n bytes; `where` names the source in messages. Freed by yaml_free. */
enum ecg_status yaml_parse(struct yaml_node **root, const char *text, size_t n, const char *where);
enum ecg_status yaml_parse_file(struct yaml_node **root, const char *path); /* missing file: ECG_ERR_NOINPUT */
void yaml_free(struct yaml_node *root); /* NULL is fine */
enum ecg_status yaml_copy(struct yaml_node **copy, const struct yaml_node *v); /* the whole tree below v */

const struct yaml_node *yaml_get(const struct yaml_node *map, const char *key); /* NULL: not there */
bool yaml_is_null(const struct yaml_node *v); /* plain null, ~ or empty */

/* Typed reads of a scalar, YAML 1.2 core schema read strictly: numbers as 1, -2, 1e-4, .5, nan is no
 * number; bools true and false only. False when it is not one; no message is set. */
bool yaml_bool(const struct yaml_node *v, bool *out);
bool yaml_integer(const struct yaml_node *v, int64_t *out);
bool yaml_number(const struct yaml_node *v, double *out);

#pragma GCC visibility pop

#endif
