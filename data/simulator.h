/* SPDX-License-Identifier: MIT
 * Simulated 12-lead ECGs from a moving cardiac dipole: the heart vector of each beat is a sum of Gaussians for P, Q, R, S,
 * ST and T (McSharry 2003, Sameni 2007), a lead field with the patient's anatomy (Dower 1980) projects it to eight leads,
 * Einthoven and Goldberger give the other four. Labels and targets are the truth that the signal was made from.
 *
 * A record is a pure function of (seed, number, options): thread counts don't matter, and the same record at another rate
 * is the same signal (muscle noise apart: it is new chance at each rate). */
#ifndef DATA_SIMULATOR_H
#define DATA_SIMULATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "data/shard.h"

struct simulator_options {
    uint64_t seed;
    double sampling_rate; /* Hz, 1 to 100000 */
    double seconds;       /* above 0, up to a day */
    double noise; /* 1 = clinical amounts of wander, mains, muscle and electrode noise; 0 = none */
    bool outcomes; /* more columns, behind the others, which stay as they are */
};

enum { SIMULATOR_MAX_LABELS = 32, SIMULATOR_MAX_TARGETS = 16, SIMULATOR_MAX_LENGTH = 1 << 24 };

/* Column names, fixed order. Labels: one rhythm of sinus_rhythm (55-100 a minute), sinus_bradycardia, sinus_tachycardia,
 * atrial_fibrillation, atrial_flutter, and any number of conditions; normal_ecg = sinus rhythm without a finding.
 * Targets: age (years), sex (0 male, 1 female), heart_rate (1/min), pr_ms (NaN without P waves), qrs_ms and qt_ms of the
 * dominant beat, axis_deg (frontal, of the QRS area). A record too short for two beats has no heart rate (NaN).
 *
 * Outcomes hang on what the ECG shows alone, by known laws, so that the best that a model can reach is known. Each record has
 * its own, whoever's it is (survival times as Bender 2005, Stat Med 24:1713, draws them):
 *     log_hazard = -8.3 + 0.035 (heart_rate - 75) + 1.2 atrial_fibrillation + 1.5 lbbb + lvh + 0.8 long_qt
 *     death      after an exponential time of exp(log_hazard) a day; censored when the end of the follow-up comes before,
 *                which is uniform in 180 .. 3650 days, whatever the ECG: about half are
 *     follow_up_days  to death (label death = 1) or to that end (0), whole, 1 or more
 *     lvef_mean  = 62 - 0.15 (heart_rate - 75) - 16 lbbb - 10 atrial_fibrillation - 6 lvh - 12 anterior_st_elevation
 *     lvef_sd    = 4, 8 in atrial fibrillation
 *     lvef       Normal(lvef_mean, lvef_sd), percent; label low_lvef = below 50 */
const struct names *simulator_labels(const struct simulator_options *o);
const struct names *simulator_targets(const struct simulator_options *o);

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
