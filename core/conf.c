/* SPDX-License-Identifier: MIT
 * Setting options: defaults, files and --set all end in set_option, which is the only place that knows
 * the types. The place of a mistake (file:line:column, or --set) is put before the message on the way
 * out, so that the readers of values need not know where a value came from. */
#include "core/conf.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/conf_text.h"
#include "core/mem.h"

#define MAX_WORD        128 /* longer words have no nearest name */
#define MAX_SHOWN       100 /* bytes of a value in a message */
#define MAX_KEY         512
/* Of a CONF_NODE: two less than a file may have, so that the dump, where it stands under section and key, can be read. */
#define MAX_NODE_LEVELS (YAML_MAX_LEVELS - 2)

/* One reading of a file or of a --set. */
struct reading {
    const struct conf_option *table;
    void *config;
    const char *where; /* "config.yaml", "--set" */
    bool has_lines;    /* places are where:line:column */
    bool *seen;        /* (options) given in this reading */
};

/* ---- the nearest name ---- */

static int min2(int a, int b) {
    return a < b ? a : b;
}

/* Optimal string alignment distance: insert, delete, replace, swap two neighbours. */
static int edit_distance(const char *a, int na, const char *b, int nb) {
    int rows[3][MAX_WORD + 1];
    int *before = rows[0], *previous = rows[1], *row = rows[2];
    for (int j = 0; j <= nb; j++) previous[j] = j;
    for (int i = 1; i <= na; i++) {
        int ca = tolower((unsigned char)a[i - 1]);
        row[0] = i;
        for (int j = 1; j <= nb; j++) {
            int cb = tolower((unsigned char)b[j - 1]);
            row[j] = min2(min2(previous[j], row[j - 1]) + 1, previous[j - 1] + (ca != cb));
            if (i > 1 && j > 1 && ca == tolower((unsigned char)b[j - 2]) &&
                cb == tolower((unsigned char)a[i - 2]))
                row[j] = min2(row[j], before[j - 2] + 1);
        }
        int *free_row = before;
        before = previous;
        previous = row;
        row = free_row;
    }
    return previous[nb];
}

const char *conf_nearest(const char *word, const char *const *names, int n) {
    size_t length = strlen(word);
    const char *best = NULL;
    if (length == 0 || length > MAX_WORD) return NULL;
    int limit = length / 2 > 2 ? (int)(length / 2) : 2;
    if (limit >= (int)length) limit = (int)length - 1; /* else nothing is in common */
    for (int i = 0; n < 0 ? names[i] != NULL : i < n; i++) {
        size_t other = strlen(names[i]);
        if (other > MAX_WORD) continue;
        int distance = edit_distance(word, (int)length, names[i], (int)other);
        if (distance > limit || (best && distance == limit)) continue;
        best = names[i];
        limit = distance;
    }
    return best;
}

const char *conf_did_you_mean(char text[CONF_HINT_MAX], const char *word, const char *const *names,
                              int n) {
    const char *nearest = conf_nearest(word, names, n);
    text[0] = 0;
    if (nearest) snprintf(text, CONF_HINT_MAX, "; did you mean %s?", nearest);
    return text;
}

/* ---- choices: "adam adamw sgd" ---- */

/* The i-th word of `choices` and its length; NULL past the end. */
static const char *choice_at(const char *choices, int i, size_t *length) {
    const char *word = choices;
    for (;;) {
        word += strspn(word, " ");
        *length = strcspn(word, " ");
        if (*length == 0) return NULL;
        if (i-- == 0) return word;
        word += *length;
    }
}

struct choice_name {
    struct choice_name *next;
    char text[];
};

const char *conf_choice_name(const struct conf_option *table, const char *key, int value) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct choice_name *kept; /* every name handed out; there are few */
    const struct conf_option *o = table;
    size_t length;
    while (o->key && strcmp(o->key, key) != 0) o++;
    if (!o->key || o->type != CONF_CHOICE || value < 0) return NULL;
    const char *word = choice_at(o->choices, value, &length);
    if (!word) return NULL;
    pthread_mutex_lock(&lock);
    struct choice_name *name = kept;
    while (name && (strlen(name->text) != length || memcmp(name->text, word, length) != 0))
        name = name->next;
    if (!name && (name = calloc(1, sizeof *name + length + 1)) != NULL) {
        memcpy(name->text, word, length);
        name->next = kept;
        kept = name;
    }
    pthread_mutex_unlock(&lock);
    return name ? name->text : NULL;
}

/* ---- values ---- */

static void *field(const struct conf_option *o, void *config) {
    return (char *)config + o->offset;
}

/* Frees what the field owns and zeroes it. */
static void clear_field(const struct conf_option *o, void *config) {
    void *p = field(o, config);
    switch (o->type) {
    case CONF_BOOL:
        *(bool *)p = false;
        break;
    case CONF_INT:
        *(int64_t *)p = 0;
        break;
    case CONF_NUMBER:
        *(double *)p = 0;
        break;
    case CONF_CHOICE:
        *(int *)p = 0;
        break;
    case CONF_STRING:
        free(*(char **)p);
        *(char **)p = NULL;
        break;
    case CONF_INTS:
        free(((struct conf_ints *)p)->v);
        *(struct conf_ints *)p = (struct conf_ints){0};
        break;
    case CONF_STRINGS: {
        struct conf_strings *s = p;
        for (size_t i = 0; i < s->n; i++) free(s->v[i]);
        free(s->v);
        *s = (struct conf_strings){0};
        break;
    }
    case CONF_NODE:
        yaml_free(*(struct yaml_node **)p);
        *(struct yaml_node **)p = NULL;
        break;
    }
}

/* "optim.lr is 'x'; must be a number from 0 to 1" */
static enum ecg_status wrong_value(const struct conf_option *o, const struct yaml_node *v) {
    char wanted[MAX_KEY];
    conf_describe_type(o, wanted, sizeof wanted);
    if (v->kind != YAML_SCALAR)
        return ecg_fail(ECG_ERR_CONFIG, "%s is a %s; must be %s", o->key,
                        v->kind == YAML_MAP ? "map" : "list", wanted);
    return ecg_fail(ECG_ERR_CONFIG, "%s is '%.*s%s'; must be %s", o->key, MAX_SHOWN, v->text,
                    strlen(v->text) > MAX_SHOWN ? "..." : "", wanted);
}

static bool in_bounds(const struct conf_option *o, double value) {
    return (o->min == 0 && o->max == 0) || (value >= o->min && value <= o->max);
}

static enum ecg_status set_number(const struct conf_option *o, double *to,
                                  const struct yaml_node *v) {
    double value;
    if (!yaml_number(v, &value) || !in_bounds(o, value)) return wrong_value(o, v);
    *to = value;
    return ECG_OK;
}

static enum ecg_status set_integer(const struct conf_option *o, int64_t *to,
                                   const struct yaml_node *v) {
    int64_t value;
    if (!yaml_integer(v, &value) || !in_bounds(o, (double)value)) return wrong_value(o, v);
    *to = value;
    return ECG_OK;
}

static enum ecg_status set_text(const struct conf_option *o, char **to, const struct yaml_node *v) {
    if (v->kind != YAML_SCALAR) return wrong_value(o, v);
    return mem_strdup(to, v->text);
}

static enum ecg_status set_choice(const struct conf_option *o, int *to, const struct yaml_node *v) {
    char copy[MAX_KEY], *rest = copy;
    const char *names[64];
    int n = 0;
    if (v->kind != YAML_SCALAR) return wrong_value(o, v);
    snprintf(copy, sizeof copy, "%s", o->choices);
    for (char *word; n < 64 && (word = strtok_r(rest, " ", &rest)) != NULL;) names[n++] = word;
    for (int i = 0; i < n; i++) {
        if (strcmp(names[i], v->text) != 0) continue;
        *to = i;
        return ECG_OK;
    }
    enum ecg_status status = wrong_value(o, v);
    char hint[CONF_HINT_MAX];
    return ecg_fail(status, "%s%s", ecg_message(), conf_did_you_mean(hint, v->text, names, n));
}

/* A list, or a single value as a list of one. */
static size_t list_size(const struct yaml_node *v) {
    return v->kind == YAML_LIST ? v->n : 1;
}

static const struct yaml_node *list_item(const struct yaml_node *v, size_t i) {
    return v->kind == YAML_LIST ? v->items[i] : v;
}

static enum ecg_status set_integers(const struct conf_option *o, struct conf_ints *to,
                                    const struct yaml_node *v) {
    size_t n = yaml_is_null(v) ? 0 : list_size(v);
    TRY(MEM_NEW(&to->v, n));
    for (; to->n < n; to->n++) TRY(set_integer(o, &to->v[to->n], list_item(v, to->n)));
    return ECG_OK;
}

static enum ecg_status set_texts(const struct conf_option *o, struct conf_strings *to,
                                 const struct yaml_node *v) {
    if (yaml_is_null(v)) return ECG_OK;
    size_t n = list_size(v);
    TRY(MEM_NEW(&to->v, n));
    for (; to->n < n; to->n++) {
        const struct yaml_node *item = list_item(v, to->n);
        if (yaml_is_null(item)) return wrong_value(o, item);
        TRY(set_text(o, &to->v[to->n], item));
    }
    return ECG_OK;
}

static int levels(const struct yaml_node *v) {
    int deepest = 0;
    for (size_t i = 0; i < v->n; i++) {
        int below = levels(v->items[i]);
        if (below > deepest) deepest = below;
    }
    return deepest + (v->kind != YAML_SCALAR);
}

/* Takes the node over: *slot becomes NULL. */
static enum ecg_status set_node(const struct conf_option *o, struct yaml_node **to,
                                struct yaml_node **slot) {
    if (yaml_is_null(*slot)) return ECG_OK;
    if (levels(*slot) > MAX_NODE_LEVELS)
        return ecg_fail(ECG_ERR_CONFIG, "%s is nested deeper than %d levels", o->key,
                        MAX_NODE_LEVELS);
    *to = *slot;
    *slot = NULL;
    return ECG_OK;
}

/* Sets one option. */
static enum ecg_status set_option(const struct conf_option *o, void *config,
                                  struct yaml_node **slot) {
    struct yaml_node *v = *slot;
    void *p = field(o, config);
    clear_field(o, config);
    switch (o->type) {
    case CONF_BOOL:
        return yaml_bool(v, p) ? ECG_OK : wrong_value(o, v);
    case CONF_INT:
        return set_integer(o, p, v);
    case CONF_NUMBER:
        return set_number(o, p, v);
    case CONF_STRING:
        return yaml_is_null(v) ? ECG_OK : set_text(o, p, v);
    case CONF_CHOICE:
        return set_choice(o, p, v);
    case CONF_INTS:
        return set_integers(o, p, v);
    case CONF_STRINGS:
        return set_texts(o, p, v);
    case CONF_NODE:
        return set_node(o, p, slot);
    }
    return ECG_OK;
}

/* ---- keys ---- */

static enum ecg_status at_place(const struct reading *r, int line, int column,
                                enum ecg_status status) {
    if (status == ECG_OK || status == ECG_ERR_NOMEM) return status;
    if (r->has_lines) return ecg_fail_prefix(status, "%s:%d:%d: ", r->where, line, column);
    return ecg_fail_prefix(status, "%s: ", r->where);
}

static const char *last_part(const char *key) {
    const char *dot = strrchr(key, '.');
    return dot ? dot + 1 : key;
}

/* The option meant by an unknown key: nearest by spelling, else of the same name in another section. */
static enum ecg_status unknown_key(const struct conf_option *table, const char *key) {
    size_t n = 0;
    const char **names;
    while (table[n].key) n++;
    TRY(MEM_NEW(&names, n + 1));
    for (size_t i = 0; i < n; i++) names[i] = table[i].key;
    const char *nearest = conf_nearest(key, names, (int)n);
    for (size_t i = 0; i < n && !nearest; i++)
        if (strcmp(last_part(key), last_part(names[i])) == 0) nearest = names[i];
    free(names);
    if (!nearest) return ecg_fail(ECG_ERR_CONFIG, "unknown key %s", key);
    return ecg_fail(ECG_ERR_CONFIG, "unknown key %s; did you mean %s?", key, nearest);
}

/* Sections are the parts of keys before a dot: "optim" of "optim.lr". */
static bool is_section(const struct conf_option *table, const char *key) {
    size_t n = strlen(key);
    for (; table->key; table++)
        if (strncmp(table->key, key, n) == 0 && table->key[n] == '.') return true;
    return false;
}

/* For an unknown map: the section nearest to it. */
static enum ecg_status unknown_section(const struct conf_option *table, const char *key) {
    const char *nearest = NULL;
    char section[MAX_KEY];
    enum ecg_status status = unknown_key(table, key);
    for (; table->key && !nearest; table++) {
        snprintf(section, sizeof section, "%.*s", (int)strcspn(table->key, "."), table->key);
        if (table->key[strlen(section)] != '.') continue;
        const char *const one[] = {section, NULL};
        nearest = conf_nearest(key, one, -1);
    }
    if (!nearest) return status;
    return ecg_fail(ECG_ERR_CONFIG, "unknown key %s; did you mean %s?", key, nearest);
}

static enum ecg_status read_map(struct reading *r, const char *prefix, struct yaml_node *map);

/* One key with its value; a map under a section's name is read as that section. */
static enum ecg_status read_key(struct reading *r, const char *key, struct yaml_node **slot) {
    struct yaml_node *v = *slot;
    int line = v->key_line, column = v->key_column;
    const struct conf_option *o = r->table;
    while (o->key && strcmp(o->key, key) != 0) o++;
    if (o->key) {
        bool *seen = &r->seen[o - r->table];
        if (*seen) {
            ecg_fail(ECG_ERR_CONFIG, "key %s is given twice", key);
            return at_place(r, line, column, ECG_ERR_CONFIG);
        }
        *seen = true;
        line = v->line;
        column = v->column;
        return at_place(r, line, column, set_option(o, r->config, slot));
    }
    if (is_section(r->table, key)) {
        if (v->kind == YAML_MAP) return read_map(r, key, v);
        if (yaml_is_null(v)) return ECG_OK; /* a section with nothing in it */
        ecg_fail(ECG_ERR_CONFIG, "%s is a section; its keys stand under it as a map", key);
        return at_place(r, line, column, ECG_ERR_CONFIG);
    }
    bool is_map = v->kind == YAML_MAP;
    return at_place(r, line, column,
                    is_map ? unknown_section(r->table, key) : unknown_key(r->table, key));
}

static enum ecg_status read_map(struct reading *r, const char *prefix, struct yaml_node *map) {
    for (size_t i = 0; i < map->n; i++) {
        char key[MAX_KEY];
        int n = snprintf(key, sizeof key, "%s%s%s", prefix, *prefix ? "." : "", map->keys[i]);
        if (n >= (int)sizeof key) {
            const struct yaml_node *v = map->items[i];
            ecg_fail(ECG_ERR_CONFIG, "unknown key %.40s... (%d characters)", key, n);
            return at_place(r, v->key_line, v->key_column, ECG_ERR_CONFIG);
        }
        TRY(read_key(r, key, &map->items[i]));
    }
    return ECG_OK;
}

static enum ecg_status reading_open(struct reading *r) {
    size_t n = 0;
    while (r->table[n].key) n++;
    return MEM_NEW(&r->seen, n);
}

static enum ecg_status read_root(struct reading *r, struct yaml_node *root, const char *what) {
    TRY(reading_open(r));
    enum ecg_status status = ECG_OK;
    if (root->kind == YAML_MAP) {
        status = read_map(r, "", root);
    } else if (!yaml_is_null(root)) {
        ecg_fail(ECG_ERR_CONFIG, "%s must be a map of keys", what);
        status = at_place(r, root->line, root->column, ECG_ERR_CONFIG);
    }
    free(r->seen);
    return status;
}

enum ecg_status conf_read_file(const struct conf_option *table, void *config, const char *path) {
    struct reading r = {.table = table, .config = config, .where = path, .has_lines = true};
    struct yaml_node *root;
    TRY(yaml_parse_file(&root, path));
    enum ecg_status status = read_root(&r, root, "a config");
    yaml_free(root);
    return status;
}

enum ecg_status conf_read_node(const struct conf_option *table, void *config,
                               const struct yaml_node *node, const char *where) {
    struct reading r = {.table = table, .config = config, .where = where, .has_lines = true};
    struct yaml_node *copy;
    TRY(yaml_copy(&copy, node));
    enum ecg_status status = read_root(&r, copy, "this");
    yaml_free(copy);
    return status;
}

enum ecg_status conf_set(const struct conf_option *table, void *config, const char *assignment) {
    struct reading r = {.table = table, .config = config, .where = "--set"};
    struct yaml_node *value = NULL;
    const char *equals = strchr(assignment, '=');
    if (!equals || equals == assignment)
        return ecg_fail(ECG_ERR_USAGE, "--set %s: must be key=value", assignment);
    char key[MAX_KEY];
    int n = snprintf(key, sizeof key, "%.*s", (int)(equals - assignment), assignment);
    if (n >= (int)sizeof key)
        return ecg_fail(ECG_ERR_CONFIG, "--set: unknown key of %d characters", n);
    enum ecg_status status = reading_open(&r);
    if (status == ECG_OK) {
        status = yaml_parse(&value, equals + 1, strlen(equals + 1), "value");
        if (status == ECG_ERR_CONFIG) ecg_fail_prefix(status, "--set %s: ", assignment);
    }
    if (status == ECG_OK) status = read_key(&r, key, &value);
    free(r.seen);
    yaml_free(value);
    return status;
}

/* Zeroed by type, not freed: the fields may hold anything. */
static void zero_field(const struct conf_option *o, void *config) {
    void *p = field(o, config);
    if (o->type == CONF_STRING) *(char **)p = NULL;
    if (o->type == CONF_INTS) *(struct conf_ints *)p = (struct conf_ints){0};
    if (o->type == CONF_STRINGS) *(struct conf_strings *)p = (struct conf_strings){0};
    if (o->type == CONF_NODE) *(struct yaml_node **)p = NULL;
}

enum ecg_status conf_defaults(const struct conf_option *table, void *config) {
    enum ecg_status status = ECG_OK;
    for (const struct conf_option *o = table; o->key; o++) zero_field(o, config);
    for (const struct conf_option *o = table; o->key && status == ECG_OK; o++) {
        struct yaml_node *value;
        status = yaml_parse(&value, o->default_value, strlen(o->default_value), o->key);
        if (status != ECG_OK) break;
        status = set_option(o, config, &value);
        if (status != ECG_OK) ecg_fail_prefix(status, "default of %s: ", o->key);
        yaml_free(value);
    }
    if (status != ECG_OK) conf_free(table, config);
    return status;
}

void conf_free(const struct conf_option *table, void *config) {
    for (const struct conf_option *o = table; o->key; o++) clear_field(o, config);
}
