/* SPDX-License-Identifier: MIT
 * Set-up of a run, in the order in which a mistake is cheapest to find: config, run folder, data, device,
 * network, weights; then the files are written and training starts. */
#include "train/run/training.h"

#include <unistd.h>

#include "core/log.h"
#include "train/run/ema.h"
#include "train/run/evaluate.h"
#include "train/run/head.h"
#include "train/run/rundir.h"
#include "train/run/setup.h"
#include "train/run/stem.h"

/* ------------------------------------------------------------------ network */

static enum ecg_status make_network(struct trainer *t, const struct config *c, bool head_only) {
    struct net1d_config model;
    int micro_batch;
    TRY(setup_model(t, c, head_only, &model, &micro_batch));
    TRY(setup_device(t, c));
    TRY(net1d_create(&t->net, &model, t->ops, t->dev, micro_batch, true));
    t->net.graphs = c->train.cuda_graph;
    log_info(
        "Net1D: %zu parameters, %.2f GMAC a record, %d outputs; %zu records to train on, %zu to validate",
        t->net.n_live, (double)net1d_macs(&model) * 1e-9, model.n_outputs, t->train.n, t->valid.n);
    return ECG_OK;
}

/* finetune.init: random takes the weights' shape alone. */
static bool loads_backbone(const struct config *c) {
    return c->finetune.init == 0;
}

/* init.weights: the same network, head included. */
static enum ecg_status load_initial(struct trainer *t, const struct config *c) {
    if (c->init.weights == NULL) return net1d_init_weights(&t->net, (uint64_t)c->init.seed, false);
    struct network g = {0};
    enum ecg_status status = network_read(&g, c->init.weights);
    if (status == ECG_OK) status = weights_load(&t->net, &g.file, WEIGHTS_ALL, NULL);
    network_free(&g);
    return status == ECG_OK ? status : ecg_fail_prefix(status, "init.weights: ");
}

/* ------------------------------------------------------------------ the run */

/* Rank 0 takes the run folder; the others wait until it is there, and is theirs to read. */
static enum ecg_status take_folder(struct trainer *t, const struct training_options *o, int *lock) {
    if (!ranks_writes(&t->ranks)) return ECG_OK;
    TRY(rundir_lock(o->out, lock));
    return rundir_describe(o->out, t->config, o->command, &t->train,
                           t->has_valid ? &t->valid : NULL);
}

static enum ecg_status open_journal(struct trainer *t, const char *run, int64_t keep_step) {
    return ranks_writes(&t->ranks) ? journal_open(&t->journal, run, keep_step) : ECG_OK;
}

static enum ecg_status train(struct trainer *t, const struct training_options *o, int *lock) {
    TRY(ranks_prepare(t));
    TRY(ranks_agree(&t->ranks, take_folder(t, o, lock)));
    bool found = false;
    if (o->resume) TRY(ranks_agree(&t->ranks, trainer_load_last(t, &found)));
    if (found && t->at.finished) {
        log_info("%s: this run is finished (step %lld)", o->out, (long long)t->at.step);
        return ranks_writes(&t->ranks) ? trainer_prune(t)
                                       : ECG_OK; /* it may have been killed at that */
    }
    if (found && trainer_is_paused(t)) return ECG_OK;
    if (found)
        log_info("resuming at step %lld of %lld", (long long)t->at.step, (long long)t->total_steps);
    if (!found && t->is_finetune && t->config->finetune.probe_epochs > 0) TRY(trainer_preview(t));
    if (!found) TRY(ema_start(t));
    TRY(ranks_agree(&t->ranks, open_journal(t, o->out, found ? t->at.step : -1)));
    return trainer_run(t);
}

static enum ecg_status test_result(const struct config *c, const struct training_options *o) {
    if (c->data.test == NULL) return ECG_OK;
    struct selection_spec spec;
    enum ecg_status status = config_selection(c->data.test, "data.test", &spec);
    if (status == ECG_OK) status = evaluate_test(o->out, &spec, c, o->silent);
    config_selection_free(&spec);
    return status;
}

/* All that a rank does by itself before training. */
static enum ecg_status set_up_pretrain(struct trainer *t, struct config *c,
                                       const struct training_options *o) {
    struct leads leads;
    if (ranks_writes(&t->ranks)) TRY(rundir_check(o->out, o->resume));
    TRY(setup_pretrain(t, c, &leads));
    TRY(make_network(t, c, false));
    TRY(setup_outputs(t, &leads));
    TRY(load_initial(t, c));
    TRY(trainer_prepare(t));
    if (!config_names_heads(c)) return ECG_OK;
    return c->init.weights != NULL ? head_measure_targets(t) : head_fit_targets(t);
}

static enum ecg_status set_up_finetune(struct trainer *t, struct config *c,
                                       const struct training_options *o, struct network *g) {
    struct leads leads;
    if (ranks_writes(&t->ranks)) TRY(rundir_check(o->out, o->resume));
    TRY(network_read(g, o->weights));
    TRY(stem_adapt(g, c));
    TRY(setup_finetune(t, c, g, &leads));
    network_warn_preset(g, t->train.data->schema.preprocessing, t->train.data->path);
    TRY(make_network(t, c, c->head.freeze));
    TRY(setup_outputs(t, &leads));
    if (loads_backbone(c))
        TRY(weights_load(&t->net, &g->file, WEIGHTS_BACKBONE, NULL));
    else
        log_info("finetune.init: the backbone starts at random, not from %s", g->path);
    network_free(g); /* its pages count as this program's memory as long as they are mapped */
    TRY(net1d_init_weights(&t->net, (uint64_t)c->init.seed, loads_backbone(c)));
    TRY(trainer_prepare(t));
    return head_fit_targets(t);
}

static enum ecg_status run(const struct training_options *o, bool is_finetune) {
    struct config c = {0};
    struct trainer t = {
        .config = &c, .run = o->out, .is_finetune = is_finetune, .until_epoch = o->until_epoch};
    struct network g = {0};
    int lock = -1;
    bool writes;
    enum ecg_status status;
    TRY_OUT(ranks_open(&t.ranks, &c, config_load(&c, o->config, o->sets, o->n_sets)));
    TRY_OUT(ranks_agree(&t.ranks,
                        is_finetune ? set_up_finetune(&t, &c, o, &g) : set_up_pretrain(&t, &c, o)));
    TRY_OUT(train(&t, o, &lock));
out:
    network_free(&g);
    writes = ranks_writes(&t.ranks);
    if (status == ECG_ERR_STOPPED && t.wish >= STOP_TIME) t.ranks.agreed = true;
    status = ranks_close(&t.ranks, status);
    trainer_free(&t);
    if (status == ECG_OK && writes) status = test_result(&c, o);
    if (lock >= 0) close(lock);
    config_free(&c);
    return status;
}

enum ecg_status pretrain_run(const struct training_options *o) {
    return run(o, false);
}

enum ecg_status finetune_run(const struct training_options *o) {
    return run(o, true);
}
