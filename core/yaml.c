/* SPDX-License-Identifier: MIT
 * libyaml's events to a tree. The open collections stand on a stack of fixed depth, so nesting costs no
 * recursion and ends in an error, not in a crash. Anything that would make a config mean more than it
 * says (aliases, tags, a second document) is refused. */
#include "core/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "core/file.h"
#include "core/mem.h"

struct builder {
    const char *where;
    struct yaml_node *root;
    struct yaml_node *open[YAML_MAX_LEVELS]; /* maps and lists not closed yet, outermost first */
    size_t item_cap[YAML_MAX_LEVELS], key_cap[YAML_MAX_LEVELS];
    int depth;
    size_t n_values;
    char *key; /* the innermost map's key whose value comes next */
    int key_line, key_column;
};

static enum ecg_status refuse(const struct builder *b, yaml_mark_t at, const char *what) {
    return ecg_fail(ECG_ERR_CONFIG, "%s:%zu:%zu: %s", b->where, at.line + 1, at.column + 1, what);
}

/* Hangs a value into the innermost open collection, or makes it the root. */
static enum ecg_status attach(struct builder *b, struct yaml_node *v, yaml_mark_t at) {
    if (b->depth == 0) {
        if (b->root) return refuse(b, at, "more than one document");
        b->root = v;
        return ECG_OK;
    }
    struct yaml_node *parent = b->open[b->depth - 1];
    size_t *item_cap = &b->item_cap[b->depth - 1], *key_cap = &b->key_cap[b->depth - 1];
    TRY(mem_grow((void **)&parent->items, item_cap, parent->n + 1, sizeof *parent->items));
    if (parent->kind == YAML_MAP) {
        TRY(mem_grow((void **)&parent->keys, key_cap, parent->n + 1, sizeof *parent->keys));
        v->key_line = b->key_line;
        v->key_column = b->key_column;
        parent->keys[parent->n] = b->key;
        b->key = NULL;
    }
    parent->items[parent->n++] = v;
    return ECG_OK;
}

static enum ecg_status add_node(struct builder *b, enum yaml_kind kind, yaml_mark_t at,
                                struct yaml_node **out) {
    struct yaml_node *v;
    if (b->n_values++ == YAML_MAX_VALUES) return refuse(b, at, "more than a million values");
    TRY(MEM_NEW(&v, 1));
    v->kind = kind;
    v->line = (int)at.line + 1;
    v->column = (int)at.column + 1;
    enum ecg_status status = attach(b, v, at);
    if (status != ECG_OK) free(v);
    *out = v;
    return status;
}

/* Whether the next scalar is a key of the innermost map. */
static bool wants_key(const struct builder *b) {
    return b->depth > 0 && b->open[b->depth - 1]->kind == YAML_MAP && !b->key;
}

static enum ecg_status on_scalar(struct builder *b, const yaml_event_t *e) {
    const char *text = (const char *)e->data.scalar.value;
    if (e->data.scalar.tag) return refuse(b, e->start_mark, "tags are not supported");
    if (memchr(text, 0, e->data.scalar.length))
        return refuse(b, e->start_mark, "a NUL character in a string");
    if (wants_key(b)) {
        b->key_line = (int)e->start_mark.line + 1;
        b->key_column = (int)e->start_mark.column + 1;
        return mem_strdup(&b->key, text);
    }
    struct yaml_node *v;
    TRY(add_node(b, YAML_SCALAR, e->start_mark, &v));
    v->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    return mem_strdup(&v->text, text);
}

static enum ecg_status on_open(struct builder *b, enum yaml_kind kind, const yaml_char_t *tag,
                               yaml_mark_t at) {
    struct yaml_node *v;
    if (tag) return refuse(b, at, "tags are not supported");
    if (wants_key(b)) return refuse(b, at, "a key must be plain text, not a map or a list");
    if (b->depth == YAML_MAX_LEVELS) return refuse(b, at, "nested deeper than 64 levels");
    TRY(add_node(b, kind, at, &v));
    b->item_cap[b->depth] = b->key_cap[b->depth] = 0;
    b->open[b->depth++] = v;
    return ECG_OK;
}

struct key_place {
    const char *key;
    const struct yaml_node *value;
};

static int compare_keys(const void *a, const void *b) {
    const struct key_place *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    if (order != 0) return order;
    if (x->value->key_line != y->value->key_line)
        return x->value->key_line < y->value->key_line ? -1 : 1;
    return (x->value->key_column > y->value->key_column) -
           (x->value->key_column < y->value->key_column);
}

/* Sorted, since a hostile map may have a million keys. */
static enum ecg_status refuse_duplicates(const struct builder *b, const struct yaml_node *map) {
    struct key_place *places;
    enum ecg_status status = ECG_OK;
    TRY(MEM_NEW(&places, map->n));
    for (size_t i = 0; i < map->n; i++)
        places[i] = (struct key_place){.key = map->keys[i], .value = map->items[i]};
    qsort(places, map->n, sizeof *places, compare_keys);
    for (size_t i = 1; i < map->n && status == ECG_OK; i++)
        if (strcmp(places[i - 1].key, places[i].key) == 0)
            status = ecg_fail(ECG_ERR_CONFIG, "%s:%d:%d: key %s is already given on line %d",
                              b->where, places[i].value->key_line, places[i].value->key_column,
                              places[i].key, places[i - 1].value->key_line);
    free(places);
    return status;
}

static enum ecg_status on_close(struct builder *b) {
    const struct yaml_node *closed = b->open[--b->depth];
    return closed->kind == YAML_MAP ? refuse_duplicates(b, closed) : ECG_OK;
}

static enum ecg_status on_event(struct builder *b, const yaml_event_t *e) {
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        return on_scalar(b, e);
    case YAML_SEQUENCE_START_EVENT:
        return on_open(b, YAML_LIST, e->data.sequence_start.tag, e->start_mark);
    case YAML_MAPPING_START_EVENT:
        return on_open(b, YAML_MAP, e->data.mapping_start.tag, e->start_mark);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return on_close(b);
    case YAML_ALIAS_EVENT:
        return refuse(b, e->start_mark, "aliases are not supported");
    case YAML_DOCUMENT_START_EVENT:
        return b->root ? refuse(b, e->start_mark, "more than one document") : ECG_OK;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        break;
    }
    return ECG_OK;
}

/* The reader of characters knows bytes only. */
static enum ecg_status bad_character(const yaml_parser_t *p, const char *text, size_t n,
                                     const char *where) {
    size_t at = p->problem_offset < n ? p->problem_offset : n, line = 1, begin = 0;
    for (size_t i = 0; i < at; i++)
        if (text[i] == '\n') {
            line++;
            begin = i + 1;
        }
    return ecg_fail(ECG_ERR_CONFIG, "%s:%zu:%zu: byte %zu: %s", where, line, at - begin + 1, at,
                    p->problem);
}

static enum ecg_status syntax_error(const yaml_parser_t *p, const char *text, size_t n,
                                    const char *where) {
    if (p->error == YAML_MEMORY_ERROR) return ecg_fail(ECG_ERR_NOMEM, "%s: out of memory", where);
    if (p->error == YAML_READER_ERROR) return bad_character(p, text, n, where);
    return ecg_fail(ECG_ERR_CONFIG, "%s:%zu:%zu: %s%s%s", where, p->problem_mark.line + 1,
                    p->problem_mark.column + 1, p->problem ? p->problem : "bad YAML",
                    p->context ? " " : "", p->context ? p->context : "");
}

enum ecg_status yaml_parse(struct yaml_node **root, const char *text, size_t n, const char *where) {
    enum ecg_status status = ECG_OK;
    struct builder b = {.where = where};
    struct yaml_node *empty;
    yaml_parser_t parser;
    bool done = false;
    *root = NULL;
    if (n > YAML_MAX_BYTES)
        return ecg_fail(ECG_ERR_CONFIG, "%s: %zu bytes of YAML; at most %u are read", where, n,
                        YAML_MAX_BYTES);
    if (!yaml_parser_initialize(&parser))
        return ecg_fail(ECG_ERR_NOMEM, "%s: out of memory", where);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
    while (status == ECG_OK && !done) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            status = syntax_error(&parser, text, n, where);
            break;
        }
        done = event.type == YAML_STREAM_END_EVENT;
        status = on_event(&b, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    if (status == ECG_OK && !b.root) { /* nothing but comments: a null */
        status = add_node(&b, YAML_SCALAR, (yaml_mark_t){0}, &empty);
        if (status == ECG_OK) status = mem_strdup(&empty->text, "");
    }
    free(b.key);
    if (status == ECG_OK)
        *root = b.root;
    else
        yaml_free(b.root);
    return status;
}

enum ecg_status yaml_parse_file(struct yaml_node **root, const char *path) {
    char *text;
    size_t n;
    *root = NULL;
    enum ecg_status status = file_read(path, YAML_MAX_BYTES, &text, &n);
    if (status == ECG_ERR_DATA) return ECG_ERR_CONFIG; /* too large or no plain file: so it says */
    TRY(status);
    status = yaml_parse(root, text, n, path);
    free(text);
    return status;
}

void yaml_free(struct yaml_node *root) {
    if (!root) return;
    for (size_t i = 0; i < root->n; i++) {
        yaml_free(root->items[i]);
        if (root->keys) free(root->keys[i]);
    }
    free(root->items);
    free(root->keys);
    free(root->text);
    free(root);
}

static enum ecg_status copy_children(struct yaml_node *to, const struct yaml_node *v) {
    TRY(MEM_NEW(&to->items, v->n));
    if (v->keys) TRY(MEM_NEW(&to->keys, v->n));
    for (; to->n < v->n; to->n++) {
        TRY(yaml_copy(&to->items[to->n], v->items[to->n]));
        if (!v->keys) continue;
        enum ecg_status status = mem_strdup(&to->keys[to->n], v->keys[to->n]);
        if (status == ECG_OK) continue;
        yaml_free(to->items[to->n]);
        return status;
    }
    return ECG_OK;
}

enum ecg_status yaml_copy(struct yaml_node **copy, const struct yaml_node *v) {
    struct yaml_node *to;
    TRY(MEM_NEW(&to, 1));
    *to = *v;
    to->text = NULL;
    to->n = 0;
    to->items = NULL;
    to->keys = NULL;
    enum ecg_status status = v->text ? mem_strdup(&to->text, v->text) : ECG_OK;
    if (status == ECG_OK && v->n > 0) status = copy_children(to, v);
    if (status != ECG_OK) {
        yaml_free(to);
        to = NULL;
    }
    *copy = to;
    return status;
}

const struct yaml_node *yaml_get(const struct yaml_node *map, const char *key) {
    if (!map || map->kind != YAML_MAP) return NULL;
    for (size_t i = 0; i < map->n; i++)
        if (strcmp(map->keys[i], key) == 0) return map->items[i];
    return NULL;
}

/* The text of a plain (unquoted) scalar; NULL for anything else. */
static const char *plain_text(const struct yaml_node *v) {
    return v && v->kind == YAML_SCALAR && !v->quoted ? v->text : NULL;
}

bool yaml_is_null(const struct yaml_node *v) {
    const char *text = plain_text(v);
    return text && (!*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
}

bool yaml_bool(const struct yaml_node *v, bool *out) {
    const char *text = plain_text(v);
    if (!text) return false;
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) return false;
    *out = *text == 't';
    return true;
}

static const char *skip_sign(const char *s) {
    return s + (*s == '-' || *s == '+');
}

static const char *skip_digits(const char *s) {
    return s + strspn(s, "0123456789");
}

bool yaml_integer(const struct yaml_node *v, int64_t *out) {
    const char *text = plain_text(v);
    if (!text) return false;
    const char *digits = skip_sign(text), *end = skip_digits(digits);
    if (end == digits || *end) return false;
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (errno == ERANGE) return false;
    *out = value;
    return true;
}

/* [-+]? (digits [. digits?] | . digits) ([eE] [-+]? digits)? */
static bool looks_like_number(const char *text) {
    const char *start = skip_sign(text), *end = skip_digits(start);
    size_t n = (size_t)(end - start);
    if (*end == '.') {
        start = end + 1;
        end = skip_digits(start);
        n += (size_t)(end - start);
    }
    if (n == 0) return false;
    if (*end == 'e' || *end == 'E') {
        start = skip_sign(end + 1);
        end = skip_digits(start);
        if (end == start) return false;
    }
    return *end == 0;
}

bool yaml_number(const struct yaml_node *v, double *out) {
    const char *text = plain_text(v);
    if (!text || !looks_like_number(text)) return false;
    double value = strtod(text, NULL);
    if (!isfinite(value)) return false;
    *out = value;
    return true;
}
