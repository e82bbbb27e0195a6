/* SPDX-License-Identifier: MIT
 * Results as metrics.json, predictions.csv and a table. In JSON and CSV what is undefined or unknown is null or empty; in
 * the table it is a dash. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/csv.h"
#include "core/file.h"
#include "core/json.h"
#include "train/report/evaluation.h"

/* ---- metrics.json ---- */

static void put_number(struct json_writer *w, const char *key, double v) {
    json_put_key(w, key);
    json_put_number(w, v); /* NaN: null */
}

static void put_size(struct json_writer *w, const char *key, size_t v) {
    json_put_key(w, key);
    json_put_integer(w, (int64_t)v);
}

static void put_interval(struct json_writer *w, const char *key, struct interval i) {
    json_put_key(w, key);
    if (isnan(i.low)) {
        json_put_null(w);
        return;
    }
    json_begin_array(w);
    json_put_number(w, i.low);
    json_put_number(w, i.high);
    json_end_array(w);
}

static void put_label(struct json_writer *w, const struct label_result *r, bool intervals) {
    json_begin_object(w);
    put_size(w, "n", r->n);
    put_size(w, "positives", r->positives);
    put_number(w, "auroc", r->auroc);
    if (intervals) put_interval(w, "auroc_ci", r->auroc_ci);
    put_number(w, "auprc", r->auprc);
    if (intervals) put_interval(w, "auprc_ci", r->auprc_ci);
    put_number(w, "brier", r->brier);
    put_number(w, "threshold", r->threshold);
    put_number(w, "sensitivity", r->sensitivity);
    put_number(w, "specificity", r->specificity);
    put_number(w, "ppv", r->ppv);
    put_number(w, "npv", r->npv);
    put_number(w, "f1", r->f1);
    json_end_object(w);
}

/* Keys and the table's heads, in the order of enum agreement. */
static const char *const agreement_keys[AGREEMENTS] = {"accuracy", "balanced_accuracy", "macro_f1",
                                                       "kappa",    "quadratic_kappa",   "mae"};
static const char *const agreement_heads[AGREEMENTS] = {"acc.",  "bal.acc.", "F1",
                                                        "kappa", "q.kappa",  "MAE"};

static void put_confusion(struct json_writer *w, const uint64_t *counts, size_t G) {
    json_put_key(w, "confusion");
    json_begin_array(w);
    for (size_t i = 0; i < G; i++) {
        json_begin_array(w);
        for (size_t j = 0; j < G; j++) json_put_integer(w, (int64_t)counts[i * G + j]);
        json_end_array(w);
    }
    json_end_array(w);
}

static void put_group(struct json_writer *w, const struct group_result *r,
                      const struct evaluation_classes *group, bool intervals) {
    char key[64];
    json_begin_object(w);
    put_size(w, "n", r->n);
    for (int i = 0; i < (group->is_ordered ? AGREEMENTS : AGREEMENT_ORDERED); i++) {
        put_number(w, agreement_keys[i], r->value[i]);
        snprintf(key, sizeof key, "%s_ci", agreement_keys[i]);
        if (intervals) put_interval(w, key, r->ci[i]);
    }
    put_confusion(w, r->counts, group->n_classes);
    json_put_key(w, "classes");
    json_begin_object(w);
    for (size_t k = 0; k < group->n_classes; k++) {
        json_put_key(w, group->class_names[k]);
        put_label(w, &r->classes[k], intervals);
    }
    json_end_object(w);
    json_end_object(w);
}

static void put_survival(struct json_writer *w, const struct survival_result *r, bool intervals) {
    json_begin_object(w);
    put_size(w, "n", r->n);
    put_size(w, "events", r->events);
    put_number(w, "pairs", r->c.pairs);
    put_number(w, "c_index", r->c.index);
    if (intervals) put_interval(w, "c_index_ci", r->c_index_ci);
    json_end_object(w);
}

static void put_target(struct json_writer *w, const struct target_result *t, bool intervals,
                       bool with_sd) {
    json_begin_object(w);
    put_size(w, "n", t->n);
    put_number(w, "mae", t->r.mae);
    if (intervals) put_interval(w, "mae_ci", t->mae_ci);
    put_number(w, "rmse", t->r.rmse);
    put_number(w, "r2", t->r.r2);
    put_number(w, "pearson", t->r.pearson);
    if (with_sd) {
        put_size(w, "n_sd", t->n_sd);
        put_number(w, "nll", t->g.nll);
        put_number(w, "coverage", t->g.coverage);
    }
    json_end_object(w);
}

static void put_main(struct json_writer *w, const struct main_metric *m, bool intervals) {
    json_put_key(w, "main");
    json_begin_object(w);
    json_put_key(w, "name");
    json_put_string(w, m->name);
    put_number(w, "value", m->value);
    if (intervals) put_interval(w, "ci", m->ci);
    json_end_object(w);
}

static void put_macro(struct json_writer *w, const struct evaluation *e, bool intervals) {
    json_put_key(w, "macro");
    json_begin_object(w);
    put_size(w, "labels", e->n_ranked);
    put_number(w, "auroc", e->macro_auroc);
    if (intervals) put_interval(w, "auroc_ci", e->macro_auroc_ci);
    put_number(w, "auprc", e->macro_auprc);
    if (intervals) put_interval(w, "auprc_ci", e->macro_auprc_ci);
    json_end_object(w);
}

/* Opens the object of that key; the caller ends it. */
static void begin_part(struct json_writer *w, const char *key) {
    json_put_key(w, key);
    json_begin_object(w);
}

static void put_parts(struct json_writer *w, const struct evaluation *e,
                      const struct evaluation_input *in, bool intervals) {
    begin_part(w, "labels");
    for (size_t k = 0; k < in->n_labels; k++) {
        json_put_key(w, in->label_names[k]);
        put_label(w, &e->labels[k], intervals);
    }
    json_end_object(w);
    begin_part(w, "classes");
    for (size_t g = 0; g < in->n_groups; g++) {
        json_put_key(w, in->groups[g].name);
        put_group(w, &e->groups[g], &in->groups[g], intervals);
    }
    json_end_object(w);
    begin_part(w, "survivals");
    for (size_t i = 0; i < in->n_survivals; i++) {
        json_put_key(w, in->survivals[i].name);
        put_survival(w, &e->survivals[i], intervals);
    }
    json_end_object(w);
    begin_part(w, "targets");
    for (size_t t = 0; t < in->n_targets; t++) {
        json_put_key(w, in->target_names[t]);
        put_target(w, &e->targets[t], intervals, in->sds != NULL);
    }
    json_end_object(w);
}

static enum ecg_status write_metrics(const struct evaluation *e, const struct evaluation_input *in,
                                     const char *path) {
    struct json_writer w = {.pretty = true};
    bool intervals = e->resamples > 0;
    json_begin_object(&w);
    put_size(&w, "records", in->n);
    put_size(&w, "patients", e->n_patients);
    put_size(&w, "resamples", e->resamples);
    put_main(&w, &e->main, intervals);
    put_macro(&w, e, intervals);
    put_parts(&w, e, in, intervals);
    json_end_object(&w);
    char *text = NULL;
    enum ecg_status status = json_writer_take(&w, &text);
    if (status == ECG_OK) status = file_write(path, text, strlen(text));
    free(text);
    return status;
}

/* ---- predictions.csv ---- */

static void put_name(FILE *f, const char *name, const char *suffix) {
    char cell[512];
    snprintf(cell, sizeof cell, "%s_%s", name, suffix);
    fputc(',', f);
    csv_put(f, cell);
}

static void put_header(FILE *f, const struct evaluation_input *in) {
    csv_put(f, "record_id");
    for (size_t k = 0; k < in->n_labels; k++) {
        put_name(f, in->label_names[k], "prob");
        put_name(f, in->label_names[k], "true");
    }
    for (size_t g = 0; g < in->n_groups; g++) {
        const struct evaluation_classes *group = &in->groups[g];
        char suffix[256];
        put_name(f, group->name, "called");
        put_name(f, group->name, "true");
        for (size_t k = 0; k < group->n_classes; k++) {
            snprintf(suffix, sizeof suffix, "%s_prob", group->class_names[k]);
            put_name(f, group->name, suffix);
        }
    }
    for (size_t s = 0; s < in->n_survivals; s++) {
        put_name(f, in->survivals[s].name, "risk");
        put_name(f, in->survivals[s].name, "event");
        put_name(f, in->survivals[s].name, "time");
    }
    for (size_t t = 0; t < in->n_targets; t++) {
        put_name(f, in->target_names[t], "pred");
        put_name(f, in->target_names[t], "true");
        if (in->sds) put_name(f, in->target_names[t], "sd");
    }
    fputc('\n', f);
}

/* ",value"; unknown: ",". */
static void put_value(FILE *f, double v) {
    fputc(',', f);
    if (!isnan(v)) fprintf(f, "%.9g", v);
}

static void put_known(FILE *f, uint8_t y) {
    fputc(',', f);
    if (y != EVALUATION_UNKNOWN) fprintf(f, "%d", y);
}

static void put_group_row(FILE *f, const struct evaluation_classes *group, size_t i) {
    const float *scores = group->scores + i * group->n_classes;
    fputc(',', f);
    csv_put(f, group->class_names[evaluation_call(scores, group->n_classes)]);
    fputc(',', f);
    if (group->truth[i] >= 0) csv_put(f, group->class_names[group->truth[i]]);
    for (size_t k = 0; k < group->n_classes; k++)
        fprintf(f, ",%.9g", evaluation_prob((double)scores[k]));
}

static void put_row(FILE *f, const struct evaluation_input *in, size_t i) {
    csv_put(f, in->record_ids[i]);
    for (size_t k = 0; k < in->n_labels; k++) {
        fprintf(f, ",%.9g", evaluation_prob((double)in->logits[i * in->n_labels + k]));
        put_known(f, in->labels[i * in->n_labels + k]);
    }
    for (size_t g = 0; g < in->n_groups; g++) put_group_row(f, &in->groups[g], i);
    for (size_t s = 0; s < in->n_survivals; s++) {
        fprintf(f, ",%.9g", (double)in->survivals[s].risk[i]);
        put_known(f, in->survivals[s].event[i]);
        put_value(f, (double)in->survivals[s].time[i]);
    }
    for (size_t t = 0; t < in->n_targets; t++) {
        size_t at = i * in->n_targets + t;
        fprintf(f, ",%.9g", (double)in->predictions[at]);
        put_value(f, (double)in->targets[at]);
        if (in->sds) put_value(f, (double)in->sds[at]);
    }
    fputc('\n', f);
}

static enum ecg_status write_predictions(const struct evaluation_input *in, const char *path) {
    struct file_out f;
    TRY(file_out_open(&f, path));
    put_header(f.stream, in);
    for (size_t i = 0; i < in->n; i++) put_row(f.stream, in, i);
    return file_out_commit(&f); /* sees the stream's error */
}

enum ecg_status evaluation_write(const struct evaluation *e, const struct evaluation_input *in,
                                 const char *dir) {
    char *metrics = NULL, *predictions = NULL;
    enum ecg_status status = ECG_OK;
    TRY_OUT(file_mkdirs(dir));
    TRY_OUT(file_join(&metrics, dir, "metrics.json"));
    TRY_OUT(file_join(&predictions, dir, "predictions.csv"));
    TRY_OUT(write_predictions(in, predictions));
    status = write_metrics(e, in, metrics);
    if (status != ECG_OK) unlink(predictions); /* both or none */
out:
    free(metrics);
    free(predictions);
    return status;
}

/* ---- the table ---- */

#define NAME_WIDTH 40 /* longer names are cut */

static int wider(int width, size_t length) {
    if (length > NAME_WIDTH) return NAME_WIDTH;
    return (int)length > width ? (int)length : width;
}

/* Two spaces and a number right-aligned in 6 columns. */
static void print_number(FILE *f, double v, int digits) {
    if (isnan(v))
        fprintf(f, "  %6s", "-");
    else
        fprintf(f, "  %6.*f", digits, v);
}

static void print_interval(FILE *f, struct interval i, int digits) {
    char text[48] = "";
    if (!isnan(i.low)) snprintf(text, sizeof text, "(%.*f-%.*f)", digits, i.low, digits, i.high);
    fprintf(f, " %-15s", text);
}

static void print_label(FILE *f, int width, const char *name, const struct label_result *r) {
    fprintf(f, "%-*.*s  %7zu  %7zu", width, NAME_WIDTH, name, r->n, r->positives);
    print_number(f, r->auroc, 3);
    print_interval(f, r->auroc_ci, 3);
    print_number(f, r->auprc, 3);
    print_interval(f, r->auprc_ci, 3);
    const double rest[] = {r->brier, r->threshold, r->sensitivity, r->specificity,
                           r->ppv,   r->npv,       r->f1};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) print_number(f, rest[i], 3);
    fputc('\n', f);
}

/* "rhythm: AF", as classes stand in the table. */
static size_t class_name(char *text, size_t bytes, const struct evaluation_classes *group,
                         size_t k) {
    return (size_t)snprintf(text, bytes, "%s: %s", group->name, group->class_names[k]);
}

/* Labels and classes, and their mean. */
static void print_columns(FILE *f, const struct evaluation *e, const struct evaluation_input *in) {
    char name[NAME_WIDTH + 1];
    int width = 5;
    for (size_t k = 0; k < in->n_labels; k++) width = wider(width, strlen(in->label_names[k]));
    for (size_t g = 0; g < in->n_groups; g++)
        for (size_t k = 0; k < in->groups[g].n_classes; k++)
            width = wider(width, class_name(name, sizeof name, &in->groups[g], k));
    fprintf(f, "%-*s  %7s  %7s  %6s %-15s  %6s %-15s", width, "label", "n", "pos.", "AUROC",
            "(95 %)", "AUPRC", "(95 %)");
    fprintf(f, "  %6s  %6s  %6s  %6s  %6s  %6s  %6s\n", "Brier", "thr.", "sens.", "spec.", "PPV",
            "NPV", "F1");
    for (size_t k = 0; k < in->n_labels; k++)
        print_label(f, width, in->label_names[k], &e->labels[k]);
    for (size_t g = 0; g < in->n_groups; g++)
        for (size_t k = 0; k < in->groups[g].n_classes; k++) {
            class_name(name, sizeof name, &in->groups[g], k);
            print_label(f, width, name, &e->groups[g].classes[k]);
        }
    fprintf(f, "%-*s  %7s  %7s", width, "mean", "", "");
    print_number(f, e->macro_auroc, 3);
    print_interval(f, e->macro_auroc_ci, 3);
    print_number(f, e->macro_auprc, 3);
    print_interval(f, e->macro_auprc_ci, 3);
    fprintf(f, "  over %zu of %zu labels\n", e->n_ranked, e->n_columns);
}

static void print_groups(FILE *f, const struct evaluation *e, const struct evaluation_input *in) {
    int width = 7;
    bool ordered = false;
    for (size_t g = 0; g < in->n_groups; g++) {
        width = wider(width, strlen(in->groups[g].name));
        ordered |= in->groups[g].is_ordered;
    }
    int end = ordered ? AGREEMENTS : AGREEMENT_ORDERED;
    fprintf(f, "%-*s  %7s", width, "classes", "n");
    for (int i = 0; i < end; i++) fprintf(f, "  %6s %-15s", agreement_heads[i], "(95 %)");
    fputc('\n', f);
    for (size_t g = 0; g < in->n_groups; g++) {
        const struct group_result *r = &e->groups[g];
        fprintf(f, "%-*.*s  %7zu", width, NAME_WIDTH, in->groups[g].name, r->n);
        for (int i = 0; i < end; i++) {
            print_number(f, r->value[i], 3);
            print_interval(f, r->ci[i], 3);
        }
        fputc('\n', f);
    }
}

static void print_survivals(FILE *f, const struct evaluation *e,
                            const struct evaluation_input *in) {
    int width = 5;
    for (size_t s = 0; s < in->n_survivals; s++)
        width = wider(width, strlen(in->survivals[s].name));
    fprintf(f, "%-*s  %7s  %7s  %6s %-15s\n", width, "event", "n", "events", "C", "(95 %)");
    for (size_t s = 0; s < in->n_survivals; s++) {
        const struct survival_result *r = &e->survivals[s];
        fprintf(f, "%-*.*s  %7zu  %7zu", width, NAME_WIDTH, in->survivals[s].name, r->n, r->events);
        print_number(f, r->c.index, 3);
        print_interval(f, r->c_index_ci, 3);
        fputc('\n', f);
    }
}

static void print_targets(FILE *f, const struct evaluation *e, const struct evaluation_input *in) {
    int width = 6;
    for (size_t t = 0; t < in->n_targets; t++) width = wider(width, strlen(in->target_names[t]));
    fprintf(f, "%-*s  %7s  %6s %-15s  %6s  %6s  %6s", width, "target", "n", "MAE", "(95 %)", "RMSE",
            "R2", "r");
    if (in->sds) fprintf(f, "  %6s  %6s", "NLL", "in 95%");
    fputc('\n', f);
    for (size_t t = 0; t < in->n_targets; t++) {
        const struct target_result *r = &e->targets[t];
        fprintf(f, "%-*.*s  %7zu", width, NAME_WIDTH, in->target_names[t], r->n);
        print_number(f, r->r.mae, 2);
        print_interval(f, r->mae_ci, 2);
        print_number(f, r->r.rmse, 2);
        print_number(f, r->r.r2, 3);
        print_number(f, r->r.pearson, 3);
        if (in->sds) {
            print_number(f, r->g.nll, 3);
            print_number(f, r->g.coverage, 3);
        }
        fputc('\n', f);
    }
}

void evaluation_print(const struct evaluation *e, const struct evaluation_input *in, FILE *f) {
    if (e->n_columns) print_columns(f, e, in);
    if (in->n_groups) print_groups(f, e, in);
    if (in->n_survivals) print_survivals(f, e, in);
    if (in->n_targets) print_targets(f, e, in);
}
