/* SPDX-License-Identifier: MIT
 * Messages for people, on stderr. Data goes to stdout and never through here. */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO };

/* default LOG_INFO; -q = LOG_WARN. Returns the level before. */
enum log_level log_set_level(enum log_level level);

/* "einthoven: warning: ..." ; colour only on a terminal, not with NO_COLOR (set, non-empty) or TERM=dumb. */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Progress of a long job: one line redrawn on a terminal (at most 10 times a second), a plain line every
 * 10 s in a log file. `text` is appended ("loss 0.312  421 ECG/s"); ETA comes from done/total. */
struct progress {
    const char *what;    /* "import", "epoch 3/15" */
    double start, last;  /* seconds, monotonic */
    bool shown;
};
void progress_start(struct progress *p, const char *what);
void progress_update(struct progress *p, double done, double total, const char *text);
void progress_end(struct progress *p); /* clears the terminal's line */

double log_clock(void); /* monotonic seconds */

#ifdef __cplusplus
}
#endif

#endif
