/* SPDX-License-Identifier: MIT
 * A list of column names. In files and in metadata it is one text with a name a line. */
#ifndef DATA_NAMES_H
#define DATA_NAMES_H

#include <stdbool.h>

#include "core/status.h"

struct names {
    int n;
    char **v;
};

/* From a name a line; a newline at the end and CRLF are fine. An empty or repeated name is ECG_ERR_DATA; `where`
 * ("a.h5: /labels: attribute names") stands before the message. */
enum ecg_status names_parse(struct names *s, const char *text, const char *where);
/* A name a line, without a newline at the end; fresh. A name that holds a newline: ECG_ERR_DATA. */
enum ecg_status names_join(const struct names *s, char **text);
enum ecg_status names_copy(struct names *out, const struct names *s);
bool names_equal(const struct names *a, const struct names *b); /* same names in the same order */
int names_find(const struct names *s, const char *name);        /* index; -1 */
void names_free(struct names *s);                               /* idempotent */

#endif
