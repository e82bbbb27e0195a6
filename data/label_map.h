/* SPDX-License-Identifier: MIT
 * A label map joins source codes (SCP statements, SNOMED CT, ICD) to labels: a CSV with the columns
 * `code` and `label` and any others, a row a pair. One code may stand for several labels and several
 * codes for one. A code that ends in * stands for all that begin with it ("I21*"); dots don't count
 * ("I21.4" is "I214"). An optional column `unstated` says what a code of likelihood 0 means
 * (PTB-XL): unknown (or blank, the default), or present (its rhythm and form statements, which
 * never carry a likelihood). */
#ifndef DATA_LABEL_MAP_H
#define DATA_LABEL_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "data/names.h"

struct label_map_row {
    char *code;   /* as it stands, without the * */
    bool is_prefix;
    int label;    /* index into the map's labels */
    bool present; /* also at likelihood 0 */
    size_t line;
};

struct label_map {
    char *path;
    struct names labels; /* in the order of first appearance */
    struct label_map_row *rows;
    size_t n;
};

/* ECG_ERR_DATA with file:line: no such columns, an empty or too long field, control characters or
 * broken UTF-8, a pair that stands twice, no row at all. ECG_ERR_NOINPUT: no such file. */
enum ecg_status label_map_read(struct label_map *m, const char *path);
void label_map_free(struct label_map *m); /* zeroed is fine */

/* Whether this row is about the code. */
bool label_map_matches(const struct label_map_row *row, const char *code);

/* A code of a record into its (labels.n) labels: present, or unknown where it is unstated and nothing
 * says present. The labels start as 0. Returns false when no row is about it. */
bool label_map_add(const struct label_map *m, const char *code, bool is_unstated, uint8_t *labels);

/* ------------------------------------------------------------------ evaluation */

/* A network's outputs and the columns of a data set (named by code) that the map joins to each. */
struct label_join {
    int n;          /* outputs with at least one column */
    int *output;    /* (n) index into the outputs, ascending */
    size_t *start;  /* (n + 1) into column */
    int *column;    /* data set's label columns, ascending within an output */
    size_t n_absent; /* the map's rows whose code is no column, for a message */
};

/* `known` are all outputs of the network, `outputs` those to be joined. ECG_ERR_CONFIG with file:line for a
 * label that is none of `known` (names the nearest); and when no output has a column. */
enum ecg_status label_join_make(struct label_join *j, const struct label_map *m,
                                const struct names *outputs, const struct names *columns,
                                const struct names *known);
void label_join_free(struct label_join *j); /* zeroed is fine */

/* Truth of output i of the join, from a record's labels: 1 when any of its columns is 1, else unknown
 * when any is unknown, else 0. */
uint8_t label_join_truth(const struct label_join *j, int i, const uint8_t *labels);

#endif
