/* SPDX-License-Identifier: MIT
 * The codes of one record as data sets write them into a text:
 *     {'NORM': 100.0, 'SR': 0.0}     a Python dict of likelihoods, 0 = unstated (PTB-XL's scp_codes)
 *     ['I21.4', 'N18.3']             a Python or JSON list
 *     426783006,164889003            separated by , ; or | (CinC's #Dx, ICD columns)
 * and the line "#FIELD: text" of a WFDB header that holds such a text. */
#ifndef DATA_READERS_CODES_H
#define DATA_READERS_CODES_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

struct code {
    char *text;
    bool is_unstated; /* likelihood 0 */
};

struct codes {
    bool known; /* false: blank, "nan", "none", "unknown": nothing is known; {} and [] are known */
    struct code *v;
    size_t n, cap;
};

/* ECG_ERR_DATA naming what is wrong in a dict or list that is none. */
enum ecg_status codes_parse(struct codes *c, const char *text);
void codes_free(struct codes *c); /* zeroed is fine */

/* The text after "#FIELD:" (upper and lower case are one) in the header of a WFDB record, fresh; NULL
 * when no line has it or the header can't be read: reading the record says why. */
enum ecg_status codes_of_header(char **text, const char *record_path, const char *field);

#endif
