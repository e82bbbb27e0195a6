/* SPDX-License-Identifier: MIT
 * CSV as RFC 4180 has it: quoted commas, doubled quotes, newlines inside quotes, CRLF, a UTF-8 BOM. A line
 * may also end in CR alone; blank lines are skipped where there is more than one column; a quote inside an
 * unquoted cell is text. */
#ifndef CORE_CSV_H
#define CORE_CSV_H

#include <stddef.h>
#include <stdio.h>

#include "core/status.h"

struct csv {
    char *text;         /* owns all cells */
    char **header;      /* n_columns names */
    char **cells;       /* (n_rows, n_columns); a cell is never NULL */
    size_t *lines;      /* (n_rows) line number of each row's start, 1-based */
    size_t n_rows, n_columns;
};

/* Whole file, first row = names. A row of another length, an open quote at the end, a repeated column
 * name, text after a closing quote, a NUL byte, more than 1 GiB: ECG_ERR_DATA with file:line. */
enum ecg_status csv_read(struct csv *c, const char *path);
void csv_free(struct csv *c);
/* Index of a column; -1 when it is not there. */
int csv_column(const struct csv *c, const char *name);
/* Writes one cell, quoted when it must be; no separator. */
void csv_put(FILE *f, const char *cell);

#endif
