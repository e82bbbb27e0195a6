/* SPDX-License-Identifier: MIT
 * One upload a tensor, then the input op: scale, z-score, (B, L, C). */
#include "train/run/feed.h"

#include <string.h>

enum ecg_status feed_create(struct feed *f, struct net1d *net, const struct feed_format *format,
                            enum ops_normalize normalize) {
    *f = (struct feed){.net = net, .normalize = normalize, .format = *format};
    const struct ops *ops = net->ops;
    size_t B = (size_t)net->max_batch,
           samples = (size_t)f->format.n_file_leads * (size_t)f->format.length;
    size_t entries = B * (size_t)f->format.n_columns;
    enum ecg_status status = ops->alloc(net->dev, (void **)&f->ecg, B * samples * sizeof(int16_t));
    if (status == ECG_OK) status = ops->alloc(net->dev, (void **)&f->scale, B * sizeof(float));
    if (status == ECG_OK && f->format.n_columns > 0)
        status = f->format.targets
                     ? ops->alloc(net->dev, (void **)&f->targets, entries * sizeof(float))
                     : ops->alloc(net->dev, (void **)&f->labels, entries);
    if (status != ECG_OK) feed_free(f);
    return status;
}

void feed_free(struct feed *f) {
    if (f->net != NULL) {
        const struct ops *ops = f->net->ops;
        ops->free(f->net->dev, f->ecg);
        ops->free(f->net->dev, f->scale);
        ops->free(f->net->dev, f->labels);
        ops->free(f->net->dev, f->targets);
    }
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
