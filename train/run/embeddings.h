/* SPDX-License-Identifier: MIT
 * What the head reads of each record of a source, in host memory: the backbone runs once, and each step of a linear
 * probe takes its batch's rows from here. */
#ifndef TRAIN_RUN_EMBEDDINGS_H
#define TRAIN_RUN_EMBEDDINGS_H

#include <stddef.h>

struct embeddings {
    const size_t *record; /* (n) record numbers, ascending: the source's index */
    size_t n;
    int width;   /* D */
    float *rows; /* (n, width) in the order of `record`; NULL: there are none */
};

/* Rows of `count` records, which must be among e->record, to `to` (count, width). */
void embeddings_gather(const struct embeddings *e, const size_t *records, size_t count, float *to);
void embeddings_free(struct embeddings *e); /* idempotent, zeroed is fine */

#endif
