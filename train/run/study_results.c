/* SPDX-License-Identifier: MIT
 * Figures of finished runs, read from the runs' own files, and what a study says of them: study.csv (a line a run),
 * study.json and the table. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/csv.h"
#include "core/file.h"
#include "core/json.h"
#include "train/run/journal.h"
#include "train/run/study_private.h"

#define FILE_MAX_BYTES ((size_t)1 << 24)

/* ------------------------------------------------------------------ a run's figure */

static enum ecg_status read_json(const char *run, const char *name, struct json **root) {
    char *path = NULL, *text = NULL;
    size_t size;
    enum ecg_status status;
    *root = NULL;
    TRY_OUT(file_join(&path, run, name));
    TRY_OUT(file_read(path, FILE_MAX_BYTES, &text, &size));
    TRY_OUT(json_parse(root, text, size, path));
out:
    free(path);
    free(text);
    return status;
}

/* metrics.json names the one figure by which runs are compared (see evaluation.h). */
static enum ecg_status test_figure(const char *run, struct study_figure *f) {
    struct json *root;
    TRY(read_json(run, "test/metrics.json", &root));
    const struct json *main_metric = json_get(root, "main");
    const char *name = json_string(json_get(main_metric, "name"));
    snprintf(f->metric, sizeof f->metric, "%s", name != NULL ? name : "");
    f->value = json_number(json_get(main_metric, "value"));
    json_free(root);
    if (f->metric[0] != 0 && !isnan(f->value)) return ECG_OK;
    return ecg_fail(
        ECG_ERR_DATA,
        "%s/test/metrics.json: no figure is defined on the test part (has no label both "
        "positive and negative records there?)",
        run);
}

/* Of validations the last one counts. */
static enum ecg_status valid_figure(const char *run, struct study_figure *f) {
    struct journal_valid *v = NULL;
    size_t n = 0;
    TRY(journal_read_valid(run, &v, &n));
    if (n > 0) {
        bool by_auroc = !isnan(v[n - 1].macro_auroc);
        f->value = by_auroc ? v[n - 1].macro_auroc : v[n - 1].loss;
        snprintf(f->metric, sizeof f->metric, "%s", by_auroc ? "valid macro_auroc" : "valid loss");
    }
    free(v);
    if (n > 0 && !isnan(f->value)) return ECG_OK;
    return ecg_fail(ECG_ERR_DATA, "%s/metrics.jsonl: the last validation has no figure", run);
}

enum ecg_status study_read_figure(const char *run, bool has_test, struct study_figure *f) {
    struct json *manifest;
    *f = (struct study_figure){"", NAN, 0};
    TRY(has_test ? test_figure(run, f) : valid_figure(run, f));
    TRY(read_json(run, "manifest.json", &manifest));
    f->records = json_integer(json_get(json_get(manifest, "train"), "records"));
    json_free(manifest);
    return ECG_OK;
}

/* ------------------------------------------------------------------ a line of the table */

struct line {
    int fraction, mode, runs, failed;
    double mean, sd, min, max; /* sd: of the sample; NaN: none */
};

static struct line line_of(const struct study *s, int fraction, int mode) {
    struct line l = {fraction, mode, 0, 0, 0, 0, INFINITY, -INFINITY};
    for (int pass = 0; pass < 2; pass++) {
        double sum = 0;
        for (int i = 0; i < s->n_cells; i++) {
            const struct study_cell *c = &s->cells[i];
            if (c->fraction != fraction || c->mode != mode) continue;
            if (pass == 0) l.failed += c->error != NULL;
            if (!c->done) continue;
            double v = c->figure.value;
            sum += pass == 0 ? v : (v - l.mean) * (v - l.mean);
            if (pass > 0) continue;
            l.runs++;
            l.min = fmin(l.min, v);
            l.max = fmax(l.max, v);
        }
        if (pass == 0)
            l.mean = sum / l.runs; /* 0 / 0 of no run: NaN */
        else
            l.sd = l.runs > 1 ? sqrt(sum / (l.runs - 1)) : NAN;
    }
    if (l.runs == 0) l.min = l.max = NAN;
    return l;
}

const char *study_metric(const struct study *s) {
    for (int i = 0; i < s->n_cells; i++)
        if (s->cells[i].done) return s->cells[i].figure.metric;
    return "";
}

/* ------------------------------------------------------------------ study.json */

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

static void put_number(struct json_writer *w, const char *key, double v) {
    json_put_key(w, key);
    json_put_number(w, v);
}

static void put_modes(struct json_writer *w, const struct study *s) {
    json_put_key(w, "modes");
    json_begin_object(w);
    for (int i = 0; i < s->n_modes; i++) {
        json_put_key(w, s->modes[i].name);
        json_begin_array(w);
        for (int k = 0; k < s->modes[i].sets.n; k++) json_put_string(w, s->modes[i].sets.v[k]);
        json_end_array(w);
    }
    json_end_object(w);
}

static void put_summary(struct json_writer *w, const struct study *s) {
    json_put_key(w, "summary");
    json_begin_array(w);
    for (int f = 0; f < s->n_fractions; f++)
        for (int m = 0; m < s->n_modes; m++) {
            struct line l = line_of(s, f, m);
            json_begin_object(w);
            put_number(w, "fraction", s->fractions[f]);
            put_text(w, "mode", s->modes[m].name);
            put_integer(w, "runs", l.runs);
            put_integer(w, "failed", l.failed);
            put_number(w, "mean", l.mean);
            put_number(w, "sd", l.sd);
            put_number(w, "min", l.min);
            put_number(w, "max", l.max);
            json_end_object(w);
        }
    json_end_array(w);
}

static void put_cell(struct json_writer *w, const struct study *s, const struct study_cell *c) {
    json_begin_object(w);
    put_text(w, "run", c->run);
    put_text(w, "mode", s->modes[c->mode].name);
    put_number(w, "fraction", s->fractions[c->fraction]);
    if (s->o->folds > 0) put_integer(w, "fold", c->fold + 1);
    put_integer(w, "seed", c->seed);
    if (c->done) put_integer(w, "records", c->figure.records);
    put_number(w, "value", c->done ? c->figure.value : NAN);
    if (c->error != NULL) put_text(w, "error", c->error);
    json_end_object(w);
}

static enum ecg_status make_json(const struct study *s, char **text) {
    struct json_writer w = {.pretty = true};
    json_begin_object(&w);
    put_text(&w, "config", s->o->config);
    put_text(&w, "weights", s->o->weights);
    put_text(&w, "metric", study_metric(s));
    put_integer(&w, "seeds", s->o->seeds);
    put_integer(&w, "folds", s->o->folds);
    put_modes(&w, s);
    put_summary(&w, s);
    json_put_key(&w, "runs");
    json_begin_array(&w);
    for (int i = 0; i < s->n_cells; i++) put_cell(&w, s, &s->cells[i]);
    json_end_array(&w);
    json_end_object(&w);
    return json_writer_take(&w, text);
}

/* ------------------------------------------------------------------ study.csv */

static enum ecg_status write_csv(const struct study *s, const char *path) {
    struct file_out f;
    TRY(file_out_open(&f, path));
    fputs("mode,fraction,fold,seed,records,metric,value,run,error\n", f.stream);
    for (int i = 0; i < s->n_cells; i++) {
        const struct study_cell *c = &s->cells[i];
        fprintf(f.stream, "%s,%.9g,", s->modes[c->mode].name, s->fractions[c->fraction]);
        if (s->o->folds > 0) fprintf(f.stream, "%d", c->fold + 1);
        fprintf(f.stream, ",%d,", c->seed);
        if (c->done) fprintf(f.stream, "%lld", (long long)c->figure.records);
        fputc(',', f.stream);
        csv_put(f.stream, c->done ? c->figure.metric : "");
        fputc(',', f.stream);
        if (c->done) fprintf(f.stream, "%.17g", c->figure.value);
        fprintf(f.stream, ",%s,", c->run);
        csv_put(f.stream, c->error != NULL ? c->error : "");
        fputc('\n', f.stream);
    }
    return file_out_commit(&f); /* sees the stream's error */
}

enum ecg_status study_write(const struct study *s, char **json) {
    char *csv_path = NULL, *json_path = NULL;
    enum ecg_status status;
    TRY_OUT(make_json(s, json));
    TRY_OUT(file_join(&csv_path, s->o->out, "study.csv"));
    TRY_OUT(file_join(&json_path, s->o->out, "study.json"));
    TRY_OUT(write_csv(s, csv_path));
    TRY_OUT(file_write(json_path, *json, strlen(*json)));
out:
    free(csv_path);
    free(json_path);
    return status;
}

/* ------------------------------------------------------------------ the table */

static void print_number(double v) {
    if (isnan(v))
        printf(" %10s", "-");
    else
        printf(" %10.4f", v);
}

void study_print(const struct study *s) {
    printf("%s%s, %d seed%s%s: mean, sample sd, least and largest over the runs\n", study_metric(s),
           s->o->folds > 0 ? " on the fold left out"
           : s->has_test   ? " on data.test"
                           : "",
           s->o->seeds, s->o->seeds == 1 ? "" : "s", s->o->folds > 0 ? " x folds" : "");
    printf("%-10s %-14s %5s %10s %10s %10s %10s\n", "fraction", "mode", "runs", "mean", "sd", "min",
           "max");
    for (int f = 0; f < s->n_fractions; f++)
        for (int m = 0; m < s->n_modes; m++) {
            struct line l = line_of(s, f, m);
            printf("%-10.9g %-14s %5d", s->fractions[f], s->modes[m].name, l.runs);
            print_number(l.mean);
            print_number(l.sd);
            print_number(l.min);
            print_number(l.max);
            printf("%s\n", l.failed > 0 ? "  (runs failed)" : "");
        }
}
