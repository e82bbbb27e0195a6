/* SPDX-License-Identifier: MIT
 * The plan of a sweep: trials are lists of assignments, rungs say how many of them train how long. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/pool.h"
#include "train/run/sweep_private.h"

#define MAX_TRIALS 100000

/* ------------------------------------------------------------------ assignments */

static enum ecg_status assign(char **set, const char *key, const char *value) {
    if (asprintf(set, "%s=%s", key, value) >= 0) return ECG_OK;
    *set = NULL;
    return ecg_fail(ECG_ERR_NOMEM, "out of memory");
}

/* Threads of a trial where others run beside it. Results do not depend on them. */
static int threads_of_trial(const struct sweep *s) {
    int threads = pool_default_threads() / s->o->jobs;
    return s->o->jobs == 1 ? 0 : threads > 1 ? threads : 1;
}

enum ecg_status sweep_trial_sets(const struct sweep *s, const struct sweep_trial *t, bool best,
                                 char ***sets, int *n_sets) {
    char **v = NULL, threads[16];
    int n = 0;
    enum ecg_status status;
    TRY(MEM_NEW(&v, (size_t)s->o->n_sets + (size_t)s->space.n + 3));
    if (!best && threads_of_trial(s) > 0) { /* first: the user's own number holds */
        snprintf(threads, sizeof(threads), "%d", threads_of_trial(s));
        TRY_OUT(assign(&v[n++], "train.threads", threads));
    }
    for (int i = 0; i < s->o->n_sets; i++) TRY_OUT(mem_strdup(&v[n++], s->o->sets[i]));
    for (int i = 0; i < s->space.n; i++)
        TRY_OUT(assign(&v[n++], s->space.keys[i].key, t->values[i]));
    if (!best) TRY_OUT(mem_strdup(&v[n++], "data.test=null"));
    *sets = v;
    *n_sets = n;
    v = NULL;
out:
    sweep_sets_free(v);
    return status;
}

void sweep_sets_free(char **sets) {
    for (char **at = sets; at != NULL && *at != NULL; at++) free(*at);
    free(sets);
}

/* ------------------------------------------------------------------ trials */

static enum ecg_status make_trials(struct sweep *s) {
    const struct sweep_options *o = s->o;
    TRY(MEM_NEW(&s->trials, (size_t)o->trials));
    for (; s->n_trials < o->trials; s->n_trials++) {
        struct sweep_trial *t = &s->trials[s->n_trials];
        if (asprintf(&t->name, "trial-%04d", s->n_trials + 1) < 0) {
            t->name = NULL;
            return ecg_fail(ECG_ERR_NOMEM, "out of memory");
        }
        TRY(MEM_NEW(&t->values, (size_t)s->space.n));
        for (int i = 0; i < s->space.n; i++)
            TRY(sweep_draw(&s->space.keys[i], o->seed, s->n_trials + 1, &t->values[i]));
    }
    return ECG_OK;
}

/* Values that the config does not take are found before the first run. */
static enum ecg_status check_trials(const struct sweep *s) {
    for (int i = 0; i < s->n_trials; i++) {
        struct config c = {0};
        char **sets = NULL;
        int n = 0;
        enum ecg_status status = sweep_trial_sets(s, &s->trials[i], false, &sets, &n);
        if (status == ECG_OK) status = config_load(&c, s->o->config, sets, n);
        config_free(&c);
        sweep_sets_free(sets);
        if (status != ECG_OK)
            return ecg_fail_prefix(status, "%s: %s: ", s->o->space, s->trials[i].name);
    }
    return ECG_OK;
}

/* ------------------------------------------------------------------ rungs */

static enum ecg_status check_halving(const struct sweep *s, const struct config *c) {
    if (s->o->eta < 2) return ecg_fail(ECG_ERR_USAGE, "--eta: the best 1 / ETA go on: 2 or more");
    if (c->train.steps > 0 || c->train.eval_every > 0)
        return ecg_fail(ECG_ERR_CONFIG,
                        "%s: --halving compares after whole epochs: set train.epochs, and leave "
                        "train.steps and train.eval_every 0",
                        c->train.steps > 0 ? "train.steps" : "train.eval_every");
    for (int i = 0; i < s->space.n; i++)
        if (strcmp(s->space.keys[i].key, "train.epochs") == 0 ||
            strcmp(s->space.keys[i].key, "train.steps") == 0 ||
            strcmp(s->space.keys[i].key, "train.eval_every") == 0)
            return ecg_fail(ECG_ERR_CONFIG,
                            "%s: %s: with --halving all trials have the same length: leave it out",
                            s->o->space, s->space.keys[i].key);
    if (s->o->trials >= s->o->eta && c->train.epochs >= s->o->eta) return ECG_OK;
    return ecg_fail(ECG_ERR_CONFIG,
                    "train.epochs: --halving of %d trials and %lld epochs by %d has one rung only: "
                    "more of them, or a smaller --eta",
                    s->o->trials, (long long)c->train.epochs, s->o->eta);
}

/* N, N / eta, ... trials train for R / eta^s, ..., R / eta, R epochs, as long as neither falls below 1. */
static enum ecg_status make_rungs(struct sweep *s, const struct config *c) {
    int64_t part = 1;
    s->n_rungs = 1;
    s->rungs[0].n = s->n_trials;
    if (s->o->halving) {
        TRY(check_halving(s, c));
        while (s->n_trials / (part * s->o->eta) >= 1 && c->train.epochs / (part * s->o->eta) >= 1) {
            part *= s->o->eta;
            s->rungs[s->n_rungs++].n = (int)(s->n_trials / part);
        }
        for (int k = 0; k < s->n_rungs - 1; k++, part /= s->o->eta)
            s->rungs[k].until = c->train.epochs / part;
    }
    TRY(MEM_NEW(&s->rungs[0].trials, (size_t)s->n_trials));
    for (int i = 0; i < s->n_trials; i++) s->rungs[0].trials[i] = i;
    return ECG_OK;
}

enum ecg_status sweep_make(struct sweep *s, const struct sweep_options *o) {
    struct config base = {0};
    enum ecg_status status;
    *s = (struct sweep){.o = o, .array_task = getenv("SLURM_ARRAY_TASK_ID")};
    if (o->trials < 1 || o->trials > MAX_TRIALS)
        return ecg_fail(ECG_ERR_USAGE, "--trials must be from 1 to %d", MAX_TRIALS);
    if (o->jobs < 1 || o->jobs > 1024)
        return ecg_fail(ECG_ERR_USAGE, "--jobs must be from 1 to 1024");
    TRY_OUT(config_load(&base, o->config, o->sets, o->n_sets));
    if (base.data.valid == NULL)
        TRY_OUT(ecg_fail(ECG_ERR_CONFIG,
                         "data.valid is not set: trials are compared by it (never by data.test): "
                         "--set data.valid='{path: DIR, fold: 9}'"));
    TRY_OUT(sweep_space_read(&s->space, o->space));
    TRY_OUT(make_trials(s));
    TRY_OUT(make_rungs(s, &base));
    status = check_trials(s);
out:
    config_free(&base);
    return status;
}

void sweep_free(struct sweep *s) {
    for (int i = 0; s->trials != NULL && i < s->o->trials; i++) {
        struct sweep_trial *t = &s->trials[i];
        for (int k = 0; t->values != NULL && k < s->space.n; k++) free(t->values[k]);
        for (int k = 0; k < SWEEP_MAX_RUNGS; k++) free(t->at[k].error);
        free(t->values);
        free(t->name);
    }
    for (int k = 0; k < SWEEP_MAX_RUNGS; k++) free(s->rungs[k].trials);
    free(s->trials);
    sweep_space_free(&s->space);
    *s = (struct sweep){0};
}
