/* SPDX-License-Identifier: MIT
 * study on the command line. */
#include "train/run/study.h"

#include <stdio.h>
#include <stdlib.h>

#include "train/cli/args.h"
#include "train/cli/commands.h"

static const char summary[] =
    "Compares ways to fine-tune: every combination of mode, fraction of the training patients, fold\n"
    "and seed is one `finetune` run of CONFIG in DIR/MODE/fraction-F[/fold-I]/seed-S, and one table\n"
    "gives mean, sample sd, least and largest figure a fraction and mode. The figure is the one\n"
    "that test/metrics.json calls main (macro AUROC, else C-index, MAE or accuracy) on data.test or the\n"
    "fold left out; without a test part the last one on data.valid.\n"
    "    einthoven study configs/finetune.yaml --weights runs/a --out runs/study \\\n"
    "        --set head.labels='[low_lvef]' --set finetune.probe_lr=1e-2 --fractions 0.1,1\n"
    "A head alone wants a larger learning rate than a full run: finetune.probe_lr. The two random modes\n"
    "show what the weights are worth: without them any figure may be the task's own.\n"
    "\n"
    "A seed S sets train.seed, init.seed and data.fraction_seed: other initial weights, another order and\n"
    "another draw of patients; the modes of a seed see the same patients, and a smaller fraction is\n"
    "part of the larger ones. Where assignments meet, the later wins: CONFIG, --set, the mode's own,\n"
    "--mode-set, then seed, fraction and fold.\n"
    "With --folds K the patients of data.train are cut into K parts: each is tested once by a run that\n"
    "trained on the others. data.valid and data.test must be null then (no early stop, no best\n"
    "checkpoint: the last weights are tested), so that no patient tested had a say in the training.\n"
    "\n"
    "DIR/study.csv has a line a run, DIR/study.json everything; each run keeps its config, metrics and\n"
    "test predictions. Weights are deleted once a run's figure is there, unless --keep-weights.\n"
    "A run that fails by itself (diverged) does not stop the others: they are named at the end, exit\n"
    "code 1. --resume goes on with the run that was stopped, skips those that are done and tries failed\n"
    "ones again. More seeds, fractions or modes may be asked for then.";

static const char *modes(void) {
    char *text = NULL;
    char *list = NULL;
    if (study_modes_help(&list) != ECG_OK) return NULL;
    if (asprintf(&text, "%s\n\n%s", command_stop_help, list) < 0) text = NULL;
    free(list);
    return text;
}

enum ecg_status command_study(int argc, char **argv) {
    struct study_options o = {.modes = "probe,full,lp-ft,random,random-probe",
                              .fractions = "1",
                              .seeds = 5,
                              .command = command_line};
    struct stop_args stop = {0};
    struct arg_list sets = {0}, mode_sets = {0}, operands = {0};
    const struct arg table[] = {
        {"weights", ARG_TEXT, &o.weights, "W",
         "weights file, checkpoint or run folder to start from", true},
        {"out", ARG_TEXT, &o.out, "DIR", "folder of the study", true},
        {"set", ARG_LIST, &sets, "KEY=VALUE", "overrides a key of CONFIG in all runs", false},
        {"modes", ARG_TEXT, &o.modes, "A,B",
         "ways to fine-tune (default: all built-in ones); see below", false},
        {"mode-set", ARG_LIST, &mode_sets, "MODE:KEY=VALUE", "overrides a key in one mode's runs",
         false},
        {"seeds", ARG_COUNT, &o.seeds, "N", "seeds 1 to N (default 5)", false},
        {"fractions", ARG_TEXT, &o.fractions, "F,G",
         "parts of data.train's patients to train on (default 1)", false},
        {"folds", ARG_COUNT, &o.folds, "K", "k-fold by patient over data.train", false},
        {"keep-weights", ARG_FLAG, &o.keep_weights, NULL, "keep every run's checkpoints", false},
        {"resume", ARG_FLAG, &o.resume, NULL, "go on with the study in DIR", false},
        ARGS_STOP(stop),
        {"json", ARG_FLAG, &o.json, NULL, "study.json on stdout in place of the table", false},
        {NULL, ARG_FLAG, NULL, NULL, NULL, false}};
    const struct args args = {"study CONFIG --weights W --out DIR [--set KEY=VALUE]... [--resume]",
                              summary,
                              table,
                              1,
                              1,
                              modes};
    bool help;
    enum ecg_status status = args_parse(&args, argc, argv, &operands, &help);
    if (status == ECG_OK && !help) {
        o.config = operands.v[0];
        o.sets = sets.v;
        o.n_sets = sets.n;
        o.mode_sets = mode_sets.v;
        o.n_mode_sets = mode_sets.n;
        status = command_stop_begin(&stop);
        if (status == ECG_OK) status = command_stop_end(&stop, study_run(&o));
    }
    args_free(&args, &operands);
    return status;
}
