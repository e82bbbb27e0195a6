/* SPDX-License-Identifier: MIT
 * Options as text: the resolved dump, the help and what a value must be. The dump reads back to the
 * same values: numbers in the fewest digits that do, texts quoted wherever plain YAML could be taken for
 * something else. */
#include "core/conf_text.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* YAML takes 1024 characters, and an escape has up to 6 for one. */
#define MAX_SIMPLE_KEY 160

/* The shortest decimal that reads back as the same double: "0.001", "1e-5", "300000". */
static void number_text(double v, char *text, size_t size) {
    if (v == floor(v) && fabs(v) < 1e15) {
        snprintf(text, size, "%.0f", v);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, size, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    char *zero = strstr(text, "e-0"); /* 1e-05 -> 1e-5 */
    if (zero) memmove(zero + 2, zero + 3, strlen(zero + 3) + 1);
}

static void bounds_text(const struct conf_option *o, char *text, size_t size) {
    char low[40], high[40];
    number_text(o->min, low, sizeof low);
    number_text(o->max, high, sizeof high);
    *text = 0;
    if (o->min == 0 && o->max == 0) return;
    if (isinf(o->max))
        snprintf(text, size, ", at least %s", low);
    else if (isinf(o->min))
        snprintf(text, size, ", at most %s", high);
    else
        snprintf(text, size, " from %s to %s", low, high);
}

/* "one of adam, adamw, sgd" */
static void choices_text(const char *choices, char *text, size_t size) {
    size_t n = (size_t)snprintf(text, size, "one of ");
    for (; *choices && n + 3 < size; choices++) {
        if (*choices == ' ') text[n++] = ',';
        text[n++] = *choices;
    }
    text[n] = 0;
}

void conf_describe_type(const struct conf_option *o, char *text, size_t size) {
    char bounds[100];
    bounds_text(o, bounds, sizeof bounds);
    switch (o->type) {
    case CONF_BOOL:
        snprintf(text, size, "true or false");
        break;
    case CONF_INT:
        snprintf(text, size, "an integer%s", bounds);
        break;
    case CONF_NUMBER:
        snprintf(text, size, "a number%s", bounds);
        break;
    case CONF_STRING:
        snprintf(text, size, "a text or null");
        break;
    case CONF_CHOICE:
        choices_text(o->choices, text, size);
        break;
    case CONF_INTS:
        snprintf(text, size, "a list of integers%s", *bounds == ' ' ? " each" : "");
        snprintf(text + strlen(text), size - strlen(text), "%s", bounds);
        break;
    case CONF_STRINGS:
        snprintf(text, size, "a list of texts or null");
        break;
    case CONF_NODE:
        snprintf(text, size, "YAML");
        break;
    }
}

/* ---- dump ---- */

/* A text that YAML reads as that same text without quotes, in a list or map too. */
static bool is_plain(const char *text) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    if (!*text || strcmp(text, "null") == 0) return false;
    if (!strchr(letters, *text) && !strchr("/._+-", *text)) return false;
    if (strspn(text, "-.") == strlen(text)) return false; /* "-", "---", "..." are YAML's own */
    size_t n = 0;
    while (text[n] && (strchr(letters, text[n]) || strchr("/._+-@%=", text[n]))) n++;
    return text[n] == 0;
}

/* The code point at s and its length in bytes; s is valid UTF-8, since libyaml let it in. */
static unsigned code_point(const unsigned char *s, int *length) {
    *length = s[0] < 0x80 ? 1 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    unsigned code = *length == 1 ? s[0] : s[0] & (0xFFu >> (*length + 1));
    for (int i = 1; i < *length && s[i]; i++) code = code << 6 | (s[i] & 0x3Fu);
    return code;
}

/* What YAML takes for a line break, a mark or nothing printable. */
static bool must_escape(unsigned code) {
    return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x2028 || code == 0x2029 ||
           code == 0xFEFF || code == 0xFFFE || code == 0xFFFF;
}

static void put_quoted(FILE *f, const char *text) {
    putc('"', f);
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        int length;
        unsigned code = code_point(s, &length);
        if (*s == '"' || *s == '\\') putc('\\', f);
        if (must_escape(code))
            fprintf(f, "\\u%04X", code);
        else
            fprintf(f, "%.*s", length, (const char *)s);
        s += strnlen((const char *)s, (size_t)length);
    }
    putc('"', f);
}

static void put_text(FILE *f, const char *text) {
    if (is_plain(text))
        fputs(text, f);
    else
        put_quoted(f, text);
}

/* A key; one that could be longer than YAML takes it in front of a colon stands behind a question mark. */
static void put_key(FILE *f, const char *key) {
    if (strlen(key) > MAX_SIMPLE_KEY) fputs("? ", f);
    put_text(f, key);
    fputs(": ", f);
}

/* Any YAML in flow style: {path: DIR, fold: 1-8}. */
static void put_node(FILE *f, const struct yaml_node *v) {
    if (!v || yaml_is_null(v)) {
        fputs("null", f);
    } else if (v->kind == YAML_SCALAR) {
        if (v->quoted)
            put_quoted(f, v->text);
        else
            put_text(f, v->text);
    } else {
        putc(v->kind == YAML_MAP ? '{' : '[', f);
        for (size_t i = 0; i < v->n; i++) {
            if (i > 0) fputs(", ", f);
            if (v->kind == YAML_MAP) put_key(f, v->keys[i]);
            put_node(f, v->items[i]);
        }
        putc(v->kind == YAML_MAP ? '}' : ']', f);
    }
}

static void put_integers(FILE *f, const struct conf_ints *list) {
    putc('[', f);
    for (size_t i = 0; i < list->n; i++)
        fprintf(f, "%s%lld", i > 0 ? ", " : "", (long long)list->v[i]);
    putc(']', f);
}

static void put_texts(FILE *f, const struct conf_strings *list) {
    if (!list->v) {
        fputs("null", f);
        return;
    }
    putc('[', f);
    for (size_t i = 0; i < list->n; i++) {
        if (i > 0) fputs(", ", f);
        put_text(f, list->v[i]);
    }
    putc(']', f);
}

static void put_value(FILE *f, const struct conf_option *o, const void *config,
                      const struct conf_option *table) {
    const void *p = (const char *)config + o->offset;
    char number[40];
    switch (o->type) {
    case CONF_BOOL:
        fputs(*(const bool *)p ? "true" : "false", f);
        break;
    case CONF_INT:
        fprintf(f, "%lld", (long long)*(const int64_t *)p);
        break;
    case CONF_NUMBER:
        number_text(*(const double *)p, number, sizeof number);
        fputs(number, f);
        break;
    case CONF_STRING:
        if (*(char *const *)p)
            put_text(f, *(char *const *)p);
        else
            fputs("null", f);
        break;
    case CONF_CHOICE: {
        const char *name = conf_choice_name(table, o->key, *(const int *)p);
        put_text(f, name ? name : "");
        break;
    }
    case CONF_INTS:
        put_integers(f, p);
        break;
    case CONF_STRINGS:
        put_texts(f, p);
        break;
    case CONF_NODE:
        put_node(f, *(struct yaml_node *const *)p);
        break;
    }
}

/* Length of the key's section with its dot ("optim." of "optim.lr"); 0 without one. */
static size_t section_length(const char *key) {
    const char *dot = strchr(key, '.');
    return dot ? (size_t)(dot - key) + 1 : 0;
}

static bool same_section(const struct conf_option *a, const struct conf_option *b) {
    size_t n = section_length(a->key);
    return n == section_length(b->key) && strncmp(a->key, b->key, n) == 0;
}

/* Whether an option before `o` has its section: then the section is already written. */
static bool section_is_written(const struct conf_option *table, const struct conf_option *o) {
    for (const struct conf_option *before = table; before < o; before++)
        if (same_section(before, o)) return true;
    return false;
}

static enum ecg_status finish_text(FILE *f, char **text) {
    bool bad = ferror(f) != 0;
    if (fclose(f) == 0 && !bad) return ECG_OK;
    free(*text);
    *text = NULL;
    return ecg_fail(ECG_ERR_NOMEM, "out of memory: config text");
}

enum ecg_status conf_node_text(const struct yaml_node *v, char **text) {
    size_t size;
    *text = NULL;
    FILE *f = open_memstream(text, &size);
    if (!f) return ecg_fail(ECG_ERR_NOMEM, "out of memory: config text");
    put_node(f, v);
    return finish_text(f, text);
}

enum ecg_status conf_dump(const struct conf_option *table, const void *config, char **text) {
    size_t size;
    *text = NULL;
    FILE *f = open_memstream(text, &size);
    if (!f) return ecg_fail(ECG_ERR_NOMEM, "out of memory: config text");
    for (const struct conf_option *o = table; o->key; o++) {
        size_t n = section_length(o->key);
        if (n > 0 && section_is_written(table, o)) continue;
        if (n > 0) fprintf(f, "%.*s:\n", (int)n - 1, o->key);
        for (const struct conf_option *in = o; in->key; in++) {
            if (n > 0 ? !same_section(in, o) : in != o) continue;
            fprintf(f, "%s%s: ", n > 0 ? "  " : "", in->key + n);
            put_value(f, in, config, table);
            putc('\n', f);
        }
    }
    TRY(finish_text(f, text));
    if (size <= YAML_MAX_BYTES) return ECG_OK;
    free(*text);
    *text = NULL;
    return ecg_fail(ECG_ERR_CONFIG,
                    "the config has %zu bytes of text; at most %u can be read again", size,
                    YAML_MAX_BYTES);
}

/* ---- help ---- */

#define HELP_WIDTH 100 /* columns of the page */
#define HELP_VALUE 25  /* column of the default */
#define HELP_TEXT  37  /* column of the meaning */

/* Blanks up to `column`; on a new line where `at` leaves no room for one. Returns the column reached. */
static int put_blanks(FILE *f, int at, int column) {
    if (at >= column) {
        putc('\n', f);
        at = 0;
    }
    fprintf(f, "%*s", column - at, "");
    return column;
}

/* Words of a text from `column` on, wrapped. Returns the column reached. */
static int put_wrapped(FILE *f, const char *text, int at) {
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (at > HELP_TEXT && at + 1 + n > HELP_WIDTH) at = put_blanks(f, at, HELP_TEXT);
        at += fprintf(f, "%s%.*s", at > HELP_TEXT ? " " : "", n, text);
        text += n + (text[n] == ' ');
    }
    return at;
}

enum ecg_status conf_help(const struct conf_option *table, char **text) {
    size_t size;
    char wanted[512];
    *text = NULL;
    FILE *f = open_memstream(text, &size);
    if (!f) return ecg_fail(ECG_ERR_NOMEM, "out of memory: help text");
    for (const struct conf_option *o = table; o->key; o++) {
        if (o > table && !same_section(o - 1, o)) putc('\n', f);
        int at = put_blanks(f, fprintf(f, "  %s", o->key), HELP_VALUE);
        at = put_blanks(f, at + fprintf(f, "%s", o->default_value), HELP_TEXT);
        at = put_wrapped(f, o->help, at);
        if (o->type == CONF_CHOICE) {
            conf_describe_type(o, wanted, sizeof wanted);
            put_wrapped(f, wanted, at + fprintf(f, ";"));
        }
        putc('\n', f);
    }
    return finish_text(f, text);
}
