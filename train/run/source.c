/* SPDX-License-Identifier: MIT
 * Names in, indices out: what a run takes from a data set. */
#include "train/run/source.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/conf.h"
#include "core/mem.h"

enum ecg_status source_open(struct source *s, const struct selection_spec *spec, const char *key) {
    memset(s, 0, sizeof(*s));
    enum ecg_status status = dataset_open(&s->data, spec->path);
    if (status == ECG_OK) status = selection_make(s->data, spec, &s->index, &s->n);
    if (status == ECG_OK) return ECG_OK;
    source_close(s);
    return ecg_fail_prefix(status, "%s: ", key);
}

void source_close(struct source *s) {
    dataset_close(s->data);
    free(s->index);
    free(s->columns);
    embeddings_free(&s->embeddings);
    memset(s, 0, sizeof(*s));
}

enum ecg_status source_take_leads(struct source *s, const struct leads *leads, const char *key) {
    const struct leads *have = &s->data->schema.leads;
    s->n_leads = leads->n > 0 ? leads->n : have->n;
    for (int c = 0; c < s->n_leads; c++) {
        s->lead[c] = leads->n > 0 ? leads_find(have, leads->name[c]) : c;
        if (s->lead[c] >= 0) continue;
        char *list = NULL;
        TRY(leads_format(have, &list));
        enum ecg_status status = ecg_fail(ECG_ERR_CONFIG, "%s: %s has no lead %s; it holds %s", key,
                                          s->data->path, leads->name[c], list);
        free(list);
        return status;
    }
    return ECG_OK;
}

static const struct names *kind_names(const struct source *s) {
    return s->targets ? &s->data->schema.targets : &s->data->schema.labels;
}

/* Names what the user may have meant: the same name among the other kind's columns, else the nearest of this kind. */
static enum ecg_status no_column(const struct source *s, const char *wanted, const char *key) {
    const struct names *have = kind_names(s);
    const char *kind = s->targets ? "target" : "label", *other = s->targets ? "label" : "target";
    const struct names *rest = s->targets ? &s->data->schema.labels : &s->data->schema.targets;
    if (names_find(rest, wanted) >= 0)
        return ecg_fail(ECG_ERR_CONFIG, "%s: %s has no %s column %s; it is a %s there", key,
                        s->data->path, kind, wanted, other);
    char hint[CONF_HINT_MAX];
    return ecg_fail(ECG_ERR_CONFIG, "%s: %s has no %s column %s%s", key, s->data->path, kind,
                    wanted, conf_did_you_mean(hint, wanted, (const char *const *)have->v, have->n));
}

enum ecg_status source_take_columns(struct source *s, bool targets, const struct names *wanted,
                                    const char *key) {
    s->targets = targets;
    const struct names *have = kind_names(s);
    if (have->n == 0)
        return ecg_fail(ECG_ERR_CONFIG, "%s: %s holds no %s", key, s->data->path,
                        targets ? "targets" : "labels");
    free(s->columns);
    s->n_columns = wanted->n > 0 ? wanted->n : have->n;
    TRY(MEM_NEW(&s->columns, (size_t)s->n_columns));
    for (int i = 0; i < s->n_columns; i++) {
        s->columns[i] = wanted->n > 0 ? names_find(have, wanted->v[i]) : i;
        if (s->columns[i] < 0) return no_column(s, wanted->v[i], key);
    }
    return ECG_OK;
}

const char *source_column_name(const struct source *s, int i) {
    return kind_names(s)->v[s->columns[i]];
}

enum ecg_status source_column_names(const struct source *s, struct names *out) {
    *out = (struct names){0};
    TRY(MEM_NEW(&out->v, (size_t)s->n_columns));
    for (; out->n < s->n_columns; out->n++) {
        enum ecg_status status = mem_strdup(&out->v[out->n], source_column_name(s, out->n));
        if (status == ECG_OK) continue;
        names_free(out);
        return status;
    }
    return ECG_OK;
}

/* Marks the columns that record `i` knows; returns through *status what reading found. */
static enum ecg_status mark_known(struct source *s, size_t i, uint8_t *labels, float *targets,
                                  bool *known) {
    if (s->targets) {
        TRY(dataset_targets(s->data, i, targets));
    } else {
        TRY(dataset_labels(s->data, i, labels));
    }
    for (int c = 0; c < s->n_columns; c++)
        if (s->targets ? !isnan(targets[s->columns[c]])
                       : labels[s->columns[c]] != SHARD_LABEL_UNKNOWN)
            known[c] = true;
    return ECG_OK;
}

enum ecg_status source_check_known(struct source *s, const char *key) {
    uint8_t *labels = NULL;
    float *targets = NULL;
    bool *known = NULL;
    enum ecg_status status;
    TRY_OUT(MEM_NEW(&labels, (size_t)s->data->schema.labels.n));
    TRY_OUT(MEM_NEW(&targets, (size_t)s->data->schema.targets.n));
    TRY_OUT(MEM_NEW(&known, (size_t)s->n_columns));
    int left = s->n_columns;
    for (size_t r = 0; r < s->n && left > 0; r++) {
        TRY_OUT(mark_known(s, s->index[r], labels, targets, known));
        left = 0;
        for (int c = 0; c < s->n_columns; c++) left += !known[c];
    }
    for (int c = 0; c < s->n_columns; c++)
        if (!known[c]) {
            status = ecg_fail(ECG_ERR_DATA, "%s: %s: column %s is unknown in all %zu records", key,
                              s->data->path, source_column_name(s, c), s->n);
            break;
        }
out:
    free(labels);
    free(targets);
    free(known);
    return status;
}

int source_batch(const struct source *s, int wanted) {
    return s->n < (size_t)wanted ? (int)s->n : wanted;
}

struct loader_options source_loader(const struct source *s, int batch_size, int workers) {
    return (struct loader_options){.index = s->index,
                                   .n = s->n,
                                   .label_columns = s->targets ? NULL : s->columns,
                                   .n_labels = s->targets ? 0 : s->n_columns,
                                   .target_columns = s->targets ? s->columns : NULL,
                                   .n_targets = s->targets ? s->n_columns : 0,
                                   .batch_size = batch_size,
                                   .workers = workers,
                                   .columns_only = s->embeddings.rows != NULL};
}

struct feed_format source_format(const struct source *s) {
    return (struct feed_format){.n_file_leads = s->data->schema.leads.n,
                                .length = s->data->schema.length,
                                .lead = s->lead,
                                .n_columns = s->n_columns,
                                .targets = s->targets,
                                .embeddings = s->embeddings.rows != NULL ? &s->embeddings : NULL};
}
