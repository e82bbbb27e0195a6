/* SPDX-License-Identifier: MIT
 * Net1D and its weights file: safetensors with the official state_dict's keys, and what the weights mean (leads, output
 * names, preset, thresholds ...) as text in the file's metadata. Nothing of the machine or the moment is written: equal
 * weights and meaning give equal bytes.
 *
 *     struct safetensors s; struct net1d_config c; struct weights_meta m; struct net1d net;
 *     safetensors_open(&s, path);  weights_read_config(&s, &c);  weights_read_meta(&s, &m);
 *     net1d_create(&net, &c, ops, dev, max_batch, false);  weights_load(&net, &s, WEIGHTS_ALL, NULL);
 */
#ifndef TRAIN_MODEL_WEIGHTS_H
#define TRAIN_MODEL_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>

#include "checkpoints/safetensors.h"
#include "core/status.h"
#include "data/names.h"
#include "train/model/heads.h"
#include "train/model/net1d.h"

/* Metadata keys of the outputs' names, a name a line: logits of labels, or values of targets; and of all other heads, as
 * JSON (train/model/heads.h). */
#define WEIGHTS_LABELS  "einthoven.labels"
#define WEIGHTS_TARGETS "einthoven.targets"
#define WEIGHTS_HEADS   "einthoven.heads"

/* What the tensors don't say. Strings and arrays belong to the struct (weights_meta_free); what a file leaves unsaid is
 * NULL or 0: foreign weights say nothing. */
struct weights_meta {
    struct names leads;   /* in the order of the input's channels */
    struct heads heads;   /* what the outputs mean; none where the file does not say */
    struct names outputs; /* their names (heads_output_names), in the order of the logits */
    char *preset;         /* the shards' `preprocessing` that it was trained on */
    char *normalize;      /* "record", "lead", "none" */
    double sampling_rate; /* Hz, of the records that it was trained on; 0 = not said */
    double *thresholds;   /* (outputs.n) p >= t is positive; NaN: none for this label; NULL: none at all */
};

/* The network of a file: leads, widths, blocks, kernel, group width and outputs from the tensors' shapes; attention pooling
 * where there is a pool.weight; batch_norm, dropout, drop_path, stride and length from the metadata, else off, 0, 0, 2 and 0
 * (= the data decide). No Net1D, or metadata that can't be: ECG_ERR_DATA. */
enum ecg_status weights_read_config(const struct safetensors *s, struct net1d_config *c);

/* The rest of the metadata; counts that contradict the tensors are ECG_ERR_DATA. */
enum ecg_status weights_read_meta(const struct safetensors *s, struct weights_meta *m);
/* For weights that don't say: one head of labels with these names, or of targets. */
enum ecg_status weights_meta_name(struct weights_meta *m, const struct names *outputs, bool targets);
void weights_meta_free(struct weights_meta *m); /* idempotent, zeroed is fine */

enum weights_mode {
    WEIGHTS_ALL,     /* every tensor, and no other */
    WEIGHTS_BACKBONE /* all but the head (net1d_is_head), which the file may hold or not and which stays as it is */
};

struct weights_report {
    size_t loaded;        /* tensors that the network computes with */
    size_t unused_kept;   /* BN tensors of a network without BN: loaded, to be written out again */
    size_t unused_absent; /* those that the file doesn't hold: they stay 1, 0, 0, 1, 0 */
    bool head_replaced;   /* WEIGHTS_BACKBONE, and the file holds a head that was left out */
};

/* Loads strictly: a tensor that is missing, has another shape, holds no numbers or NaN, or is not the network's is
 * ECG_ERR_DATA, with a message that lists them (expected and found shapes), and then nothing is loaded. Missing BN
 * tensors of a network without BN are fine. Logs one line; `report` may be NULL. */
enum ecg_status weights_load(struct net1d *net, const struct safetensors *s, enum weights_mode mode,
                             struct weights_report *report);

/* The file of all tensors of the table (509 for the official widths: it loads with strict=True into the official class) and
 * the metadata: format "pt", einthoven.model (JSON of model.*), einthoven.labels or einthoven.targets (newline-separated) or
 * einthoven.heads (JSON), einthoven.preset, einthoven.normalize, einthoven.thresholds (JSON). */
enum ecg_status weights_image(struct safetensors_image *image, const struct net1d *net,
                              const struct weights_meta *meta);
/* How many bytes that file would have; the network may be a plan (net1d_plan). */
enum ecg_status weights_size(const struct net1d *net, const struct weights_meta *meta,
                             uint64_t *bytes);

#endif
