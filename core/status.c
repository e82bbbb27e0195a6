/* SPDX-License-Identifier: MIT
 * The message of the last failure, one for each thread. It is formatted into a buffer of its own first,
 * since an argument may point into the present message ("%s" with ecg_message()). */
#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_BYTES 2048

static _Thread_local char message[MESSAGE_BYTES];

/* Makes `text` the message. `length` is what was asked for: a message that was cut ends in "...", so that
 * nobody takes it for whole. */
static void set_message(char *text, int length) {
    if (length >= MESSAGE_BYTES) memcpy(text + MESSAGE_BYTES - 4, "...", 4);
    for (char *c = text; *c; c++)
        if (((unsigned char)*c < 32 && *c != '\n' && *c != '\t') || *c == 127) *c = '?';
    memcpy(message, text, strlen(text) + 1);
}

enum ecg_status ecg_fail(enum ecg_status status, const char *format, ...) {
    char text[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (length < 0) length = snprintf(text, sizeof text, "%s", format);
    set_message(text, length);
    return status;
}

enum ecg_status ecg_fail_prefix(enum ecg_status status, const char *format, ...) {
    char text[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (length < 0) length = snprintf(text, sizeof text, "%s", format);
    if (length < MESSAGE_BYTES)
        length += snprintf(text + length, sizeof text - (size_t)length, "%s", message);
    set_message(text, length);
    return status;
}

const char *ecg_message(void) {
    return message;
}

int ecg_exit_code(enum ecg_status status) {
    return status == ECG_ERR_NOMEM ? 1 : (int)status;
}
