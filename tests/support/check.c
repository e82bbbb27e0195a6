/* SPDX-License-Identifier: MIT
 * The test programs' runner: plain globals, since a test program is one thread and one list of cases.
 * A case that runs no check at all counts as failed: such a case could never fail. */
#include "tests/support/check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/status.h"

#define MAX_SHOWN 12 /* failures printed for one case; the rest is only counted */

static int n_passed, n_failed, n_skipped;
static int n_checks, n_bad; /* of the present case */
static char skip_reason[512];
static char tmp_folder[4096];

void check_case(const char *name, void (*fn)(void)) {
    const char *only = getenv("TEST_CASE");
    if (only && *only && strcmp(only, name) != 0) return;
    n_checks = n_bad = 0;
    skip_reason[0] = 0;
    fn();
    bool skipped = skip_reason[0] != 0;
    if (!skipped && n_checks == 0) check_true(false, name, 0, "the case checks something");
    if (n_bad > MAX_SHOWN) printf("    ... %d more\n", n_bad - MAX_SHOWN);
    if (n_bad > 0)
        printf("FAILED  %s (%d of %d checks)\n", name, n_bad, n_checks), n_failed++;
    else if (skipped)
        printf("skipped %s (%s)\n", name, skip_reason), n_skipped++;
    else
        printf("ok      %s\n", name), n_passed++;
    fflush(stdout);
}

/* Counts a check; true when a failure of it should be printed. */
static bool count(bool ok) {
    n_checks++;
    if (ok) return false;
    return ++n_bad <= MAX_SHOWN;
}

bool check_true(bool ok, const char *file, int line, const char *what) {
    if (count(ok)) printf("    %s:%d: not true: %s\n", file, line, what);
    return ok;
}

bool check_near(double a, double b, double tol, const char *file, int line, const char *what) {
    bool ok = a == b || fabs(a - b) <= tol; /* NaN is neither */
    if (count(ok))
        printf("    %s:%d: %s is %.17g, not %.17g (difference %.3g, bound %.3g)\n", file, line,
               what, a, b, fabs(a - b), tol);
    return ok;
}

bool check_str(const char *a, const char *b, const char *file, int line, const char *what) {
    bool ok = a && b && strcmp(a, b) == 0;
    if (count(ok))
        printf("    %s:%d: %s is \"%s\", not \"%s\"\n", file, line, what, a ? a : "(null)",
               b ? b : "(null)");
    return ok;
}

bool check_ok(int status, const char *file, int line, const char *what) {
    bool ok = status == ECG_OK;
    if (count(ok)) printf("    %s:%d: %s gives %d: %s\n", file, line, what, status, ecg_message());
    return ok;
}

bool check_fails(int status, int wanted, const char *text, const char *file, int line,
                 const char *what) {
    bool right = status == wanted && status != ECG_OK;
    bool ok = right && strstr(ecg_message(), text) != NULL;
    if (count(ok))
        printf("    %s:%d: %s gives %d (\"%s\"), wanted %d with \"%s\"\n", file, line, what, status,
               status == ECG_OK ? "" : ecg_message(), wanted, text);
    return ok;
}

void check_skip(const char *why) {
    snprintf(skip_reason, sizeof skip_reason, "%s", why && *why ? why : "no reason given");
}

void check_note(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("    ", stdout);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

const char *check_tmp(void) {
    if (!tmp_folder[0]) {
        const char *base = getenv("TMPDIR");
        snprintf(tmp_folder, sizeof tmp_folder, "%s/einthoven-test-XXXXXX",
                 base && *base ? base : "/tmp");
        if (!mkdtemp(tmp_folder)) {
            perror(tmp_folder);
            exit(1);
        }
    }
    return tmp_folder;
}

const char *check_shared(void) {
    const char *shared = getenv("EINTHOVEN_SHARED");
    if (!shared || !*shared) shared = "../shared";
    return file_is_dir(shared) ? shared : NULL;
}

int check_finish(void) {
    if (tmp_folder[0] && file_remove_tree(tmp_folder) != ECG_OK)
        printf("    left behind: %s\n", ecg_message());
    printf("%d passed, %d failed, %d skipped\n", n_passed, n_failed, n_skipped);
    return n_failed > 0;
}
