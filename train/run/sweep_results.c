/* SPDX-License-Identifier: MIT
 * Results of trials, in their own files and in the sweep's: sweep.csv, sweep.json, best.yaml and the table. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/csv.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/mem.h"
#include "train/run/journal.h"
#include "train/run/sweep_private.h"

#define RESULT_MAX_BYTES ((size_t)1 << 20)

/* ------------------------------------------------------------------ a trial's figure */

enum ecg_status sweep_read_figure(const char *run, struct sweep_result *r) {
    struct journal_valid *v = NULL;
    size_t n = 0;
    bool by_auroc = false, found = false;
    TRY(journal_read_valid(run, &v, &n));
    for (size_t i = 0; i < n; i++) by_auroc = by_auroc || !isnan(v[i].macro_auroc);
    for (size_t i = 0; i < n; i++) {
        double x = by_auroc ? v[i].macro_auroc : v[i].loss;
        if (isnan(x) || (found && !(by_auroc ? x > r->value : x < r->value))) continue;
        found = true;
        r->value = x;
        r->step = v[i].step;
        r->epoch = v[i].epoch;
    }
    free(v);
    snprintf(r->metric, sizeof(r->metric), "%s", by_auroc ? "macro_auroc" : "loss");
    if (found) return ECG_OK;
    return ecg_fail(ECG_ERR_DATA, "%s/metrics.jsonl: no validation has a figure", run);
}

/* ------------------------------------------------------------------ a trial's own file */

static enum ecg_status result_path(const struct sweep *s, const struct sweep_trial *t, int rung,
                                   char **path) {
    if (asprintf(path, "%s/%s/rung-%d.json", s->o->out, t->name, rung + 1) >= 0) return ECG_OK;
    *path = NULL;
    return ecg_fail(ECG_ERR_NOMEM, "out of memory");
}

static void put_text(struct json_writer *w, const char *key, const char *text) {
    json_put_key(w, key);
    if (text != NULL)
        json_put_string(w, text);
    else
        json_put_null(w);
}

static void put_integer(struct json_writer *w, const char *key, int64_t v) {
    json_put_key(w, key);
    json_put_integer(w, v);
}

static void put_values(struct json_writer *w, const struct sweep *s, const struct sweep_trial *t) {
    json_put_key(w, "values");
    json_begin_object(w);
    for (int i = 0; i < s->space.n; i++) put_text(w, s->space.keys[i].key, t->values[i]);
    json_end_object(w);
}

static void put_figure(struct json_writer *w, const struct sweep_result *r) {
    put_text(w, "metric", r->error == NULL ? r->metric : NULL);
    json_put_key(w, "value");
    json_put_number(w, r->error == NULL ? r->value : NAN);
    put_integer(w, "step", r->step);
    put_integer(w, "epoch", r->epoch);
    put_text(w, "error", r->error);
}

/* Of all that a trial's result depends on but the space's values, which have messages of their own. */
static enum ecg_status config_hash(const struct sweep *s, const struct sweep_trial *t,
                                   char hex[17]) {
    struct config c = {0};
    char **sets = NULL, *text = NULL;
    int n = 0;
    enum ecg_status status;
    TRY_OUT(sweep_trial_sets(s, t, false, &sets, &n));
    TRY_OUT(config_load(&c, s->o->config, sets, n));
    c.train.threads = 0; /* rundir.c's free keys */
    c.data.workers = 1;
    c.train.recompute = false;
    c.train.cuda_graph = true;
    TRY_OUT(conf_dump(config_options, &c, &text));
    snprintf(hex, 17, "%016llx", (unsigned long long)hash_bytes(text, strlen(text)));
out:
    config_free(&c);
    sweep_sets_free(sets);
    free(text);
    return status;
}

enum ecg_status sweep_save_result(const struct sweep *s, const struct sweep_trial *t, int rung) {
    struct json_writer w = {.pretty = true};
    char *path = NULL, *text = NULL, hash[17];
    enum ecg_status status;
    TRY_OUT(config_hash(s, t, hash));
    json_begin_object(&w);
    put_text(&w, "config_xxhash64", hash);
    put_text(&w, "weights", s->o->weights);
    put_integer(&w, "until_epoch", s->rungs[rung].until);
    put_values(&w, s, t);
    put_figure(&w, &t->at[rung]);
    json_end_object(&w);
    TRY_OUT(json_writer_take(&w, &text));
    TRY_OUT(result_path(s, t, rung, &path));
    TRY_OUT(file_write(path, text, strlen(text)));
out:
    free(path);
    free(text);
    return status;
}

static bool same_text(const char *a, const char *b) {
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* What differs between the file and what is asked for now; NULL: nothing. */
static const char *difference(const struct sweep *s, const struct sweep_trial *t, int rung,
                              const struct json *root, const char *hash) {
    const struct json *values = json_get(root, "values");
    if (!same_text(json_string(json_get(root, "weights")), s->o->weights)) return "--weights";
    if (json_integer(json_get(root, "until_epoch")) != s->rungs[rung].until)
        return "its length (--halving, --eta, --trials, train.epochs)";
    if (json_size(values) != (size_t)s->space.n) return "the space's keys";
    for (int i = 0; i < s->space.n; i++)
        if (!same_text(json_string(json_get(values, s->space.keys[i].key)), t->values[i]))
            return s->space.keys[i].key;
    if (!same_text(json_string(json_get(root, "config_xxhash64")), hash)) return "its config";
    return NULL;
}

static enum ecg_status take_result(struct sweep_result *r, const struct json *root,
                                   const char *path) {
    const char *metric = json_string(json_get(root, "metric"));
    const char *error = json_string(json_get(root, "error"));
    r->value = json_number(json_get(root, "value"));
    r->step = json_integer(json_get(root, "step"));
    r->epoch = json_integer(json_get(root, "epoch"));
    snprintf(r->metric, sizeof(r->metric), "%s", metric != NULL ? metric : "");
    if (error != NULL) TRY(mem_strdup(&r->error, error));
    if (error == NULL && (metric == NULL || isnan(r->value)))
        return ecg_fail(ECG_ERR_DATA, "%s: has no figure: remove it", path);
    r->there = true;
    return ECG_OK;
}

enum ecg_status sweep_load_result(const struct sweep *s, struct sweep_trial *t, int rung) {
    struct json *root = NULL;
    char *path = NULL, *text = NULL, hash[17];
    size_t size;
    enum ecg_status status;
    TRY_OUT(result_path(s, t, rung, &path));
    if (!file_exists(path)) goto out;
    TRY_OUT(file_read(path, RESULT_MAX_BYTES, &text, &size));
    TRY_OUT(json_parse(&root, text, size, path));
    TRY_OUT(config_hash(s, t, hash));
    const char *what = difference(s, t, rung, root, hash);
    if (what != NULL)
        TRY_OUT(ecg_fail(ECG_ERR_CONFIG, "--resume: %s was made by another sweep: %s differs", path,
                         what));
    status = take_result(&t->at[rung], root, path);
out:
    json_free(root);
    free(path);
    free(text);
    return status;
}

/* ------------------------------------------------------------------ order */

int sweep_reached(const struct sweep *s, const struct sweep_trial *t) {
    int rung = -1;
    for (int k = 0; k < s->n_rungs; k++)
        if (t->at[k].there) rung = k;
    return rung;
}

struct place {
    int trial, rung; /* rung -1: failed, -2: not run */
    double score;    /* more is better */
};

static int compare_places(const void *a, const void *b) {
    const struct place *x = a, *y = b;
    if (x->rung != y->rung) return x->rung > y->rung ? -1 : 1;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->trial < y->trial ? -1 : 1;
}

static struct place place_of(const struct sweep *s, int trial, int rung) {
    if (rung < 0) return (struct place){trial, -2, 0};
    const struct sweep_result *r = &s->trials[trial].at[rung];
    if (r->error != NULL) return (struct place){trial, -1, 0};
    return (struct place){trial, rung, strcmp(r->metric, "loss") == 0 ? -r->value : r->value};
}

/* The n places in order; *n_good did not fail. */
static void sort_places(struct place *p, int n, int *order, int *n_good) {
    qsort(p, (size_t)n, sizeof(*p), compare_places);
    *n_good = 0;
    for (int i = 0; i < n; i++) {
        order[i] = p[i].trial;
        *n_good += p[i].rung >= 0;
    }
}

enum ecg_status sweep_rank(const struct sweep *s, int rung, int *order, int *n) {
    const struct sweep_rung *r = &s->rungs[rung];
    struct place *p = NULL;
    TRY(MEM_NEW(&p, (size_t)r->n));
    for (int i = 0; i < r->n; i++) p[i] = place_of(s, r->trials[i], rung);
    sort_places(p, r->n, order, n);
    free(p);
    return ECG_OK;
}

enum ecg_status sweep_order(const struct sweep *s, int *order) {
    struct place *p = NULL;
    int n_good;
    TRY(MEM_NEW(&p, (size_t)s->n_trials));
    for (int i = 0; i < s->n_trials; i++) p[i] = place_of(s, i, sweep_reached(s, &s->trials[i]));
    sort_places(p, s->n_trials, order, &n_good);
    free(p);
    return ECG_OK;
}

/* ------------------------------------------------------------------ sweep.json */

/* The best trial, if any went well. */
static const struct sweep_trial *best_of(const struct sweep *s, const int *order) {
    const struct sweep_trial *t = &s->trials[order[0]];
    int rung = sweep_reached(s, t);
    return rung >= 0 && t->at[rung].error == NULL ? t : NULL;
}

static const char *metric_of(const struct sweep *s, const int *order) {
    const struct sweep_trial *t = best_of(s, order);
    return t != NULL ? t->at[sweep_reached(s, t)].metric : NULL;
}

static void put_rungs(struct json_writer *w, const struct sweep *s) {
    json_put_key(w, "rungs");
    json_begin_array(w);
    for (int k = 0; k < s->n_rungs; k++) {
        json_begin_object(w);
        put_integer(w, "trials", s->rungs[k].n);
        json_put_key(w, "until_epoch");
        if (s->rungs[k].until > 0)
            json_put_integer(w, s->rungs[k].until);
        else
            json_put_null(w);
        json_end_object(w);
    }
    json_end_array(w);
}

static void put_trial(struct json_writer *w, const struct sweep *s, const struct sweep_trial *t) {
    static const struct sweep_result none = {.error = NULL, .value = NAN};
    int rung = sweep_reached(s, t);
    const struct sweep_result *r = rung >= 0 ? &t->at[rung] : &none;
    json_begin_object(w);
    put_text(w, "trial", t->name);
    put_integer(w, "rung", rung + 1);
    put_values(w, s, t);
    put_figure(w, r);
    json_end_object(w);
}

static enum ecg_status make_json(const struct sweep *s, const int *order, char **text) {
    struct json_writer w = {.pretty = true};
    const struct sweep_trial *best = best_of(s, order);
    json_begin_object(&w);
    put_text(&w, "config", s->o->config);
    put_text(&w, "space", s->o->space);
    put_text(&w, "weights", s->o->weights);
    put_integer(&w, "seed", (int64_t)s->o->seed);
    put_text(&w, "metric", metric_of(s, order));
    put_text(&w, "best", best != NULL ? best->name : NULL);
    put_rungs(&w, s);
    json_put_key(&w, "trials");
    json_begin_array(&w);
    for (int i = 0; i < s->n_trials; i++) put_trial(&w, s, &s->trials[order[i]]);
    json_end_array(&w);
    json_end_object(&w);
    return json_writer_take(&w, text);
}

/* ------------------------------------------------------------------ sweep.csv, best.yaml */

static enum ecg_status write_csv(const struct sweep *s, const int *order, const char *path) {
    struct file_out f;
    TRY(file_out_open(&f, path));
    fputs("trial,rung,metric,value,step,epoch", f.stream);
    for (int i = 0; i < s->space.n; i++) fprintf(f.stream, ",%s", s->space.keys[i].key);
    fputs(",error\n", f.stream);
    for (int i = 0; i < s->n_trials; i++) {
        const struct sweep_trial *t = &s->trials[order[i]];
        int rung = sweep_reached(s, t);
        const struct sweep_result *r = rung >= 0 ? &t->at[rung] : NULL;
        fprintf(f.stream, "%s,%d,", t->name, rung + 1);
        if (r != NULL && r->error == NULL)
            fprintf(f.stream, "%s,%.17g,%lld,%lld", r->metric, r->value, (long long)r->step,
                    (long long)r->epoch);
        else
            fputs(",,,", f.stream);
        for (int k = 0; k < s->space.n; k++) {
            fputc(',', f.stream);
            csv_put(f.stream, t->values[k]);
        }
        fputc(',', f.stream);
        csv_put(f.stream, r != NULL && r->error != NULL ? r->error : "");
        fputc('\n', f.stream);
    }
    return file_out_commit(&f); /* sees the stream's error */
}

static enum ecg_status write_best(const struct sweep *s, const struct sweep_trial *t,
                                  const char *path) {
    struct config c = {0};
    char **sets = NULL, *text = NULL;
    int n = 0;
    enum ecg_status status;
    TRY_OUT(sweep_trial_sets(s, t, true, &sets, &n));
    TRY_OUT(config_load(&c, s->o->config, sets, n));
    TRY_OUT(conf_dump(config_options, &c, &text));
    TRY_OUT(file_write(path, text, strlen(text)));
out:
    config_free(&c);
    sweep_sets_free(sets);
    free(text);
    return status;
}

enum ecg_status sweep_write(const struct sweep *s, bool whole, const int *order, char **json) {
    char *paths[3] = {NULL};
    static const char *const names[] = {"sweep.csv", "sweep.json", "best.yaml"};
    const struct sweep_trial *best = best_of(s, order);
    enum ecg_status status;
    for (int i = 0; i < 3; i++) TRY_OUT(file_join(&paths[i], s->o->out, names[i]));
    TRY_OUT(make_json(s, order, json));
    TRY_OUT(write_csv(s, order, paths[0]));
    TRY_OUT(file_write(paths[1], *json, strlen(*json)));
    if (whole && best != NULL) TRY_OUT(write_best(s, best, paths[2]));
out:
    for (int i = 0; i < 3; i++) free(paths[i]);
    return status;
}

/* ------------------------------------------------------------------ the table */

static int width_of(const struct sweep *s, int key) {
    size_t w = strlen(s->space.keys[key].key);
    for (int i = 0; i < s->n_trials; i++)
        if (strlen(s->trials[i].values[key]) > w) w = strlen(s->trials[i].values[key]);
    return w < 40 ? (int)w : 40;
}

void sweep_print(const struct sweep *s, const int *order) {
    const char *metric = metric_of(s, order);
    printf("best validation %s of %d trials, seed %llu\n", metric != NULL ? metric : "-",
           s->n_trials, s->o->seed);
    printf("%-12s %4s %10s %6s", "trial", "rung", "value", "epoch");
    for (int k = 0; k < s->space.n; k++) printf("  %-*s", width_of(s, k), s->space.keys[k].key);
    putchar('\n');
    for (int i = 0; i < s->n_trials; i++) {
        const struct sweep_trial *t = &s->trials[order[i]];
        int rung = sweep_reached(s, t);
        bool good = rung >= 0 && t->at[rung].error == NULL;
        printf("%-12s %4d", t->name, rung + 1);
        if (good)
            printf(" %10.4f %6lld", t->at[rung].value, (long long)t->at[rung].epoch + 1);
        else
            printf(" %10s %6s", rung < 0 ? "-" : "failed", "-");
        for (int k = 0; k < s->space.n; k++) printf("  %-*s", width_of(s, k), t->values[k]);
        putchar('\n');
    }
}
