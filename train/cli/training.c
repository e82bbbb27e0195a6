/* SPDX-License-Identifier: MIT
 * pretrain and finetune. */

#include "train/run/training.h"
#include "train/cli/args.h"
#include "train/cli/commands.h"
#include "train/run/config.h"

static const char *config_keys(void) {
    char *text = NULL;
    return conf_help(config_options, &text) == ECG_OK ? text : NULL;
}

/* The two commands differ in --weights and in what they run. */
static enum ecg_status train(enum ecg_status (*run)(const struct training_options *), bool weights,
                             const char *usage, const char *summary, int argc, char **argv) {
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
    const struct args args = {usage, summary, weights ? table : table + 1, 1, 1, config_keys};
    bool help;
    enum ecg_status status = args_parse(&args, argc, argv, &operands, &help);
    if (status == ECG_OK && !help) {
        o.config = operands.v[0];
        o.sets = sets.v;
        o.n_sets = sets.n;
        status = run(&o);
    }
    args_free(&args, &operands);
    return status;
}

enum ecg_status command_pretrain(int argc, char **argv) {
    return train(
        pretrain_run, false, "pretrain CONFIG --out RUN [--set KEY=VALUE]... [--resume]",
        "Trains a network from scratch, or from init.weights, as the YAML file CONFIG says.\n"
        "    einthoven pretrain configs/ptbxl_superclass.yaml --out runs/a \\\n"
        "        --set data.train='{path: ptbxl, fold: 1-8}'",
        argc, argv);
}

enum ecg_status command_finetune(int argc, char **argv) {
    return train(
        finetune_run, true, "finetune CONFIG --weights W --out RUN [--set KEY=VALUE]... [--resume]",
        "Puts a new head for head.labels or head.targets on given weights and trains it: alone\n"
        "(head.freeze: true, a linear probe) or with the backbone (optim.backbone_lr). The network's\n"
        "shape is the weights'.\n"
        "    einthoven finetune configs/finetune.yaml --weights runs/a --out runs/age \\\n"
        "        --set head.targets='[age]'",
        argc, argv);
}
