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
    struct safetensors_out *rows; /* (in.n_entries) */
    const char **keys, **values;  /* metadata; room for two more than IN has */
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

static enum ecg_status make(struct conversion *c) {
    const struct safetensors *s = &c->in;
    TRY(MEM_NEW(&c->rows, s->n_entries));
    TRY(MEM_NEW(&c->keys, s->n_meta + 2));
    TRY(MEM_NEW(&c->values, s->n_meta + 2));
    for (size_t i = 0; i < s->n_entries; i++) {
        const struct safetensors_entry *e = &s->entries[i];
        c->rows[i] = (struct safetensors_out){
            .name = e->name, .dtype = e->dtype, .ndim = e->ndim, .data = e->data};
        memcpy(c->rows[i].shape, e->shape, sizeof(e->shape));
    }
    if (safetensors_meta(s, "format") == NULL) add_meta(c, "format", "pt");
    if (c->labels != NULL) add_meta(c, WEIGHTS_LABELS, c->labels);
    for (size_t i = 0; i < s->n_meta; i++)
        if (c->labels == NULL || strcmp(s->meta_keys[i], WEIGHTS_LABELS) != 0)
            add_meta(c, s->meta_keys[i], s->meta_values[i]);
    return ECG_OK;
}

static void log_network(const struct safetensors *s, const char *out) {
    struct net1d_config c;
    if (weights_read_config(s, &c) != ECG_OK)
        log_warn("%s", ecg_message());
    else
        log_info("%s: %zu tensors of a Net1D with %d leads, %d stages up to %d filters, %d outputs",
                 out, s->n_entries, c.n_leads, c.n_stages, c.filters[c.n_stages - 1], c.n_outputs);
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
    TRY_OUT((is_pth ? pth_write : safetensors_write)(out, c.rows, c.in.n_entries, c.keys, c.values,
                                                     c.n_meta));
    log_network(&c.in, out);
out:
    free(c.labels);
    free(c.values);
    free(c.keys);
    free(c.rows);
    free(file);
    safetensors_close(&c.in);
    return status;
}
