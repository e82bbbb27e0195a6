/* SPDX-License-Identifier: MIT
 * A space is YAML with the config's keys, nested or dotted, and a list or a range in place of each value. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/mem.h"
#include "core/rng.h"
#include "core/yaml.h"
#include "train/run/sweep_private.h"

static const char *const kind_names[] = {
    [SWEEP_LOG] = "log", [SWEEP_UNIFORM] = "uniform", [SWEEP_INT] = "int"};

struct reading {
    struct sweep_space *space;
    const char *path;
};

static enum ecg_status wrong(const struct reading *r, const struct yaml_node *v, const char *key,
                             const char *what) {
    return ecg_fail(ECG_ERR_CONFIG, "%s:%d:%d: %s: %s", r->path, v->line, v->column, key, what);
}

/* ------------------------------------------------------------------ keys */

static bool is_option(const char *key) {
    for (const struct conf_option *o = config_options; o->key != NULL; o++)
        if (strcmp(o->key, key) == 0) return true;
    return false;
}

static bool is_section(const char *key) {
    size_t n = strlen(key);
    for (const struct conf_option *o = config_options; o->key != NULL; o++)
        if (strncmp(o->key, key, n) == 0 && o->key[n] == '.') return true;
    return false;
}

static enum ecg_status unknown(const struct reading *r, const struct yaml_node *v,
                               const char *key) {
    const char *names[256];
    char hint[CONF_HINT_MAX];
    int n = 0;
    for (const struct conf_option *o = config_options; o->key != NULL && n < 256; o++)
        names[n++] = o->key;
    return ecg_fail(ECG_ERR_CONFIG, "%s:%d:%d: unknown key %s%s", r->path, v->key_line,
                    v->key_column, key, conf_did_you_mean(hint, key, names, n));
}

/* What decides the comparison is no part of what is compared. */
static const char *why_not(const char *key) {
    static const struct {
        const char *key, *why;
    } fixed[] = {
        {"data.valid", "trials are compared by it: it must be the same for all"},
        {"data.test", "it takes no part in a search: leave it to the one run that follows"},
        {"train.device", "all trials run on one kind of device: --set train.device"},
        {"train.threads", "it changes no result: --jobs shares the cores out"},
    };
    for (size_t i = 0; i < sizeof(fixed) / sizeof(*fixed); i++)
        if (strcmp(fixed[i].key, key) == 0) return fixed[i].why;
    return NULL;
}

/* ------------------------------------------------------------------ values */

static enum ecg_status read_list(const struct reading *r, struct sweep_key *k,
                                 const struct yaml_node *v) {
    if (v->n == 0) return wrong(r, v, k->key, "the list is empty");
    TRY(MEM_NEW(&k->items, v->n));
    for (; k->n_items < v->n; k->n_items++)
        TRY(conf_node_text(v->items[k->n_items], &k->items[k->n_items]));
    return ECG_OK;
}

static enum ecg_status read_range(const struct reading *r, struct sweep_key *k,
                                  const struct yaml_node *v) {
    const struct yaml_node *ends = v->items[0];
    k->kind = SWEEP_LIST;
    for (enum sweep_kind i = SWEEP_LOG; i <= SWEEP_INT; i++)
        if (strcmp(v->keys[0], kind_names[i]) == 0) k->kind = i;
    if (k->kind == SWEEP_LIST)
        return wrong(r, v, k->key,
                     "a range is {log: [FROM, TO]}, {uniform: [FROM, TO]} or {int: [FROM, TO]}");
    if (ends->kind != YAML_LIST || ends->n != 2 || !yaml_number(ends->items[0], &k->from) ||
        !yaml_number(ends->items[1], &k->to) || !isfinite(k->from) || !isfinite(k->to))
        return wrong(r, ends, k->key, "a range has two numbers: [FROM, TO]");
    if (!(k->from < k->to))
        return wrong(r, ends, k->key, "a range's first number must be less than its second");
    if (k->kind == SWEEP_LOG && !(k->from > 0))
        return wrong(r, ends, k->key, "log: both ends must be greater than 0");
    if (k->kind == SWEEP_INT && (floor(k->from) != k->from || floor(k->to) != k->to ||
                                 fabs(k->from) > 1e15 || fabs(k->to) > 1e15))
        return wrong(r, ends, k->key, "int: both ends must be whole numbers");
    return ECG_OK;
}

static enum ecg_status read_option(const struct reading *r, const char *key,
                                   const struct yaml_node *v) {
    struct sweep_space *s = r->space;
    if (why_not(key) != NULL) return wrong(r, v, key, why_not(key));
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->keys[i].key, key) == 0) return wrong(r, v, key, "stands there twice");
    TRY(mem_grow((void **)&s->keys, &s->cap, (size_t)s->n + 1, sizeof(*s->keys)));
    struct sweep_key *k = &s->keys[s->n];
    TRY(mem_strdup(&k->key, key));
    s->n++;
    if (v->kind == YAML_LIST) return read_list(r, k, v);
    if (v->kind == YAML_MAP && v->n == 1) return read_range(r, k, v);
    return wrong(r, v, key,
                 "a list of values or a range is wanted: [1e-4, 1e-3] or {log: [1e-5, 1e-2]}");
}

static enum ecg_status read_map(const struct reading *r, const char *prefix,
                                const struct yaml_node *map) {
    for (size_t i = 0; i < map->n; i++) {
        char *key = NULL;
        if (asprintf(&key, "%s%s", prefix, map->keys[i]) < 0)
            return ecg_fail(ECG_ERR_NOMEM, "out of memory");
        const struct yaml_node *v = map->items[i];
        enum ecg_status status;
        if (is_option(key)) {
            status = read_option(r, key, v);
        } else if (v->kind == YAML_MAP && is_section(key)) {
            char *section = NULL;
            status = asprintf(&section, "%s.", key) < 0 ? ecg_fail(ECG_ERR_NOMEM, "out of memory")
                                                        : read_map(r, section, v);
            free(section);
        } else {
            status = unknown(r, v, key);
        }
        free(key);
        TRY(status);
    }
    return ECG_OK;
}

enum ecg_status sweep_space_read(struct sweep_space *s, const char *path) {
    struct yaml_node *root = NULL;
    struct reading r = {s, path};
    *s = (struct sweep_space){0};
    TRY(yaml_parse_file(&root, path));
    enum ecg_status status =
        root->kind == YAML_MAP && root->n > 0
            ? read_map(&r, "", root)
            : ecg_fail(ECG_ERR_CONFIG,
                       "%s: no key to search: optim.lr: {log: [1e-5, 1e-2]} for one", path);
    yaml_free(root);
    return status;
}

void sweep_space_free(struct sweep_space *s) {
    for (int i = 0; i < s->n; i++) {
        for (size_t k = 0; k < s->keys[i].n_items; k++) free(s->keys[i].items[k]);
        free(s->keys[i].items);
        free(s->keys[i].key);
    }
    free(s->keys);
    *s = (struct sweep_space){0};
}

/* ------------------------------------------------------------------ draws */

/* Six digits where they lie inside the range: a value that people can copy. */
static void put_number(char text[40], const struct sweep_key *k, double x) {
    snprintf(text, 40, "%.6g", x);
    double back = strtod(text, NULL);
    if (!(back >= k->from && back <= k->to)) snprintf(text, 40, "%.17g", x);
}

enum ecg_status sweep_draw(const struct sweep_key *k, uint64_t seed, int number, char **value) {
    struct rng r;
    char text[40];
    /* by its name: another key in the space, or another order, leaves this one's values */
    rng_init(&r, seed, RNG_SWEEP, (uint32_t)number, (uint32_t)hash_bytes(k->key, strlen(k->key)));
    if (k->kind == SWEEP_LIST) return mem_strdup(value, k->items[rng_below(&r, k->n_items)]);
    double u = rng_uniform(&r), x = k->from + u * (k->to - k->from);
    if (k->kind == SWEEP_LOG) x = exp(log(k->from) + u * (log(k->to) - log(k->from)));
    x = fmin(fmax(x, k->from), k->to);
    if (k->kind == SWEEP_INT)
        snprintf(text, sizeof(text), "%.0f",
                 k->from + (double)rng_below(&r, (uint64_t)(k->to - k->from) + 1));
    else
        put_number(text, k, x);
    return mem_strdup(value, text);
}
