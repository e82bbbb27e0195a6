/* SPDX-License-Identifier: MIT
 * From a config to data sets, leads, columns and the network's shape. */
#include "train/run/setup.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "train/run/head.h"

/* ------------------------------------------------------------------ data */

static enum ecg_status open_sources(struct trainer *t, const struct config *c) {
    struct selection_spec spec;
    enum ecg_status status = config_selection(c->data.train, "data.train", &spec);
    spec.has_fraction = true;
    spec.fraction = c->data.fraction;
    spec.fraction_seed = (uint64_t)c->data.fraction_seed;
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
static enum ecg_status check_test(struct trainer *t, const struct config *c) {
    if (c->data.test == NULL) return ECG_OK;
    struct selection_spec spec;
    struct source test = {0};
    enum ecg_status status = config_selection(c->data.test, "data.test", &spec);
    if (status == ECG_OK) status = source_open(&test, &spec, "data.test");
    if (status == ECG_OK) status = check_patients(&t->train, &test, "data.test");
    t->n_test = test.n;
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

/* ------------------------------------------------------------------ heads */

static enum ecg_status add_head(struct trainer *t, const struct head_config *h) {
    struct head head;
    struct objective objective;
    TRY(config_head(h, &head, &objective));
    enum ecg_status status = heads_add(&t->heads, &head);
    config_head_free(&head);
    if (status == ECG_OK)
        total_add_head(&t->total, &t->heads.v[t->heads.n - 1], &objective, h->weight);
    return status;
}

/* What data.labels or data.targets name, or all columns of the kind that the loss reads. */
static enum ecg_status add_data_head(struct trainer *t, const struct config *c,
                                     const struct shard_schema *schema, const char *path) {
    struct head_config h = config_only_head(c);
    struct objective reads;
    TRY(objective_init(&reads, (enum objective_kind)(c->loss.name - 1), NULL));
    bool targets = reads.reads == OBJECTIVE_TARGETS ||
                   (c->loss.name == OBJECTIVE_ORDINAL + 1 && c->loss.bins != NULL);
    struct conf_strings *to = targets ? &h.targets : &h.labels;
    const struct names *all = targets ? &schema->targets : &schema->labels;
    *to = targets ? c->data.targets : c->data.labels;
    if (to->n == 0) *to = (struct conf_strings){all->v, (size_t)all->n};
    if (to->n == 0)
        return ecg_fail(ECG_ERR_CONFIG, "data.train: %s holds no %s", path,
                        targets ? "targets" : "labels");
    h.name = targets ? "targets" : "labels";
    return add_head(t, &h);
}

static enum ecg_status make_heads(struct trainer *t, const struct config *c,
                                  const struct shard_schema *schema, const char *path) {
    if (!config_names_heads(c)) return add_data_head(t, c, schema, path);
    if (c->n_heads == 0) {
        struct head_config only = config_only_head(c);
        return add_head(t, &only);
    }
    for (int i = 0; i < c->n_heads; i++) TRY(add_head(t, &c->head_list[i]));
    return ECG_OK;
}

/* What the training part knows of the columns, and what follows for the losses. */
static enum ecg_status check_columns(struct trainer *t, const struct config *c) {
    struct source_counts counts;
    TRY(source_count(&t->train, &counts));
    /* Columns that nobody named are what the data set happens to have. */
    bool named = config_names_heads(c) || c->data.labels.n > 0;
    enum ecg_status status =
        source_check_counts(&t->train, &counts, !named || c->data.allow_absent, "data.train");
    if (status == ECG_OK) status = head_weigh(t, &counts);
    source_counts_free(&counts);
    return status == ECG_OK ? source_check_times(&t->train, &t->heads, "data.train") : status;
}

static enum ecg_status take(struct trainer *t, const struct config *c, const struct leads *leads) {
    TRY(make_heads(t, c, &t->train.data->schema, t->train.data->path));
    TRY(source_take_leads(&t->train, leads, "data.train"));
    TRY(source_take_heads(&t->train, &t->heads, "data.train"));
    TRY(check_length(&t->train, c->model.length, "data.train"));
    TRY(check_columns(t, c));
    TRY(check_test(t, c));
    if (!t->has_valid) return ECG_OK;
    TRY(source_take_heads(&t->valid, &t->heads, "data.valid"));
    TRY(source_take_leads(&t->valid, leads, "data.valid"));
    TRY(check_length(&t->valid, c->model.length, "data.valid"));
    TRY(check_alike(&t->train, &t->valid));
    TRY(source_check_times(&t->valid, &t->heads, "data.valid"));
    return check_patients(&t->train, &t->valid, "data.valid");
}

/* ------------------------------------------------------------------ resolving model.* */

enum ecg_status setup_leads(const struct config *c, struct leads *leads) {
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

static enum ecg_status other_leads(const struct network *g, const struct leads *wanted) {
    struct leads have;
    char *names = NULL, *wanted_names = NULL;
    TRY(network_leads(g, &have));
    enum ecg_status status = leads_format(&have, &names);
    if (status == ECG_OK) status = leads_format(wanted, &wanted_names);
    if (status == ECG_OK)
        status = ecg_fail(
            ECG_ERR_CONFIG,
            "%s: the network has %d leads (%s) and model.in_leads names %d (%s): finetune.leads, "
            "sum or select, says what to make of its weights",
            g->path, have.n, names, wanted->n, wanted_names);
    free(names);
    free(wanted_names);
    return status;
}

/* Fine-tuning: the weights' shape replaces model.*; dropout, drop_path and, the head being new, pool stay the config's. */
static enum ecg_status adopt_model(struct config *c, const struct network *g,
                                   const struct leads *wanted, struct leads *leads) {
    const struct net1d_config *m = &g->model;
    if (wanted->n > 0)
        *leads = *wanted;
    else
        TRY(network_leads(g, leads));
    if (leads->n != m->n_leads) return other_leads(g, leads);
    c->model.base_filters = m->base_filters;
    c->model.kernel_size = m->kernel_size;
    c->model.stride = m->stride;
    c->model.group_width = m->group_width;
    c->model.batch_norm = m->batch_norm;
    if (c->model.length == 0) c->model.length = m->length;
    TRY(set_ints(&c->model.filters, m->filters, m->n_stages));
    return set_ints(&c->model.blocks, m->blocks, m->n_stages);
}

/* ------------------------------------------------------------------ the two kinds of run */

enum ecg_status setup_pretrain(struct trainer *t, struct config *c, struct leads *leads) {
    TRY(setup_leads(c, leads));
    if (leads->n == 0) *leads = leads_standard12;
    TRY(open_sources(t, c));
    if (c->model.length == 0) c->model.length = t->train.data->schema.length;
    TRY(set_leads(c, leads));
    return take(t, c, leads);
}

static enum ecg_status check_named(const struct config *c) {
    if (config_names_heads(c)) return ECG_OK;
    return ecg_fail(ECG_ERR_CONFIG,
                    "head.labels or head.targets (or head.event with head.time, or heads) must say "
                    "what is predicted: --set head.labels=[A, B]");
}

enum ecg_status setup_finetune(struct trainer *t, struct config *c, const struct network *g,
                               struct leads *leads) {
    struct leads wanted;
    TRY(check_named(c));
    TRY(setup_leads(c, &wanted));
    TRY(adopt_model(c, g, &wanted, leads));
    TRY(open_sources(t, c));
    if (c->model.length == 0) c->model.length = t->train.data->schema.length;
    TRY(set_leads(c, leads));
    return take(t, c, leads);
}

enum ecg_status setup_device(struct trainer *t, const struct config *c) {
    TRY(ops_find(&t->ops, c->train.device));
    TRY(t->ops->open(&t->dev, ranks_threads(&t->ranks, (int)c->train.threads)));
    if (t->ops->choose_conv == NULL || c->kernels.conv == 0) return ECG_OK;
    return t->ops->choose_conv(t->dev,
                               conf_choice_name(config_options, "kernels.conv", c->kernels.conv));
}

enum ecg_status setup_outputs(struct trainer *t, const struct leads *leads) {
    struct weights_meta *meta = &t->meta;
    TRY(heads_copy(&meta->heads, &t->heads));
    TRY(MEM_NEW(&meta->leads.v, (size_t)leads->n));
    for (; meta->leads.n < leads->n; meta->leads.n++)
        TRY(mem_strdup(&meta->leads.v[meta->leads.n], leads->name[meta->leads.n]));
    TRY(heads_output_names(&t->heads, &meta->outputs));
    meta->sampling_rate = t->train.data->schema.sampling_rate;
    TRY(mem_strdup(&meta->preset, t->train.data->schema.preprocessing));
    TRY(mem_strdup(&meta->normalize,
                   conf_choice_name(config_options, "data.normalize", t->config->data.normalize)));
    TRY(MEM_NEW(&meta->thresholds, (size_t)meta->outputs.n));
    trainer_forget_thresholds(t);
    return ECG_OK;
}

enum ecg_status setup_model(const struct trainer *t, const struct config *c, bool head_only,
                            struct net1d_config *model, int *micro_batch) {
    int64_t parts = c->train.accumulate * (t->ranks.size > 1 ? t->ranks.size : 1);
    *micro_batch = (int)((c->train.batch_size + parts - 1) / parts);
    if (t->ranks.size > 1) *micro_batch += *micro_batch % 2; /* slices hold whole pairs */
    TRY(config_model(c, t->train.n_leads, (int)c->model.length, t->heads.n_outputs, model));
    model->head_only = head_only;
    return ECG_OK;
}

/* ------------------------------------------------------------------ without the data */

static enum ecg_status append(struct names *to, const struct names *from) {
    for (int i = 0; i < from->n; i++) {
        TRY(mem_strdup(&to->v[to->n], from->v[i]));
        to->n++;
    }
    return ECG_OK;
}

/* A data set of these leads and of the heads' columns, and no shard. */
static enum ecg_status imagine_source(struct source *s, const struct config *c,
                                      const struct leads *leads, const struct heads *heads) {
    memset(s, 0, sizeof(*s));
    TRY(MEM_NEW(&s->data, 1));
    struct shard_schema *schema = &s->data->schema;
    schema->length = (int)c->model.length;
    schema->leads = *leads;
    strcpy(schema->preprocessing, "none");
    size_t n_labels = 0, n_targets = 0;
    for (int i = 0; i < heads->n; i++) {
        n_labels += (size_t)heads->v[i].labels.n;
        n_targets += (size_t)heads->v[i].targets.n;
    }
    TRY(MEM_NEW(&schema->labels.v, n_labels));
    TRY(MEM_NEW(&schema->targets.v, n_targets));
    for (int i = 0; i < heads->n; i++) {
        TRY(append(&schema->labels, &heads->v[i].labels));
        TRY(append(&schema->targets, &heads->v[i].targets));
    }
    TRY(source_take_heads(s, heads, "data"));
    s->n = SETUP_IMAGINED_BATCHES * (size_t)c->train.batch_size;
    return source_take_leads(s, leads, "data");
}

enum ecg_status setup_imagined(struct trainer *t, struct config *c, const struct network *g,
                               struct leads *leads) {
    struct leads wanted;
    char *output = "output";
    const struct shard_schema one = {.labels = {1, &output}, .targets = {1, &output}};
    TRY(setup_leads(c, &wanted));
    *leads = wanted.n > 0 ? wanted : leads_standard12;
    if (g != NULL) TRY(adopt_model(c, g, &wanted, leads));
    if (c->model.length == 0)
        return ecg_fail(ECG_ERR_CONFIG,
                        "model.length is 0, the data's, and data.train is not there: --set "
                        "model.length=5000");
    if (g != NULL) TRY(check_named(c));
    TRY(make_heads(t, c, &one, "data.train"));
    TRY(imagine_source(&t->train, c, leads, &t->heads));
    t->has_valid = c->data.valid != NULL;
    return t->has_valid ? imagine_source(&t->valid, c, leads, &t->heads) : ECG_OK;
}
