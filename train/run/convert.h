/* SPDX-License-Identifier: MIT
 * convert: a file of tensors in the other format. */
#ifndef TRAIN_RUN_CONVERT_H
#define TRAIN_RUN_CONVERT_H

#include "core/status.h"

/* in: a weights file, a checkpoint or a run folder; out: NAME.pth, NAME.pt or NAME.safetensors, else ECG_ERR_USAGE.
 * Tensors keep their bits. Says on the log what network it is, or that it is no Net1D. */
enum ecg_status convert_run(const char *in, const char *out);

#endif
