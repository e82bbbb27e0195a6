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
    put_number(w, "f1", r->f1);
    json_end_object(w);
}

static void put_target(struct json_writer *w, const struct target_result *t, bool intervals) {
    json_begin_object(w);
    put_size(w, "n", t->n);
    put_number(w, "mae", t->r.mae);
    if (intervals) put_interval(w, "mae_ci", t->mae_ci);
    put_number(w, "rmse", t->r.rmse);
    put_number(w, "r2", t->r.r2);
    put_number(w, "pearson", t->r.pearson);
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

static enum ecg_status write_metrics(const struct evaluation *e, const struct evaluation_input *in,
                                     const char *path) {
    struct json_writer w = {.pretty = true};
    bool intervals = e->resamples > 0;
    json_begin_object(&w);
    put_size(&w, "records", in->n);
    put_size(&w, "patients", e->n_patients);
    put_size(&w, "resamples", e->resamples);
    put_macro(&w, e, intervals);
    json_put_key(&w, "labels");
    json_begin_object(&w);
    for (size_t k = 0; k < in->n_labels; k++) {
        json_put_key(&w, in->label_names[k]);
        put_label(&w, &e->labels[k], intervals);
    }
    json_end_object(&w);
    json_put_key(&w, "targets");
    json_begin_object(&w);
    for (size_t t = 0; t < in->n_targets; t++) {
        json_put_key(&w, in->target_names[t]);
        put_target(&w, &e->targets[t], intervals);
    }
    json_end_object(&w);
    json_end_object(&w);
    char *text = NULL;
    enum ecg_status status = json_writer_take(&w, &text);
    if (status == ECG_OK) status = file_write(path, text, strlen(text));
    free(text);
    return status;
}

/* ---- predictions.csv ---- */

static void put_names(FILE *f, char *const *names, size_t n, const char *suffix) {
    char cell[512];
    for (size_t i = 0; i < n; i++) {
        fputc(',', f);
        snprintf(cell, sizeof cell, "%s_%s", names[i], suffix);
        csv_put(f, cell);
        snprintf(cell, sizeof cell, "%s_true", names[i]);
        fputc(',', f);
        csv_put(f, cell);
    }
}

static void put_row(FILE *f, const struct evaluation_input *in, size_t i) {
    csv_put(f, in->record_ids[i]);
    for (size_t k = 0; k < in->n_labels; k++) {
        uint8_t y = in->labels[i * in->n_labels + k];
        fprintf(f, ",%.9g,", evaluation_prob((double)in->logits[i * in->n_labels + k]));
        if (y != EVALUATION_UNKNOWN) fprintf(f, "%d", y);
    }
    for (size_t t = 0; t < in->n_targets; t++) {
        double truth = (double)in->targets[i * in->n_targets + t];
        fprintf(f, ",%.9g,", (double)in->predictions[i * in->n_targets + t]);
        if (!isnan(truth)) fprintf(f, "%.9g", truth);
    }
    fputc('\n', f);
}

static enum ecg_status write_predictions(const struct evaluation_input *in, const char *path) {
    struct file_out f;
    TRY(file_out_open(&f, path));
    csv_put(f.stream, "record_id");
    put_names(f.stream, in->label_names, in->n_labels, "prob");
    put_names(f.stream, in->target_names, in->n_targets, "pred");
    fputc('\n', f.stream);
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

static int name_width(char *const *names, size_t n, int width) {
    for (size_t i = 0; i < n; i++)
        if ((int)strlen(names[i]) > width) width = (int)strlen(names[i]);
    return width < 40 ? width : 40;
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

static void print_labels(FILE *f, const struct evaluation *e, const struct evaluation_input *in) {
    int width = name_width(in->label_names, in->n_labels, 5);
    fprintf(f, "%-*s  %7s  %7s  %6s %-15s  %6s %-15s  %6s  %6s  %6s  %6s  %6s\n", width, "label",
            "n", "pos.", "AUROC", "(95 %)", "AUPRC", "(95 %)", "Brier", "thr.", "sens.", "spec.",
            "F1");
    for (size_t k = 0; k < in->n_labels; k++) {
        const struct label_result *r = &e->labels[k];
        fprintf(f, "%-*.40s  %7zu  %7zu", width, in->label_names[k], r->n, r->positives);
        print_number(f, r->auroc, 3);
        print_interval(f, r->auroc_ci, 3);
        print_number(f, r->auprc, 3);
        print_interval(f, r->auprc_ci, 3);
        const double rest[] = {r->brier, r->threshold, r->sensitivity, r->specificity, r->f1};
        for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) print_number(f, rest[i], 3);
        fputc('\n', f);
    }
    fprintf(f, "%-*s  %7s  %7s", width, "mean", "", "");
    print_number(f, e->macro_auroc, 3);
    print_interval(f, e->macro_auroc_ci, 3);
    print_number(f, e->macro_auprc, 3);
    print_interval(f, e->macro_auprc_ci, 3);
    fprintf(f, "  over %zu of %zu labels\n", e->n_ranked, in->n_labels);
}

static void print_targets(FILE *f, const struct evaluation *e, const struct evaluation_input *in) {
    int width = name_width(in->target_names, in->n_targets, 6);
    fprintf(f, "%-*s  %7s  %6s %-15s  %6s  %6s  %6s\n", width, "target", "n", "MAE", "(95 %)",
            "RMSE", "R2", "r");
    for (size_t t = 0; t < in->n_targets; t++) {
        const struct target_result *r = &e->targets[t];
        fprintf(f, "%-*.40s  %7zu", width, in->target_names[t], r->n);
        print_number(f, r->r.mae, 2);
        print_interval(f, r->mae_ci, 2);
        print_number(f, r->r.rmse, 2);
        print_number(f, r->r.r2, 3);
        print_number(f, r->r.pearson, 3);
        fputc('\n', f);
    }
}

void evaluation_print(const struct evaluation *e, const struct evaluation_input *in, FILE *f) {
    if (in->n_labels) print_labels(f, e, in);
    if (in->n_targets) print_targets(f, e, in);
}
