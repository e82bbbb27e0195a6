/* SPDX-License-Identifier: MIT
 * Labels, targets, patients and folds from a CSV whose rows are joined to records by id: a row's
 * id cell equals the record_id, or else their last path components agree and no other row or
 * record shares it. */
#ifndef DATA_READERS_TABLE_H
#define DATA_READERS_TABLE_H

#include <stddef.h>

#include "core/status.h"
#include "data/annotations.h"
#include "data/column_rule.h"

struct table_spec {
    const char *path;
    const char *id_column; /* NULL: the first column */
    char *const *label_columns;
    int n_labels;
    char *const *target_columns;
    int n_targets;
    /* from columns of numbers (blank = unknown), after the columns above; borrowed */
    struct column_rules derived_labels, derived_targets;
    const char *code_column; /* its cells become annotations.codes; NULL: none */
    const char *patient_column, *fold_column; /* NULL: none */
};

/* Label cells are 0, 1, true, false (any case, also 0.0 and 1.0), target cells numbers, fold cells
 * integers; blank (or nan) is unknown. Fills `a` for records `ids`; *n_unmatched counts those
 * without a row. ECG_ERR_CONFIG: a column that is not there (names the nearest). ECG_ERR_DATA with
 * file:line: a bad cell, an id that stands twice, no row that fits any record, a label that is
 * unknown throughout. */
enum ecg_status table_read(struct annotations *a, const struct table_spec *spec, char *const *ids,
                           size_t n, size_t *n_unmatched);

#endif
