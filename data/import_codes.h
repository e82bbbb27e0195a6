/* SPDX-License-Identifier: MIT
 * The labels of an import that come from its records' codes by a label map. */
#ifndef DATA_IMPORT_CODES_H
#define DATA_IMPORT_CODES_H

#include <stddef.h>

#include "core/status.h"
#include "data/annotations.h"

/* Reads every header's "#FIELD:" into a->codes; `a` is made for n records when there is none yet. Paths are
 * WFDB records. ECG_ERR_DATA when no header has the line. */
enum ecg_status import_codes_headers(struct annotations *a, char *const *paths, size_t n,
                                     const char *field);

/* The labels of the map at map_path as more columns of `a`, from a->codes: 1 when one of a label's codes is there,
 * else unknown when one is there unstated, else 0; all unknown for a record whose codes are unknown. Says on stderr
 * how many codes no row is about, and warns of labels that no record has. `ids` name the records in messages, `where`
 * their source. ECG_ERR_DATA: the map (file:line), or codes that can't be read; ECG_ERR_CONFIG: a label of the map
 * that is a column already. */
enum ecg_status import_codes_labels(struct annotations *a, const char *map_path, char *const *ids,
                                    const char *where);

#endif
