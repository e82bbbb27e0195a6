/* SPDX-License-Identifier: MIT
 * One write to stderr a message, so that lines of several threads or processes do not mix. A progress
 * line on the terminal is wiped before a message and drawn again by the next update. */
#include "core/log.h"

#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES       4096
#define REDRAW_SECONDS   0.1
#define LOG_LINE_SECONDS 10.0
#define WIPE_LINE        "\r\033[K"

static atomic_int level_shown = LOG_INFO;
static atomic_bool line_drawn; /* a progress line stands on the terminal */

enum log_level log_set_level(enum log_level level) {
    return (enum log_level)atomic_exchange(&level_shown, (int)level);
}

double log_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Whether stderr understands escape sequences. */
static bool is_terminal(void) {
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
}

static bool has_colour(void) {
    const char *no_colour = getenv("NO_COLOR");
    return is_terminal() && !(no_colour && *no_colour);
}

static void emit(enum log_level level, const char *format, va_list args) {
    static const char *const words[] = {"error: ", "warning: ", ""};
    static const char *const colours[] = {"\033[31m", "\033[33m", ""};
    if ((int)level > atomic_load(&level_shown)) return;
    char text[LINE_BYTES], line[LINE_BYTES + 64];
    vsnprintf(text, sizeof text, format, args);
    bool colour = has_colour() && *words[level];
    int n = snprintf(line, sizeof line, "%seinthoven: %s%s%s%s\n",
                     atomic_exchange(&line_drawn, false) ? WIPE_LINE : "",
                     colour ? colours[level] : "", words[level], colour ? "\033[0m" : "", text);
    fwrite(line, 1, (size_t)n, stderr);
    fflush(stderr);
}

void log_error(const char *format, ...) {
    va_list args;
    va_start(args, format);
    emit(LOG_ERROR, format, args);
    va_end(args);
}

void log_warn(const char *format, ...) {
    va_list args;
    va_start(args, format);
    emit(LOG_WARN, format, args);
    va_end(args);
}

void log_info(const char *format, ...) {
    va_list args;
    va_start(args, format);
    emit(LOG_INFO, format, args);
    va_end(args);
}

void progress_start(struct progress *p, const char *what) {
    double now = log_clock();
    *p = (struct progress){.what = what, .start = now, .last = now};
}

/* "import: 45 %  450/1000  ETA 0:01:07  text" */
static void describe(const struct progress *p, double now, double done, double total,
                     const char *text, char *line, size_t size) {
    int n = snprintf(line, size, "%s:", p->what);
    if (total > 0 && n >= 0 && (size_t)n < size)
        n += snprintf(line + n, size - (size_t)n, " %.0f %%  %.0f/%.0f", floor(100 * done / total),
                      done, total);
    if (total > 0 && done > 0 && done < total && n >= 0 && (size_t)n < size) {
        double left = (now - p->start) * (total - done) / done;
        long s = left < 1e9 ? (long)(left + 0.5) : 1000000000L;
        n += snprintf(line + n, size - (size_t)n, "  ETA %ld:%02ld:%02ld", s / 3600, s / 60 % 60,
                      s % 60);
    }
    if (text && *text && n >= 0 && (size_t)n < size)
        snprintf(line + n, size - (size_t)n, "  %s", text);
}

/* Cuts the line to the terminal's width: a wrapped line could not be wiped. */
static void cut_to_width(char *line) {
    struct winsize window;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col < 2) return;
    size_t columns = 0;
    for (char *c = line; *c; c++) {
        if (((unsigned char)*c & 0xC0) == 0x80) continue; /* inside a UTF-8 character */
        if (++columns >= window.ws_col) {
            *c = 0;
            return;
        }
    }
}

void progress_update(struct progress *p, double done, double total, const char *text) {
    if (atomic_load(&level_shown) < LOG_INFO) return;
    double now = log_clock();
    bool terminal = is_terminal();
    double wait = !terminal ? LOG_LINE_SECONDS : p->shown ? REDRAW_SECONDS : 0;
    if (now - p->last < wait) return;
    p->last = now;
    p->shown = true;
    char line[1024];
    describe(p, now, done, total, text, line, sizeof line);
    if (!terminal) {
        log_info("%s", line);
        return;
    }
    cut_to_width(line);
    fprintf(stderr, WIPE_LINE "%s", line);
    fflush(stderr);
    atomic_store(&line_drawn, true);
}

void progress_end(struct progress *p) {
    p->shown = false;
    if (!atomic_exchange(&line_drawn, false)) return;
    fputs(WIPE_LINE, stderr);
    fflush(stderr);
}
