/* SPDX-License-Identifier: MIT
 * Columns of each head, copied to where evaluation looks for them. */
#include "train/run/outcome.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

/* One head with its columns in the rows of `r`. */
struct part {
    const struct head *head;
    const struct inferred *r;
    size_t label, target; /* first of its columns in a row of the truth */
};

static const float *outputs(const struct part *p, size_t i) {
    return p->r->logits + i * (size_t)p->r->k + (size_t)p->head->first;
}

static const uint8_t *labels(const struct part *p, size_t i) {
    return p->r->labels != NULL ? p->r->labels + i * (size_t)p->r->n_labels + p->label : NULL;
}

static const float *targets(const struct part *p, size_t i) {
    return p->r->targets != NULL ? p->r->targets + i * (size_t)p->r->n_targets + p->target : NULL;
}

static bool is_group(const struct head *h) {
    return h->kind == HEAD_CLASSES || h->kind == HEAD_ORDINAL;
}

static bool is_survival(const struct head *h) {
    return h->kind == HEAD_COX || h->kind == HEAD_HAZARD;
}

static bool is_regression(const struct head *h) {
    return h->kind == HEAD_TARGETS || h->kind == HEAD_GAUSSIAN;
}

/* Memory that outcome_free gives back. */
static enum ecg_status take(struct outcome *o, void *pointer, size_t n, size_t size) {
    TRY(mem_alloc(&o->memory[o->n_memory], n, size));
    memcpy(pointer, &o->memory[o->n_memory++], sizeof(void *));
    return ECG_OK;
}

/* ------------------------------------------------------------------ labels and targets */

static void add_labels(struct outcome *o, const struct part *p, const double *thresholds) {
    size_t K = o->in.n_labels, at = (size_t)o->labels.n, n = (size_t)p->head->n;
    for (size_t c = 0; c < n; c++) {
        o->labels.v[o->labels.n++] = p->head->labels.v[c];
        o->thresholds[at + c] = thresholds != NULL ? thresholds[(size_t)p->head->first + c] : NAN;
    }
    for (size_t i = 0; i < p->r->n; i++) {
        memcpy(o->logits + i * K + at, outputs(p, i), n * sizeof(float));
        memcpy(o->label_truth + i * K + at, labels(p, i), n);
    }
}

static void add_targets(struct outcome *o, const struct part *p) {
    size_t T = o->in.n_targets, at = (size_t)o->targets.n, n = (size_t)p->head->targets.n;
    for (size_t c = 0; c < n; c++) o->targets.v[o->targets.n++] = p->head->targets.v[c];
    for (size_t i = 0; i < p->r->n; i++) {
        const float *z = outputs(p, i);
        memcpy(o->predictions + i * T + at, z, n * sizeof(float));
        memcpy(o->target_truth + i * T + at, targets(p, i), n * sizeof(float));
        for (size_t c = 0; c < n; c++)
            o->sds[i * T + at + c] =
                p->head->kind == HEAD_GAUSSIAN ? head_sd((double)z[n + c]) : NAN;
    }
}

/* ------------------------------------------------------------------ classes and times */

static enum ecg_status name_classes(struct outcome *o, const struct head *h, char **names, int n) {
    char text[HEAD_NAME_MAX];
    for (int k = 0; k < n; k++) {
        head_class_name(h, k, text);
        TRY(take(o, &names[k], strlen(text) + 1, 1));
        strcpy(names[k], text);
    }
    return ECG_OK;
}

static enum ecg_status add_group(struct outcome *o, const struct part *p) {
    struct evaluation_classes *g = &o->groups[o->in.n_groups];
    int n = head_classes(p->head), *truth;
    float *scores;
    double logit[HEAD_CLASSES_MAX];
    char **names;
    TRY(take(o, &scores, p->r->n * (size_t)n, sizeof(float)));
    TRY(take(o, &truth, p->r->n, sizeof(int)));
    TRY(take(o, &names, (size_t)n, sizeof(char *)));
    TRY(name_classes(o, p->head, names, n));
    for (size_t i = 0; i < p->r->n; i++) {
        head_class_logits(p->head, outputs(p, i), logit);
        for (int k = 0; k < n; k++) scores[i * (size_t)n + (size_t)k] = (float)logit[k];
        truth[i] = head_class(p->head, labels(p, i), targets(p, i));
    }
    *g = (struct evaluation_classes){.name = p->head->name,
                                     .n_classes = (size_t)n,
                                     .class_names = names,
                                     .is_ordered = p->head->kind == HEAD_ORDINAL,
                                     .scores = scores,
                                     .truth = truth};
    o->in.n_groups++;
    return ECG_OK;
}

static enum ecg_status add_survival(struct outcome *o, const struct part *p) {
    float *risk, *time;
    uint8_t *event;
    TRY(take(o, &risk, p->r->n, sizeof(float)));
    TRY(take(o, &time, p->r->n, sizeof(float)));
    TRY(take(o, &event, p->r->n, 1));
    for (size_t i = 0; i < p->r->n; i++) {
        risk[i] = (float)head_risk(p->head, outputs(p, i));
        time[i] = *targets(p, i);
        event[i] = *labels(p, i);
    }
    o->survivals[o->in.n_survivals++] = (struct evaluation_survival){
        .name = p->head->name, .risk = risk, .event = event, .time = time};
    return ECG_OK;
}

/* ------------------------------------------------------------------ all */

static enum ecg_status make_room(struct outcome *o, const struct heads *heads, size_t n) {
    size_t n_memory = 0;
    for (int k = 0; k < heads->n; k++) {
        const struct head *h = &heads->v[k];
        if (h->kind == HEAD_LABELS) o->in.n_labels += (size_t)h->n;
        if (is_regression(h)) o->in.n_targets += (size_t)h->targets.n;
        n_memory += 3 + (size_t)head_classes(h);
    }
    size_t K = o->in.n_labels, T = o->in.n_targets;
    TRY(MEM_NEW(&o->labels.v, K));
    TRY(MEM_NEW(&o->thresholds, K));
    TRY(MEM_NEW(&o->logits, n * K));
    TRY(MEM_NEW(&o->label_truth, n * K));
    TRY(MEM_NEW(&o->targets.v, T));
    TRY(MEM_NEW(&o->predictions, n * T));
    TRY(MEM_NEW(&o->sds, n * T));
    TRY(MEM_NEW(&o->target_truth, n * T));
    TRY(MEM_NEW(&o->groups, (size_t)heads->n));
    TRY(MEM_NEW(&o->survivals, (size_t)heads->n));
    return MEM_NEW(&o->memory, n_memory);
}

static void link_input(struct outcome *o, bool has_sds) {
    o->in.label_names = o->labels.v;
    o->in.logits = o->logits;
    o->in.labels = o->label_truth;
    o->in.thresholds = o->thresholds;
    o->in.target_names = o->targets.v;
    o->in.predictions = o->predictions;
    o->in.targets = o->target_truth;
    o->in.sds = has_sds ? o->sds : NULL;
    o->in.groups = o->groups;
    o->in.survivals = o->survivals;
}

static enum ecg_status fill(struct outcome *o, const struct heads *heads, const struct inferred *r,
                            const double *thresholds) {
    struct part p = {.r = r};
    bool has_sds = false;
    TRY(make_room(o, heads, r->n));
    for (int k = 0; k < heads->n; k++) {
        p.head = &heads->v[k];
        if (p.head->kind == HEAD_LABELS) add_labels(o, &p, thresholds);
        if (is_regression(p.head)) add_targets(o, &p);
        if (is_group(p.head)) TRY(add_group(o, &p));
        if (is_survival(p.head)) TRY(add_survival(o, &p));
        has_sds = has_sds || p.head->kind == HEAD_GAUSSIAN;
        p.label += (size_t)p.head->labels.n;
        p.target += (size_t)p.head->targets.n;
    }
    link_input(o, has_sds);
    return ECG_OK;
}

enum ecg_status outcome_make(struct outcome *o, const struct heads *heads, const struct inferred *r,
                             const double *thresholds) {
    *o = (struct outcome){.in = {.n = r->n}};
    enum ecg_status status = fill(o, heads, r, thresholds);
    if (status != ECG_OK) outcome_free(o);
    return status;
}

void outcome_free(struct outcome *o) {
    for (size_t i = 0; i < o->n_memory; i++) free(o->memory[i]);
    free(o->memory);
    free(o->labels.v);
    free(o->thresholds);
    free(o->logits);
    free(o->label_truth);
    free(o->targets.v);
    free(o->predictions);
    free(o->sds);
    free(o->target_truth);
    free(o->groups);
    free(o->survivals);
    *o = (struct outcome){0};
}

size_t outcome_bytes(const struct heads *heads) {
    size_t bytes = 0;
    for (int k = 0; k < heads->n; k++) {
        const struct head *h = &heads->v[k];
        if (h->kind == HEAD_LABELS) bytes += (size_t)h->n * (sizeof(float) + 1);
        if (is_regression(h)) bytes += (size_t)h->targets.n * 3 * sizeof(float);
        if (is_group(h)) bytes += (size_t)head_classes(h) * sizeof(float) + sizeof(int);
        if (is_survival(h)) bytes += 2 * sizeof(float) + 1;
    }
    return bytes;
}
