/* SPDX-License-Identifier: MIT
 * JSON, CSV and YAML: what they give for good text, and that every kind of broken or hostile text ends
 * in the right status with its place. Each document is also cut at every byte: no cut may crash. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/csv.h"
#include "core/file.h"
#include "core/json.h"
#include "core/yaml.h"
#include "tests/support/check.h"

static enum ecg_status parse_json(struct json **root, const char *text) {
    return json_parse(root, text, strlen(text), "t.json");
}

static void json_tree(void) {
    struct json *root;
    const char *text =
        "{\"z\": [1, -2.5, \"h\\u00e9\", null, true], \"a\": {\"k\": 9007199254740993},"
        " \"m\": []}";
    if (!CHECK_OK(parse_json(&root, text))) return;
    CHECK(json_is_object(root) && json_size(root) == 3);
    CHECK_STR(json_key_at(root, 0), "z"); /* the file's order, not the alphabet's */
    CHECK_STR(json_key_at(root, 1), "a");
    CHECK_STR(json_key_at(root, 2), "m");
    CHECK(json_key_at(root, 3) == NULL && json_value_at(root, 3) == NULL);
    const struct json *z = json_get(root, "z");
    CHECK(json_is_array(z) && json_size(z) == 5 && json_at(z, 5) == NULL);
    CHECK(json_is_integer(json_at(z, 0)) && json_integer(json_at(z, 0)) == 1);
    CHECK(json_is_number(json_at(z, 1)) && !json_is_integer(json_at(z, 1)));
    CHECK_NEAR(json_number(json_at(z, 1)), -2.5, 0);
    CHECK_STR(json_string(json_at(z, 2)), "h\xC3\xA9");
    CHECK(json_is_null(json_at(z, 3)));
    CHECK(json_is_bool(json_at(z, 4)) && json_bool(json_at(z, 4)));
    CHECK(json_integer(json_get(json_get(root, "a"), "k")) == 9007199254740993);
    CHECK(json_get(root, "none") == NULL && json_get(z, "z") == NULL &&
          json_get(NULL, "z") == NULL);
    CHECK(isnan(json_number(json_at(z, 2))) && json_string(root) == NULL);
    CHECK(json_integer(json_at(z, 1)) == 0);
    json_free(root);
    json_free(NULL);
}

static void json_hostile(void) {
    struct json *root;
    static const char *const bad[] = {"",
                                      "{",
                                      "{\"a\":}",
                                      "[1,]",
                                      "{\"a\":1}x",
                                      "nul",
                                      "\"\\ud800\"",
                                      "[1e999]",
                                      "[99999999999999999999]",
                                      "\"\\u0000\"",
                                      "\"\xFF\"",
                                      "{1:2}",
                                      "[01]",
                                      "\"a\nb\"",
                                      "NaN"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_FAILS(parse_json(&root, bad[i]), ECG_ERR_DATA, "t.json:");
        CHECK(root == NULL);
    }
    CHECK_FAILS(parse_json(&root, "{\"a\":1,\n \"a\":2}"), ECG_ERR_DATA, "t.json:2:");
    CHECK_FAILS(parse_json(&root, "{\"a\":1,\n \"a\":2}"), ECG_ERR_DATA, "duplicate");
    char deep[300];
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    CHECK_FAILS(json_parse(&root, deep, 200, "t.json"), ECG_ERR_DATA, "deeper than 64");
    CHECK_OK(json_parse(&root, deep + 40, 120, "t.json"));
    json_free(root);
    memset(deep, '[', sizeof deep);
    CHECK_FAILS(json_parse(&root, deep, sizeof deep, "t.json"), ECG_ERR_DATA, "t.json:");
    size_t n = 3u << 20;
    char *many = malloc(n);
    for (size_t i = 0; i < n; i++) many[i] = "{},"[i % 3];
    CHECK_FAILS(json_parse(&root, many, n, "t.json"), ECG_ERR_DATA, "t.json: more than");
    free(many);
    CHECK_FAILS(json_parse(&root, "", (size_t)1 << 40, "t.json"), ECG_ERR_DATA, "at most");
}

/* A cut document fails, and only `n` bytes are read: the copy ends at a page that ASan guards. */
static void json_cut_anywhere(void) {
    const char *text = "{\"a\": [1, 2.5e3, \"x\\n\\u00e9\"], \"b\": {\"c\": null, \"d\": false}}";
    for (size_t n = 0; n < strlen(text); n++) {
        struct json *root;
        char *copy = malloc(n ? n : 1);
        memcpy(copy, text, n);
        CHECK_FAILS(json_parse(&root, copy, n, "cut"), ECG_ERR_DATA, "cut:");
        free(copy);
    }
}

static void json_write(void) {
    struct json_writer w = {0};
    char *text;
    json_begin_object(&w);
    json_put_key(&w, "step");
    json_put_integer(&w, INT64_MIN);
    json_put_key(&w, "x\"\\\n\x01");
    json_begin_array(&w);
    json_put_number(&w, 0.1);
    json_put_number(&w, NAN);
    json_put_number(&w, -INFINITY);
    json_put_bool(&w, true);
    json_put_null(&w);
    json_put_string(&w, "a\xFF\xC3\xA9\xED\xA0\x80");
    json_end_array(&w);
    json_put_key(&w, "e");
    json_begin_object(&w);
    json_end_object(&w);
    json_end_object(&w);
    CHECK_OK(json_writer_take(&w, &text));
    CHECK_STR(text,
              "{\"step\":-9223372036854775808,\"x\\\"\\\\\\u000a\\u0001\":[0.10000000000000001,"
              "null,null,true,null,\"a\xEF\xBF\xBD\xC3\xA9\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
              "\"],\"e\":{}}");
    struct json *root;
    CHECK_OK(parse_json(&root, text));
    CHECK(json_integer(json_get(root, "step")) == INT64_MIN);
    CHECK_NEAR(json_number(json_at(json_value_at(root, 1), 0)), 0.1, 0);
    CHECK_STR(json_key_at(root, 1), "x\"\\\n\x01");
    json_free(root);
    free(text);
}

static void json_write_pretty(void) {
    struct json_writer w = {.pretty = true};
    char *text;
    json_begin_object(&w);
    json_put_key(&w, "a");
    json_begin_array(&w);
    json_put_integer(&w, 1);
    json_put_integer(&w, 2);
    json_end_array(&w);
    json_put_key(&w, "b");
    json_begin_array(&w);
    json_end_array(&w);
    json_end_object(&w);
    CHECK_OK(json_writer_take(&w, &text));
    CHECK_STR(text, "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": []\n}\n");
    free(text);
}

static void json_write_wrong(void) {
    struct json_writer w = {0};
    char *text;
    for (int i = 0; i < 40; i++) json_begin_array(&w);
    for (int i = 0; i < 40; i++) json_end_array(&w);
    CHECK(json_writer_take(&w, &text) != ECG_OK && text == NULL);
    json_begin_array(&w); /* the writer is usable again */
    json_end_array(&w);
    CHECK_OK(json_writer_take(&w, &text));
    CHECK_STR(text, "[]");
    free(text);
    json_begin_object(&w);
    CHECK(json_writer_take(&w, &text) != ECG_OK); /* never closed */
    json_put_integer(&w, 1);
    json_writer_free(&w);
}

/* Writes `text` to a file of that name in the tests' folder and reads it as CSV. */
static enum ecg_status csv_of(struct csv *c, const char *text, size_t n) {
    char path[4200];
    snprintf(path, sizeof path, "%s/t.csv", check_tmp());
    TRY(file_write(path, text, n));
    return csv_read(c, path);
}

static void csv_good(void) {
    const char *text = "\xEF\xBB\xBFid,\"name, full\",note\r\n"
                       "1,\"Smith, \"\"J\"\"\",\"two\nlines\"\r\n"
                       "\r\n"
                       "2,,5'10\"\n"
                       "3,\"\",x";
    struct csv c;
    if (!CHECK_OK(csv_of(&c, text, strlen(text)))) return;
    CHECK(c.n_rows == 3 && c.n_columns == 3);
    CHECK_STR(c.header[0], "id");
    CHECK(csv_column(&c, "name, full") == 1 && csv_column(&c, "Note") == -1);
    CHECK_STR(c.cells[1], "Smith, \"J\"");
    CHECK_STR(c.cells[2], "two\nlines");
    CHECK_STR(c.cells[4], "");
    CHECK_STR(c.cells[5], "5'10\"");
    CHECK_STR(c.cells[7], "");
    CHECK_STR(c.cells[8], "x");
    CHECK(c.lines[0] == 2 && c.lines[1] == 5 && c.lines[2] == 6);
    csv_free(&c);
    csv_free(&c);
    CHECK_OK(csv_of(&c, "a\n\nb\n", 5)); /* one column: a blank line is an empty cell */
    CHECK(c.n_rows == 2 && c.cells[0][0] == 0);
    csv_free(&c);
    CHECK_OK(csv_of(&c, "a,b\r1,2\r3,4", 11));
    CHECK(c.n_rows == 2 && c.lines[1] == 3);
    csv_free(&c);
    CHECK_OK(csv_of(&c, "a,b\n", 4));
    CHECK(c.n_rows == 0 && c.n_columns == 2);
    csv_free(&c);
}

static void csv_hostile(void) {
    struct csv c;
    static const struct {
        const char *text;
        size_t n;
        const char *message;
    } bad[] = {
        {"", 0, "t.csv:1: empty"},
        {"a,b\n1,2\n3\n", 10, "t.csv:3: 1 cells"},
        {"a,b\n1,2,3\n", 10, "t.csv:2: 3 cells"},
        {"a,b\n\"x\ny\",1\n\"open,2\n3,4", 23, "t.csv:4: a quote opens"},
        {"a,b,a\n1,2,3", 11, "two columns are named 'a'"},
        {"a,b\n1,\0002\n", 9, "t.csv:2: a NUL byte"},
        {"a,b\n\"x\"y,1\n", 11, "t.csv:2: text after"},
        {"\"", 1, "t.csv:1: a quote opens"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_FAILS(csv_of(&c, bad[i].text, bad[i].n), ECG_ERR_DATA, bad[i].message);
        CHECK(c.text == NULL);
    }
    CHECK_FAILS(csv_read(&c, "/no/such/file.csv"), ECG_ERR_NOINPUT, "/no/such/file.csv");
}

static void csv_write(void) {
    static const char *const cells[] = {"plain", "a,b", "say \"hi\"", "two\nlines", "", "\r"};
    enum { N = sizeof cells / sizeof *cells };
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!CHECK(f != NULL)) return;
    fputs("c0,c1,c2,c3,c4,c5\n", f);
    for (int i = 0; i < N; i++) {
        if (i > 0) putc(',', f);
        csv_put(f, cells[i]);
    }
    putc('\n', f);
    fclose(f);
    struct csv c;
    CHECK_OK(csv_of(&c, text, n));
    if (CHECK(c.n_rows == 1))
        for (int i = 0; i < N; i++) CHECK_STR(c.cells[i], cells[i]);
    csv_free(&c);
    free(text);
}

static enum ecg_status parse_yaml(struct yaml_node **root, const char *text) {
    return yaml_parse(root, text, strlen(text), "t.yaml");
}

static void yaml_tree(void) {
    struct yaml_node *root;
    const char *text = "# a comment\n"
                       "model:\n"
                       "  filters: [64, 160]\n"
                       "  name: 'null'\n"
                       "data: {path: DIR, fold: 1-8}\n"
                       "list:\n"
                       "- ~\n"
                       "- {}\n"
                       "empty:\n";
    if (!CHECK_OK(parse_yaml(&root, text))) return;
    CHECK(root->kind == YAML_MAP && root->n == 4);
    CHECK_STR(root->keys[0], "model");
    const struct yaml_node *model = yaml_get(root, "model");
    const struct yaml_node *filters = yaml_get(model, "filters");
    CHECK(filters && filters->kind == YAML_LIST && filters->n == 2);
    CHECK(filters->line == 3 && filters->column == 12);
    CHECK(filters->key_line == 3 && filters->key_column == 3);
    CHECK_STR(filters->items[1]->text, "160");
    CHECK(yaml_get(model, "name")->quoted && !yaml_is_null(yaml_get(model, "name")));
    CHECK_STR(yaml_get(yaml_get(root, "data"), "fold")->text, "1-8");
    CHECK(yaml_is_null(yaml_get(root, "list")->items[0]));
    CHECK(yaml_get(root, "list")->items[1]->kind == YAML_MAP);
    CHECK(yaml_is_null(yaml_get(root, "empty")));
    CHECK(yaml_get(root, "none") == NULL && yaml_get(filters, "x") == NULL);
    yaml_free(root);
    CHECK_OK(parse_yaml(&root, "# nothing\n"));
    CHECK(yaml_is_null(root));
    yaml_free(root);
    yaml_free(NULL);
}

static void yaml_scalars(void) {
    static const struct {
        const char *text;
        bool is_bool, is_integer, is_number;
        double value;
    } rows[] = {
        {"1", 0, 1, 1, 1},
        {"-2", 0, 1, 1, -2},
        {"+3", 0, 1, 1, 3},
        {"1e-4", 0, 0, 1, 1e-4},
        {".5", 0, 0, 1, .5},
        {"1.", 0, 0, 1, 1},
        {"1.5E+3", 0, 0, 1, 1500},
        {"nan", 0, 0, 0, 0},
        {".nan", 0, 0, 0, 0},
        {".inf", 0, 0, 0, 0},
        {"1e999", 0, 0, 0, 0},
        {"0x10", 0, 0, 0, 0},
        {"1e", 0, 0, 0, 0},
        {".", 0, 0, 0, 0},
        {"-", 0, 0, 0, 0},
        {"1-8", 0, 0, 0, 0},
        {"1_000", 0, 0, 0, 0},
        {"true", 1, 0, 0, 1},
        {"false", 1, 0, 0, 0},
        {"True", 0, 0, 0, 0},
        {"yes", 0, 0, 0, 0},
        {"'1'", 0, 0, 0, 0},
        {"\"true\"", 0, 0, 0, 0},
        {"[1]", 0, 0, 0, 0},
        {"9223372036854775807", 0, 1, 1, 9223372036854775807.0},
        {"9223372036854775808", 0, 0, 1, 9223372036854775808.0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct yaml_node *v;
        bool b = false;
        int64_t integer = 0;
        double number = 0;
        if (!CHECK_OK(parse_yaml(&v, rows[i].text))) continue;
        bool right = yaml_bool(v, &b) == rows[i].is_bool &&
                     yaml_integer(v, &integer) == rows[i].is_integer &&
                     yaml_number(v, &number) == rows[i].is_number;
        if (!CHECK(right)) check_note("scalar %s", rows[i].text);
        if (rows[i].is_number) CHECK_NEAR(number, rows[i].value, 0);
        if (rows[i].is_integer) CHECK_NEAR((double)integer, rows[i].value, 0);
        if (rows[i].is_bool) CHECK(b == (rows[i].value == 1));
        yaml_free(v);
    }
}

static void yaml_hostile(void) {
    struct yaml_node *root;
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"a: 1\nb: 2\na: 3\n", "t.yaml:3:1: key a is already given on line 1"},
        {"a: &x 1\nb: *x\n", "t.yaml:2:4: aliases"},
        {"a: 1\n---\nb: 2\n", "more than one document"},
        {"? [1, 2]\n: 3\n", "a key must be plain text"},
        {"? {a: 1}\n: 3\n", "a key must be plain text"},
        {"a: !!str 1\n", "t.yaml:1:4: tags"},
        {"a: !foo [1]\n", "t.yaml:1:4: tags"},
        {"a: [1, 2\n", "t.yaml:"},
        {"a: \"open\n", "t.yaml:"},
        {"a:\n\t- 1\n", "t.yaml:"},
        {"a: b: c\n", "t.yaml:1:"},
        {"a: \xFF\xFE\n", "t.yaml:1:4: byte 3: invalid leading UTF-8 octet"},
        {"a: 1\nb: \xC3(\n", "t.yaml:2:5: byte 9: invalid trailing UTF-8 octet"},
        {"a: 1\n\nb: \xED\xA0\x80\n", "t.yaml:3:4: byte 9: invalid Unicode character"},
        {"a: 1\nb: \x01\n", "t.yaml:2:4: byte 8: control characters are not allowed"},
        {"a: {b: 1, c: 2, b: 3}\n", "t.yaml:1:17: key b is already given on line 1"},
        {"a: 1\nb: [*x, *x, *x]\n", "t.yaml:2:5: aliases"},
        {"base: &b {x: 1}\na: {<<: *b}\n", "t.yaml:2:9: aliases"},
        {"%TAG ! tag:x,2026:\n---\na: !y 1\n", "t.yaml:3:4: tags"},
        {"%YAML 9.9\n---\na: 1\n", "t.yaml:1:1: found incompatible YAML document"},
        {"a: \"x\\0y\"\n", "NUL"},
        {"*x : 1\n", "aliases"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_FAILS(parse_yaml(&root, bad[i].text), ECG_ERR_CONFIG, bad[i].message);
        CHECK(root == NULL);
    }
    CHECK_FAILS(yaml_parse(&root, "a: 1\nb: x\0y\n", 13, "t.yaml"), ECG_ERR_CONFIG,
                "t.yaml:2:5: byte 9: control characters");
    char deep[201];
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    deep[200] = 0;
    CHECK_FAILS(parse_yaml(&root, deep), ECG_ERR_CONFIG, "deeper than 64");
    CHECK_OK(yaml_parse(&root, deep + 36, 128, "t.yaml"));
    yaml_free(root);
    CHECK_FAILS(yaml_parse_file(&root, "/no/such.yaml"), ECG_ERR_NOINPUT, "/no/such.yaml");
    CHECK_FAILS(yaml_parse_file(&root, check_tmp()), ECG_ERR_CONFIG, "not a plain file");
    size_t n = (8u << 20) + 1;
    char *large = malloc(n);
    memset(large, '#', n);
    CHECK_FAILS(yaml_parse(&root, large, n, "t.yaml"), ECG_ERR_CONFIG, "at most");
    n = 4u << 20;
    for (size_t i = 0; i < n; i++) large[i] = i == 0 ? '[' : "a,\n"[(i - 1) % 3];
    CHECK_FAILS(yaml_parse(&root, large, n, "t.yaml"), ECG_ERR_CONFIG,
                "t.yaml:1048576:1: more than a million values");
    free(large);
}

static void yaml_cut_anywhere(void) {
    const char *text = "a: {b: [1, 'x', \"y\\n\"], c: ~}\nd:\n  - e\n  - f: |\n      g\n";
    for (size_t n = 0; n <= strlen(text); n++) {
        struct yaml_node *root;
        char *copy = malloc(n ? n : 1);
        memcpy(copy, text, n);
        enum ecg_status status = yaml_parse(&root, copy, n, "cut");
        CHECK(status == ECG_OK ? root != NULL : status == ECG_ERR_CONFIG && root == NULL);
        yaml_free(root);
        free(copy);
    }
}

int main(void) {
    CASE(json_tree);
    CASE(json_hostile);
    CASE(json_cut_anywhere);
    CASE(json_write);
    CASE(json_write_pretty);
    CASE(json_write_wrong);
    CASE(csv_good);
    CASE(csv_hostile);
    CASE(csv_write);
    CASE(yaml_tree);
    CASE(yaml_scalars);
    CASE(yaml_hostile);
    CASE(yaml_cut_anywhere);
    return check_finish();
}
