/* SPDX-License-Identifier: MIT
 * Inference over the validation part, then loss and AUROC in double. */
#include "train/run/validation.h"

#include <math.h>

#include "train/run/infer.h"
#include "train/run/outcome.h"
#include "train/run/trainer.h"

static void add(struct journal_figures *f, const char *name, double value) {
    if (f->n == JOURNAL_FIGURES_MAX) return;
    f->name[f->n] = name;
    f->value[f->n++] = value;
}

static enum ecg_status total_loss(struct trainer *t, const struct inferred *r,
                                  struct validation *v) {
    const struct total_truth truth = {.B = (int)r->n, .labels = r->labels, .targets = r->targets};
    double known[HEADS_MAX], sum[HEADS_MAX] = {0};
    total_known(&t->total, &truth, known);
    TRY(total_add(&t->total, &truth, known, 0, (int)r->n, r->logits, r->logits, sum, NULL));
    v->loss = total_value(&t->total, known, sum);
    for (int k = 0; k < t->total.n && t->total.n > 1; k++)
        add(&v->losses, t->heads.v[k].name, known[k] > 0 ? sum[k] / known[k] : (double)NAN);
    return ECG_OK;
}

size_t validation_bytes(const struct trainer *t) {
    size_t record = outcome_bytes(&t->heads) + (trainer_by_auroc(t) ? EVALUATION_BYTES : 0);
    return infer_bytes(&t->net, &t->valid, (int)t->config->data.workers) + t->valid.n * record;
}

/* The thresholds of labels' outputs, in their places among all outputs. */
static void keep_thresholds(struct trainer *t, const double *thresholds) {
    for (int k = 0; k < t->heads.n; k++) {
        const struct head *h = &t->heads.v[k];
        for (int c = 0; c < h->n && h->kind == HEAD_LABELS; c++)
            t->meta.thresholds[h->first + c] = *thresholds++;
    }
}

/* Groups, times and targets of the evaluation stand in the order of the heads. */
static void keep_figures(const struct trainer *t, const struct evaluation *e,
                         struct validation *v) {
    size_t group = 0, survival = 0, target = 0;
    for (int k = 0; k < t->heads.n; k++) {
        const struct head *h = &t->heads.v[k];
        bool regression = h->kind == HEAD_TARGETS || h->kind == HEAD_GAUSSIAN;
        if (h->kind == HEAD_CLASSES || h->kind == HEAD_ORDINAL)
            add(&v->accuracy, h->name, e->groups[group++].value[AGREEMENT_ACCURACY]);
        if (h->kind == HEAD_COX || h->kind == HEAD_HAZARD)
            add(&v->c_index, h->name, e->survivals[survival++].c.index);
        for (int c = 0; c < h->targets.n && regression; c++)
            add(&v->mae, h->targets.v[c], e->targets[target++].r.mae);
    }
}

/* This rank's records of the validation part. */
static enum ecg_status infer_part(struct trainer *t, struct inferred *r) {
    struct source part = t->valid;
    size_t first;
    part.n = loader_slice(t->valid.n, t->ranks.rank, t->ranks.size, &first);
    part.index += first;
    return infer_all(r, &t->net, &part, (enum ops_normalize)t->config->data.normalize,
                     (int)t->config->data.workers, NULL);
}

enum ecg_status validation_run(struct trainer *t, struct validation *v) {
    struct inferred r = {0};
    struct outcome o = {0};
    struct evaluation e = {0};
    enum ecg_status status = infer_part(t, &r);
    if (status != ECG_OK) return status;
    TRY_OUT(ranks_gather_inferred(&t->ranks, &r));
    *v = (struct validation){0};
    TRY_OUT(total_loss(t, &r, v));
    TRY_OUT(outcome_make(&o, &t->heads, &r, NULL));
    TRY_OUT(evaluation_run(&e, &o.in));
    v->macro_auroc = e.macro_auroc;
    keep_figures(t, &e, v);
    if (o.in.n_labels > 0) {
        TRY_OUT(evaluation_thresholds(&o.in, o.thresholds));
        keep_thresholds(t, o.thresholds);
    }
out:
    evaluation_free(&e);
    outcome_free(&o);
    inferred_free(&r);
    return status;
}
