/* SPDX-License-Identifier: MIT
 * Set-up of a run, in the order in which a mistake is cheapest to find: config, run folder, data, device,
 * network, weights; then the files are written and training starts. */
#include "train/run/training.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/mem.h"
#include "train/run/evaluate.h"
#include "train/run/head.h"
#include "train/run/network.h"
#include "train/run/rundir.h"
#include "train/run/trainer.h"

/* ------------------------------------------------------------------ data */

static enum ecg_status open_sources(struct trainer *t, const struct config *c) {
    struct selection_spec spec;
    enum ecg_status status = config_selection(c->data.train, "data.train", &spec);
    if (status == ECG_OK) status = source_open(&t->train, &spec, "data.train");
    config_selection_free(&spec);
    if (status != ECG_OK || c->data.valid == NULL) return status;
    status = config_selection(c->data.valid, "data.valid", &spec);
    if (status == ECG_OK) status = source_open(&t->valid, &spec, "data.valid");
    config_selection_free(&spec);
    t->has_valid = true;
    return status;
}

static enum ecg_status check_patients(const struct source *train, const struct source *other,
                                      const char *key) {
    size_t both = 0;
    char *example = NULL;
    TRY(selection_overlap(train->data, train->index, train->n, other->data, other->index, other->n,
                          &both, &example));
    if (both == 0) return ECG_OK;
    ecg_fail(ECG_ERR_DATA,
             "data.train and %s share %zu patients (%s for one): split by patient, with folds made "
             "by patient or with part: [from, to]",
             key, both, example ? example : "?");
    free(example);
    return ECG_ERR_DATA;
}

/* data.test is read after the training: that it is there and holds no patient of it is found before. */
static enum ecg_status check_test(const struct source *train, const struct config *c) {
    if (c->data.test == NULL) return ECG_OK;
    struct selection_spec spec;
    struct source test = {0};
    enum ecg_status status = config_selection(c->data.test, "data.test", &spec);
    if (status == ECG_OK) status = source_open(&test, &spec, "data.test");
    if (status == ECG_OK) status = check_patients(train, &test, "data.test");
    config_selection_free(&spec);
    source_close(&test);
    return status;
}

static enum ecg_status check_length(const struct source *s, int64_t length, const char *key) {
    if (s->data->schema.length == length) return ECG_OK;
    return ecg_fail(
        ECG_ERR_CONFIG,
        "%s: %s has %d samples a record and model.length is %lld: import it with --length, or set "
        "model.length",
        key, s->data->path, s->data->schema.length, (long long)length);
}

/* Valid data must be of the same kind as the training data. */
static enum ecg_status check_alike(const struct source *a, const struct source *b) {
    const struct shard_schema *x = &a->data->schema, *y = &b->data->schema;
    if (x->sampling_rate != y->sampling_rate)
        return ecg_fail(ECG_ERR_CONFIG, "data.train has %g Hz and data.valid %g Hz",
                        x->sampling_rate, y->sampling_rate);
    if (strcmp(x->preprocessing, y->preprocessing) != 0)
        return ecg_fail(ECG_ERR_CONFIG,
                        "data.train was imported with preset %s and data.valid with %s",
                        x->preprocessing, y->preprocessing);
    return ECG_OK;
}

static enum ecg_status take(struct trainer *t, const struct config *c, const struct leads *leads,
                            bool targets, const struct names *columns) {
    TRY(source_take_leads(&t->train, leads, "data.train"));
    TRY(source_take_columns(&t->train, targets, columns, "data.train"));
    TRY(check_length(&t->train, c->model.length, "data.train"));
    TRY(source_check_known(&t->train, "data.train"));
    TRY(check_test(&t->train, c));
    if (!t->has_valid) return ECG_OK;
    /* By name from the training part, whose "all columns" decides. */
    struct names same;
    TRY(source_column_names(&t->train, &same));
    enum ecg_status status = source_take_columns(&t->valid, targets, &same, "data.valid");
    names_free(&same);
    if (status == ECG_OK) status = source_take_leads(&t->valid, leads, "data.valid");
    if (status == ECG_OK) status = check_length(&t->valid, c->model.length, "data.valid");
    if (status == ECG_OK) status = check_alike(&t->train, &t->valid);
    return status == ECG_OK ? check_patients(&t->train, &t->valid, "data.valid") : status;
}

/* ------------------------------------------------------------------ resolving model.* */

static enum ecg_status config_leads(const struct config *c, struct leads *leads) {
    memset(leads, 0, sizeof(*leads));
    if (c->model.in_leads.n > LEADS_MAX)
        return ecg_fail(ECG_ERR_CONFIG, "model.in_leads: more than %d leads", LEADS_MAX);
    for (size_t i = 0; i < c->model.in_leads.n; i++) {
        char name[LEAD_NAME_MAX];
        leads_canonical(c->model.in_leads.v[i], name);
        if (leads_find(leads, name) >= 0)
            return ecg_fail(ECG_ERR_CONFIG, "model.in_leads: %s stands there twice", name);
        memcpy(leads->name[leads->n++], name, sizeof(name));
    }
    return ECG_OK;
}

/* Writes the leads used back into the config, so that config.yaml shows them. */
static enum ecg_status set_leads(struct config *c, const struct leads *leads) {
    if (c->model.in_leads.n > 0) return ECG_OK;
    char *list = NULL, *text = NULL;
    TRY(leads_format(leads, &list));
    enum ecg_status status = mem_alloc((void **)&text, strlen(list) + 32, 1);
    if (status == ECG_OK) {
        strcat(strcat(strcpy(text, "model.in_leads=["), list), "]");
        status = conf_set(config_options, c, text);
    }
    free(list);
    free(text);
    return status;
}

static enum ecg_status set_ints(struct conf_ints *to, const int *v, int n) {
    free(to->v);
    to->n = (size_t)n;
    TRY(MEM_NEW(&to->v, to->n));
    for (int i = 0; i < n; i++) to->v[i] = v[i];
    return ECG_OK;
}

/* Fine-tuning: the weights' shape replaces model.*; dropout and drop_path stay the config's. */
static enum ecg_status adopt_model(struct config *c, const struct network *g,
                                   const struct leads *wanted, struct leads *leads) {
    const struct net1d_config *m = &g->model;
    if (wanted->n > 0)
        *leads = *wanted;
    else
        TRY(network_leads(g, leads));
    if (leads->n != m->n_leads)
        return ecg_fail(ECG_ERR_CONFIG, "%s: the network has %d leads and model.in_leads names %d",
                        g->path, m->n_leads, leads->n);
    c->model.base_filters = m->base_filters;
    c->model.kernel_size = m->kernel_size;
    c->model.stride = m->stride;
    c->model.group_width = m->group_width;
    c->model.batch_norm = m->batch_norm;
    if (c->model.length == 0) c->model.length = m->length;
    TRY(set_ints(&c->model.filters, m->filters, m->n_stages));
    return set_ints(&c->model.blocks, m->blocks, m->n_stages);
}

/* ------------------------------------------------------------------ network */

static enum ecg_status make_network(struct trainer *t, const struct config *c, bool head_only) {
    int64_t micro = (c->train.batch_size + c->train.accumulate - 1) / c->train.accumulate;
    struct net1d_config model;
    TRY(config_model(c, t->train.n_leads, (int)c->model.length, t->train.n_columns, &model));
    model.head_only = head_only;
    TRY(ops_find(&t->ops, c->train.device));
    TRY(t->ops->open(&t->dev, (int)c->train.threads));
    TRY(net1d_create(&t->net, &model, t->ops, t->dev, (int)micro, true));
    log_info(
        "Net1D: %zu parameters, %.2f GMAC a record, %d outputs; %zu records to train on, %zu to validate",
        t->net.n_live, (double)net1d_macs(&model) * 1e-9, model.n_outputs, t->train.n, t->valid.n);
    return ECG_OK;
}

static enum ecg_status describe_outputs(struct trainer *t, const struct leads *leads) {
    struct weights_meta *meta = &t->meta;
    meta->is_targets = t->train.targets;
    TRY(MEM_NEW(&meta->leads.v, (size_t)leads->n));
    for (; meta->leads.n < leads->n; meta->leads.n++)
        TRY(mem_strdup(&meta->leads.v[meta->leads.n], leads->name[meta->leads.n]));
    TRY(source_column_names(&t->train, &meta->outputs));
    meta->sampling_rate = t->train.data->schema.sampling_rate;
    TRY(mem_strdup(&meta->preset, t->train.data->schema.preprocessing));
    TRY(mem_strdup(&meta->normalize,
                   conf_choice_name(config_options, "data.normalize", t->config->data.normalize)));
    TRY(MEM_NEW(&meta->thresholds, (size_t)meta->outputs.n));
    trainer_forget_thresholds(t);
    return ECG_OK;
}

/* init.weights: the same network, head included. */
static enum ecg_status load_initial(struct trainer *t, const struct config *c) {
    TRY(net1d_init_weights(&t->net, (uint64_t)c->init.seed, false));
    if (c->init.weights == NULL) return ECG_OK;
    struct network g = {0};
    enum ecg_status status = network_read(&g, c->init.weights);
    if (status == ECG_OK) status = weights_load(&t->net, &g.file, WEIGHTS_ALL, NULL);
    network_free(&g);
    return status == ECG_OK ? status : ecg_fail_prefix(status, "init.weights: ");
}

/* ------------------------------------------------------------------ the run */

static enum ecg_status train(struct trainer *t, const struct training_options *o) {
    TRY(rundir_describe(o->out, t->config, o->command, &t->train, t->has_valid ? &t->valid : NULL));
    bool found = false;
    if (o->resume) TRY(trainer_load_last(t, &found));
    if (found && t->at.finished) {
        log_info("%s: this run is finished (step %lld)", o->out, (long long)t->at.step);
        return ECG_OK;
    }
    if (found)
        log_info("resuming at step %lld of %lld", (long long)t->at.step, (long long)t->total_steps);
    TRY(journal_open(&t->journal, o->out, found ? t->at.step : -1));
    return trainer_run(t);
}

static enum ecg_status test_result(const struct config *c, const char *run) {
    if (c->data.test == NULL) return ECG_OK;
    struct selection_spec spec;
    enum ecg_status status = config_selection(c->data.test, "data.test", &spec);
    if (status == ECG_OK) status = evaluate_test(run, &spec, c);
    config_selection_free(&spec);
    return status;
}

enum ecg_status pretrain_run(const struct training_options *o) {
    struct config c = {0};
    struct trainer t = {.config = &c, .run = o->out};
    struct leads leads;
    int lock = -1;
    enum ecg_status status;
    TRY_OUT(config_load(&c, o->config, o->sets, o->n_sets));
    TRY_OUT(rundir_check(o->out, o->resume));
    TRY_OUT(config_leads(&c, &leads));
    if (leads.n == 0) leads = leads_standard12;
    TRY_OUT(open_sources(&t, &c));
    if (c.model.length == 0) c.model.length = t.train.data->schema.length;
    TRY_OUT(set_leads(&c, &leads));
    TRY_OUT(config_objective(&c, &t.objective));
    bool targets = t.objective.reads == OBJECTIVE_TARGETS;
    const struct conf_strings *wanted = targets ? &c.data.targets : &c.data.labels;
    struct names columns = {(int)wanted->n, wanted->v};
    TRY_OUT(take(&t, &c, &leads, targets, &columns));
    TRY_OUT(make_network(&t, &c, false));
    TRY_OUT(describe_outputs(&t, &leads));
    TRY_OUT(load_initial(&t, &c));
    TRY_OUT(trainer_prepare(&t));
    TRY_OUT(rundir_lock(o->out, &lock));
    TRY_OUT(train(&t, o));
out:
    trainer_free(&t);
    if (status == ECG_OK) status = test_result(&c, o->out);
    if (lock >= 0) close(lock);
    config_free(&c);
    return status;
}

static enum ecg_status head_columns(const struct config *c, bool *targets, struct names *columns) {
    if (c->head.labels.n == 0 && c->head.targets.n == 0)
        return ecg_fail(ECG_ERR_CONFIG,
                        "head.labels or head.targets must say what the new head predicts: "
                        "--set head.labels=[A, B]");
    *targets = c->head.targets.n > 0;
    const struct conf_strings *wanted = *targets ? &c->head.targets : &c->head.labels;
    *columns = (struct names){(int)wanted->n, wanted->v};
    return ECG_OK;
}

enum ecg_status finetune_run(const struct training_options *o) {
    struct config c = {0};
    struct trainer t = {.config = &c, .run = o->out};
    struct network g = {0};
    struct leads wanted, leads;
    struct names columns;
    bool targets = false;
    int lock = -1;
    enum ecg_status status;
    TRY_OUT(config_load(&c, o->config, o->sets, o->n_sets));
    TRY_OUT(rundir_check(o->out, o->resume));
    TRY_OUT(head_columns(&c, &targets, &columns));
    TRY_OUT(network_read(&g, o->weights));
    TRY_OUT(config_leads(&c, &wanted));
    TRY_OUT(adopt_model(&c, &g, &wanted, &leads));
    TRY_OUT(open_sources(&t, &c));
    if (c.model.length == 0) c.model.length = t.train.data->schema.length;
    TRY_OUT(set_leads(&c, &leads));
    TRY_OUT(take(&t, &c, &leads, targets, &columns));
    network_warn_preset(&g, t.train.data->schema.preprocessing, t.train.data->path);
    TRY_OUT(make_network(&t, &c, c.head.freeze));
    TRY_OUT(describe_outputs(&t, &leads));
    TRY_OUT(weights_load(&t.net, &g.file, WEIGHTS_BACKBONE, NULL));
    TRY_OUT(net1d_init_weights(&t.net, (uint64_t)c.init.seed, true));
    TRY_OUT(trainer_prepare(&t));
    if (targets) TRY_OUT(head_fit_targets(&t));
    TRY_OUT(rundir_lock(o->out, &lock));
    TRY_OUT(train(&t, o));
out:
    network_free(&g);
    trainer_free(&t);
    if (status == ECG_OK) status = test_result(&c, o->out);
    if (lock >= 0) close(lock);
    config_free(&c);
    return status;
}
