/* SPDX-License-Identifier: MIT
 * evaluate, predict, embed, convert, inspect, doctor, selftest: the commands that run or look at weights and machines. */
#include "train/cli/args.h"
#include "train/cli/commands.h"
#include "train/run/convert.h"
#include "train/run/doctor.h"
#include "train/run/evaluate.h"
#include "train/run/inspect.h"
#include "train/run/predict.h"
#include "train/run/selftest.h"

#define BATCH_HELP "records at a time (default 32); a record's result does not depend on it"

enum ecg_status command_evaluate(int argc, char **argv) {
    struct evaluate_options o = {.device = "cpu", .batch = 32};
    struct arg_list operands = {0};
    const struct arg table[] = {
        {"weights", ARG_TEXT, &o.weights, "W", "weights file, checkpoint or run folder (its best)",
         true},
        {"data", ARG_TEXT, &o.data, "DIR",
         "data set, or '{path: DIR, fold: 9}' or '{path: DIR, part: [0.8, 1]}'", true},
        {"out", ARG_TEXT, &o.out, "OUT", "folder for metrics.json and predictions.csv", true},
        {"predictions", ARG_TEXT, &o.predictions, "P.h5", "take the outputs from a file of predict",
         false},
        {"labels", ARG_TEXT, &o.labels, "A,B",
         "only these outputs (default: all, each a column of the data)", false},
        {"label-map", ARG_TEXT, &o.label_map, "MAP.csv",
         "joins the data's columns (codes) to the outputs by a CSV with the columns code,label; outputs "
         "without one are left out",
         false},
        {"device", ARG_TEXT, &o.device, "cpu|cuda", "default cpu", false},
        {"precision", ARG_TEXT, &o.precision, "fp32|bf16", "of the activations; default fp32",
         false},
        {"threads", ARG_COUNT, &o.threads, "N", "default: all allowed cores", false},
        {"batch", ARG_COUNT, &o.batch, "N", BATCH_HELP, false},
        {NULL, ARG_FLAG, NULL, NULL, NULL, false}};
    const struct args args = {
        "evaluate --weights W --data DIR --out OUT",
        "Metrics of a network on data whose truth is known, with 95 % intervals by a bootstrap over\n"
        "patients. Thresholds are those stored with the weights, chosen on validation data; without,\n"
        "the thresholded metrics are null.",
        table,
        0,
        0,
        NULL};
    bool help;
    enum ecg_status status = args_parse(&args, argc, argv, &operands, &help);
    if (status == ECG_OK && !help && o.batch < 1)
        status = ecg_fail(ECG_ERR_USAGE, "--batch must be at least 1");
    if (status == ECG_OK && !help) status = evaluate_run(&o);
    args_free(&args, &operands);
    return status;
}

static enum ecg_status predict_or_embed(bool embed, const char *usage, const char *summary,
                                        int argc, char **argv) {
    struct predict_options o = {.device = "cpu", .batch = 32, .embed = embed};
    struct arg_list data = {0}, operands = {0};
    const struct arg table[] = {
        {"weights", ARG_TEXT, &o.weights, "W", "weights file, checkpoint or run folder (its best)",
         true},
        {"data", ARG_VALUES, &data, "DIR|RECORD...",
         "data set, '{path: DIR, fold: 9}', or WFDB records (prepared as for training)", true},
        {"out", ARG_TEXT, &o.out, embed ? "F.h5" : "F.csv|F.h5", "the file to write", true},
        {"device", ARG_TEXT, &o.device, "cpu|cuda", "default cpu", false},
        {"precision", ARG_TEXT, &o.precision, "fp32|bf16", "of the activations; default fp32",
         false},
        {"threads", ARG_COUNT, &o.threads, "N", "default: all allowed cores", false},
        {"batch", ARG_COUNT, &o.batch, "N", BATCH_HELP, false},
        {NULL, ARG_FLAG, NULL, NULL, NULL, false}};
    const struct args args = {usage, summary, table, 0, 0, NULL};
    bool help;
    enum ecg_status status = args_parse(&args, argc, argv, &operands, &help);
    if (status == ECG_OK && !help && o.batch < 1)
        status = ecg_fail(ECG_ERR_USAGE, "--batch must be at least 1");
    if (status == ECG_OK && !help) {
        o.data = data.v;
        o.n_data = data.n;
        status = predict_run(&o);
    }
    args_free(&args, &operands);
    return status;
}

enum ecg_status command_predict(int argc, char **argv) {
    return predict_or_embed(
        false, "predict --weights W --data DIR|RECORD... --out F.csv|F.h5",
        "Outputs of a network per record, in the data's order. HDF5: record_id, logits, prob (labels);\n"
        "CSV: a column per label (its probability) or target (its value).",
        argc, argv);
}

enum ecg_status command_embed(int argc, char **argv) {
    return predict_or_embed(
        true, "embed --weights W --data DIR|RECORD... --out F.h5",
        "Features before the head per record, in the data's order: record_id, embedding.", argc,
        argv);
}

enum ecg_status command_convert(int argc, char **argv) {
    const char *label_names = NULL;
    bool help;
    struct arg_list operands = {0};
    const struct arg table[] = {
        {"label-names", ARG_TEXT, &label_names, "FILE",
         "a text file with the outputs' names, a line each, to go with the weights", false},
        {NULL, ARG_FLAG, NULL, NULL, NULL, false}};
    const struct args args = {
        "convert IN OUT [--label-names FILE]",
        "Writes the tensors of IN (a weights file, .pth or .safetensors by what it holds, a checkpoint or\n"
        "a run folder) to OUT, a .pth that torch.load reads or a .safetensors by its ending. Names, shapes,\n"
        "numbers and metadata stay as they are; a DataParallel's \"module.\" is taken off. Nothing that a\n"
        ".pth asks for is ever executed: what is more than tensors is passed over or refused.",
        table,
        2,
        2,
        NULL};
    enum ecg_status status = args_parse(&args, argc, argv, &operands, &help);
    if (status == ECG_OK && !help) status = convert_run(operands.v[0], operands.v[1], label_names);
    args_free(&args, &operands);
    return status;
}

enum ecg_status command_inspect(int argc, char **argv) {
    bool json = false, help;
    struct arg_list operands = {0};
    const struct arg table[] = {{"json", ARG_FLAG, &json, NULL, "one JSON object", false},
                                {NULL, ARG_FLAG, NULL, NULL, NULL, false}};
    const struct args args = {
        "inspect FILE|DIR [--json]",
        "What is in a shard, a data set, a weights file, a checkpoint or a run.",
        table,
        1,
        1,
        NULL};
    enum ecg_status status = args_parse(&args, argc, argv, &operands, &help);
    if (status == ECG_OK && !help) status = inspect_run(operands.v[0], json);
    args_free(&args, &operands);
    return status;
}

enum ecg_status command_doctor(int argc, char **argv) {
    bool json = false, help;
    struct arg_list operands = {0};
    const struct arg table[] = {{"json", ARG_FLAG, &json, NULL, "one JSON object", false},
                                {NULL, ARG_FLAG, NULL, NULL, NULL, false}};
    const struct args args = {
        "doctor [--json]",
        "What this machine has for einthoven: processor, GPUs, MPI, Slurm, libraries, the file system\n"
        "of the current folder. Where something can't be used it says why, and what to do.",
        table,
        0,
        0,
        NULL};
    enum ecg_status status = args_parse(&args, argc, argv, &operands, &help);
    if (status == ECG_OK && !help) status = doctor_run(json);
    args_free(&args, &operands);
    return status;
}

enum ecg_status command_selftest(int argc, char **argv) {
    const char *device = "cpu";
    int threads = 0;
    bool help;
    struct arg_list operands = {0};
    const struct arg table[] = {
        {"device", ARG_TEXT, &device, "cpu|cuda", "default cpu", false},
        {"threads", ARG_COUNT, &threads, "N", "default: all allowed cores", false},
        {NULL, ARG_FLAG, NULL, NULL, NULL, false}};
    const struct args args = {
        "selftest [--device cpu|cuda]",
        "Runs every operation on this machine's own hardware against the slow oracle and prints the\n"
        "measured errors.",
        table,
        0,
        0,
        NULL};
    enum ecg_status status = args_parse(&args, argc, argv, &operands, &help);
    if (status == ECG_OK && !help) status = selftest_run(device, threads);
    args_free(&args, &operands);
    return status;
}
