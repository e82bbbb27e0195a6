/* SPDX-License-Identifier: MIT
 * From head.*, heads and loss.* to what is predicted and how it is learnt. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "train/run/config.h"

/* ------------------------------------------------------------------ reading */

struct head_config config_only_head(const struct config *c) {
    return (struct head_config){.labels = c->head.labels,
                                .targets = c->head.targets,
                                .event = c->head.event,
                                .time = c->head.time,
                                .weight = 1,
                                .loss = c->loss};
}

static bool names_head(const struct config *c) {
    return c->head.labels.n > 0 || c->head.targets.n > 0 || c->head.event != NULL ||
           c->head.time != NULL;
}

bool config_names_heads(const struct config *c) {
    return c->n_heads > 0 || names_head(c);
}

/* "head.labels" or "heads[1].labels", as the config has it. */
static enum ecg_status wrong(const char *where, const char *what) {
    return ecg_fail(ECG_ERR_CONFIG, "%s: %s", where, what);
}

static bool takes_labels(enum objective_kind k, const struct loss_config *loss) {
    if (k == OBJECTIVE_ORDINAL) return loss->bins == NULL;
    return k <= OBJECTIVE_ASL || k == OBJECTIVE_SOFTMAX;
}

static bool takes_targets(enum objective_kind k, const struct loss_config *loss) {
    if (k == OBJECTIVE_ORDINAL) return loss->bins != NULL;
    return k == OBJECTIVE_MSE || k == OBJECTIVE_HUBER || k == OBJECTIVE_GAUSSIAN;
}

/* What a head asks for, and that its loss can learn it; auto becomes a loss. `targets`: without columns named, those are read. */
static enum ecg_status resolve(struct loss_config *loss, bool labels, bool targets, bool survival,
                               const char *where) {
    if (labels + targets + survival > 1)
        return wrong(
            where, "labels, targets, event and time are for different heads: use heads: [...] for "
                   "several");
    if (loss->name == 0)
        loss->name = 1 + (targets ? OBJECTIVE_MSE : survival ? OBJECTIVE_COX : OBJECTIVE_BCE);
    enum objective_kind k = (enum objective_kind)(loss->name - 1);
    const char *name = conf_choice_name(config_options, "loss.name", loss->name);
    bool of_time = k == OBJECTIVE_COX || k == OBJECTIVE_HAZARD;
    if (labels && !takes_labels(k, loss))
        return ecg_fail(ECG_ERR_CONFIG,
                        "%s: loss.name %s reads %s, and labels are asked for: use bce", where, name,
                        of_time ? "an event and a time" : "targets");
    if (targets && !takes_targets(k, loss))
        return ecg_fail(ECG_ERR_CONFIG,
                        "%s: loss.name %s reads %s, and targets are asked for: use mse%s", where,
                        name, of_time ? "an event and a time" : "labels",
                        k == OBJECTIVE_ORDINAL ? ", or give loss.bins" : "");
    if (survival && !of_time)
        return ecg_fail(ECG_ERR_CONFIG,
                        "%s: loss.name %s does not read an event and a time: use cox or hazard",
                        where, name);
    if (of_time && !survival)
        return ecg_fail(ECG_ERR_CONFIG,
                        "%s: loss.name %s needs an event and a time: "
                        "--set head.event=LABEL --set head.time=TARGET",
                        where, name);
    if (loss->bins != NULL && k != OBJECTIVE_ORDINAL && k != OBJECTIVE_HAZARD)
        return ecg_fail(ECG_ERR_CONFIG, "%s: loss.bins is for ordinal and hazard, not for %s",
                        where, name);
    if (loss->margin < 0) loss->margin = k == OBJECTIVE_ASL ? 0.05 : 1.0;
    return ECG_OK;
}

static enum ecg_status resolve_head(struct head_config *h, const char *where) {
    if ((h->event != NULL) != (h->time != NULL)) return wrong(where, "event and time go together");
    if (h->labels.n == 0 && h->targets.n == 0 && h->event == NULL)
        return wrong(where, "it must name labels, targets, or event and time");
    return resolve(&h->loss, h->labels.n > 0, h->targets.n > 0, h->event != NULL, where);
}

/* `loss: huber` is short for `loss: {name: huber}`. */
static enum ecg_status long_form(struct yaml_node *item) {
    for (size_t i = 0; item->kind == YAML_MAP && i < item->n; i++) {
        if (strcmp(item->keys[i], "loss") != 0 || item->items[i]->kind != YAML_SCALAR) continue;
        free(item->keys[i]);
        TRY(mem_strdup(&item->keys[i], "loss.name"));
    }
    return ECG_OK;
}

static enum ecg_status read_item(struct head_config *h, const struct yaml_node *item, int i) {
    char where[32];
    struct yaml_node *copy;
    snprintf(where, sizeof(where), "heads[%d]", i);
    TRY(conf_defaults(config_head_options, h));
    TRY(yaml_copy(&copy, item));
    enum ecg_status status = long_form(copy);
    if (status == ECG_OK) status = conf_read_node(config_head_options, h, copy, where);
    yaml_free(copy);
    return status == ECG_OK ? resolve_head(h, where) : status;
}

enum ecg_status config_read_heads(struct config *c) {
    if (c->heads == NULL) {
        if (names_head(c)) {
            struct head_config only = config_only_head(c);
            enum ecg_status status = resolve_head(&only, "head");
            c->loss = only.loss;
            return status;
        }
        return resolve(&c->loss, c->data.labels.n > 0 && c->data.targets.n == 0,
                       c->data.targets.n > 0 && c->data.labels.n == 0, false, "data");
    }
    if (names_head(c))
        return ecg_fail(ECG_ERR_CONFIG, "heads and head.labels, head.targets, head.event or "
                                        "head.time are both set: name all heads in one of them");
    if (c->heads->kind != YAML_LIST || c->heads->n == 0 || c->heads->n > HEADS_MAX)
        return ecg_fail(ECG_ERR_CONFIG,
                        "heads must be a list of 1 to %d heads, each a map: "
                        "[{targets: [age], loss: huber}, {labels: [male]}]",
                        HEADS_MAX);
    TRY(MEM_NEW(&c->head_list, c->heads->n));
    for (size_t i = 0; i < c->heads->n; i++) {
        c->n_heads++;
        TRY(read_item(&c->head_list[i], c->heads->items[i], (int)i));
    }
    return ECG_OK;
}

void config_free_heads(struct config *c) {
    for (int i = 0; i < c->n_heads; i++) conf_free(config_head_options, &c->head_list[i]);
    free(c->head_list);
    c->head_list = NULL;
    c->n_heads = 0;
}

/* ------------------------------------------------------------------ one head */

static enum ecg_status numbers(const struct yaml_node *list, const char *head, const char *key,
                               double **v, int *n) {
    *n = 0;
    if (list == NULL) return ECG_OK;
    size_t count = list->kind == YAML_LIST ? list->n : 1;
    TRY(MEM_NEW(v, count));
    for (size_t i = 0; i < count; i++) {
        const struct yaml_node *item = list->kind == YAML_LIST ? list->items[i] : list;
        if (yaml_number(item, &(*v)[i])) continue;
        free(*v);
        *v = NULL;
        return ecg_fail(ECG_ERR_CONFIG, "head %s: %s must be a list of numbers", head, key);
    }
    *n = (int)count;
    return ECG_OK;
}

static enum head_kind kind_of(enum objective_kind k) {
    switch (k) {
    case OBJECTIVE_MSE:
    case OBJECTIVE_HUBER:
        return HEAD_TARGETS;
    case OBJECTIVE_SOFTMAX:
        return HEAD_CLASSES;
    case OBJECTIVE_ORDINAL:
        return HEAD_ORDINAL;
    case OBJECTIVE_GAUSSIAN:
        return HEAD_GAUSSIAN;
    case OBJECTIVE_COX:
        return HEAD_COX;
    case OBJECTIVE_HAZARD:
        return HEAD_HAZARD;
    case OBJECTIVE_BCE:
    case OBJECTIVE_HILL:
    case OBJECTIVE_FOCAL:
    case OBJECTIVE_ASL:
        break;
    }
    return HEAD_LABELS;
}

static const char *default_name(const struct head_config *h, enum objective_kind k) {
    if (h->name != NULL) return h->name;
    if (h->event != NULL) return h->event;
    if (h->labels.n == 1) return h->labels.v[0];
    if (h->targets.n == 1) return h->targets.v[0];
    return kind_of(k) == HEAD_CLASSES ? "classes" : h->labels.n > 0 ? "labels" : "targets";
}

static enum ecg_status copy_columns(const struct head_config *h, struct head *head) {
    char *event = h->event, *time = h->time;
    struct names labels = {(int)h->labels.n, h->labels.v},
                 targets = {(int)h->targets.n, h->targets.v};
    if (h->event != NULL) labels = (struct names){1, &event}, targets = (struct names){1, &time};
    TRY(names_copy(&head->labels, &labels));
    return names_copy(&head->targets, &targets);
}

enum ecg_status config_head(const struct head_config *h, struct head *head,
                            struct objective *objective) {
    enum objective_kind k = (enum objective_kind)(h->loss.name - 1);
    struct ops_loss loss = {.lambda = h->loss.lambda,
                            .focal_margin = h->loss.positive,
                            .margin = h->loss.margin,
                            .gamma = h->loss.gamma,
                            .alpha = h->loss.alpha,
                            .gamma_pos = h->loss.gamma_pos,
                            .gamma_neg = h->loss.gamma_neg,
                            .delta = h->loss.delta};
    *head = (struct head){.kind = kind_of(k)};
    TRY(objective_init(objective, k, &loss));
    enum ecg_status status = mem_strdup(&head->name, default_name(h, k));
    if (status == ECG_OK) status = copy_columns(h, head);
    bool wants_bins = k == OBJECTIVE_ORDINAL || k == OBJECTIVE_HAZARD;
    if (status == ECG_OK && wants_bins)
        status = numbers(h->loss.bins, head->name, "loss.bins", &head->bins, &head->n_bins);
    if (status != ECG_OK) config_head_free(head);
    return status;
}

void config_head_free(struct head *head) {
    free(head->name);
    names_free(&head->labels);
    names_free(&head->targets);
    free(head->bins);
    *head = (struct head){0};
}

enum ecg_status config_pos_weight(const struct head_config *h, const struct head *head,
                                  bool *inverse, double *weight) {
    const struct yaml_node *v = h->loss.pos_weight;
    double *list = NULL;
    int count = 0, n = head->labels.n;
    *inverse = v->kind == YAML_SCALAR && strcmp(v->text, "inverse") == 0;
    if (*inverse) return ECG_OK;
    TRY(numbers(v, head->name, "loss.pos_weight", &list, &count));
    enum ecg_status status = ECG_OK;
    if (count != n)
        status =
            ecg_fail(ECG_ERR_CONFIG,
                     "head %s: loss.pos_weight: %d numbers for %d labels: one each, or inverse",
                     head->name, count, n);
    for (int i = 0; i < n && status == ECG_OK; i++) {
        weight[i] = list[i];
        if (!(list[i] > 0 && list[i] <= 1e9))
            status = ecg_fail(ECG_ERR_CONFIG, "head %s: loss.pos_weight: %g is outside 0 .. 1e9",
                              head->name, list[i]);
    }
    free(list);
    return status;
}
