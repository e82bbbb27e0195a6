/* SPDX-License-Identifier: MIT
 * Evaluation through a label map (data/label_map.h): the truth of an output is the OR of the data set's columns that the map
 * joins to it. */
#ifndef TRAIN_RUN_MAPPED_H
#define TRAIN_RUN_MAPPED_H

#include "core/status.h"
#include "data/label_map.h"
#include "train/model/heads.h"
#include "train/run/infer.h"
#include "train/run/network.h"
#include "train/run/source.h"

/* Reads the map at `path` and keeps of `heads` (of the network; output: their places among its outputs) the labels that have a
 * column in the source's data set; join i is then the truth of label i of what is kept. Other kinds of heads go. Says on
 * stderr how many outputs stay. ECG_ERR_CONFIG: no head of labels, or a label of the map that is no output (file:line);
 * ECG_ERR_DATA: the map. */
enum ecg_status mapped_heads(struct label_join *join, const char *path, const struct network *network,
                             const struct source *source, struct heads *heads, int *output);

/* Truth by the join into r->labels, (source->n, join->n). */
enum ecg_status mapped_truth(const struct label_join *join, const struct source *source,
                             struct inferred *r);

#endif
