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
#include "train/run/mapped.h"
#include "train/run/network.h"
#include "train/run/outcome.h"
#include "train/run/source.h"
#include "train/run/trainer.h"

#define TEST_BATCH 32 /* records at a time at the end of a run */
#define ID_BYTES   32 /* a record's id with what its allocation costs, about */

/* What is evaluated: all heads of the network, or those outputs asked for. */
struct subject {
    struct network network;
    struct source source;
    struct heads heads;     /* evaluated */
    int *output;            /* (heads.n_outputs) their places among the network's outputs */
    struct label_join join; /* --label-map: the columns behind each label; else empty */
    struct inferred
        r; /* logits (n, network's outputs), then (n, heads.n_outputs); truth by the heads */
};

static void subject_free(struct subject *s) {
    inferred_free(&s->r);
    source_close(&s->source);
    network_free(&s->network);
    heads_free(&s->heads);
    label_join_free(&s->join);
    free(s->output);
}

/* ------------------------------------------------------------------ which outputs */

/* Foreign weights without names: the data set's columns in order, when the counts agree. */
static enum ecg_status name_outputs(struct subject *s) {
    struct network *n = &s->network;
    const struct shard_schema *schema = &s->source.data->schema;
    if (n->meta.outputs.n > 0) return ECG_OK;
    if (schema->labels.n != n->model.n_outputs)
        return ecg_fail(ECG_ERR_CONFIG,
                        "%s: the weights don't name their %d outputs, and %s has %d label columns",
                        n->path, n->model.n_outputs, s->source.data->path, schema->labels.n);
    log_warn("%s does not name its outputs: taking the %d labels of %s in order", n->path,
             schema->labels.n, s->source.data->path);
    return weights_meta_name(&n->meta, &schema->labels, false);
}

/* "A,B" as a list of names, each an output's, a head's or a column's. */
static enum ecg_status wanted_names(const struct subject *s, const char *list,
                                    struct names *wanted) {
    char *text = NULL, *save = NULL;
    const struct weights_meta *meta = &s->network.meta;
    enum ecg_status status;
    *wanted = (struct names){0};
    TRY_OUT(mem_strdup(&text, list));
    TRY_OUT(MEM_NEW(&wanted->v, strlen(list) / 2 + 1));
    for (char *w = strtok_r(text, ",", &save); w != NULL; w = strtok_r(NULL, ",", &save)) {
        bool known = names_find(&meta->outputs, w) >= 0;
        for (int k = 0; k < meta->heads.n; k++)
            known = known || strcmp(meta->heads.v[k].name, w) == 0;
        if (!known) {
            char hint[CONF_HINT_MAX];
            const struct names *have = &meta->outputs;
            TRY_OUT(ecg_fail(ECG_ERR_CONFIG, "%s: the network has no output %s%s", s->network.path,
                             w, conf_did_you_mean(hint, w, (const char *const *)have->v, have->n)));
        }
        if (names_find(wanted, w) >= 0)
            TRY_OUT(ecg_fail(ECG_ERR_USAGE, "--labels: %s stands twice", w));
        TRY_OUT(mem_strdup(&wanted->v[wanted->n], w));
        wanted->n++;
    }
    if (wanted->n == 0) TRY_OUT(ecg_fail(ECG_ERR_USAGE, "--labels: no name in \"%s\"", list));
out:
    free(text);
    if (status != ECG_OK) names_free(wanted);
    return status;
}

/* Adds a head of the network, whole or, for labels and targets, cut to the columns named. */
static enum ecg_status add_head(struct subject *s, const struct head *h,
                                const struct names *wanted) {
    struct head part = *h;
    bool whole = wanted == NULL || names_find(wanted, h->name) >= 0;
    bool cuts = h->kind == HEAD_LABELS || h->kind == HEAD_TARGETS;
    struct names *columns = h->kind == HEAD_LABELS ? &part.labels : &part.targets;
    const struct names *all = h->kind == HEAD_LABELS ? &h->labels : &h->targets;
    char **chosen = NULL;
    int *output = s->output + s->heads.n_outputs;
    if (!whole && !cuts)
        for (int i = 0; i < h->n; i++)
            whole = whole || names_find(wanted, s->network.meta.outputs.v[h->first + i]) >= 0;
    if (!whole && !cuts) return ECG_OK;
    if (whole) {
        for (int i = 0; i < h->n; i++) output[i] = h->first + i;
        return heads_add(&s->heads, &part);
    }
    TRY(MEM_NEW(&chosen, (size_t)wanted->n));
    *columns = (struct names){0, chosen};
    for (int i = 0; i < wanted->n; i++) {
        int at = names_find(all, wanted->v[i]);
        if (at < 0) continue;
        output[columns->n] = h->first + at;
        chosen[columns->n++] = all->v[at];
    }
    enum ecg_status status = columns->n > 0 ? heads_add(&s->heads, &part) : ECG_OK;
    free(chosen);
    return status;
}

static enum ecg_status choose_outputs(struct subject *s, const char *list) {
    const struct heads *have = &s->network.meta.heads;
    struct names wanted = {0};
    enum ecg_status status;
    TRY(MEM_NEW(&s->output, (size_t)have->n_outputs));
    if (list != NULL) TRY(wanted_names(s, list, &wanted));
    for (int k = 0; k < have->n; k++)
        TRY_OUT(add_head(s, &have->v[k], list != NULL ? &wanted : NULL));
out:
    names_free(&wanted);
    return status;
}

/* Finds the columns that say what is true, of the heads' own names or by a map. */
static enum ecg_status take_truth(struct subject *s, const char *label_map) {
    if (label_map != NULL)
        return mapped_heads(&s->join, label_map, &s->network, &s->source, &s->heads, s->output);
    TRY(source_take_heads(&s->source, &s->heads, "--data"));
    return source_check_times(&s->source, &s->heads, "--data");
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
    TRY_OUT(source_truth(&s->source, &s->r.labels, &s->r.targets));
    s->r.n_labels = s->source.n_labels;
    s->r.n_targets = s->source.n_targets;
out:
    predictions_free(&p);
    free(by_id);
    free(row);
    return status;
}

/* ------------------------------------------------------------------ truth and report */

/* The chosen outputs alone. */
static enum ecg_status take_outputs(struct subject *s) {
    size_t k = (size_t)s->heads.n_outputs, all = (size_t)s->r.k;
    float *logits = NULL;
    TRY(MEM_NEW(&logits, s->r.n * k));
    for (size_t i = 0; i < s->r.n; i++)
        for (size_t c = 0; c < k; c++)
            logits[i * k + c] = s->r.logits[i * all + (size_t)s->output[c]];
    free(s->r.logits);
    s->r.logits = logits;
    s->r.k = (int)k;
    return ECG_OK;
}

static enum ecg_status report(struct subject *s, const char *out, bool silent) {
    struct outcome o = {0};
    struct evaluation e = {0};
    double *thresholds = NULL;
    char **ids = NULL;
    uint64_t *patients = NULL;
    size_t n = s->source.n;
    enum ecg_status status;
    TRY_OUT(take_outputs(s));
    TRY_OUT(MEM_NEW(&thresholds, (size_t)s->heads.n_outputs));
    for (int i = 0; i < s->heads.n_outputs; i++)
        thresholds[i] = s->network.meta.thresholds != NULL
                            ? s->network.meta.thresholds[s->output[i]]
                            : (double)NAN;
    TRY_OUT(outcome_make(&o, &s->heads, &s->r, thresholds));
    TRY_OUT(MEM_NEW(&ids, n));
    TRY_OUT(MEM_NEW(&patients, n));
    for (size_t i = 0; i < n; i++) {
        patients[i] = s->source.data->patient_hash[s->source.index[i]];
        TRY_OUT(dataset_record_id(s->source.data, s->source.index[i], &ids[i]));
    }
    o.in.record_ids = ids;
    o.in.patients = patients;
    o.in.intervals = true;
    TRY_OUT(evaluation_run(&e, &o.in));
    TRY_OUT(evaluation_write(&e, &o.in, out));
    if (!silent) evaluation_print(&e, &o.in, stdout);
out:
    evaluation_free(&e);
    outcome_free(&o);
    free(thresholds);
    free(patients);
    if (ids != NULL) h5_free_strings(ids, n);
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
    TRY_OUT(take_truth(&s, o->label_map));
    TRY_OUT(make_out(o->out, &made));
    if (o->predictions != NULL)
        TRY_OUT(read_predictions(&s, o->predictions));
    else
        TRY_OUT(run_network(&s, o));
    if (o->label_map != NULL) TRY_OUT(mapped_truth(&s.join, &s.source, &s.r));
    TRY_OUT(report(&s, o->out, o->silent));
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
    size_t columns = 0, k = (size_t)net.config.n_outputs;
    for (int i = 0; i < t->heads.n; i++)
        columns += (size_t)(t->heads.v[i].kind == HEAD_LABELS ? t->heads.v[i].n
                                                              : head_classes(&t->heads.v[i]));
    size_t row =
        sizeof(char *) + ID_BYTES + sizeof(uint64_t) + k * sizeof(float) + outcome_bytes(&t->heads);
    *bytes = m->parameters + m->packed + m->activations + m->scratch + infer_bytes(&net, &test, 1) +
             test.n * (row + EVALUATION_BYTES + columns * EVALUATION_INTERVAL_BYTES);
    net1d_free(&net);
    return ECG_OK;
}
