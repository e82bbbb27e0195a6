/* SPDX-License-Identifier: MIT
 * Recordings from arrays of anybody's HDF5 file, found by a map (array_map.h). */
#ifndef DATA_READERS_ARRAYS_H
#define DATA_READERS_ARRAYS_H

#include <stddef.h>

#include "core/status.h"
#include "data/annotations.h"
#include "data/record.h"

struct arrays;

/* Opens file and map and checks that every dataset is there (else ECG_ERR_CONFIG naming it), has a
 * fitting shape and as many rows as the signal (else ECG_ERR_DATA). */
enum ecg_status arrays_open(struct arrays **a, const char *path, const char *map_path);
void arrays_close(struct arrays *a); /* NULL is fine */

size_t arrays_count(const struct arrays *a);
/* Doubles that one row of the signal takes. */
size_t arrays_row_size(const struct arrays *a);

/* Rows that are stored (and compressed) together: reading runs of whole ones unpacks each once. */
size_t arrays_block(const struct arrays *a);

/* Ids, fresh: free each and the array. */
enum ecg_status arrays_ids(struct arrays *a, char ***ids);
/* Labels, targets, patients, folds of all rows. ECG_ERR_DATA: a label that is not 0, 1 or unknown,
 * a label column that is unknown throughout. */
enum ecg_status arrays_annotations(struct arrays *a, struct annotations *out);

/* Reads rows [first, first + n) as stored, (n, arrays_row_size). HDF5: one thread at a time. */
enum ecg_status arrays_read(struct arrays *a, size_t first, size_t n, double *rows);
/* One such row as a record in mV (or without units). Thread-safe. */
enum ecg_status arrays_record(const struct arrays *a, size_t row, const double *values,
                              struct record *out);

#endif
