/* SPDX-License-Identifier: MIT
 * Rows found by record number, so that any order of the sampler is served. */
#include "train/run/embeddings.h"

#include <stdlib.h>
#include <string.h>

static size_t place(const struct embeddings *e, size_t record) {
    size_t low = 0, high = e->n;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (e->record[middle] <= record)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void embeddings_gather(const struct embeddings *e, const size_t *records, size_t count, float *to) {
    size_t width = (size_t)e->width;
    for (size_t i = 0; i < count; i++)
        memcpy(to + i * width, e->rows + place(e, records[i]) * width, width * sizeof(float));
}

void embeddings_free(struct embeddings *e) {
    free(e->rows);
    *e = (struct embeddings){0};
}
