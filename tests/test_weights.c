/* SPDX-License-Identifier: MIT
 * Weights files of Net1D: what is saved comes back bit for bit, the network is read off the shapes, and nothing that does
 * not fit is loaded in part or in silence. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "tests/support/check.h"
#include "train/model/weights.h"
#include "train/run/config.h"

#define N_BN_TENSORS 50 /* of 1 + 3 x 3 norms */

static const struct ops *ops;
static struct ops_dev *dev;
static char path[4200];

static const char *in_tmp(const char *name) {
    snprintf(path, sizeof path, "%s/%s.safetensors", check_tmp(), name);
    return path;
}

static struct net1d_config small(bool batch_norm, int n_outputs) {
    return (struct net1d_config){.n_leads = 2,
                                 .length = 50,
                                 .base_filters = 16,
                                 .n_stages = 2,
                                 .filters = {16, 32},
                                 .blocks = {1, 2},
                                 .kernel_size = 5,
                                 .stride = 3,
                                 .group_width = 8,
                                 .batch_norm = batch_norm,
                                 .dropout = 0.25,
                                 .drop_path = 0.125,
                                 .n_outputs = n_outputs};
}

static float *place(const struct net1d *net, const struct tensor *t) {
    return (t->kind == TENSOR_PARAM ? net->params : net->extras) + t->offset;
}

/* A network whose every number is its own. */
static bool make(struct net1d *net, const struct net1d_config *c, float base) {
    *net = (struct net1d){0};
    if (!CHECK_OK(net1d_create(net, c, ops, dev, 1, false))) return false;
    for (size_t i = 0; i < net->n_tensors; i++) {
        const struct tensor *t = &net->tensors[i];
        if (t->kind == TENSOR_COUNTER) {
            net->counters[t->offset] = (int64_t)i + 1;
            continue;
        }
        float *v = calloc(t->n, sizeof *v);
        for (size_t j = 0; v && j < t->n; j++) v[j] = base + (float)i + (float)j / 4096;
        CHECK(v && CHECK_OK(ops->upload(dev, place(net, t), v, t->n * sizeof *v)));
        free(v);
    }
    return true;
}

/* Whether tensor `name` is the same in both, bit for bit. */
static bool same_tensor(struct net1d *a, struct net1d *b, const char *name) {
    const struct tensor *t = net1d_tensor(a, name), *u = net1d_tensor(b, name);
    if (!t || !u || t->n != u->n) return false;
    if (t->kind == TENSOR_COUNTER) return a->counters[t->offset] == b->counters[u->offset];
    size_t bytes = t->n * sizeof(float);
    float *v = malloc(bytes), *w = malloc(bytes);
    bool same = v && w && ops->download(dev, v, place(a, t), bytes) == ECG_OK &&
                ops->download(dev, w, place(b, u), bytes) == ECG_OK && !memcmp(v, w, bytes);
    free(v);
    free(w);
    return same;
}

static size_t count_same(struct net1d *a, struct net1d *b) {
    size_t n = 0;
    for (size_t i = 0; i < a->n_tensors; i++) n += same_tensor(a, b, a->tensors[i].name);
    return n;
}

static char *leads[] = {"II", "V5"}, *names[] = {"AF", "a \"b\"", "c"};
static double thresholds[] = {0.1, NAN, 2.0 / 3};

static struct weights_meta full_meta(void) {
    return (struct weights_meta){.leads = {2, leads},
                                 .outputs = {3, names},
                                 .preset = "official",
                                 .normalize = "record",
                                 .thresholds = thresholds};
}

static enum ecg_status save(const struct net1d *net, const char *name,
                            const struct weights_meta *m) {
    struct safetensors_image image = {0};
    enum ecg_status status = weights_image(&image, net, m);
    if (status == ECG_OK) status = file_write(in_tmp(name), image.data, image.n);
    safetensors_image_free(&image);
    return status;
}

/* A saved network, opened again. */
static bool save_and_open(const struct net1d *net, const char *name, const struct weights_meta *m,
                          struct safetensors *s) {
    return CHECK_OK(save(net, name, m)) && CHECK_OK(safetensors_open(s, path));
}

static void check_config(const struct net1d_config *a, const struct net1d_config *b) {
    CHECK(a->n_leads == b->n_leads && a->length == b->length && a->base_filters == b->base_filters);
    CHECK(a->n_stages == b->n_stages && a->kernel_size == b->kernel_size && a->stride == b->stride);
    CHECK(!memcmp(a->filters, b->filters, sizeof a->filters) &&
          !memcmp(a->blocks, b->blocks, sizeof a->blocks));
    CHECK(a->group_width == b->group_width && a->batch_norm == b->batch_norm &&
          a->n_outputs == b->n_outputs);
    CHECK(a->dropout == b->dropout && a->drop_path == b->drop_path && a->pool == b->pool);
}

static void check_meta(const struct safetensors *s) {
    struct weights_meta m;
    if (!CHECK_OK(weights_read_meta(s, &m))) return;
    CHECK(m.leads.n == 2 && m.outputs.n == 3 && m.heads.n == 1 && m.heads.v[0].kind == HEAD_LABELS);
    CHECK_STR(m.leads.v[1], "V5");
    CHECK_STR(m.outputs.v[1], names[1]);
    CHECK_STR(m.preset, "official");
    CHECK_STR(m.normalize, "record");
    CHECK(m.thresholds && m.thresholds[0] == 0.1 && isnan(m.thresholds[1]) &&
          m.thresholds[2] == 2.0 / 3);
    weights_meta_free(&m);
    weights_meta_free(&m);
}

static void round_trip_of(bool batch_norm, enum net1d_pool pool) {
    struct net1d_config c = small(batch_norm, 3), read;
    c.pool = pool;
    struct weights_meta m = full_meta();
    struct net1d net, other;
    struct safetensors s = {0};
    struct weights_report r = {0};
    if (!make(&net, &c, 0.5f) || !make(&other, &c, -3)) return;
    if (save_and_open(&net, "first", &m, &s)) {
        CHECK(s.n_entries == net.n_tensors);
        CHECK_STR(safetensors_meta(&s, "format"), "pt");
        CHECK_OK(weights_read_config(&s, &read));
        check_config(&read, &c);
        check_meta(&s);
        CHECK_OK(weights_load(&other, &s, WEIGHTS_ALL, &r));
        CHECK(count_same(&net, &other) == net.n_tensors);
        CHECK(r.unused_kept == (batch_norm ? 0 : N_BN_TENSORS) && r.unused_absent == 0 &&
              !r.head_replaced);
        CHECK(r.loaded + r.unused_kept == net.n_tensors);
    }
    char *one = NULL, *two = NULL;
    size_t n1 = 0, n2 = 0;
    CHECK_OK(file_read(path, 1u << 24, &one, &n1));
    CHECK_OK(save(&other, "second", &m));
    CHECK_OK(file_read(path, 1u << 24, &two, &n2));
    CHECK(one && two && n1 == n2 && !memcmp(one, two, n1));
    free(one);
    free(two);
    safetensors_close(&s);
    net1d_free(&net);
    net1d_free(&other);
}

static void round_trip(void) {
    round_trip_of(false, NET1D_POOL_MEAN);
    round_trip_of(true, NET1D_POOL_MEAN);
    round_trip_of(false, NET1D_POOL_ATTENTION);
}

static void targets_are_targets(void) {
    struct net1d_config c = small(false, 1);
    char *age = "age";
    const struct names ages = {1, &age};
    struct weights_meta m = {0}, read;
    struct net1d net;
    struct safetensors s = {0};
    if (!CHECK_OK(weights_meta_name(&m, &ages, true)) || !make(&net, &c, 0)) return;
    if (save_and_open(&net, "targets", &m, &s) && CHECK_OK(weights_read_meta(&s, &read))) {
        CHECK(read.heads.v[0].kind == HEAD_TARGETS && read.outputs.n == 1 && !read.preset &&
              !read.thresholds && !read.leads.n);
        CHECK_STR(read.outputs.v[0], "age");
        weights_meta_free(&read);
    }
    weights_meta_free(&m);
    safetensors_close(&s);
    net1d_free(&net);
}

/* ---- files that were changed ---- */

typedef void change_fn(struct safetensors_out *t, size_t *n);

static struct safetensors_out *row(struct safetensors_out *t, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (!strcmp(t[i].name, name)) return &t[i];
    CHECK(!"the file has this tensor");
    return t;
}

static void drop(struct safetensors_out *t, size_t *n, const char *name) {
    *row(t, *n, name) = t[*n - 1];
    --*n;
}

/* The network's file with its rows changed and these metadata, opened. */
static bool changed(struct net1d *net, change_fn *change, const char *key, const char *value,
                    struct safetensors *s) {
    struct safetensors original = {0};
    struct weights_meta none = {0};
    if (!save_and_open(net, "original", &none, &original)) return false;
    size_t n = original.n_entries;
    struct safetensors_out *t = calloc(n + 1, sizeof *t);
    for (size_t i = 0; t && i < n; i++) {
        const struct safetensors_entry *e = &original.entries[i];
        t[i] = (struct safetensors_out){e->name, e->dtype, e->ndim, {0}, e->data};
        memcpy(t[i].shape, e->shape, sizeof e->shape);
    }
    if (t && change) change(t, &n);
    bool ok = t &&
              CHECK_OK(safetensors_write(in_tmp("changed"), t, n, &key, &value, key ? 1 : 0)) &&
              CHECK_OK(safetensors_open(s, path));
    free(t);
    safetensors_close(&original);
    return ok;
}

/* Loading the changed file fails with this text and changes nothing, or succeeds when text is NULL. */
static void load_changed(change_fn *change, enum weights_mode mode, int n_outputs, const char *text,
                         struct weights_report *report) {
    struct net1d_config c = small(false, 3), other_config = small(false, n_outputs);
    struct net1d source, net, untouched;
    struct safetensors s = {0};
    if (!make(&source, &c, 1) || !make(&net, &other_config, 7) ||
        !make(&untouched, &other_config, 7))
        return;
    if (changed(&source, change, NULL, NULL, &s)) {
        if (text) {
            CHECK_FAILS(weights_load(&net, &s, mode, report), ECG_ERR_DATA, text);
            CHECK_FAILS(weights_load(&net, &s, mode, report), ECG_ERR_DATA, "changed.safetensors");
            CHECK(count_same(&net, &untouched) == net.n_tensors);
        } else if (CHECK_OK(weights_load(&net, &s, mode, report))) {
            CHECK(same_tensor(&net, &source, "stage_list.1.block_list.1.conv2.conv.weight"));
            CHECK(same_tensor(&net, &source, "dense.bias") == (mode == WEIGHTS_ALL));
            CHECK(same_tensor(&net, &untouched, "dense.bias") == (mode == WEIGHTS_BACKBONE));
        }
    }
    safetensors_close(&s);
    net1d_free(&source);
    net1d_free(&net);
    net1d_free(&untouched);
}

static void without_conv(struct safetensors_out *t, size_t *n) {
    drop(t, n, "stage_list.1.block_list.0.conv1.conv.weight");
}

static void without_head(struct safetensors_out *t, size_t *n) {
    drop(t, n, "dense.weight");
    drop(t, n, "dense.bias");
}

static void without_norms(struct safetensors_out *t, size_t *n) {
    for (size_t i = *n; i-- > 0;)
        if (strstr(t[i].name, "bn")) t[i] = t[--*n];
}

static void with_stranger(struct safetensors_out *t, size_t *n) {
    t[*n] = t[0];
    t[(*n)++].name = "attention.weight";
}

static void misshaped(struct safetensors_out *t, size_t *n) {
    struct safetensors_out *r = row(t, *n, "stage_list.0.block_list.0.se_fc1.weight");
    int64_t rows = r->shape[0];
    r->shape[0] = r->shape[1];
    r->shape[1] = rows;
}

static void misshaped_norm(struct safetensors_out *t, size_t *n) {
    row(t, *n, "first_bn.running_var")->shape[0] = 8;
}

static void integers(struct safetensors_out *t, size_t *n) {
    row(t, *n, "first_conv.conv.bias")->dtype = ST_I32;
}

static void with_nan(struct safetensors_out *t, size_t *n) {
    static float broken[16] = {0, 0, NAN};
    row(t, *n, "first_conv.conv.bias")->data = broken;
}

static void nothing(struct safetensors_out *t, size_t *n) {
    (void)t;
    *n = 0;
}

static void strict_in_full(void) {
    load_changed(without_conv, WEIGHTS_ALL, 3,
                 "1 tensors missing: stage_list.1.block_list.0.conv1.conv.weight", NULL);
    load_changed(without_head, WEIGHTS_ALL, 3, "dense.weight", NULL);
    load_changed(with_stranger, WEIGHTS_ALL, 3, "1 unexpected: attention.weight", NULL);
    load_changed(misshaped, WEIGHTS_ALL, 3, "se_fc1.weight is [16, 8], not [8, 16]", NULL);
    load_changed(misshaped_norm, WEIGHTS_ALL, 3, "first_bn.running_var is [8], not [16]", NULL);
    load_changed(integers, WEIGHTS_ALL, 3, "first_conv.conv.bias holds I32", NULL);
    load_changed(with_nan, WEIGHTS_ALL, 3, "first_conv.conv.bias holds nan", NULL);
    load_changed(nothing, WEIGHTS_ALL, 3, "missing: first_conv.conv.weight", NULL);
    load_changed(NULL, WEIGHTS_ALL, 4, "dense.weight is [3, 32], not [4, 32]", NULL);
}

/* Tensors of other formats are converted piece by piece; the largest one here takes five pieces. */
static void other_formats_in_pieces(void) {
    struct net1d_config c = small(false, 3);
    c.filters[1] = 544;
    struct net1d source, net;
    struct safetensors s = {0};
    double *wide = NULL;
    const char *name = "stage_list.1.block_list.1.conv1.conv.weight";
    if (!make(&source, &c, 1) || !make(&net, &c, 7)) return;
    const struct tensor *t = net1d_tensor(&source, name);
    float *v = place(&source, t);
    const size_t last = t->n - 1;
    struct weights_meta none = {0};
    if (!CHECK(t->n == 544 * 544) || !save_and_open(&source, "wide", &none, &s)) goto out;
    wide = calloc(t->n, sizeof *wide);
    struct safetensors_out *rows = calloc(s.n_entries, sizeof *rows);
    if (!CHECK(wide && rows)) goto out;
    for (size_t i = 0; i < t->n; i++) wide[i] = v[i];
    for (size_t i = 0; i < s.n_entries; i++) {
        const struct safetensors_entry *e = &s.entries[i];
        rows[i] = (struct safetensors_out){e->name, e->dtype, e->ndim, {0}, e->data};
        memcpy(rows[i].shape, e->shape, sizeof e->shape);
    }
    *row(rows, s.n_entries, name) = (struct safetensors_out){name, ST_F64, 3, {544, 544, 1}, wide};
    for (int broken = 0; broken < 2; broken++) {
        struct safetensors other = {0};
        if (broken) wide[last] = NAN;
        CHECK_OK(safetensors_write(in_tmp("f64"), rows, s.n_entries, NULL, NULL, 0));
        if (CHECK_OK(safetensors_open(&other, path)) && !broken) {
            CHECK_OK(weights_load(&net, &other, WEIGHTS_ALL, NULL));
            CHECK(count_same(&net, &source) == net.n_tensors);
        } else {
            CHECK_FAILS(weights_load(&net, &other, WEIGHTS_ALL, NULL), ECG_ERR_DATA,
                        "conv1.conv.weight holds nan at element 295935");
        }
        safetensors_close(&other);
    }
    free(rows);
out:
    free(wide);
    safetensors_close(&s);
    net1d_free(&source);
    net1d_free(&net);
}

static void live_tensors_alone_are_enough(void) {
    struct weights_report r = {0};
    load_changed(without_norms, WEIGHTS_ALL, 3, NULL, &r);
    CHECK(r.unused_absent == N_BN_TENSORS && r.unused_kept == 0);
}

static void backbone_keeps_the_new_head(void) {
    struct weights_report r = {0};
    load_changed(NULL, WEIGHTS_BACKBONE, 5, NULL, &r);
    CHECK(r.head_replaced);
    load_changed(without_head, WEIGHTS_BACKBONE, 5, NULL, &r);
    CHECK(!r.head_replaced);
    load_changed(without_conv, WEIGHTS_BACKBONE, 5, "conv1.conv.weight", NULL);
    load_changed(with_stranger, WEIGHTS_BACKBONE, 5, "attention.weight", NULL);
    load_changed(misshaped, WEIGHTS_BACKBONE, 5, "se_fc1.weight", NULL);
}

static void with_pool(struct safetensors_out *t, size_t *n) {
    static float w[32];
    t[(*n)++] = (struct safetensors_out){"pool.weight", ST_F32, 2, {1, 32}, w};
}

/* Attention belongs to the head: a backbone comes without the file's and keeps the network's; in full it must fit. */
static void attention_is_the_heads(void) {
    struct net1d_config mean = small(false, 3), attention = small(false, 3), read;
    struct net1d source, net, untouched;
    struct safetensors s = {0};
    struct weights_report r = {0};
    attention.pool = NET1D_POOL_ATTENTION;
    if (!make(&source, &mean, 1) || !make(&net, &attention, 7) || !make(&untouched, &attention, 7))
        return;
    if (changed(&source, NULL, NULL, NULL, &s)) {
        CHECK(weights_read_config(&s, &read) == ECG_OK && read.pool == NET1D_POOL_MEAN);
        CHECK_FAILS(weights_load(&net, &s, WEIGHTS_ALL, NULL), ECG_ERR_DATA,
                    "1 tensors missing: pool.weight");
        CHECK_OK(weights_load(&net, &s, WEIGHTS_BACKBONE, &r));
        CHECK(r.head_replaced && same_tensor(&net, &untouched, "pool.weight") &&
              same_tensor(&net, &untouched, "dense.bias") &&
              same_tensor(&net, &source, "first_conv.conv.weight"));
    }
    safetensors_close(&s);
    if (changed(&source, with_pool, NULL, NULL, &s)) {
        CHECK(weights_read_config(&s, &read) == ECG_OK && read.pool == NET1D_POOL_ATTENTION);
        CHECK_FAILS(weights_load(&source, &s, WEIGHTS_ALL, NULL), ECG_ERR_DATA,
                    "1 unexpected: pool.weight");
        CHECK_OK(weights_load(&source, &s, WEIGHTS_BACKBONE, NULL));
        CHECK_OK(weights_load(&net, &s, WEIGHTS_BACKBONE, NULL));
        CHECK(same_tensor(&net, &untouched, "pool.weight"));
        CHECK_OK(weights_load(&net, &s, WEIGHTS_ALL, NULL));
        CHECK(!same_tensor(&net, &untouched, "pool.weight"));
    }
    safetensors_close(&s);
    if (changed(&source, with_pool, "einthoven.model", "{\"pool\":\"mean\"}", &s))
        CHECK_FAILS(weights_read_config(&s, &read), ECG_ERR_DATA,
                    "pool is mean, and there is a tensor pool.weight");
    safetensors_close(&s);
    net1d_free(&source);
    net1d_free(&net);
    net1d_free(&untouched);
}

/* The option table's choices are the metadata's names. */
static void names_of_pooling(void) {
    for (int i = NET1D_POOL_MEAN; i <= NET1D_POOL_ATTENTION; i++)
        CHECK_STR(conf_choice_name(config_options, "model.pool", i),
                  net1d_pool_name((enum net1d_pool)i));
    CHECK(conf_choice_name(config_options, "model.pool", NET1D_POOL_ATTENTION + 1) == NULL);
}

static void bad_metadata(void) {
    static const struct {
        const char *key, *value, *text;
    } cases[] = {
        {"einthoven.model", "{", "einthoven.model"},
        {"einthoven.model", "[]", "not an object"},
        {"einthoven.model", "{\"batch_norm\":1}", "batch_norm"},
        {"einthoven.model", "{\"dropout\":1}", "dropout"},
        {"einthoven.model", "{\"dropout\":\"x\"}", "dropout"},
        {"einthoven.model", "{\"stride\":0}", "stride"},
        {"einthoven.model", "{\"length\":1e3}", "length"},
        {"einthoven.model", "{\"in_leads\":[\"I\"]}", "1 leads"},
        {"einthoven.model", "{\"in_leads\":[1,2]}", "in_leads"},
        {"einthoven.model", "{\"pool\":\"attention\"}", "there is no tensor pool.weight"},
        {"einthoven.model", "{\"pool\":true}", "pool is no name"},
        {"einthoven.labels", "a\nb", "2 outputs"},
        {"einthoven.thresholds", "{\"AF\":0.5}", "einthoven.thresholds"},
    };
    struct net1d_config c = small(false, 3), read;
    struct net1d net;
    struct weights_meta m;
    if (!make(&net, &c, 1)) return;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct safetensors s = {0};
        if (!changed(&net, NULL, cases[i].key, cases[i].value, &s)) continue;
        enum ecg_status status = weights_read_config(&s, &read);
        if (status == ECG_OK) status = weights_read_meta(&s, &m);
        CHECK_FAILS(status, ECG_ERR_DATA, cases[i].text);
        safetensors_close(&s);
    }
    net1d_free(&net);
}

static void no_net1d(void) {
    struct net1d_config c = small(false, 3), read;
    struct net1d net;
    struct safetensors s = {0};
    if (!make(&net, &c, 1)) return;
    if (changed(&net, nothing, NULL, NULL, &s))
        CHECK_FAILS(weights_read_config(&s, &read), ECG_ERR_DATA, "first_conv.conv.weight");
    safetensors_close(&s);
    if (changed(&net, without_head, NULL, NULL, &s))
        CHECK_FAILS(weights_read_config(&s, &read), ECG_ERR_DATA, "dense.weight");
    safetensors_close(&s);
    net1d_free(&net);
}

/* What is saved holds every tensor of the original, bit for bit, and no other: it loads wherever the original did. */
static void check_saved_again(const struct net1d *net, const struct safetensors *original) {
    struct weights_meta none = {0};
    struct safetensors again = {0};
    if (!save_and_open(net, "again", &none, &again)) return;
    CHECK(again.n_entries == original->n_entries);
    for (size_t i = 0; i < original->n_entries; i++) {
        const struct safetensors_entry *e = &original->entries[i],
                                       *a = safetensors_find(&again, e->name);
        if (!CHECK(a && a->dtype == e->dtype && a->ndim == e->ndim && a->bytes == e->bytes))
            continue;
        CHECK(!memcmp(a->shape, e->shape, sizeof *e->shape * (size_t)e->ndim) &&
              !memcmp(a->data, e->data, e->bytes));
    }
    safetensors_close(&again);
}

/* Weights without metadata of ours: the network is read off the shapes. */
static void foreign_weights(void) {
    struct safetensors s = {0};
    struct net1d_config c;
    struct weights_meta m;
    struct weights_report r = {0};
    struct net1d net = {0};
    if (!check_shared()) {
        check_skip("no shared fixtures here");
        return;
    }
    snprintf(path, sizeof path, "%s/fixtures/official_small.safetensors", check_shared());
    if (!CHECK_OK(safetensors_open(&s, path))) return;
    if (CHECK_OK(weights_read_config(&s, &c)) && CHECK_OK(weights_read_meta(&s, &m))) {
        CHECK(!c.batch_norm && c.dropout == 0 && c.stride == 2 && c.length == 0);
        CHECK(m.outputs.n == 0 && m.leads.n == 0 && !m.preset);
        c.length = 500;
        if (CHECK_OK(net1d_create(&net, &c, ops, dev, 1, false)) &&
            CHECK_OK(weights_load(&net, &s, WEIGHTS_ALL, &r)))
            check_saved_again(&net, &s);
        check_note("%d leads, %d stages, %zu live and %zu BN tensors", c.n_leads, c.n_stages,
                   r.loaded, r.unused_kept);
        weights_meta_free(&m);
    }
    net1d_free(&net);
    safetensors_close(&s);
}

int main(void) {
    log_set_level(LOG_WARN);
    ops = ops_ref();
    if (ops->open(&dev, 1) != ECG_OK) {
        fprintf(stderr, "%s\n", ecg_message());
        return 1;
    }
    CASE(round_trip);
    CASE(targets_are_targets);
    CASE(strict_in_full);
    CASE(other_formats_in_pieces);
    CASE(live_tensors_alone_are_enough);
    CASE(backbone_keeps_the_new_head);
    CASE(attention_is_the_heads);
    CASE(names_of_pooling);
    CASE(bad_metadata);
    CASE(no_net1d);
    CASE(foreign_weights);
    ops->close(dev);
    return check_finish();
}
