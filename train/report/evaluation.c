/* SPDX-License-Identifier: MIT
 * From outputs and truth to results: each label, class, time and target is gathered over the records that know it, measured,
 * and kept in order for the bootstrap. Files and table are evaluation_write.c. */
#include "train/report/evaluation.h"

#include <math.h>
#include <stdlib.h>

#include "core/mem.h"
#include "train/report/bootstrap.h"

/* A label, or one class of a group against its others. */
struct column {
    const struct evaluation_classes *group; /* NULL: a label */
    size_t at;                              /* among the labels or the group's classes */
};

/* The known entries of one column. */
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

static uint8_t truth_of(const struct evaluation_input *in, struct column c, size_t i) {
    if (!c.group) return in->labels[i * in->n_labels + c.at];
    int truth = c.group->truth[i];
    return truth < 0 ? EVALUATION_UNKNOWN : truth == (int)c.at;
}

static double logit_of(const struct evaluation_input *in, struct column c, size_t i) {
    if (c.group) return (double)c.group->scores[i * c.group->n_classes + c.at];
    return (double)in->logits[i * in->n_labels + c.at];
}

static const char *column_name(const struct evaluation_input *in, struct column c) {
    return c.group ? c.group->class_names[c.at] : in->label_names[c.at];
}

static enum ecg_status gather_column(struct known *k, const struct evaluation_input *in,
                                     const uint32_t *unit, struct column c) {
    char text[32];
    k->n = k->positives = 0;
    for (size_t i = 0; i < in->n; i++) {
        uint8_t y = truth_of(in, c, i);
        double logit = logit_of(in, c, i);
        if (y == EVALUATION_UNKNOWN) continue;
        if (y > 1)
            return ecg_fail(ECG_ERR_DATA,
                            "record %s, label %s: %d is none of 0, 1 and 255 (unknown)",
                            record_name(in, i, text), column_name(in, c), y);
        if (!isfinite(logit))
            return ecg_fail(ECG_ERR_DATA, "record %s, %s %s: the network's output is %g",
                            record_name(in, i, text), c.group ? c.group->name : "label",
                            column_name(in, c), logit);
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

/* Ranks into *ranking (left empty with one class) and measures; calls NULL: there are none. */
static enum ecg_status measure_column(struct label_result *r, struct ranking *ranking,
                                      const struct known *k, const struct confusion *calls) {
    *r = (struct label_result){.n = k->n,
                               .positives = k->positives,
                               .auroc = NAN,
                               .auprc = NAN,
                               .brier = metrics_brier(k->prob, k->y, k->n),
                               .threshold = NAN,
                               .sensitivity = NAN,
                               .specificity = NAN,
                               .ppv = NAN,
                               .npv = NAN,
                               .f1 = NAN,
                               .auroc_ci = no_interval,
                               .auprc_ci = no_interval};
    if (has_both(k)) {
        TRY(metrics_rank(ranking, k->logit, k->y, k->unit, k->n));
        metrics_rank_areas(ranking, NULL, &r->auroc, &r->auprc);
    }
    if (!calls) return ECG_OK;
    r->sensitivity = metrics_sensitivity(*calls);
    r->specificity = metrics_specificity(*calls);
    r->ppv = metrics_ppv(*calls);
    r->npv = metrics_npv(*calls);
    r->f1 = metrics_f1(*calls);
    return ECG_OK;
}

static enum ecg_status run_label(struct label_result *r, struct ranking *ranking,
                                 const struct known *k, double threshold) {
    if (isnan(threshold)) return measure_column(r, ranking, k, NULL);
    struct confusion calls = metrics_confusion(k->prob, k->y, k->n, threshold);
    TRY(measure_column(r, ranking, k, &calls));
    r->threshold = threshold;
    return ECG_OK;
}

/* Class k against the others, from counts (G, G). */
static struct confusion class_confusion(const uint64_t *counts, size_t G, size_t k) {
    struct confusion c = {0};
    for (size_t i = 0; i < G; i++)
        for (size_t j = 0; j < G; j++) {
            size_t *cell = i == k ? (j == k ? &c.tp : &c.fn) : (j == k ? &c.fp : &c.tn);
            *cell += counts[i * G + j];
        }
    return c;
}

/* Means over the columns with both classes. */
static void take_means(struct evaluation *e) {
    double auroc = 0, auprc = 0;
    for (size_t k = 0; k < e->n_columns; k++) {
        if (isnan(e->labels[k].auroc)) continue;
        auroc += e->labels[k].auroc;
        auprc += e->labels[k].auprc;
        e->n_ranked++;
    }
    e->macro_auroc = e->n_ranked ? auroc / (double)e->n_ranked : NAN;
    e->macro_auprc = e->n_ranked ? auprc / (double)e->n_ranked : NAN;
}

static enum ecg_status run_columns(struct evaluation *e, const struct evaluation_input *in,
                                   const uint32_t *unit, struct ranking *rankings) {
    struct known known = {0};
    enum ecg_status status = ECG_OK;
    TRY_OUT(known_alloc(&known, in->n));
    size_t column = 0;
    for (size_t k = 0; k < in->n_labels; k++, column++) {
        TRY_OUT(gather_column(&known, in, unit, (struct column){NULL, k}));
        TRY_OUT(run_label(&e->labels[column], &rankings[column], &known,
                          in->thresholds ? in->thresholds[k] : NAN));
        if (!in->intervals) metrics_rank_free(&rankings[column]);
    }
    for (size_t g = 0; g < in->n_groups; g++)
        for (size_t k = 0; k < in->groups[g].n_classes; k++, column++) {
            struct confusion c = class_confusion(e->groups[g].counts, in->groups[g].n_classes, k);
            TRY_OUT(gather_column(&known, in, unit, (struct column){&in->groups[g], k}));
            TRY_OUT(measure_column(&e->labels[column], &rankings[column], &known, &c));
            if (!in->intervals) metrics_rank_free(&rankings[column]);
        }
    take_means(e);
out:
    known_free(&known);
    return status;
}

size_t evaluation_call(const float *scores, size_t n_classes) {
    size_t best = 0;
    for (size_t k = 1; k < n_classes; k++)
        if (scores[k] > scores[best]) best = k;
    return best;
}

/* counts (G, G), zeros before. What a class's column would refuse is left to it. */
static enum ecg_status run_group(struct group_result *r, struct bootstrap_calls *calls,
                                 uint64_t *counts, const struct evaluation_input *in,
                                 const struct evaluation_classes *group, const uint32_t *unit) {
    size_t G = group->n_classes;
    char text[32];
    TRY(MEM_NEW(&calls->unit, in->n));
    TRY(MEM_NEW(&calls->cell, in->n));
    calls->n_classes = G;
    calls->end = group->is_ordered ? AGREEMENTS : AGREEMENT_ORDERED;
    for (size_t i = 0; i < in->n; i++) {
        int truth = group->truth[i];
        if (truth == -1) continue;
        if (truth < 0 || (size_t)truth >= G)
            return ecg_fail(ECG_ERR_DATA, "record %s, %s: class %d is none of 0 .. %zu and -1",
                            record_name(in, i, text), group->name, truth, G - 1);
        size_t cell = (size_t)truth * G + evaluation_call(group->scores + i * G, G);
        calls->unit[calls->n] = unit[i];
        calls->cell[calls->n++] = (uint32_t)cell;
        counts[cell]++;
    }
    *r = (struct group_result){.n = calls->n, .counts = counts};
    metrics_agreement(r->value, counts, G);
    for (size_t i = 0; i < AGREEMENTS; i++) {
        if (i >= calls->end) r->value[i] = NAN;
        r->ci[i] = no_interval;
    }
    return ECG_OK;
}

/* The known entries of a time to an event. */
struct survivors {
    size_t n, events;
    double *risk;
    uint8_t *event;
    float *time;
    uint32_t *unit;
};

static enum ecg_status gather_survivors(struct survivors *k, const struct evaluation_input *in,
                                        const struct evaluation_survival *s, const uint32_t *unit) {
    char text[32];
    TRY(MEM_NEW(&k->risk, in->n));
    TRY(MEM_NEW(&k->event, in->n));
    TRY(MEM_NEW(&k->time, in->n));
    TRY(MEM_NEW(&k->unit, in->n));
    for (size_t i = 0; i < in->n; i++) {
        if (s->event[i] == EVALUATION_UNKNOWN || isnan(s->time[i])) continue;
        if (s->event[i] > 1)
            return ecg_fail(ECG_ERR_DATA,
                            "record %s, event %s: %d is none of 0, 1 and 255 (unknown)",
                            record_name(in, i, text), s->name, s->event[i]);
        if (!isfinite(s->risk[i]) || !isfinite(s->time[i]))
            return ecg_fail(ECG_ERR_DATA, "record %s, event %s: the risk is %g, the time %g",
                            record_name(in, i, text), s->name, (double)s->risk[i],
                            (double)s->time[i]);
        k->risk[k->n] = (double)s->risk[i];
        k->event[k->n] = s->event[i];
        k->time[k->n] = s->time[i];
        k->unit[k->n++] = unit[i];
        k->events += s->event[i];
    }
    return ECG_OK;
}

static enum ecg_status run_survival(struct survival_result *r, struct concordance *order,
                                    const struct evaluation_input *in,
                                    const struct evaluation_survival *s, const uint32_t *unit) {
    struct survivors k = {0};
    enum ecg_status status = ECG_OK;
    TRY_OUT(gather_survivors(&k, in, s, unit));
    TRY_OUT(metrics_concordance_sort(order, k.risk, k.event, k.time, k.unit, k.n));
    *r = (struct survival_result){k.n, k.events, metrics_concordance_index(order, NULL),
                                  no_interval};
out:
    free(k.risk);
    free(k.event);
    free(k.time);
    free(k.unit);
    return status;
}

/* The known entries of a target. */
struct pairs {
    size_t n;
    double *prediction, *truth, *sd;
    uint32_t *unit;
};

/* with_sd: only those with a predicted standard deviation. */
static enum ecg_status gather_target(struct pairs *k, const struct evaluation_input *in,
                                     const uint32_t *unit, size_t target, bool with_sd) {
    char text[32];
    k->n = 0;
    for (size_t i = 0; i < in->n; i++) {
        size_t at = i * in->n_targets + target;
        double p = (double)in->predictions[at], t = (double)in->targets[at];
        double sd = with_sd ? (double)in->sds[at] : 1;
        if (isnan(t) || isnan(sd)) continue;
        if (!isfinite(p) || !isfinite(t))
            return ecg_fail(ECG_ERR_DATA,
                            "record %s, target %s: the network's output is %g, the truth %g",
                            record_name(in, i, text), in->target_names[target], p, t);
        if (!isfinite(sd) || sd <= 0)
            return ecg_fail(ECG_ERR_DATA, "record %s, target %s: a standard deviation of %g",
                            record_name(in, i, text), in->target_names[target], sd);
        k->prediction[k->n] = p;
        k->truth[k->n] = t;
        if (with_sd) k->sd[k->n] = sd;
        k->unit[k->n++] = unit[i];
    }
    return ECG_OK;
}

static enum ecg_status run_target(struct target_result *r, struct bootstrap_errors *errors,
                                  const struct evaluation_input *in, const uint32_t *unit,
                                  size_t target) {
    struct pairs k = {0};
    enum ecg_status status = ECG_OK;
    TRY_OUT(MEM_NEW(&k.prediction, in->n));
    TRY_OUT(MEM_NEW(&k.truth, in->n));
    TRY_OUT(MEM_NEW(&k.sd, in->n));
    TRY_OUT(MEM_NEW(&k.unit, in->n));
    if (in->sds) TRY_OUT(gather_target(&k, in, unit, target, true));
    r->n_sd = k.n;
    r->g = metrics_gaussian(k.prediction, k.sd, k.truth, k.n);
    TRY_OUT(gather_target(&k, in, unit, target, false));
    r->n = k.n;
    r->r = metrics_regression(k.prediction, k.truth, k.n);
    r->mae_ci = no_interval;
    TRY_OUT(MEM_NEW(&errors->error, k.n));
    for (size_t i = 0; i < k.n; i++) errors->error[i] = fabs(k.prediction[i] - k.truth[i]);
    errors->n = k.n;
    errors->unit = k.unit;
    k.unit = NULL;
out:
    free(k.prediction);
    free(k.truth);
    free(k.sd);
    free(k.unit);
    return status;
}

/* What run needs besides the results. */
struct workspace {
    uint32_t *unit;                  /* (N) patient of each record */
    struct ranking *rankings;        /* (n_columns) */
    struct bootstrap_calls *calls;   /* (n_groups) */
    struct concordance *orders;      /* (n_survivals) */
    struct bootstrap_errors *errors; /* (T) */
};

static enum ecg_status workspace_alloc(struct workspace *w, const struct evaluation_input *in,
                                       size_t n_columns) {
    TRY(MEM_NEW(&w->unit, in->n));
    TRY(MEM_NEW(&w->rankings, n_columns));
    TRY(MEM_NEW(&w->calls, in->n_groups));
    TRY(MEM_NEW(&w->orders, in->n_survivals));
    return MEM_NEW(&w->errors, in->n_targets);
}

static void workspace_free(struct workspace *w, const struct evaluation_input *in,
                           size_t n_columns) {
    for (size_t k = 0; w->rankings && k < n_columns; k++) metrics_rank_free(&w->rankings[k]);
    for (size_t g = 0; w->calls && g < in->n_groups; g++) {
        free(w->calls[g].unit);
        free(w->calls[g].cell);
    }
    for (size_t s = 0; w->orders && s < in->n_survivals; s++)
        metrics_concordance_free(&w->orders[s]);
    for (size_t t = 0; w->errors && t < in->n_targets; t++) {
        free(w->errors[t].unit);
        free(w->errors[t].error);
    }
    free(w->unit);
    free(w->rankings);
    free(w->calls);
    free(w->orders);
    free(w->errors);
}

static enum ecg_status results_alloc(struct evaluation *e, const struct evaluation_input *in) {
    size_t cells = 0;
    e->n_columns = in->n_labels;
    for (size_t g = 0; g < in->n_groups; g++) {
        size_t G = in->groups[g].n_classes;
        if (G < 2 || G > EVALUATION_MAX_CLASSES)
            return ecg_fail(ECG_ERR_CONFIG, "%s: %zu classes: there must be 2 .. %d",
                            in->groups[g].name, G, EVALUATION_MAX_CLASSES);
        e->n_columns += G;
        cells += G * G;
    }
    TRY(MEM_NEW(&e->labels, e->n_columns));
    TRY(MEM_NEW(&e->targets, in->n_targets));
    TRY(MEM_NEW(&e->groups, in->n_groups));
    TRY(MEM_NEW(&e->counts, cells));
    return MEM_NEW(&e->survivals, in->n_survivals);
}

static enum ecg_status run_parts(struct evaluation *e, const struct evaluation_input *in,
                                 struct workspace *w) {
    uint64_t *counts = e->counts;
    const struct label_result *classes = e->labels + in->n_labels;
    for (size_t g = 0; g < in->n_groups; g++) {
        size_t G = in->groups[g].n_classes;
        TRY(run_group(&e->groups[g], &w->calls[g], counts, in, &in->groups[g], w->unit));
        e->groups[g].classes = classes;
        classes += G;
        counts += G * G;
    }
    TRY(run_columns(e, in, w->unit, w->rankings));
    for (size_t s = 0; s < in->n_survivals; s++)
        TRY(run_survival(&e->survivals[s], &w->orders[s], in, &in->survivals[s], w->unit));
    for (size_t t = 0; t < in->n_targets; t++)
        TRY(run_target(&e->targets[t], &w->errors[t], in, w->unit, t));
    return ECG_OK;
}

/* The first that is defined. */
static struct main_metric main_metric(const struct evaluation *e,
                                      const struct evaluation_input *in) {
    struct main_metric macro = {"macro_auroc", e->macro_auroc, e->macro_auroc_ci};
    if (!isnan(macro.value)) return macro;
    for (size_t s = 0; s < in->n_survivals; s++) {
        const struct survival_result *r = &e->survivals[s];
        if (!isnan(r->c.index)) return (struct main_metric){"c_index", r->c.index, r->c_index_ci};
    }
    for (size_t t = 0; t < in->n_targets; t++) {
        const struct target_result *r = &e->targets[t];
        if (r->n) return (struct main_metric){"mae", r->r.mae, r->mae_ci};
    }
    for (size_t g = 0; g < in->n_groups; g++) {
        const struct group_result *r = &e->groups[g];
        if (r->n)
            return (struct main_metric){"accuracy", r->value[AGREEMENT_ACCURACY],
                                        r->ci[AGREEMENT_ACCURACY]};
    }
    return macro;
}

enum ecg_status evaluation_run(struct evaluation *e, const struct evaluation_input *in) {
    *e = (struct evaluation){.macro_auroc_ci = no_interval, .macro_auprc_ci = no_interval};
    struct workspace w = {0};
    enum ecg_status status = ECG_OK;
    TRY_OUT(results_alloc(e, in));
    TRY_OUT(workspace_alloc(&w, in, e->n_columns));
    TRY_OUT(bootstrap_units(w.unit, &e->n_patients, in->patients, in->n));
    TRY_OUT(run_parts(e, in, &w));
    if (in->intervals && e->n_patients > 1) {
        struct bootstrap_input b = {.n_units = e->n_patients,
                                    .n_columns = e->n_columns,
                                    .rankings = w.rankings,
                                    .n_groups = in->n_groups,
                                    .calls = w.calls,
                                    .n_survivals = in->n_survivals,
                                    .orders = w.orders,
                                    .n_targets = in->n_targets,
                                    .errors = w.errors,
                                    .seed = in->seed,
                                    .resamples = bootstrap_resamples(in->n)};
        TRY_OUT(bootstrap_run(&b, e));
    }
    e->main = main_metric(e, in);
out:
    workspace_free(&w, in, e->n_columns);
    if (status != ECG_OK) evaluation_free(e);
    return status;
}

void evaluation_free(struct evaluation *e) {
    free(e->labels);
    free(e->targets);
    free(e->groups);
    free(e->counts);
    free(e->survivals);
    *e = (struct evaluation){0};
}

enum ecg_status evaluation_thresholds(const struct evaluation_input *in, double *thresholds) {
    struct known known = {0};
    enum ecg_status status = ECG_OK;
    TRY_OUT(known_alloc(&known, in->n));
    for (size_t k = 0; k < in->n_labels; k++) {
        TRY_OUT(gather_column(&known, in, NULL, (struct column){NULL, k}));
        TRY_OUT(metrics_youden(known.prob, known.y, known.n, &thresholds[k]));
    }
out:
    known_free(&known);
    return status;
}
