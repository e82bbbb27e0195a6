/* SPDX-License-Identifier: MIT
 * The handlers only set flags; everything else is asked after a step. */
#include "train/run/stop.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/log.h"

static volatile sig_atomic_t asked, interrupted, save_asked;

static struct {
    bool limited;
    double deadline; /* of log_clock */
    double reserve;  /* seconds before it that are kept in any case */
    double last;     /* the poll before, or stop_begin */
    double longest_step, longest_save;
    struct stop_end end;
} state;

/* ------------------------------------------------------------------ signals */

static void on_signal(int number) {
    if (number == SIGINT)
        interrupted = 1;
    else if (number == SIGUSR2)
        save_asked = 1;
    else
        asked = 1;
}

void stop_catch_signals(void) {
    struct sigaction again = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct sigaction once = {.sa_handler = on_signal, .sa_flags = (int)(SA_RESTART | SA_RESETHAND)};
    sigaction(SIGTERM, &again, NULL);
    sigaction(SIGUSR1, &again, NULL);
    sigaction(SIGUSR2, &again, NULL);
    sigaction(SIGINT, &once, NULL);
}

/* ------------------------------------------------------------------ the time limit */

/* Digits up to `end`, at most 9 of them; -1 for anything else. */
static long number_until(const char *text, const char *end) {
    long v = 0;
    if (text == end || end - text > 9) return -1;
    for (; text < end; text++) {
        if (!isdigit((unsigned char)*text)) return -1;
        v = 10 * v + (*text - '0');
    }
    return v;
}

/* [D-]HH:MM[:SS] or minutes in seconds; -1. */
static double parse_time(const char *text) {
    const char *dash = strchr(text, '-');
    double days = dash != NULL ? (double)number_until(text, dash) : 0;
    long part[3] = {0};
    int n = 0;
    if (days < 0) return -1;
    for (const char *at = dash != NULL ? dash + 1 : text; at != NULL; n++) {
        const char *colon = strchr(at, ':');
        if (n == 3) return -1;
        part[n] = number_until(at, colon != NULL ? colon : at + strlen(at));
        if (part[n] < 0 || (n > 0 && part[n] > 59)) return -1;
        at = colon != NULL ? colon + 1 : NULL;
    }
    if (n == 1) return dash != NULL ? -1 : 60.0 * (double)part[0];
    if (dash != NULL && part[0] > 23) return -1;
    return 86400 * days + 3600.0 * (double)part[0] + 60.0 * (double)part[1] + (double)part[2];
}

/* Seconds that the environment leaves this job; infinity where it doesn't say. */
static double job_seconds(void) {
    const char *text = getenv("SLURM_JOB_END_TIME");
    char *end;
    if (text == NULL || *text == 0) return INFINITY;
    errno = 0;
    long long at = strtoll(text, &end, 10);
    if (errno == 0 && end != text && *end == 0 && at > 0)
        return (double)(at - (long long)time(NULL));
    log_warn("SLURM_JOB_END_TIME: \"%s\" is no time (seconds since 1970): ignored", text);
    return INFINITY;
}

enum ecg_status stop_limit(const char *max_time) {
    double asked_for = max_time != NULL ? parse_time(max_time) : INFINITY;
    if (!(asked_for > 0))
        return ecg_fail(ECG_ERR_USAGE,
                        "--max-time: \"%s\" is no time: [D-]HH:MM[:SS] (hours and minutes), or a "
                        "number of minutes",
                        max_time);
    double of_job = job_seconds();
    double seconds = fmax(0, of_job < asked_for ? of_job : asked_for);
    if (isinf(seconds)) return ECG_OK;
    state.limited = true;
    state.deadline = log_clock() + seconds;
    state.reserve = fmin(60, 0.05 * seconds);
    log_info("time limit: saves and stops within %.0f s (%s)", seconds,
             of_job < asked_for ? "SLURM_JOB_END_TIME" : "--max-time");
    return ECG_OK;
}

static bool time_is_up(double needed) {
    return state.limited && log_clock() + needed + state.reserve >= state.deadline;
}

/* ------------------------------------------------------------------ asked by the run */

void stop_begin(void) {
    state.last = log_clock();
}

void stop_saved(double seconds) {
    state.longest_save = fmax(state.longest_save, seconds);
}

static enum stop_wish to_stop(double needed) {
    if (interrupted) return STOP_INTERRUPT;
    if (asked) return STOP_ASKED;
    return time_is_up(needed) ? STOP_TIME : STOP_NONE;
}

enum stop_wish stop_poll(void) {
    double now = log_clock();
    state.longest_step = fmax(state.longest_step, now - state.last);
    state.last = now;
    state.end.worked = true;
    enum stop_wish wish = to_stop(1.5 * (state.longest_step + state.longest_save));
    if (wish != STOP_NONE || !save_asked) return wish;
    save_asked = 0;
    return STOP_SAVE;
}

enum stop_wish stop_now(void) {
    return to_stop(0);
}

void stop_settle(enum stop_wish wish, bool first) {
    state.end.wish = wish;
    state.end.first = first;
}

struct stop_end stop_end(void) {
    return state.end;
}
