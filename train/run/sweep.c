/* SPDX-License-Identifier: MIT
 * Rung after rung, each trial in a process of its own: one that is killed for its memory takes nobody with it, and --jobs of
 * them run side by side. The parent has no threads and no data open when it forks. What a trial came to stands in
 * OUT/TRIAL/rung-K.json once it is known, so that a killed sweep, and every task of a job array, sees the same results.
 * Tasks of an array take trials by OUT/claims/TRIAL-rung-K, which is there whole or not at all, also on NFS. */
#include "train/run/sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/file.h"
#include "core/log.h"
#include "core/mem.h"
#include "train/run/ranks.h"
#include "train/run/rundir.h"
#include "train/run/stop.h"
#include "train/run/sweep_private.h"
#include "train/run/trainer.h"
#include "train/run/training.h"

#define POLL_NS    10000000L /* between two looks at the processes */
#define LOOKS      100       /* between two looks at what other tasks have done */
#define DYING      20        /* tenths of a second */
#define UNANSWERED (-1)      /* the process ended without a word */

/* What a trial's process leaves to its parent, in memory that both have. */
struct answer {
    int status;
    char metric[32];
    double value;
    int64_t step, epoch;
    char message[2048];
};

struct job {
    pid_t pid; /* 0: free */
    int trial;
    double start;
};

struct work {
    struct sweep *s;
    struct job *jobs;       /* o->jobs */
    struct answer *answers; /* shared, one a job */
    int n_running, n_resumed;
};

/* ------------------------------------------------------------------ the trial's process */

static enum ecg_status train_trial(const struct sweep *s, const struct sweep_trial *t, int rung,
                                   struct sweep_result *r) {
    struct training_options o = {.config = s->o->config,
                                 .weights = s->o->weights,
                                 .until_epoch = s->rungs[rung].until,
                                 .resume = true, /* from the start where there is nothing */
                                 .silent = true,
                                 .command = s->o->command};
    char *run = NULL, **sets = NULL;
    enum ecg_status status;
    TRY_OUT(file_join(&run, s->o->out, t->name));
    TRY_OUT(sweep_trial_sets(s, t, false, &sets, &o.n_sets));
    o.out = run;
    o.sets = sets;
    TRY_OUT(s->o->weights != NULL ? finetune_run(&o) : pretrain_run(&o));
    TRY_OUT(sweep_read_figure(run, r));
out:
    free(run);
    sweep_sets_free(sets);
    return status;
}

static void run_child(const struct work *w, int slot, int trial, int rung) {
    struct answer *a = &w->answers[slot];
    struct sweep_result r = {.there = false};
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody would take its answer */
    log_set_level(LOG_WARN);
    enum ecg_status status = ranks_take_visible_gpu(slot);
    if (status == ECG_OK) status = train_trial(w->s, &w->s->trials[trial], rung, &r);
    memcpy(a->metric, r.metric, sizeof(a->metric));
    a->value = r.value;
    a->step = r.step;
    a->epoch = r.epoch;
    snprintf(a->message, sizeof(a->message), "%s", status == ECG_OK ? "" : ecg_message());
    a->status = (int)status;
    _exit(0);
}

/* ------------------------------------------------------------------ whose trial it is */

static enum ecg_status make_claims(const struct sweep *s) {
    char *folder = NULL;
    TRY(file_join(&folder, s->o->out, "claims"));
    enum ecg_status status = file_mkdirs(folder);
    free(folder);
    return status;
}

/* Takes a trial for this task of the array; *mine is false where another task has it. */
static enum ecg_status claim(const struct sweep *s, const struct sweep_trial *t, int rung,
                             bool *mine) {
    char *path = NULL, *own = NULL, *text = NULL;
    size_t size;
    enum ecg_status status = ECG_OK;
    *mine = true;
    if (s->array_task == NULL) return ECG_OK;
    if (asprintf(&path, "%s/claims/%s-rung-%d", s->o->out, t->name, rung + 1) < 0 ||
        asprintf(&own, "%s.%s-%ld", path, s->array_task, (long)getpid()) < 0)
        TRY_OUT(ecg_fail(ECG_ERR_NOMEM, "out of memory"));
    TRY_OUT(file_write(own, s->array_task, strlen(s->array_task)));
    if (link(own, path) == 0) goto out;
    if (errno != EEXIST) TRY_OUT(ecg_fail(ECG_ERR_CREATE, "%s: %s", path, strerror(errno)));
    TRY_OUT(file_read(path, 64, &text, &size));
    *mine = strcmp(text, s->array_task) == 0; /* this task's own, before it was requeued */
out:
    if (own != NULL) unlink(own);
    free(path);
    free(own);
    free(text);
    return status;
}

/* ------------------------------------------------------------------ results */

/* What one trial alone may fail of. The rest (disk full, weights not there) would stop the others too. */
static bool is_of_this_trial(int status) {
    return status == ECG_ERR_FAIL || status == ECG_ERR_DATA || status == ECG_ERR_CONFIG ||
           status == ECG_ERR_NOMEM || status == UNANSWERED;
}

/* Losses of other kinds have other scales. */
static enum ecg_status check_metric(const struct sweep *s, const struct sweep_result *r) {
    if (r->error != NULL || strcmp(r->metric, "loss") != 0) return ECG_OK;
    for (int i = 0; i < s->space.n; i++) {
        const char *key = s->space.keys[i].key;
        if (strncmp(key, "loss.", 5) == 0 || strcmp(key, "heads") == 0)
            return ecg_fail(ECG_ERR_CONFIG,
                            "%s: %s: trials are compared by the validation loss here, and this key "
                            "changes what it means: leave it out",
                            s->o->space, key);
    }
    return ECG_OK;
}

static enum ecg_status load(struct work *w, int trial, int rung) {
    struct sweep_trial *t = &w->s->trials[trial];
    if (t->at[rung].there) return ECG_OK;
    TRY(sweep_load_result(w->s, t, rung));
    return check_metric(w->s, &t->at[rung]);
}

static void tell(const struct sweep *s, int trial, int rung, double seconds) {
    const struct sweep_trial *t = &s->trials[trial];
    const struct sweep_result *r = &t->at[rung];
    int done = 0;
    for (int i = 0; i < s->rungs[rung].n; i++)
        done += s->trials[s->rungs[rung].trials[i]].at[rung].there;
    if (r->error != NULL)
        log_warn("sweep: %s failed: %s", t->name, r->error);
    else
        log_info("sweep: rung %d of %d, %d/%d  %s  %s %.4f  (%.1f s)", rung + 1, s->n_rungs, done,
                 s->rungs[rung].n, t->name, r->metric, r->value, seconds);
}

/* The end of a job: its answer becomes the trial's result. */
static enum ecg_status finish(struct work *w, int slot, int rung, int how) {
    struct job *j = &w->jobs[slot];
    struct answer *a = &w->answers[slot];
    struct sweep_trial *t = &w->s->trials[j->trial];
    struct sweep_result *r = &t->at[rung];
    char *killed = NULL;
    j->pid = 0;
    w->n_running--;
    if (a->status != ECG_OK && !is_of_this_trial(a->status))
        return ecg_fail_prefix(ecg_fail((enum ecg_status)a->status, "%s", a->message),
                               "%s: ", t->name);
    if (a->status == UNANSWERED &&
        asprintf(&killed, "its process ended by signal %d%s", WIFSIGNALED(how) ? WTERMSIG(how) : 0,
                 WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL ? " (out of memory?)" : "") < 0)
        return ecg_fail(ECG_ERR_NOMEM, "out of memory");
    memcpy(r->metric, a->metric, sizeof(r->metric));
    r->value = a->value;
    r->step = a->step;
    r->epoch = a->epoch;
    enum ecg_status status = ECG_OK;
    if (a->status != ECG_OK) status = mem_strdup(&r->error, killed != NULL ? killed : a->message);
    free(killed);
    TRY(status);
    TRY(check_metric(w->s, r));
    r->there = true;
    TRY(sweep_save_result(w->s, t, rung));
    tell(w->s, j->trial, rung, log_clock() - j->start);
    return ECG_OK;
}

/* ------------------------------------------------------------------ jobs */

static enum ecg_status start(struct work *w, int slot, int trial, int rung) {
    w->answers[slot] = (struct answer){.status = UNANSWERED};
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) return ecg_fail(ECG_ERR_FAIL, "no process for a trial: %s", strerror(errno));
    if (pid == 0) run_child(w, slot, trial, rung);
    w->jobs[slot] = (struct job){pid, trial, log_clock()};
    w->n_running++;
    return ECG_OK;
}

static bool is_running(const struct work *w, int trial) {
    for (int i = 0; i < w->s->o->jobs; i++)
        if (w->jobs[i].pid != 0 && w->jobs[i].trial == trial) return true;
    return false;
}

/* The next trial of the rung for this process; -1: none now. */
static enum ecg_status next_trial(struct work *w, int rung, int *trial) {
    const struct sweep_rung *r = &w->s->rungs[rung];
    char *folder = NULL;
    *trial = -1;
    for (int i = 0; i < r->n; i++) {
        int number = r->trials[i];
        struct sweep_trial *t = &w->s->trials[number];
        bool mine;
        TRY(load(w, number, rung));
        if (t->at[rung].there || is_running(w, number)) continue;
        TRY(file_join(&folder, w->s->o->out, t->name));
        enum ecg_status status = file_mkdirs(folder);
        free(folder);
        TRY(status);
        TRY(claim(w->s, t, rung, &mine));
        if (mine) TRY(load(w, number, rung)); /* another task's, between the look and the claim */
        if (!mine || t->at[rung].there) continue;
        *trial = number;
        return ECG_OK;
    }
    return ECG_OK;
}

static enum ecg_status fill(struct work *w, int rung) {
    for (int slot = 0; slot < w->s->o->jobs; slot++) {
        int trial;
        if (w->jobs[slot].pid != 0) continue;
        TRY(next_trial(w, rung, &trial));
        if (trial < 0) return ECG_OK;
        TRY(start(w, slot, trial, rung));
    }
    return ECG_OK;
}

/* *ended: jobs that did. */
static enum ecg_status collect(struct work *w, int rung, int *ended) {
    *ended = 0;
    for (int slot = 0; slot < w->s->o->jobs; slot++) {
        int how = 0;
        if (w->jobs[slot].pid == 0 || waitpid(w->jobs[slot].pid, &how, WNOHANG) == 0) continue;
        ++*ended;
        TRY(finish(w, slot, rung, how));
    }
    return ECG_OK;
}

/* Asks all jobs to save and stop, and waits for them. */
static void stop_jobs(struct work *w) {
    for (int i = 0; i < w->s->o->jobs; i++)
        if (w->jobs[i].pid != 0) kill(w->jobs[i].pid, SIGTERM);
    for (int i = 0; i < w->s->o->jobs; i++)
        while (w->jobs[i].pid != 0 && waitpid(w->jobs[i].pid, NULL, 0) < 0 && errno == EINTR) {
        }
}

static bool is_whole(const struct sweep *s, int rung) {
    for (int i = 0; i < s->rungs[rung].n; i++)
        if (!s->trials[s->rungs[rung].trials[i]].at[rung].there) return false;
    return true;
}

/* Runs what this process has of a rung. At its end the rung is whole, but for the last one of an array's tasks. */
static enum ecg_status run_rung(struct work *w, int rung) {
    const struct timespec pause = {0, POLL_NS};
    bool last = rung == w->s->n_rungs - 1, waits = false;
    int look = 0, ended = 1;
    for (;; look++) {
        if (stop_now() != STOP_NONE)
            return ecg_fail(ECG_ERR_STOPPED, "stopped, state saved: run again with --resume");
        if (ended > 0 || look % LOOKS == 0) TRY(fill(w, rung));
        if (is_whole(w->s, rung)) return ECG_OK;
        if (w->n_running == 0 && last) return ECG_OK;
        if (w->n_running == 0 && !waits)
            log_info("sweep: rung %d: waiting for the array's other tasks", rung + 1);
        waits = w->n_running == 0;
        nanosleep(&pause, NULL);
        TRY(collect(w, rung, &ended));
    }
}

/* ------------------------------------------------------------------ rungs */

/* Weights of a trial that is out. Another task may be at the same. */
static void drop_weights(const struct sweep *s, int trial) {
    char *path = NULL;
    if (s->o->keep_weights ||
        asprintf(&path, "%s/%s/checkpoints", s->o->out, s->trials[trial].name) < 0)
        return;
    if (file_remove_tree(path) != ECG_OK && file_exists(path)) log_warn("%s", ecg_message());
    free(path);
}

/* Who goes on to the next rung; those who don't lose their weights. */
static enum ecg_status promote(struct sweep *s, int rung) {
    const struct sweep_rung *r = &s->rungs[rung];
    struct sweep_rung *next = &s->rungs[rung + 1];
    int n_good;
    TRY(MEM_NEW(&next->trials, (size_t)r->n));
    TRY(sweep_rank(s, rung, next->trials, &n_good));
    if (next->n > n_good) next->n = n_good;
    for (int i = next->n; i < r->n; i++) drop_weights(s, next->trials[i]);
    return ECG_OK;
}

static enum ecg_status run_rungs(struct work *w, bool *whole) {
    struct sweep *s = w->s;
    for (int rung = 0; rung < s->n_rungs; rung++) {
        if (s->rungs[rung].until > 0)
            log_info("sweep: rung %d of %d: %d trials, %lld epochs", rung + 1, s->n_rungs,
                     s->rungs[rung].n, (long long)s->rungs[rung].until);
        TRY(run_rung(w, rung));
        if (rung + 1 < s->n_rungs) TRY(promote(s, rung));
    }
    *whole = is_whole(s, s->n_rungs - 1);
    return ECG_OK;
}

/* ------------------------------------------------------------------ the end */

static int count_failed(const struct sweep *s) {
    int n = 0;
    for (int i = 0; i < s->n_trials; i++) {
        int rung = sweep_reached(s, &s->trials[i]);
        n += rung >= 0 && s->trials[i].at[rung].error != NULL;
    }
    return n;
}

/* Writes until nothing has come in meanwhile from other tasks: the last to end writes all. */
static enum ecg_status write_all(struct work *w, bool *whole, int *order, char **json) {
    struct sweep *s = w->s;
    int last = s->n_rungs - 1, n_before, n_after;
    do {
        n_before = n_after = 0;
        for (int i = 0; i < s->rungs[last].n; i++)
            n_before += s->trials[s->rungs[last].trials[i]].at[last].there;
        *whole = is_whole(s, last);
        free(*json);
        *json = NULL;
        TRY(sweep_order(s, order));
        TRY(sweep_write(s, *whole, order, json));
        for (int i = 0; i < s->rungs[last].n; i++) {
            TRY(load(w, s->rungs[last].trials[i], last));
            n_after += s->trials[s->rungs[last].trials[i]].at[last].there;
        }
    } while (n_after != n_before);
    return ECG_OK;
}

static enum ecg_status report(struct work *w, bool *whole) {
    struct sweep *s = w->s;
    int *order = NULL;
    char *json = NULL;
    enum ecg_status status;
    TRY_OUT(MEM_NEW(&order, (size_t)s->n_trials));
    TRY_OUT(write_all(w, whole, order, &json));
    if (s->o->json)
        fputs(json, stdout);
    else
        sweep_print(s, order);
    for (int i = 1; *whole && i < s->n_trials; i++) drop_weights(s, order[i]);
out:
    free(order);
    free(json);
    return status;
}

static enum ecg_status conclude(struct work *w, bool whole) {
    struct sweep *s = w->s;
    TRY(report(w, &whole));
    if (!whole) log_info("sweep: the array's other tasks are still at work");
    int failed = count_failed(s);
    if (failed == 0) return ECG_OK;
    for (int i = 0; i < s->n_trials; i++) {
        int rung = sweep_reached(s, &s->trials[i]);
        if (rung >= 0 && s->trials[i].at[rung].error != NULL)
            log_warn("%s failed: %s", s->trials[i].name, s->trials[i].at[rung].error);
    }
    if (failed == s->n_trials) return ecg_fail(ECG_ERR_FAIL, "all %d trials failed", failed);
    log_warn("sweep: %d of %d trials failed; without its folder a trial is tried again by --resume",
             failed, s->n_trials);
    return ECG_OK;
}

static enum ecg_status open_work(struct work *w, struct sweep *s) {
    size_t jobs = (size_t)s->o->jobs;
    w->s = s;
    signal(SIGCHLD, SIG_DFL); /* whoever started this may have it ignored */
    TRY(MEM_NEW(&w->jobs, jobs));
    void *shared = mmap(NULL, jobs * sizeof(*w->answers), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return ecg_fail(ECG_ERR_NOMEM, "out of memory");
    w->answers = shared;
    return ECG_OK;
}

static void close_work(struct work *w) {
    if (w->jobs != NULL) stop_jobs(w);
    if (w->answers != NULL) munmap(w->answers, (size_t)w->s->o->jobs * sizeof(*w->answers));
    free(w->jobs);
}

/* The trials of a sweep that was killed die with it, but a moment later, and have its lock until then. */
static enum ecg_status take_folder(const struct sweep *s, int *lock) {
    const struct timespec moment = {0, 100000000};
    enum ecg_status status = ECG_OK;
    if (s->array_task != NULL) return make_claims(s);
    for (int i = 0; i < DYING; i++) {
        status = rundir_lock(s->o->out, lock);
        if (status == ECG_OK || !s->o->resume) break;
        nanosleep(&moment, NULL);
    }
    return status;
}

enum ecg_status sweep_run(const struct sweep_options *o) {
    struct sweep s = {0};
    struct work w = {0};
    int lock = -1;
    bool whole = false;
    enum ecg_status status;
    TRY_OUT(ranks_alone("sweep"));
    TRY_OUT(sweep_make(&s, o));
    TRY_OUT(rundir_check(o->out, o->resume || s.array_task != NULL));
    TRY_OUT(take_folder(&s, &lock));
    TRY_OUT(open_work(&w, &s));
    log_info("sweep: %d trials in %s%s%s", s.n_trials, o->out,
             s.array_task != NULL ? ", task " : "", s.array_task != NULL ? s.array_task : "");
    TRY_OUT(run_rungs(&w, &whole));
    TRY_OUT(conclude(&w, whole));
out:
    close_work(&w);
    if (lock >= 0) close(lock);
    sweep_free(&s);
    return status;
}
