/* SPDX-License-Identifier: MIT
 * WFDB records: a header and its data files in formats 16, 212 and 80, at any byte offset (so also
 * PhysioNet challenge .mat files, format 16 after 24 bytes). */
#ifndef DATA_READERS_WFDB_H
#define DATA_READERS_WFDB_H

#include "core/status.h"
#include "data/record.h"

/* Reads a record; `path` with or without ".hea". Signals in mV, uV or V come out in mV; others
 * (pressure, pleth) are left out unless they carry the name of a standard lead, which is an error.
 * Physical value = (adc - baseline) / gain, the formats' invalid value (-32768, -2048, -128) is
 * NaN, a skewed signal's missing end too. Initial values and checksums are verified where the
 * header has them. The id stays NULL: it is the caller's. ECG_ERR_NOINPUT: no such header.
 * ECG_ERR_DATA: anything wrong with header or data, a missing data file included. */
enum ecg_status wfdb_read(struct record *r, const char *path);

/* The header's text, fresh; `path` as above. ECG_ERR_NOINPUT, ECG_ERR_DATA (too large). */
enum ecg_status wfdb_read_header(char **text, const char *path);

#endif
