/* SPDX-License-Identifier: MIT
 * Metadata of a weights file as text: what weights.c and weights_meta.c share. */
#ifndef TRAIN_MODEL_WEIGHTS_META_H
#define TRAIN_MODEL_WEIGHTS_META_H

#include "train/model/weights.h"

#define WEIGHTS_META_MAX 7

/* Keys and values as safetensors_write takes them; the values are fresh. */
struct weights_text {
    const char *keys[WEIGHTS_META_MAX];
    char *values[WEIGHTS_META_MAX];
    size_t n;
};

enum ecg_status weights_text_make(struct weights_text *t, const struct net1d_config *c,
                                  const struct weights_meta *m);
void weights_text_free(struct weights_text *t);

/* "[64, 12, 16]", returned; room for SAFETENSORS_MAX_NDIM extents. */
#define WEIGHTS_SHAPE_MAX 184
const char *weights_shape_text(char text[WEIGHTS_SHAPE_MAX], const int64_t *shape, int ndim);

#endif
