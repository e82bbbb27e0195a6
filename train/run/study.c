/* SPDX-License-Identifier: MIT
 * The runs of a study one after the other. A run is done when RUN/asked.yaml is there, the config as it was asked for; it is
 * written last, and a resumed study takes a run for done only where it asks for the same. */
#include "train/run/study.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/log.h"
#include "core/mem.h"
#include "train/run/ranks.h"
#include "train/run/rundir.h"
#include "train/run/study_private.h"
#include "train/run/training.h"

#define ASKED_MAX_BYTES ((size_t)1 << 20)

/* A cell while it is worked on. */
struct work {
    char *run, *asked; /* paths */
    struct study_sets sets;
    struct config config; /* as asked for */
    char *head;           /* asked.yaml's first lines: what no config key says */
};

static enum ecg_status work_start(struct work *w, const struct study *s,
                                  const struct study_cell *cell) {
    TRY(file_join(&w->run, s->o->out, cell->run));
    TRY(file_join(&w->asked, w->run, "asked.yaml"));
    TRY(study_cell_sets(s, cell, &w->sets));
    TRY(config_load(&w->config, s->o->config, w->sets.v, w->sets.n));
    if (asprintf(&w->head, "# a finished run of a study, as it was asked for\n# weights: %s\n",
                 s->o->weights) >= 0)
        return ECG_OK;
    w->head = NULL;
    return ecg_fail(ECG_ERR_NOMEM, "out of memory");
}

static void work_free(struct work *w) {
    free(w->run);
    free(w->asked);
    free(w->head);
    study_sets_free(&w->sets);
    config_free(&w->config);
}

/* ------------------------------------------------------------------ done or not */

static enum ecg_status is_done(const struct work *w, bool *done) {
    char *text = NULL;
    size_t size;
    *done = file_exists(w->asked);
    if (!*done) return ECG_OK;
    TRY(file_read(w->asked, ASKED_MAX_BYTES, &text, &size));
    bool same = strncmp(text, w->head, strlen(w->head)) == 0;
    free(text);
    if (!same)
        return ecg_fail(ECG_ERR_CONFIG, "--resume: %s was made with other weights", w->asked);
    return rundir_check_config(w->asked, &w->config);
}

static enum ecg_status mark_done(const struct work *w) {
    char *config = NULL, *text = NULL;
    TRY(conf_dump(config_options, &w->config, &config));
    int n = asprintf(&text, "%s%s", w->head, config);
    free(config);
    if (n < 0) return ecg_fail(ECG_ERR_NOMEM, "out of memory");
    enum ecg_status status = file_write(w->asked, text, (size_t)n);
    free(text);
    return status;
}

/* ------------------------------------------------------------------ one run */

static enum ecg_status train_cell(const struct study *s, const struct work *w) {
    struct training_options o = {.config = s->o->config,
                                 .sets = w->sets.v,
                                 .n_sets = w->sets.n,
                                 .weights = s->o->weights,
                                 .out = w->run,
                                 .resume = true, /* from the start where there is nothing */
                                 .silent = true,
                                 .command = s->o->command};
    enum log_level level = log_set_level(LOG_WARN);
    enum ecg_status status = finetune_run(&o);
    log_set_level(level);
    return status;
}

/* After asked.yaml, so that a study killed here only has them removed by the next. */
static enum ecg_status drop_weights(const struct study *s, const struct work *w) {
    char *path = NULL;
    if (s->o->keep_weights) return ECG_OK;
    TRY(file_join(&path, w->run, "checkpoints"));
    enum ecg_status status = file_remove_tree(path);
    free(path);
    return status;
}

/* Figures of two kinds have no mean. */
static enum ecg_status check_metric(const struct study *s, const struct study_cell *cell) {
    const char *metric = study_metric(s);
    if (metric[0] == 0 || strcmp(metric, cell->figure.metric) == 0) return ECG_OK;
    return ecg_fail(ECG_ERR_DATA,
                    "its figure is %s, that of the runs before %s (not defined here?)",
                    cell->figure.metric, metric);
}

static enum ecg_status run_cell(const struct study *s, struct study_cell *cell, bool *was_done) {
    struct work w = {0};
    enum ecg_status status;
    TRY_OUT(work_start(&w, s, cell));
    TRY_OUT(is_done(&w, was_done));
    if (!*was_done) TRY_OUT(train_cell(s, &w));
    TRY_OUT(study_read_figure(w.run, s->has_test, &cell->figure));
    TRY_OUT(check_metric(s, cell));
    if (!*was_done) TRY_OUT(mark_done(&w));
    TRY_OUT(drop_weights(s, &w));
    cell->done = true;
out:
    work_free(&w);
    return status;
}

/* ------------------------------------------------------------------ all runs */

/* What one run alone may fail of. Anything else (config, disk, memory) would stop the others too, or a stop was asked for. */
static bool is_of_this_run(enum ecg_status status) {
    return status == ECG_ERR_FAIL || status == ECG_ERR_DATA;
}

static void tell(const struct study *s, const struct study_cell *cell, int number, double seconds) {
    if (cell->error != NULL)
        log_warn("study: %d/%d  %s failed: %s", number, s->n_cells, cell->run, cell->error);
    else
        log_info("study: %d/%d  %s  %s %.4f  (%.1f s)", number, s->n_cells, cell->run,
                 cell->figure.metric, cell->figure.value, seconds);
}

static enum ecg_status run_cells(struct study *s, int *n_failed) {
    int n_resumed = 0;
    for (int i = 0; i < s->n_cells; i++) {
        struct study_cell *cell = &s->cells[i];
        double start = log_clock();
        bool was_done = false;
        enum ecg_status status = run_cell(s, cell, &was_done);
        if (status != ECG_OK && !is_of_this_run(status))
            return ecg_fail_prefix(status, "%s: ", cell->run);
        if (status != ECG_OK) {
            TRY(mem_strdup(&cell->error, ecg_message()));
            ++*n_failed;
        }
        n_resumed += was_done;
        if (!was_done) tell(s, cell, i + 1, log_clock() - start);
    }
    if (n_resumed > 0) log_info("study: %d runs were done already", n_resumed);
    return ECG_OK;
}

static enum ecg_status report(const struct study *s) {
    char *json = NULL;
    TRY(study_write(s, &json));
    if (s->o->json)
        fputs(json, stdout);
    else
        study_print(s);
    free(json);
    return ECG_OK;
}

/* The end of a study that all its runs have seen. */
static enum ecg_status finish(const struct study *s, int n_failed) {
    TRY(report(s));
    for (int i = 0; i < s->n_cells; i++)
        if (s->cells[i].error != NULL)
            log_error("%s failed: %s", s->cells[i].run, s->cells[i].error);
    if (n_failed == 0) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "%d of %d runs failed; --resume tries them again", n_failed,
                    s->n_cells);
}

enum ecg_status study_run(const struct study_options *o) {
    struct study s = {0};
    int lock = -1, n_failed = 0;
    enum ecg_status status;
    TRY_OUT(ranks_alone("study"));
    TRY_OUT(study_make(&s, o));
    TRY_OUT(rundir_check(o->out, o->resume));
    TRY_OUT(rundir_lock(o->out, &lock));
    log_info("study: %d runs in %s", s.n_cells, o->out);
    TRY_OUT(run_cells(&s, &n_failed));
    TRY_OUT(finish(&s, n_failed));
out:
    if (lock >= 0 && status != ECG_OK)
        rmdir(o->out); /* where no run got as far as a folder of its own */
    if (lock >= 0) close(lock);
    study_free(&s);
    return status;
}
