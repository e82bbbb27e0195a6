/* SPDX-License-Identifier: MIT
 * One table of keys; each key has a function that reads its value. */
#include "data/readers/array_map.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/conf.h"
#include "core/mem.h"
#include "core/yaml.h"
#include "data/annotations.h"

/* A value being read, and where it stands. */
struct value {
    const char *path, *key;
    const struct yaml_node *node;
};

static enum ecg_status wrong(const struct value *v, const char *wanted) {
    return ecg_fail(ECG_ERR_CONFIG, "%s:%d: %s: %s wanted", v->path, v->node->line, v->key, wanted);
}

static bool is_text(const struct yaml_node *n) {
    return n->kind == YAML_SCALAR && !yaml_is_null(n) && n->text[0];
}

static enum ecg_status text(const struct value *v, char **out) {
    if (!is_text(v->node)) return wrong(v, "a name");
    return mem_strdup(out, v->node->text);
}

static enum ecg_status read_signal(struct array_map *m, const struct value *v) {
    return text(v, &m->signal);
}

static enum ecg_status read_layout(struct array_map *m, const struct value *v) {
    bool first = is_text(v->node) && strcmp(v->node->text, "NCL") == 0;
    if (!first && !(is_text(v->node) && strcmp(v->node->text, "NLC") == 0))
        return wrong(v, "NLC or NCL");
    m->channels_first = first;
    return ECG_OK;
}

static enum ecg_status read_rate(struct array_map *m, const struct value *v) {
    if (!yaml_number(v->node, &m->rate)) return text(v, &m->rate_name);
    return m->rate > 0 && isfinite(m->rate) ? ECG_OK : wrong(v, "a rate above 0 Hz");
}

static enum ecg_status read_scale(struct array_map *m, const struct value *v) {
    bool ok = yaml_number(v->node, &m->scale) && m->scale != 0 && isfinite(m->scale);
    return ok ? ECG_OK : wrong(v, "a number other than 0");
}

static enum ecg_status read_units(struct array_map *m, const struct value *v) {
    static const char *const known[] = {"mV", "uV", "V", "none"};
    for (int i = 0; i < 4; i++)
        if (is_text(v->node) && strcmp(v->node->text, known[i]) == 0) {
            strcpy(m->units, known[i]);
            return ECG_OK;
        }
    return wrong(v, "mV, uV, V or none");
}

static enum ecg_status read_leads(struct array_map *m, const struct value *v) {
    if (v->node->kind != YAML_LIST || v->node->n == 0 || v->node->n > LEADS_MAX)
        return wrong(v, "a list of 1 to 64 names");
    for (size_t i = 0; i < v->node->n; i++) {
        const struct yaml_node *item = v->node->items[i];
        if (!is_text(item)) return wrong(v, "a list of names");
        if (leads_find(&m->leads, item->text) >= 0)
            return ecg_fail(ECG_ERR_CONFIG, "%s:%d: lead %s stands twice", v->path, item->line,
                            item->text);
        leads_canonical(item->text, m->leads.name[m->leads.n++]);
    }
    return ECG_OK;
}

static enum ecg_status read_record_id(struct array_map *m, const struct value *v) {
    return text(v, &m->record_id);
}

static enum ecg_status read_patient_id(struct array_map *m, const struct value *v) {
    return text(v, &m->patient_id);
}

static enum ecg_status read_fold(struct array_map *m, const struct value *v) {
    return text(v, &m->fold);
}

static enum ecg_status read_columns(struct array_map *m, const struct value *v, size_t i) {
    const struct yaml_node *list = v->node->items[i];
    struct array_label *l = &m->labels[m->n_labels++];
    TRY(mem_strdup(&l->dataset, v->node->keys[i]));
    if (list->kind != YAML_LIST || list->n == 0) return wrong(v, "{DATASET: [names]}");
    for (size_t k = 0; k < list->n; k++) {
        if (!is_text(list->items[k])) return wrong(v, "{DATASET: [names]}");
        enum ecg_status status = annotations_add_name(&l->columns, list->items[k]->text);
        if (status != ECG_OK) return ecg_fail_prefix(status, "%s:%d: ", v->path, list->line);
    }
    return ECG_OK;
}

static enum ecg_status read_labels(struct array_map *m, const struct value *v) {
    if (v->node->kind != YAML_MAP) return wrong(v, "{DATASET: [names]}");
    TRY(MEM_NEW(&m->labels, v->node->n));
    TRY(MEM_NEW(&m->derived.v, v->node->n));
    for (size_t i = 0; i < v->node->n; i++)
        TRY(v->node->items[i]->kind == YAML_MAP
                ? column_rule_label(&m->derived, v->node->keys[i], v->node->items[i], v->path)
                : read_columns(m, v, i));
    return ECG_OK;
}

static enum ecg_status read_targets(struct array_map *m, const struct value *v) {
    if (v->node->kind != YAML_MAP) return wrong(v, "{name: DATASET}");
    TRY(MEM_NEW(&m->targets.v, v->node->n));
    for (size_t i = 0; i < v->node->n; i++)
        TRY(column_rule_target(&m->targets, v->node->keys[i], v->node->items[i], v->path));
    return ECG_OK;
}

static enum ecg_status read_codes(struct array_map *m, const struct value *v) {
    return text(v, &m->codes);
}

static const struct key {
    const char *name;
    enum ecg_status (*read)(struct array_map *, const struct value *);
    bool required;
} keys[] = {
    {"signal", read_signal, true},        {"layout", read_layout, false},
    {"sampling_rate", read_rate, true},   {"scale", read_scale, false},
    {"units", read_units, false},         {"leads", read_leads, true},
    {"record_id", read_record_id, false}, {"patient_id", read_patient_id, false},
    {"labels", read_labels, false},       {"targets", read_targets, false},
    {"fold", read_fold, false},           {"codes", read_codes, false},
};
enum { N_KEYS = sizeof keys / sizeof *keys };

static const struct key *find_key(const char *name) {
    for (int i = 0; i < N_KEYS; i++)
        if (strcmp(keys[i].name, name) == 0) return &keys[i];
    return NULL;
}

static enum ecg_status unknown_key(const char *path, int line, const char *name) {
    const char *names[N_KEYS];
    for (int i = 0; i < N_KEYS; i++) names[i] = keys[i].name;
    char hint[CONF_HINT_MAX];
    return ecg_fail(ECG_ERR_CONFIG, "%s:%d: unknown key %s%s", path, line, name,
                    conf_did_you_mean(hint, name, names, N_KEYS));
}

static enum ecg_status read_keys(struct array_map *m, const struct yaml_node *root,
                                 const char *path) {
    if (root->kind != YAML_MAP)
        return ecg_fail(ECG_ERR_CONFIG, "%s: a map of keys wanted (signal: ...)", path);
    for (size_t i = 0; i < root->n; i++) {
        const struct key *key = find_key(root->keys[i]);
        if (!key) return unknown_key(path, root->items[i]->line, root->keys[i]);
        if (!key->required && yaml_is_null(root->items[i])) continue;
        TRY(key->read(m, &(struct value){path, key->name, root->items[i]}));
    }
    for (int i = 0; i < N_KEYS; i++)
        if (keys[i].required && !yaml_get(root, keys[i].name))
            return ecg_fail(ECG_ERR_CONFIG, "%s: key %s is missing", path, keys[i].name);
    return ECG_OK;
}

enum ecg_status array_map_read(struct array_map *m, const char *path) {
    *m = (struct array_map){.scale = 1, .units = "mV"};
    struct yaml_node *root;
    TRY(yaml_parse_file(&root, path));
    enum ecg_status status = read_keys(m, root, path);
    yaml_free(root);
    if (status != ECG_OK) array_map_free(m);
    return status;
}

void array_map_free(struct array_map *m) {
    for (int i = 0; i < m->n_labels; i++) {
        free(m->labels[i].dataset);
        names_free(&m->labels[i].columns);
    }
    column_rules_free(&m->derived);
    column_rules_free(&m->targets);
    free(m->labels);
    free(m->signal);
    free(m->rate_name);
    free(m->record_id);
    free(m->patient_id);
    free(m->fold);
    free(m->codes);
    *m = (struct array_map){0};
}
