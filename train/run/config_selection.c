/* SPDX-License-Identifier: MIT
 * data.train, data.valid, data.test and --data: which records of which folder. */
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "train/run/config.h"

static enum ecg_status add_fold(struct selection_spec *spec, const char *key, int64_t from,
                                int64_t to) {
    if (from < 0 || to > 30000 || from > to)
        return ecg_fail(ECG_ERR_CONFIG, "%s: fold %lld-%lld is no range of folds", key,
                        (long long)from, (long long)to);
    int n = spec->n_folds + (int)(to - from) + 1;
    int *folds = realloc(spec->folds, (size_t)n * sizeof(int));
    if (folds == NULL) return ecg_fail(ECG_ERR_NOMEM, "out of memory");
    for (int64_t f = from; f <= to; f++) folds[spec->n_folds++] = (int)f;
    spec->folds = folds;
    return ECG_OK;
}

/* One fold (3) or a range (1-8). */
static enum ecg_status read_fold(const struct yaml_node *v, const char *key,
                                 struct selection_spec *spec) {
    int64_t from;
    if (yaml_integer(v, &from)) return add_fold(spec, key, from, from);
    char *end = NULL;
    if (v->kind == YAML_SCALAR && v->text[0] >= '0' && v->text[0] <= '9') {
        from = strtol(v->text, &end, 10);
        if (*end == '-' && end[1] >= '0' && end[1] <= '9') {
            int64_t to = strtol(end + 1, &end, 10);
            if (*end == 0) return add_fold(spec, key, from, to);
        }
    }
    return ecg_fail(ECG_ERR_CONFIG, "%s: fold must be a number, a range as 1-8, or a list of these",
                    key);
}

static enum ecg_status read_folds(const struct yaml_node *v, const char *key,
                                  struct selection_spec *spec) {
    if (v->kind != YAML_LIST) return read_fold(v, key, spec);
    if (v->n == 0) return ecg_fail(ECG_ERR_CONFIG, "%s: fold is an empty list", key);
    for (size_t i = 0; i < v->n; i++) TRY(read_fold(v->items[i], key, spec));
    return ECG_OK;
}

static enum ecg_status read_part(const struct yaml_node *v, const char *key,
                                 struct selection_spec *spec) {
    if (v->kind != YAML_LIST || v->n != 2 || !yaml_number(v->items[0], &spec->part[0]) ||
        !yaml_number(v->items[1], &spec->part[1]) || !selection_part_is_valid(spec->part))
        return ecg_fail(ECG_ERR_CONFIG,
                        "%s: part must be [from, to], two different numbers of [0, 1]; from > to "
                        "wraps around",
                        key);
    spec->has_part = true;
    return ECG_OK;
}

enum ecg_status config_selection(const struct yaml_node *node, const char *key,
                                 struct selection_spec *spec) {
    static const char *const keys[] = {"path", "fold", "part", NULL};
    memset(spec, 0, sizeof(*spec));
    if (node == NULL || yaml_is_null(node))
        return ecg_fail(ECG_ERR_CONFIG, "%s is not set: --set %s=DIR", key, key);
    if (node->kind == YAML_SCALAR) return mem_strdup(&spec->path, node->text);
    if (node->kind != YAML_MAP)
        return ecg_fail(ECG_ERR_CONFIG, "%s: must be a path or {path: DIR, fold: 1-8}", key);
    for (size_t i = 0; i < node->n; i++) {
        const struct yaml_node *v = node->items[i];
        if (strcmp(node->keys[i], "path") == 0 && v->kind == YAML_SCALAR) {
            TRY(mem_strdup(&spec->path, v->text));
        } else if (strcmp(node->keys[i], "fold") == 0) {
            TRY(read_folds(v, key, spec));
        } else if (strcmp(node->keys[i], "part") == 0) {
            TRY(read_part(v, key, spec));
        } else {
            char hint[CONF_HINT_MAX];
            return ecg_fail(ECG_ERR_CONFIG, "%s: unknown key %s%s (known: path, fold, part)", key,
                            node->keys[i], conf_did_you_mean(hint, node->keys[i], keys, -1));
        }
    }
    if (spec->path == NULL) return ecg_fail(ECG_ERR_CONFIG, "%s: path is missing", key);
    return ECG_OK;
}

enum ecg_status config_selection_text(const char *text, const char *key,
                                      struct selection_spec *spec) {
    memset(spec, 0, sizeof(*spec));
    if (text[0] != '{') return mem_strdup(&spec->path, text);
    struct yaml_node *node = NULL;
    TRY(yaml_parse(&node, text, strlen(text), key));
    enum ecg_status status = config_selection(node, key, spec);
    yaml_free(node);
    return status;
}

void config_selection_free(struct selection_spec *spec) {
    free(spec->path);
    free(spec->folds);
    memset(spec, 0, sizeof(*spec));
}
