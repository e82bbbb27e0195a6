/* SPDX-License-Identifier: MIT
 * Simulated 12-lead ECGs from a moving cardiac dipole (McSharry 2003, Sameni 2007), with labels and targets whose truth
 * is known. A record is a pure function of (seed, number, options): thread counts don't matter. */
#ifndef DATA_SIMULATOR_H
#define DATA_SIMULATOR_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "data/shard.h"

struct simulator_options {
    uint64_t seed;
    double sampling_rate; /* Hz */
    double seconds;
    double noise;         /* 1 = clinical amounts of wander, mains and muscle noise; 0 = none */
};

enum { SIMULATOR_MAX_LABELS = 32, SIMULATOR_MAX_TARGETS = 16 };

/* Column names of labels and targets, fixed order. */
const struct names *simulator_labels(void);
const struct names *simulator_targets(void); /* age, sex (0 male, 1 female), heart_rate, pr, qrs, qt (ms), axis (deg) ... */

struct simulated {
    uint8_t labels[SIMULATOR_MAX_LABELS];
    float targets[SIMULATOR_MAX_TARGETS];
    uint64_t patient; /* some patients have several records */
    int fold;         /* 1..10 by patient */
};
/* mv: (12, length) millivolts, leads_standard12 order; length = round(seconds * rate). */
enum ecg_status simulator_record(const struct simulator_options *o, uint64_t number, double *mv, struct simulated *truth);

/* `synth`: N records as a data set, made by n_threads. Progress on stderr. */
enum ecg_status simulator_write(const struct simulator_options *o, const char *dir, size_t n_records, int n_threads,
                                const char *made_by);

#endif
