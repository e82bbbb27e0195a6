/* SPDX-License-Identifier: MIT
 * Errors are values: every function that can fail returns an ecg_status and sets one message
 * at the place that knows most. Only main turns a status into an exit code. */
#ifndef CORE_STATUS_H
#define CORE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* Each status has the exit code of the command line that it ends in. */
enum ecg_status {
    ECG_OK = 0,           /* exit 0 */
    ECG_ERR_FAIL = 1,     /* exit 1: what no other status names (a missing device, a failed check) */
    ECG_ERR_USAGE = 2,    /* exit 2: the command line is wrong */
    ECG_ERR_DATA = 65,    /* exit 65: bad data: a file that is damaged, truncated or contradicts itself */
    ECG_ERR_NOINPUT = 66, /* exit 66: an input that does not exist or can't be read */
    ECG_ERR_CREATE = 73,  /* exit 73: an output that can't be created, or is in the way */
    ECG_ERR_IO = 74,      /* exit 74: reading or writing failed half-way (disk full) */
    ECG_ERR_STOPPED = 75, /* exit 75: stopped early with the state saved; run again with --resume */
    ECG_ERR_CONFIG = 78,  /* exit 78: a config key, value, column or shape that can't be */
    ECG_ERR_NOMEM = 71    /* exit 1: out of memory */
};

/* Sets the calling thread's message (printf style, no trailing newline) and returns `status`.
 * The message names file and place and says what to do where that is known. Control characters become
 * '?' (text from a hostile file must not reach the terminal); more than 2 KB is cut. */
enum ecg_status ecg_fail(enum ecg_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Puts text before the present message ("shard a.h5: " + message); returns `status`. */
enum ecg_status ecg_fail_prefix(enum ecg_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The calling thread's last message; "" when there is none. Valid until its next ecg_fail. */
const char *ecg_message(void);

/* The process exit code of a status. */
int ecg_exit_code(enum ecg_status status);

/* Forwards a failure to the caller. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        enum ecg_status try_status_ = (call);                                                      \
        if (try_status_ != ECG_OK) return try_status_;                                             \
    } while (0)

/* Forwards a failure to the label `out` of a function that holds things to free; needs a local
 * `enum ecg_status status`. */
#define TRY_OUT(call)                                                                              \
    do {                                                                                           \
        status = (call);                                                                           \
        if (status != ECG_OK) goto out;                                                            \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
