/* SPDX-License-Identifier: MIT
 * The linear probe on embeddings kept in memory: the backbone runs once over the training and the validation part, as
 * the probe without them does in every step (evaluation mode), so the weights come out the same bit for bit; epochs then
 * cost next to nothing. */
#ifndef TRAIN_RUN_PROBE_H
#define TRAIN_RUN_PROBE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

struct trainer;

/* Whether the run keeps embeddings (head.freeze with head.cache, or the preview of LP-FT). Else *why says why not, for the log; NULL: nobody asked
 * for it. t may be planned. */
bool probe_keeps(const struct trainer *t, const char **why);
/* How many embeddings: of both parts; of the preview, which validates nothing, of the training part. Their bytes. */
size_t probe_records(const struct trainer *t);
size_t probe_bytes(const struct trainer *t);
/* Before the first step, with the weights in place: computes the embeddings into t->train and (no preview) t->valid where the run keeps
 * them, and logs that, or why not. A stop that is asked for meanwhile: ECG_ERR_STOPPED. */
enum ecg_status probe_prepare(struct trainer *t);

#endif
