/* SPDX-License-Identifier: MIT
 * --max-time and --requeue of pretrain, finetune and study. */
#include <string.h>

#include "train/cli/commands.h"
#include "train/run/slurm.h"
#include "train/run/stop.h"

const char command_stop_help[] =
    "TERM, USR1 and the time limit (--max-time, or SLURM_JOB_END_TIME where it is earlier) end it after\n"
    "the step under way with the state saved, exit code 75: --resume goes on. INT (ctrl-C) does so\n"
    "once, and ends it at once when it comes twice. USR2 saves and goes on.";

static bool requeues(const struct stop_args *o) {
    return o->requeue != NULL && strcmp(o->requeue, "auto") == 0;
}

enum ecg_status command_stop_begin(const struct stop_args *o) {
    if (o->requeue != NULL && !requeues(o) && strcmp(o->requeue, "never") != 0)
        return ecg_fail(ECG_ERR_USAGE, "--requeue: \"%s\" is neither auto nor never", o->requeue);
    stop_catch_signals();
    return stop_limit(o->max_time);
}

enum ecg_status command_stop_end(const struct stop_args *o, enum ecg_status status) {
    if (status == ECG_ERR_STOPPED && requeues(o)) slurm_requeue();
    return status;
}
