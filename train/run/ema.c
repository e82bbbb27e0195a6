/* SPDX-License-Identifier: MIT
 * One more flat array in the parameters' layout, used where something is trained. */
#include "train/run/ema.h"

#include <math.h>
#include <stdlib.h>

#include "core/mem.h"
#include "train/run/trainer.h"

#define PIECE ((size_t)1 << 20) /* floats on the host at once */

size_t ema_bytes(const struct trainer *t) {
    return t->config->train.ema > 0 ? optim_used_bytes(&t->optim) : 0;
}

enum ecg_status ema_create(struct trainer *t) {
    if (ema_bytes(t) == 0) return ECG_OK;
    return t->ops->alloc(t->dev, (void **)&t->average, t->optim.n * sizeof(float));
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

static enum ecg_status copy_all(struct trainer *t, bool exchange) {
    const struct optim *o = &t->optim;
    if (t->average == NULL) return ECG_OK;
    for (size_t i = 0; i < o->n_ranges; i++) {
        size_t at = o->ranges[i].offset;
        TRY(copy(t, t->average + at, t->net.params + at, o->ranges[i].n, exchange));
    }
    return ECG_OK;
}

enum ecg_status ema_start(struct trainer *t) {
    return copy_all(t, false);
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
    return copy_all(t, true);
}
