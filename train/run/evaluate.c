/* SPDX-License-Identifier: MIT
 * Outputs come from the network or from a file of predict; truth comes from the data set, by name. Thresholds come with
 * the weights and are never chosen here. */
#include "train/run/evaluate.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/log.h"
#include "core/mem.h"
#include "data/h5.h"
#include "train/report/evaluation.h"
#include "train/report/predictions.h"
#include "train/run/infer.h"
#include "train/run/network.h"
#include "train/run/source.h"
#include "train/run/trainer.h"

#define TEST_BATCH 32 /* records at a time at the end of a run */
#define ID_BYTES   32 /* a record's id with what its allocation costs, about */

/* What is evaluated: outputs of the network (all, or those asked for) and their names. */
struct subject {
    struct network network;
    struct source source;
    struct names names; /* outputs evaluated; borrowed strings */
    char *list;         /* backing of names when given as text */
    int *output;        /* (names.n) index into the network's outputs */
    bool targets;
    struct inferred r; /* logits (n, network's outputs) */
};

static void subject_free(struct subject *s) {
    inferred_free(&s->r);
    source_close(&s->source);
    network_free(&s->network);
    free(s->names.v);
    free(s->list);
    free(s->output);
}

/* ------------------------------------------------------------------ which outputs */

/* Foreign weights without names: the data set's columns in order, when the counts agree. */
static enum ecg_status name_outputs(struct subject *s) {
    struct network *n = &s->network;
    const struct shard_schema *schema = &s->source.data->schema;
    s->targets = n->meta.is_targets;
    if (n->meta.outputs.n > 0) return ECG_OK;
    if (schema->labels.n != n->model.n_outputs)
        return ecg_fail(ECG_ERR_CONFIG,
                        "%s: the weights don't name their %d outputs, and %s has %d label columns",
                        n->path, n->model.n_outputs, s->source.data->path, schema->labels.n);
    log_warn("%s does not name its outputs: taking the %d labels of %s in order", n->path,
             schema->labels.n, s->source.data->path);
    return names_copy(&n->meta.outputs, &schema->labels);
}

static enum ecg_status choose_outputs(struct subject *s, const char *list) {
    const struct names *have = &s->network.meta.outputs;
    size_t max = list != NULL ? strlen(list) / 2 + 1 : (size_t)have->n;
    TRY(MEM_NEW(&s->names.v, max));
    TRY(MEM_NEW(&s->output, max));
    if (list == NULL) {
        for (int i = 0; i < have->n; i++) {
            s->names.v[s->names.n] = have->v[i];
            s->output[s->names.n++] = i;
        }
        return ECG_OK;
    }
    TRY(mem_strdup(&s->list, list));
    char *save = NULL;
    for (char *w = strtok_r(s->list, ",", &save); w != NULL; w = strtok_r(NULL, ",", &save)) {
        int i = names_find(have, w);
        if (i < 0) {
            char hint[CONF_HINT_MAX];
            return ecg_fail(ECG_ERR_CONFIG, "%s: the network has no output %s%s", s->network.path,
                            w, conf_did_you_mean(hint, w, (const char *const *)have->v, have->n));
        }
        if (names_find(&s->names, w) >= 0)
            return ecg_fail(ECG_ERR_USAGE, "--labels: %s stands twice", w);
        s->names.v[s->names.n] = w;
        s->output[s->names.n++] = i;
    }
    if (s->names.n == 0) return ecg_fail(ECG_ERR_USAGE, "--labels: no name in \"%s\"", list);
    return ECG_OK;
}

/* ------------------------------------------------------------------ outputs of the network */

static enum ecg_status run_network(struct subject *s, const struct evaluate_options *o) {
    struct network *n = &s->network;
    struct leads leads;
    enum ops_normalize normalize;
    TRY(network_leads(n, &leads));
    TRY(network_normalize(n, &normalize));
    TRY(source_take_leads(&s->source, &leads, "--data"));
    network_warn_preset(n, s->source.data->schema.preprocessing, s->source.data->path);
    TRY(network_build(n, o->device, o->precision, o->threads, s->source.data->schema.length,
                      source_batch(&s->source, o->batch)));
    n->net.graphs = !o->no_graphs;
    return infer_all(&s->r, &n->net, &s->source, normalize, 1, "evaluate");
}

static int compare_ids(const void *a, const void *b) {
    return strcmp(**(char *const *const *)a, **(char *const *const *)b);
}

/* Row of each record of the source in the predictions, by record id. */
static enum ecg_status match_rows(struct subject *s, const struct predictions *p, const char *path,
                                  char ***by_id, size_t *row) {
    qsort(by_id, p->n, sizeof(*by_id), compare_ids);
    for (size_t i = 1; i < p->n; i++)
        if (strcmp(*by_id[i - 1], *by_id[i]) == 0)
            return ecg_fail(ECG_ERR_DATA, "%s: record %s stands twice", path, *by_id[i]);
    for (size_t i = 0; i < s->source.n; i++) {
        char *id = NULL, **key = &id;
        TRY(dataset_record_id(s->source.data, s->source.index[i], &id));
        char ***found = bsearch(&key, by_id, p->n, sizeof(*by_id), compare_ids);
        enum ecg_status status =
            found != NULL ? ECG_OK : ecg_fail(ECG_ERR_DATA, "%s: no row for record %s", path, id);
        free(id);
        TRY(status);
        row[i] = (size_t)(*found - p->ids);
    }
    return ECG_OK;
}

static enum ecg_status read_predictions(struct subject *s, const char *path) {
    struct predictions p = {0};
    char ***by_id = NULL;
    size_t *row = NULL, k = (size_t)s->network.model.n_outputs;
    enum ecg_status status;
    TRY_OUT(predictions_read(&p, path));
    if (p.n_columns != k) {
        status = ecg_fail(ECG_ERR_DATA, "%s: %zu outputs a record, the network has %zu", path,
                          p.n_columns, k);
        goto out;
    }
    TRY_OUT(MEM_NEW(&by_id, p.n));
    TRY_OUT(MEM_NEW(&row, s->source.n));
    for (size_t i = 0; i < p.n; i++) by_id[i] = &p.ids[i];
    TRY_OUT(match_rows(s, &p, path, by_id, row));
    s->r.n = s->source.n;
    s->r.k = (int)k;
    TRY_OUT(MEM_NEW(&s->r.logits, s->r.n * k));
    for (size_t i = 0; i < s->r.n; i++)
        memcpy(s->r.logits + i * k, p.logits + row[i] * k, k * sizeof(float));
out:
    predictions_free(&p);
    free(by_id);
    free(row);
    return status;
}

/* ------------------------------------------------------------------ truth and report */

/* Everything evaluation_run wants, in the order of s->names. */
struct table {
    char **ids;
    uint64_t *patients;
    float *outputs;
    uint8_t *labels;
    float *targets;
    double *thresholds;
    size_t n;
};

static void table_free(struct table *t) {
    if (t->ids != NULL) h5_free_strings(t->ids, t->n);
    free(t->patients);
    free(t->outputs);
    free(t->labels);
    free(t->targets);
    free(t->thresholds);
}

static enum ecg_status fill_truth(struct subject *s, size_t i, uint8_t *labels, float *targets,
                                  struct table *t) {
    size_t record = s->source.index[i], k = (size_t)s->names.n;
    if (s->targets) {
        TRY(dataset_targets(s->source.data, record, targets));
    } else {
        TRY(dataset_labels(s->source.data, record, labels));
    }
    for (size_t c = 0; c < k; c++) {
        int column = s->source.columns[c];
        if (s->targets)
            t->targets[i * k + c] = targets[column];
        else
            t->labels[i * k + c] = labels[column];
        t->outputs[i * k + c] = s->r.logits[i * (size_t)s->r.k + (size_t)s->output[c]];
    }
    t->patients[i] = s->source.data->patient_hash[record];
    return dataset_record_id(s->source.data, record, &t->ids[i]);
}

static enum ecg_status fill_table(struct subject *s, struct table *t) {
    size_t k = (size_t)s->names.n;
    uint8_t *labels = NULL;
    float *targets = NULL;
    enum ecg_status status;
    t->n = s->source.n;
    TRY(MEM_NEW(&t->ids, t->n));
    TRY(MEM_NEW(&t->patients, t->n));
    TRY(MEM_NEW(&t->outputs, t->n * k));
    TRY(MEM_NEW(&t->labels, s->targets ? 0 : t->n * k));
    TRY(MEM_NEW(&t->targets, s->targets ? t->n * k : 0));
    TRY(MEM_NEW(&t->thresholds, k));
    for (size_t c = 0; c < k; c++)
        t->thresholds[c] = s->network.meta.thresholds != NULL
                               ? s->network.meta.thresholds[s->output[c]]
                               : (double)NAN;
    TRY_OUT(MEM_NEW(&labels, (size_t)s->source.data->schema.labels.n));
    TRY_OUT(MEM_NEW(&targets, (size_t)s->source.data->schema.targets.n));
    for (size_t i = 0; i < t->n; i++) TRY_OUT(fill_truth(s, i, labels, targets, t));
out:
    free(labels);
    free(targets);
    return status;
}

static enum ecg_status report(struct subject *s, const struct evaluate_options *o) {
    struct table t = {0};
    struct evaluation e = {0};
    struct evaluation_input in = {.intervals = true};
    enum ecg_status status;
    TRY_OUT(fill_table(s, &t));
    in.n = t.n;
    in.record_ids = t.ids;
    in.patients = t.patients;
    if (s->targets) {
        in.n_targets = (size_t)s->names.n;
        in.target_names = s->names.v;
        in.predictions = t.outputs;
        in.targets = t.targets;
    } else {
        in.n_labels = (size_t)s->names.n;
        in.label_names = s->names.v;
        in.logits = t.outputs;
        in.labels = t.labels;
        in.thresholds = t.thresholds;
    }
    TRY_OUT(evaluation_run(&e, &in));
    TRY_OUT(evaluation_write(&e, &in, o->out));
    if (!o->silent) evaluation_print(&e, &in, stdout);
out:
    evaluation_free(&e);
    table_free(&t);
    return status;
}

/* Before the work, which may take hours; a folder that was not there goes again when it fails. */
static enum ecg_status make_out(const char *out, bool *made) {
    *made = !file_exists(out);
    TRY(file_mkdirs(out));
    if (access(out, W_OK) == 0) return ECG_OK;
    return ecg_fail(ECG_ERR_CREATE, "%s: can't write there: %s", out, strerror(errno));
}

static enum ecg_status evaluate(const struct evaluate_options *o,
                                const struct selection_spec *spec) {
    struct subject s = {0};
    bool made = false;
    enum ecg_status status;
    TRY_OUT(network_read(&s.network, o->weights));
    TRY_OUT(source_open(&s.source, spec, "--data"));
    TRY_OUT(name_outputs(&s));
    TRY_OUT(choose_outputs(&s, o->labels));
    TRY_OUT(source_take_columns(&s.source, s.targets, &s.names, "--data"));
    TRY_OUT(make_out(o->out, &made));
    if (o->predictions != NULL)
        TRY_OUT(read_predictions(&s, o->predictions));
    else
        TRY_OUT(run_network(&s, o));
    TRY_OUT(report(&s, o));
out:
    if (status != ECG_OK && made) rmdir(o->out);
    subject_free(&s);
    return status;
}

enum ecg_status evaluate_run(const struct evaluate_options *o) {
    struct selection_spec spec;
    enum ecg_status status = config_selection_text(o->data, "--data", &spec);
    if (status == ECG_OK) status = evaluate(o, &spec);
    config_selection_free(&spec);
    return status;
}

enum ecg_status evaluate_test(const char *run, const struct selection_spec *spec,
                              const struct config *c, bool silent) {
    char *out = NULL;
    TRY(file_join(&out, run, "test"));
    struct evaluate_options o = {
        .weights = run,
        .out = out,
        .device = c->train.device,
        .precision = conf_choice_name(config_options, "train.precision", c->train.precision),
        .threads = (int)c->train.threads,
        .batch = TEST_BATCH,
        .no_graphs = !c->train.cuda_graph,
        .silent = silent};
    enum ecg_status status = evaluate(&o, spec);
    free(out);
    return status;
}

enum ecg_status evaluate_test_bytes(const struct trainer *t, size_t *bytes) {
    struct source test = t->train;
    struct net1d net;
    test.n = t->n_test;
    TRY(net1d_plan(&net, &t->net.config, t->ops, t->dev, source_batch(&test, TEST_BATCH), false));
    const struct net1d_memory *m = &net.memory;
    size_t k = (size_t)net.config.n_outputs;
    size_t row = sizeof(char *) + ID_BYTES + sizeof(uint64_t) + k * (sizeof(float) + sizeof(float));
    *bytes = m->parameters + m->packed + m->activations + m->scratch + infer_bytes(&net, &test, 1) +
             test.n * (row + EVALUATION_BYTES + k * EVALUATION_INTERVAL_BYTES);
    net1d_free(&net);
    return ECG_OK;
}
