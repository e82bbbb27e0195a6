/* SPDX-License-Identifier: MIT
 * What all records of a data set share: copies and comparison. */
#include <string.h>

#include "data/shard.h"

void shard_schema_free(struct shard_schema *s) {
    names_free(&s->labels);
    names_free(&s->targets);
}

enum ecg_status shard_schema_copy(struct shard_schema *out, const struct shard_schema *s) {
    *out = *s;
    out->labels = out->targets = (struct names){0};
    TRY(names_copy(&out->labels, &s->labels));
    enum ecg_status status = names_copy(&out->targets, &s->targets);
    if (status != ECG_OK) shard_schema_free(out);
    return status;
}

static bool same_leads(const struct leads *a, const struct leads *b) {
    if (a->n != b->n) return false;
    for (int i = 0; i < a->n; i++)
        if (strcmp(a->name[i], b->name[i]) != 0) return false;
    return true;
}

const char *shard_schema_difference(const struct shard_schema *a, const struct shard_schema *b) {
    if (a->sampling_rate != b->sampling_rate) return "sampling_rate";
    if (a->length != b->length) return "length";
    if (!same_leads(&a->leads, &b->leads)) return "leads";
    if (strcmp(a->units, b->units) != 0) return "units";
    if (strcmp(a->preprocessing, b->preprocessing) != 0) return "preprocessing";
    if (!names_equal(&a->labels, &b->labels)) return "labels";
    if (!names_equal(&a->targets, &b->targets)) return "targets";
    if (a->has_fold != b->has_fold) return "fold";
    return NULL;
}
