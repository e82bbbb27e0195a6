/* SPDX-License-Identifier: MIT
 * Lead names: matched case-insensitively and by synonym (DI = I, D2 = II, AVR = aVR, "MLII" = II is NOT one), never by
 * position; limb leads that are missing are derived from two that are there (Einthoven, Goldberger). */
#ifndef DATA_LEADS_H
#define DATA_LEADS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

#define LEADS_MAX 64
#define LEAD_NAME_MAX 32

struct leads {
    int n;
    char name[LEADS_MAX][LEAD_NAME_MAX]; /* canonical spelling where known, else as in the source, trimmed */
};

extern const struct leads leads_standard12; /* I II III aVR aVL aVF V1..V6 */

/* Canonical spelling of a name, or the trimmed name itself. */
void leads_canonical(const char *name, char out[LEAD_NAME_MAX]);
/* Index of a lead in a set by canonical name; -1. */
int leads_find(const struct leads *set, const char *name);
/* "I,II,III": parse (ECG_ERR_DATA on empty, repeated or too many names) and print (fresh string). */
enum ecg_status leads_parse(struct leads *out, const char *text);
enum ecg_status leads_format(const struct leads *set, char **text);

/* How to make one wanted lead from a source's: sum over source leads of weight * lead. One weight 1 when the lead
 * is there; two when it is derived (III = II - I, aVR = -(I+II)/2, aVL = I - II/2, aVF = II - I/2 and their solutions
 * for I, II from other pairs of limb leads). ECG_ERR_DATA naming the lead when it can't be had. */
struct lead_mix {
    int n;
    int source[2];
    double weight[2];
};
enum ecg_status leads_mix(const struct leads *source, const char *wanted, struct lead_mix *mix);

#endif
