/* SPDX-License-Identifier: MIT
 * Labels and targets share one reader of keys; each allows its own. */
#include "data/column_rule.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/conf.h"
#include "core/mem.h"
#include "data/shard.h"

/* What is being read, for messages. */
struct place {
    const char *path, *section; /* "labels" or "targets" */
    const struct column_rule *rule;
};

static enum ecg_status wrong(const struct place *p, const struct yaml_node *node,
                             const char *wanted) {
    return ecg_fail(ECG_ERR_CONFIG, "%s:%d: %s.%s: %s wanted", p->path, node->line, p->section,
                    p->rule->name, wanted);
}

static bool is_text(const struct yaml_node *n) {
    return n->kind == YAML_SCALAR && !yaml_is_null(n) && n->text[0];
}

static enum ecg_status read_unknown(struct column_rule *r, const struct place *p,
                                    const struct yaml_node *list) {
    if (list->kind != YAML_LIST) return wrong(p, list, "unknown: [values]");
    if (r->unknown != NULL) return wrong(p, list, "one unknown");
    TRY(MEM_NEW(&r->unknown, list->n));
    for (size_t i = 0; i < list->n; i++)
        if (!yaml_number(list->items[i], &r->unknown[r->n_unknown++]))
            return wrong(p, list, "unknown: [values]");
    return ECG_OK;
}

static enum ecg_status read_source(struct column_rule *r, const struct place *p,
                                   const struct yaml_node *node) {
    if (!is_text(node) || r->source != NULL) return wrong(p, node, "one column: NAME");
    return mem_strdup(&r->source, node->text);
}

static enum ecg_status read_limit(struct column_rule *r, const struct place *p,
                                  const struct yaml_node *node, enum column_rule_kind kind) {
    if (r->kind != COLUMN_PLAIN) return wrong(p, node, "either above or below");
    r->kind = kind;
    bool ok = yaml_number(node, &r->limit) && isfinite(r->limit);
    return ok ? ECG_OK : wrong(p, node, "a number");
}

static enum ecg_status read_log10(struct column_rule *r, const struct place *p,
                                  const struct yaml_node *node) {
    bool on;
    if (!yaml_bool(node, &on)) return wrong(p, node, "log10: true or false");
    if (on) r->kind = COLUMN_LOG10;
    return ECG_OK;
}

static enum ecg_status read_key(struct column_rule *r, const struct place *p, const char *key,
                                const struct yaml_node *node) {
    static const char *const label_keys[] = {"column", "dataset", "unknown",
                                             "above",  "below",   NULL};
    static const char *const target_keys[] = {"column", "dataset", "unknown", "log10", NULL};
    bool is_label = strcmp(p->section, "labels") == 0;
    if (strcmp(key, "column") == 0 || strcmp(key, "dataset") == 0) return read_source(r, p, node);
    if (strcmp(key, "unknown") == 0) return read_unknown(r, p, node);
    if (is_label && strcmp(key, "above") == 0) return read_limit(r, p, node, COLUMN_ABOVE);
    if (is_label && strcmp(key, "below") == 0) return read_limit(r, p, node, COLUMN_BELOW);
    if (!is_label && strcmp(key, "log10") == 0) return read_log10(r, p, node);
    char hint[CONF_HINT_MAX];
    return ecg_fail(ECG_ERR_CONFIG, "%s:%d: %s.%s: unknown key %s%s", p->path, node->line,
                    p->section, r->name, key,
                    conf_did_you_mean(hint, key, is_label ? label_keys : target_keys, -1));
}

static enum ecg_status read_rule(struct column_rules *rules, const char *section, const char *name,
                                 const struct yaml_node *node, const char *path) {
    struct column_rule *r = &rules->v[rules->n++];
    struct place p = {path, section, r};
    TRY(mem_strdup(&r->name, name));
    if (node->kind != YAML_MAP) return read_source(r, &p, node);
    for (size_t i = 0; i < node->n; i++) TRY(read_key(r, &p, node->keys[i], node->items[i]));
    return r->source != NULL ? ECG_OK : wrong(&p, node, "column: NAME");
}

enum ecg_status column_rule_label(struct column_rules *r, const char *name,
                                  const struct yaml_node *node, const char *path) {
    TRY(read_rule(r, "labels", name, node, path));
    struct place p = {path, "labels", &r->v[r->n - 1]};
    if (p.rule->kind == COLUMN_PLAIN)
        return wrong(&p, node, "{column: NAME, above: LIMIT} or {column: NAME, below: LIMIT}");
    return ECG_OK;
}

enum ecg_status column_rule_target(struct column_rules *r, const char *name,
                                   const struct yaml_node *node, const char *path) {
    return read_rule(r, "targets", name, node, path);
}

void column_rules_free(struct column_rules *r) {
    for (int i = 0; i < r->n; i++) {
        free(r->v[i].name);
        free(r->v[i].source);
        free(r->v[i].unknown);
    }
    free(r->v);
    *r = (struct column_rules){0};
}

static enum ecg_status read_section(struct column_rules *r, const struct yaml_node *section,
                                    bool is_label, const char *path) {
    if (section == NULL || yaml_is_null(section)) return ECG_OK;
    if (section->kind != YAML_MAP)
        return ecg_fail(ECG_ERR_CONFIG, "%s:%d: %s: {name: {column: NAME, ...}} wanted", path,
                        section->line, is_label ? "labels" : "targets");
    TRY(MEM_NEW(&r->v, section->n));
    for (size_t i = 0; i < section->n; i++)
        TRY(is_label ? column_rule_label(r, section->keys[i], section->items[i], path)
                     : column_rule_target(r, section->keys[i], section->items[i], path));
    return ECG_OK;
}

static enum ecg_status read_file(struct column_rules *labels, struct column_rules *targets,
                                 const struct yaml_node *root, const char *path) {
    static const char *const keys[] = {"labels", "targets", NULL};
    if (root->kind != YAML_MAP)
        return ecg_fail(ECG_ERR_CONFIG, "%s: a map with labels and targets wanted", path);
    for (size_t i = 0; i < root->n; i++) {
        if (strcmp(root->keys[i], keys[0]) == 0 || strcmp(root->keys[i], keys[1]) == 0) continue;
        char hint[CONF_HINT_MAX];
        return ecg_fail(ECG_ERR_CONFIG, "%s:%d: unknown key %s%s", path, root->items[i]->line,
                        root->keys[i], conf_did_you_mean(hint, root->keys[i], keys, -1));
    }
    TRY(read_section(labels, yaml_get(root, "labels"), true, path));
    return read_section(targets, yaml_get(root, "targets"), false, path);
}

enum ecg_status column_rules_read(struct column_rules *labels, struct column_rules *targets,
                                  const char *path) {
    struct yaml_node *root;
    *labels = *targets = (struct column_rules){0};
    TRY(yaml_parse_file(&root, path));
    enum ecg_status status = read_file(labels, targets, root, path);
    yaml_free(root);
    return status;
}

float column_rule_apply(const struct column_rule *r, double value) {
    bool unknown = !(fabs(value) <= FLT_MAX);
    for (int i = 0; i < r->n_unknown; i++) unknown = unknown || value == r->unknown[i];
    if (unknown) return NAN;
    switch (r->kind) {
    case COLUMN_LOG10:
        return value > 0 ? (float)log10(value) : NAN;
    case COLUMN_ABOVE:
        return value > r->limit;
    case COLUMN_BELOW:
        return value < r->limit;
    default:
        return (float)value;
    }
}

uint8_t column_rule_apply_label(const struct column_rule *r, double value) {
    float v = column_rule_apply(r, value);
    return isnan(v) ? SHARD_LABEL_UNKNOWN : (uint8_t)v;
}
