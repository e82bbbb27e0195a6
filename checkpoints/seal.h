/* SPDX-License-Identifier: MIT
 * state.json's seal: the size and xxHash64 of the files beside it and, in its last line, the hash of all its bytes before.
 * A flipped bit, a cut or a missing file are found before anything is loaded. */
#ifndef CHECKPOINTS_SEAL_H
#define CHECKPOINTS_SEAL_H

#include <stddef.h>
#include <stdint.h>

#include "core/json.h"
#include "core/status.h"

struct seal_file {
    const char *name; /* in the checkpoint's folder */
    const void *data;
    size_t n;
};

/* Closes the object that w is writing (pretty) with the seal over n files; *text is what state.json is to hold. */
enum ecg_status seal_text(struct json_writer *w, const struct seal_file *files, size_t n, char **text);

/* Reads DIR/state.json and all that it seals. What is missing, cut short or changed: an error that names the file and says
 * what is wrong with it (ECG_ERR_DATA; ECG_ERR_NOINPUT where it is not there; ECG_ERR_IO where it can't be read). */
enum ecg_status seal_check(const char *dir);

#endif
