/* SPDX-License-Identifier: MIT
 * Both readers fill the same struct, so converting is reading and writing. */
#include "train/run/convert.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/pth.h"
#include "core/file.h"
#include "core/log.h"
#include "core/mem.h"
#include "data/names.h"
#include "train/model/weights.h"
#include "train/run/network.h"

#define LABELS_MAX_BYTES ((size_t)1 << 20)

static bool has_suffix(const char *path, const char *suffix) {
    size_t n = strlen(path), m = strlen(suffix);
    return n > m && strcmp(path + n - m, suffix) == 0;
}

/* A file on its way: what was read, and what will be written. */
struct conversion {
    struct safetensors in;
    struct safetensors_out *rows; /* (n_rows) those of IN, then those that `net` has beyond them */
    size_t n_rows;
    struct net1d net; /* IN's, at its defaults; no tensors: IN is no Net1D */
    const struct ops *ops;
    struct ops_dev *dev;
    const char **keys, **values; /* metadata; room for two more than IN has */
    size_t n_meta;
    char *labels; /* a name a line; NULL: none given */
};

static void add_meta(struct conversion *c, const char *key, const char *value) {
    c->keys[c->n_meta] = key;
    c->values[c->n_meta++] = value;
}

/* The names of a text file, checked against the network's outputs. */
static enum ecg_status read_labels(struct conversion *c, const char *path) {
    struct net1d_config model;
    struct names names = {0};
    char *text = NULL;
    size_t size;
    enum ecg_status status;
    TRY_OUT(weights_read_config(&c->in, &model));
    if (safetensors_meta(&c->in, WEIGHTS_TARGETS) != NULL)
        TRY_OUT(ecg_fail(ECG_ERR_DATA, "%s: its outputs are targets, which have names already",
                         c->in.path));
    TRY_OUT(file_read(path, LABELS_MAX_BYTES, &text, &size));
    if (strlen(text) != size)
        TRY_OUT(ecg_fail(ECG_ERR_DATA, "%s: not a text file: it holds a zero byte", path));
    TRY_OUT(names_parse(&names, text, path));
    if (names.n != model.n_outputs)
        TRY_OUT(ecg_fail(ECG_ERR_DATA, "%s: %d names, the network in %s has %d outputs", path,
                         names.n, c->in.path, model.n_outputs));
    TRY_OUT(names_join(&names, &c->labels));
out:
    names_free(&names);
    free(text);
    return status;
}

/* The network that IN is. One that can't be is no error here: tensors are copied whatever they are. */
static enum ecg_status build(struct conversion *c) {
    struct net1d_config model;
    enum ecg_status status = weights_read_config(&c->in, &model);
    if (status == ECG_OK) {
        model.length = 1; /* no data will run through it */
        TRY(ops_find(&c->ops, "cpu"));
        TRY(c->ops->open(&c->dev, 1));
        status = net1d_create(&c->net, &model, c->ops, c->dev, 1, false);
    }
    if (status == ECG_ERR_NOMEM) return status;
    if (status != ECG_OK) log_warn("%s", ecg_message());
    return ECG_OK;
}

/* Rows for the BN tensors of the official class that IN lacks and never uses: 1, 0, 0, 1, 0, as weights_image has them. */
static void complete(struct conversion *c) {
    for (size_t i = 0; i < c->net.n_tensors && !c->net.config.batch_norm; i++) {
        const struct tensor *t = &c->net.tensors[i];
        if (t->kind == TENSOR_PARAM || safetensors_find(&c->in, t->name) != NULL) continue;
        bool is_counter = t->kind == TENSOR_COUNTER;
        struct safetensors_out *row = &c->rows[c->n_rows++];
        *row =
            (struct safetensors_out){.name = t->name,
                                     .dtype = is_counter ? ST_I64 : ST_F32,
                                     .ndim = t->ndim,
                                     .data = is_counter ? (const void *)&c->net.counters[t->offset]
                                                        : &c->net.extras[t->offset]};
        memcpy(row->shape, t->shape, sizeof *t->shape * (size_t)t->ndim);
    }
}

static enum ecg_status make(struct conversion *c) {
    const struct safetensors *s = &c->in;
    for (size_t i = 0; i < s->n_entries; i++)
        if (s->entries[i].dtype == ST_OTHER)
            return ecg_fail(ECG_ERR_DATA, "%s: tensor \"%.100s\": %s can't be converted", s->path,
                            s->entries[i].name, s->entries[i].dtype_name);
    TRY(build(c));
    TRY(MEM_NEW(&c->rows, s->n_entries + c->net.n_tensors));
    TRY(MEM_NEW(&c->keys, s->n_meta + 2));
    TRY(MEM_NEW(&c->values, s->n_meta + 2));
    for (; c->n_rows < s->n_entries; c->n_rows++) {
        const struct safetensors_entry *e = &s->entries[c->n_rows];
        struct safetensors_out *row = &c->rows[c->n_rows];
        *row = (struct safetensors_out){
            .name = e->name, .dtype = e->dtype, .ndim = e->ndim, .data = e->data};
        memcpy(row->shape, e->shape, sizeof(e->shape));
    }
    complete(c);
    if (safetensors_meta(s, "format") == NULL) add_meta(c, "format", "pt");
    if (c->labels != NULL) add_meta(c, WEIGHTS_LABELS, c->labels);
    for (size_t i = 0; i < s->n_meta; i++)
        if (c->labels == NULL || strcmp(s->meta_keys[i], WEIGHTS_LABELS) != 0)
            add_meta(c, s->meta_keys[i], s->meta_values[i]);
    return ECG_OK;
}

static void log_network(const struct conversion *c, const char *out) {
    const struct net1d_config *m = &c->net.config;
    if (c->net.n_tensors == 0) return;
    log_info("%s: %zu tensors of a Net1D with %d leads, %d stages up to %d filters, %d outputs",
             out, c->n_rows, m->n_leads, m->n_stages, m->filters[m->n_stages - 1], m->n_outputs);
    if (c->n_rows > c->in.n_entries)
        log_info(
            "%s: %zu of them are BN tensors that the official class has, %s lacks and neither uses: "
            "at their defaults",
            out, c->n_rows - c->in.n_entries, c->in.path);
}

enum ecg_status convert_run(const char *in, const char *out, const char *label_names) {
    bool is_pth = has_suffix(out, ".pth") || has_suffix(out, ".pt");
    if (!is_pth && !has_suffix(out, ".safetensors"))
        return ecg_fail(ECG_ERR_USAGE, "%s: the name must end in .pth, .pt or .safetensors", out);
    struct conversion c = {0};
    char *file = NULL;
    enum ecg_status status;
    TRY_OUT(network_file(in, &file));
    TRY_OUT(pth_or_safetensors_open(&c.in, file));
    if (label_names != NULL) TRY_OUT(read_labels(&c, label_names));
    TRY_OUT(make(&c));
    TRY_OUT((is_pth ? pth_write : safetensors_write)(out, c.rows, c.n_rows, c.keys, c.values,
                                                     c.n_meta));
    log_network(&c, out);
out:
    net1d_free(&c.net);
    if (c.ops != NULL) c.ops->close(c.dev);
    free(c.labels);
    free(c.values);
    free(c.keys);
    free(c.rows);
    free(file);
    safetensors_close(&c.in);
    return status;
}
