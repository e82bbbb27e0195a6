/* SPDX-License-Identifier: MIT
 * One option table for everything: parsing a YAML file, --set k=v, the help text and the resolved dump
 * all come from the same rows. An unknown key or value is ECG_ERR_CONFIG and names the nearest one. */
#ifndef CORE_CONF_H
#define CORE_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "core/yaml.h"

enum conf_type {
    CONF_BOOL,    /* bool */
    CONF_INT,     /* int64_t, within [min, max] */
    CONF_NUMBER,  /* double, within [min, max] */
    CONF_STRING,  /* char *, NULL for null; owned by the config */
    CONF_CHOICE,  /* int: index into `choices` */
    CONF_INTS,    /* struct conf_ints; a single number is a list of one */
    CONF_STRINGS, /* struct conf_strings; v NULL for null, not for []; a single text is a list of one */
    CONF_NODE     /* struct yaml_node *: any YAML of 62 levels at most, read by the owner of the key; NULL for null */
};

struct conf_ints {
    int64_t *v;
    size_t n;
};
struct conf_strings {
    char **v;
    size_t n;
};

struct conf_option {
    const char *key;           /* "optim.lr" */
    enum conf_type type;
    size_t offset;             /* offsetof(struct config, ...) */
    const char *default_value; /* YAML text: "1e-3", "[1, 2]", "null" */
    const char *choices;       /* CONF_CHOICE: "adam adamw sgd" */
    double min, max;           /* CONF_INT, CONF_NUMBER and items of CONF_INTS, inclusive; both 0: no bounds */
    const char *help;          /* one line */
};

/* Fills the struct with the defaults; what stood in the options' fields is not looked at. The table ends
 * with key == NULL. */
enum ecg_status conf_defaults(const struct conf_option *table, void *config);
/* Reads a file over what is there; nested maps and dotted keys both work. After an error the struct holds
 * what was read before it; conf_free is due all the same. */
enum ecg_status conf_read_file(const struct conf_option *table, void *config, const char *path);
/* Reads a map of keys (an item of a CONF_NODE list) over what is there; nested maps and dotted keys both work. `node` stays as it
 * is; `where` stands before the line in messages. */
enum ecg_status conf_read_node(const struct conf_option *table, void *config,
                               const struct yaml_node *node, const char *where);
/* One "key=value" of --set; value is YAML. No '=': ECG_ERR_USAGE. */
enum ecg_status conf_set(const struct conf_option *table, void *config, const char *assignment);
/* The resolved config as YAML text: every key with its value, numbers that read back exactly. More text than can be
 * read again (YAML_MAX_BYTES): ECG_ERR_CONFIG. */
enum ecg_status conf_dump(const struct conf_option *table, const void *config, char **text);
/* Help text: key, default and meaning in three columns of a page of 100, a blank line between sections. */
enum ecg_status conf_help(const struct conf_option *table, char **text);
/* Any YAML as text in flow style, fresh: what conf_set takes as a value. NULL: null. */
enum ecg_status conf_node_text(const struct yaml_node *v, char **text);
void conf_free(const struct conf_option *table, void *config);

/* The name of a choice ("adamw") of the option `key`, for the life of the process; NULL when there is none. */
const char *conf_choice_name(const struct conf_option *table, const char *key, int value);

/* The candidate nearest to `word` by edit distance (swapped neighbours count 1, upper and lower case are
 * one); NULL when none is near enough (distance > 1/2 length and > 2, or nothing in common). Candidates: n
 * names or, with n < 0, a NULL-terminated array. */
const char *conf_nearest(const char *word, const char *const *names, int n);

/* The end of an error about an unknown name, into `text` (returned): "; did you mean MI?", "" when no
 * candidate is near. */
#define CONF_HINT_MAX 160
const char *conf_did_you_mean(char text[CONF_HINT_MAX], const char *word, const char *const *names,
                              int n);

#endif
