/* SPDX-License-Identifier: MIT
 * The optimiser: the tensor table merged into as few ranges as the rules allow (one, when everything is trained alike),
 * each of them one call of the backend. */
#include "train/optim/optim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

static bool is_trained(const struct tensor *t) {
    return t->kind == TENSOR_PARAM && !t->frozen;
}

/* The table's parameters lie in the flat array in its order, so a tensor either goes on where the last range ends (at
 * most padding in between) or starts a new one. A frozen tensor in between ends the range. */
static void add_range(struct optim *o, const struct tensor *t, bool follows) {
    bool decays = o->config.decay_bias || !t->is_bias_or_norm;
    struct optim_range *last = o->n_ranges > 0 ? &o->ranges[o->n_ranges - 1] : NULL;
    bool cut = o->config.by_layer || o->config.layer_factors != NULL;
    if (follows && last != NULL && last->is_head == t->is_head && last->decays == decays &&
        (!cut || last->layer == t->layer)) {
        last->n = t->offset + t->n - last->offset;
        return;
    }
    o->ranges[o->n_ranges++] = (struct optim_range){.offset = t->offset,
                                                    .n = t->n,
                                                    .is_head = t->is_head,
                                                    .layer = t->layer,
                                                    .decays = decays,
                                                    .unit = 1};
}

static enum ecg_status make_ranges(struct optim *o, const struct net1d *net) {
    TRY(MEM_NEW(&o->ranges, net->n_tensors));
    bool follows = false;
    for (size_t i = 0; i < net->n_tensors; i++) {
        const struct tensor *t = &net->tensors[i];
        if (t->kind != TENSOR_PARAM) continue;
        if (is_trained(t)) add_range(o, t, follows);
        follows = is_trained(t);
    }
    if (o->n_ranges == 0)
        return ecg_fail(ECG_ERR_CONFIG, "every tensor is frozen: there is nothing to train");
    return MEM_NEW(&o->squares, o->n_ranges);
}

enum ecg_status optim_plan(struct optim *o, const struct optim_config *config, struct net1d *net) {
    *o = (struct optim){.config = *config,
                        .ops = net->ops,
                        .dev = net->dev,
                        .params = net->params,
                        .grads = net->grads,
                        .n = net->n_params,
                        .n_layers = net1d_head_layer(&net->config) + 1};
    enum ecg_status status = make_ranges(o, net);
    if (status != ECG_OK) optim_free(o);
    return status;
}

int optim_moments(const struct optim *o) {
    return o->config.kind == OPTIM_SGD ? 1 : 2;
}

size_t optim_shard(const struct optim *o) {
    return o->config.shard_n > 0 ? o->config.shard_n : o->n;
}

size_t optim_used_bytes(const struct optim *o) {
    size_t n = 0;
    for (size_t i = 0; i < o->n_ranges; i++) n += o->ranges[i].n;
    return n * sizeof(float);
}

enum ecg_status optim_create(struct optim *o, const struct optim_config *config,
                             struct net1d *net) {
    enum ecg_status status;
    TRY_OUT(optim_plan(o, config, net));
    TRY_OUT(o->ops->alloc(o->dev, (void **)&o->m, optim_shard(o) * sizeof(float)));
    if (optim_moments(o) > 1)
        TRY_OUT(o->ops->alloc(o->dev, (void **)&o->v, optim_shard(o) * sizeof(float)));
out:
    if (status != ECG_OK) optim_free(o);
    return status;
}

void optim_free(struct optim *o) {
    if (o->m != NULL) o->ops->free(o->dev, o->m);
    if (o->v != NULL) o->ops->free(o->dev, o->v);
    free(o->ranges);
    free(o->squares);
    *o = (struct optim){0};
}

enum ecg_status optim_unit_rows(struct optim *o, size_t offset, size_t width, int rows,
                                const double *unit) {
    size_t n = width * (size_t)rows, at = 0;
    while (at < o->n_ranges && o->ranges[at].offset + o->ranges[at].n <= offset) at++;
    if (at == o->n_ranges || o->ranges[at].offset > offset ||
        o->ranges[at].offset + o->ranges[at].n < offset + n)
        return ecg_fail(ECG_ERR_FAIL, "optimiser: %zu parameters at %zu are not in one range", n,
                        offset);
    struct optim_range whole = o->ranges[at], *ranges = NULL;
    size_t end = whole.offset + whole.n, m = 0, most = o->n_ranges + (size_t)rows + 1;
    free(o->squares);
    TRY(MEM_NEW(&o->squares, most));
    TRY(MEM_NEW(&ranges, most));
    for (size_t i = 0; i < at; i++) ranges[m++] = o->ranges[i];
    struct optim_range piece = whole;
    piece.n = offset - whole.offset;
    if (piece.n > 0) ranges[m++] = piece;
    for (int r = 0; r < rows; r++) {
        piece = whole;
        piece.offset = offset + (size_t)r * width;
        piece.n = width;
        piece.unit = unit[r];
        ranges[m++] = piece;
    }
    piece = whole;
    piece.offset = offset + n;
    piece.n = end - piece.offset;
    if (piece.n > 0) ranges[m++] = piece;
    for (size_t i = at + 1; i < o->n_ranges; i++) ranges[m++] = o->ranges[i];
    free(o->ranges);
    o->ranges = ranges;
    o->n_ranges = m;
    return ECG_OK;
}

void optim_close(struct optim *o) {
    o->lowest = o->n_layers - 1;
    for (int i = 0; i < o->lowest; i++) o->start[i] = -1;
}

void optim_open(struct optim *o, int lowest) {
    o->lowest = lowest;
    for (int i = lowest; i < o->n_layers; i++)
        if (o->start[i] < 0) o->start[i] = o->step;
}

enum ecg_status optim_reset(struct optim *o) {
    o->step = 0;
    o->lowest = 0;
    memset(o->start, 0, sizeof(o->start));
    TRY(o->ops->fill_zero(o->dev, o->m, optim_shard(o) * sizeof(float)));
    return o->v == NULL ? ECG_OK : o->ops->fill_zero(o->dev, o->v, optim_shard(o) * sizeof(float));
}

enum ecg_status optim_zero_grad(struct optim *o) {
    for (size_t i = 0; i < o->n_ranges; i++) {
        const struct optim_range *r = &o->ranges[i];
        if (!optim_is_open(o, r)) continue;
        TRY(o->ops->fill_zero(o->dev, o->grads + r->offset, r->n * sizeof(float)));
    }
    return ECG_OK;
}

enum ecg_status optim_clip(struct optim *o, double max_norm, double *norm) {
    double total = 0;
    for (size_t i = 0; i < o->n_ranges; i++) {
        const struct optim_range *r = &o->ranges[i];
        o->squares[i] = 0;
        if (optim_is_open(o, r))
            TRY(o->ops->sumsq(o->dev, r->n, o->grads + r->offset, &o->squares[i]));
    }
    TRY(o->ops->sync(o->dev));
    for (size_t i = 0; i < o->n_ranges; i++) total += o->squares[i];
    *norm = sqrt(total);
    double factor = max_norm / (*norm + 1e-6);
    if (max_norm <= 0 || !isfinite(*norm) || factor >= 1) return ECG_OK;
    for (size_t i = 0; i < o->n_ranges; i++) {
        const struct optim_range *r = &o->ranges[i];
        if (optim_is_open(o, r)) TRY(o->ops->scale(o->dev, r->n, factor, o->grads + r->offset));
    }
    return ECG_OK;
}

/* A range's part in the shard: [*from, *from + the count returned). */
static size_t in_shard(const struct optim *o, const struct optim_range *r, size_t *from) {
    size_t first = o->config.shard_from, end = first + optim_shard(o), to = r->offset + r->n;
    *from = r->offset > first ? r->offset : first;
    if (to > end) to = end;
    return to > *from ? to - *from : 0;
}

static enum ecg_status update_range(struct optim *o, const struct optim_range *r,
                                    const struct optim_rates *rates) {
    // A parameter measured in units of `s` has gradients of 1/s: Adam's steps, blind to the gradient's size, need a rate of
    // s times; SGD's s^2 times. Weight decay per step stays what it is without units.
    double s = r->unit, s2 = s * s;
    double factor =
        o->config.layer_factors != NULL && !r->is_head ? o->config.layer_factors[r->layer] : 1;
    double lr = (r->is_head ? rates->lr : rates->backbone_lr * factor) *
                (o->config.kind == OPTIM_SGD ? s2 : s);
    int64_t step = o->step - o->start[r->layer];
    double weight_decay =
        r->decays ? o->config.weight_decay / (o->config.kind == OPTIM_ADAMW ? s : s2) : 0;
    size_t from, n = in_shard(o, r, &from), at = from - o->config.shard_from;
    if (n == 0) return ECG_OK;
    float *p = o->params + from, *m = o->m + at;
    const float *g = o->grads + from;
    if (o->config.kind == OPTIM_SGD)
        return o->ops->sgd(o->dev, lr, rates->beta1, weight_decay, step, n, p, g, m);
    struct ops_adam a = {.lr = lr,
                         .beta1 = rates->beta1,
                         .beta2 = o->config.beta2,
                         .eps = o->config.eps,
                         .weight_decay = weight_decay,
                         .decoupled = o->config.kind == OPTIM_ADAMW,
                         .step = step};
    return o->ops->adam(o->dev, &a, n, p, g, m, o->v + at);
}

enum ecg_status optim_step(struct optim *o, const struct optim_rates *rates) {
    o->step++;
    for (size_t i = 0; i < o->n_ranges; i++)
        if (optim_is_open(o, &o->ranges[i])) TRY(update_range(o, &o->ranges[i], rates));
    return ECG_OK;
}
