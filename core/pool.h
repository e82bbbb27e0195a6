/* SPDX-License-Identifier: MIT
 * A thread pool that sleeps (condition variables) after looking out for work for some microseconds at most, so that a
 * busy neighbour costs its share and no more. Neighbouring tasks go to the same worker where all are equally fast; results
 * must not depend on who runs which task: a task writes only to its own place. */
#ifndef CORE_POOL_H
#define CORE_POOL_H

#include <stddef.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct pool;

/* One task: `task` of [0, n_tasks), run by worker `worker` of [0, n_threads). */
typedef void pool_fn(void *context, size_t task, int worker);

/* n_threads == 0: as many as pool_default_threads says. The calling thread is worker 0. */
enum ecg_status pool_create(struct pool **out, int n_threads);
void pool_destroy(struct pool *p); /* NULL is fine */
int pool_threads(const struct pool *p);

/* Runs all tasks and returns when the last is done. Not reentrant: one caller at a time. */
void pool_run(struct pool *p, size_t n_tasks, pool_fn *fn, void *context);

/* Cores this process may use: SLURM_CPUS_PER_TASK when set and smaller, else the affinity mask. */
int pool_default_threads(void);

#ifdef __cplusplus
}
#endif
#endif
