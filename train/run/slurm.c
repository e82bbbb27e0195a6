/* SPDX-License-Identifier: MIT
 * scontrol is started beside the training process, which by then has saved its state and let go of its memory. */
#include "train/run/slurm.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/log.h"
#include "train/run/stop.h"

extern char **environ;

bool slurm_job(char *out, size_t n) {
    const char *job = getenv("SLURM_JOB_ID");
    const char *array = getenv("SLURM_ARRAY_JOB_ID"), *task = getenv("SLURM_ARRAY_TASK_ID");
    if (array != NULL && task != NULL)
        snprintf(out, n, "%s_%s", array, task);
    else
        snprintf(out, n, "%s", job != NULL ? job : "");
    return out[0] != 0;
}

static int exit_code_of(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Starts argv[0] from PATH with its stdout on `to`, and with stderr, or without. */
static bool start(char *const argv[], int to, bool quiet, pid_t *pid) {
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0) return false;
    bool ok = posix_spawn_file_actions_adddup2(&actions, to, STDOUT_FILENO) == 0;
    if (quiet)
        ok = ok && posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY,
                                                    0) == 0;
    ok = ok && posix_spawnp(pid, argv[0], &actions, NULL, argv, environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
    return ok;
}

int slurm_ask(char *const argv[], char *out, size_t n) {
    int ends[2];
    pid_t pid;
    out[0] = 0;
    if (pipe2(ends, O_CLOEXEC) != 0) return -1;
    bool started = start(argv, ends[1], true, &pid);
    close(ends[1]);
    FILE *from = fdopen(ends[0], "r");
    if (from == NULL) close(ends[0]);
    if (started && from != NULL && fgets(out, (int)n, from) != NULL) {
        out[strcspn(out, "\n")] = 0;
        while (fgetc(from) != EOF) {
        } /* else it may end by SIGPIPE */
    }
    if (from != NULL) fclose(from);
    return started ? exit_code_of(pid) : -1;
}

/* Slurm's word for the job's state; "" when it doesn't say. */
static void job_state(char *job, char *out, size_t n) {
    char line[2048];
    char *const argv[] = {"scontrol", "-o", "show", "job", job, NULL};
    const char *at = slurm_ask(argv, line, sizeof(line)) == 0 ? strstr(line, "JobState=") : NULL;
    snprintf(out, n, "%s", at != NULL ? at + strlen("JobState=") : "");
    out[strcspn(out, " ")] = 0;
}

/* Whether Slurm means the job to go on ("": it doesn't say). SIGNALING: it is still sending the signal to other tasks. */
static bool goes_on(const char *job_state) {
    static const char *const states[] = {"RUNNING",   "SIGNALING", "RESIZING",
                                         "SUSPENDED", "STOPPED",   ""};
    for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++)
        if (strcmp(job_state, states[i]) == 0) return true;
    return false;
}

static void requeue(char *job) {
    char *const argv[] = {"scontrol", "requeue", job, NULL};
    pid_t pid;
    /* Now, because Slurm may end this process before scontrol returns. */
    log_info("scontrol requeue %s", job);
    int code = start(argv, STDERR_FILENO, false, &pid) ? exit_code_of(pid) : -1;
    if (code == 0) return;
    if (code < 0)
        log_error("--requeue: scontrol could not be run: submit job %s again", job);
    else
        log_error("--requeue: scontrol requeue %s failed (exit code %d): submit it again", job,
                  code);
}

void slurm_requeue(void) {
    struct stop_end end = stop_end();
    char job[128], state[32];
    if (!end.first) return;
    if (end.wish == STOP_INTERRUPT) {
        log_info("--requeue: interrupted by hand: nothing is requeued");
    } else if (!slurm_job(job, sizeof(job))) {
        log_warn("--requeue: this is no Slurm job (SLURM_JOB_ID is not set): nothing is requeued");
    } else if (end.wish == STOP_TIME && !end.worked) {
        log_warn("--requeue: the time limit came before the first step, and would again: job %s is "
                 "not requeued; give it more time",
                 job);
    } else {
        job_state(job, state, sizeof(state));
        if (goes_on(state))
            requeue(job);
        else
            log_info("--requeue: job %s is %s: Slurm ends or requeues it by itself", job, state);
    }
}
