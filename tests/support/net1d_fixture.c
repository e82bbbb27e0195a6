/* SPDX-License-Identifier: MIT
 * Fixtures of networks: see the header. */
#include "tests/support/net1d_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "kernels/bf16.h"
#include "tests/support/check.h"

const char *net1d_fixture_path(const char *name) {
    static char path[256];
    snprintf(path, sizeof(path), "tests/fixtures/%s", name);
    return path;
}

const char *net1d_fixture_shared(const char *name) {
    static char path[512];
    if (check_shared() == NULL) {
        check_skip("no shared fixtures");
        return NULL;
    }
    snprintf(path, sizeof(path), "%s/fixtures/%s", check_shared(), name);
    return path;
}

double recipe_uniform(const char *name, uint64_t seed, uint64_t i) {
    uint64_t h = 0xCBF29CE484222325u;
    for (const char *c = name; *c != '\0'; c++) h = (h ^ (uint8_t)*c) * 0x100000001B3u;
    uint64_t z = h + seed + i + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (double)((z ^ (z >> 31)) >> 40) / 16777216.0;
}

/* ------------------------------------------------------------------ metadata */

static double meta_number(const struct safetensors *s, const char *key, double standard) {
    const char *text = safetensors_meta(s, key);
    return text == NULL ? standard : strtod(text, NULL);
}

static int meta_int(const struct safetensors *s, const char *key, int standard) {
    return (int)meta_number(s, key, standard);
}

/* "[16, 32]" into v; returns how many. */
static int meta_list(const struct safetensors *s, const char *key, int v[NET1D_MAX_STAGES]) {
    const char *c = safetensors_meta(s, key);
    int n = 0;
    while (c != NULL && *c != '\0' && *c != ']' && n < NET1D_MAX_STAGES) {
        char *end;
        long value = strtol(c + 1, &end, 10);
        if (end == c + 1) return 0;
        v[n++] = (int)value;
        c = end;
    }
    return n;
}

static enum ecg_status read_config(struct net1d_fixture *f) {
    const struct safetensors *s = &f->file;
    struct net1d_config *c = &f->config;
    c->n_leads = meta_int(s, "in_channels", 0);
    c->length = meta_int(s, "len", 0);
    c->base_filters = meta_int(s, "base_filters", 0);
    c->n_stages = meta_list(s, "filter_list", c->filters);
    if (meta_list(s, "m_blocks_list", c->blocks) != c->n_stages)
        return ecg_fail(ECG_ERR_DATA, "%s: stages without blocks", s->path);
    c->kernel_size = meta_int(s, "kernel_size", 16);
    c->stride = meta_int(s, "stride", 2);
    c->group_width = meta_int(s, "group_width", 16);
    c->batch_norm = meta_int(s, "bn", 0) != 0;
    c->n_outputs = meta_int(s, "n_classes", 0);
    f->B = meta_int(s, "batch", 0);
    f->seed = (uint64_t)meta_int(s, "seed", 0);
    f->lr = meta_number(s, "lr", 0);
    f->weight_decay = meta_number(s, "weight_decay", 0);
    return net1d_check(c);
}

/* ------------------------------------------------------------------ tensors */

float *net1d_fixture_f32(const struct net1d_fixture *f, const char *prefix, const char *name,
                         size_t *n) {
    char key[160];
    snprintf(key, sizeof(key), "%s%s", prefix, name);
    const struct safetensors_entry *e = safetensors_find(&f->file, key);
    float *v = NULL;
    if (e == NULL || mem_alloc((void **)&v, e->n, sizeof(*v)) != ECG_OK) return NULL;
    if (safetensors_to_f32(&f->file, e, v) != ECG_OK) {
        free(v);
        return NULL;
    }
    *n = e->n;
    return v;
}

static enum ecg_status read_batch(struct net1d_fixture *f) {
    size_t B = (size_t)f->B, C = (size_t)f->config.n_leads, L = (size_t)f->config.length;
    size_t nx = 0, ny = 0, K = (size_t)f->config.n_outputs;
    float *x = net1d_fixture_f32(f, "", "x", &nx), *y = net1d_fixture_f32(f, "", "y", &ny);
    enum ecg_status status = ECG_OK;
    if (x == NULL || y == NULL || nx != B * C * L || ny != B * K) {
        status = ecg_fail(ECG_ERR_DATA, "%s: x or y missing or of another shape", f->file.path);
        goto out;
    }
    TRY_OUT(MEM_NEW(&f->x, nx));
    TRY_OUT(MEM_NEW(&f->labels, ny));
    for (size_t b = 0; b < B; b++)
        for (size_t c = 0; c < C; c++)
            for (size_t l = 0; l < L; l++) f->x[(b * L + l) * C + c] = x[(b * C + c) * L + l];
    for (size_t i = 0; i < ny; i++) f->labels[i] = y[i] == 1;
out:
    free(x);
    free(y);
    return status;
}

enum ecg_status net1d_fixture_open(struct net1d_fixture *f, const char *path) {
    *f = (struct net1d_fixture){0};
    enum ecg_status status;
    TRY_OUT(safetensors_open(&f->file, path));
    TRY_OUT(read_config(f));
    TRY_OUT(read_batch(f));
out:
    if (status != ECG_OK) net1d_fixture_close(f);
    return status;
}

void net1d_fixture_close(struct net1d_fixture *f) {
    safetensors_close(&f->file);
    free(f->x);
    free(f->labels);
    *f = (struct net1d_fixture){0};
}

/* A bias has the fan-in of its own layer's weight, the row before it in the table. */
static void make_by_recipe(const struct tensor *t, uint64_t seed, float *v) {
    const char *leaf = strrchr(t->name, '.') + 1;
    bool is_norm = strstr(t->name, "bn") != NULL, is_weight = strcmp(leaf, "weight") == 0;
    const struct tensor *w = is_weight || is_norm ? t : t - 1;
    double fan_in = (double)(w->n / (size_t)w->shape[0]);
    for (size_t i = 0; i < t->n; i++) {
        double u = 2 * recipe_uniform(t->name, seed, i) - 1;
        v[i] = (float)(is_norm ? (is_weight ? 1 : 0) + 0.1 * u : u / sqrt(fan_in));
    }
    if (t->kind == TENSOR_BUFFER)
        for (size_t i = 0; i < t->n; i++) v[i] = strcmp(leaf, "running_var") == 0;
}

static enum ecg_status set_tensor(const struct net1d_fixture *f, struct net1d *net,
                                  const struct tensor *t, const char *prefix) {
    size_t n = t->n;
    float *v = net1d_fixture_f32(f, prefix, t->name, &n);
    if (v == NULL) {
        TRY(MEM_NEW(&v, t->n));
        make_by_recipe(t, f->seed, v);
    }
    float *to = (t->kind == TENSOR_PARAM ? net->params : net->extras) + t->offset;
    enum ecg_status status = n == t->n ? net->ops->upload(net->dev, to, v, n * sizeof(*v))
                                       : ecg_fail(ECG_ERR_DATA, "%s: another shape", t->name);
    free(v);
    return status;
}

enum ecg_status net1d_fixture_weights(const struct net1d_fixture *f, struct net1d *net,
                                      const char *prefix) {
    for (size_t i = 0; i < net->n_tensors; i++)
        if (net->tensors[i].kind != TENSOR_COUNTER)
            TRY(set_tensor(f, net, &net->tensors[i], prefix));
    return ECG_OK;
}

enum ecg_status net1d_fixture_input(const struct net1d_fixture *f, struct net1d *net, int first,
                                    int n) {
    size_t record = (size_t)f->config.length * (size_t)f->config.n_leads,
           count = (size_t)n * record;
    const float *x = f->x + (size_t)first * record;
    if (net->config.precision == OPS_F32)
        return net->ops->upload(net->dev, net->x, x, count * sizeof(*x));
    uint16_t *halves;
    TRY(MEM_NEW(&halves, count));
    for (size_t i = 0; i < count; i++) halves[i] = bf16_from_float(x[i]);
    enum ecg_status status = net->ops->upload(net->dev, net->x, halves, count * sizeof(*halves));
    free(halves);
    return status;
}

enum ecg_status net1d_fixture_download(const struct net1d *net, const float *device, size_t n,
                                       float **host) {
    TRY(MEM_NEW(host, n));
    return net->ops->download(net->dev, *host, device, n * sizeof(float));
}

/* ------------------------------------------------------------------ errors */

double max_error(const float *a, const float *b, size_t n) {
    double worst = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        if (isnan(d)) return NAN;
        worst = fmax(worst, d);
        largest = fmax(largest, fabs(b[i]));
    }
    return worst / largest;
}

double norm_of(const float *a, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * a[i];
    return sqrt(sum);
}

double norm_error(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(sum) / norm_of(b, n);
}
