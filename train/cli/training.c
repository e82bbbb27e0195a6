/* SPDX-License-Identifier: MIT
 * pretrain, finetune and plan. */
#include <stdio.h>
#include <stdlib.h>

#include "train/cli/args.h"
#include "train/cli/commands.h"
#include "train/run/config.h"
#include "train/run/gpu_model.h"
#include "train/run/plan.h"
#include "train/run/training.h"

static const char *further_help(void) {
    char *text = NULL;
    char *keys = NULL;
    if (conf_help(config_options, &keys) != ECG_OK) return NULL;
    if (asprintf(&text, "%s\n\n%s", command_stop_help, keys) < 0) text = NULL;
    free(keys);
    return text;
}

/* The two commands differ in --weights and in what they run. */
static enum ecg_status train(enum ecg_status (*run)(const struct training_options *), bool weights,
                             const char *usage, const char *summary, int argc, char **argv) {
    struct training_options o = {.command = command_line};
    struct stop_args stop = {0};
    struct arg_list sets = {0}, operands = {0};
    const struct arg table[] = {
        {"weights", ARG_TEXT, &o.weights, "W",
         "weights file, checkpoint or run folder to start from", true},
        {"out", ARG_TEXT, &o.out, "RUN", "run folder: config, metrics, checkpoints", true},
        {"set", ARG_LIST, &sets, "KEY=VALUE", "overrides a key of CONFIG; may be given again",
         false},
        {"resume", ARG_FLAG, &o.resume, NULL,
         "go on from RUN/checkpoints/last; from the start without one", false},
        ARGS_STOP(stop),
        {NULL, ARG_FLAG, NULL, NULL, NULL, false}};
    const struct args args = {usage, summary, weights ? table : table + 1, 1, 1, further_help};
    bool help;
    enum ecg_status status = args_parse(&args, argc, argv, &operands, &help);
    if (status == ECG_OK && !help) {
        o.config = operands.v[0];
        o.sets = sets.v;
        o.n_sets = sets.n;
        status = command_stop_begin(&stop);
        if (status == ECG_OK) status = command_stop_end(&stop, run(&o));
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
        "Puts a new head for head.labels, head.targets, or head.event and head.time, or several (heads),\n"
        "on given weights and trains it: alone (head.freeze: true, a linear probe), with the backbone\n"
        "(optim.backbone_lr), or first alone, then with it (finetune.probe_epochs). The network's shape is\n"
        "the weights'.\n"
        "    einthoven finetune configs/finetune.yaml --weights runs/a --out runs/age \\\n"
        "        --set head.targets='[age]'\n"
        "    einthoven finetune configs/finetune.yaml --weights runs/a --out runs/both \\\n"
        "        --set heads='[{targets: [age], loss: huber}, {event: death, time: days}]'",
        argc, argv);
}

static const char *gpus(void) {
    char *text = NULL;
    return asprintf(&text, "GPUs: %s\n", gpu_names()) >= 0 ? text : NULL;
}

enum ecg_status command_plan(int argc, char **argv) {
    struct plan_options o = {.ranks = 1, .nodes = 1, .disk = PLAN_DISK};
    struct arg_list sets = {0}, operands = {0};
    const struct arg table[] = {
        {"set", ARG_LIST, &sets, "KEY=VALUE", "overrides a key of CONFIG; may be given again",
         false},
        {"weights", ARG_TEXT, &o.weights, "W", "plan finetune --weights W, not pretrain", false},
        {"no-time", ARG_FLAG, &o.no_time, NULL, "do not run a few steps to measure their time",
         false},
        {"ranks", ARG_COUNT, &o.ranks, "N", "ranks that share the batch (default 1)", false},
        {"nodes", ARG_COUNT, &o.nodes, "M", "nodes that share the ranks evenly (default 1)", false},
        {"gpu", ARG_TEXT, &o.gpu, "G",
         "model each rank on this GPU, which need not be here; see below", false},
        {"disk", ARG_NUMBER, &o.disk, "X", "--gpu: GB/s that the files give a node (default 5)",
         false},
        {"network", ARG_NUMBER, &o.network, "X",
         "GB/s of each rank's network port (default: the GPU's usual one; CPU ranks 1.25)", false},
        {"json", ARG_FLAG, &o.json, NULL, "one JSON object, sizes in bytes, times in seconds",
         false},
        {NULL, ARG_FLAG, NULL, NULL, NULL, false}};
    const struct args args = {
        "plan CONFIG [--set KEY=VALUE]... [--ranks N [--nodes M] [--gpu G]] [--json]",
        "What training by CONFIG will need: parameters, work and steps, memory by part and its peak,\n"
        "checkpoints on disk, and time, measured by a few steps on invented records. Checks all that\n"
        "the run would check, and writes nothing. Where data.train is not there yet, what only the\n"
        "data tell is left open. --ranks N without --gpu: N ranks that share this machine's cores, one measured\n"
        "while the others work.\n"
        "\n"
        "With --gpu nothing is measured, and the time of a step is modelled: the network's arithmetic and\n"
        "memory traffic at the GPU's data sheet over an efficiency that was measured on an H200, the sums of\n"
        "gradients over NVLink and the network, beside the backward pass as far as they fit, and reading.\n"
        "`binds` says which of these decides, scaling_efficiency what the sums and reading leave of it.\n"
        "Without a data set an epoch has the published pretraining's 7.5 million ECGs.\n"
        "    einthoven plan configs/pretrain_12lead.yaml --ranks 16 --nodes 2 --gpu h100 --disk 20 \\\n"
        "        --set train.batch_size=4096 --set train.accumulate=1 --set train.precision=bf16",
        table,
        1,
        1,
        gpus};
    bool help;
    enum ecg_status status = args_parse(&args, argc, argv, &operands, &help);
    if (status == ECG_OK && !help) {
        o.config = operands.v[0];
        o.sets = sets.v;
        o.n_sets = sets.n;
        status = plan_run(&o);
    }
    args_free(&args, &operands);
    return status;
}
