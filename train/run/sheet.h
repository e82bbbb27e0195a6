/* SPDX-License-Identifier: MIT
 * Facts on stdout: "key: value" lines with sections for people, or one JSON object with the same keys. */
#ifndef TRAIN_RUN_SHEET_H
#define TRAIN_RUN_SHEET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/json.h"
#include "core/status.h"

struct sheet {
    bool json;
    int depth;
    struct json_writer w;
};

void sheet_begin(struct sheet *s, bool json);
void sheet_section(struct sheet *s, const char *key);
void sheet_end_section(struct sheet *s);
void sheet_text(struct sheet *s, const char *key, const char *value); /* NULL: null, "-"; lines are joined by ", " */
void sheet_integer(struct sheet *s, const char *key, int64_t value);
void sheet_number(struct sheet *s, const char *key, double value);
/* For people in MiB, and in the unit that suits; in JSON bytes and seconds. */
void sheet_bytes(struct sheet *s, const char *key, uint64_t bytes);
void sheet_seconds(struct sheet *s, const char *key, double seconds);
/* Prints what was gathered (JSON) and frees. */
enum ecg_status sheet_finish(struct sheet *s);

#endif
