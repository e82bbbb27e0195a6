/* SPDX-License-Identifier: MIT
 * import: recordings to a data set. */
#include "data/import.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/conf.h"
#include "core/mem.h"
#include "train/cli/args.h"
#include "train/cli/commands.h"

#define NOT_GIVEN (-1.0) /* no rate or length that could be asked for */

/* The options as they stand on the command line. */
struct words {
    const char *out, *map, *preset, *leads, *label_map, *code_column, *code_field;
    const char *labels, *id_column, *label_columns, *target_columns, *patient_column, *fold_column;
    double rate, length;
    bool windows;
    int jobs;
};

static enum ecg_status choose(const char *what, const char *word, const char *const *names,
                              int *index) {
    for (*index = 0; names[*index] != NULL; (*index)++)
        if (strcmp(names[*index], word) == 0) return ECG_OK;
    char hint[CONF_HINT_MAX];
    char known[128] = "";
    for (int i = 0; names[i] != NULL; i++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof(known) - n, "%s%s", i > 0 ? ", " : "", names[i]);
    }
    return ecg_fail(ECG_ERR_USAGE, "unknown %s %s%s (known: %s)", what, word,
                    conf_did_you_mean(hint, word, names, -1), known);
}

/* "a,b,c" in place; the list points into text. */
static enum ecg_status split(char *text, char ***v, int *n) {
    if (text == NULL) return ECG_OK;
    TRY(MEM_NEW(v, strlen(text) / 2 + 1));
    char *save = NULL;
    for (char *w = strtok_r(text, ",", &save); w != NULL; w = strtok_r(NULL, ",", &save))
        (*v)[(*n)++] = w;
    return ECG_OK;
}

static enum ecg_status copy(char **to, const char *text) {
    return text == NULL ? ECG_OK : mem_strdup(to, text);
}

static enum ecg_status set_prep(struct prep *prep, const struct words *w) {
    int preset = 0;
    TRY(choose("preset", w->preset, prep_preset_names, &preset));
    prep->preset = (enum prep_preset)preset;
    bool has_rate = w->rate != NOT_GIVEN, has_length = w->length != NOT_GIVEN;
    if ((has_rate && !(w->rate > 0)) || (has_length && !(w->length > 0)))
        return ecg_fail(ECG_ERR_USAGE, "--rate and --length must be above 0");
    prep->rate = has_rate ? w->rate : 0;
    prep->seconds = has_length ? w->length : 0;
    if (w->windows && !has_length)
        return ecg_fail(ECG_ERR_USAGE, "--windows needs --length, the seconds of a window");
    prep->length = w->windows   ? PREP_LENGTH_WINDOWS
                   : has_length ? PREP_LENGTH_CROP
                                : PREP_LENGTH_KEEP;
    if (w->leads == NULL || leads_parse(&prep->leads, w->leads) == ECG_OK) return ECG_OK;
    return ecg_fail_prefix(ECG_ERR_USAGE, "--leads: ");
}

static enum ecg_status check_words(const struct import_options *o, const struct words *w) {
    bool has_columns = w->id_column || w->label_columns || w->target_columns || w->patient_column ||
                       w->fold_column || w->code_column;
    if (w->label_map == NULL && (w->code_column != NULL || w->code_field != NULL))
        return ecg_fail(ECG_ERR_USAGE, "--code-column and --code-field need --label-map MAP.csv");
    if (w->code_column != NULL && w->code_field != NULL)
        return ecg_fail(ECG_ERR_USAGE, "codes come from --code-column or --code-field, not both");
    if (o->format == IMPORT_HDF5) {
        if (w->code_field != NULL)
            return ecg_fail(ECG_ERR_USAGE, "import hdf5 takes codes from the map's key codes");
        if (w->map == NULL) return ecg_fail(ECG_ERR_USAGE, "import hdf5 needs --map MAP.yaml");
        if (w->labels != NULL || has_columns)
            return ecg_fail(ECG_ERR_USAGE,
                            "import hdf5 takes labels and targets from the map, not from a CSV");
        if (o->n_sources != 1) return ecg_fail(ECG_ERR_USAGE, "import hdf5 takes one file");
        return ECG_OK;
    }
    if (w->map != NULL && w->labels == NULL)
        return ecg_fail(ECG_ERR_USAGE, "--map derives columns from a CSV's: it needs --labels CSV");
    if (w->labels == NULL && has_columns)
        return ecg_fail(ECG_ERR_USAGE,
                        "--id-column, --label-columns and their like need --labels CSV");
    return ECG_OK;
}

static enum ecg_status run(struct import_options *o, const struct words *w,
                           const struct arg_list *operands) {
    char *labels = NULL, *targets = NULL, **label_names = NULL, **target_names = NULL;
    int format;
    enum ecg_status status;
    TRY_OUT(choose("format", operands->v[0], import_format_names, &format));
    o->format = (enum import_format)format;
    o->sources = operands->v + 1;
    o->n_sources = operands->n - 1;
    TRY_OUT(check_words(o, w));
    TRY_OUT(set_prep(&o->prep, w));
    TRY_OUT(copy(&labels, w->label_columns));
    TRY_OUT(copy(&targets, w->target_columns));
    o->table = (struct table_spec){.path = w->labels,
                                   .id_column = w->id_column,
                                   .patient_column = w->patient_column,
                                   .fold_column = w->fold_column};
    if (o->format == IMPORT_WFDB && w->map != NULL)
        TRY_OUT(column_rules_read(&o->table.derived_labels, &o->table.derived_targets, w->map));
    o->table.code_column = w->code_column;
    o->label_map = w->label_map;
    o->code_field = w->code_field != NULL ? w->code_field : "Dx";
    TRY_OUT(split(labels, &label_names, &o->table.n_labels));
    TRY_OUT(split(targets, &target_names, &o->table.n_targets));
    o->table.label_columns = label_names;
    o->table.target_columns = target_names;
    o->map = w->map;
    o->out = w->out;
    o->jobs = w->jobs;
    o->made_by = command_line;
    TRY_OUT(import_run(o));
out:
    free(labels);
    free(targets);
    free(label_names);
    free(target_names);
    column_rules_free(&o->table.derived_labels);
    column_rules_free(&o->table.derived_targets);
    return status;
}

enum ecg_status command_import(int argc, char **argv) {
    struct words w = {.preset = "none", .rate = NOT_GIVEN, .length = NOT_GIVEN};
    struct import_options o = {0};
    struct arg_list operands = {0};
    const struct arg table[] = {
        {"out", ARG_TEXT, &w.out, "DIR", "the new data set's folder", true},
        {"map", ARG_TEXT, &w.map, "MAP.yaml",
         "hdf5: where things are in the file; wfdb: columns derived from the CSV's (see README)",
         false},
        {"labels", ARG_TEXT, &w.labels, "CSV", "wfdb: labels and targets, a row a record", false},
        {"id-column", ARG_TEXT, &w.id_column, "NAME",
         "the CSV's column of record names (default: the first)", false},
        {"label-columns", ARG_TEXT, &w.label_columns, "A,B", "columns of 0, 1 or blank (unknown)",
         false},
        {"target-columns", ARG_TEXT, &w.target_columns, "A,B",
         "columns of numbers or blank (unknown)", false},
        {"patient-column", ARG_TEXT, &w.patient_column, "NAME",
         "the patient; without, each record is its own", false},
        {"fold-column", ARG_TEXT, &w.fold_column, "NAME", "cross-validation fold", false},
        {"label-map", ARG_TEXT, &w.label_map, "MAP.csv",
         "labels from source codes: a CSV with the columns code,label (see README)", false},
        {"code-column", ARG_TEXT, &w.code_column, "NAME",
         "the CSV's column of codes, as scp_codes (without: the headers')", false},
        {"code-field", ARG_TEXT, &w.code_field, "NAME",
         "the headers' line of codes, \"#NAME: ...\" (default: Dx)", false},
        {"preset", ARG_TEXT, &w.preset, "NAME", "none (default), official, paper, ptbxl-eval",
         false},
        {"rate", ARG_NUMBER, &w.rate, "HZ", "resample to this rate (default: the recording's own)",
         false},
        {"length", ARG_NUMBER, &w.length, "S",
         "crop or right zero-pad to S seconds (default: as it is)", false},
        {"windows", ARG_FLAG, &w.windows, NULL, "with --length: consecutive windows instead of one",
         false},
        {"leads", ARG_TEXT, &w.leads, "I,II",
         "leads to keep, in this order (default: the first record's)", false},
        {"jobs", ARG_COUNT, &w.jobs, "N",
         "threads (default: all allowed cores); the result doesn't depend on it", false},
        {NULL, ARG_FLAG, NULL, NULL, NULL, false}};
    const struct args args = {
        "import wfdb DIR|RECORD|LIST... --out DIR | import hdf5 FILE --map MAP.yaml --out DIR",
        "Turns recordings into a data set (a folder of shards). Goes on past bad records and lists "
        "each with its\nreason in DIR/rejected.csv.",
        table,
        2,
        -1,
        NULL};
    bool help;
    enum ecg_status status = args_parse(&args, argc, argv, &operands, &help);
    if (status == ECG_OK && !help) status = run(&o, &w, &operands);
    args_free(&args, &operands);
    return status;
}
