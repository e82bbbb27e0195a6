/* SPDX-License-Identifier: MIT
 * MAP.yaml: which dataset of an HDF5 file is what. Names are HDF5 paths ("tracings", "group/ecg").
 *
 *     signal: tracings              # (N, L, C) or (N, C, L); (N, L) when there is one lead
 *     layout: NLC                   # NLC | NCL
 *     sampling_rate: 100            # Hz; or the name of a dataset (one value, or one a record) or
 *     of an attribute
 *     scale: 0.001                  # physical value = stored value * scale; default 1
 *     units: none                   # mV (default) | uV | V | none
 *     leads: [I, II, III, aVR, aVL, aVF, V1, V2, V3, V4, V5, V6]
 *     record_id: ecg_id             # text or integers; default: the row's number
 *     patient_id: patient_id        # default: the record_id
 *     labels:
 *       superclass: [NORM, MI, STTC, CD, HYP]   # 2-D 0/1 dataset, one name a column; 1-D: one name
 *       age_over_65: {dataset: age, above: 65}  # derived: column_rule.h
 *     targets: {age: {dataset: age, unknown: [300]}, height: cm}
 *     codes: scp_codes              # text or integers, with --label-map (readers/codes.h)
 *     fold: strat_fold
 */
#ifndef DATA_READERS_ARRAY_MAP_H
#define DATA_READERS_ARRAY_MAP_H

#include <stdbool.h>

#include "core/status.h"
#include "data/column_rule.h"
#include "data/leads.h"
#include "data/shard.h"

struct array_label {
    char *dataset;
    struct names columns;
};

struct array_map {
    char *signal;
    bool channels_first; /* NCL */
    double rate;         /* Hz; 0: see rate_name */
    char *rate_name;
    double scale;
    char units[8];
    struct leads leads;
    char *record_id, *patient_id, *fold; /* NULL: none */
    struct array_label *labels;
    int n_labels;
    struct column_rules derived; /* labels derived from 1-D datasets, after those of `labels` */
    struct column_rules targets;
    char *codes; /* dataset of codes for a label map; NULL: none */
};

/* ECG_ERR_CONFIG with file:line for an unknown key (naming the nearest), a value of the wrong
 * kind, a missing signal, sampling_rate or leads. ECG_ERR_NOINPUT: no such file. */
enum ecg_status array_map_read(struct array_map *m, const char *path);
void array_map_free(struct array_map *m); /* zeroed is fine */

#endif
