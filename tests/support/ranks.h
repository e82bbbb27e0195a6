/* SPDX-License-Identifier: MIT
 * The tests of train/comm: ranks as children of the test program, and what one of them does, whoever launched it (mpirun too). */
#ifndef TESTS_SUPPORT_RANKS_H
#define TESTS_SUPPORT_RANKS_H

#include <stdbool.h>
#include <sys/types.h>

/* Runs a task by name and returns the exit code. Messages go to stderr, "einthoven: error: ..." for a failure.
 *     sums        every operation, against what a single process computes, bit for bit; exit 0
 *     steps       sums for ever, as a training run does; the rest break it at rank `victim`'s 10th step:
 *     kill stop   SIGKILL, SIGSTOP          abort     comm_close with a failure ("the disk is full")
 *     sleep       stays alive, but comes no more     leave  comes to comm_close instead
 *     mismatch    another size              deaf      SIGKILL, while the others compute on and ask nothing
 */
int ranks_run(const char *task, int victim, const char *backend);

/* The environment of a launch, and no other's: "RANK=0 WORLD_SIZE=2". */
void ranks_launch(const char *variables);
/* Another port at each call. */
int ranks_port(void);

#define RANKS_MAX 8
struct ranks_group {
    int size;
    pid_t pids[RANKS_MAX];
    int codes[RANKS_MAX];        /* exit code; 128 + signal; -1: still there */
    double ended[RANKS_MAX];     /* seconds after the wait began */
    char errors[RANKS_MAX][256]; /* files with what they said on stderr, named by `name` */
};

/* Children by RANK and WORLD_SIZE, that do fn(context) and end with its exit code. */
void ranks_start(struct ranks_group *g, int size, const char *name, int (*fn)(void *), void *context);
/* Waits until all but `except` (-1: all) have ended, `seconds` at most, and kills who is left. */
void ranks_wait(struct ranks_group *g, int except, double seconds);
/* Whether rank r said `text` on stderr; prints what it said instead. */
bool ranks_said(const struct ranks_group *g, int r, const char *text);

#endif
