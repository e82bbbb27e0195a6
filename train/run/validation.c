/* SPDX-License-Identifier: MIT
 * Inference over the validation part, then loss and AUROC in double. */
#include "train/run/validation.h"

#include <math.h>

#include "train/run/infer.h"
#include "train/run/outcome.h"
#include "train/run/trainer.h"

static enum ecg_status total_loss(struct trainer *t, const struct inferred *r, double *loss) {
    const struct total_truth truth = {.B = (int)r->n, .labels = r->labels, .targets = r->targets};
    double known[HEADS_MAX], sum[HEADS_MAX] = {0};
    total_known(&t->total, &truth, known);
    TRY(total_add(&t->total, &truth, known, 0, (int)r->n, r->logits, r->logits, sum, NULL));
    *loss = total_value(&t->total, known, sum);
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
    TRY_OUT(total_loss(t, &r, &v->loss));
    TRY_OUT(outcome_make(&o, &t->heads, &r, NULL));
    TRY_OUT(evaluation_run(&e, &o.in));
    v->macro_auroc = e.macro_auroc;
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
