/* SPDX-License-Identifier: MIT
 * A network given by a weights file: its shape, what goes with it, and, once built, itself. */
#ifndef TRAIN_RUN_NETWORK_H
#define TRAIN_RUN_NETWORK_H

#include "checkpoints/safetensors.h"
#include "core/status.h"
#include "data/leads.h"
#include "train/model/net1d.h"
#include "train/model/weights.h"

struct network {
    char *path; /* of the weights file */
    struct safetensors file;
    struct net1d_config model;
    struct weights_meta meta;
    const struct ops *ops; /* from network_build on */
    struct ops_dev *dev;
    struct net1d net;
};

/* The weights file that a path means, fresh: itself, a checkpoint's or a run's (its checkpoints/best). A folder without one:
 * ECG_ERR_NOINPUT. */
enum ecg_status network_file(const char *path, char **file);
/* PATH: a weights file (safetensors or PyTorch's .pth), a checkpoint folder or a run folder. Reads shape and metadata. */
enum ecg_status network_read(struct network *n, const char *path);
/* Opens the device and loads the weights for inference on records of `length` samples. precision: a value of
 * train.precision, NULL: fp32. */
enum ecg_status network_build(struct network *n, const char *device, const char *precision,
                              int threads, int length, int max_batch);
void network_free(struct network *n); /* idempotent, zeroed is fine */

/* The leads of the input channels: the metadata's; without, the standard 12 or lead I by their number, else
 * ECG_ERR_CONFIG. */
enum ecg_status network_leads(const struct network *n, struct leads *leads);
/* The normalisation that the weights were trained with; foreign weights: record. */
enum ecg_status network_normalize(const struct network *n, enum ops_normalize *normalize);
/* Warns when `preprocessing` of some data is not what the weights were trained with. */
void network_warn_preset(const struct network *n, const char *preprocessing, const char *data);

#endif
