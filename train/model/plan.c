/* SPDX-License-Identifier: MIT
 * Shapes and memory of a Net1D: walk the layers once for the shapes, count every buffer, allocate once, hand the pieces
 * out by the same walk. */
#include "train/model/plan.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/mem.h"

static struct net1d_conv conv_plan(int B, int Lin, int Cin, int Cout, int K, int S, int G) {
    return (struct net1d_conv){.shape = ops_conv_same(B, Lin, Cin, Cout, K, S, G)};
}

static struct net1d_norm norm_plan(const struct net1d *net, int C, bool called) {
    return (struct net1d_norm){.C = C, .used = net->config.batch_norm && called};
}

static void block_shapes(const struct net1d *net, struct net1d_block *b) {
    const struct net1d_config *c = &net->config;
    int B = net->max_batch;
    b->Cmid = b->Cout;
    b->H = b->Cout / 2;
    b->conv1 = conv_plan(B, b->Lin, b->Cin, b->Cmid, 1, 1, 1);
    b->conv2 =
        conv_plan(B, b->Lin, b->Cmid, b->Cmid, c->kernel_size, b->S, b->Cmid / c->group_width);
    b->Lout = b->conv2.shape.Lout;
    b->conv3 = conv_plan(B, b->Lout, b->Cmid, b->Cout, 1, 1, 1);
    b->bn1 = norm_plan(net, b->Cin, !b->is_first);
    b->bn2 = norm_plan(net, b->Cmid, true);
    b->bn3 = norm_plan(net, b->Cmid, true);
    b->fc1 = (struct net1d_linear){.K = b->Cout, .N = b->H};
    b->fc2 = (struct net1d_linear){.K = b->H, .N = b->Cout};
}

enum ecg_status plan_shapes(struct net1d *net) {
    const struct net1d_config *c = &net->config;
    struct net1d_private *p = net->p;
    for (int i = 0; i < c->n_stages; i++) p->n_blocks += c->blocks[i];
    TRY(MEM_NEW(&p->blocks, (size_t)p->n_blocks));
    TRY(MEM_NEW(&p->packs, 1 + 3 * (size_t)p->n_blocks));
    p->stem = conv_plan(net->max_batch, c->length, c->n_leads, c->base_filters, c->kernel_size,
                        c->stride, 1);
    p->first_bn = norm_plan(net, c->base_filters, true);
    int C = c->base_filters, L = p->stem.shape.Lout, index = 0;
    for (int stage = 0; stage < c->n_stages; stage++) {
        for (int place = 0; place < c->blocks[stage]; place++, index++) {
            struct net1d_block *b = &p->blocks[index];
            b->index = index;
            b->stage = stage;
            b->place = place;
            b->is_first = index == 0;
            b->S = place == 0 ? c->stride : 1;
            b->Lin = L;
            b->Cin = C;
            b->Cout = c->filters[stage];
            if (p->n_blocks > 1) b->drop_path = c->drop_path * index / (p->n_blocks - 1);
            block_shapes(net, b);
            L = b->Lout;
            C = b->Cout;
        }
    }
    p->dense = (struct net1d_linear){.K = C, .N = c->n_outputs};
    return ECG_OK;
}

/* ------------------------------------------------------------------ memory */

/* An arena that notices when sizes leave the machine's integers, and counts by use. */
struct carver {
    struct arena arena;
    size_t *part; /* of struct net1d_memory, what the next pieces are for */
    bool overflow;
};

static void *take(struct carver *c, size_t n1, size_t n2, size_t n3) {
    size_t bytes;
    if (__builtin_mul_overflow(n1, n2, &bytes) || __builtin_mul_overflow(bytes, n3, &bytes) ||
        __builtin_mul_overflow(bytes, sizeof(float), &bytes) ||
        bytes > SIZE_MAX / 4 - c->arena.used) {
        c->overflow = true;
        return NULL;
    }
    size_t before = c->arena.used;
    void *p = arena_carve(&c->arena, bytes);
    *c->part += c->arena.used - before;
    return p;
}

static void *take_blc(struct carver *c, int B, int L, int C) {
    return take(c, (size_t)B, (size_t)L, (size_t)C);
}

/* `area` values of the network's precision for each of B samples: floats, or two to a float's place. */
static void *take_area(const struct net1d *net, struct carver *c, size_t area) {
    size_t values = net->config.precision == OPS_F32 ? area : area / 2 + area % 2;
    return take(c, (size_t)net->max_batch, values, 1);
}

static void *take_act(const struct net1d *net, struct carver *c, int L, int C) {
    return take_area(net, c, (size_t)L * (size_t)C);
}

static size_t max_size(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t area(int L, int C) {
    return (size_t)L * (size_t)C;
}

/* The largest L*C of each kind of buffer, and the widest C. */
struct extents {
    size_t h13; /* h0, h1, h3 */
    size_t h1;
    size_t h2; /* h2, h3: a block's Cmid is its Cout */
    size_t y;
    size_t any;
    size_t width;
};

static struct extents measure(const struct net1d *net) {
    const struct net1d_private *p = net->p;
    size_t stem = area(p->stem.shape.Lout, p->stem.shape.Cout);
    struct extents e = {.h13 = stem, .y = stem, .width = (size_t)p->stem.shape.Cout};
    for (int i = 0; i < p->n_blocks; i++) {
        const struct net1d_block *b = &p->blocks[i];
        e.h13 = max_size(e.h13, max_size(area(b->Lin, b->Cmid), area(b->Lout, b->Cout)));
        e.h1 = max_size(e.h1, area(b->Lin, b->Cmid));
        e.h2 = max_size(e.h2, area(b->Lout, b->Cmid));
        e.y = max_size(e.y, area(b->Lout, b->Cout));
        e.width = max_size(e.width, (size_t)b->Cout);
    }
    e.any = max_size(e.h13, max_size(e.h2, e.y));
    return e;
}

static size_t norm_scratch(const struct net1d *net, int B, int L, int C) {
    return net->ops->norm_ws(net->dev, (struct ops_blc){B, L, C});
}

/* Whether gradients pass through the convolutions. */
static bool goes_back(const struct net1d *net) {
    return net->training && !net->config.head_only;
}

static size_t conv_scratch(const struct net1d *net, const struct net1d_conv *c, int B) {
    return net->ops->conv_ws(net->dev, net->config.precision, plan_conv(c, B), c->packed_bytes > 0,
                             goes_back(net));
}

static size_t scratch_for(const struct net1d *net, int B) {
    const struct net1d_private *p = net->p;
    size_t n = conv_scratch(net, &p->stem, B);
    n = max_size(n, norm_scratch(net, B, p->stem.shape.Lout, p->stem.shape.Cout));
    n = max_size(n, net->ops->linear_ws(net->dev, B, p->dense.K, p->dense.N));
    for (int i = 0; i < p->n_blocks; i++) {
        const struct net1d_block *b = &p->blocks[i];
        n = max_size(n, conv_scratch(net, &b->conv1, B));
        n = max_size(n, conv_scratch(net, &b->conv2, B));
        n = max_size(n, conv_scratch(net, &b->conv3, B));
        n = max_size(n, net->ops->se_ws(net->dev, B, b->Cout, b->H));
        n = max_size(n, norm_scratch(net, B, b->Lout, b->Cout));
    }
    return n;
}

/* A smaller batch, as the last of an epoch is, may be cut into other pieces and need more than a larger one. The largest is
 * asked for first: what a backend tries out for it (choose_conv) serves smaller ones too. */
static size_t scratch_bytes(const struct net1d *net) {
    size_t n = 0;
    for (int B = net->max_batch; B >= 1; B--) n = max_size(n, scratch_for(net, B));
    return n;
}

static void carve_norm(struct carver *c, struct net1d_norm *n) {
    if (!n->used) return;
    n->mean = take(c, (size_t)n->C, 1, 1);
    n->var = take(c, (size_t)n->C, 1, 1);
    n->scale = take(c, (size_t)n->C, 1, 1);
    n->shift = take(c, (size_t)n->C, 1, 1);
}

/* A block's small tensors, which training keeps and inference may as well. */
static void carve_block(const struct net1d *net, struct carver *c, struct net1d_block *b) {
    int B = net->max_batch;
    carve_norm(c, &b->bn1);
    carve_norm(c, &b->bn2);
    carve_norm(c, &b->bn3);
    b->m = take_blc(c, B, 1, b->Cout);
    b->z = take_blc(c, B, 1, b->H);
    b->gate = take_blc(c, B, 1, b->Cout);
    if (net->training && b->drop_path > 0) b->path_gate = take_blc(c, B, 1, b->Cout);
}

/* A block's h1, h2, h3, its own or, to be computed again, one set for all. */
static void carve_branches(struct net1d *net, struct carver *c, const struct extents *e) {
    struct net1d_private *p = net->p;
    struct net1d_block all = {0};
    if (net->config.recompute) {
        all.h1 = take_area(net, c, e->h1);
        all.h2 = take_area(net, c, e->h2);
        all.h3 = take_area(net, c, e->h2);
    }
    for (int i = 0; i < p->n_blocks; i++) {
        struct net1d_block *b = &p->blocks[i];
        bool own = !net->config.recompute;
        b->h1 = own ? take_act(net, c, b->Lin, b->Cmid) : all.h1;
        b->h2 = own ? take_act(net, c, b->Lout, b->Cmid) : all.h2;
        b->h3 = own ? take_act(net, c, b->Lout, b->Cout) : all.h3;
    }
}

static void carve_training(struct net1d *net, struct carver *c, const struct extents *e) {
    struct net1d_private *p = net->p;
    p->h0 = take_act(net, c, p->stem.shape.Lout, p->stem.shape.Cout);
    p->y0 = take_act(net, c, p->stem.shape.Lout, p->stem.shape.Cout);
    void *in = p->y0;
    for (int i = 0; i < p->n_blocks; i++) {
        struct net1d_block *b = &p->blocks[i];
        b->in = in;
        b->y = in = take_act(net, c, b->Lout, b->Cout);
    }
    carve_branches(net, c, e);
}

/* What the gradients need, those of the head alone or all. */
static void carve_backward(struct net1d *net, struct carver *c, const struct extents *e) {
    struct net1d_private *p = net->p;
    int B = net->max_batch;
    size_t n = (size_t)B;
    c->part = &net->memory.backward;
    net->dlogits = take_blc(c, B, 1, p->dense.N);
    p->zeros = take(c, n, e->width, 1);
    if (net->config.drop_path > 0) p->path_factor = take(c, n, e->width, 1);
    if (p->pool != NULL) p->dscores = take_blc(c, B, p->blocks[p->n_blocks - 1].Lout, 1);
    if (p->pool != NULL || !net->config.head_only) p->dfeatures = take_blc(c, B, 1, p->dense.K);
    if (!net->config.head_only) {
        for (int i = 0; i < 3; i++) p->g[i] = take_area(net, c, e->any);
        p->dgate = take(c, n, e->width, 1);
        p->dm = take(c, n, e->width, 1);
        for (int i = 0; i < 2 && net->config.batch_norm; i++)
            p->norm_k[i] = take(c, 3, e->width, 1);
    }
    c->part = &net->memory.gradients;
    net->grads = take(c, net->n_params, 1, 1);
}

/* h1 and h3 share a buffer, h2 has its own, the blocks' outputs alternate between two. */
static void carve_inference(struct net1d *net, struct carver *c, const struct extents *e) {
    struct net1d_private *p = net->p;
    void *h13 = take_area(net, c, e->h13), *h2 = take_area(net, c, e->h2);
    void *y[2] = {take_area(net, c, e->y), take_area(net, c, e->y)};
    p->h0 = p->y0 = y[0];
    for (int i = 0; i < p->n_blocks; i++) {
        struct net1d_block *b = &p->blocks[i];
        b->h1 = b->h3 = h13;
        b->h2 = h2;
        b->in = y[i % 2];
        b->y = y[(i + 1) % 2];
    }
}

static void count_packed(struct net1d *net, struct net1d_conv *conv, bool backward) {
    conv->packed_bytes =
        net->ops->conv_packed_bytes(net->dev, net->config.precision, conv->shape, backward);
}

/* Packed weights of a convolution, and its place in the list once there is memory. */
static void carve_packed(struct net1d *net, struct carver *c, struct net1d_conv *conv,
                         bool backward) {
    struct net1d_private *p = net->p;
    conv->packed =
        conv->packed_bytes > 0 ? take(c, conv->packed_bytes / sizeof(float) + 1, 1, 1) : NULL;
    if (conv->packed == NULL) return;
    p->packs[p->n_packs++] = (struct ops_pack){.s = conv->shape,
                                               .w = tensors_value(net, conv->w),
                                               .backward = backward,
                                               .packed = conv->packed};
}

static void carve_packs(struct net1d *net, struct carver *c) {
    struct net1d_private *p = net->p;
    bool backward = goes_back(net);
    c->part = &net->memory.packed;
    p->n_packs = 0;
    carve_packed(net, c, &p->stem, false);
    for (int i = 0; i < p->n_blocks; i++) {
        carve_packed(net, c, &p->blocks[i].conv1, backward);
        carve_packed(net, c, &p->blocks[i].conv2, backward);
        carve_packed(net, c, &p->blocks[i].conv3, backward);
    }
}

static void carve_all(struct net1d *net, struct carver *c) {
    struct net1d_private *p = net->p;
    struct extents e = measure(net);
    int B = net->max_batch;
    net->memory = (struct net1d_memory){0};
    c->part = &net->memory.parameters;
    net->params = take(c, net->n_params, 1, 1);
    net->extras = take(c, net->n_extras, 1, 1);
    carve_packs(net, c);
    c->part = &net->memory.activations;
    net->x = take_act(net, c, net->config.length, net->config.n_leads);
    net->features = take_blc(c, B, 1, p->dense.K);
    net->logits = take_blc(c, B, 1, p->dense.N);
    if (p->pool != NULL) p->attention = take_blc(c, B, p->blocks[p->n_blocks - 1].Lout, 1);
    carve_norm(c, &p->first_bn);
    for (int i = 0; i < p->n_blocks; i++) carve_block(net, c, &p->blocks[i]);
    if (goes_back(net))
        carve_training(net, c, &e);
    else
        carve_inference(net, c, &e);
    if (net->training) carve_backward(net, c, &e);
    c->part = &net->memory.scratch;
    p->ws.p = take(c, p->ws.n / sizeof(float) + 1, 1, 1);
}

static void count_packs(struct net1d *net) {
    struct net1d_private *p = net->p;
    bool backward = goes_back(net);
    count_packed(net, &p->stem, false);
    for (int i = 0; i < p->n_blocks; i++) {
        count_packed(net, &p->blocks[i].conv1, backward);
        count_packed(net, &p->blocks[i].conv2, backward);
        count_packed(net, &p->blocks[i].conv3, backward);
    }
}

enum ecg_status plan_count(struct net1d *net) {
    struct carver c = {.overflow = false};
    count_packs(net);
    size_t used = scratch_for(net, net->max_batch);
    net->p->ws.n = scratch_bytes(net);
    carve_all(net, &c);
    net->p->bytes = c.arena.used;
    net->memory.reserve = net->p->ws.n - used;
    net->memory.scratch -= net->memory.reserve;
    if (!c.overflow) return ECG_OK;
    return ecg_fail(ECG_ERR_CONFIG,
                    "model of length %d for batches of %d needs more memory than can be "
                    "addressed: lower train.batch_size or model.filters",
                    net->config.length, net->max_batch);
}

enum ecg_status plan_allocate(struct net1d *net) {
    struct net1d_private *p = net->p;
    struct net1d_memory counted = net->memory;
    struct carver c = {.overflow = false};
    TRY(net->ops->alloc(net->dev, &p->memory, p->bytes));
    c.arena = (struct arena){.base = p->memory, .size = p->bytes};
    carve_all(net, &c);
    net->memory = counted;
    if (net->training && net->config.drop_path > 0)
        TRY(MEM_NEW(&p->path_factor_host, (size_t)net->max_batch * measure(net).width));
    return ECG_OK;
}

void net1d_retire(struct net1d *net) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t)net->x + page - 1) / page * page,
              to = ((uintptr_t)net->p->memory + net->p->bytes) / page * page;
    bool on_host = net->ops->upload_ahead == NULL;
    /* A machine that does not take it has more in use, and nothing else. */
    if (on_host && from < to)
        (void)madvise((char *)net->x + (from - (uintptr_t)net->x), to - from, MADV_DONTNEED);
}
