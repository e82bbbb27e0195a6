/* SPDX-License-Identifier: MIT
 * WFDB header files (.hea): text to a table of signals. Accepts what real data sets hold: a record
 * name that differs from the file's, missing optional fields, comments and empty lines anywhere,
 * CRLF; and refuses what it can't read rightly (several segments, several samples per frame) with
 * the reason. Definition: physionet.org/physiotools/wag/header-5.htm */
#ifndef DATA_READERS_WFDB_HEADER_H
#define DATA_READERS_WFDB_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "data/leads.h"

struct wfdb_signal {
    char *file;       /* a plain name in the header's folder */
    int format;       /* as the header has it */
    uint64_t skew;    /* sample t stands at t + skew */
    uint64_t offset;  /* bytes before the file's first sample */
    double gain;      /* adc units per physical unit; missing or 0: 200 */
    int32_t baseline; /* adc value of 0; missing: the ADC zero */
    char units[16];   /* missing: "mV" */
    bool has_init, has_checksum;
    int64_t init;     /* first sample */
    int64_t checksum; /* sum of all samples, to be compared modulo 65536 */
    char name[LEAD_NAME_MAX];
};

struct wfdb_header {
    double rate; /* Hz; missing: 250 */
    bool has_length;
    uint64_t length; /* samples of each signal */
    int n_signals;   /* 1 .. LEADS_MAX */
    struct wfdb_signal *signals;
};

/* `where` is the file's name for messages; `text` holds `size` bytes and a 0 after them. All
 * errors are ECG_ERR_DATA with file and line. */
enum ecg_status wfdb_header_parse(struct wfdb_header *h, const char *text, size_t size,
                                  const char *where);
void wfdb_header_free(struct wfdb_header *h); /* zeroed is fine */

#endif
