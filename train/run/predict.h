/* SPDX-License-Identifier: MIT
 * predict and embed: what the network says of each record, in the data's order. */
#ifndef TRAIN_RUN_PREDICT_H
#define TRAIN_RUN_PREDICT_H

#include <stdbool.h>

#include "core/status.h"

struct predict_options {
    const char *weights; /* weights file, checkpoint or run folder */
    char *const *data;   /* one data set (a path or {path: DIR, fold: 9}), or WFDB records */
    int n_data;
    const char *out; /* F.csv or F.h5 */
    bool embed;      /* features instead of outputs */
    const char *device, *precision; /* NULL: fp32 */
    int threads, batch;
};
enum ecg_status predict_run(const struct predict_options *o);

#endif
