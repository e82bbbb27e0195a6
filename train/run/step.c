/* SPDX-License-Identifier: MIT
 * Micro-batches forward, loss, backward, with gradients added up. */
#include "train/run/step.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/mem.h"
#include "train/run/trainer.h"

/* finetune.unfreeze_epochs, where it counts. */
bool step_unfreezes(const struct trainer *t) {
    return t->is_finetune && t->config->finetune.unfreeze_epochs > 0;
}

/* Whether batch norm stays as it is though the rest is trained. */
bool step_freezes_norm(const struct trainer *t) {
    return t->is_finetune && t->config->finetune.freeze_norm && !t->config->head.freeze;
}

bool step_loss_on_device(const struct trainer *t) {
    return total_is_plain(&t->total) && t->config->train.mixup == 0;
}

/* More micro-batches or ranks than one, of a loss that compares the records of all. */
static bool collects(const struct trainer *t) {
    return total_is_joint(&t->total) && (t->config->train.accumulate > 1 || t->ranks.size > 1);
}

enum ecg_status step_prepare(struct trainer *t) {
    size_t n = (size_t)t->net.max_batch * (size_t)t->heads.n_outputs;
    if (step_loss_on_device(t)) return ECG_OK;
    if (total_is_joint(&t->total) && t->config->train.mixup > 0)
        return ecg_fail(ECG_ERR_CONFIG,
                        "train.mixup: cox orders records in time, mixed ones have no "
                        "place there: set it to 0");
    if (collects(t) && t->net.config.batch_norm && !t->config->head.freeze)
        return ecg_fail(
            ECG_ERR_CONFIG,
            "train.accumulate: cox with batch norm takes a batch at once on one rank, as its running "
            "statistics would be taken twice: set it to 1, and train.recompute for memory");
    TRY(MEM_NEW(&t->exchange.logits, n));
    TRY(MEM_NEW(&t->exchange.dlogits, n));
    if (!collects(t)) return ECG_OK;
    return MEM_NEW(&t->exchange.all,
                   (size_t)t->config->train.batch_size * (size_t)t->heads.n_outputs);
}

/* Records of the micro-batch that begins at `first`. */
int step_micro_batch(const struct trainer *t, const struct batch *b, int first) {
    return b->B - first < t->net.max_batch ? b->B - first : t->net.max_batch;
}

/* The lowest layer that is trained in this epoch. */
static int lowest_layer(const struct trainer *t, uint32_t epoch) {
    int head = net1d_head_layer(&t->net.config);
    if (t->is_preview) return head;
    if (!step_unfreezes(t)) return 0;
    int64_t opened = epoch / t->config->finetune.unfreeze_epochs;
    return opened < head ? head - (int)opened : 0;
}

/* Freezes what is not trained in this epoch, in the network and in the optimiser. */
void step_open_layers(struct trainer *t, uint32_t epoch) {
    if (t->net.config.head_only) return;
    int lowest = lowest_layer(t, epoch);
    if (step_unfreezes(t) && !t->is_preview && lowest < t->optim.lowest)
        log_info("epoch %lld: %s trained from here on", (long long)epoch + 1,
                 lowest > 0 ? "one more stage is" : "all is");
    net1d_freeze_below(&t->net, lowest, step_freezes_norm(t));
    optim_open(&t->optim, lowest);
}

/* What the passes of a step are like. */
static struct net1d_pass step_pass(const struct trainer *t) {
    const struct config *c = t->config;
    return (struct net1d_pass){.train = !t->is_preview,
                               .frozen_norm =
                                   c->head.freeze || t->is_preview || step_freezes_norm(t),
                               .frozen_below = t->optim.lowest,
                               .seed = (uint64_t)c->train.seed,
                               .share = t->ranks.share.context != NULL ? &t->ranks.share : NULL,
                               .step = (uint32_t)t->at.step};
}

/* Records [first, first + n) of a batch: into the network, and forward. */
static enum ecg_status forward(struct trainer *t, const struct batch *b, int first, int n,
                               struct net1d_pass *pass) {
    *pass = step_pass(t);
    pass->sample0 = (uint64_t)(b->first + first);
    pass->same_weights = first > 0 || t->config->head.freeze;
    if (first > 0) TRY(feed_upload(&t->feed, b, first, n));
    TRY(feed_enter(&t->feed, n));
    pass->features = t->feed.features;
    return net1d_forward(&t->net, n, pass);
}

static enum ecg_status fetch_logits(struct trainer *t, int n, float *to) {
    size_t bytes = (size_t)n * (size_t)t->heads.n_outputs * sizeof(float);
    TRY(t->ops->download(t->dev, to, t->net.logits, bytes));
    return t->ops->sync(t->dev);
}

/* The loss of one micro-batch and its gradient by the logits: by the device where it can, else here. `at`: its first record's
 * place in the truth. */
static enum ecg_status add_loss(struct trainer *t, const struct total_truth *truth,
                                const double *known, int at, int n) {
    const struct ops *ops = t->ops;
    struct net1d *net = &t->net;
    struct exchange *x = &t->exchange;
    int k = t->heads.n_outputs;
    if (step_loss_on_device(t))
        return objective_add(&t->total.v[0].objective, ops, t->dev, n, k, net->logits,
                             t->feed.labels, t->feed.targets, t->column_scale,
                             known[0] > 0 ? 1.0 / known[0] : 0.0, &t->loss_sum[0], net->dlogits);
    TRY(fetch_logits(t, n, x->logits));
    TRY(total_add(&t->total, truth, known, at, n, x->logits, x->all != NULL ? x->all : x->logits,
                  t->loss_sum, x->dlogits));
    return ops->upload(t->dev, net->dlogits, x->dlogits, (size_t)n * (size_t)k * sizeof(float));
}

/* What the losses are taken against: this rank's slice, or, of a joint loss, the whole batch. */
struct against {
    struct total_truth truth;
    int at;                 /* the slice's place in it */
    void *labels, *targets; /* gathered, or NULL */
};

/* The logits of all micro-batches; the passes are run once more for their gradients, dropout included. */
static enum ecg_status collect_logits(struct trainer *t, const struct batch *b) {
    struct net1d_pass pass;
    for (int first = 0; first < b->B; first += t->net.max_batch) {
        int n = step_micro_batch(t, b, first);
        TRY(forward(t, b, first, n, &pass));
        TRY(fetch_logits(t, n, t->exchange.all + (size_t)first * (size_t)t->heads.n_outputs));
    }
    return b->B > t->net.max_batch ? feed_upload(&t->feed, b, 0, step_micro_batch(t, b, 0))
                                   : ECG_OK;
}

/* All ranks' logits and truth of a joint loss. */
static enum ecg_status gather_joint(struct trainer *t, const struct batch *b, struct against *a) {
    size_t n = (size_t)b->B, n_all;
    void *logits = NULL;
    if (t->ranks.size == 1) return ECG_OK;
    size_t width = (size_t)t->heads.n_outputs * sizeof(float);
    TRY(ranks_gather(&t->ranks, t->exchange.all, n, width, &logits, &n_all));
    memcpy(t->exchange.all, logits, n_all * width);
    free(logits);
    TRY(ranks_gather(&t->ranks, b->labels, n, (size_t)t->total.n_labels, &a->labels, &n_all));
    TRY(ranks_gather(&t->ranks, b->targets, n, (size_t)t->total.n_targets * sizeof(float),
                     &a->targets, &n_all));
    a->at = b->first;
    a->truth = (struct total_truth){.B = b->total, .labels = a->labels, .targets = a->targets};
    return ECG_OK;
}

/* All micro-batches; the gradients of the last one are summed over the ranks as they come. */
static enum ecg_status run_parts(struct trainer *t, const struct batch *b, const struct against *a,
                                 const double *known) {
    ranks_begin(t);
    struct net1d_pass none = step_pass(t);
    if (b->B == 0 && none.share != NULL && none.train && !none.frozen_norm) {
        none.done = ranks_gradients_done;
        none.context = t;
        TRY(net1d_share_forward(&t->net, &none));
        TRY(net1d_share_backward(&t->net, &none));
    }
    for (int first = 0; first < b->B; first += t->net.max_batch) {
        struct net1d_pass pass;
        int n = step_micro_batch(t, b, first);
        TRY(forward(t, b, first, n, &pass));
        TRY(add_loss(t, &a->truth, known, a->at + first, n));
        if (first + n == b->B && t->ranks.size > 1) {
            pass.done = ranks_gradients_done;
            pass.context = t;
        }
        TRY(net1d_backward(&t->net, n, &pass));
    }
    return ranks_join(t);
}

/* Forward and backward of a whole batch, whose first micro-batch is uploaded; known[heads] are its known entries. The loss
 * comes to t->loss_sum with the next sync. */
enum ecg_status step_batch(struct trainer *t, const struct batch *b, double *known, bool *any) {
    struct against a = {.truth = {.B = b->B,
                                  .labels = b->labels,
                                  .targets = b->targets,
                                  .mix = b->mix,
                                  .partner = b->partner}};
    enum ecg_status status;
    total_known(&t->total, &a.truth, known);
    TRY(ranks_sum(&t->ranks, known, (size_t)t->total.n));
    *any = false;
    for (int i = 0; i < t->total.n; i++) {
        *any = *any || known[i] > 0;
        t->loss_sum[i] = 0;
    }
    TRY(optim_zero_grad(&t->optim));
    if (t->exchange.all != NULL) TRY_OUT(collect_logits(t, b));
    if (t->exchange.all != NULL) TRY_OUT(gather_joint(t, b, &a));
    TRY_OUT(run_parts(t, b, &a, known));
out:
    free(a.labels);
    free(a.targets);
    return status;
}
