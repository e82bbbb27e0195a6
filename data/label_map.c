/* SPDX-License-Identifier: MIT
 * Maps are small (hundreds of rows), so a code is looked for from top to bottom. */
#include "data/label_map.h"

#include <stdlib.h>
#include <string.h>

#include "core/conf.h"
#include "core/csv.h"
#include "core/mem.h"
#include "data/annotations.h"
#include "data/shard.h"

#define MAX_FIELD 200

/* ------------------------------------------------------------------ reading */

/* Bytes of the UTF-8 character at c, 0 when it is none or a control character. */
static size_t character(const unsigned char *c) {
    if (c[0] < 0x80) return c[0] >= 0x20 && c[0] != 0x7f;
    size_t n = c[0] >= 0xc2 && c[0] < 0xe0 ? 2 : c[0] >= 0xe0 && c[0] < 0xf0 ? 3 : 4;
    if (c[0] < 0xc2 || c[0] > 0xf4) return 0;
    for (size_t i = 1; i < n; i++)
        if ((c[i] & 0xc0) != 0x80) return 0;
    bool overlong = (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xf0 && c[1] < 0x90);
    bool no_character = (c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf4 && c[1] > 0x8f);
    return overlong || no_character ? 0 : n;
}

static bool is_plain_text(const char *text) {
    const unsigned char *c = (const unsigned char *)text;
    while (*c) {
        size_t n = character(c);
        if (n == 0) return false;
        c += n;
    }
    return true;
}

/* The map as a CSV with its columns found. */
struct sheet {
    struct csv csv;
    const char *path;
    int code, label, unstated;
};

static enum ecg_status field(const struct sheet *s, size_t row, int column, const char **out) {
    size_t line = s->csv.lines[row];
    char *text = s->csv.cells[row * s->csv.n_columns + (size_t)column];
    const char *name = s->csv.header[column];
    while (*text == ' ') text++;
    for (size_t n = strlen(text); n > 0 && text[n - 1] == ' '; n--) text[n - 1] = '\0';
    *out = text;
    if (!*text) return ecg_fail(ECG_ERR_DATA, "%s:%zu: no %s", s->path, line, name);
    if (!is_plain_text(text))
        return ecg_fail(ECG_ERR_DATA, "%s:%zu: the %s holds bytes that are no text", s->path, line,
                        name);
    if (strlen(text) > MAX_FIELD)
        return ecg_fail(ECG_ERR_DATA, "%s:%zu: a %s of more than %d bytes", s->path, line, name,
                        MAX_FIELD);
    return ECG_OK;
}

static enum ecg_status read_unstated(const struct sheet *s, size_t row, bool *present) {
    *present = false;
    if (s->unstated < 0) return ECG_OK;
    const char *text = s->csv.cells[row * s->csv.n_columns + (size_t)s->unstated];
    *present = strcmp(text, "present") == 0;
    if (*present || !*text || strcmp(text, "unknown") == 0) return ECG_OK;
    return ecg_fail(ECG_ERR_DATA, "%s:%zu: unstated holds \"%.40s\": unknown or present wanted",
                    s->path, s->csv.lines[row], text);
}

static enum ecg_status read_row(struct label_map *m, const struct sheet *s, size_t row) {
    struct label_map_row *r = &m->rows[m->n];
    const char *code, *label;
    TRY(field(s, row, s->code, &code));
    TRY(field(s, row, s->label, &label));
    TRY(read_unstated(s, row, &r->present));
    r->line = s->csv.lines[row];
    r->label = names_find(&m->labels, label);
    if (r->label < 0) {
        r->label = m->labels.n;
        TRY(annotations_add_name(&m->labels, label));
    }
    TRY(mem_strdup(&r->code, code));
    m->n++;
    size_t n = strlen(r->code);
    r->is_prefix = r->code[n - 1] == '*';
    if (r->is_prefix) r->code[n - 1] = '\0';
    if (strchr(r->code, '*') != NULL || (r->is_prefix && n == 1))
        return ecg_fail(ECG_ERR_DATA, "%s:%zu: %s: a * may only end a code, as in I21*", s->path,
                        r->line, code);
    for (size_t i = 0; i + 1 < m->n; i++) {
        const struct label_map_row *other = &m->rows[i];
        if (other->label == r->label && other->is_prefix == r->is_prefix &&
            strcmp(other->code, r->code) == 0)
            return ecg_fail(ECG_ERR_DATA, "%s:%zu: %s with label %s stands in line %zu already",
                            s->path, r->line, code, label, other->line);
    }
    return ECG_OK;
}

static enum ecg_status read_sheet(struct label_map *m, struct sheet *s) {
    s->code = csv_column(&s->csv, "code");
    s->label = csv_column(&s->csv, "label");
    s->unstated = csv_column(&s->csv, "unstated");
    if (s->code < 0 || s->label < 0)
        return ecg_fail(ECG_ERR_DATA,
                        "%s:1: no column %s: a label map begins with the header \"code,label\"",
                        s->path, s->code < 0 ? "code" : "label");
    if (s->csv.n_rows == 0) return ecg_fail(ECG_ERR_DATA, "%s: no row after the header", s->path);
    TRY(MEM_NEW(&m->rows, s->csv.n_rows));
    for (size_t i = 0; i < s->csv.n_rows; i++) TRY(read_row(m, s, i));
    return ECG_OK;
}

enum ecg_status label_map_read(struct label_map *m, const char *path) {
    struct sheet s = {.path = path};
    enum ecg_status status;
    *m = (struct label_map){0};
    TRY_OUT(mem_strdup(&m->path, path));
    TRY_OUT(csv_read(&s.csv, path));
    TRY_OUT(read_sheet(m, &s));
out:
    csv_free(&s.csv);
    if (status != ECG_OK) label_map_free(m);
    return status;
}

void label_map_free(struct label_map *m) {
    for (size_t i = 0; m->rows != NULL && i < m->n; i++) free(m->rows[i].code);
    free(m->rows);
    free(m->path);
    names_free(&m->labels);
    *m = (struct label_map){0};
}

/* ------------------------------------------------------------------ codes */

bool label_map_matches(const struct label_map_row *row, const char *code) {
    const char *a = row->code, *b = code;
    for (;;) {
        while (*a == '.') a++;
        while (*b == '.') b++;
        if (!*a) return row->is_prefix || !*b;
        if (*a++ != *b++) return false;
    }
}

bool label_map_add(const struct label_map *m, const char *code, bool is_unstated, uint8_t *labels) {
    bool found = false;
    for (size_t i = 0; i < m->n; i++) {
        const struct label_map_row *r = &m->rows[i];
        if (!label_map_matches(r, code)) continue;
        found = true;
        if (!is_unstated || r->present)
            labels[r->label] = 1;
        else if (labels[r->label] != 1)
            labels[r->label] = SHARD_LABEL_UNKNOWN;
    }
    return found;
}

/* ------------------------------------------------------------------ evaluation */

static enum ecg_status check_labels(const struct label_map *m, const struct names *outputs) {
    for (size_t i = 0; i < m->n; i++) {
        const char *label = m->labels.v[m->rows[i].label];
        if (names_find(outputs, label) >= 0) continue;
        char hint[CONF_HINT_MAX];
        return ecg_fail(
            ECG_ERR_CONFIG, "%s:%zu: the network has no output %s%s", m->path, m->rows[i].line,
            label, conf_did_you_mean(hint, label, (const char *const *)outputs->v, outputs->n));
    }
    return ECG_OK;
}

/* Whether the map joins column `name` to label `label`. */
static bool joins(const struct label_map *m, int label, const char *name) {
    for (size_t i = 0; i < m->n; i++)
        if (m->rows[i].label == label && label_map_matches(&m->rows[i], name)) return true;
    return false;
}

static size_t count_absent(const struct label_map *m, const struct names *columns) {
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        bool found = false;
        for (int c = 0; c < columns->n && !found; c++)
            found = label_map_matches(&m->rows[i], columns->v[c]);
        n += !found;
    }
    return n;
}

static enum ecg_status fill_join(struct label_join *j, const struct label_map *m,
                                 const struct names *outputs, const struct names *columns) {
    size_t cap = 0, n = 0;
    TRY(MEM_NEW(&j->output, (size_t)outputs->n));
    TRY(MEM_NEW(&j->start, (size_t)outputs->n + 1));
    for (int o = 0; o < outputs->n; o++) {
        int label = names_find(&m->labels, outputs->v[o]);
        for (int c = 0; label >= 0 && c < columns->n; c++) {
            if (!joins(m, label, columns->v[c])) continue;
            TRY(mem_grow((void **)&j->column, &cap, n + 1, sizeof(*j->column)));
            j->column[n++] = c;
        }
        if (n == j->start[j->n]) continue;
        j->output[j->n++] = o;
        j->start[j->n] = n;
    }
    return ECG_OK;
}

enum ecg_status label_join_make(struct label_join *j, const struct label_map *m,
                                const struct names *outputs, const struct names *columns,
                                const struct names *known) {
    *j = (struct label_join){.n_absent = count_absent(m, columns)};
    TRY(check_labels(m, known));
    enum ecg_status status = fill_join(j, m, outputs, columns);
    if (status == ECG_OK && j->n == 0)
        status = ecg_fail(ECG_ERR_CONFIG,
                          "%s: no output has a code (%s, ...) that is a label column of the data "
                          "(%s, ...)",
                          m->path, m->rows[0].code, columns->n > 0 ? columns->v[0] : "it has none");
    if (status != ECG_OK) label_join_free(j);
    return status;
}

void label_join_free(struct label_join *j) {
    free(j->output);
    free(j->start);
    free(j->column);
    *j = (struct label_join){0};
}

uint8_t label_join_truth(const struct label_join *j, int i, const uint8_t *labels) {
    uint8_t truth = 0;
    for (size_t k = j->start[i]; k < j->start[i + 1]; k++) {
        uint8_t v = labels[j->column[k]];
        if (v == 1) return 1;
        if (v == SHARD_LABEL_UNKNOWN) truth = SHARD_LABEL_UNKNOWN;
    }
    return truth;
}
