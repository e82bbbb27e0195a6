/* SPDX-License-Identifier: MIT
 * sweep on the command line. */
#include "train/run/sweep.h"
#include "train/cli/args.h"
#include "train/cli/commands.h"

static const char summary[] =
    "Searches for hyper-parameters: N trials, each CONFIG with values drawn from SPACE.yaml, each one\n"
    "`pretrain` run (with --weights: `finetune`) in DIR/trial-000i. SPACE.yaml has the config's keys\n"
    "with a list or a range in place of each value:\n"
    "    optim.lr: {log: [1e-5, 1e-2]}          # evenly in its logarithm\n"
    "    model.dropout: {uniform: [0, 0.5]}\n"
    "    schedule.patience: {int: [2, 10]}      # whole numbers, both ends included\n"
    "    train.batch_size: [16, 32]             # one of these\n"
    "    einthoven sweep configs/finetune.yaml --weights runs/a --space space.yaml --out runs/sweep \\\n"
    "        --set head.labels='[low_lvef]' --trials 27 --halving --jobs 4\n"
    "Trials are compared by their best validation: macro AUROC, or the loss where there is none. data.valid\n"
    "must be set; data.test is left out of the trials, whatever CONFIG says, and stands in best.yaml again.\n"
    "\n"
    "Trial i is a function of --seed, i and each key's name: more trials, another key in the space,\n"
    "--jobs or a job array leave its values as they are. All trials have CONFIG's train.seed.\n"
    "--halving: all trials train for a few epochs, the best 1/ETA of them go on from their checkpoints to\n"
    "ETA times as many, and so on up to train.epochs. A trial's schedule is that of the whole run, from\n"
    "the start: an early rung sees its first, high learning rates, and who reaches the end has the weights\n"
    "that it would have without halving.\n"
    "\n"
    "--jobs J runs J trials at once, each with 1/J of the cores (of the GPUs, where CUDA_VISIBLE_DEVICES\n"
    "lists several, each has one). In a Slurm job array every task runs the same command: the tasks share\n"
    "the trials out among them by files in DIR, which all must see, and wait for each other between\n"
    "rungs; a task that is requeued goes on with its own.\n"
    "\n"
    "DIR/sweep.csv and sweep.json have the trials in the order of the table, DIR/best.yaml is the best one's\n"
    "config. Checkpoints of all others are deleted, unless --keep-weights. A trial that fails by itself\n"
    "(diverged, out of memory) is named and ranks last; exit code 1 when all did. A stop (TERM, USR1, INT)\n"
    "saves the trials under way, exit code 75; --resume goes on, also with more --trials.";

enum ecg_status command_sweep(int argc, char **argv) {
    struct sweep_options o = {
        .trials = 16, .seed = 1, .eta = 3, .jobs = 1, .command = command_line};
    struct stop_args stop = {0};
    struct arg_list sets = {0}, operands = {0};
    const struct arg table[] = {
        {"space", ARG_TEXT, &o.space, "SPACE", "YAML file: what is searched", true},
        {"out", ARG_TEXT, &o.out, "DIR", "folder of the sweep", true},
        {"weights", ARG_TEXT, &o.weights, "W", "trials are finetune --weights W, not pretrain",
         false},
        {"set", ARG_LIST, &sets, "KEY=VALUE", "overrides a key of CONFIG in all trials", false},
        {"trials", ARG_COUNT, &o.trials, "N", "how many (default 16)", false},
        {"seed", ARG_SEED, &o.seed, "S", "of the draws (default 1)", false},
        {"halving", ARG_FLAG, &o.halving, NULL, "successive halving by epochs", false},
        {"eta", ARG_COUNT, &o.eta, "ETA", "halving: the best 1/ETA go on (default 3)", false},
        {"jobs", ARG_COUNT, &o.jobs, "J", "trials at once (default 1)", false},
        {"keep-weights", ARG_FLAG, &o.keep_weights, NULL, "keep every trial's checkpoints", false},
        {"resume", ARG_FLAG, &o.resume, NULL, "go on with the sweep in DIR", false},
        ARGS_STOP(stop),
        {"json", ARG_FLAG, &o.json, NULL, "sweep.json on stdout in place of the table", false},
        {NULL, ARG_FLAG, NULL, NULL, NULL, false}};
    const struct args args = {
        "sweep CONFIG --space SPACE --out DIR [--trials N] [--halving] [--jobs J] [--resume]",
        summary,
        table,
        1,
        1,
        NULL};
    bool help;
    enum ecg_status status = args_parse(&args, argc, argv, &operands, &help);
    if (status == ECG_OK && !help) {
        o.config = operands.v[0];
        o.sets = sets.v;
        o.n_sets = sets.n;
        status = command_stop_begin(&stop);
        if (status == ECG_OK) status = command_stop_end(&stop, sweep_run(&o));
    }
    args_free(&args, &operands);
    return status;
}
