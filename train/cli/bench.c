/* SPDX-License-Identifier: MIT
 * bench on the command line. */
#include "train/run/bench.h"

#include "train/cli/args.h"
#include "train/cli/commands.h"

enum ecg_status command_bench(int argc, char **argv) {
    struct bench_options o = {.device = "cpu"};
    struct arg_list operands = {0};
    const struct arg table[] = {
        {"ops", ARG_FLAG, &o.ops, NULL, "convolutions and the other operations, shape by shape",
         false},
        {"train", ARG_FLAG, &o.train, NULL, "whole training steps and inference", false},
        {"loader", ARG_FLAG, &o.loader, NULL, "records read from a data set", false},
        {"data", ARG_TEXT, &o.data, "DIR", "the loader's data set (default: a simulated one)",
         false},
        {"model", ARG_TEXT, &o.model, "M", "published (12 x 5000) or ptbxl_superclass (12 x 1000)",
         false},
        {"precision", ARG_TEXT, &o.precision, "fp32|bf16", "of the activations", false},
        {"batch-norm", ARG_FLAG, &o.batch_norm, NULL, "the network with batch normalisation",
         false},
        {"batch", ARG_COUNT, &o.batch, "N",
         "records at a time (default 16; ptbxl_superclass 32; on cuda 256, 1024)", false},
        {"kernels", ARG_FLAG, &o.kernels, NULL,
         "--train, and the time of each kernel of a training step (cuda)", false},
        {"runs", ARG_COUNT, &o.runs, "N", "training steps and forward passes timed (default 5)",
         false},
        {"quick", ARG_FLAG, &o.quick, NULL, "few and short runs; figures are rough", false},
        {"device", ARG_TEXT, &o.device, "cpu|cuda", "default cpu", false},
        {"threads", ARG_COUNT, &o.threads, "N", "default: all allowed cores", false},
        {"json", ARG_FLAG, &o.json, NULL, "one JSON object", false},
        {NULL, ARG_FLAG, NULL, NULL, NULL, false}};
    const struct args args = {
        "bench [--ops] [--train] [--loader] [--kernels] [--json]",
        "What this machine reaches, as a share of what it can do at most: its peaks are measured\n"
        "first, then every operation at the network's shapes, then training steps and inference,\n"
        "then (with --loader or --data) the reading of records. --ops, --train and --loader choose\n"
        "parts; --model, --precision or --batch-norm choose one configuration of --train.\n"
        "    einthoven bench --train --model published --batch-norm --precision bf16 --json",
        table,
        0,
        0,
        NULL};
    bool help;
    enum ecg_status status = args_parse(&args, argc, argv, &operands, &help);
    if (status == ECG_OK && !help) status = bench_run(&o);
    args_free(&args, &operands);
    return status;
}
