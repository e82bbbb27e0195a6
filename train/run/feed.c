/* SPDX-License-Identifier: MIT
 * The arrays of a slice in one go, then the input op: scale, z-score, (B, L, C). */
#include "train/run/feed.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

static int n_sets(const struct net1d *net) {
    return net->ops->upload_ahead != NULL ? 2 : 1;
}

static void carve(struct feed *f, struct arena *a) {
    const struct feed_format *m = &f->format;
    size_t B = (size_t)f->net->max_batch;
    size_t samples = (size_t)m->n_file_leads * (size_t)m->length;
    size_t entries = B * (size_t)m->n_columns;
    for (int i = 0; i < n_sets(f->net); i++) {
        struct feed_set *s = &f->sets[i];
        if (m->embeddings != NULL) {
            s->features = arena_carve(a, B * (size_t)m->embeddings->width * sizeof(float));
        } else {
            s->ecg = arena_carve(a, B * samples * sizeof(int16_t));
            s->scale = arena_carve(a, B * sizeof(float));
        }
        if (m->targets)
            s->targets = arena_carve(a, entries * sizeof(float));
        else
            s->labels = arena_carve(a, entries);
    }
}

size_t feed_bytes(const struct net1d *net, const struct feed_format *format) {
    struct feed f = {.net = (struct net1d *)net, .format = *format};
    struct arena counted = {0};
    carve(&f, &counted);
    return counted.used;
}

enum ecg_status feed_create(struct feed *f, struct net1d *net, const struct feed_format *format,
                            enum ops_normalize normalize) {
    *f = (struct feed){.net = net, .normalize = normalize, .format = *format};
    size_t bytes = feed_bytes(net, format);
    enum ecg_status status = net->ops->alloc(net->dev, &f->memory, bytes);
    if (status == ECG_OK) status = net->ops->sync(net->dev); /* see upload_ahead */
    if (status == ECG_OK && format->embeddings != NULL)
        status = MEM_NEW(&f->gathered, (size_t)net->max_batch * (size_t)format->embeddings->width);
    struct arena a = {.base = f->memory, .size = bytes};
    if (status == ECG_OK)
        carve(f, &a);
    else
        feed_free(f);
    return status;
}

void feed_free(struct feed *f) {
    if (f->net != NULL) f->net->ops->free(f->net->dev, f->memory);
    free(f->gathered);
    memset(f, 0, sizeof(*f));
}

/* What the network is to read of the slice; how many entries of `list`. */
static int list_input(struct feed *f, const struct batch *b, size_t at, size_t count,
                      struct ops_upload list[2]) {
    const struct feed_set *s = &f->sets[f->filled];
    size_t samples = (size_t)f->format.n_file_leads * (size_t)f->format.length;
    if (f->format.embeddings != NULL) {
        embeddings_gather(f->format.embeddings, b->record + at, count, f->gathered);
        list[0] = (struct ops_upload){s->features, f->gathered,
                                      count * (size_t)f->format.embeddings->width * sizeof(float)};
        return 1;
    }
    list[0] = (struct ops_upload){s->ecg, b->ecg + at * samples, count * samples * sizeof(int16_t)};
    list[1] = (struct ops_upload){s->scale, b->scale + at, count * sizeof(float)};
    return 2;
}

enum ecg_status feed_upload(struct feed *f, const struct batch *b, int first, int n) {
    const struct ops *ops = f->net->ops;
    struct ops_dev *dev = f->net->dev;
    size_t at = (size_t)first, count = (size_t)n, columns = (size_t)f->format.n_columns;
    f->filled = (f->filled + 1) % n_sets(f->net);
    const struct feed_set *s = &f->sets[f->filled];
    struct ops_upload list[3];
    int m = list_input(f, b, at, count, list);
    if (columns > 0 && f->format.targets)
        list[m++] = (struct ops_upload){s->targets, b->targets + at * columns,
                                        count * columns * sizeof(float)};
    else if (columns > 0)
        list[m++] = (struct ops_upload){s->labels, b->labels + at * columns, count * columns};
    if (ops->upload_ahead != NULL) return ops->upload_ahead(dev, list, m);
    for (int i = 0; i < m; i++) TRY(ops->upload(dev, list[i].device, list[i].host, list[i].bytes));
    return ECG_OK;
}

enum ecg_status feed_enter(struct feed *f, int n) {
    const struct feed_set *s = &f->sets[f->filled];
    struct net1d *net = f->net;
    struct ops_blc shape = {n, f->format.length, net->config.n_leads};
    f->labels = s->labels;
    f->targets = s->targets;
    f->features = s->features;
    if (f->features != NULL) return ECG_OK;
    return net->ops->input_fwd(net->dev, net->config.precision, shape, f->format.n_file_leads,
                               s->ecg, s->scale, f->format.lead, f->normalize, net->x);
}

enum ecg_status feed_put(struct feed *f, const struct batch *b, int first, int n) {
    TRY(feed_upload(f, b, first, n));
    return feed_enter(f, n);
}
