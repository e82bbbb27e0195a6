/* SPDX-License-Identifier: MIT
 * YAML to a config: keys of the program's own table with values of all kinds in all styles, then damage to the text. What was
 * read is dumped, the dump is read, and the two configs must be the same, value by value. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/conf.h"
#include "tests/support/check.h"
#include "tests/support/fuzz.h"
#include "train/run/config.h"

static const struct fuzz_word words[] = {
    FUZZ_WORD("\n"),
    FUZZ_WORD("\n  "),
    FUZZ_WORD("\n- "),
    FUZZ_WORD(": "),
    FUZZ_WORD("- "),
    FUZZ_WORD("? "),
    FUZZ_WORD("{"),
    FUZZ_WORD("}"),
    FUZZ_WORD("["),
    FUZZ_WORD("]"),
    FUZZ_WORD(", "),
    FUZZ_WORD("\""),
    FUZZ_WORD("'"),
    FUZZ_WORD("\\"),
    FUZZ_WORD("\\x01"),
    FUZZ_WORD("\\0"),
    FUZZ_WORD("\\UDEAD"),
    FUZZ_WORD("|\n  "),
    FUZZ_WORD(">-\n  "),
    FUZZ_WORD("&a "),
    FUZZ_WORD("*a"),
    FUZZ_WORD("!!str "),
    FUZZ_WORD("!x "),
    FUZZ_WORD("---\n"),
    FUZZ_WORD("...\n"),
    FUZZ_WORD("%YAML 1.2\n"),
    FUZZ_WORD("<<: "),
    FUZZ_WORD("#"),
    FUZZ_WORD("\t"),
    FUZZ_WORD("\r"),
    FUZZ_WORD("~"),
    FUZZ_WORD("null"),
    FUZZ_WORD("\0"),
    FUZZ_WORD("\xff"),
    FUZZ_WORD("\xc3\xa9"),
    FUZZ_WORD("\xef\xbb\xbf"),
    FUZZ_WORD("\xe2\x80\xa8"),
    FUZZ_WORD("\xc2\x85"),
    FUZZ_WORD("\xf0\x9f\xab\x80"),
    FUZZ_WORD("\xed\xa0\x80"),
    FUZZ_WORD("1e999"),
    FUZZ_WORD("-"),
    FUZZ_WORD("[[[[[[[[[[[[[[[["),
    FUZZ_WORD("{a: {a: {a: {a: "),
};
#define N_WORDS (sizeof words / sizeof *words)

/* ---- the text ---- */

static const char *const values[] = {
    "0",
    "1",
    "-1",
    "+7",
    "0.5",
    ".5",
    "1.",
    "1e-3",
    "5e-324",
    "1.7976931348623157e308",
    "1e309",
    "0x10",
    "1_000",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "0.30000000000000004",
    "nan",
    ".inf",
    "-.inf",
    "true",
    "false",
    "True",
    "yes",
    "null",
    "~",
    "''",
    "\"\"",
    "'null'",
    "'1'",
    "adam",
    "adamw",
    "bce",
    "hill",
    "cpu",
    "cuda",
    "a b",
    "a: b",
    "a #b",
    "a#b",
    "- a",
    "-",
    "--",
    "---a",
    "...",
    "?",
    "? a",
    "=",
    "=a",
    "%a",
    "@a",
    "a@b",
    "`",
    "!a",
    "\"a \\u2028 b\"",
    "\"\\u2029\\u2029 \"",
    "\"\\x85 \\x85\"",
    "\" a\\n b \"",
    "/data/x",
    "../x y",
    "\"\\n\\t\\\\\\\"\"",
    "\"\\u2028\\u0085\\x7f\\uFEFF\"",
    "'it''s'",
    "\xc3\xa9",
    "\"\\U0001FAC0\"",
    "[]",
    "{}",
    "[1, 2, 3]",
    "[[1, [2]], {a: [b]}]",
    "[a, 'b', \"c d\", ~]",
    "{path: DIR, fold: 1-8}",
    "{path: \"/a b\", part: [0.1, 0.9]}",
    "{a: {b: {c: {d: []}}}}",
    "{? a : b, 'k: k': {}, \"\": 1}",
    "[a: 1, b: 2]",
    "|\n    two\n    lines",
    ">-\n    folded\n    text",
    "|+\n    kept\n\n",
    "\n    - a\n    - b",
    "\n    path: DIR\n    fold: 1",
    "\n  - [a, b]\n  - {c: d}",
    "# nothing",
};
#define N_VALUES (sizeof values / sizeof *values)

/* A key of so many tabs, each of which is written as two characters, or a list so deep: a dump may need more room than the
 * text that it stands for. */
static void put_large(struct bytes *b, struct rng *r) {
    uint64_t n = 1 + rng_below(r, 700), depth = 1 + rng_below(r, 66);
    if (rng_below(r, 2)) {
        for (uint64_t i = 0; i < 2 * depth; i++) bytes_text(b, i < depth ? "[" : "]");
        return;
    }
    BYTES_PUT(b, "{? \"");
    while (n-- > 0) BYTES_PUT(b, "\\t");
    BYTES_PUT(b, "\" : 1}");
}

/* Mostly a value that the option takes: texts and YAML may be anything. */
static void put_value(struct bytes *b, const struct conf_option *o, struct rng *r) {
    bool takes_any = o->type == CONF_NODE || o->type == CONF_STRING || o->type == CONF_STRINGS;
    if (rng_below(r, 50) == 0)
        put_large(b, r);
    else if (takes_any || rng_below(r, 16) == 0)
        bytes_text(b, "%s", values[rng_below(r, N_VALUES)]);
    else if (o->type == CONF_BOOL)
        bytes_text(b, rng_below(r, 2) ? "true" : "false");
    else if (o->type == CONF_NUMBER && rng_below(r, 2))
        bytes_text(b, "%.*g", 1 + (int)rng_below(r, 17), o->min + rng_uniform(r));
    else if (o->type == CONF_INT && rng_below(r, 2))
        bytes_text(b, "%lld", (long long)o->min + (long long)rng_below(r, 3));
    else
        bytes_text(b, "%s", o->default_value);
}

static size_t count_options(void) {
    size_t n = 0;
    while (config_options[n].key) n++;
    return n;
}

/* A few keys, as a section's or dotted. */
static void make(struct bytes *b, struct rng *r) {
    size_t n = count_options();
    for (uint64_t left = 1 + rng_below(r, 5); left > 0; left--) {
        const struct conf_option *o = &config_options[rng_below(r, n)];
        const char *dot = rng_below(r, 2) ? strchr(o->key, '.') : NULL;
        if (dot)
            bytes_text(b, "%.*s: {%s: ", (int)(dot - o->key), o->key, dot + 1);
        else
            bytes_text(b, "%s: ", o->key);
        put_value(b, o, r);
        bytes_text(b, dot ? "}\n" : "\n");
        if (rng_below(r, 8) == 0) BYTES_PUT(b, "# a comment: [\n\n");
    }
    if (rng_below(r, 2)) fuzz_damage(b, 0, r, words, N_WORDS);
}

/* ---- the same config ---- */

static bool same_node(const struct yaml_node *a, const struct yaml_node *b) {
    if (!a || !b) return a == b;
    double x = 0, y = 0;
    bool t = false, f = false;
    if (yaml_is_null(a) || yaml_is_null(b)) return yaml_is_null(a) && yaml_is_null(b);
    if (a->kind != b->kind || a->n != b->n) return false;
    if (a->kind == YAML_SCALAR)
        return !strcmp(a->text, b->text) && yaml_number(a, &x) == yaml_number(b, &y) && x == y &&
               yaml_bool(a, &t) == yaml_bool(b, &f) && t == f;
    for (size_t i = 0; i < a->n; i++) {
        if (a->kind == YAML_MAP && strcmp(a->keys[i], b->keys[i])) return false;
        if (!same_node(a->items[i], b->items[i])) return false;
    }
    return true;
}

static bool same_text(const char *a, const char *b) {
    return a && b ? !strcmp(a, b) : a == b;
}

static bool same_option(const struct conf_option *o, const void *a, const void *b) {
    const void *p = (const char *)a + o->offset, *q = (const char *)b + o->offset;
    switch (o->type) {
    case CONF_BOOL:
        return *(const bool *)p == *(const bool *)q;
    case CONF_INT:
        return *(const int64_t *)p == *(const int64_t *)q;
    case CONF_NUMBER:
        return !memcmp(p, q, sizeof(double));
    case CONF_CHOICE:
        return *(const int *)p == *(const int *)q;
    case CONF_STRING:
        return same_text(*(char *const *)p, *(char *const *)q);
    case CONF_INTS: {
        const struct conf_ints *x = p, *y = q;
        return x->n == y->n && (!x->n || !memcmp(x->v, y->v, x->n * sizeof *x->v));
    }
    case CONF_STRINGS: {
        const struct conf_strings *x = p, *y = q;
        bool same = x->n == y->n && !x->v == !y->v;
        for (size_t i = 0; same && i < x->n; i++) same = same_text(x->v[i], y->v[i]);
        return same;
    }
    case CONF_NODE:
        return same_node(*(struct yaml_node *const *)p, *(struct yaml_node *const *)q);
    }
    return false;
}

static void check_dump(const struct config *c, struct fuzz_result *result) {
    struct config again;
    char path[4096], *first = NULL, *second = NULL;
    snprintf(path, sizeof path, "%s/dump.yaml", check_tmp());
    if (conf_dump(config_options, c, &first) != ECG_OK ||
        conf_defaults(config_options, &again) != ECG_OK)
        abort();
    bytes_save(&(struct bytes){.v = first, .n = strlen(first)}, path);
    if (conf_read_file(config_options, &again, path) != ECG_OK) {
        fuzz_wrong(result, "its dump is refused: %s", ecg_message());
    } else {
        for (const struct conf_option *o = config_options; o->key; o++)
            if (!same_option(o, c, &again)) fuzz_wrong(result, "%s is another in its dump", o->key);
        if (conf_dump(config_options, &again, &second) != ECG_OK) abort();
        if (strcmp(first, second)) fuzz_wrong(result, "its dump's dump is another");
    }
    free(first);
    free(second);
    conf_free(config_options, &again);
}

static enum ecg_status read(const char *path, struct fuzz_result *result) {
    struct config c;
    if (conf_defaults(config_options, &c) != ECG_OK) abort();
    enum ecg_status status = conf_read_file(config_options, &c, path);
    if (status == ECG_OK) check_dump(&c, result);
    conf_free(config_options, &c);
    return status;
}

const struct fuzz_target fuzz_config = {"fuzz.yaml", ECG_ERR_CONFIG, make, read};
