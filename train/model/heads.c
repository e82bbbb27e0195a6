/* SPDX-License-Identifier: MIT
 * Heads as a list: made, copied into metadata and read back. */
#include "train/model/heads.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

/* In the order of enum head_kind. */
static const char *const kind_names[] = {"labels",   "classes", "ordinal", "targets",
                                         "gaussian", "cox",     "hazard"};
#define N_KINDS ((int)(sizeof(kind_names) / sizeof(*kind_names)))

/* ------------------------------------------------------------------ one head */

int head_classes(const struct head *h) {
    if (h->kind == HEAD_CLASSES) return h->labels.n;
    if (h->kind != HEAD_ORDINAL) return 0;
    return h->n_bins > 0 ? h->n_bins + 1 : h->labels.n;
}

static int outputs_of(const struct head *h) {
    switch (h->kind) {
    case HEAD_LABELS:
    case HEAD_CLASSES:
        return h->labels.n;
    case HEAD_ORDINAL:
        return head_classes(h) - 1;
    case HEAD_TARGETS:
        return h->targets.n;
    case HEAD_GAUSSIAN:
        return 2 * h->targets.n;
    case HEAD_COX:
        return 1;
    case HEAD_HAZARD:
        return h->n_bins;
    }
    return 0;
}

void head_class_name(const struct head *h, int k, char text[HEAD_NAME_MAX]) {
    if (h->n_bins == 0)
        snprintf(text, HEAD_NAME_MAX, "%s", h->labels.v[k]);
    else if (k == 0)
        snprintf(text, HEAD_NAME_MAX, "%s<%g", h->targets.v[0], h->bins[0]);
    else if (k == h->n_bins)
        snprintf(text, HEAD_NAME_MAX, "%s>=%g", h->targets.v[0], h->bins[k - 1]);
    else
        snprintf(text, HEAD_NAME_MAX, "%g<=%s<%g", h->bins[k - 1], h->targets.v[0], h->bins[k]);
}

int head_class(const struct head *h, const unsigned char *labels, const float *targets) {
    if (h->n_bins > 0) {
        int k = 0;
        if (isnan(targets[0])) return -1;
        while (k < h->n_bins && (double)targets[0] >= h->bins[k]) k++;
        return k;
    }
    int found = -1;
    for (int i = 0; i < h->labels.n; i++) {
        if (labels[i] != 1) continue;
        if (found >= 0) return -1;
        found = i;
    }
    return found;
}

/* Into text, or where the name already stands. */
static const char *output_name(const struct head *h, int i, char text[HEAD_NAME_MAX]) {
    char class_name[HEAD_NAME_MAX];
    switch (h->kind) {
    case HEAD_LABELS:
    case HEAD_CLASSES:
        return h->labels.v[i];
    case HEAD_TARGETS:
        return h->targets.v[i];
    case HEAD_GAUSSIAN:
        if (i < h->targets.n) return h->targets.v[i];
        snprintf(text, HEAD_NAME_MAX, "%.270s: log variance", h->targets.v[i - h->targets.n]);
        return text;
    case HEAD_ORDINAL:
        head_class_name(h, i, class_name);
        snprintf(text, HEAD_NAME_MAX, "%.200s: %.90s", h->name, class_name);
        return text;
    case HEAD_COX:
        return h->name;
    case HEAD_HAZARD:
        snprintf(text, HEAD_NAME_MAX, "%.250s: to %g", h->name, h->bins[i]);
        return text;
    }
    return h->name;
}

/* ------------------------------------------------------------------ the list */

static void head_free(struct head *h) {
    free(h->name);
    names_free(&h->labels);
    names_free(&h->targets);
    free(h->bins);
}

void heads_free(struct heads *h) {
    for (int i = 0; i < h->n; i++) head_free(&h->v[i]);
    free(h->v);
    *h = (struct heads){0};
}

static enum ecg_status bad(const struct head *h, const char *what) {
    return ecg_fail(ECG_ERR_CONFIG, "head %s (%s): %s", h->name, kind_names[h->kind], what);
}

static enum ecg_status check_bins(const struct head *h) {
    for (int i = 0; i < h->n_bins; i++)
        if (!isfinite(h->bins[i]) || (i > 0 && !(h->bins[i] > h->bins[i - 1])))
            return bad(h, "its bins must be finite numbers that rise");
    if (h->n_bins > HEAD_BINS_MAX) return bad(h, "too many bins");
    return ECG_OK;
}

static enum ecg_status check(const struct heads *all, const struct head *h) {
    bool survival = h->kind == HEAD_COX || h->kind == HEAD_HAZARD;
    if (*h->name == 0 || strchr(h->name, '\n') != NULL)
        return ecg_fail(ECG_ERR_CONFIG, "the name of a head must be a line of text");
    for (int i = 0; i < all->n; i++)
        if (strcmp(all->v[i].name, h->name) == 0) return bad(h, "another head has this name");
    if (all->n == HEADS_MAX) return bad(h, "too many heads");
    TRY(check_bins(h));
    if (survival && (h->labels.n != 1 || h->targets.n != 1))
        return bad(h, "it needs an event (a label) and a time (a target)");
    if (h->kind == HEAD_HAZARD && (h->n_bins < 1 || !(h->bins[0] > 0)))
        return bad(h, "loss.bins must list the ends of its intervals, all above 0");
    if (h->kind == HEAD_ORDINAL && h->n_bins > 0 && (h->targets.n != 1 || h->labels.n > 0))
        return bad(h, "loss.bins cut one target into classes: give one target and no labels");
    if (head_classes(h) > HEAD_CLASSES_MAX) return bad(h, "too many classes");
    if ((h->kind == HEAD_CLASSES || h->kind == HEAD_ORDINAL) && head_classes(h) < 2)
        return bad(h, "it needs two classes or more: a label each, or loss.bins of a target");
    if (outputs_of(h) < 1) return bad(h, "it names no column");
    return ECG_OK;
}

static enum ecg_status copy(struct head *to, const struct head *h) {
    *to = *h;
    to->name = NULL;
    to->labels = to->targets = (struct names){0};
    to->bins = NULL;
    TRY(mem_strdup(&to->name, h->name));
    TRY(names_copy(&to->labels, &h->labels));
    TRY(names_copy(&to->targets, &h->targets));
    if (h->n_bins == 0) return ECG_OK;
    TRY(MEM_NEW(&to->bins, (size_t)h->n_bins));
    memcpy(to->bins, h->bins, (size_t)h->n_bins * sizeof(double));
    return ECG_OK;
}

/* Outputs are told apart by their names. */
static bool has_output(const struct head *h, int n, const char *name) {
    char other[HEAD_NAME_MAX];
    for (int i = 0; i < n; i++)
        if (strcmp(name, output_name(h, i, other)) == 0) return true;
    return false;
}

static enum ecg_status check_names(const struct heads *all, const struct head *h) {
    char text[HEAD_NAME_MAX];
    for (int i = 0; i < h->labels.n; i++)
        for (int k = 0; k < i; k++)
            if (strcmp(h->labels.v[i], h->labels.v[k]) == 0)
                return ecg_fail(ECG_ERR_CONFIG, "head %s (%s): label %s stands twice", h->name,
                                kind_names[h->kind], h->labels.v[i]);
    for (int i = 0; i < outputs_of(h); i++) {
        const char *name = output_name(h, i, text);
        bool twice = has_output(h, i, name);
        for (int k = 0; k < all->n; k++) twice = twice || has_output(&all->v[k], all->v[k].n, name);
        if (twice)
            return ecg_fail(ECG_ERR_CONFIG, "head %s (%s): output %s stands twice", h->name,
                            kind_names[h->kind], name);
    }
    return ECG_OK;
}

enum ecg_status heads_add(struct heads *h, const struct head *head) {
    TRY(check(h, head));
    TRY(check_names(h, head));
    if (h->v == NULL) TRY(MEM_NEW(&h->v, HEADS_MAX));
    struct head *to = &h->v[h->n];
    enum ecg_status status = copy(to, head);
    if (status != ECG_OK) {
        head_free(to);
        return status;
    }
    to->first = h->n_outputs;
    to->n = outputs_of(to);
    h->n_outputs += to->n;
    h->n++;
    return ECG_OK;
}

enum ecg_status heads_copy(struct heads *to, const struct heads *h) {
    *to = (struct heads){0};
    for (int i = 0; i < h->n; i++) {
        enum ecg_status status = heads_add(to, &h->v[i]);
        if (status == ECG_OK) continue;
        heads_free(to);
        return status;
    }
    return ECG_OK;
}

enum ecg_status heads_output_names(const struct heads *h, struct names *names) {
    char text[HEAD_NAME_MAX];
    *names = (struct names){0};
    TRY(MEM_NEW(&names->v, (size_t)h->n_outputs));
    for (int i = 0; i < h->n; i++)
        for (int k = 0; k < h->v[i].n; k++) {
            enum ecg_status status =
                mem_strdup(&names->v[names->n], output_name(&h->v[i], k, text));
            if (status != ECG_OK) {
                names_free(names);
                return status;
            }
            names->n++;
        }
    return ECG_OK;
}

bool heads_are_plain(const struct heads *h) {
    return h->n == 1 && (h->v[0].kind == HEAD_LABELS || h->v[0].kind == HEAD_TARGETS);
}

/* ------------------------------------------------------------------ JSON */

static void put_names(struct json_writer *w, const char *key, const struct names *names) {
    if (names->n == 0) return;
    json_put_key(w, key);
    json_begin_array(w);
    for (int i = 0; i < names->n; i++) json_put_string(w, names->v[i]);
    json_end_array(w);
}

static void put_head(struct json_writer *w, const struct head *h) {
    json_begin_object(w);
    json_put_key(w, "name");
    json_put_string(w, h->name);
    json_put_key(w, "kind");
    json_put_string(w, kind_names[h->kind]);
    put_names(w, "labels", &h->labels);
    put_names(w, "targets", &h->targets);
    if (h->n_bins > 0) {
        json_put_key(w, "bins");
        json_begin_array(w);
        for (int i = 0; i < h->n_bins; i++) json_put_number(w, h->bins[i]);
        json_end_array(w);
    }
    json_end_object(w);
}

enum ecg_status heads_json(const struct heads *h, char **text) {
    struct json_writer w = {0};
    json_begin_array(&w);
    for (int i = 0; i < h->n; i++) put_head(&w, &h->v[i]);
    json_end_array(&w);
    return json_writer_take(&w, text);
}

static enum ecg_status parse_names(const struct json *list, const char *where,
                                   struct names *names) {
    if (list == NULL) return ECG_OK;
    if (!json_is_array(list))
        return ecg_fail(ECG_ERR_DATA, "%s: columns must be a list of names", where);
    TRY(MEM_NEW(&names->v, json_size(list)));
    for (size_t i = 0; i < json_size(list); i++) {
        const char *name = json_string(json_at(list, i));
        if (name == NULL || *name == 0 || strchr(name, '\n') != NULL)
            return ecg_fail(ECG_ERR_DATA, "%s: a column's name that is none", where);
        TRY(mem_strdup(&names->v[names->n], name));
        names->n++;
    }
    return ECG_OK;
}

static enum ecg_status parse_bins(const struct json *list, const char *where, struct head *h) {
    if (list == NULL) return ECG_OK;
    if (!json_is_array(list) || json_size(list) > HEAD_BINS_MAX)
        return ecg_fail(ECG_ERR_DATA, "%s: bins must be a list of numbers", where);
    TRY(MEM_NEW(&h->bins, json_size(list)));
    for (; (size_t)h->n_bins < json_size(list); h->n_bins++)
        h->bins[h->n_bins] = json_number(json_at(list, (size_t)h->n_bins));
    return ECG_OK;
}

static enum ecg_status parse_head(const struct json *v, const char *where, struct head *h) {
    const char *name = json_is_object(v) ? json_string(json_get(v, "name")) : NULL;
    const char *kind = json_is_object(v) ? json_string(json_get(v, "kind")) : NULL;
    if (name == NULL || *name == 0 || strchr(name, '\n') != NULL || kind == NULL)
        return ecg_fail(ECG_ERR_DATA, "%s: a head needs a name and a kind", where);
    int k = 0;
    while (k < N_KINDS && strcmp(kind_names[k], kind) != 0) k++;
    if (k == N_KINDS) return ecg_fail(ECG_ERR_DATA, "%s: unknown kind of head %s", where, kind);
    h->kind = (enum head_kind)k;
    TRY(mem_strdup(&h->name, name));
    TRY(parse_names(json_get(v, "labels"), where, &h->labels));
    TRY(parse_names(json_get(v, "targets"), where, &h->targets));
    return parse_bins(json_get(v, "bins"), where, h);
}

enum ecg_status heads_parse(struct heads *h, const char *text, const char *where) {
    struct json *root = NULL;
    enum ecg_status status;
    *h = (struct heads){0};
    TRY(json_parse(&root, text, strlen(text), where));
    if (!json_is_array(root) || json_size(root) == 0)
        TRY_OUT(ecg_fail(ECG_ERR_DATA, "%s: no list of heads", where));
    for (size_t i = 0; i < json_size(root); i++) {
        struct head head = {0};
        status = parse_head(json_at(root, i), where, &head);
        if (status == ECG_OK && (status = heads_add(h, &head)) == ECG_ERR_CONFIG)
            status = ecg_fail_prefix(ECG_ERR_DATA, "%s: ", where);
        head_free(&head);
        TRY_OUT(status);
    }
out:
    json_free(root);
    if (status != ECG_OK) heads_free(h);
    return status;
}
