/* SPDX-License-Identifier: MIT
 * The commands. Each takes the words after its name and returns the status that main turns into an exit code. */
#ifndef TRAIN_CLI_COMMANDS_H
#define TRAIN_CLI_COMMANDS_H

#include "core/status.h"

enum ecg_status command_import(int argc, char **argv);
enum ecg_status command_synth(int argc, char **argv);
enum ecg_status command_inspect(int argc, char **argv);
enum ecg_status command_pretrain(int argc, char **argv);
enum ecg_status command_finetune(int argc, char **argv);
enum ecg_status command_study(int argc, char **argv);
enum ecg_status command_sweep(int argc, char **argv);
enum ecg_status command_plan(int argc, char **argv);
enum ecg_status command_evaluate(int argc, char **argv);
enum ecg_status command_predict(int argc, char **argv);
enum ecg_status command_embed(int argc, char **argv);
enum ecg_status command_convert(int argc, char **argv);
enum ecg_status command_selftest(int argc, char **argv);
enum ecg_status command_bench(int argc, char **argv);
enum ecg_status command_doctor(int argc, char **argv);

/* How the commands that train end before their work is done; ARGS_STOP are the options' rows (train/cli/args.h). */
struct stop_args {
    const char *max_time, *requeue;
};
#define ARGS_STOP(o)                                                                               \
    {"max-time",                                                                                   \
     ARG_TEXT,                                                                                     \
     &(o).max_time,                                                                                \
     "TIME",                                                                                       \
     "save and stop within it, exit code 75: [D-]HH:MM[:SS], or minutes",                          \
     false},                                                                                       \
        {"requeue",                                                                                \
         ARG_TEXT,                                                                                 \
         &(o).requeue,                                                                             \
         "auto|never",                                                                             \
         "auto: after a stop by TERM, USR1 or the time limit, scontrol requeue this Slurm job",    \
         false}
/* What the commands that train say about stopping in their help. */
extern const char command_stop_help[];
/* Before the training: catches the signals, starts the time limit. After it: requeues; returns `status`. */
enum ecg_status command_stop_begin(const struct stop_args *o);
enum ecg_status command_stop_end(const struct stop_args *o, enum ecg_status status);

/* The whole command line as one string, words with blanks quoted, for manifests and dataset.json. Set by main. */
extern const char *command_line;

#endif
