/* SPDX-License-Identifier: MIT
 * synth: the simulator on the command line. */
#include "data/simulator.h"
#include "train/cli/args.h"
#include "train/cli/commands.h"

enum ecg_status command_synth(int argc, char **argv) {
    const char *out = NULL;
    int records = 0, threads = 0;
    unsigned long long seed = 0;
    struct simulator_options o = {.sampling_rate = 500, .seconds = 10, .noise = 1};
    struct arg_list operands = {0};
    const struct arg table[] = {
        {"out", ARG_TEXT, &out, "DIR", "the new data set's folder", true},
        {"records", ARG_COUNT, &records, "N", "how many", true},
        {"seed", ARG_SEED, &seed, "S", "the same seed gives the same records (default 0)", false},
        {"rate", ARG_NUMBER, &o.sampling_rate, "HZ", "sampling rate (default 500)", false},
        {"length", ARG_NUMBER, &o.seconds, "S", "seconds a record (default 10)", false},
        {"noise", ARG_NUMBER, &o.noise, "X",
         "amount of wander, mains and muscle noise; 1 = clinical, 0 = none", false},
        {"outcomes", ARG_FLAG, &o.outcomes, NULL,
         "also death, follow_up_days and lvef, with the laws that they were drawn by", false},
        {"jobs", ARG_COUNT, &threads, "N",
         "threads (default: all allowed cores); the records don't depend on it", false},
        {NULL, ARG_FLAG, NULL, NULL, NULL, false}};
    const struct args args = {
        "synth --out DIR --records N [--seed S]",
        "Simulates 12-lead ECGs of a moving cardiac dipole, with rhythm and conduction labels and\n"
        "age, sex, rate and interval targets.",
        table,
        0,
        0,
        NULL};
    bool help;
    enum ecg_status status = args_parse(&args, argc, argv, &operands, &help);
    if (status == ECG_OK && !help) {
        o.seed = seed;
        status = simulator_write(&o, out, (size_t)records, threads, command_line);
    }
    args_free(&args, &operands);
    return status;
}
