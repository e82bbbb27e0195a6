/* SPDX-License-Identifier: MIT
 * A small parser of its own: getopt_long neither names the nearest option nor makes the help. */
#include "train/cli/args.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/conf.h"
#include "core/mem.h"

#define MAX_OPTIONS 64

static void print_help(const struct args *a) {
    printf("usage: einthoven %s\n\n%s\n\noptions:\n", a->usage, a->summary);
    for (const struct arg *o = a->table; o->name != NULL; o++) {
        char left[64];
        snprintf(left, sizeof(left), "--%s%s%s", o->name, o->value ? " " : "",
                 o->value ? o->value : "");
        printf("  %-26s %s%s\n", left, o->help, o->required ? " (required)" : "");
    }
    printf("  %-26s %s\n", "--help", "this text");
    const char *more = a->more != NULL ? a->more() : NULL;
    if (more != NULL) printf("\n%s", more);
    free((char *)more);
}

static enum ecg_status unknown_option(const struct args *a, const char *name, size_t n) {
    const char *names[MAX_OPTIONS + 1];
    int count = 0;
    for (const struct arg *o = a->table; o->name != NULL && count < MAX_OPTIONS; o++)
        names[count++] = o->name;
    char word[64];
    snprintf(word, sizeof(word), "%.*s", (int)n, name);
    const char *near = conf_nearest(word, names, count);
    return ecg_fail(ECG_ERR_USAGE, "unknown option --%s%s%s%s (usage: einthoven %s)", word,
                    near ? "; did you mean --" : "", near ? near : "", near ? "?" : "", a->usage);
}

static const struct arg *find_option(const struct args *a, const char *name, size_t n) {
    for (const struct arg *o = a->table; o->name != NULL; o++)
        if (strlen(o->name) == n && strncmp(o->name, name, n) == 0) return o;
    return NULL;
}

static enum ecg_status append(struct arg_list *l, int argc, char *word) {
    if (l->v == NULL) TRY(MEM_NEW(&l->v, (size_t)argc));
    l->v[l->n++] = word;
    return ECG_OK;
}

static enum ecg_status store(const struct arg *o, char *value, int argc) {
    char *end = value;
    errno = 0;
    switch (o->type) {
    case ARG_FLAG:
        *(bool *)o->to = true;
        return ECG_OK;
    case ARG_TEXT:
        if (value[0] == 0) return ecg_fail(ECG_ERR_USAGE, "--%s: the value is empty", o->name);
        *(const char **)o->to = value;
        return ECG_OK;
    case ARG_LIST:
    case ARG_VALUES:
        return append(o->to, argc, value);
    case ARG_COUNT: {
        long v = strtol(value, &end, 10);
        *(int *)o->to = (int)v;
        if (end == value || *end != 0 || errno != 0 || v < 0 || v > 2000000000) break;
        return ECG_OK;
    }
    case ARG_SEED:
        *(unsigned long long *)o->to = strtoull(value, &end, 10);
        if (end == value || *end != 0 || errno != 0 || value[0] == '-') break;
        return ECG_OK;
    case ARG_NUMBER: {
        double v = strtod(value, &end);
        *(double *)o->to = v;
        if (end == value || *end != 0 || !isfinite(v)) break;
        return ECG_OK;
    }
    }
    return ecg_fail(ECG_ERR_USAGE, "--%s: \"%s\" is not a valid %s", o->name, value,
                    o->type == ARG_NUMBER ? "number" : "count");
}

/* One option at argv[*i]; moves *i past its value. */
static enum ecg_status parse_option(const struct args *a, int argc, char **argv, int *i,
                                    unsigned long long *seen) {
    char *name = argv[*i] + 2, *equals = strchr(name, '=');
    size_t n = equals != NULL ? (size_t)(equals - name) : strlen(name);
    const struct arg *o = find_option(a, name, n);
    if (o == NULL) return unknown_option(a, name, n);
    *seen |= 1ULL << (o - a->table);
    (*i)++;
    if (o->type == ARG_FLAG)
        return equals == NULL ? store(o, NULL, argc)
                              : ecg_fail(ECG_ERR_USAGE, "--%s takes no value", o->name);
    if (equals != NULL) return store(o, equals + 1, argc);
    if (*i >= argc || strncmp(argv[*i], "--", 2) == 0)
        return ecg_fail(ECG_ERR_USAGE, "--%s needs a value: --%s %s", o->name, o->name, o->value);
    TRY(store(o, argv[(*i)++], argc));
    if (o->type == ARG_VALUES)
        while (*i < argc && strncmp(argv[*i], "--", 2) != 0) TRY(store(o, argv[(*i)++], argc));
    return ECG_OK;
}

static enum ecg_status check_complete(const struct args *a, const struct arg_list *operands,
                                      unsigned long long seen) {
    for (const struct arg *o = a->table; o->name != NULL; o++)
        if (o->required && !(seen & 1ULL << (o - a->table)))
            return ecg_fail(ECG_ERR_USAGE, "--%s %s is missing (usage: einthoven %s)", o->name,
                            o->value ? o->value : "", a->usage);
    if (operands->n < a->min_operands)
        return ecg_fail(ECG_ERR_USAGE, "something is missing (usage: einthoven %s)", a->usage);
    if (a->max_operands >= 0 && operands->n > a->max_operands)
        return ecg_fail(ECG_ERR_USAGE, "\"%s\" is one word too many (usage: einthoven %s)",
                        operands->v[a->max_operands], a->usage);
    return ECG_OK;
}

enum ecg_status args_parse(const struct args *a, int argc, char **argv, struct arg_list *operands,
                           bool *help) {
    unsigned long long seen = 0;
    bool options = true;
    *help = false;
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) *help = true;
    if (*help) {
        print_help(a);
        return ECG_OK;
    }
    for (int i = 0; i < argc;) {
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
            i++;
        } else if (options && strncmp(argv[i], "--", 2) == 0) {
            TRY(parse_option(a, argc, argv, &i, &seen));
        } else if (options && argv[i][0] == '-' && argv[i][1] != 0) {
            return ecg_fail(ECG_ERR_USAGE, "unknown option %s (options are spelt --name)", argv[i]);
        } else {
            TRY(append(operands, argc, argv[i++]));
        }
    }
    return check_complete(a, operands, seen);
}

void args_free(const struct args *a, struct arg_list *operands) {
    for (const struct arg *o = a->table; o->name != NULL; o++)
        if (o->type == ARG_LIST || o->type == ARG_VALUES) free(((struct arg_list *)o->to)->v);
    free(operands->v);
}
