/* SPDX-License-Identifier: MIT
 * Launchers stack (srun starts mpirun's or torchrun's helpers, which start us), so the innermost one is asked first. Two that
 * both claim to have started this very process must agree, or every process would train alone into the same folder. */
#include "train/comm/world.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/hash.h"
#include "core/log.h"
#include "train/comm/hostlist.h"

#define TORCH_PORT  29500 /* PyTorch's default */
#define FIRST_PORT  20000 /* below the kernel's own range for outgoing connections (32768 up) */
#define COUNT_PORTS 12000

struct launcher {
    const char *name;
    const char *rank, *size, *local; /* variables */
};

static const struct launcher mpirun = {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                                       "OMPI_COMM_WORLD_LOCAL_RANK"};
static const struct launcher srun = {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS",
                                     "SLURM_LOCALID"};
static const struct launcher torchrun = {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK"};
static const struct launcher pmi = {"PMI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"};

/* A variable's text; NULL when it is not set or empty. */
static const char *env(const char *name) {
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? text : NULL;
}

static const char *env_or(const char *name, const char *otherwise) {
    const char *text = env(name);
    return text != NULL ? text : otherwise;
}

/* *value stays as it is where the variable is not set. */
static enum ecg_status env_int(const char *name, long most, int *value) {
    const char *text = env(name);
    char *end;
    if (text == NULL) return ECG_OK;
    errno = 0;
    const long v = strtol(text, &end, 10);
    if (errno != 0 || *end != '\0' || v < 0 || v > most)
        return ecg_fail(ECG_ERR_FAIL,
                        "%s=%.100s is not a number from 0 to %ld: start the ranks with srun, "
                        "mpirun or torchrun, or set it by hand",
                        name, text, most);
    *value = (int)v;
    return ECG_OK;
}

/* What a launcher says of this process; *found false when it did not start it. */
static enum ecg_status ask(const struct launcher *l, struct comm_world *w, bool *found) {
    *w = (struct comm_world){.rank = -1, .size = -1, .local_rank = -1, .source = l->name};
    *found = env(l->rank) != NULL && env(l->size) != NULL;
    /* srun's variables but its size are in the environment of a batch script too. */
    if (!*found && l != &srun && (env(l->rank) != NULL || env(l->size) != NULL))
        return ecg_fail(ECG_ERR_FAIL,
                        "%s is set and %s is not: both say which rank this is, or unset both",
                        env(l->rank) ? l->rank : l->size, env(l->rank) ? l->size : l->rank);
    if (!*found) return ECG_OK;
    TRY(env_int(l->rank, INT_MAX - 1, &w->rank));
    TRY(env_int(l->size, INT_MAX - 1, &w->size));
    TRY(env_int(l->local, INT_MAX - 1, &w->local_rank));
    if (w->size < 1 || w->rank >= w->size)
        return ecg_fail(ECG_ERR_FAIL, "%s=%d and %s=%d: ranks are numbered from 0 to size - 1",
                        l->rank, w->rank, l->size, w->size);
    return ECG_OK;
}

static enum ecg_status must_agree(const struct comm_world *a, const struct launcher *la,
                                  const struct launcher *lb) {
    struct comm_world b;
    bool found;
    TRY(ask(lb, &b, &found));
    if (!found || (a->rank == b.rank && a->size == b.size)) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL,
                    "broken launch: %s says rank %d of %d (%s, %s), but %s says rank %d of %d (%s, "
                    "%s): unset what was left over, or start all ranks with one of the two",
                    la->name, a->rank, a->size, la->rank, la->size, lb->name, b.rank, b.size,
                    lb->rank, lb->size);
}

/* A process that no launcher gave a number: it must not be one of several. */
static enum ecg_status alone(struct comm_world *w) {
    int rank = 0, tasks = 1;
    *w = (struct comm_world){.rank = 0, .size = 1, .local_rank = 0, .source = ""};
    TRY(env_int("PMIX_RANK", INT_MAX - 1, &rank));
    if (rank > 0)
        return ecg_fail(ECG_ERR_FAIL,
                        "broken launch: PMIX_RANK=%d says that this is one of several processes, "
                        "but nothing says of how many: set RANK, WORLD_SIZE and MASTER_ADDR, or "
                        "start the ranks with srun, mpirun or torchrun",
                        rank);
    TRY(env_int("SLURM_NTASKS", INT_MAX - 1, &tasks));
    if (tasks > 1)
        log_warn("the Slurm job has %d tasks, but this program was not started by srun and runs "
                 "alone: put srun before it",
                 tasks);
    return ECG_OK;
}

/* What is the same for every rank of a job and differs between jobs. */
static void job_text(char *text, size_t size) {
    snprintf(text, size, "%u %s.%s.%s %s %s", (unsigned)getuid(), env_or("SLURM_JOB_ID", ""),
             env_or("SLURM_STEP_ID", ""), env_or("SLURM_RESTART_COUNT", ""),
             env_or("OMPI_MCA_ess_base_jobid", env_or("PMIX_NAMESPACE", "")),
             env_or("TORCHELASTIC_RUN_ID", ""));
}

static enum ecg_status where(struct comm_world *w) {
    char job[512], text[600];
    const char *nodes = env_or("SLURM_STEP_NODELIST", env("SLURM_JOB_NODELIST"));
    const char *local_size = env("OMPI_COMM_WORLD_LOCAL_SIZE");
    job_text(job, sizeof(job));
    snprintf(w->token, sizeof(w->token), "%s", env_or("EINTHOVEN_COMM_TOKEN", job));
    if (env("MASTER_ADDR") != NULL)
        snprintf(w->host, sizeof(w->host), "%s", env("MASTER_ADDR"));
    else if (strcmp(w->source, "srun") == 0 && nodes != NULL)
        TRY(hostlist_at(nodes, 0, w->host, sizeof(w->host)));
    else if (strcmp(w->source, "mpirun") == 0 && local_size != NULL && atoi(local_size) == w->size)
        snprintf(w->host, sizeof(w->host), "127.0.0.1");
    /* torchrun itself listens on MASTER_PORT when it keeps the store for its workers. */
    const bool agent = env("TORCHELASTIC_USE_AGENT_STORE") != NULL &&
                       strcmp(env("TORCHELASTIC_USE_AGENT_STORE"), "True") == 0;
    snprintf(text, sizeof(text), "%s %s %s", job, agent ? env_or("MASTER_PORT", "") : "",
             env_or("TORCHELASTIC_RESTART_COUNT", ""));
    w->port = strcmp(w->source, "torchrun") == 0 && !agent
                  ? TORCH_PORT
                  : FIRST_PORT + (int)(hash_bytes(text, strlen(text)) % COUNT_PORTS);
    if (!agent) TRY(env_int("MASTER_PORT", 65535, &w->port));
    return ECG_OK;
}

enum ecg_status world_find(struct comm_world *world) {
    bool found;
    TRY(ask(&mpirun, world, &found));
    if (found) return where(world);
    if (env("TORCHELASTIC_RUN_ID") != NULL) {
        TRY(ask(&torchrun, world, &found));
        if (found) return where(world);
    }
    TRY(ask(&srun, world, &found));
    if (found) {
        TRY(must_agree(world, &srun, &torchrun));
        TRY(must_agree(world, &srun, &pmi));
        return where(world);
    }
    TRY(ask(&torchrun, world, &found));
    if (found) {
        TRY(must_agree(world, &torchrun, &pmi));
        return where(world);
    }
    TRY(ask(&pmi, world, &found));
    if (found) return where(world);
    return alone(world);
}

enum ecg_status world_check_mpi(const struct comm_world *world, int rank, int size) {
    if (world->source[0] == '\0' || (world->size == size && world->rank == rank)) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL,
                    "broken launch: MPI says rank %d of %d, but %s says rank %d of %d: the MPI "
                    "library does not understand this launcher. Use the mpirun of the same MPI, or "
                    "srun --mpi=pmix (OpenMPI) or --mpi=pmi2 (MPICH), or backend tcp, which needs "
                    "no MPI",
                    rank, size, world->source, world->rank, world->size);
}
