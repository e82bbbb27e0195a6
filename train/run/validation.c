/* SPDX-License-Identifier: MIT
 * Inference over the validation part, then loss by the backend's own loss op and AUROC in double. */
#include "train/run/validation.h"

#include <math.h>

#include "train/report/evaluation.h"
#include "train/run/infer.h"
#include "train/run/trainer.h"

/* A column's entries of one batch, as labels or as targets. */
static size_t truth_bytes(const struct trainer *t) {
    size_t entry = t->valid.targets ? sizeof(float) : sizeof(uint8_t);
    return (size_t)t->net.max_batch * (size_t)t->valid.n_columns * entry;
}

/* Adds up the loss of the inferred logits, in micro-batches through the network's own buffers; truth: truth_bytes. */
static enum ecg_status add_losses(struct trainer *t, const struct inferred *r, void *truth,
                                  size_t *known, double *sum) {
    const struct ops *ops = t->ops;
    size_t k = (size_t)r->k;
    for (size_t row = 0; row < r->n; row += (size_t)t->net.max_batch) {
        size_t n = r->n - row < (size_t)t->net.max_batch ? r->n - row : (size_t)t->net.max_batch;
        const uint8_t *labels = r->labels != NULL ? r->labels + row * k : NULL;
        const float *targets = r->targets != NULL ? r->targets + row * k : NULL;
        *known += objective_known(&t->objective, (int)n, r->k, labels, targets);
        TRY(ops->upload(t->dev, t->net.logits, r->logits + row * k, n * k * sizeof(float)));
        if (labels != NULL) TRY(ops->upload(t->dev, truth, labels, n * k));
        if (targets != NULL) TRY(ops->upload(t->dev, truth, targets, n * k * sizeof(float)));
        TRY(objective_add(&t->objective, ops, t->dev, (int)n, r->k, t->net.logits,
                          labels != NULL ? truth : NULL, targets != NULL ? truth : NULL,
                          t->column_scale, 0, sum, NULL));
    }
    return ops->sync(t->dev);
}

static enum ecg_status mean_loss(struct trainer *t, const struct inferred *r, double *loss) {
    size_t known = 0;
    double sum = 0;
    void *truth = NULL;
    TRY(t->ops->alloc(t->dev, &truth, truth_bytes(t)));
    enum ecg_status status = add_losses(t, r, truth, &known, &sum);
    t->ops->free(t->dev, truth);
    *loss = known > 0 ? sum / (double)known : NAN;
    return status;
}

size_t validation_bytes(const struct trainer *t) {
    return infer_bytes(&t->net, &t->valid, (int)t->config->data.workers) + truth_bytes(t) +
           (t->valid.targets ? 0 : t->valid.n * EVALUATION_BYTES);
}

enum ecg_status validation_run(struct trainer *t, struct validation *v) {
    struct inferred r = {0};
    enum ecg_status status =
        infer_all(&r, &t->net, &t->valid, (enum ops_normalize)t->config->data.normalize,
                  (int)t->config->data.workers, NULL);
    if (status != ECG_OK) return status;
    v->macro_auroc = NAN;
    TRY_OUT(mean_loss(t, &r, &v->loss));
    if (r.labels != NULL) {
        struct evaluation_input in = {.n = r.n,
                                      .n_labels = (size_t)r.k,
                                      .label_names = t->meta.outputs.v,
                                      .logits = r.logits,
                                      .labels = r.labels};
        struct evaluation e = {0};
        TRY_OUT(evaluation_run(&e, &in));
        v->macro_auroc = e.macro_auroc;
        evaluation_free(&e);
        TRY_OUT(evaluation_thresholds(&in, t->meta.thresholds));
    }
out:
    inferred_free(&r);
    return status;
}
