/* SPDX-License-Identifier: MIT
 * One recording in memory, between a reader and a shard. */
#ifndef DATA_RECORD_H
#define DATA_RECORD_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"
#include "data/leads.h"

struct record {
    char *id;
    double sampling_rate;  /* Hz */
    size_t length;         /* L */
    struct leads leads;    /* C = leads.n */
    double *signal;        /* (C, L) physical values in `units`; NaN = invalid sample */
    char units[8];         /* "mV" or "none"; uV and V are converted to mV by the reader */
    bool has_adc;          /* one gain for all leads: signal == adc / gain, adc already minus its baseline, all fit int16 */
    double gain;           /* adc units per mV */
};
void record_free(struct record *r); /* idempotent, zeroed is fine */

#endif
