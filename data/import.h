/* SPDX-License-Identifier: MIT
 * Recordings to a data set: find them, read and prepare them on several threads, write shards in
 * the order found. What a data set shares (rate, length, leads, units) is what its first good
 * record has, with the options applied. */
#ifndef DATA_IMPORT_H
#define DATA_IMPORT_H

#include "core/status.h"
#include "data/prep/prep.h"
#include "data/readers/table.h"
#include "data/record.h"

enum import_format { IMPORT_WFDB, IMPORT_HDF5 };
extern const char *const import_format_names[]; /* NULL-terminated, in the enum's order */

struct import_options {
    enum import_format format;
    /* wfdb: folders (searched recursively for .hea), records, lists of paths; hdf5: one file */
    char *const *sources;
    int n_sources;
    const char *map;         /* hdf5: MAP.yaml */
    struct table_spec table; /* wfdb: labels from a CSV; path NULL = none */
    /* labels from codes (label_map.h), after the others; NULL: none. The codes: wfdb: of
     * table.code_column, without one of the headers' "#code_field:"; hdf5: of the map's dataset */
    const char *label_map, *code_field;
    /* leads n 0: the first record's; the standard twelve in their order when it has them */
    struct prep prep;
    const char *out;     /* a folder that is new or empty */
    int jobs;            /* threads; 0 = all allowed cores */
    const char *made_by; /* the command line, for dataset.json */
};

/* Goes on past records that can't be had; OUT/rejected.csv lists each as record_id,reason. With
 * WINDOWS the ids of a recording's windows are ID/0, ID/1, ... The result does not depend on
 * `jobs`. Progress and a summary on stderr. ECG_ERR_DATA: none is left (the first reasons are
 * printed, nothing is left behind), or labels that can't be used; ECG_ERR_NOINPUT: a source that
 * is not there or holds no record; ECG_ERR_CONFIG: options, map or column names; ECG_ERR_CREATE,
 * ECG_ERR_IO: the output. */
enum ecg_status import_run(const struct import_options *o);

/* One WFDB record, prepared; its id is `path`. For predictions on a recording that is in no data
 * set. */
enum ecg_status import_read_record(const char *path, const struct prep *prep, struct record *out);

#endif
