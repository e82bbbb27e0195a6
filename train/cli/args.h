/* SPDX-License-Identifier: MIT
 * Command lines from tables: one table of options a command serves parsing and --help. Options may stand before, between
 * and after the operands; "--name value" and "--name=value"; "--" ends options. */
#ifndef TRAIN_CLI_ARGS_H
#define TRAIN_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

enum arg_type {
    ARG_FLAG,   /* bool */
    ARG_TEXT,   /* const char * */
    ARG_COUNT,  /* int, >= 0 */
    ARG_SEED,   /* unsigned long long */
    ARG_NUMBER, /* double, finite */
    ARG_LIST,   /* struct arg_list: may be given again and again */
    ARG_VALUES  /* struct arg_list: takes all words up to the next option */
};

struct arg_list {
    char **v; /* points into argv; at most argc items */
    int n;
};

struct arg {
    const char *name; /* "out": --out */
    enum arg_type type;
    void *to;
    const char *value; /* what stands for the value in the help: "RUN"; NULL for flags */
    const char *help;
    bool required;
};

struct args {
    const char *usage;              /* "pretrain CONFIG --out RUN" */
    const char *summary;            /* what the command does: a few lines */
    const struct arg *table;        /* ends with name == NULL */
    int min_operands, max_operands; /* max -1: any number */
    const char *(*more)(void);      /* further help text (fresh string or NULL), NULL: none */
};

/* Fills what the table points at and the operands. *help becomes true when --help was asked for (printed on stdout already).
 * Unknown options name the nearest; all errors are ECG_ERR_USAGE. arg_lists are freed by args_free. */
enum ecg_status args_parse(const struct args *a, int argc, char **argv, struct arg_list *operands,
                           bool *help);
void args_free(const struct args *a, struct arg_list *operands);

#endif
