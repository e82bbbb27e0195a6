/* SPDX-License-Identifier: MIT
 * Which WFDB records the sources of an import name. A source is a folder (searched recursively for
 * .hea), a record with or without ".hea", or a text file with one such path a line, relative to
 * its own folder (PhysioNet's RECORDS). */
#ifndef DATA_IMPORT_SOURCES_H
#define DATA_IMPORT_SOURCES_H

#include <stddef.h>

#include "core/status.h"

/* paths[i]: the header's path; ids[i]: the path below the source (for a list: below the list's
 * folder) without ".hea". */
struct source_list {
    char **paths, **ids;
    size_t n, cap_paths, cap_ids;
};

/* In the order of the sources, folders sorted by name. A source that is not there, or no record at
 * all: ECG_ERR_NOINPUT. Records in a list are not looked up here. */
enum ecg_status source_list_find(struct source_list *l, char *const *sources, int n_sources);
void source_list_free(struct source_list *l); /* zeroed is fine */

#endif
