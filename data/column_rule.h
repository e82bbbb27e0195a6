/* SPDX-License-Identifier: MIT
 * A label or target that one column of numbers gives: the column itself, values that stand for
 * "unknown" taken out, or something derived from it. In a map (README, "Your recordings"):
 *
 *     labels:
 *       age_over_65: {column: age, above: 65, unknown: [300]}   # 1 above, 0 up to and at 65
 *       low_lvef: {column: lvef, below: 40}
 *     targets:
 *       height: cm
 *       age: {column: age, unknown: [300]}                      # `dataset` is the same word
 *       log_ntprobnp: {column: ntprobnp, log10: true}           # 0 and below: unknown
 *
 * An unknown value stays unknown. */
#ifndef DATA_COLUMN_RULE_H
#define DATA_COLUMN_RULE_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "core/yaml.h"

enum column_rule_kind { COLUMN_PLAIN, COLUMN_LOG10, COLUMN_ABOVE, COLUMN_BELOW };

struct column_rule {
    char *name;   /* of the label or target */
    char *source; /* of the column */
    enum column_rule_kind kind; /* ABOVE, BELOW: labels; PLAIN, LOG10: targets */
    double limit;               /* ABOVE, BELOW */
    double *unknown;            /* values that stand for "unknown" */
    int n_unknown;
};

struct column_rules {
    struct column_rule *v;
    int n;
};

/* Reads one and appends it to `r`, which has room. ECG_ERR_CONFIG with path:line, `key` and the rule's name. */
enum ecg_status column_rule_label(struct column_rules *r, const char *name,
                                  const struct yaml_node *node, const char *path);
enum ecg_status column_rule_target(struct column_rules *r, const char *name,
                                   const struct yaml_node *node, const char *path);
void column_rules_free(struct column_rules *r); /* zeroed is fine */

/* A file of nothing but `labels` and `targets`, each {name: rule}; the caller frees both. ECG_ERR_CONFIG as
 * above; ECG_ERR_NOINPUT: no such file. */
enum ecg_status column_rules_read(struct column_rules *labels, struct column_rules *targets,
                                  const char *path);

/* What a column's value (NaN unknown) becomes; NaN, also where a float can't hold it: unknown. */
float column_rule_apply(const struct column_rule *r, double value);
/* The same as a label: 1, 0, SHARD_LABEL_UNKNOWN. */
uint8_t column_rule_apply_label(const struct column_rule *r, double value);

#endif
