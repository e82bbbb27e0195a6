/* SPDX-License-Identifier: MIT
 * Net1D by itself, with no outside truth: the tensor table, first weights, gradients against differences, dropout and
 * drop-path for any split into micro-batches, inference against training buffers, freezing, impossible shapes; all of it with
 * attention pooling too. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "tests/support/check.h"
#include "tests/support/net1d_fixture.h"
#include "tests/support/net1d_session.h"

/* ------------------------------------------------------------------ a network with invented input */

struct bench {
    struct backend backend;
    struct net1d net;
    float *x; /* (NET1D_SMALL_BATCH, length, n_leads) host */
};

static bool bench_open(struct bench *b, int backend, const struct net1d_config *c, int max_batch,
                       bool training) {
    *b = (struct bench){.x = NULL};
    if (!backend_open(&b->backend, backend)) return false;
    if (!CHECK_OK(net1d_create(&b->net, c, b->backend.ops, b->backend.dev, max_batch, training)) ||
        !CHECK_OK(net1d_init_weights(&b->net, 5, false)))
        return false;
    size_t n = (size_t)NET1D_SMALL_BATCH * (size_t)c->length * (size_t)c->n_leads;
    if (!CHECK_OK(MEM_NEW(&b->x, n))) return false;
    for (size_t i = 0; i < n; i++) b->x[i] = (float)(4 * recipe_uniform("x", 3, i) - 2);
    return true;
}

static void bench_close(struct bench *b) {
    net1d_free(&b->net);
    backend_close(&b->backend);
    free(b->x);
}

/* Attention's w, which is 0 at first, to numbers that make its weights differ. */
static void wake_attention(struct bench *b) {
    const struct tensor *t = net1d_tensor(&b->net, "pool.weight");
    float *v = NULL;
    if (t == NULL || !CHECK_OK(MEM_NEW(&v, t->n))) return;
    for (size_t i = 0; i < t->n; i++) v[i] = (float)(4 * recipe_uniform("pool", 1, i) - 2);
    CHECK_OK(b->net.ops->upload(b->net.dev, b->net.params + t->offset, v, t->n * sizeof(*v)));
    free(v);
}

/* Forward of samples [first, first + n) that stand at `first` in the step's batch. */
static bool run_samples(struct bench *b, int first, int n, struct net1d_pass pass) {
    size_t record = (size_t)b->net.config.length * (size_t)b->net.config.n_leads;
    pass.sample0 = (uint64_t)first;
    return CHECK_OK(b->net.ops->upload(b->net.dev, b->net.x, b->x + (size_t)first * record,
                                       (size_t)n * record * sizeof(float))) &&
           CHECK_OK(net1d_forward(&b->net, n, &pass));
}

/* loss = sum of logits times the recipe's numbers; its gradient into dlogits. */
static double loss_of(struct bench *b, int first, int n) {
    int K = b->net.config.n_outputs;
    float *logits = NULL, *d = NULL;
    double loss = NAN;
    size_t size = (size_t)n * (size_t)K;
    if (!CHECK_OK(net1d_fixture_download(&b->net, b->net.logits, size, &logits)) ||
        !CHECK_OK(MEM_NEW(&d, size)))
        goto out;
    loss = 0;
    for (size_t i = 0; i < size; i++) {
        d[i] = (float)(2 * recipe_uniform("loss", 1, (uint64_t)(first * K) + i) - 1);
        loss += (double)d[i] * logits[i];
    }
    if (b->net.training)
        CHECK_OK(b->net.ops->upload(b->net.dev, b->net.dlogits, d, size * sizeof(float)));
out:
    free(logits);
    free(d);
    return loss;
}

static void zero_grads(struct bench *b) {
    CHECK_OK(b->net.ops->fill_zero(b->net.dev, b->net.grads, b->net.n_params * sizeof(float)));
}

/* ------------------------------------------------------------------ table and shapes */

static void tensor_table(void) {
    struct bench b;
    struct net1d_config c = net1d_published;
    if (!bench_open(&b, BACKEND_REF, &c, 1, false)) return;
    struct net1d *net = &b.net;
    CHECK(net->n_tensors == 509);
    CHECK(net->n_live == 30752646);
    CHECK(net->n_counters == 61);
    size_t n_params = 0, n_unused = 0, n_buffers = 0, end = 0;
    for (size_t i = 0; i < net->n_tensors; i++) {
        const struct tensor *t = &net->tensors[i];
        CHECK(net1d_tensor(net, t->name) == t);
        n_unused += t->kind == TENSOR_UNUSED ? t->n : 0;
        n_buffers += t->kind == TENSOR_BUFFER ? 1 : 0;
        if (t->kind != TENSOR_PARAM) continue;
        n_params++;
        CHECK(t->offset % 16 == 0 && t->offset >= end);
        end = t->offset + t->n;
    }
    CHECK(n_params == 204 && n_unused == 66368 && n_buffers == 122 && end <= net->n_params);
    CHECK_STR(net->tensors[0].name, "first_conv.conv.weight");
    CHECK_STR(net->tensors[6].name, "first_bn.num_batches_tracked");
    CHECK_STR(net->tensors[7].name, "stage_list.0.block_list.0.bn1.weight");
    CHECK_STR(net->tensors[12].name, "stage_list.0.block_list.0.conv1.conv.weight");
    CHECK_STR(net->tensors[31].name, "stage_list.0.block_list.0.se_fc2.bias");
    CHECK_STR(net->tensors[508].name, "dense.bias");
    const struct tensor *t = net1d_tensor(net, "stage_list.3.block_list.0.conv2.conv.weight");
    CHECK(t != NULL && t->shape[0] == 400 && t->shape[1] == 16 && t->shape[2] == 16);
    t = net1d_tensor(net, "stage_list.6.block_list.3.se_fc1.weight");
    CHECK(t != NULL && t->ndim == 2 && t->shape[0] == 512 && t->shape[1] == 1024);
    CHECK(net1d_tensor(net, "dense") == NULL);
    CHECK(net1d_features(&c) == 1024);
    check_note("%.4f GMAC a record", (double)net1d_macs(&c) / 1e9);
    CHECK_NEAR((double)net1d_macs(&c), 1.17e9, 0.01e9);
    bench_close(&b);
}

/* Every module's first values, and of uniform weights bound, mean and spread: sd = bound/sqrt(3) within 5 standard
 * errors (of the mean sd/sqrt(n); of the variance sqrt(4/5) var/sqrt(n)). */
static void check_uniform(struct bench *b, const char *name, double bound) {
    const struct tensor *t = net1d_tensor(&b->net, name);
    float *v = NULL;
    if (!CHECK(t != NULL) ||
        !CHECK_OK(net1d_fixture_download(&b->net, b->net.params + t->offset, t->n, &v)))
        return;
    double sum = 0, squares = 0, largest = 0, n = (double)t->n, var = bound * bound / 3;
    for (size_t i = 0; i < t->n; i++) {
        sum += v[i];
        squares += (double)v[i] * v[i];
        largest = fmax(largest, fabs(v[i]));
    }
    CHECK(largest <= bound && largest >= bound * (1 - 10 / n));
    CHECK_NEAR(sum / n, 0, 5 * sqrt(var / n));
    CHECK_NEAR(squares / n, var, 5 * var * sqrt(0.8 / n));
    free(v);
}

static void first_weights(void) {
    struct bench b, again;
    struct net1d_config c = net1d_published;
    c.length = 100;
    c.batch_norm = true;
    if (!bench_open(&b, BACKEND_REF, &c, 1, false)) return;
    check_uniform(&b, "first_conv.conv.weight", 1 / sqrt(12 * 16));
    check_uniform(&b, "first_conv.conv.bias", 1 / sqrt(12 * 16));
    check_uniform(&b, "stage_list.5.block_list.1.conv1.conv.weight", 1 / sqrt(1024));
    check_uniform(&b, "stage_list.5.block_list.1.conv2.conv.weight", 1 / sqrt(16 * 16));
    check_uniform(&b, "stage_list.5.block_list.1.conv2.conv.bias", 1 / sqrt(16 * 16));
    check_uniform(&b, "stage_list.6.block_list.3.se_fc2.weight", 1 / sqrt(512));
    check_uniform(&b, "dense.weight", 1 / sqrt(1024));
    const struct tensor *w = net1d_tensor(&b.net, "first_bn.weight");
    CHECK(w->kind == TENSOR_PARAM && b.net.params[w->offset] == 1 &&
          b.net.params[w->offset + 63] == 1);
    const struct tensor *var = net1d_tensor(&b.net, "first_bn.running_var");
    CHECK(b.net.extras[var->offset] == 1);
    CHECK(net1d_tensor(&b.net, "stage_list.0.block_list.0.bn1.weight")->kind == TENSOR_UNUSED);
    if (bench_open(&again, BACKEND_FASTEST, &c, 1, false)) {
        float *p = NULL;
        size_t n = b.net.n_params;
        const struct tensor *dense = net1d_tensor(&b.net, "dense.weight");
        CHECK_OK(net1d_fixture_download(&again.net, again.net.params, n, &p));
        CHECK(memcmp(p, b.net.params, n * sizeof(float)) == 0);
        free(p);
        CHECK_OK(net1d_init_weights(&again.net, 6, true));
        CHECK_OK(net1d_fixture_download(&again.net, again.net.params, n, &p));
        CHECK(memcmp(p, b.net.params, dense->offset * sizeof(float)) == 0);
        CHECK(memcmp(p + dense->offset, b.net.params + dense->offset, 400) != 0);
        free(p);
    }
    bench_close(&again);
    bench_close(&b);
}

/* A network with attention begins as the one without: the same tensors, the same numbers, the mean over time. */
static void attention_starts_as_the_mean(void) {
    const struct net1d_pass eval = {.train = false};
    struct net1d_config c = net1d_small, with = net1d_small;
    with.pool = NET1D_POOL_ATTENTION;
    CHECK(net1d_macs(&with) == net1d_macs(&c) + 2 * 7 * 16);
    for (int i = 0; i < n_backends; i++) {
        struct bench mean, attention;
        float *a = NULL, *b = NULL;
        size_t n = NET1D_SMALL_BATCH * 16, last;
        bool ok = bench_open(&mean, i, &c, NET1D_SMALL_BATCH, false);
        ok = bench_open(&attention, i, &with, NET1D_SMALL_BATCH, false) && ok;
        if (ok && run_samples(&mean, 0, NET1D_SMALL_BATCH, eval) &&
            run_samples(&attention, 0, NET1D_SMALL_BATCH, eval) &&
            CHECK_OK(net1d_fixture_download(&mean.net, mean.net.features, n, &a)) &&
            CHECK_OK(net1d_fixture_download(&attention.net, attention.net.features, n, &b))) {
            last = mean.net.n_tensors;
            CHECK(attention.net.n_tensors == last + 1 &&
                  attention.net.n_live == mean.net.n_live + 16);
            CHECK(memcmp(mean.net.params, attention.net.params,
                         mean.net.n_params * sizeof(float)) == 0);
            CHECK_STR(attention.net.tensors[last].name, "pool.weight");
            CHECK(attention.net.tensors[last].is_head &&
                  !attention.net.tensors[last].is_bias_or_norm);
            CHECK(max_error(b, a, n) <= 1e-6);
            wake_attention(&attention);
            free(b);
            b = NULL;
            if (run_samples(&attention, 0, NET1D_SMALL_BATCH, eval) &&
                CHECK_OK(net1d_fixture_download(&attention.net, attention.net.features, n, &b)))
                CHECK(max_error(b, a, n) > 1e-2);
        }
        free(a);
        free(b);
        bench_close(&mean);
        bench_close(&attention);
    }
}

static void impossible_shapes(void) {
    struct net1d_config c = net1d_small;
    CHECK_OK(net1d_check(&c));
    c.length = 0;
    CHECK_FAILS(net1d_check(&c), ECG_ERR_CONFIG, "model.length");
    c = net1d_small;
    c.filters[1] = 4;
    CHECK_FAILS(net1d_check(&c), ECG_ERR_CONFIG, "narrows");
    c = net1d_small;
    c.filters[1] = 18;
    c.group_width = 4;
    CHECK_FAILS(net1d_check(&c), ECG_ERR_CONFIG, "model.group_width");
    c = net1d_small;
    c.group_width = 16;
    CHECK_FAILS(net1d_check(&c), ECG_ERR_CONFIG, "model.group_width");
    c = net1d_small;
    c.group_width = 0;
    CHECK_FAILS(net1d_check(&c), ECG_ERR_CONFIG, "model.group_width");
    c = net1d_small;
    c.n_stages = NET1D_MAX_STAGES + 1;
    CHECK_FAILS(net1d_check(&c), ECG_ERR_CONFIG, "model.filters");
    c = net1d_small;
    c.blocks[1] = 0;
    CHECK_FAILS(net1d_check(&c), ECG_ERR_CONFIG, "model.blocks");
    c = net1d_small;
    c.dropout = NAN;
    CHECK_FAILS(net1d_check(&c), ECG_ERR_CONFIG, "model.dropout");
    c = net1d_small;
    c.length = 1 << 28;
    CHECK_FAILS(net1d_check(&c), ECG_ERR_CONFIG, "too large");
    struct backend backend;
    struct net1d net;
    if (!backend_open(&backend, BACKEND_REF)) return;
    CHECK_FAILS(net1d_create(&net, &c, backend.ops, backend.dev, 1, true), ECG_ERR_CONFIG, "large");
    net1d_free(&net);
    CHECK_FAILS(net1d_create(&net, &net1d_small, backend.ops, backend.dev, 0, true), ECG_ERR_CONFIG,
                "train.batch_size");
    if (CHECK_OK(net1d_create(&net, &net1d_small, backend.ops, backend.dev, 2, false))) {
        const struct net1d_pass train = {.train = true};
        CHECK_FAILS(net1d_forward(&net, 3, &train), ECG_ERR_FAIL, "batch of 3");
        CHECK_FAILS(net1d_forward(&net, 1, &train), ECG_ERR_FAIL, "inference");
        CHECK_FAILS(net1d_backward(&net, 1, &train), ECG_ERR_FAIL, "inference");
    }
    net1d_free(&net);
    net1d_free(&net);
    backend_close(&backend);
}

/* ------------------------------------------------------------------ gradients */

/* d loss along a direction of all parameters that have a gradient in this pass: the gradient's product with it against
 * the loss' difference. The step is small because max-pooling has kinks. */
static void check_direction(const struct net1d_config *c, struct net1d_pass pass,
                            const char *what) {
    struct bench b;
    const double h = 2e-4;
    double dot = 0, loss[2] = {0, 0};
    float *start = NULL;
    if (!bench_open(&b, BACKEND_REF, c, NET1D_SMALL_BATCH, true)) return;
    struct net1d *net = &b.net;
    wake_attention(&b);
    zero_grads(&b);
    if (!run_samples(&b, 0, NET1D_SMALL_BATCH, pass)) goto out;
    loss_of(&b, 0, NET1D_SMALL_BATCH);
    if (!CHECK_OK(net1d_backward(net, NET1D_SMALL_BATCH, &pass)) ||
        !CHECK_OK(net1d_fixture_download(net, net->params, net->n_params, &start)))
        goto out;
    for (int side = 0; side < 2; side++) {
        for (size_t k = 0; k < net->n_tensors; k++) {
            const struct tensor *t = &net->tensors[k];
            bool constant = t->is_norm && (pass.frozen_norm || t->layer < pass.frozen_below);
            for (size_t i = 0; t->kind == TENSOR_PARAM && !constant && i < t->n; i++) {
                double v = (2 * recipe_uniform(t->name, 77, i) - 1) * 0.1;
                size_t at = t->offset + i;
                if (side == 0) dot += v * net->grads[at];
                net->params[at] = start[at] + (float)(side == 0 ? h * v : -h * v);
            }
        }
        if (!run_samples(&b, 0, NET1D_SMALL_BATCH, pass)) goto out;
        loss[side] = loss_of(&b, 0, NET1D_SMALL_BATCH);
    }
    double slope = (loss[0] - loss[1]) / (2 * h);
    check_note("%-22s slope %.6f gradient %.6f", what, slope, dot);
    CHECK_NEAR(slope, dot, 1e-3 * fabs(dot) + 1e-3);
out:
    free(start);
    bench_close(&b);
}

static void gradient_along_a_direction(void) {
    struct net1d_config c = net1d_small;
    const struct net1d_pass train = {.train = true, .seed = 9, .step = 4};
    const struct net1d_pass frozen_norm = {.train = true, .frozen_norm = true, .seed = 9};
    check_direction(&c, train, "plain");
    c.batch_norm = true;
    check_direction(&c, train, "batch norm");
    check_direction(&c, frozen_norm, "frozen norm");
    const struct net1d_pass frozen_stem = {.train = true, .frozen_below = 1, .seed = 9};
    check_direction(&c, frozen_stem, "frozen norm of the stem");
    const struct net1d_pass frozen_stage = {.train = true, .frozen_below = 2, .seed = 9};
    check_direction(&c, frozen_stage, "and of a stage");
    c.dropout = 0.3;
    c.drop_path = 0.4;
    check_direction(&c, train, "dropout and drop-path");
    c.pool = NET1D_POOL_ATTENTION;
    check_direction(&c, train, "all, attention");
    c = net1d_small;
    c.pool = NET1D_POOL_ATTENTION;
    check_direction(&c, train, "attention");
}

/* Gradients of the whole batch by micro-batches of `split`; logits into out (NET1D_SMALL_BATCH, n_outputs). */
static bool run_split(struct bench *b, int split, struct net1d_pass pass, float *logits) {
    size_t K = (size_t)b->net.config.n_outputs;
    zero_grads(b);
    for (int first = 0; first < NET1D_SMALL_BATCH; first += split) {
        int n = NET1D_SMALL_BATCH - first < split ? NET1D_SMALL_BATCH - first : split;
        if (!run_samples(b, first, n, pass)) return false;
        loss_of(b, first, n);
        pass.sample0 = (uint64_t)first;
        if (!CHECK_OK(net1d_backward(&b->net, n, &pass)) ||
            !CHECK_OK(b->net.ops->download(b->net.dev, logits + (size_t)first * K, b->net.logits,
                                           (size_t)n * K * sizeof(float))))
            return false;
    }
    return true;
}

/* What is dropped depends on the sample's place in the step's batch, not on how the batch is cut. */
static void check_split(int backend, enum net1d_pool pool) {
    struct bench b;
    struct net1d_config c = net1d_small;
    c.pool = pool;
    c.dropout = 0.3;
    c.drop_path = 0.5;
    const struct net1d_pass pass = {.train = true, .seed = 21, .step = 7};
    float logits[2][NET1D_SMALL_BATCH * 3], *grads[2] = {NULL, NULL};
    if (!bench_open(&b, backend, &c, NET1D_SMALL_BATCH, true)) goto out;
    wake_attention(&b);
    if (!run_split(&b, NET1D_SMALL_BATCH, pass, logits[0]) ||
        !CHECK_OK(net1d_fixture_download(&b.net, b.net.grads, b.net.n_params, &grads[0])))
        goto out;
    for (int split = 1; split < NET1D_SMALL_BATCH; split++) {
        if (!run_split(&b, split, pass, logits[1]) ||
            !CHECK_OK(net1d_fixture_download(&b.net, b.net.grads, b.net.n_params, &grads[1])))
            goto out;
        CHECK(memcmp(logits[0], logits[1], sizeof(logits[0])) == 0);
        CHECK(norm_error(grads[1], grads[0], b.net.n_params) <= 1e-6);
        free(grads[1]);
        grads[1] = NULL;
    }
    struct net1d_pass next = pass;
    next.step++;
    if (run_split(&b, NET1D_SMALL_BATCH, next, logits[1]))
        CHECK(memcmp(logits[0], logits[1], sizeof(logits[0])) != 0);
out:
    free(grads[0]);
    free(grads[1]);
    bench_close(&b);
}

/* Three steps of training, whoever does the work. */
static void same_bits_for_any_threads(void) {
    static const int threads[] = {1, 2, 3, 4};
    struct net1d_fixture f;
    float *first = NULL, *params = NULL;
    if (!CHECK_OK(net1d_fixture_open(&f, net1d_fixture_path("net1d_bn.safetensors")))) return;
    for (int i = 0; i < 4; i++) {
        struct backend backend;
        struct session s = {0};
        double loss;
        if (!CHECK(backend_open_threads(&backend, BACKEND_FASTEST, threads[i]))) break;
        CHECK_OK(session_open(&s, &backend, &f, true));
        for (int step = 0; step < 3; step++) CHECK_OK(session_step(&s, &loss));
        float **to = i == 0 ? &first : &params;
        if (CHECK_OK(net1d_fixture_download(&s.net, s.net.params, s.net.n_params, to)) && i > 0) {
            CHECK(memcmp(first, params, s.net.n_params * sizeof(float)) == 0);
            free(params);
        }
        session_close(&s);
        backend_close(&backend);
    }
    free(first);
    net1d_fixture_close(&f);
}

static void same_masks_for_any_split(void) {
    for (int i = 0; i < n_backends; i++) {
        check_split(i, NET1D_POOL_MEAN);
        check_split(i, NET1D_POOL_ATTENTION);
    }
}

/* With one block that drops, a sample's features take two values over the steps: f_dropped, and f_kept whose branch is
 * scaled so that f_eval - f_dropped = (1 - p) (f_kept - f_dropped). */
static void drop_path_is_unbiased(void) {
    enum { STEPS = 400 };
    struct bench b;
    struct net1d_config c = net1d_small;
    c.n_stages = 1; /* two blocks: the first never drops */
    c.drop_path = 0.3;
    if (!bench_open(&b, BACKEND_REF, &c, NET1D_SMALL_BATCH, true)) return;
    float eval = 0, seen[2] = {0, 0};
    int n_seen = 0, count[2] = {0, 0};
    if (run_samples(&b, 0, 1, (struct net1d_pass){.train = false})) eval = b.net.features[1];
    for (uint32_t step = 0; step < STEPS; step++) {
        if (!run_samples(&b, 0, 1, (struct net1d_pass){.train = true, .seed = 2, .step = step}))
            break;
        float f = b.net.features[1];
        int k = 0;
        while (k < n_seen && seen[k] != f) k++;
        if (!CHECK(k < 2)) break;
        if (k == n_seen) seen[n_seen++] = f;
        count[k]++;
    }
    int dropped = count[0] < count[1] ? 0 : 1;
    check_note("dropped %d of %d at 0.3", count[dropped], STEPS);
    CHECK_NEAR((double)count[dropped] / STEPS, 0.3, 5 * sqrt(0.3 * 0.7 / STEPS));
    CHECK_NEAR(eval - seen[dropped], 0.7 * (seen[1 - dropped] - seen[dropped]), 1e-6);
    CHECK(fabsf(eval - seen[dropped]) > 1e-3f);
    bench_close(&b);
}

/* ------------------------------------------------------------------ inference */

/* The same bits from the few buffers of inference as from the kept ones of training, and for a sample alone as among
 * others, wherever it stands. */
static void check_same_bits(int backend, bool batch_norm, enum net1d_pool pool) {
    struct bench many, few;
    struct net1d_config c = net1d_small;
    c.pool = pool;
    c.batch_norm = batch_norm;
    c.dropout = 0.5;
    c.drop_path = 0.5;
    const struct net1d_pass eval = {.train = false};
    size_t size = NET1D_SMALL_BATCH * 3 * sizeof(float);
    float logits[NET1D_SMALL_BATCH * 3], again[NET1D_SMALL_BATCH * 3];
    bool ok = bench_open(&many, backend, &c, NET1D_SMALL_BATCH, true);
    ok = bench_open(&few, backend, &c, NET1D_SMALL_BATCH, false) && ok;
    if (ok) wake_attention(&many);
    if (ok) wake_attention(&few);
    if (ok && run_samples(&many, 0, NET1D_SMALL_BATCH, eval) &&
        run_samples(&few, 0, NET1D_SMALL_BATCH, eval) &&
        CHECK_OK(many.net.ops->download(many.net.dev, logits, many.net.logits, size)) &&
        CHECK_OK(few.net.ops->download(few.net.dev, again, few.net.logits, size))) {
        CHECK(memcmp(logits, again, size) == 0);
        for (int i = 0; i < NET1D_SMALL_BATCH && run_samples(&few, i, 1, eval); i++) {
            CHECK_OK(few.net.ops->download(few.net.dev, again, few.net.logits,
                                           size / NET1D_SMALL_BATCH));
            CHECK(memcmp(logits + i * 3, again, size / NET1D_SMALL_BATCH) == 0);
        }
    }
    bench_close(&many);
    bench_close(&few);
}

static void inference_gives_the_same_bits(void) {
    for (int i = 0; i < n_backends; i++) {
        check_same_bits(i, false, NET1D_POOL_MEAN);
        check_same_bits(i, true, NET1D_POOL_MEAN);
        check_same_bits(i, true, NET1D_POOL_ATTENTION);
    }
}

/* ------------------------------------------------------------------ freezing */

static bool is_zero(const struct net1d *net, const struct tensor *t) {
    for (size_t i = 0; i < t->n; i++)
        if (net->grads[t->offset + i] != 0) return false;
    return true;
}

/* Freezes all but the last `n_trained` tensors of the table: what is trained has the gradient it always had, bit for
 * bit; below the lowest trained block nothing is computed. */
static void check_frozen(struct bench *b, const float *whole, const char *first_trained) {
    const struct net1d_pass pass = {.train = true, .seed = 1};
    struct net1d *net = &b->net;
    size_t first = (size_t)(net1d_tensor(net, first_trained) - net->tensors);
    for (size_t i = 0; i < net->n_tensors; i++) net->tensors[i].frozen = i < first;
    zero_grads(b);
    if (!run_samples(b, 0, NET1D_SMALL_BATCH, pass)) return;
    loss_of(b, 0, NET1D_SMALL_BATCH);
    CHECK_OK(net1d_backward(net, NET1D_SMALL_BATCH, &pass));
    for (size_t i = 0; i < net->n_tensors; i++) {
        const struct tensor *t = &net->tensors[i];
        if (t->kind != TENSOR_PARAM) continue;
        bool same = memcmp(net->grads + t->offset, whole + t->offset, t->n * sizeof(float)) == 0;
        if (!CHECK(i < first ? is_zero(net, t) : same)) check_note("%s", t->name);
    }
}

static void check_freezing(enum net1d_pool pool) {
    struct bench b;
    struct net1d_config c = net1d_small;
    const struct net1d_pass pass = {.train = true, .seed = 1};
    float *whole = NULL;
    c.batch_norm = true;
    c.pool = pool;
    if (!bench_open(&b, BACKEND_REF, &c, NET1D_SMALL_BATCH, true)) return;
    wake_attention(&b);
    zero_grads(&b);
    if (!run_samples(&b, 0, NET1D_SMALL_BATCH, pass)) goto out;
    loss_of(&b, 0, NET1D_SMALL_BATCH);
    CHECK_OK(net1d_backward(&b.net, NET1D_SMALL_BATCH, &pass));
    if (!CHECK_OK(net1d_fixture_download(&b.net, b.net.grads, b.net.n_params, &whole))) goto out;
    check_frozen(&b, whole, "stage_list.0.block_list.0.bn1.weight");
    check_frozen(&b, whole, "stage_list.1.block_list.0.bn1.weight");
    check_frozen(&b, whole, "stage_list.1.block_list.1.bn1.weight");
    if (pool == NET1D_POOL_ATTENTION) check_frozen(&b, whole, "pool.weight");
    check_frozen(&b, whole, "dense.weight");
    net1d_freeze_backbone(&b.net, true);
    CHECK(b.net.tensors[0].frozen && !net1d_tensor(&b.net, "dense.bias")->frozen);
    net1d_freeze_backbone(&b.net, false);
    CHECK(!b.net.tensors[0].frozen);
out:
    free(whole);
    bench_close(&b);
}

static void frozen_tensors_get_no_gradient(void) {
    check_freezing(NET1D_POOL_MEAN);
    check_freezing(NET1D_POOL_ATTENTION);
}

/* Statistics of one number per channel: refused, not divided by zero. */
static void batch_norm_needs_two_values(void) {
    struct bench b;
    struct net1d_config c = net1d_small;
    c.batch_norm = true;
    c.length = 1;
    if (!bench_open(&b, BACKEND_REF, &c, 2, true)) return;
    CHECK_FAILS(net1d_forward(&b.net, 1, &(struct net1d_pass){.train = true}), ECG_ERR_CONFIG,
                "model.batch_norm");
    CHECK_OK(net1d_forward(&b.net, 2, &(struct net1d_pass){.train = true}));
    CHECK_OK(net1d_forward(&b.net, 1, &(struct net1d_pass){.train = false}));
    bench_close(&b);
}

int main(void) {
    CASE(tensor_table);
    CASE(first_weights);
    CASE(attention_starts_as_the_mean);
    CASE(impossible_shapes);
    CASE(gradient_along_a_direction);
    CASE(same_masks_for_any_split);
    CASE(same_bits_for_any_threads);
    CASE(drop_path_is_unbiased);
    CASE(inference_gives_the_same_bits);
    CASE(frozen_tensors_get_no_gradient);
    CASE(batch_norm_needs_two_values);
    return check_finish();
}
