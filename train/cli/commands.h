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

/* TERM, USR1 (Slurm's warning) and the first INT end a training run after its present step, with the state saved. */
void command_catch_signals(void);

/* The whole command line as one string, words with blanks quoted, for manifests and dataset.json. Set by main. */
extern const char *command_line;

#endif
