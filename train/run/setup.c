/* SPDX-License-Identifier: MIT
 * From a config to data sets, leads, columns and the network's shape. */
#include "train/run/setup.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

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

static enum ecg_status take(struct trainer *t, const struct config *c, const struct leads *leads,
                            bool targets, const struct names *columns) {
    TRY(source_take_leads(&t->train, leads, "data.train"));
    TRY(source_take_columns(&t->train, targets, columns, "data.train"));
    TRY(check_length(&t->train, c->model.length, "data.train"));
    TRY(source_check_known(&t->train, "data.train"));
    TRY(check_test(t, c));
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

/* Fine-tuning: the weights' shape replaces model.*; dropout, drop_path and, the head being new, pool stay the config's. */
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

/* ------------------------------------------------------------------ the two kinds of run */

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

enum ecg_status setup_pretrain(struct trainer *t, struct config *c, struct leads *leads) {
    TRY(config_leads(c, leads));
    if (leads->n == 0) *leads = leads_standard12;
    TRY(open_sources(t, c));
    if (c->model.length == 0) c->model.length = t->train.data->schema.length;
    TRY(set_leads(c, leads));
    TRY(config_objective(c, &t->objective));
    bool targets = t->objective.reads == OBJECTIVE_TARGETS;
    const struct conf_strings *wanted = targets ? &c->data.targets : &c->data.labels;
    struct names columns = {(int)wanted->n, wanted->v};
    return take(t, c, leads, targets, &columns);
}

enum ecg_status setup_finetune(struct trainer *t, struct config *c, const struct network *g,
                               struct leads *leads) {
    struct leads wanted;
    struct names columns;
    bool targets = false;
    TRY(head_columns(c, &targets, &columns));
    TRY(config_leads(c, &wanted));
    TRY(adopt_model(c, g, &wanted, leads));
    TRY(open_sources(t, c));
    if (c->model.length == 0) c->model.length = t->train.data->schema.length;
    TRY(set_leads(c, leads));
    return take(t, c, leads, targets, &columns);
}

enum ecg_status setup_device(struct trainer *t, const struct config *c) {
    TRY(ops_find(&t->ops, c->train.device));
    TRY(t->ops->open(&t->dev, (int)c->train.threads));
    if (t->ops->choose_conv == NULL || c->kernels.conv == 0) return ECG_OK;
    return t->ops->choose_conv(t->dev,
                               conf_choice_name(config_options, "kernels.conv", c->kernels.conv));
}

enum ecg_status setup_outputs(struct trainer *t, const struct leads *leads) {
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

enum ecg_status setup_model(const struct trainer *t, const struct config *c, bool head_only,
                            struct net1d_config *model, int *micro_batch) {
    *micro_batch = (int)((c->train.batch_size + c->train.accumulate - 1) / c->train.accumulate);
    TRY(config_model(c, t->train.n_leads, (int)c->model.length, t->train.n_columns, model));
    model->head_only = head_only;
    return ECG_OK;
}

/* ------------------------------------------------------------------ without the data */

/* A data set as the config describes it: of these leads and columns, and no shard. */
static enum ecg_status imagine_source(struct source *s, const struct config *c,
                                      const struct leads *leads, bool targets,
                                      const struct conf_strings *columns) {
    struct names *names;
    memset(s, 0, sizeof(*s));
    TRY(MEM_NEW(&s->data, 1));
    struct shard_schema *schema = &s->data->schema;
    schema->length = (int)c->model.length;
    schema->leads = *leads;
    strcpy(schema->preprocessing, "none");
    names = targets ? &schema->targets : &schema->labels;
    s->n_columns = columns->n > 0 ? (int)columns->n : 1;
    TRY(MEM_NEW(&names->v, (size_t)s->n_columns));
    TRY(MEM_NEW(&s->columns, (size_t)s->n_columns));
    for (; names->n < s->n_columns; names->n++) {
        TRY(mem_strdup(&names->v[names->n], columns->n > 0 ? columns->v[names->n] : "output"));
        s->columns[names->n] = names->n;
    }
    s->targets = targets;
    s->n = SETUP_IMAGINED_BATCHES * (size_t)c->train.batch_size;
    return source_take_leads(s, leads, "data");
}

enum ecg_status setup_imagined(struct trainer *t, struct config *c, const struct network *g,
                               struct leads *leads) {
    struct leads wanted;
    TRY(config_leads(c, &wanted));
    *leads = wanted.n > 0 ? wanted : leads_standard12;
    if (g != NULL) TRY(adopt_model(c, g, &wanted, leads));
    if (c->model.length == 0)
        return ecg_fail(ECG_ERR_CONFIG,
                        "model.length is 0, the data's, and data.train is not there: --set "
                        "model.length=5000");
    TRY(config_objective(c, &t->objective));
    bool targets = t->objective.reads == OBJECTIVE_TARGETS;
    const struct conf_strings *columns = targets ? &c->data.targets : &c->data.labels;
    if (c->head.labels.n > 0) columns = &c->head.labels;
    if (c->head.targets.n > 0) columns = &c->head.targets;
    TRY(imagine_source(&t->train, c, leads, targets, columns));
    t->has_valid = c->data.valid != NULL;
    return t->has_valid ? imagine_source(&t->valid, c, leads, targets, columns) : ECG_OK;
}
