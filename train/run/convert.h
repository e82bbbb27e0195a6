/* SPDX-License-Identifier: MIT
 * convert: a file of tensors in the other format. */
#ifndef TRAIN_RUN_CONVERT_H
#define TRAIN_RUN_CONVERT_H

#include "core/status.h"

/* in: a weights file, a checkpoint or a run folder; out: NAME.pth, NAME.pt or NAME.safetensors, else ECG_ERR_USAGE.
 * Tensors keep their bits. A Net1D gets the unused BN tensors of the official class that IN lacks, so that OUT loads there with
 * strict=True. label_names: a text file with a name for each output, a line each, which becomes the metadata's
 * (not a Net1D, another number of names, or outputs that are targets: ECG_ERR_DATA); NULL: what IN says stays. Says on the
 * log what network it is, or that it is no Net1D. */
enum ecg_status convert_run(const char *in, const char *out, const char *label_names);

#endif
