/* SPDX-License-Identifier: MIT
 * What one rank does in the tests of train/comm, whoever launched it: a child of the test program, or mpirun. */
#ifndef TESTS_SUPPORT_RANKS_H
#define TESTS_SUPPORT_RANKS_H

/* Runs a task by name and returns the exit code. Messages go to stderr, "einthoven: error: ..." for a failure.
 *     sums        every operation, against what a single process computes, bit for bit; exit 0
 *     steps       sums for ever, as a training run does; the rest break it at rank `victim`'s 10th step:
 *     kill stop   SIGKILL, SIGSTOP          abort     comm_close with a failure ("the disk is full")
 *     sleep       stays alive, but comes no more     leave  comes to comm_close instead
 *     mismatch    another size              deaf      SIGKILL, while the others compute on and ask nothing
 */
int ranks_run(const char *task, int victim, const char *backend);

#endif
