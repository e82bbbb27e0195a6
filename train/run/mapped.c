/* SPDX-License-Identifier: MIT
 * The network is run without columns, and its truth made afterwards, record by record. */
#include "train/run/mapped.h"

#include <stdlib.h>

#include "core/log.h"
#include "core/mem.h"

/* The labels of all heads of labels, one after the other; borrowed. */
static enum ecg_status label_names(const struct heads *heads, struct names *names) {
    *names = (struct names){0};
    TRY(MEM_NEW(&names->v, (size_t)heads->n_outputs));
    for (int k = 0; k < heads->n; k++)
        for (int i = 0; heads->v[k].kind == HEAD_LABELS && i < heads->v[k].n; i++)
            names->v[names->n++] = heads->v[k].labels.v[i];
    return ECG_OK;
}

/* Heads of labels cut to the joined ones, whose places move to the front of `output`. */
static enum ecg_status cut(const struct label_join *join, struct heads *heads, int *output) {
    struct heads kept = {0};
    struct names chosen = {0};
    int first = 0, at = 0; /* label of the head among all, next of the join */
    enum ecg_status status;
    TRY_OUT(MEM_NEW(&chosen.v, (size_t)heads->n_outputs));
    for (int k = 0; k < heads->n; k++) {
        const struct head *h = &heads->v[k];
        if (h->kind != HEAD_LABELS) continue;
        chosen.n = 0;
        for (; at < join->n && join->output[at] < first + h->n; at++) {
            int i = join->output[at] - first;
            chosen.v[chosen.n++] = h->labels.v[i];
            output[at] = output[h->first + i];
        }
        struct head part = *h;
        part.labels = chosen;
        if (chosen.n > 0) TRY_OUT(heads_add(&kept, &part));
        first += h->n;
    }
    heads_free(heads);
    *heads = kept;
    kept = (struct heads){0};
out:
    heads_free(&kept);
    free(chosen.v);
    return status;
}

enum ecg_status mapped_heads(struct label_join *join, const char *path,
                             const struct network *network, const struct source *source,
                             struct heads *heads, int *output) {
    struct label_map map = {0};
    struct names names = {0}, known = {0};
    int n_outputs = heads->n_outputs;
    enum ecg_status status;
    TRY_OUT(label_names(heads, &names));
    TRY_OUT(label_names(&network->meta.heads, &known));
    if (names.n == 0) {
        status = ecg_fail(ECG_ERR_CONFIG, "--label-map: a map joins labels, and %s predicts none",
                          network->path);
        goto out;
    }
    TRY_OUT(label_map_read(&map, path));
    TRY_OUT(label_join_make(join, &map, &names, &source->data->schema.labels, &known));
    TRY_OUT(cut(join, heads, output));
    log_info("%s: %d of %d outputs have columns and are evaluated; %zu of %zu rows have no column "
             "in %s",
             path, join->n, n_outputs, join->n_absent, map.n, source->data->path);
out:
    label_map_free(&map);
    free(names.v);
    free(known.v);
    return status;
}

enum ecg_status mapped_truth(const struct label_join *join, const struct source *source,
                             struct inferred *r) {
    size_t k = (size_t)join->n;
    uint8_t *row = NULL;
    enum ecg_status status;
    TRY_OUT(MEM_NEW(&row, (size_t)source->data->schema.labels.n));
    TRY_OUT(MEM_NEW(&r->labels, source->n * k));
    r->n_labels = join->n;
    for (size_t i = 0; i < source->n; i++) {
        TRY_OUT(dataset_labels(source->data, source->index[i], row));
        for (size_t c = 0; c < k; c++) r->labels[i * k + c] = label_join_truth(join, (int)c, row);
    }
out:
    free(row);
    return status;
}
