/* SPDX-License-Identifier: MIT
 * Inference over the validation part, then loss by the backend's own loss op and AUROC in double. */
#include "train/run/validation.h"

#include <math.h>

#include "train/report/evaluation.h"
#include "train/run/infer.h"
#include "train/run/trainer.h"

/* Loss of the inferred logits, in micro-batches through the network's own buffers. */
static enum ecg_status mean_loss(struct trainer *t, const struct inferred *r, double *loss) {
    const struct ops *ops = t->ops;
    size_t k = (size_t)r->k, known = 0;
    double sum = 0;
    for (size_t row = 0; row < r->n; row += (size_t)t->net.max_batch) {
        size_t n = r->n - row < (size_t)t->net.max_batch ? r->n - row : (size_t)t->net.max_batch;
        const uint8_t *labels = r->labels != NULL ? r->labels + row * k : NULL;
        const float *targets = r->targets != NULL ? r->targets + row * k : NULL;
        known += objective_known(&t->objective, (int)n, r->k, labels, targets);
        TRY(ops->upload(t->dev, t->net.logits, r->logits + row * k, n * k * sizeof(float)));
        if (labels != NULL) TRY(ops->upload(t->dev, t->feed.labels, labels, n * k));
        if (targets != NULL)
            TRY(ops->upload(t->dev, t->feed.targets, targets, n * k * sizeof(float)));
        TRY(objective_add(&t->objective, ops, t->dev, (int)n, r->k, t->net.logits, t->feed.labels,
                          t->feed.targets, t->column_scale, 0, &sum, NULL));
    }
    TRY(ops->sync(t->dev));
    *loss = known > 0 ? sum / (double)known : NAN;
    return ECG_OK;
}

size_t validation_bytes(const struct trainer *t) {
    return infer_bytes(&t->net, &t->valid, (int)t->config->data.workers) +
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
