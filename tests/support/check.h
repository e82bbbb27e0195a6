/* SPDX-License-Identifier: MIT
 * What every test program uses: named cases, comparisons that NaN fails, one closing line "N passed, N failed, N skipped".
 *
 *     int main(void) { CASE(philox_known_answers); CASE(...); return check_finish(); }
 */
#ifndef TESTS_SUPPORT_CHECK_H
#define TESTS_SUPPORT_CHECK_H

#include <stdbool.h>
#include <stddef.h>

/* Runs a `static void fn(void)` as a case of that name, and prints "ok", "FAILED" or "skipped (why)". With TEST_CASE set in
 * the environment only the case of that name runs. */
#define CASE(fn) check_case(#fn, fn)
void check_case(const char *name, void (*fn)(void));

/* Fails the present case, with file and line; returns whether it held, so that a case can stop. */
#define CHECK(condition) check_true((condition), __FILE__, __LINE__, #condition)
/* |a - b| <= tol, NaN fails */
#define CHECK_NEAR(a, b, tol) check_near((a), (b), (tol), __FILE__, __LINE__, #a)
#define CHECK_STR(a, b) check_str((a), (b), __FILE__, __LINE__, #a)
/* The call gives ECG_OK; else its message is printed. */
#define CHECK_OK(call) check_ok((int)(call), __FILE__, __LINE__, #call)
/* The call fails with this status and a message that holds `text`. */
#define CHECK_FAILS(call, status, text) check_fails((int)(call), (int)(status), (text), __FILE__, __LINE__, #call)

bool check_true(bool ok, const char *file, int line, const char *what);
bool check_near(double a, double b, double tol, const char *file, int line, const char *what);
bool check_str(const char *a, const char *b, const char *file, int line, const char *what);
bool check_ok(int status, const char *file, int line, const char *what);
bool check_fails(int status, int wanted, const char *text, const char *file, int line, const char *what);

/* Ends the present case as skipped with a reason (the case must return at once). */
void check_skip(const char *why);
/* A measured figure of the case, printed beside it: "max relative error 2.1e-07 (bound 1e-4)". */
void check_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A fresh empty folder of this test program, removed by check_finish. */
const char *check_tmp(void);
/* The folder of the shared fixtures: $EINTHOVEN_SHARED, else ../shared when it is there, else NULL. */
const char *check_shared(void);
/* Prints the closing line and returns the exit code (0 = nothing failed). */
int check_finish(void);

#endif
