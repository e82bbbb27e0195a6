/* SPDX-License-Identifier: MIT
 * Names in, indices out: what a run takes from a data set. */
#include "train/run/source.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/conf.h"
#include "core/log.h"
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
    free(s->labels);
    free(s->targets);
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

static const struct names *kind_names(const struct source *s, bool targets) {
    return targets ? &s->data->schema.targets : &s->data->schema.labels;
}

/* Names what the user may have meant: the same name among the other kind's columns, else the nearest of this kind. */
static enum ecg_status no_column(const struct source *s, bool targets, const char *wanted,
                                 const char *key) {
    const struct names *have = kind_names(s, targets), *rest = kind_names(s, !targets);
    const char *kind = targets ? "target" : "label", *other = targets ? "label" : "target";
    if (have->n == 0)
        return ecg_fail(ECG_ERR_CONFIG, "%s: %s holds no %ss", key, s->data->path, kind);
    if (names_find(rest, wanted) >= 0)
        return ecg_fail(ECG_ERR_CONFIG, "%s: %s has no %s column %s; it is a %s there", key,
                        s->data->path, kind, wanted, other);
    char hint[CONF_HINT_MAX];
    return ecg_fail(ECG_ERR_CONFIG, "%s: %s has no %s column %s%s", key, s->data->path, kind,
                    wanted, conf_did_you_mean(hint, wanted, (const char *const *)have->v, have->n));
}

static enum ecg_status append_columns(struct source *s, bool targets, const struct names *wanted,
                                      const char *key) {
    int **list = targets ? &s->targets : &s->labels, *n = targets ? &s->n_targets : &s->n_labels;
    if (wanted->n == 0) return ECG_OK;
    int *longer = realloc(*list, (size_t)(*n + wanted->n) * sizeof(int));
    if (longer == NULL) return ecg_fail(ECG_ERR_NOMEM, "%s: no memory for its columns", key);
    *list = longer;
    for (int i = 0; i < wanted->n; i++) {
        int at = names_find(kind_names(s, targets), wanted->v[i]);
        if (at < 0) return no_column(s, targets, wanted->v[i], key);
        (*list)[(*n)++] = at;
    }
    return ECG_OK;
}

enum ecg_status source_take_columns(struct source *s, bool targets, const struct names *wanted,
                                    const char *key) {
    *(targets ? &s->n_targets : &s->n_labels) = 0;
    return append_columns(s, targets, wanted, key);
}

enum ecg_status source_take_heads(struct source *s, const struct heads *heads, const char *key) {
    s->n_labels = s->n_targets = 0;
    for (int i = 0; i < heads->n; i++) {
        TRY(append_columns(s, false, &heads->v[i].labels, key));
        TRY(append_columns(s, true, &heads->v[i].targets, key));
    }
    return ECG_OK;
}

const char *source_label_name(const struct source *s, int i) {
    return s->data->schema.labels.v[s->labels[i]];
}

const char *source_target_name(const struct source *s, int i) {
    return s->data->schema.targets.v[s->targets[i]];
}

/* ------------------------------------------------------------------ what is known of them */

/* A record's labels and targets, all columns of the data set. */
struct row {
    uint8_t *labels;
    float *targets;
};

static void row_free(struct row *r) {
    free(r->labels);
    free(r->targets);
}

static enum ecg_status row_make(const struct source *s, struct row *r) {
    *r = (struct row){0};
    enum ecg_status status = MEM_NEW(&r->labels, (size_t)s->data->schema.labels.n);
    if (status == ECG_OK) status = MEM_NEW(&r->targets, (size_t)s->data->schema.targets.n);
    if (status != ECG_OK) row_free(r);
    return status;
}

static enum ecg_status row_read(struct source *s, size_t i, struct row *r) {
    if (s->n_labels > 0) TRY(dataset_labels(s->data, s->index[i], r->labels));
    if (s->n_targets > 0) TRY(dataset_targets(s->data, s->index[i], r->targets));
    return ECG_OK;
}

void source_counts_free(struct source_counts *c) {
    free(c->present);
    free(c->absent);
    free(c->known);
    *c = (struct source_counts){0};
}

enum ecg_status source_count(struct source *s, struct source_counts *c) {
    struct row row;
    *c = (struct source_counts){0};
    TRY(row_make(s, &row));
    enum ecg_status status;
    TRY_OUT(MEM_NEW(&c->present, (size_t)s->n_labels));
    TRY_OUT(MEM_NEW(&c->absent, (size_t)s->n_labels));
    TRY_OUT(MEM_NEW(&c->known, (size_t)s->n_targets));
    for (size_t r = 0; r < s->n; r++) {
        TRY_OUT(row_read(s, r, &row));
        for (int i = 0; i < s->n_labels; i++) {
            c->present[i] += row.labels[s->labels[i]] == 1;
            c->absent[i] += row.labels[s->labels[i]] == 0;
        }
        for (int i = 0; i < s->n_targets; i++) c->known[i] += !isnan(row.targets[s->targets[i]]);
    }
out:
    row_free(&row);
    if (status != ECG_OK) source_counts_free(c);
    return status;
}

static enum ecg_status unknown_column(const struct source *s, const char *name, const char *key) {
    return ecg_fail(ECG_ERR_DATA, "%s: %s: column %s is unknown in all %zu records", key,
                    s->data->path, name, s->n);
}

enum ecg_status source_check_counts(const struct source *s, const struct source_counts *c,
                                    bool allow_absent, const char *key) {
    for (int i = 0; i < s->n_labels; i++) {
        const char *name = source_label_name(s, i);
        if (c->present[i] + c->absent[i] == 0) return unknown_column(s, name, key);
        if (c->present[i] > 0) continue;
        if (!allow_absent)
            return ecg_fail(
                ECG_ERR_DATA,
                "%s: %s: label %s is present in none of %zu records: it can't be learnt; "
                "leave it out, or set data.allow_absent",
                key, s->data->path, name, s->n);
        log_warn("%s: label %s is present in none of %zu records", key, name, s->n);
    }
    for (int i = 0; i < s->n_targets; i++)
        if (c->known[i] == 0) return unknown_column(s, source_target_name(s, i), key);
    return ECG_OK;
}

static enum ecg_status bad_time(struct source *s, size_t i, int column, float time,
                                const char *key) {
    char *id = NULL;
    TRY(dataset_record_id(s->data, s->index[i], &id));
    enum ecg_status status =
        ecg_fail(ECG_ERR_DATA, "%s: %s: record %s: %s is %g: the time to an event must be above 0",
                 key, s->data->path, id, source_target_name(s, column), (double)time);
    free(id);
    return status;
}

enum ecg_status source_check_times(struct source *s, const struct heads *heads, const char *key) {
    bool *is_time = NULL, any = false;
    struct row row = {0};
    enum ecg_status status;
    TRY_OUT(MEM_NEW(&is_time, (size_t)s->n_targets));
    for (int k = 0, at = 0; k < heads->n; at += heads->v[k++].targets.n)
        if (heads->v[k].kind == HEAD_COX || heads->v[k].kind == HEAD_HAZARD)
            any = is_time[at] = true;
    if (any) TRY_OUT(row_make(s, &row));
    for (size_t r = 0; r < s->n && any; r++) {
        TRY_OUT(row_read(s, r, &row));
        for (int i = 0; i < s->n_targets; i++) {
            float time = row.targets[s->targets[i]];
            if (is_time[i] && !isnan(time) && !(time > 0)) TRY_OUT(bad_time(s, r, i, time, key));
        }
    }
out:
    row_free(&row);
    free(is_time);
    return status;
}

enum ecg_status source_truth(struct source *s, uint8_t **labels, float **targets) {
    struct row row;
    size_t n_labels = (size_t)s->n_labels, n_targets = (size_t)s->n_targets;
    *labels = NULL;
    *targets = NULL;
    TRY(row_make(s, &row));
    enum ecg_status status;
    if (n_labels > 0) TRY_OUT(MEM_NEW(labels, s->n * n_labels));
    if (n_targets > 0) TRY_OUT(MEM_NEW(targets, s->n * n_targets));
    for (size_t r = 0; r < s->n; r++) {
        TRY_OUT(row_read(s, r, &row));
        for (size_t i = 0; i < n_labels; i++)
            (*labels)[r * n_labels + i] = row.labels[s->labels[i]];
        for (size_t i = 0; i < n_targets; i++)
            (*targets)[r * n_targets + i] = row.targets[s->targets[i]];
    }
out:
    row_free(&row);
    return status;
}

/* ------------------------------------------------------------------ batches */

int source_batch(const struct source *s, int wanted) {
    return s->n < (size_t)wanted ? (int)s->n : wanted;
}

struct loader_options source_loader(const struct source *s, int batch_size, int workers) {
    return (struct loader_options){.index = s->index,
                                   .n = s->n,
                                   .label_columns = s->labels,
                                   .n_labels = s->n_labels,
                                   .target_columns = s->targets,
                                   .n_targets = s->n_targets,
                                   .batch_size = batch_size,
                                   .workers = workers,
                                   .columns_only = s->embeddings.rows != NULL};
}

struct feed_format source_format(const struct source *s, bool with_truth) {
    bool targets = s->n_targets > 0;
    return (struct feed_format){.n_file_leads = s->data->schema.leads.n,
                                .length = s->data->schema.length,
                                .lead = s->lead,
                                .n_columns = !with_truth ? 0
                                             : targets   ? s->n_targets
                                                         : s->n_labels,
                                .targets = targets,
                                .embeddings = s->embeddings.rows != NULL ? &s->embeddings : NULL};
}
