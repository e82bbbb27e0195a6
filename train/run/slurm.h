/* SPDX-License-Identifier: MIT
 * Slurm by its command scontrol; its library is never linked. */
#ifndef TRAIN_RUN_SLURM_H
#define TRAIN_RUN_SLURM_H

#include <stdbool.h>
#include <stddef.h>

/* "77", of an array's task "78_19"; false outside a job. */
bool slurm_job(char *out, size_t n);

/* After a run that stopped (stop_end): asks Slurm to start this job again, and logs that, or why not. Not after SIGINT, nor when
 * the time limit came before the first step (it would come again), nor when Slurm itself is ending the job (scancel, a preemption that
 * requeues by itself). */
void slurm_requeue(void);

/* First line of what a program prints on stdout, cut to n - 1 bytes; its stderr goes nowhere. Its exit code; -1 when it can't be started or a signal
 * ends it. */
int slurm_ask(char *const argv[], char *out, size_t n);

#endif
