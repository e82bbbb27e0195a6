/* SPDX-License-Identifier: MIT
 * pretrain and finetune. */
#include <stdlib.h>

#include "train/cli/args.h"
#include "train/cli/commands.h"
#include "train/run/config.h"
#include "train/run/training.h"

static const char *config_keys(void) {
    char *text = NULL;
    return conf_help(config_options, &text) == ECG_OK ? text : NULL;
}

enum ecg_status command_pretrain(int argc, char **argv) {
    struct training_options o = {.command = command_line};
    struct arg_list sets = {0}, operands = {0};
    const struct arg table[] = {
        {"out", ARG_TEXT, &o.out, "RUN", "run folder: config, metrics, checkpoints", true},
        {"set", ARG_LIST, &sets, "KEY=VALUE", "overrides a key of CONFIG; may be given again",
         false},
        {"resume", ARG_FLAG, &o.resume, NULL,
         "go on from RUN/checkpoints/last; from the start without one", false},
        {NULL, ARG_FLAG, NULL, NULL, NULL, false}};
    const struct args args = {
        "pretrain CONFIG --out RUN [--set KEY=VALUE]... [--resume]",
        "Trains a network from scratch, or from init.weights, as the YAML file CONFIG says.\n"
        "    einthoven pretrain configs/ptbxl_superclass.yaml --set data.train='{path: ptbxl, "
        "fold: 1-8}' --out runs/a",
        table,
        1,
        1,
        config_keys};
    bool help;
    enum ecg_status status = args_parse(&args, argc, argv, &operands, &help);
    if (status == ECG_OK && !help) {
        o.config = operands.v[0];
        o.sets = sets.v;
        o.n_sets = sets.n;
        status = pretrain_run(&o);
    }
    args_free(&args, &operands);
    return status;
}

enum ecg_status command_finetune(int argc, char **argv) {
    struct training_options o = {.command = command_line};
    struct arg_list sets = {0}, operands = {0};
    const struct arg table[] = {
        {"weights", ARG_TEXT, &o.weights, "W",
         "weights file, checkpoint or run folder to start from", true},
        {"out", ARG_TEXT, &o.out, "RUN", "run folder: config, metrics, checkpoints", true},
        {"set", ARG_LIST, &sets, "KEY=VALUE", "overrides a key of CONFIG; may be given again",
         false},
        {"resume", ARG_FLAG, &o.resume, NULL,
         "go on from RUN/checkpoints/last; from the start without one", false},
        {NULL, ARG_FLAG, NULL, NULL, NULL, false}};
    const struct args args = {
        "finetune CONFIG --weights W --out RUN [--set KEY=VALUE]... [--resume]",
        "Puts a new head for head.labels or head.targets on given weights and trains it: alone "
        "(head.freeze: true,\na linear probe) or with the backbone (optim.backbone_lr). The "
        "network's shape is the weights'.\n"
        "    einthoven finetune configs/finetune.yaml --weights runs/a --set head.targets=[age] "
        "--out runs/age",
        table,
        1,
        1,
        config_keys};
    bool help;
    enum ecg_status status = args_parse(&args, argc, argv, &operands, &help);
    if (status == ECG_OK && !help) {
        o.config = operands.v[0];
        o.sets = sets.v;
        o.n_sets = sets.n;
        status = finetune_run(&o);
    }
    args_free(&args, &operands);
    return status;
}
