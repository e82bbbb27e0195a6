/* SPDX-License-Identifier: MIT
 * One more flat array in the parameters' layout, averaged and exchanged where something is trained; elsewhere the two are
 * equal for good. */
#include "train/run/ema.h"

#include <math.h>
#include <stdlib.h>

#include "core/mem.h"
#include "train/run/trainer.h"

#define PIECE ((size_t)1 << 20) /* floats on the host at once */

size_t ema_bytes(const struct trainer *t) {
    return t->config->train.ema > 0 ? t->net.n_params * sizeof(float) : 0;
}

enum ecg_status ema_create(struct trainer *t) {
    size_t bytes = ema_bytes(t);
    return bytes > 0 ? t->ops->alloc(t->dev, (void **)&t->average, bytes) : ECG_OK;
}

/* to = from, and with `exchange` from = what `to` was; n floats. */
static enum ecg_status copy(struct trainer *t, float *to, float *from, size_t n, bool exchange) {
    float *a = NULL, *b = NULL;
    enum ecg_status status;
    TRY_OUT(MEM_NEW(&a, PIECE));
    TRY_OUT(MEM_NEW(&b, PIECE));
    for (size_t at = 0, m; at < n; at += m) {
        m = n - at < PIECE ? n - at : PIECE;
        TRY_OUT(t->ops->download(t->dev, a, from + at, m * sizeof(float)));
        if (exchange) TRY_OUT(t->ops->download(t->dev, b, to + at, m * sizeof(float)));
        TRY_OUT(t->ops->upload(t->dev, to + at, a, m * sizeof(float)));
        if (exchange) TRY_OUT(t->ops->upload(t->dev, from + at, b, m * sizeof(float)));
    }
out:
    free(a);
    free(b);
    return status;
}

enum ecg_status ema_start(struct trainer *t) {
    if (t->average == NULL) return ECG_OK;
    return copy(t, t->average, t->net.params, t->net.n_params, false);
}

enum ecg_status ema_update(struct trainer *t) {
    const struct optim *o = &t->optim;
    if (t->average == NULL) return ECG_OK;
    double u = (double)o->step, decay = fmin(t->config->train.ema, (1 + u) / (10 + u));
    for (size_t i = 0; i < o->n_ranges; i++) {
        const struct optim_range *r = &o->ranges[i];
        if (optim_is_open(o, r))
            TRY(t->ops->ema(t->dev, r->n, decay, t->net.params + r->offset,
                            t->average + r->offset));
    }
    return ECG_OK;
}

enum ecg_status ema_swap(struct trainer *t) {
    const struct optim *o = &t->optim;
    if (t->average == NULL) return ECG_OK;
    for (size_t i = 0; i < o->n_ranges; i++)
        TRY(copy(t, t->average + o->ranges[i].offset, t->net.params + o->ranges[i].offset,
                 o->ranges[i].n, true));
    return ECG_OK;
}
