/* SPDX-License-Identifier: MIT
 * From outputs and truth to results: each label and target is gathered over the records that know it, measured, and kept
 * ranked for the bootstrap. Files and table are evaluation_write.c. */
#include "train/report/evaluation.h"

#include <math.h>
#include <stdlib.h>

#include "core/mem.h"
#include "train/report/bootstrap.h"

/* The known entries of one label. */
struct known {
    size_t n, positives;
    double *logit, *prob; /* (n) */
    uint8_t *y;           /* (n) */
    uint32_t *unit;       /* (n) patient */
};

double evaluation_prob(double logit) {
    return 1 / (1 + exp(-logit));
}

static const char *record_name(const struct evaluation_input *in, size_t i, char text[32]) {
    if (in->record_ids) return in->record_ids[i];
    snprintf(text, 32, "%zu", i);
    return text;
}

static enum ecg_status known_alloc(struct known *k, size_t n) {
    *k = (struct known){0};
    TRY(MEM_NEW(&k->logit, n));
    TRY(MEM_NEW(&k->prob, n));
    TRY(MEM_NEW(&k->y, n));
    return MEM_NEW(&k->unit, n);
}

static void known_free(struct known *k) {
    free(k->logit);
    free(k->prob);
    free(k->y);
    free(k->unit);
    *k = (struct known){0};
}

static enum ecg_status gather_label(struct known *k, const struct evaluation_input *in,
                                    const uint32_t *unit, size_t label) {
    char text[32];
    k->n = k->positives = 0;
    for (size_t i = 0; i < in->n; i++) {
        uint8_t y = in->labels[i * in->n_labels + label];
        double logit = (double)in->logits[i * in->n_labels + label];
        if (y == EVALUATION_UNKNOWN) continue;
        if (y > 1)
            return ecg_fail(ECG_ERR_DATA,
                            "record %s, label %s: %d is none of 0, 1 and 255 (unknown)",
                            record_name(in, i, text), in->label_names[label], y);
        if (!isfinite(logit))
            return ecg_fail(ECG_ERR_DATA, "record %s, label %s: the network's output is %g",
                            record_name(in, i, text), in->label_names[label], logit);
        k->logit[k->n] = logit;
        k->prob[k->n] = evaluation_prob(logit);
        k->y[k->n] = y;
        k->unit[k->n] = unit ? unit[i] : 0;
        k->n++;
        k->positives += y;
    }
    return ECG_OK;
}

static bool has_both(const struct known *k) {
    return k->positives && k->positives < k->n;
}

static const struct interval no_interval = {NAN, NAN};

/* Ranks into *ranking (left empty with one class) and measures. */
static enum ecg_status measure_label(struct label_result *r, struct ranking *ranking,
                                     const struct known *k, double threshold) {
    *r = (struct label_result){.n = k->n,
                               .positives = k->positives,
                               .auroc = NAN,
                               .auprc = NAN,
                               .brier = metrics_brier(k->prob, k->y, k->n),
                               .threshold = threshold,
                               .sensitivity = NAN,
                               .specificity = NAN,
                               .f1 = NAN,
                               .auroc_ci = no_interval,
                               .auprc_ci = no_interval};
    if (has_both(k)) {
        TRY(metrics_rank(ranking, k->logit, k->y, k->unit, k->n));
        metrics_rank_areas(ranking, NULL, &r->auroc, &r->auprc);
    }
    if (isnan(threshold)) return ECG_OK;
    struct confusion c = metrics_confusion(k->prob, k->y, k->n, threshold);
    r->sensitivity = metrics_sensitivity(c);
    r->specificity = metrics_specificity(c);
    r->f1 = metrics_f1(c);
    return ECG_OK;
}

/* Means over the labels with both classes. */
static void take_means(struct evaluation *e, size_t n_labels) {
    double auroc = 0, auprc = 0;
    for (size_t k = 0; k < n_labels; k++) {
        if (isnan(e->labels[k].auroc)) continue;
        auroc += e->labels[k].auroc;
        auprc += e->labels[k].auprc;
        e->n_ranked++;
    }
    e->macro_auroc = e->n_ranked ? auroc / (double)e->n_ranked : NAN;
    e->macro_auprc = e->n_ranked ? auprc / (double)e->n_ranked : NAN;
}

static enum ecg_status run_labels(struct evaluation *e, const struct evaluation_input *in,
                                  const uint32_t *unit, struct ranking *rankings) {
    struct known known = {0};
    enum ecg_status status = ECG_OK;
    TRY_OUT(known_alloc(&known, in->n));
    for (size_t k = 0; k < in->n_labels; k++) {
        TRY_OUT(gather_label(&known, in, unit, k));
        TRY_OUT(measure_label(&e->labels[k], &rankings[k], &known,
                              in->thresholds ? in->thresholds[k] : NAN));
        if (!in->intervals) metrics_rank_free(&rankings[k]);
    }
    take_means(e, in->n_labels);
out:
    known_free(&known);
    return status;
}

static enum ecg_status run_target(struct target_result *r, struct bootstrap_errors *errors,
                                  const struct evaluation_input *in, const uint32_t *unit,
                                  size_t target) {
    double *prediction = NULL, *truth = NULL;
    char text[32];
    enum ecg_status status = ECG_OK;
    TRY_OUT(MEM_NEW(&prediction, in->n));
    TRY_OUT(MEM_NEW(&truth, in->n));
    TRY_OUT(MEM_NEW(&errors->unit, in->n));
    TRY_OUT(MEM_NEW(&errors->error, in->n));
    size_t n = 0;
    for (size_t i = 0; i < in->n; i++) {
        double p = (double)in->predictions[i * in->n_targets + target];
        double t = (double)in->targets[i * in->n_targets + target];
        if (isnan(t)) continue;
        if (!isfinite(p) || !isfinite(t))
            TRY_OUT(ecg_fail(ECG_ERR_DATA,
                             "record %s, target %s: the network's output is %g, the truth %g",
                             record_name(in, i, text), in->target_names[target], p, t));
        prediction[n] = p;
        truth[n] = t;
        errors->unit[n] = unit[i];
        errors->error[n++] = fabs(p - t);
    }
    errors->n = n;
    *r = (struct target_result){n, metrics_regression(prediction, truth, n), no_interval};
out:
    free(prediction);
    free(truth);
    return status;
}

/* What run needs besides the results. */
struct workspace {
    uint32_t *unit;                  /* (N) patient of each record */
    struct ranking *rankings;        /* (K) */
    struct bootstrap_errors *errors; /* (T) */
};

static enum ecg_status workspace_alloc(struct workspace *w, const struct evaluation_input *in) {
    TRY(MEM_NEW(&w->unit, in->n));
    TRY(MEM_NEW(&w->rankings, in->n_labels));
    return MEM_NEW(&w->errors, in->n_targets);
}

static void workspace_free(struct workspace *w, const struct evaluation_input *in) {
    for (size_t k = 0; w->rankings && k < in->n_labels; k++) metrics_rank_free(&w->rankings[k]);
    for (size_t t = 0; w->errors && t < in->n_targets; t++) {
        free(w->errors[t].unit);
        free(w->errors[t].error);
    }
    free(w->unit);
    free(w->rankings);
    free(w->errors);
}

enum ecg_status evaluation_run(struct evaluation *e, const struct evaluation_input *in) {
    *e = (struct evaluation){.macro_auroc_ci = no_interval, .macro_auprc_ci = no_interval};
    struct workspace w = {0};
    enum ecg_status status = ECG_OK;
    TRY_OUT(workspace_alloc(&w, in));
    TRY_OUT(MEM_NEW(&e->labels, in->n_labels));
    TRY_OUT(MEM_NEW(&e->targets, in->n_targets));
    TRY_OUT(bootstrap_units(w.unit, &e->n_patients, in->patients, in->n));
    TRY_OUT(run_labels(e, in, w.unit, w.rankings));
    for (size_t t = 0; t < in->n_targets; t++)
        TRY_OUT(run_target(&e->targets[t], &w.errors[t], in, w.unit, t));
    if (in->intervals && e->n_patients > 1) {
        struct bootstrap_input b = {.n_units = e->n_patients,
                                    .n_labels = in->n_labels,
                                    .rankings = w.rankings,
                                    .n_targets = in->n_targets,
                                    .errors = w.errors,
                                    .seed = in->seed,
                                    .resamples = bootstrap_resamples(in->n)};
        TRY_OUT(bootstrap_run(&b, e));
    }
out:
    workspace_free(&w, in);
    if (status != ECG_OK) evaluation_free(e);
    return status;
}

void evaluation_free(struct evaluation *e) {
    free(e->labels);
    free(e->targets);
    *e = (struct evaluation){0};
}

enum ecg_status evaluation_thresholds(const struct evaluation_input *in, double *thresholds) {
    struct known known = {0};
    enum ecg_status status = ECG_OK;
    TRY_OUT(known_alloc(&known, in->n));
    for (size_t k = 0; k < in->n_labels; k++) {
        TRY_OUT(gather_label(&known, in, NULL, k));
        TRY_OUT(metrics_youden(known.prob, known.y, known.n, &thresholds[k]));
    }
out:
    known_free(&known);
    return status;
}
