/* SPDX-License-Identifier: MIT
 * The training loop. A step is: a batch from the loader, its micro-batches forward and backward with gradients
 * added up, clip, update. The next batch is taken and uploaded before the host waits for the step's loss and gradient norm,
 * which is the one time that it waits: a GPU always has work. All that is random or ordered is a function of (seed, step, epoch), so a run resumed from a
 * checkpoint repeats the uninterrupted one bit for bit. */
#include "train/run/trainer.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/mem.h"
#include "train/run/validation.h"

static volatile sig_atomic_t stop_requested;

void trainer_request_stop(void) {
    stop_requested = 1;
}

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static void plan_length(struct trainer *t) {
    const struct config *c = t->config;
    t->steps_per_epoch = ceil_div((int64_t)t->train.n, c->train.batch_size);
    int64_t by_epochs = c->train.epochs > 0 ? c->train.epochs * t->steps_per_epoch : INT64_MAX;
    int64_t by_steps = c->train.steps > 0 ? c->train.steps : INT64_MAX;
    t->total_steps = by_epochs < by_steps ? by_epochs : by_steps;
}

/* All but the feed; make_optim: with the moments, or without. */
static enum ecg_status prepare(struct trainer *t,
                               enum ecg_status (*make_optim)(struct optim *,
                                                             const struct optim_config *,
                                                             struct net1d *)) {
    const struct config *c = t->config;
    plan_length(t);
    struct optim_config optim = {.kind = (enum optim_kind)c->optim.name,
                                 .weight_decay = c->optim.weight_decay,
                                 .beta2 = c->optim.beta2,
                                 .eps = c->optim.eps,
                                 .decay_bias = c->optim.decay_bias};
    TRY(make_optim(&t->optim, &optim, &t->net));
    t->schedule =
        (struct schedule){.kind = (enum schedule_kind)c->schedule.name,
                          .total_steps = t->total_steps,
                          .steps_per_epoch = t->steps_per_epoch,
                          .lr = c->optim.lr,
                          .beta1 = c->optim.name == OPTIM_SGD ? c->optim.momentum : c->optim.beta1,
                          .gamma = c->schedule.gamma,
                          .every = c->schedule.step_epochs,
                          .warmup = c->schedule.warmup,
                          .min_lr = c->schedule.min_lr,
                          .patience = c->schedule.patience,
                          .maximize = trainer_by_auroc(t)};
    TRY(schedule_check(&t->schedule));
    schedule_start(&t->at.schedule);
    if (t->schedule.kind == SCHEDULE_PLATEAU && !t->has_valid)
        return ecg_fail(ECG_ERR_CONFIG, "schedule.name plateau needs data.valid");
    if (c->train.early_stop > 0 && !t->has_valid)
        return ecg_fail(ECG_ERR_CONFIG, "train.early_stop needs data.valid");
    return ECG_OK;
}

enum ecg_status trainer_plan(struct trainer *t) {
    return prepare(t, optim_plan);
}

/* More micro-batches than one, of a loss that compares the records of all. */
static bool collects(const struct trainer *t) {
    return total_is_joint(&t->total) && t->config->train.accumulate > 1;
}

static enum ecg_status make_exchange(struct trainer *t) {
    size_t n = (size_t)t->net.max_batch * (size_t)t->heads.n_outputs;
    if (total_is_plain(&t->total)) return ECG_OK;
    if (collects(t) && t->net.config.batch_norm && !t->config->head.freeze)
        return ecg_fail(
            ECG_ERR_CONFIG,
            "train.accumulate: cox with batch norm takes a batch at once, as its running "
            "statistics would be taken twice: set it to 1, and train.recompute for memory");
    TRY(MEM_NEW(&t->exchange.logits, n));
    TRY(MEM_NEW(&t->exchange.dlogits, n));
    if (!collects(t)) return ECG_OK;
    return MEM_NEW(&t->exchange.all,
                   (size_t)t->config->train.batch_size * (size_t)t->heads.n_outputs);
}

enum ecg_status trainer_prepare(struct trainer *t) {
    TRY(prepare(t, optim_create));
    TRY(make_exchange(t));
    struct feed_format format = source_format(&t->train, total_is_plain(&t->total));
    return feed_create(&t->feed, &t->net, &format, (enum ops_normalize)t->config->data.normalize);
}

void trainer_free(struct trainer *t) {
    journal_close(&t->journal);
    feed_free(&t->feed);
    optim_free(&t->optim);
    if (t->ops != NULL) t->ops->free(t->dev, t->column_scale);
    free(t->exchange.logits);
    free(t->exchange.dlogits);
    free(t->exchange.all);
    total_free(&t->total);
    heads_free(&t->heads);
    net1d_free(&t->net);
    weights_meta_free(&t->meta);
    source_close(&t->train);
    source_close(&t->valid);
    if (t->ops != NULL) t->ops->close(t->dev);
    memset(t, 0, sizeof(*t));
}

/* Records of the micro-batch that begins at `first`. */
static int micro_batch(const struct trainer *t, const struct batch *b, int first) {
    return b->B - first < t->net.max_batch ? b->B - first : t->net.max_batch;
}

/* Records [first, first + n) of a batch: into the network, and forward. */
static enum ecg_status forward(struct trainer *t, const struct batch *b, int first, int n,
                               struct net1d_pass *pass) {
    const struct config *c = t->config;
    *pass = (struct net1d_pass){.train = true,
                                .frozen_norm = c->head.freeze,
                                .seed = (uint64_t)c->train.seed,
                                .step = (uint32_t)t->at.step,
                                .sample0 = (uint64_t)first,
                                .same_weights = first > 0 || c->head.freeze};
    if (first > 0) TRY(feed_upload(&t->feed, b, first, n));
    TRY(feed_enter(&t->feed, n));
    return net1d_forward(&t->net, n, pass);
}

static enum ecg_status fetch_logits(struct trainer *t, int n, float *to) {
    size_t bytes = (size_t)n * (size_t)t->heads.n_outputs * sizeof(float);
    TRY(t->ops->download(t->dev, to, t->net.logits, bytes));
    return t->ops->sync(t->dev);
}

/* The loss of one micro-batch and its gradient by the logits: by the device where it can, else here. */
static enum ecg_status add_loss(struct trainer *t, const struct total_truth *truth,
                                const double *known, int first, int n) {
    const struct ops *ops = t->ops;
    struct net1d *net = &t->net;
    struct exchange *x = &t->exchange;
    int k = t->heads.n_outputs;
    if (total_is_plain(&t->total))
        return objective_add(&t->total.v[0].objective, ops, t->dev, n, k, net->logits,
                             t->feed.labels, t->feed.targets, t->column_scale,
                             known[0] > 0 ? 1.0 / known[0] : 0.0, &t->loss_sum[0], net->dlogits);
    TRY(fetch_logits(t, n, x->logits));
    TRY(total_add(&t->total, truth, known, first, n, x->logits, x->all != NULL ? x->all : x->logits,
                  t->loss_sum, x->dlogits));
    return ops->upload(t->dev, net->dlogits, x->dlogits, (size_t)n * (size_t)k * sizeof(float));
}

/* The logits of all micro-batches; the passes are run once more for their gradients, dropout included. */
static enum ecg_status collect_logits(struct trainer *t, const struct batch *b) {
    struct net1d_pass pass;
    for (int first = 0; first < b->B; first += t->net.max_batch) {
        int n = micro_batch(t, b, first);
        TRY(forward(t, b, first, n, &pass));
        TRY(fetch_logits(t, n, t->exchange.all + (size_t)first * (size_t)t->heads.n_outputs));
    }
    return b->B > t->net.max_batch ? feed_upload(&t->feed, b, 0, micro_batch(t, b, 0)) : ECG_OK;
}

/* Forward and backward of a whole batch, whose first micro-batch is uploaded; known[heads] are its known entries. The loss
 * comes to t->loss_sum with the next sync. */
static enum ecg_status run_batch(struct trainer *t, const struct batch *b, double *known,
                                 bool *any) {
    const struct total_truth truth = {.B = b->B, .labels = b->labels, .targets = b->targets};
    *any = total_known(&t->total, &truth, known);
    for (int i = 0; i < t->total.n; i++) t->loss_sum[i] = 0;
    TRY(optim_zero_grad(&t->optim));
    if (t->exchange.all != NULL) TRY(collect_logits(t, b));
    for (int first = 0; first < b->B; first += t->net.max_batch) {
        struct net1d_pass pass;
        int n = micro_batch(t, b, first);
        TRY(forward(t, b, first, n, &pass));
        TRY(add_loss(t, &truth, known, first, n));
        TRY(net1d_backward(&t->net, n, &pass));
    }
    return ECG_OK;
}

bool trainer_by_auroc(const struct trainer *t) {
    for (int i = 0; i < t->heads.n; i++)
        if (t->heads.v[i].kind > HEAD_ORDINAL) return false;
    return true;
}

/* Thresholds belong to the weights that they were chosen with. */
void trainer_forget_thresholds(struct trainer *t) {
    for (int i = 0; i < t->meta.outputs.n; i++) t->meta.thresholds[i] = NAN;
}

/* The end of a step: waits for its loss and gradients; a batch without a known entry counts as a step and updates nothing. */
static enum ecg_status finish_step(struct trainer *t, const double *known, bool any,
                                   struct journal_train *line) {
    const struct config *c = t->config;
    TRY(optim_clip(&t->optim, c->train.clip_norm, &line->grad_norm));
    line->loss = total_value(&t->total, known, t->loss_sum);
    if (any && !(isfinite(line->loss) && isfinite(line->grad_norm)))
        return ecg_fail(
            ECG_ERR_FAIL,
            "step %lld: loss %g, gradient norm %g: training has diverged; lower optim.lr or set "
            "train.clip_norm (checkpoints/last is from before)",
            (long long)t->at.step + 1, line->loss, line->grad_norm);
    struct schedule_point point = schedule_at(&t->schedule, &t->at.schedule, t->at.step);
    struct optim_rates rates = {.lr = c->optim.lr * point.factor,
                                .backbone_lr = c->optim.backbone_lr * point.factor,
                                .beta1 = point.beta1};
    if (any) TRY(optim_step(&t->optim, &rates));
    t->at.step++;
    line->step = t->at.step;
    line->lr = rates.lr;
    return ECG_OK;
}

/* Follows `best`: highest macro AUROC, else lowest loss. Returns whether this validation is the best so far. */
static bool note_progress(struct trainer *t, const struct validation *v) {
    bool by_auroc = trainer_by_auroc(t) && !isnan(v->macro_auroc);
    double metric = by_auroc ? v->macro_auroc : -v->loss;
    bool better = !isnan(metric) && (!t->at.has_best || metric > t->at.best);
    if (better) {
        t->at.has_best = true;
        t->at.best = metric;
        t->at.best_step = t->at.step;
        t->at.stale = 0;
    } else {
        t->at.stale++;
    }
    schedule_observe(&t->schedule, &t->at.schedule,
                     t->schedule.maximize ? v->macro_auroc : v->loss);
    return better;
}

static enum ecg_status validate(struct trainer *t, uint32_t epoch, bool *is_best) {
    struct validation v;
    TRY(validation_run(t, &v));
    *is_best = note_progress(t, &v);
    struct journal_valid line = {t->at.step, epoch, v.loss, v.macro_auroc};
    if (isnan(v.macro_auroc))
        log_info("step %lld  valid loss %.6g%s", (long long)t->at.step, v.loss,
                 *is_best ? "  best" : "");
    else
        log_info("step %lld  valid loss %.6g  macro AUROC %.4f%s", (long long)t->at.step, v.loss,
                 v.macro_auroc, *is_best ? "  best" : "");
    return journal_put_valid(&t->journal, &line);
}

/* What follows a step: validation, checkpoint, the end. */
static enum ecg_status after_step(struct trainer *t, const struct batch *b, bool *done) {
    const struct config *c = t->config;
    bool is_best = false, stop = stop_requested != 0;
    t->at.epoch = b->last_of_epoch ? b->epoch + 1 : b->epoch;
    t->at.batch = b->last_of_epoch ? 0 : b->number + 1;
    bool at_end = t->at.step >= t->total_steps;
    bool due = c->train.eval_every > 0 ? t->at.step % c->train.eval_every == 0 : b->last_of_epoch;
    if (t->has_valid && (due || at_end)) TRY(validate(t, b->epoch, &is_best));
    bool stale = c->train.early_stop > 0 && t->at.stale >= c->train.early_stop;
    if (stale) log_info("early stop: %lld validations without progress", (long long)t->at.stale);
    t->at.finished = at_end || stale;
    bool save = c->train.save_every > 0 && t->at.step % c->train.save_every == 0;
    if (t->at.finished || is_best || save || stop) TRY(trainer_save(t, is_best || !t->has_valid));
    *done = t->at.finished;
    if (!t->at.finished && stop)
        return ecg_fail(ECG_ERR_STOPPED,
                        "stopped at step %lld, state saved: run again with --resume",
                        (long long)t->at.step);
    return ECG_OK;
}

static void show_progress(struct trainer *t, struct progress *p, const struct journal_train *line,
                          double *rate, double *smooth) {
    *rate = *rate > 0 ? 0.9 * *rate + 0.1 * line->ecg_per_s : line->ecg_per_s;
    if (isfinite(line->loss)) *smooth = *smooth > 0 ? 0.9 * *smooth + 0.1 * line->loss : line->loss;
    char text[160];
    int64_t epochs = ceil_div(t->total_steps, t->steps_per_epoch);
    int n = snprintf(text, sizeof(text), "epoch %lld/%lld  loss %.4f  %.0f ECG/s",
                     (long long)line->epoch + 1, (long long)epochs, *smooth, *rate);
    if (t->at.has_best && trainer_by_auroc(t) && n > 0 && (size_t)n < sizeof(text))
        snprintf(text + n, sizeof(text) - (size_t)n, "  best AUROC %.4f", t->at.best);
    progress_update(p, (double)t->at.step, (double)t->total_steps, text);
}

struct loader_options trainer_loader(const struct trainer *t) {
    const struct config *c = t->config;
    struct loader_options o =
        source_loader(&t->train, (int)c->train.batch_size, (int)c->data.workers);
    o.shuffle = c->data.shuffle;
    o.seed = (uint64_t)c->train.seed;
    o.epoch = t->at.epoch;
    o.first_batch = t->at.batch;
    o.repeat = true;
    return o;
}

/* The batch in hand, and how the taking of it went: with a failure the step before is still finished. */
struct next_batch {
    struct batch *b;
    enum ecg_status status;
    char *message; /* of a failure */
};

/* Takes a batch and uploads its first micro-batch, beside the step under way. */
static enum ecg_status take_batch(struct trainer *t, struct loader *loader, struct batch **b) {
    TRY(loader_next(loader, b));
    return feed_upload(&t->feed, *b, 0, micro_batch(t, *b, 0));
}

static void take_next(struct trainer *t, struct loader *loader, struct next_batch *next) {
    next->status = take_batch(t, loader, &next->b);
    if (next->status != ECG_OK && mem_strdup(&next->message, ecg_message()) != ECG_OK)
        next->message = NULL;
}

/* One optimiser step, in which the next batch is taken. The arrays of `b`, a copy, are there until then. */
static enum ecg_status run_step(struct trainer *t, struct loader *loader, const struct batch *b,
                                struct next_batch *next, struct journal_train *line) {
    double start = log_clock();
    double known[HEADS_MAX];
    bool any;
    trainer_forget_thresholds(t);
    TRY(run_batch(t, b, known, &any));
    if (t->at.step + 1 < t->total_steps) take_next(t, loader, next);
    line->epoch = b->epoch;
    TRY(finish_step(t, known, any, line));
    line->ecg_per_s = b->B / (log_clock() - start + 1e-9);
    return ECG_OK;
}

static enum ecg_status run_steps(struct trainer *t, struct loader *loader,
                                 struct progress *progress, struct next_batch *next) {
    double rate = 0, smooth = 0;
    bool done = t->at.finished || t->at.step >= t->total_steps;
    if (!done) take_next(t, loader, next);
    while (!done) {
        if (next->status != ECG_OK)
            return ecg_fail(next->status, "%s", next->message != NULL ? next->message : "");
        struct batch b = *next->b;
        struct journal_train line = {0};
        TRY(run_step(t, loader, &b, next, &line));
        TRY(journal_put_train(&t->journal, &line));
        show_progress(t, progress, &line, &rate, &smooth);
        TRY(after_step(t, &b, &done));
    }
    return ECG_OK;
}

enum ecg_status trainer_run(struct trainer *t) {
    struct loader *loader = NULL;
    struct progress progress;
    struct next_batch next = {0};
    struct loader_options options = trainer_loader(t);
    enum ecg_status status;
    TRY_OUT(loader_open(&loader, t->train.data, &options));
    progress_start(&progress, "train");
    TRY_OUT(run_steps(t, loader, &progress, &next));
    progress_end(&progress);
out:
    free(next.message);
    loader_close(loader);
    return status;
}
