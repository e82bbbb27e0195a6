/* SPDX-License-Identifier: MIT
 * Tensors between a network and a file, by the one tensor table. Loading looks at everything first and copies then, so a
 * file that does not fit leaves the network as it was. */
#include "train/model/weights.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/mem.h"
#include "train/model/weights_meta.h"

/* Where a tensor's floats lie (the backend's memory). */
static float *place(const struct net1d *net, const struct tensor *t) {
    return (t->kind == TENSOR_PARAM ? net->params : net->extras) + t->offset;
}

/* A BN tensor that the network only carries along. */
static bool is_unused(const struct net1d *net, const struct tensor *t) {
    return t->kind != TENSOR_PARAM && !net->config.batch_norm;
}

/* ---- what does not fit, as text ---- */

#define LISTED 5 /* of each kind; the rest is counted */

struct misfits {
    char text[1600];
    size_t length;
    size_t n;
};

static void complain(struct misfits *m, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void complain(struct misfits *m, const char *format, ...) {
    va_list args;
    if (m->n++ >= LISTED || m->length >= sizeof m->text) return;
    if (m->n > 1)
        m->length += (size_t)snprintf(m->text + m->length, sizeof m->text - m->length, ", ");
    if (m->length >= sizeof m->text) return;
    va_start(args, format);
    m->length += (size_t)vsnprintf(m->text + m->length, sizeof m->text - m->length, format, args);
    va_end(args);
    if (m->n == LISTED && m->length < sizeof m->text)
        m->length += (size_t)snprintf(m->text + m->length, sizeof m->text - m->length, " ...");
}

/* ---- loading ---- */

#define PIECE ((size_t)1 << 16) /* values converted at once */

struct loading {
    struct net1d *net;
    const struct safetensors *s;
    enum weights_mode mode;
    bool *used; /* (s->n_entries) */
    struct weights_report report;
    struct misfits missing, misshaped, unexpected;
};

static bool wanted(const struct loading *l, const struct tensor *t) {
    return l->mode == WEIGHTS_ALL || !t->is_head;
}

static bool is_float(enum safetensors_dtype dtype) {
    return dtype == ST_F32 || dtype == ST_F64 || dtype == ST_F16 || dtype == ST_BF16;
}

static void check_tensor(struct loading *l, const struct tensor *t) {
    const struct safetensors_entry *e = safetensors_find(l->s, t->name);
    bool unused = is_unused(l->net, t);
    if (!e) {
        if (unused)
            l->report.unused_absent++;
        else
            complain(&l->missing, "%s", t->name);
        return;
    }
    l->used[e - l->s->entries] = true;
    char expected[WEIGHTS_SHAPE_MAX], found[WEIGHTS_SHAPE_MAX];
    if (e->ndim != t->ndim || memcmp(e->shape, t->shape, sizeof *e->shape * (size_t)t->ndim) != 0) {
        complain(&l->misshaped, "%s is %s, not %s", t->name,
                 weights_shape_text(found, e->shape, e->ndim),
                 weights_shape_text(expected, t->shape, t->ndim));
    } else if (t->kind == TENSOR_COUNTER ? e->dtype != ST_I64 : !is_float(e->dtype)) {
        complain(&l->misshaped, "%s holds %s", t->name, e->dtype_name);
    } else {
        *(unused ? &l->report.unused_kept : &l->report.loaded) += 1;
    }
}

static enum ecg_status check_all(struct loading *l) {
    for (size_t i = 0; i < l->net->n_tensors; i++)
        if (wanted(l, &l->net->tensors[i])) check_tensor(l, &l->net->tensors[i]);
    for (size_t i = 0; i < l->s->n_entries; i++) {
        const char *name = l->s->entries[i].name;
        if (l->used[i]) continue;
        if (l->mode == WEIGHTS_BACKBONE && net1d_is_head(name))
            l->report.head_replaced = true;
        else
            complain(&l->unexpected, "%.80s", name);
    }
    const struct misfits *m = &l->missing, *w = &l->misshaped, *u = &l->unexpected;
    if (!m->n && !w->n && !u->n) return ECG_OK;
    return ecg_fail(
        ECG_ERR_DATA,
        "%s: the weights do not fit the network: %zu tensors missing%s%s; %zu of the wrong kind%s%s; "
        "%zu unexpected%s%s",
        l->s->path, m->n, m->n ? ": " : "", m->text, w->n, w->n ? ": " : "", w->text, u->n,
        u->n ? ": " : "", u->text);
}

/* Values of tensor t from element `at` on: the file's own floats where they lie, else the next PIECE of them as floats in
 * `piece`. */
static enum ecg_status next_values(const struct loading *l, const struct safetensors_entry *e,
                                   size_t at, float *piece, const void **values, size_t *n) {
    *n = e->n - at;
    *values = (const char *)e->data + at * sizeof(float);
    if (e->dtype == ST_F32) return ECG_OK;
    if (*n > PIECE) *n = PIECE;
    *values = piece;
    struct safetensors_entry part = *e;
    part.n = *n;
    part.data = (const char *)e->data + at * (e->bytes / e->n);
    return safetensors_to_f32(l->s, &part, piece);
}

/* In a file the floats may lie at any address. */
static enum ecg_status check_finite(const struct loading *l, const struct tensor *t, size_t first,
                                    const char *values, size_t n) {
    uint32_t worst = 0; /* the largest exponent: all ones is infinity or NaN */
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, values + i * sizeof bits, sizeof bits);
        bits &= 0x7f800000u;
        worst = bits > worst ? bits : worst;
    }
    if (worst < 0x7f800000u) return ECG_OK;
    for (size_t i = 0; i < n; i++) {
        float v;
        memcpy(&v, values + i * sizeof v, sizeof v);
        if (!isfinite(v))
            return ecg_fail(ECG_ERR_DATA,
                            "%s: tensor %s holds %g at element %zu: these weights are broken",
                            l->s->path, t->name, (double)v, first + i);
    }
    return ECG_OK;
}

static enum ecg_status check_or_copy(const struct loading *l, const struct tensor *t,
                                     const struct safetensors_entry *e, bool copy, float *piece) {
    const struct net1d *net = l->net;
    size_t n;
    for (size_t at = 0; at < t->n; at += n) {
        const void *values;
        TRY(next_values(l, e, at, piece, &values, &n));
        if (copy)
            TRY(net->ops->upload(net->dev, place(net, t) + at, values, n * sizeof(float)));
        else if (!is_unused(net, t))
            TRY(check_finite(l, t, at, values, n));
    }
    return ECG_OK;
}

/* All tensors: checked in the first round, copied in the second. */
static enum ecg_status copy_all(const struct loading *l, bool copy, float *piece) {
    for (size_t i = 0; i < l->net->n_tensors; i++) {
        const struct tensor *t = &l->net->tensors[i];
        const struct safetensors_entry *e = safetensors_find(l->s, t->name);
        if (!e || !wanted(l, t)) continue;
        if (t->kind != TENSOR_COUNTER)
            TRY(check_or_copy(l, t, e, copy, piece));
        else if (copy)
            memcpy(&l->net->counters[t->offset], e->data, sizeof(int64_t));
        if (copy) safetensors_drop(l->s, e);
    }
    return ECG_OK;
}

static void log_report(const struct loading *l) {
    const struct weights_report *r = &l->report;
    char unused[120] = "";
    if (r->unused_kept)
        snprintf(unused, sizeof unused, ", %zu unused BN tensors kept", r->unused_kept);
    if (r->unused_absent)
        snprintf(unused + strlen(unused), sizeof unused - strlen(unused),
                 ", %zu unused BN tensors at their defaults", r->unused_absent);
    log_info("%s: loaded %zu tensors%s%s", l->s->path, r->loaded, unused,
             r->head_replaced ? ", head replaced" : "");
}

enum ecg_status weights_load(struct net1d *net, const struct safetensors *s, enum weights_mode mode,
                             struct weights_report *report) {
    struct loading l = {.net = net, .s = s, .mode = mode};
    float *piece = NULL;
    enum ecg_status status = ECG_OK;
    TRY_OUT(MEM_NEW(&l.used, s->n_entries));
    TRY_OUT(check_all(&l));
    TRY_OUT(MEM_NEW(&piece, PIECE));
    TRY_OUT(copy_all(&l, false, piece));
    TRY_OUT(copy_all(&l, true, piece));
    log_report(&l);
    if (report) *report = l.report;
out:
    free(piece);
    free(l.used);
    return status;
}

/* ---- saving ---- */

/* The table as rows of a file, and the metadata. */
struct saving {
    struct safetensors_out *rows; /* (net->n_tensors) */
    struct weights_text text;
};

static void saving_free(struct saving *s) {
    weights_text_free(&s->text);
    free(s->rows);
}

static enum ecg_status saving_make(struct saving *s, const struct net1d *net,
                                   const struct weights_meta *meta) {
    TRY(MEM_NEW(&s->rows, net->n_tensors));
    for (size_t i = 0; i < net->n_tensors; i++) {
        const struct tensor *t = &net->tensors[i];
        bool is_counter = t->kind == TENSOR_COUNTER;
        s->rows[i] = (struct safetensors_out){
            .name = t->name, .dtype = is_counter ? ST_I64 : ST_F32, .ndim = t->ndim};
        memcpy(s->rows[i].shape, t->shape, sizeof *t->shape * (size_t)t->ndim);
        if (is_counter)
            s->rows[i].data = &net->counters[t->offset];
        else if (net->params != NULL)
            s->rows[i].data = place(net, t);
    }
    return weights_text_make(&s->text, &net->config, meta);
}

/* The counters lie on the host, all else where the backend has it. */
static enum ecg_status fetch(void *context, const struct safetensors_out *t, size_t bytes,
                             void *to) {
    const struct net1d *net = context;
    if (t->dtype != ST_I64) return net->ops->download(net->dev, to, t->data, bytes);
    memcpy(to, t->data, bytes);
    return ECG_OK;
}

enum ecg_status weights_image(struct safetensors_image *image, const struct net1d *net,
                              const struct weights_meta *meta) {
    struct saving s = {0};
    enum ecg_status status = saving_make(&s, net, meta);
    if (status == ECG_OK)
        status = safetensors_image_make(image, s.rows, net->n_tensors, s.text.keys,
                                        (const char *const *)s.text.values, s.text.n, fetch,
                                        (void *)net);
    saving_free(&s);
    return status;
}

enum ecg_status weights_size(const struct net1d *net, const struct weights_meta *meta,
                             uint64_t *bytes) {
    struct saving s = {0};
    enum ecg_status status = saving_make(&s, net, meta);
    if (status == ECG_OK)
        status = safetensors_size(s.rows, net->n_tensors, s.text.keys,
                                  (const char *const *)s.text.values, s.text.n, bytes);
    saving_free(&s);
    return status;
}
