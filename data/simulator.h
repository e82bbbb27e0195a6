/* SPDX-License-Identifier: MIT
 * Simulated 12-lead ECGs from a moving cardiac dipole: the heart vector of each beat is a sum of Gaussians for P, Q, R, S,
 * ST and T (McSharry 2003, Sameni 2007), a lead field with the patient's anatomy (Dower 1980) projects it to eight leads,
 * Einthoven and Goldberger give the other four. Labels and targets are the truth that the signal was made from.
 *
 * A record is a pure function of (seed, number, options): thread counts don't matter, and the same record at another rate
 * is the same signal (muscle noise apart: it is new chance at each rate). */
#ifndef DATA_SIMULATOR_H
#define DATA_SIMULATOR_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "data/shard.h"

struct simulator_options {
    uint64_t seed;
    double sampling_rate; /* Hz, 1 to 100000 */
    double seconds;       /* above 0, up to a day */
    double noise; /* 1 = clinical amounts of wander, mains, muscle and electrode noise; 0 = none */
};

enum { SIMULATOR_MAX_LABELS = 32, SIMULATOR_MAX_TARGETS = 16, SIMULATOR_MAX_LENGTH = 1 << 24 };

/* Column names, fixed order. Labels: one rhythm of sinus_rhythm (55-100 a minute), sinus_bradycardia, sinus_tachycardia,
 * atrial_fibrillation, atrial_flutter, and any number of conditions; normal_ecg = sinus rhythm without a finding.
 * Targets: age (years), sex (0 male, 1 female), heart_rate (1/min), pr_ms (NaN without P waves), qrs_ms and qt_ms of the
 * dominant beat, axis_deg (frontal, of the QRS area). A record too short for two beats has no heart rate (NaN). */
const struct names *simulator_labels(void);
const struct names *simulator_targets(void);

struct simulated {
    uint8_t labels[SIMULATOR_MAX_LABELS]; /* 0 or 1 */
    float targets[SIMULATOR_MAX_TARGETS];
    uint64_t patient; /* 10 patients to 13 records; age, sex and anatomy are the patient's */
    int fold;         /* 1..10 by patient */
};

/* Checks the options (ECG_ERR_USAGE) and gives a record's length in samples: round(seconds * rate). */
enum ecg_status simulator_length(const struct simulator_options *o, int *length);
/* mv: (12, length) millivolts, leads_standard12 order. Thread-safe. `number` counts from 0 and stays below 2^62. */
enum ecg_status simulator_record(const struct simulator_options *o, uint64_t number, double *mv,
                                 struct simulated *truth);

/* `synth`: records 0 to n_records - 1 as a data set in the folder `dir`, made by n_threads (0 = all allowed cores), in whole
 * microvolts. record_id "sim-00000001", patient_id "p-00000001", both from 1. Progress goes to stderr. After a failure
 * nothing is left in the file system. */
enum ecg_status simulator_write(const struct simulator_options *o, const char *dir,
                                size_t n_records, int n_threads, const char *made_by);

#endif
