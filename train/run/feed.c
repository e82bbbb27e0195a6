/* SPDX-License-Identifier: MIT
 * One upload a tensor, then the input op: scale, z-score, (B, L, C). */
#include "train/run/feed.h"

#include <string.h>

#include "core/mem.h"

static void carve(struct feed *f, struct arena *a) {
    const struct feed_format *m = &f->format;
    size_t B = (size_t)f->net->max_batch;
    size_t samples = (size_t)m->n_file_leads * (size_t)m->length;
    size_t entries = B * (size_t)m->n_columns;
    f->ecg = arena_carve(a, B * samples * sizeof(int16_t));
    f->scale = arena_carve(a, B * sizeof(float));
    if (m->targets)
        f->targets = arena_carve(a, entries * sizeof(float));
    else
        f->labels = arena_carve(a, entries);
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
    struct arena a = {.base = f->memory, .size = bytes};
    if (status == ECG_OK)
        carve(f, &a);
    else
        feed_free(f);
    return status;
}

void feed_free(struct feed *f) {
    if (f->net != NULL) f->net->ops->free(f->net->dev, f->memory);
    memset(f, 0, sizeof(*f));
}

enum ecg_status feed_put(struct feed *f, const struct batch *b, int first, int n) {
    const struct ops *ops = f->net->ops;
    struct ops_dev *dev = f->net->dev;
    size_t samples = (size_t)f->format.n_file_leads * (size_t)f->format.length, at = (size_t)first,
           count = (size_t)n;
    size_t columns = (size_t)f->format.n_columns;
    TRY(ops->upload(dev, f->ecg, b->ecg + at * samples, count * samples * sizeof(int16_t)));
    TRY(ops->upload(dev, f->scale, b->scale + at, count * sizeof(float)));
    if (columns > 0 && f->format.targets)
        TRY(ops->upload(dev, f->targets, b->targets + at * columns,
                        count * columns * sizeof(float)));
    if (columns > 0 && !f->format.targets)
        TRY(ops->upload(dev, f->labels, b->labels + at * columns, count * columns));
    struct ops_blc s = {n, f->format.length, f->net->config.n_leads};
    return ops->input_fwd(dev, f->net->config.precision, s, f->format.n_file_leads, f->ecg,
                          f->scale, f->format.lead, f->normalize, f->net->x);
}
