/* SPDX-License-Identifier: MIT
 * The file is read whole and parsed in place: a cell is closed by a 0 where its separator stood, and a
 * quoted cell is moved together as its quotes go (it only ever gets shorter). */
#include "core/csv.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"

#define MAX_BYTES ((size_t)1 << 30)

/* Where the parser stands. */
struct cursor {
    const char *path;
    char *at, *end; /* the next byte; *end is 0 */
    size_t line;
    size_t n_cells, cap_cells, cap_lines; /* of struct csv */
};

/* How a cell ended. */
enum cell_end { CELL_END_COMMA, CELL_END_LINE, CELL_END_FILE };

/* Takes the separator after a cell, closes the cell at `close`. */
static enum ecg_status take_separator(struct cursor *c, char *close, enum cell_end *how) {
    enum ecg_status status = ECG_OK;
    if (c->at == c->end) {
        *how = CELL_END_FILE;
    } else if (*c->at == ',') {
        *how = CELL_END_COMMA;
        c->at++;
    } else if (*c->at == '\n' || *c->at == '\r') {
        *how = CELL_END_LINE;
        c->at += c->at[0] == '\r' && c->at[1] == '\n' ? 2 : 1;
        c->line++;
    } else {
        status = ecg_fail(ECG_ERR_DATA, "%s:%zu: text after a closing quote", c->path, c->line);
    }
    *close = 0;
    return status;
}

static enum ecg_status quoted_cell(struct cursor *c, char **cell, enum cell_end *how) {
    size_t start_line = c->line;
    char *to = ++c->at; /* past the opening quote */
    *cell = to;
    for (;; c->at++) {
        if (c->at == c->end)
            return ecg_fail(ECG_ERR_DATA, "%s:%zu: a quote opens here and is never closed", c->path,
                            start_line);
        if (*c->at == '"' && *++c->at != '"') break;
        if (*c->at == '\n' || (*c->at == '\r' && c->at[1] != '\n')) c->line++;
        *to++ = *c->at;
    }
    return take_separator(c, to, how);
}

static enum ecg_status next_cell(struct cursor *c, char **cell, enum cell_end *how) {
    if (*c->at == '"') return quoted_cell(c, cell, how);
    *cell = c->at;
    c->at += strcspn(c->at, ",\r\n");
    return take_separator(c, c->at, how);
}

/* Appends one row's cells; *n is their number, 0 at the end of the file. */
static enum ecg_status next_row(struct csv *csv, struct cursor *c, size_t *n) {
    enum cell_end how = CELL_END_COMMA;
    *n = 0;
    if (c->at == c->end) return ECG_OK;
    while (how == CELL_END_COMMA) {
        char *cell;
        TRY(next_cell(c, &cell, &how));
        TRY(mem_grow((void **)&csv->cells, &c->cap_cells, c->n_cells + 1, sizeof *csv->cells));
        csv->cells[c->n_cells++] = cell;
        ++*n;
    }
    return ECG_OK;
}

static int compare_texts(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The first row becomes the header. */
static enum ecg_status read_header(struct csv *csv, struct cursor *c) {
    TRY(next_row(csv, c, &csv->n_columns));
    if (csv->n_columns == 0)
        return ecg_fail(ECG_ERR_DATA, "%s:1: empty; the first line must name the columns", c->path);
    char **sorted;
    TRY(MEM_NEW(&csv->header, csv->n_columns));
    TRY(MEM_NEW(&sorted, csv->n_columns));
    memcpy(csv->header, csv->cells, csv->n_columns * sizeof *sorted);
    memcpy(sorted, csv->cells, csv->n_columns * sizeof *sorted);
    c->n_cells = 0;
    qsort(sorted, csv->n_columns, sizeof *sorted, compare_texts);
    enum ecg_status status = ECG_OK;
    for (size_t i = 1; i < csv->n_columns && status == ECG_OK; i++)
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            status = ecg_fail(ECG_ERR_DATA, "%s:1: two columns are named '%s'", c->path, sorted[i]);
    free(sorted);
    return status;
}

static enum ecg_status read_rows(struct csv *csv, struct cursor *c) {
    for (;;) {
        size_t line = c->line, n;
        TRY(next_row(csv, c, &n));
        if (n == 0) return ECG_OK;
        if (n == 1 && csv->n_columns > 1 && csv->cells[c->n_cells - 1][0] == 0) {
            c->n_cells--; /* a blank line */
            continue;
        }
        if (n != csv->n_columns)
            return ecg_fail(ECG_ERR_DATA, "%s:%zu: %zu cells, but the first line names %zu columns",
                            c->path, line, n, csv->n_columns);
        TRY(mem_grow((void **)&csv->lines, &c->cap_lines, csv->n_rows + 1, sizeof *csv->lines));
        csv->lines[csv->n_rows++] = line;
    }
}

static enum ecg_status refuse_nul(const char *text, size_t n, const char *path) {
    const char *nul = memchr(text, 0, n);
    if (!nul) return ECG_OK;
    size_t line = 1;
    for (const char *c = text; c < nul; c++) line += *c == '\n';
    return ecg_fail(ECG_ERR_DATA, "%s:%zu: a NUL byte: this is not a text file", path, line);
}

enum ecg_status csv_read(struct csv *c, const char *path) {
    size_t n;
    *c = (struct csv){0};
    TRY(file_read(path, MAX_BYTES, &c->text, &n));
    bool has_mark = n >= 3 && memcmp(c->text, "\xEF\xBB\xBF", 3) == 0;
    struct cursor cursor = {
        .path = path, .at = c->text + (has_mark ? 3 : 0), .end = c->text + n, .line = 1};
    enum ecg_status status = refuse_nul(c->text, n, path);
    if (status == ECG_OK) status = read_header(c, &cursor);
    if (status == ECG_OK) status = read_rows(c, &cursor);
    if (status != ECG_OK) csv_free(c);
    return status;
}

void csv_free(struct csv *c) {
    free(c->text);
    free(c->header);
    free(c->cells);
    free(c->lines);
    *c = (struct csv){0};
}

int csv_column(const struct csv *c, const char *name) {
    for (size_t i = 0; i < c->n_columns; i++)
        if (strcmp(c->header[i], name) == 0) return (int)i;
    return -1;
}

void csv_put(FILE *f, const char *cell) {
    if (!strpbrk(cell, ",\"\r\n")) {
        fputs(cell, f);
        return;
    }
    putc('"', f);
    for (; *cell; cell++) {
        if (*cell == '"') putc('"', f);
        putc(*cell, f);
    }
    putc('"', f);
}
