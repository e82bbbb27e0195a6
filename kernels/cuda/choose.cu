/* SPDX-License-Identifier: MIT
 * Chooses between our own convolutions and the libraries'. */
#include "kernels/cuda/choose.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "kernels/cuda/element.cuh"

#define THREADS    256
/* Times are the least of ROUNDS means of RUNS runs. */
#define ROUNDS     3
#define RUNS       4
/* A choice serves batches down to this part of its own. */
#define SERVES     4
/* Squared differences, as a share of the squares: of sums in another order, and with bf16 numbers that round the other way. */
#define AGREE_F32  1e-10
#define AGREE_BF16 1e-4

/* ------------------------------------------------------------------ the way */

static int same_but_batch(struct ops_conv a, struct ops_conv b) {
    return a.Lin == b.Lin && a.Lout == b.Lout && a.Cin == b.Cin && a.Cout == b.Cout && a.K == b.K &&
           a.S == b.S && a.G == b.G && a.P == b.P;
}

/* Whether batch `a` tells more of batch B than `b` does: the next larger one, else the next smaller one. */
static int is_nearer(int a, int b, int B) {
    if (a >= B) return b < B || a < b;
    return b < B && a > b;
}

/* The choice for a pass, of the nearest batch that was tried; NULL: none. */
static const struct conv_choice *find(const struct conv_choices *c, enum ops_dtype dtype,
                                      struct ops_conv s, int backward) {
    const struct conv_choice *found = NULL;
    for (int i = 0; i < c->n; i++) {
        const struct conv_choice *one = &c->v[i];
        if (one->dtype != dtype || one->backward != backward || !same_but_batch(one->s, s))
            continue;
        if (!found || is_nearer(one->s.B, found->s.B, s.B)) found = one;
    }
    return found;
}

int conv_uses_vendor(const struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                     int backward) {
    const struct choose *c = dev->choose;
    if (c->way != CONV_AUTO) return c->way == CONV_CUDNN;
    const struct conv_choice *one = find(&c->choices, dtype, s, backward);
    return one && one->cudnn;
}

static int parse_way(const char *text, enum conv_way *way) {
    static const char *const names[] = {"custom", "cudnn", "auto"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(text, names[i]) != 0) continue;
        *way = (enum conv_way)i;
        return 1;
    }
    return 0;
}

static enum ecg_status set_way(struct ops_dev *dev, enum conv_way way) {
    struct choose *c = dev->choose;
    c->way = CONV_CUSTOM;
    if (way == CONV_CUSTOM) return ECG_OK;
    if (!c->vendor) {
        const enum ecg_status status = vendor_open(&c->vendor, dev->stream);
        if (status != ECG_OK && way == CONV_CUDNN) return status;
        if (status != ECG_OK) {
            log_info("kernels.conv auto: custom for all convolutions (%s)", ecg_message());
            return ECG_OK;
        }
    }
    if (way == CONV_AUTO && c->choices.n == 0) {
        choices_file(c->file, sizeof c->file, c->vendor);
        TRY(choices_read(&c->choices, c->file));
        if (c->choices.n > 0)
            log_info("kernels.conv auto: %d choices from %s", c->choices.n, c->file);
    }
    c->way = way;
    return ECG_OK;
}

enum ecg_status cuda_choose_conv(struct ops_dev *dev, const char *how) {
    enum conv_way way;
    if (!parse_way(how, &way))
        return ecg_fail(ECG_ERR_FAIL, "cuda: kernels.conv: %s is not custom, cudnn or auto", how);
    return set_way(dev, way);
}

enum ecg_status conv_choose_open(struct ops_dev *dev) {
    const char *text = getenv("EINTHOVEN_CUDA_CONV");
    enum conv_way way;
    dev->choose = (struct choose *)calloc(1, sizeof *dev->choose);
    if (!dev->choose)
        return ecg_fail(ECG_ERR_NOMEM, "out of memory: %zu bytes", sizeof *dev->choose);
    if (!text || !*text) return ECG_OK;
    dev->general = strcmp(text, "general") == 0;
    if (dev->general) return ECG_OK;
    if (parse_way(text, &way)) return set_way(dev, way);
    return ecg_fail(ECG_ERR_FAIL, "EINTHOVEN_CUDA_CONV=%s is not custom, cudnn or auto", text);
}

void conv_choose_close(struct ops_dev *dev) {
    if (!dev->choose) return;
    vendor_close(dev->choose->vendor);
    free(dev->choose->choices.v);
    free(dev->choose);
}

/* ------------------------------------------------------------------ a trial's numbers */

/* p[i] in [-1, 1), from i and a seed. */
template <int BF16>
static __global__ void __launch_bounds__(THREADS) fill_kernel(size_t n, uint32_t seed, void *p) {
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    uint32_t u = (uint32_t)i * 0x9E3779B9u + seed;
    u = (u ^ u >> 16) * 0x85EBCA6Bu;
    u = (u ^ u >> 13) * 0xC2B2AE35u;
    store_one<BF16>(p, i, (float)((u ^ u >> 16) >> 8) * (1.0f / 8388608.0f) - 1.0f);
}

/* part[block] = the sum over the block's stretch of (a - b)^2, or of a^2 where b is NULL. */
template <int BF16>
static __global__ void __launch_bounds__(THREADS)
    squares_kernel(size_t n, size_t a_part, const void *a, const void *b, double *part) {
    SHARED(double, s, THREADS);
    const size_t from = blockIdx.x * a_part, to = from + a_part < n ? from + a_part : n;
    double sum = 0;
    for (size_t i = from + threadIdx.x; i < to; i += THREADS) {
        const double d = (double)load_one<BF16>(a, i) - (b ? (double)load_one<BF16>(b, i) : 0);
        sum += d * d;
    }
    sum = block_sum(sum, s);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

static enum ecg_status squares(struct ops_dev *dev, enum ops_dtype dtype, size_t n, const void *a,
                               const void *b, double *sum) {
    const size_t a_part = (n + CUDA_MAX_PARTS - 1) / CUDA_MAX_PARTS;
    const int parts = cuda_blocks(n, (int)a_part);
    if (dtype == OPS_F32)
        LAUNCH((squares_kernel<0>), parts, THREADS, 0, dev->stream, n, a_part, a, b, dev->parts);
    else
        LAUNCH((squares_kernel<1>), parts, THREADS, 0, dev->stream, n, a_part, a, b, dev->parts);
    TRY(cuda_done_n(dev, "comparing convolutions", n));
    TRY(cuda_promise_scalar(dev, "comparing convolutions", parts, 0, sum));
    return cuda_sync(dev);
}

/* Both ways' memory: inputs once, outputs twice. */
struct trial {
    enum ops_dtype dtype;
    struct ops_conv s;
    int backward;
    size_t n_x, n_y, n_w;
    struct ops_act act;
    void *arena, *x, *dy, *packed, *y[2], *dn[2]; /* dn NULL: not wanted */
    float *w, *b, *mean, *var, *dw[2], *db;
    struct ops_ws ws;
};

/* Cuts numbers off the trial's memory and fills them. */
static void *numbers(struct ops_dev *dev, struct ops_ws *from, enum ops_dtype dtype, size_t n) {
    void *p = cuda_take(from, n * cuda_size(dtype));
    const uint32_t seed = (uint32_t)from->n;
    if (dtype == OPS_F32)
        LAUNCH((fill_kernel<0>), cuda_blocks(n, THREADS), THREADS, 0, dev->stream, n, seed, p);
    else
        LAUNCH((fill_kernel<1>), cuda_blocks(n, THREADS), THREADS, 0, dev->stream, n, seed, p);
    return p;
}

/* Longer kernels of one group read the ECG itself: nothing stands before them, and nothing goes back beyond them. */
static int is_stem(struct ops_conv s) {
    return s.G == 1 && s.K > 1;
}

static size_t arena_bytes(const struct trial *t, size_t packed, size_t ws) {
    const size_t x = cuda_room(t->n_x * cuda_size(t->dtype)),
                 y = cuda_room(t->n_y * cuda_size(t->dtype));
    const size_t w = cuda_room(t->n_w * sizeof(float)),
                 small = cuda_room((size_t)(t->s.Cin + t->s.Cout) * sizeof(float));
    return 3 * x + 3 * y + 3 * w + 6 * small + cuda_room(packed) + cuda_room(ws);
}

static enum ecg_status open_trial(struct ops_dev *dev, struct trial *t) {
    const struct ops_conv s = t->s;
    t->n_x = (size_t)s.B * s.Lin * s.Cin;
    t->n_y = (size_t)s.B * s.Lout * s.Cout;
    t->n_w = (size_t)s.Cout * (s.Cin / s.G) * s.K;
    const size_t packed = cuda_conv_packed_bytes(dev, t->dtype, s, t->backward);
    const size_t ws = cuda_conv_ws(dev, t->dtype, s, packed > 0, t->backward);
    struct ops_ws m = {NULL, arena_bytes(t, packed, ws)};
    TRY(cuda_check(cudaMalloc(&t->arena, m.n), "allocating %zu bytes to try convolutions", m.n));
    m.p = t->arena;
    t->x = numbers(dev, &m, t->dtype, t->n_x);
    t->dy = numbers(dev, &m, t->dtype, t->n_y);
    t->w = (float *)numbers(dev, &m, OPS_F32, t->n_w);
    t->b = (float *)numbers(dev, &m, OPS_F32, (size_t)s.Cout);
    for (int i = 0; i < 2; i++) {
        t->y[i] = numbers(dev, &m, t->dtype, t->n_y);
        t->dn[i] = is_stem(s) ? NULL : numbers(dev, &m, t->dtype, t->n_x);
        t->dw[i] = (float *)cuda_take(&m, t->n_w * sizeof(float));
        TRY(cuda_fill_zero(dev, t->dw[i], t->n_w * sizeof(float)));
    }
    t->db = (float *)numbers(dev, &m, OPS_F32, (size_t)s.Cout);
    t->mean = (float *)numbers(dev, &m, OPS_F32, (size_t)s.Cout);
    t->var = (float *)numbers(dev, &m, OPS_F32, (size_t)s.Cout);
    if (!is_stem(s)) {
        t->act.scale = (float *)numbers(dev, &m, OPS_F32, (size_t)s.Cin);
        t->act.shift = (float *)numbers(dev, &m, OPS_F32, (size_t)s.Cin);
        t->act.swish = 1;
    }
    TRY(cuda_done_conv(dev, "trying", t->dtype, s));
    t->packed = packed > 0 ? cuda_take(&m, packed) : NULL;
    t->ws = m;
    if (!t->packed) return ECG_OK;
    const struct ops_pack pack = {s, t->w, t->backward, t->packed};
    return cuda_conv_pack(dev, t->dtype, 1, &pack, t->ws);
}

/* ------------------------------------------------------------------ a trial */

static enum ecg_status run(struct ops_dev *dev, const struct trial *t, enum conv_way way) {
    const int i = way == CONV_CUDNN;
    dev->choose->way = way;
    if (!t->backward)
        return cuda_act_conv_fwd(dev, t->dtype, t->s, &t->act, t->x, t->w, t->packed, t->b, t->y[i],
                                 t->mean, t->var, NULL, t->ws);
    return cuda_act_conv_bwd(dev, t->dtype, t->s, &t->act, t->x, t->w, t->packed, t->dy, NULL, NULL,
                             t->dw[i], t->db, NULL, t->dn[i], NULL, t->ws);
}

/* A number that is none agrees with nothing. */
static enum ecg_status agree(struct ops_dev *dev, enum ops_dtype as, enum ops_dtype dtype, size_t n,
                             void *const both[2], int *ok) {
    double difference, square;
    if (!both[0]) return ECG_OK;
    TRY(squares(dev, dtype, n, both[0], both[1], &difference));
    TRY(squares(dev, dtype, n, both[0], NULL, &square));
    if (!(difference <= (as == OPS_F32 ? AGREE_F32 : AGREE_BF16) * square)) *ok = 0;
    return ECG_OK;
}

static enum ecg_status results_agree(struct ops_dev *dev, const struct trial *t, int *ok) {
    void *const dw[2] = {t->dw[0], t->dw[1]};
    *ok = 1;
    if (!t->backward) return agree(dev, t->dtype, t->dtype, t->n_y, t->y, ok);
    TRY(agree(dev, t->dtype, t->dtype, t->n_x, t->dn, ok));
    return agree(dev, t->dtype, OPS_F32, t->n_w, dw, ok);
}

/* Microseconds of a run, the least of *us and this. */
static enum ecg_status clock_runs(struct ops_dev *dev, const struct trial *t, enum conv_way way,
                                  const cudaEvent_t event[2], double *us) {
    static const char *const what = "timing convolutions";
    float ms = 0;
    TRY(cuda_check(cudaEventRecord(event[0], dev->stream), "%s", what));
    for (int i = 0; i < RUNS; i++) TRY(run(dev, t, way));
    TRY(cuda_check(cudaEventRecord(event[1], dev->stream), "%s", what));
    TRY(cuda_check(cudaEventSynchronize(event[1]), "%s", what));
    TRY(cuda_check(cudaEventElapsedTime(&ms, event[0], event[1]), "%s", what));
    if (*us == 0 || 1e3 * ms / RUNS < *us) *us = 1e3 * ms / RUNS;
    return ECG_OK;
}

static enum ecg_status race(struct ops_dev *dev, const struct trial *t, const cudaEvent_t event[2],
                            struct conv_choice *one, int *agreed) {
    TRY(run(dev, t, CONV_CUSTOM));
    TRY(run(dev, t, CONV_CUDNN));
    TRY(results_agree(dev, t, agreed));
    for (int i = 0; i < ROUNDS; i++) {
        TRY(clock_runs(dev, t, CONV_CUSTOM, event, &one->custom_us));
        TRY(clock_runs(dev, t, CONV_CUDNN, event, &one->cudnn_us));
    }
    one->cudnn = *agreed && one->cudnn_us < one->custom_us;
    return ECG_OK;
}

static enum ecg_status try_pass(struct ops_dev *dev, struct conv_choice *one, int *agreed) {
    struct trial t = {};
    cudaEvent_t event[2] = {NULL, NULL};
    enum ecg_status status = ECG_OK;
    t.dtype = one->dtype;
    t.s = one->s;
    t.backward = one->backward;
    for (int i = 0; i < 2 && status == ECG_OK; i++)
        status = cuda_check(cudaEventCreate(&event[i]), "making an event");
    dev->choose->way = CONV_CUDNN; /* no trial while one is set up */
    if (status == ECG_OK) status = open_trial(dev, &t);
    if (status == ECG_OK) status = race(dev, &t, event, one, agreed);
    (void)cudaStreamSynchronize(dev->stream);
    (void)cudaGetLastError();
    dev->choose->way = CONV_AUTO;
    for (int i = 0; i < 2; i++)
        if (event[i]) cudaEventDestroy(event[i]);
    if (t.arena) cudaFree(t.arena);
    return status;
}

static void say_choice(const struct conv_choice *one, enum ecg_status status, int agreed) {
    const struct ops_conv s = one->s;
    char shape[160];
    snprintf(shape, sizeof shape,
             "kernels.conv auto: %s B %d Lin %d Lout %d Cin %d Cout %d K %d S %d G %d %s",
             one->dtype == OPS_F32 ? "fp32" : "bf16", s.B, s.Lin, s.Lout, s.Cin, s.Cout, s.K, s.S,
             s.G, one->backward ? "backward" : "forward");
    if (status != ECG_OK)
        log_info("%s: custom (%s)", shape, ecg_message());
    else
        log_info("%s: custom %.1f us, cudnn %.1f us: %s%s", shape, one->custom_us, one->cudnn_us,
                 one->cudnn ? "cudnn" : "custom", agreed ? "" : " (results differ)");
}

void conv_choose_try(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s, int backward) {
    struct choose *c = dev->choose;
    enum cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    if (c->way != CONV_AUTO || cudaStreamIsCapturing(dev->stream, &capture) != cudaSuccess ||
        capture != cudaStreamCaptureStatusNone)
        return;
    for (int pass = 0; pass <= (backward != 0); pass++) {
        const struct conv_choice *known = find(&c->choices, dtype, s, pass);
        if (known && known->s.B >= s.B && known->s.B <= SERVES * s.B) continue;
        struct conv_choice one = {dtype, s, pass, 0, 0, 0};
        int agreed = 0;
        const enum ecg_status status = try_pass(dev, &one, &agreed);
        say_choice(&one, status, agreed);
        if (choices_add(&c->choices, one) == ECG_OK && status == ECG_OK)
            choices_write(&c->choices, c->file);
    }
}
