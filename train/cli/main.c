/* SPDX-License-Identifier: MIT
 * einthoven: one binary, one table of commands. The only place that exits. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/conf.h"
#include "core/file.h"
#include "core/log.h"
#include "train/cli/commands.h"
#include "train/run/version.h"

struct command {
    const char *name;
    enum ecg_status (*run)(int argc, char **argv);
    const char *summary;
};

static const struct command commands[] = {
    {"import", command_import, "recordings (wfdb, hdf5) to a data set: a folder of shards"},
    {"synth", command_synth, "simulated 12-lead ECGs with labels and targets"},
    {"inspect", command_inspect, "what is in a shard, a data set, a weights file, a run"},
    {"pretrain", command_pretrain, "train a network from scratch"},
    {"finetune", command_finetune, "a new head on given weights: linear probe or in full"},
    {"study", command_study,
     "ways to fine-tune compared: modes, fractions of the patients, folds, seeds"},
    {"sweep", command_sweep, "hyper-parameters searched: random trials, successive halving"},
    {"plan", command_plan, "parameters, memory, steps and time of a run, before it runs"},
    {"evaluate", command_evaluate, "metrics of weights on a data set"},
    {"predict", command_predict, "logits and probabilities, a record a row"},
    {"embed", command_embed, "features before the head, a record a row"},
    {"convert", command_convert, "weights to PyTorch's .pth or to .safetensors"},
    {"selftest", command_selftest, "every operation against the oracle on this machine"},
    {"bench", command_bench, "what this machine reaches of its own peaks"},
    {"doctor", command_doctor, "what works on this machine, what does not, and why"},
};
#define N_COMMANDS (sizeof(commands) / sizeof(*commands))

const char *command_line = "";

static void print_usage(FILE *f) {
    fprintf(f, "einthoven: pretrains and fine-tunes ECG foundation models\n\n"
               "usage: einthoven COMMAND [options]\n\ncommands:\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fprintf(
        f,
        "\neinthoven COMMAND --help tells more; -q before the command: warnings and errors only;\n"
        "einthoven --version. A start: einthoven synth --out ecgs --records 2000 --seed 1\n");
}

static const struct command *find_command(const char *name) {
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0) return &commands[i];
    return NULL;
}

static enum ecg_status unknown_command(const char *name) {
    const char *names[N_COMMANDS];
    for (size_t i = 0; i < N_COMMANDS; i++) names[i] = commands[i].name;
    char hint[CONF_HINT_MAX];
    return ecg_fail(ECG_ERR_USAGE, "unknown command %s%s (einthoven --help lists them)", name,
                    conf_did_you_mean(hint, name, names, (int)N_COMMANDS));
}

static char *join_words(int argc, char **argv) {
    size_t n = 1;
    for (int i = 0; i < argc; i++) n += strlen(argv[i]) + 3;
    char *text = malloc(n);
    if (text == NULL) return NULL;
    text[0] = 0;
    for (int i = 0; i < argc; i++) {
        bool quote = strpbrk(argv[i], " \t{}[]*?'\"") != NULL;
        strcat(strcat(strcat(text, i > 0 ? " " : ""), quote ? "'" : ""), argv[i]);
        if (quote) strcat(text, "'");
    }
    return text;
}

static enum ecg_status run(int argc, char **argv) {
    int i = 1;
    for (; i < argc && strcmp(argv[i], "-q") == 0; i++) log_set_level(LOG_WARN);
    if (i >= argc) {
        print_usage(stderr);
        return ECG_ERR_USAGE;
    }
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0 ||
        strcmp(argv[i], "help") == 0) {
        print_usage(stdout);
        return ECG_OK;
    }
    if (strcmp(argv[i], "--version") == 0) {
        printf("einthoven %s (git %s)\n", EINTHOVEN_VERSION, version_git());
        return ECG_OK;
    }
    const struct command *command = find_command(argv[i]);
    if (command == NULL) return unknown_command(argv[i]);
    return command->run(argc - i - 1, argv + i + 1);
}

int main(int argc, char **argv) {
    umask(027); /* patients' data is not for everybody on the machine */
    file_map_guard();
    char *words = join_words(argc, argv);
    if (words != NULL) command_line = words;
    enum ecg_status status = run(argc, argv);
    if (status != ECG_OK && ecg_message()[0] != 0) log_error("%s", ecg_message());
    if (fflush(stdout) != 0 && status == ECG_OK) {
        log_error("standard output: %s", strerror(errno));
        status = ECG_ERR_IO;
    }
    free(words);
    return ecg_exit_code(status);
}
