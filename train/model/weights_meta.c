/* SPDX-License-Identifier: MIT
 * What a weights file says besides its tensors: einthoven.* in the metadata. einthoven.model is the JSON of the config's
 * model.* keys; when it is read back, shapes come from the tensors and only what they can't tell from the JSON. */
#include "train/model/weights_meta.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/mem.h"

#define MODEL      "einthoven.model"
#define PRESET     "einthoven.preset"
#define NORMALIZE  "einthoven.normalize"
#define RATE       "einthoven.sampling_rate"
#define THRESHOLDS "einthoven.thresholds"

#define DEFAULT_STRIDE 2

/* ---- the network ---- */

const char *weights_shape_text(char text[WEIGHTS_SHAPE_MAX], const int64_t *shape, int ndim) {
    size_t at = (size_t)snprintf(text, WEIGHTS_SHAPE_MAX, "[");
    for (int i = 0; i < ndim; i++)
        at += (size_t)snprintf(text + at, WEIGHTS_SHAPE_MAX - at, i ? ", %lld" : "%lld",
                               (long long)shape[i]);
    snprintf(text + at, WEIGHTS_SHAPE_MAX - at, "]");
    return text;
}

/* An extent of a tensor that a Net1D must have. */
static enum ecg_status extent(const struct safetensors *s, const char *name, int ndim, int axis,
                              int *out) {
    static const char *const meant[] = {
        [2] = "[outputs, features]", [3] = "[filters, channels, kernel]"};
    char found[WEIGHTS_SHAPE_MAX];
    const struct safetensors_entry *e = safetensors_find(s, name);
    if (!e) return ecg_fail(ECG_ERR_DATA, "%s: no Net1D: it holds no tensor %s", s->path, name);
    if (e->ndim != ndim || e->shape[axis] < 1 || e->shape[axis] > INT_MAX)
        return ecg_fail(ECG_ERR_DATA, "%s: no Net1D: tensor %s is %s, not %s", s->path, name,
                        weights_shape_text(found, e->shape, e->ndim), meant[ndim]);
    *out = (int)e->shape[axis];
    return ECG_OK;
}

static void block_tensor(char name[80], int stage, int block, const char *leaf) {
    snprintf(name, 80, "stage_list.%d.block_list.%d.%s", stage, block, leaf);
}

static enum ecg_status read_stages(const struct safetensors *s, struct net1d_config *c) {
    char name[80];
    for (c->n_stages = 0;; c->n_stages++) {
        block_tensor(name, c->n_stages, 0, "conv2.conv.weight");
        if (!safetensors_find(s, name)) break;
        if (c->n_stages == NET1D_MAX_STAGES)
            return ecg_fail(ECG_ERR_DATA, "%s: more than %d stages", s->path, NET1D_MAX_STAGES);
        TRY(extent(s, name, 3, 0, &c->filters[c->n_stages]));
        TRY(extent(s, name, 3, 1, &c->group_width));
        int *blocks = &c->blocks[c->n_stages];
        do block_tensor(name, c->n_stages, ++*blocks, "conv2.conv.weight");
        while (safetensors_find(s, name));
    }
    if (!c->n_stages)
        return ecg_fail(ECG_ERR_DATA, "%s: no Net1D: it holds no tensor %s", s->path, name);
    return ECG_OK;
}

static enum ecg_status bad_meta(const struct safetensors *s, const char *key, const char *what) {
    return ecg_fail(ECG_ERR_DATA, "%s: metadata %s: %s", s->path, key, what);
}

/* einthoven.model as a tree; NULL when the file has none. */
static enum ecg_status model_json(const struct safetensors *s, struct json **root) {
    const char *text = safetensors_meta(s, MODEL);
    *root = NULL;
    if (!text) return ECG_OK;
    if (json_parse(root, text, strlen(text), MODEL) != ECG_OK)
        return ecg_fail_prefix(ECG_ERR_DATA, "%s: metadata ", s->path);
    if (json_is_object(*root)) return ECG_OK;
    json_free(*root);
    *root = NULL;
    return bad_meta(s, MODEL, "not an object");
}

static enum ecg_status read_fraction(const struct safetensors *s, const struct json *v,
                                     double *out) {
    if (!v) return ECG_OK;
    double x = json_number(v);
    if (!(x >= 0 && x < 1)) return bad_meta(s, MODEL, "dropout and drop_path must lie in [0, 1)");
    *out = x;
    return ECG_OK;
}

static enum ecg_status read_count(const struct safetensors *s, const struct json *v, int least,
                                  int *out) {
    if (!v) return ECG_OK;
    if (!json_is_integer(v) || json_integer(v) < least || json_integer(v) > INT_MAX)
        return bad_meta(s, MODEL, "stride and length must be whole positive numbers");
    *out = (int)json_integer(v);
    return ECG_OK;
}

/* The tensors say it already; a file that says otherwise has lost one, or got one from elsewhere. */
static enum ecg_status check_pool(const struct safetensors *s, const struct json *v,
                                  enum net1d_pool pool) {
    const char *name = v ? json_string(v) : net1d_pool_name(pool);
    if (name && strcmp(name, net1d_pool_name(pool)) == 0) return ECG_OK;
    return ecg_fail(ECG_ERR_DATA, "%s: metadata %s: pool is %s, and %s tensor pool.weight", s->path,
                    MODEL, name ? name : "no name",
                    pool == NET1D_POOL_ATTENTION ? "there is a" : "there is no");
}

static enum ecg_status read_choices(const struct safetensors *s, const struct json *model,
                                    struct net1d_config *c) {
    const struct json *norm = json_get(model, "batch_norm");
    if (norm && !json_is_bool(norm)) return bad_meta(s, MODEL, "batch_norm must be true or false");
    if (norm) c->batch_norm = json_bool(norm);
    TRY(check_pool(s, json_get(model, "pool"), c->pool));
    TRY(read_fraction(s, json_get(model, "dropout"), &c->dropout));
    TRY(read_fraction(s, json_get(model, "drop_path"), &c->drop_path));
    TRY(read_count(s, json_get(model, "stride"), 1, &c->stride));
    return read_count(s, json_get(model, "length"), 0, &c->length);
}

enum ecg_status weights_read_config(const struct safetensors *s, struct net1d_config *c) {
    *c = (struct net1d_config){.stride = DEFAULT_STRIDE};
    TRY(extent(s, "first_conv.conv.weight", 3, 0, &c->base_filters));
    TRY(extent(s, "first_conv.conv.weight", 3, 1, &c->n_leads));
    TRY(extent(s, "first_conv.conv.weight", 3, 2, &c->kernel_size));
    TRY(extent(s, "dense.weight", 2, 0, &c->n_outputs));
    TRY(read_stages(s, c));
    if (safetensors_find(s, "pool.weight") != NULL) c->pool = NET1D_POOL_ATTENTION;
    struct json *model;
    TRY(model_json(s, &model));
    enum ecg_status status = model ? read_choices(s, model, c) : ECG_OK;
    json_free(model);
    return status;
}

/* ---- names and thresholds ---- */

static enum ecg_status read_leads(const struct safetensors *s, struct weights_meta *m) {
    struct json *model;
    TRY(model_json(s, &model));
    const struct json *leads = model ? json_get(model, "in_leads") : NULL;
    enum ecg_status status = ECG_OK;
    if (!leads) goto out;
    if (!json_is_array(leads)) TRY_OUT(bad_meta(s, MODEL, "in_leads is not a list"));
    TRY_OUT(MEM_NEW(&m->leads.v, json_size(leads)));
    for (; (size_t)m->leads.n < json_size(leads); m->leads.n++) {
        const char *name = json_string(json_at(leads, (size_t)m->leads.n));
        if (!name) TRY_OUT(bad_meta(s, MODEL, "in_leads holds something other than names"));
        TRY_OUT(mem_strdup(&m->leads.v[m->leads.n], name));
    }
out:
    json_free(model);
    return status;
}

static enum ecg_status read_thresholds(const struct safetensors *s, struct weights_meta *m) {
    const char *text = safetensors_meta(s, THRESHOLDS);
    if (!text) return ECG_OK;
    struct json *root = NULL;
    enum ecg_status status = ECG_OK;
    if (json_parse(&root, text, strlen(text), THRESHOLDS) != ECG_OK)
        return ecg_fail_prefix(ECG_ERR_DATA, "%s: metadata ", s->path);
    if (!json_is_object(root)) TRY_OUT(bad_meta(s, THRESHOLDS, "not an object"));
    TRY_OUT(MEM_NEW(&m->thresholds, (size_t)m->outputs.n));
    for (int i = 0; i < m->outputs.n; i++) m->thresholds[i] = NAN;
    for (size_t i = 0; i < json_size(root); i++) {
        const struct json *value = json_value_at(root, i);
        int output = names_find(&m->outputs, json_key_at(root, i));
        if (output < 0) TRY_OUT(bad_meta(s, THRESHOLDS, "a name that is not an output's"));
        if (!json_is_number(value) && !json_is_null(value))
            TRY_OUT(bad_meta(s, THRESHOLDS, "something other than numbers"));
        m->thresholds[output] = json_number(value); /* null: NaN */
    }
out:
    json_free(root);
    return status;
}

static enum ecg_status copy_text(const struct safetensors *s, const char *key, char **out) {
    const char *text = safetensors_meta(s, key);
    return text ? mem_strdup(out, text) : ECG_OK;
}

static enum ecg_status read_rate(const struct safetensors *s, struct weights_meta *m) {
    const char *text = safetensors_meta(s, RATE);
    if (text == NULL) return ECG_OK;
    char *end = NULL;
    m->sampling_rate = strtod(text, &end);
    if (end == text || *end != 0 || !(m->sampling_rate > 0 && m->sampling_rate <= 1e6))
        return bad_meta(s, RATE, "it is no rate in Hz");
    return ECG_OK;
}

static enum ecg_status read_names(const struct safetensors *s, const char *key, const char *text,
                                  struct names *names) {
    if (names_parse(names, text, key) == ECG_OK) return ECG_OK;
    return ecg_fail_prefix(ECG_ERR_DATA, "%s: metadata ", s->path);
}

enum ecg_status weights_meta_name(struct weights_meta *m, const struct names *outputs,
                                  bool targets) {
    struct head head = {.name = targets ? "targets" : "labels",
                        .kind = targets ? HEAD_TARGETS : HEAD_LABELS};
    *(targets ? &head.targets : &head.labels) = *outputs;
    heads_free(&m->heads);
    names_free(&m->outputs);
    TRY(heads_add(&m->heads, &head));
    return names_copy(&m->outputs, outputs);
}

static enum ecg_status read_heads(const struct safetensors *s, struct weights_meta *m) {
    const char *heads = safetensors_meta(s, WEIGHTS_HEADS),
               *labels = safetensors_meta(s, WEIGHTS_LABELS),
               *targets = safetensors_meta(s, WEIGHTS_TARGETS);
    if (heads != NULL) {
        if (heads_parse(&m->heads, heads, WEIGHTS_HEADS) != ECG_OK)
            return ecg_fail_prefix(ECG_ERR_DATA, "%s: metadata ", s->path);
        return heads_output_names(&m->heads, &m->outputs);
    }
    if (labels && targets)
        return bad_meta(s, WEIGHTS_TARGETS, "the outputs can't be both labels and targets");
    if (!labels && !targets) return ECG_OK;
    struct names names = {0};
    enum ecg_status status = labels ? read_names(s, WEIGHTS_LABELS, labels, &names)
                                    : read_names(s, WEIGHTS_TARGETS, targets, &names);
    if (status == ECG_OK) status = weights_meta_name(m, &names, targets != NULL);
    names_free(&names);
    return status;
}

static enum ecg_status read_all(const struct safetensors *s, struct weights_meta *m) {
    int n_leads, n_outputs;
    TRY(extent(s, "first_conv.conv.weight", 3, 1, &n_leads));
    TRY(extent(s, "dense.weight", 2, 0, &n_outputs));
    TRY(read_leads(s, m));
    TRY(read_heads(s, m));
    if (m->leads.n && m->leads.n != n_leads)
        return ecg_fail(ECG_ERR_DATA, "%s: metadata name %d leads, the network takes %d", s->path,
                        m->leads.n, n_leads);
    if (m->outputs.n && m->outputs.n != n_outputs)
        return ecg_fail(ECG_ERR_DATA, "%s: metadata name %d outputs, the network has %d", s->path,
                        m->outputs.n, n_outputs);
    TRY(copy_text(s, PRESET, &m->preset));
    TRY(copy_text(s, NORMALIZE, &m->normalize));
    TRY(read_rate(s, m));
    return read_thresholds(s, m);
}

enum ecg_status weights_read_meta(const struct safetensors *s, struct weights_meta *m) {
    *m = (struct weights_meta){0};
    enum ecg_status status = read_all(s, m);
    if (status != ECG_OK) weights_meta_free(m);
    return status;
}

void weights_meta_free(struct weights_meta *m) {
    names_free(&m->leads);
    names_free(&m->outputs);
    heads_free(&m->heads);
    free(m->preset);
    free(m->normalize);
    free(m->thresholds);
    *m = (struct weights_meta){0};
}

/* ---- writing ---- */

static void put_counts(struct json_writer *w, const char *key, const int *v, int n) {
    json_put_key(w, key);
    json_begin_array(w);
    for (int i = 0; i < n; i++) json_put_integer(w, v[i]);
    json_end_array(w);
}

static void put_count(struct json_writer *w, const char *key, int v) {
    json_put_key(w, key);
    json_put_integer(w, v);
}

static enum ecg_status model_text(const struct net1d_config *c, const struct weights_meta *m,
                                  char **text) {
    struct json_writer w = {0};
    json_begin_object(&w);
    if (m->leads.n) {
        json_put_key(&w, "in_leads");
        json_begin_array(&w);
        for (int i = 0; i < m->leads.n; i++) json_put_string(&w, m->leads.v[i]);
        json_end_array(&w);
    }
    put_count(&w, "length", c->length);
    put_count(&w, "base_filters", c->base_filters);
    put_counts(&w, "filters", c->filters, c->n_stages);
    put_counts(&w, "blocks", c->blocks, c->n_stages);
    put_count(&w, "kernel_size", c->kernel_size);
    put_count(&w, "stride", c->stride);
    put_count(&w, "group_width", c->group_width);
    json_put_key(&w, "batch_norm");
    json_put_bool(&w, c->batch_norm);
    json_put_key(&w, "dropout");
    json_put_number(&w, c->dropout);
    json_put_key(&w, "drop_path");
    json_put_number(&w, c->drop_path);
    json_put_key(&w, "pool");
    json_put_string(&w, net1d_pool_name(c->pool));
    json_end_object(&w);
    return json_writer_take(&w, text);
}

static enum ecg_status thresholds_text(const struct weights_meta *m, char **text) {
    struct json_writer w = {0};
    json_begin_object(&w);
    for (int i = 0; i < m->outputs.n; i++) {
        json_put_key(&w, m->outputs.v[i]);
        json_put_number(&w, m->thresholds[i]);
    }
    json_end_object(&w);
    return json_writer_take(&w, text);
}

static enum ecg_status rate_text(const struct weights_meta *m, char **text) {
    char number[32];
    snprintf(number, sizeof(number), "%.17g", m->sampling_rate);
    return mem_strdup(text, number);
}

/* The place of the next value, under `key`. */
static char **next(struct weights_text *t, const char *key) {
    t->keys[t->n] = key;
    return &t->values[t->n++];
}

enum ecg_status weights_text_make(struct weights_text *t, const struct net1d_config *c,
                                  const struct weights_meta *m) {
    *t = (struct weights_text){0};
    enum ecg_status status = ECG_OK;
    TRY_OUT(mem_strdup(next(t, "format"), "pt"));
    TRY_OUT(model_text(c, m, next(t, MODEL)));
    if (m->heads.n > 0 && !heads_are_plain(&m->heads))
        TRY_OUT(heads_json(&m->heads, next(t, WEIGHTS_HEADS)));
    else if (m->outputs.n)
        TRY_OUT(names_join(&m->outputs, next(t, m->heads.n > 0 && m->heads.v[0].kind == HEAD_TARGETS
                                                    ? WEIGHTS_TARGETS
                                                    : WEIGHTS_LABELS)));
    if (m->preset) TRY_OUT(mem_strdup(next(t, PRESET), m->preset));
    if (m->normalize) TRY_OUT(mem_strdup(next(t, NORMALIZE), m->normalize));
    if (m->sampling_rate > 0) TRY_OUT(rate_text(m, next(t, RATE)));
    if (m->thresholds && m->outputs.n) TRY_OUT(thresholds_text(m, next(t, THRESHOLDS)));
out:
    if (status != ECG_OK) weights_text_free(t);
    return status;
}

void weights_text_free(struct weights_text *t) {
    for (size_t i = 0; i < t->n; i++) free(t->values[i]);
    *t = (struct weights_text){0};
}
