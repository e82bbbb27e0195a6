/* SPDX-License-Identifier: MIT
 * The training loop. A step is: a batch from the loader, its micro-batches forward and backward with gradients
 * added up, clip, update. The next batch is taken and uploaded before the host waits for the step's loss and gradient norm,
 * which is the one time that it waits: a GPU always has work. All that is random or ordered is a function of (seed, step, epoch), so a run resumed from a
 * checkpoint repeats the uninterrupted one bit for bit. */
#include "train/run/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/mem.h"
#include "train/run/balance.h"
#include "train/run/ema.h"
#include "train/run/probe.h"
#include "train/run/step.h"
#include "train/run/stop.h"
#include "train/run/validation.h"

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

/* What is done to training records; what z-scoring would undo is an error. */
static enum ecg_status prepare_augment(struct trainer *t) {
    const struct config *c = t->config;
    struct augment_options o;
    TRY(config_augment(c, &o));
    t->augments = augment_any(&o);
    bool by_lead = c->data.normalize == OPS_NORM_LEAD ||
                   (c->data.normalize == OPS_NORM_RECORD && t->train.n_leads == 1);
    if ((o.ops >> AUGMENT_SCALING & 1) && by_lead)
        return ecg_fail(ECG_ERR_CONFIG,
                        "augment.ops: scaling gives each lead a factor, which z-scoring "
                        "of each lead takes away again: leave it out");
    return augment_init(&t->augment, &o, &t->train.data->schema, t->train.lead, t->train.n_leads);
}

/* Draws of data.balance: needs the records themselves. */
static enum ecg_status prepare_balance(struct trainer *t) {
    const struct source *s = &t->train;
    if (!t->config->data.balance) return ECG_OK;
    TRY(MEM_NEW(&t->weight, s->n));
    return balance_weights(s->data, s->index, s->n, s->labels, s->n_labels, t->weight);
}

/* make_optim: with the moments, or without. */
static enum ecg_status prepare(struct trainer *t,
                               enum ecg_status (*make_optim)(struct optim *,
                                                             const struct optim_config *,
                                                             struct net1d *)) {
    const struct config *c = t->config;
    plan_length(t);
    TRY(prepare_augment(t));
    struct optim_config optim = {.kind = (enum optim_kind)c->optim.name,
                                 .weight_decay = c->optim.weight_decay,
                                 .beta2 = c->optim.beta2,
                                 .eps = c->optim.eps,
                                 .decay_bias = c->optim.decay_bias};
    TRY(ranks_shard(t, &optim.shard_from, &optim.shard_n));
    bool by_stage;
    TRY(config_stage_factors(c, t->net.config.n_stages, t->layer_factors, &by_stage));
    if (by_stage) optim.layer_factors = t->layer_factors;
    optim.by_layer = step_unfreezes(t);
    if (step_freezes_norm(t)) net1d_freeze_below(&t->net, 0, true);
    TRY(make_optim(&t->optim, &optim, &t->net));
    if (step_unfreezes(t)) optim_close(&t->optim);
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

enum ecg_status trainer_prepare(struct trainer *t) {
    TRY(prepare(t, optim_create));
    TRY(prepare_balance(t));
    TRY(step_prepare(t));
    TRY(ranks_share_norm(t));
    TRY(ema_create(t));
    return trainer_prepare_saving(t);
}

void trainer_free(struct trainer *t) {
    saver_free(&t->saver);
    journal_close(&t->journal);
    feed_free(&t->feed);
    optim_free(&t->optim);
    if (t->ops != NULL) t->ops->free(t->dev, t->column_scale);
    free(t->exchange.logits);
    free(t->exchange.dlogits);
    free(t->exchange.all);
    total_free(&t->total);
    heads_free(&t->heads);
    if (t->ops != NULL) t->ops->free(t->dev, t->average);
    net1d_free(&t->net);
    weights_meta_free(&t->meta);
    free(t->weight);
    source_close(&t->train);
    source_close(&t->valid);
    if (t->ops != NULL) t->ops->close(t->dev);
    memset(t, 0, sizeof(*t));
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

static struct optim_rates step_rates(const struct trainer *t) {
    const struct config *c = t->config;
    if (t->is_preview)
        return (struct optim_rates){.lr = c->finetune.probe_lr, .beta1 = t->schedule.beta1};
    struct schedule_point point = schedule_at(&t->schedule, &t->at.schedule, t->at.step);
    return (struct optim_rates){.lr = c->optim.lr * point.factor,
                                .backbone_lr = c->optim.backbone_lr * point.factor,
                                .beta1 = point.beta1};
}

/* The sums (n, and room for STOP_INTERRUPT more) of all ranks, and the weightiest wish of any of them. */
static enum ecg_status agree_on(struct trainer *t, double *sums, size_t n, enum stop_wish wish) {
    for (int w = 1; w <= STOP_INTERRUPT; w++) sums[n + (size_t)w - 1] = (int)wish == w;
    TRY(ranks_sum(&t->ranks, sums, n + STOP_INTERRUPT));
    t->wish = STOP_NONE;
    for (int w = 1; w <= STOP_INTERRUPT; w++)
        if (sums[n + (size_t)w - 1] > 0) t->wish = (enum stop_wish)w;
    return ECG_OK;
}

/* The loss of all ranks, and what they were asked for. */
static enum ecg_status agree(struct trainer *t) {
    double all[HEADS_MAX + STOP_INTERRUPT];
    size_t n = (size_t)t->total.n;
    memcpy(all, t->loss_sum, n * sizeof(*all));
    TRY(agree_on(t, all, n, t->is_preview ? stop_now() : stop_poll()));
    memcpy(t->loss_sum, all, n * sizeof(*all));
    return t->ranks.gpu != NULL ? comm_gpu_check(t->ranks.gpu) : ECG_OK;
}

/* Batch norm's running statistics are each rank's own while it trains; those of rank 0 are validated and saved. */
enum ecg_status trainer_share_statistics(struct trainer *t) {
    if (!t->net.config.batch_norm) return ECG_OK;
    return ranks_broadcast(t, t->net.extras, t->net.n_extras * sizeof(float));
}

/* The end of a step: waits for its loss and gradients; a batch without a known entry counts as a step and updates nothing. */
static enum ecg_status finish_step(struct trainer *t, const double *known, bool any,
                                   struct journal_train *line) {
    const struct config *c = t->config;
    TRY(optim_clip(&t->optim, c->train.clip_norm, &line->grad_norm));
    TRY(agree(t));
    line->loss = total_value(&t->total, known, t->loss_sum);
    for (int k = 0; k < t->total.n && t->total.n > 1; k++) {
        line->losses.name[k] = t->heads.v[k].name;
        line->losses.value[k] = known[k] > 0 ? t->loss_sum[k] / known[k] : (double)NAN;
        line->losses.n = k + 1;
    }
    if (any && !(isfinite(line->loss) && isfinite(line->grad_norm)))
        return ecg_fail(
            ECG_ERR_FAIL,
            "step %lld: loss %g, gradient norm %g: training has diverged; lower optim.lr or set "
            "train.clip_norm (checkpoints/last is from before)",
            (long long)t->at.step + 1, line->loss, line->grad_norm);
    struct optim_rates rates = step_rates(t);
    if (any) TRY(optim_step(&t->optim, &rates));
    if (any) TRY(ranks_gather_parameters(t));
    if (any && !t->is_preview) TRY(ema_update(t));
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

static size_t say(char *text, size_t size, size_t n, const char *what,
                  const struct journal_figures *f) {
    for (int i = 0; i < f->n && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "  %s %s %.4g", f->name[i], what, f->value[i]);
    return n;
}

static void say_validation(const struct trainer *t, const struct validation *v, bool is_best) {
    char text[1000] = "";
    size_t n = 0;
    if (!isnan(v->macro_auroc))
        n = (size_t)snprintf(text, sizeof(text), "  macro AUROC %.4f", v->macro_auroc);
    n = say(text, sizeof(text), n, "accuracy", &v->accuracy);
    n = say(text, sizeof(text), n, "C-index", &v->c_index);
    say(text, sizeof(text), n, "MAE", &v->mae);
    log_info("step %lld  valid loss %.6g%s%s", (long long)t->at.step, v->loss, text,
             is_best ? "  best" : "");
}

static enum ecg_status validate(struct trainer *t, uint32_t epoch, bool *is_best) {
    struct validation v;
    TRY(ema_swap(t));
    TRY(trainer_share_statistics(t));
    TRY(validation_run(t, &v));
    TRY(ema_swap(t));
    TRY(ranks_share(&t->ranks, &t->at,
                    sizeof(t->at))); /* rank 0's best may be one that no disk took */
    *is_best = note_progress(t, &v);
    struct journal_valid line = {.step = t->at.step,
                                 .epoch = epoch,
                                 .loss = v.loss,
                                 .macro_auroc = v.macro_auroc,
                                 .losses = v.losses,
                                 .accuracy = v.accuracy,
                                 .c_index = v.c_index,
                                 .mae = v.mae};
    say_validation(t, &v, *is_best);
    return ranks_writes(&t->ranks) ? journal_put_valid(&t->journal, &line) : ECG_OK;
}

/* Saves where that is due; `at_end`: and waits until it is on the disk. */
static enum ecg_status save(struct trainer *t, bool due, bool is_best, bool at_end) {
    if (!due) trainer_saved(t, false);
    if (at_end) net1d_retire(&t->net); /* makes room for the snapshot */
    if (due) TRY(trainer_save(t, is_best));
    return at_end ? trainer_save_end(t) : ECG_OK;
}

/* Where there is nothing to save. */
static enum ecg_status stop_before(const struct trainer *t, int64_t step) {
    stop_settle(t->wish, ranks_writes(&t->ranks));
    return ecg_fail(ECG_ERR_STOPPED, "stopped before step %lld: run again with --resume",
                    (long long)step);
}

bool trainer_is_paused(const struct trainer *t) {
    return t->until_epoch > 0 && t->at.epoch >= t->until_epoch;
}

/* What follows a step: validation, checkpoint, the end. */
static enum ecg_status after_step(struct trainer *t, const struct batch *b, bool *done) {
    const struct config *c = t->config;
    bool is_best = false;
    t->at.epoch = b->last_of_epoch ? b->epoch + 1 : b->epoch;
    t->at.batch = b->last_of_epoch ? 0 : b->number + 1;
    bool at_end = t->at.step >= t->total_steps;
    bool due = c->train.eval_every > 0 ? t->at.step % c->train.eval_every == 0 : b->last_of_epoch;
    if (t->has_valid && (due || at_end)) TRY(validate(t, b->epoch, &is_best));
    bool stale = c->train.early_stop > 0 && t->at.stale >= c->train.early_stop;
    if (stale) log_info("early stop: %lld validations without progress", (long long)t->at.stale);
    t->at.finished = at_end || stale;
    bool to_save =
        t->wish != STOP_NONE || (c->train.save_every > 0 && t->at.step % c->train.save_every == 0);
    bool pause = trainer_is_paused(t), ends = t->at.finished || pause || t->wish >= STOP_TIME;
    TRY(save(t, ends || is_best || to_save, is_best || !t->has_valid, ends));
    if (t->wish == STOP_SAVE) log_info("step %lld: saved, as asked by USR2", (long long)t->at.step);
    *done = t->at.finished || pause;
    if (*done || t->wish < STOP_TIME) return ECG_OK;
    stop_settle(t->wish, ranks_writes(&t->ranks));
    return ecg_fail(ECG_ERR_STOPPED, "stopped at step %lld%s, state saved: run again with --resume",
                    (long long)t->at.step, t->wish == STOP_TIME ? " by the time limit" : "");
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
    o.weight = t->weight;
    o.augment = t->augments && !t->is_preview ? &t->augment : NULL;
    o.seed = (uint64_t)c->train.seed;
    o.rank = t->ranks.rank;
    o.ranks = t->ranks.size;
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
    return (*b)->B > 0 ? feed_upload(&t->feed, *b, 0, step_micro_batch(t, *b, 0)) : ECG_OK;
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
    step_open_layers(t, b->epoch);
    TRY(step_batch(t, b, known, &any));
    if (t->at.step + 1 < t->total_steps) take_next(t, loader, next);
    line->epoch = b->epoch;
    TRY(finish_step(t, known, any, line));
    line->ecg_per_s = b->total / (log_clock() - start + 1e-9);
    return ECG_OK;
}

static enum ecg_status run_steps(struct trainer *t, struct loader *loader,
                                 struct progress *progress, struct next_batch *next) {
    double rate = 0, smooth = 0;
    bool done = t->at.finished || t->at.step >= t->total_steps;
    double sums[STOP_INTERRUPT];
    TRY(agree_on(t, sums, 0, stop_now()));
    if (!done && t->wish >= STOP_TIME) return stop_before(t, t->at.step + 1);
    stop_begin();
    if (!done) take_next(t, loader, next);
    while (!done) {
        if (next->status != ECG_OK)
            return ecg_fail(next->status, "%s", next->message != NULL ? next->message : "");
        struct batch b = *next->b;
        struct journal_train line = {0};
        TRY(run_step(t, loader, &b, next, &line));
        if (ranks_writes(&t->ranks)) TRY(journal_put_train(&t->journal, &line));
        show_progress(t, progress, &line, &rate, &smooth);
        TRY(after_step(t, &b, &done));
    }
    return ECG_OK;
}

/* Embeddings where they are kept, and the way from the training part into the network. */
static enum ecg_status open_data(struct trainer *t, struct loader **loader) {
    TRY(probe_prepare(t));
    struct feed_format format = source_format(&t->train, step_loss_on_device(t));
    struct loader_options options = trainer_loader(t);
    TRY(feed_create(&t->feed, &t->net, &format, (enum ops_normalize)t->config->data.normalize));
    return loader_open(loader, t->train.data, &options);
}

/* One epoch of the head alone; the mean of its steps' losses goes to the log. */
static enum ecg_status preview_epoch(struct trainer *t, struct loader *loader, int64_t number) {
    double sum = 0;
    int64_t n = 0;
    struct batch *b;
    do {
        double known[HEADS_MAX];
        bool any;
        struct journal_train line = {0};
        TRY(take_batch(t, loader, &b));
        TRY(step_batch(t, b, known, &any));
        TRY(finish_step(t, known, any, &line));
        if (any) n++;
        if (any) sum += line.loss;
        if (t->wish >= STOP_TIME) return stop_before(t, 1);
    } while (!b->last_of_epoch);
    log_info("finetune.probe_epochs: epoch %lld of %lld of the head alone, loss %.6g",
             (long long)number + 1, (long long)t->config->finetune.probe_epochs,
             n > 0 ? sum / (double)n : NAN);
    return ECG_OK;
}

enum ecg_status trainer_preview(struct trainer *t) {
    const struct trainer_position at = t->at;
    struct loader *loader = NULL;
    enum ecg_status status;
    t->is_preview = true;
    step_open_layers(t, 0);
    TRY_OUT(ranks_agree(&t->ranks, open_data(t, &loader)));
    for (int64_t i = 0; i < t->config->finetune.probe_epochs; i++)
        TRY_OUT(preview_epoch(t, loader, i));
out:
    loader_close(loader);
    feed_free(&t->feed);
    embeddings_free(&t->train.embeddings);
    t->is_preview = false;
    t->at = at;
    if (status == ECG_OK) status = optim_reset(&t->optim);
    if (step_unfreezes(t)) optim_close(&t->optim);
    return status;
}

enum ecg_status trainer_run(struct trainer *t) {
    struct loader *loader = NULL;
    struct progress progress;
    struct next_batch next = {0};
    enum ecg_status status;
    TRY_OUT(ranks_agree(&t->ranks, open_data(t, &loader)));
    progress_start(&progress, "train");
    TRY_OUT(run_steps(t, loader, &progress, &next));
    progress_end(&progress);
out:
    trainer_saved(t, true); /* where an error ended the run */
    free(next.message);
    loader_close(loader);
    feed_free(&t->feed);
    return status;
}
