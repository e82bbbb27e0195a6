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

static const char *shape_text(char text[160], const int64_t *shape, int ndim) {
    int at = snprintf(text, 160, "[");
    for (int i = 0; i < ndim; i++)
        at += snprintf(text + at, 160 - (size_t)at, i ? ", %lld" : "%lld", (long long)shape[i]);
    snprintf(text + at, 160 - (size_t)at, "]");
    return text;
}

/* ---- loading ---- */

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
    char expected[160], found[160];
    if (e->ndim != t->ndim || memcmp(e->shape, t->shape, sizeof *e->shape * (size_t)t->ndim) != 0) {
        complain(&l->misshaped, "%s is %s, not %s", t->name, shape_text(found, e->shape, e->ndim),
                 shape_text(expected, t->shape, t->ndim));
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
        if (l->mode == WEIGHTS_BACKBONE && !strncmp(name, "dense.", 6))
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

static enum ecg_status check_finite(const struct loading *l, const struct tensor *t,
                                    const float *v) {
    for (size_t i = 0; i < t->n; i++)
        if (!isfinite(v[i]))
            return ecg_fail(ECG_ERR_DATA,
                            "%s: tensor %s holds %g at element %zu: these weights are broken",
                            l->s->path, t->name, (double)v[i], i);
    return ECG_OK;
}

/* Numbers of all tensors, converted: checked in the first round, copied in the second. */
static enum ecg_status copy_all(const struct loading *l, float *host, bool copy) {
    for (size_t i = 0; i < l->net->n_tensors; i++) {
        const struct tensor *t = &l->net->tensors[i];
        const struct safetensors_entry *e = safetensors_find(l->s, t->name);
        if (!e || !wanted(l, t)) continue;
        if (t->kind == TENSOR_COUNTER) {
            if (copy) memcpy(&l->net->counters[t->offset], e->data, sizeof(int64_t));
            continue;
        }
        TRY(safetensors_to_f32(l->s, e, host));
        if (!copy && !is_unused(l->net, t)) TRY(check_finite(l, t, host));
        if (copy)
            TRY(l->net->ops->upload(l->net->dev, place(l->net, t), host, t->n * sizeof *host));
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

static size_t largest_tensor(const struct net1d *net) {
    size_t n = 1;
    for (size_t i = 0; i < net->n_tensors; i++)
        if (net->tensors[i].n > n) n = net->tensors[i].n;
    return n;
}

enum ecg_status weights_load(struct net1d *net, const struct safetensors *s, enum weights_mode mode,
                             struct weights_report *report) {
    struct loading l = {.net = net, .s = s, .mode = mode};
    float *host = NULL;
    enum ecg_status status = ECG_OK;
    TRY_OUT(MEM_NEW(&l.used, s->n_entries));
    TRY_OUT(check_all(&l));
    TRY_OUT(MEM_NEW(&host, largest_tensor(net)));
    TRY_OUT(copy_all(&l, host, false));
    TRY_OUT(copy_all(&l, host, true));
    log_report(&l);
    if (report) *report = l.report;
out:
    free(host);
    free(l.used);
    return status;
}

/* ---- saving ---- */

/* One row of the file for each row of the table; the floats are fetched into `host` one after the other. */
static enum ecg_status fetch(const struct net1d *net, struct safetensors_out *out, float *host) {
    for (size_t i = 0; i < net->n_tensors; i++) {
        const struct tensor *t = &net->tensors[i];
        out[i] = (struct safetensors_out){.name = t->name, .dtype = ST_F32, .ndim = t->ndim};
        memcpy(out[i].shape, t->shape, sizeof *t->shape * (size_t)t->ndim);
        if (t->kind == TENSOR_COUNTER) {
            out[i].dtype = ST_I64;
            out[i].data = &net->counters[t->offset];
        } else {
            TRY(net->ops->download(net->dev, host, place(net, t), t->n * sizeof *host));
            out[i].data = host;
            host += t->n;
        }
    }
    return ECG_OK;
}

enum ecg_status weights_save(const char *path, const struct net1d *net,
                             const struct weights_meta *meta) {
    struct safetensors_out *out = NULL;
    struct weights_text text = {0};
    float *host = NULL;
    enum ecg_status status = ECG_OK;
    TRY_OUT(MEM_NEW(&out, net->n_tensors));
    TRY_OUT(MEM_NEW(&host, net->n_params + net->n_extras));
    TRY_OUT(fetch(net, out, host));
    TRY_OUT(weights_text_make(&text, &net->config, meta));
    TRY_OUT(safetensors_write(path, out, net->n_tensors, text.keys,
                              (const char *const *)text.values, text.n));
out:
    weights_text_free(&text);
    free(host);
    free(out);
    return status;
}
