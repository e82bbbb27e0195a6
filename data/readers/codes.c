/* SPDX-License-Identifier: MIT
 * Dicts and lists are Python literals or JSON: quoted or bare items, numbers as likelihoods. */
#include "data/readers/codes.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/mem.h"
#include "data/readers/wfdb.h"

static const char *skip_space(const char *p) {
    while (isspace((unsigned char)*p)) p++;
    return p;
}

/* Appends text[0, n) without the space around it; nothing when it is blank. */
static enum ecg_status add(struct codes *c, const char *text, size_t n, bool is_unstated) {
    while (n > 0 && isspace((unsigned char)*text)) text++, n--;
    while (n > 0 && isspace((unsigned char)text[n - 1])) n--;
    if (n == 0) return ECG_OK;
    TRY(mem_grow((void **)&c->v, &c->cap, c->n + 1, sizeof(*c->v)));
    struct code *code = &c->v[c->n];
    TRY(MEM_NEW(&code->text, n + 1));
    memcpy(code->text, text, n);
    code->is_unstated = is_unstated;
    c->n++;
    return ECG_OK;
}

/* An item at *p: '...', "..." or bare up to one of `ends`. Moves *p past it. */
static enum ecg_status take_item(const char **p, const char *ends, const char **item, size_t *n) {
    char quote = **p;
    if (quote == '\'' || quote == '"') {
        const char *end = strchr(*p + 1, quote);
        if (end == NULL) return ecg_fail(ECG_ERR_DATA, "an open %c in the codes", quote);
        *item = *p + 1;
        *n = (size_t)(end - *item);
        *p = end + 1;
    } else {
        *item = *p;
        *n = strcspn(*p, ends);
        *p += *n;
    }
    if (memchr(*item, '\\', *n) != NULL) return ecg_fail(ECG_ERR_DATA, "a backslash in the codes");
    *p = skip_space(*p);
    return ECG_OK;
}

/* After an item: moves past a comma, or sets *at_end past `close` with nothing after it. */
static enum ecg_status take_comma(const char **p, char close, bool *at_end) {
    char c = **p;
    if (c == ',' || c == close) *p = skip_space(*p + 1);
    *at_end = c == close;
    if (c == ',') return ECG_OK;
    if (c == close && !**p) return ECG_OK;
    return ecg_fail(ECG_ERR_DATA, "codes that end in \"%.20s\" where a , or %c was due", *p, close);
}

static enum ecg_status likelihood(const char **p, bool *is_unstated) {
    char *end;
    if (**p != ':') return ecg_fail(ECG_ERR_DATA, "a code without its \": likelihood\"");
    *p = skip_space(*p + 1);
    size_t n = strspn(*p, "+-.0123456789eE");
    double v = strtod(*p, &end);
    if (n == 0 || end != *p + n || !(v >= 0) || isinf(v))
        return ecg_fail(ECG_ERR_DATA, "a likelihood \"%.20s\" that is no number from 0 up", *p);
    *p = skip_space(end);
    *is_unstated = v == 0;
    return ECG_OK;
}

static enum ecg_status parse_group(struct codes *c, const char *p, char close) {
    bool is_dict = close == '}', at_end = false;
    p = skip_space(p + 1);
    if (*p == close) return take_comma(&p, close, &at_end);
    while (!at_end) {
        const char *item = p;
        size_t n = 0;
        bool is_unstated = false;
        TRY(take_item(&p, is_dict ? ":,}" : ",]", &item, &n));
        if (is_dict) TRY(likelihood(&p, &is_unstated));
        TRY(add(c, item, n, is_unstated));
        TRY(take_comma(&p, close, &at_end));
        if (!at_end && *p == close) TRY(take_comma(&p, close, &at_end)); /* [a, b,] */
    }
    return ECG_OK;
}

static bool says_unknown(const char *text) {
    static const char *const words[] = {"", "nan", "none", "null", "unknown", NULL};
    size_t n = strlen(text);
    while (n > 0 && isspace((unsigned char)text[n - 1])) n--;
    for (int i = 0; words[i] != NULL; i++)
        if (strlen(words[i]) == n && strncasecmp(text, words[i], n) == 0) return true;
    return false;
}

enum ecg_status codes_parse(struct codes *c, const char *text) {
    *c = (struct codes){0};
    text = skip_space(text);
    if (says_unknown(text)) return ECG_OK;
    c->known = true;
    enum ecg_status status = ECG_OK;
    if (*text == '{' || *text == '[') {
        status = parse_group(c, text, *text == '{' ? '}' : ']');
    } else {
        for (size_t n; status == ECG_OK && *text; text += n + (text[n] != '\0')) {
            n = strcspn(text, ",;|");
            status = add(c, text, n, false);
        }
    }
    if (status != ECG_OK) codes_free(c);
    return status;
}

void codes_free(struct codes *c) {
    for (size_t i = 0; i < c->n; i++) free(c->v[i].text);
    free(c->v);
    *c = (struct codes){0};
}

enum ecg_status codes_of_header(char **text, const char *record_path, const char *field) {
    char *header = NULL;
    size_t n = strlen(field);
    *text = NULL;
    enum ecg_status status = wfdb_read_header(&header, record_path);
    if (status != ECG_OK) return status == ECG_ERR_NOMEM ? status : ECG_OK;
    for (const char *line = header; line != NULL; line = strchr(line, '\n')) {
        line = skip_space(line);
        if (*line != '#') continue;
        const char *at = skip_space(line + 1);
        if (strncasecmp(at, field, n) != 0) continue;
        at += n;
        at += strspn(at, " \t");
        if (*at++ != ':') continue;
        *text = strndup(at, strcspn(at, "\r\n"));
        if (*text == NULL) status = ecg_fail(ECG_ERR_NOMEM, "out of memory");
        break;
    }
    free(header);
    return status;
}
