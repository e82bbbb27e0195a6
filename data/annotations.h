/* SPDX-License-Identifier: MIT
 * What is known about the records of an import: labels, targets, patient and fold, one row a
 * record. Readers fill it, from a CSV by record id (readers/table.h) or from arrays by row
 * (readers/arrays.h). */
#ifndef DATA_ANNOTATIONS_H
#define DATA_ANNOTATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "data/shard.h"

struct annotations {
    struct names labels, targets; /* K and T columns */
    size_t n;                     /* records */
    uint8_t *label;               /* (n, K): 1, 0, SHARD_LABEL_UNKNOWN */
    float *target;                /* (n, T): NaN unknown */
    char **patient;               /* (n), NULL unknown; or NULL */
    int16_t *fold;                /* (n), -1 unknown; or NULL */
    char **codes;                 /* (n), text of source codes, NULL unknown; or NULL */
};

/* Names are there already; makes the rest for n records with everything unknown. */
enum ecg_status annotations_init(struct annotations *a, size_t n, bool has_patient, bool has_fold);
void annotations_free(struct annotations *a); /* zeroed is fine */

/* Appends a copy of a name. ECG_ERR_CONFIG when it stands twice or is no column name (empty, with
 * a newline). */
enum ecg_status annotations_add_name(struct names *names, const char *name);

/* More label columns, unknown for every record; sets *first to the index of the first. Errors as
 * annotations_add_name. */
enum ecg_status annotations_add_labels(struct annotations *a, const struct names *more, int *first);

/* A label value: 0, 1, or unknown (NaN, -1, 255). False when it is none of them. */
bool annotations_label(double v, uint8_t *out);

/* A label or target column without one known value can teach nothing: ECG_ERR_DATA naming it and
 * `where` it came from. */
enum ecg_status annotations_check(const struct annotations *a, const char *where);

#endif
