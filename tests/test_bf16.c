/* SPDX-License-Identifier: MIT
 * bfloat16: the rounding itself (kernels/bf16.h), and the oracle's operations in it. Those are held against the oracle
 * in fp32 on the same numbers, which are bf16 already, with its results rounded once: every bit must be equal. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "kernels/bf16.h"
#include "kernels/ops.h"
#include "tests/support/check.h"

/* ------------------------------------------------------------------ rounding */

static float from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static void known_values(void) {
    static const struct {
        uint32_t bits; /* of the float */
        uint16_t want;
    } known[] = {
        {0x00000000, 0x0000},                       /* 0 */
        {0x80000000, 0x8000},                       /* -0 */
        {0x3f800000, 0x3f80},                       /* 1 */
        {0xc0200000, 0xc020},                       /* -2.5 */
        {0x40490fdb, 0x4049},                       /* pi: 3.140625 */
        {0x3dcccccd, 0x3dcd},                       /* 0.1: up */
        {0x3f808000, 0x3f80},                       /* 1 + 2^-8, a tie: to the even one below */
        {0x3f818000, 0x3f82},                       /* 1 + 3 * 2^-8, a tie: to the even one above */
        {0xbf808000, 0xbf80},                       /* the same below 0 */
        {0xbf818000, 0xbf82}, {0x3f807fff, 0x3f80}, /* next to the ties */
        {0x3f808001, 0x3f81}, {0x3f817fff, 0x3f81},
        {0x3f818001, 0x3f82}, {0x3fff8000, 0x4000}, /* a tie that carries into the exponent */
        {0x7f7f0000, 0x7f7f},                       /* the largest */
        {0x7f7f7fff, 0x7f7f},                       /* less than half a step above it */
        {0x7f7f8000, 0x7f80}, /* half a step: infinity, as the largest is odd */
        {0x7f7fffff, 0x7f80}, /* FLT_MAX */
        {0xff7fffff, 0xff80}, {0x7f800000, 0x7f80}, /* infinities */
        {0xff800000, 0xff80}, {0x00800000, 0x0080}, /* the smallest normal number */
        {0x00010000, 0x0001},                       /* the smallest subnormal one */
        {0x00008000, 0x0000},                       /* half of it, a tie: to 0 */
        {0x00008001, 0x0001}, {0x00018000, 0x0002}, /* a tie of subnormal ones */
        {0x80000001, 0x8000}, {0x007fffff, 0x0080}, /* up to the smallest normal one */
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        const uint16_t got = bf16_from_float(from_bits(known[i].bits));
        if (!CHECK(got == known[i].want))
            check_note("%08x: %04x instead of %04x", known[i].bits, got, known[i].want);
    }
}

static void nan_stays_nan(void) {
    static const uint32_t nans[] = {0x7f800001, 0x7fc00000, 0x7fffffff, 0x7f80ffff,
                                    0x7fff8000, 0xff800001, 0xffc00000, 0xffffffff};
    for (size_t i = 0; i < sizeof(nans) / sizeof(nans[0]); i++) {
        const uint16_t got = bf16_from_float(from_bits(nans[i]));
        CHECK(isnan(bf16_to_float(got)));
        CHECK((got >> 15) == (nans[i] >> 31));
    }
}

static void every_number_comes_back(void) {
    for (uint32_t h = 0; h <= 0xffff; h++) {
        const float f = bf16_to_float((uint16_t)h);
        if (!isnan(f))
            CHECK(bf16_from_float(f) == h);
        else
            CHECK(isnan(bf16_to_float(bf16_from_float(f))));
    }
}

/* Between two neighbours the nearer one, in order. */
static void nearest_of_its_neighbours(void) {
    for (uint32_t h = 0; h < 0x7f7f; h++) {
        const float low = bf16_to_float((uint16_t)h), high = bf16_to_float((uint16_t)(h + 1));
        const double middle = ((double)low + high) / 2, quarter = ((double)low + middle) / 2;
        CHECK(bf16_from_float((float)quarter) == h);
        CHECK(bf16_from_float(nextafterf((float)middle, low)) == h);
        CHECK(bf16_from_float(nextafterf((float)middle, high)) == h + 1);
        CHECK(bf16_from_float((float)middle) == (h % 2 ? h + 1 : h));
    }
}

/* ------------------------------------------------------------------ the oracle */

/* The same numbers in both forms. */
struct pair {
    float *f;
    uint16_t *h;
    size_t n;
};

static const struct ops_ws no_ws = {NULL, 0};

static struct pair numbers(size_t n, uint32_t stream) {
    struct pair p = {.n = n};
    struct rng r;
    if (!CHECK_OK(MEM_NEW(&p.f, n)) || !CHECK_OK(MEM_NEW(&p.h, n))) exit(1);
    rng_init(&r, 5, stream, 0, 0);
    for (size_t i = 0; i < n; i++) {
        p.h[i] = bf16_from_float((float)(4 * rng_uniform(&r) - 2));
        p.f[i] = bf16_to_float(p.h[i]);
    }
    return p;
}

static void free_pairs(struct pair *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(p[i].f);
        free(p[i].h);
    }
}

/* The bf16 result is the fp32 result rounded. */
static void check_rounded(const struct pair *p, const char *what) {
    size_t n_wrong = 0;
    for (size_t i = 0; i < p->n; i++) n_wrong += p->h[i] != bf16_from_float(p->f[i]);
    if (!CHECK(n_wrong == 0)) check_note("%s: %zu of %zu differ", what, n_wrong, p->n);
}

static void check_equal(const float *a, const float *b, size_t n, const char *what) {
    if (!CHECK(memcmp(a, b, n * sizeof(*a)) == 0)) check_note("%s differs", what);
}

/* 15 channels in three groups, to 21, stride 2. Biases and the gradients are fp32 in both. */
static void convolution(void) {
    const struct ops_conv s = ops_conv_same(2, 17, 15, 21, 5, 2, 3);
    enum { X, Y, W, DX, N_PAIRS };
    const size_t n_x = 2 * 17 * 15, n_y = (size_t)s.B * s.Lout * s.Cout, n_w = 21 * 5 * 5;
    struct pair p[N_PAIRS] = {numbers(n_x, 1), numbers(n_y, 2), numbers(n_w, 3), numbers(n_x, 4)};
    float dw[2][21 * 5 * 5] = {{0}}, db[2][21] = {{0}}, w[21 * 5 * 5], b[21];
    const struct ops *ref = ops_ref();
    struct ops_dev *dev = NULL;
    int n_rounded = 0;

    /* The weights of the bf16 pass lie between bf16 numbers: it has to round them. */
    for (size_t i = 0; i < n_w; i++) {
        w[i] = p[W].f[i] * (i % 2 ? 1.001f : 0.9995f);
        n_rounded += w[i] != p[W].f[i];
        CHECK(bf16_from_float(w[i]) == p[W].h[i]);
    }
    CHECK(n_rounded > 500);
    for (int i = 0; i < 21; i++) b[i] = 0.1f * (float)i;
    if (!CHECK_OK(ref->open(&dev, 1))) return;
    CHECK_OK(ref->conv_bwd_x(dev, OPS_F32, s, p[Y].f, p[W].f, p[DX].f, no_ws));
    CHECK_OK(ref->conv_bwd_x(dev, OPS_BF16, s, p[Y].h, w, p[DX].h, no_ws));
    check_rounded(&p[DX], "dx");
    CHECK_OK(ref->conv_bwd_w(dev, OPS_F32, s, p[X].f, p[Y].f, dw[0], db[0], no_ws));
    CHECK_OK(ref->conv_bwd_w(dev, OPS_BF16, s, p[X].h, p[Y].h, dw[1], db[1], no_ws));
    check_equal(dw[0], dw[1], n_w, "dw");
    check_equal(db[0], db[1], 21, "db");
    CHECK_OK(ref->conv_fwd(dev, OPS_F32, s, p[X].f, p[W].f, b, p[Y].f, no_ws));
    CHECK_OK(ref->conv_fwd(dev, OPS_BF16, s, p[X].h, w, b, p[Y].h, no_ws));
    check_rounded(&p[Y], "y");
    ref->close(dev);
    free_pairs(p, N_PAIRS);
}

static const float scales[] = {0.9f, 1.1f, -0.7f, 1.3f, 0.3f},
                   shifts[] = {0.5f, -0.3f, 0.1f, 0, 0.2f};

static void activation(void) {
    const struct ops_blc s = {3, 17, 5};
    const struct ops_act act = {scales, shifts, 1, 0.25f, 11, 2, 3, 4};
    enum { X, A, DA, DN, N_PAIRS };
    struct pair p[N_PAIRS];
    const struct ops *ref = ops_ref();
    struct ops_dev *dev = NULL;

    if (!CHECK_OK(ref->open(&dev, 1))) return;
    for (uint32_t i = 0; i < N_PAIRS; i++) p[i] = numbers(3 * 17 * 5, i);
    CHECK_OK(ref->act_fwd(dev, OPS_F32, s, &act, p[X].f, p[A].f));
    CHECK_OK(ref->act_fwd(dev, OPS_BF16, s, &act, p[X].h, p[A].h));
    check_rounded(&p[A], "a");
    CHECK_OK(ref->act_bwd(dev, OPS_F32, s, &act, p[X].f, p[DA].f, 1, p[DN].f));
    CHECK_OK(ref->act_bwd(dev, OPS_BF16, s, &act, p[X].h, p[DA].h, 1, p[DN].h));
    check_rounded(&p[DN], "dn, added to");
    CHECK_OK(ref->act_bwd(dev, OPS_F32, s, &act, p[X].f, p[DA].f, 0, p[DA].f));
    CHECK_OK(ref->act_bwd(dev, OPS_BF16, s, &act, p[X].h, p[DA].h, 0, p[DA].h));
    check_rounded(&p[DA], "dn in place");
    ref->close(dev);
    free_pairs(p, N_PAIRS);
}

static void normalisation(void) {
    const struct ops_blc s = {3, 17, 5};
    enum { X, DN, DX, N_PAIRS };
    struct pair p[N_PAIRS];
    float mean[2][5], var[2][5], k[2][15], dgamma[2][5] = {{0}}, dbeta[2][5] = {{0}};
    struct ops_norm norm[2];
    const struct ops *ref = ops_ref();
    struct ops_dev *dev = NULL;

    if (!CHECK_OK(ref->open(&dev, 1))) return;
    for (uint32_t i = 0; i < N_PAIRS; i++) p[i] = numbers(3 * 17 * 5, i);
    CHECK_OK(ref->norm_stats(dev, OPS_F32, s, p[X].f, mean[0], var[0], no_ws));
    CHECK_OK(ref->norm_stats(dev, OPS_BF16, s, p[X].h, mean[1], var[1], no_ws));
    check_equal(mean[0], mean[1], 5, "mean");
    check_equal(var[0], var[1], 5, "var");
    for (int i = 0; i < 2; i++) {
        norm[i] = (struct ops_norm){mean[i], var[i], scales, 1e-5, k[i], dgamma[i], dbeta[i]};
    }
    CHECK_OK(ref->norm_sums(dev, OPS_F32, s, p[X].f, p[DN].f, &norm[0], no_ws));
    CHECK_OK(ref->norm_sums(dev, OPS_BF16, s, p[X].h, p[DN].h, &norm[1], no_ws));
    check_equal(k[0], k[1], 15, "k");
    check_equal(dgamma[0], dgamma[1], 5, "dgamma");
    check_equal(dbeta[0], dbeta[1], 5, "dbeta");
    CHECK_OK(ref->norm_dx(dev, OPS_F32, s, p[X].f, p[DN].f, &norm[0], NULL, p[DX].f));
    CHECK_OK(ref->norm_dx(dev, OPS_BF16, s, p[X].h, p[DN].h, &norm[1], NULL, p[DX].h));
    check_rounded(&p[DX], "dx");
    CHECK_OK(ref->norm_dx(dev, OPS_F32, s, p[X].f, p[DN].f, &norm[0], NULL, p[DN].f));
    CHECK_OK(ref->norm_dx(dev, OPS_BF16, s, p[X].h, p[DN].h, &norm[1], NULL, p[DN].h));
    check_rounded(&p[DN], "dx in place");
    ref->close(dev);
    free_pairs(p, N_PAIRS);
}

/* The end of a block: 33 samples of 5 channels to 17 of 8. */
static void block(void) {
    const struct ops_blc s = {2, 17, 8};
    const size_t n_y = 2 * 17 * 8, n_x = 2 * 33 * 5;
    enum { H, X, Y, DX, DH, N_PAIRS };
    struct pair p[N_PAIRS] = {numbers(n_y, 1), numbers(n_x, 2), numbers(n_y, 3), numbers(n_x, 4),
                              numbers(n_y, 5)};
    struct pair gates = numbers(16, 6), slopes = numbers(16, 7);
    const float *gate = gates.f, *dm = slopes.f;
    float m[2][16], dgate[2][16];
    const struct ops *ref = ops_ref();
    struct ops_dev *dev = NULL;

    if (!CHECK_OK(ref->open(&dev, 1))) return;
    CHECK_OK(ref->shortcut_bwd(dev, OPS_F32, s, 33, 5, 2, p[X].f, p[Y].f, p[DX].f));
    CHECK_OK(ref->shortcut_bwd(dev, OPS_BF16, s, 33, 5, 2, p[X].h, p[Y].h, p[DX].h));
    check_rounded(&p[DX], "dx");
    CHECK_OK(ref->gate_bwd(dev, OPS_F32, s, p[Y].f, p[H].f, dgate[0]));
    CHECK_OK(ref->gate_bwd(dev, OPS_BF16, s, p[Y].h, p[H].h, dgate[1]));
    check_equal(dgate[0], dgate[1], 16, "dgate");
    CHECK_OK(ref->branch_bwd(dev, OPS_F32, s, p[Y].f, gate, dm, p[DH].f));
    CHECK_OK(ref->branch_bwd(dev, OPS_BF16, s, p[Y].h, gate, dm, p[DH].h));
    check_rounded(&p[DH], "dh");
    CHECK_OK(ref->mean_fwd(dev, OPS_F32, s, p[H].f, m[0]));
    CHECK_OK(ref->mean_fwd(dev, OPS_BF16, s, p[H].h, m[1]));
    check_equal(m[0], m[1], 16, "m");
    CHECK_OK(ref->shortcut_fwd(dev, OPS_F32, s, 33, 5, 2, p[H].f, gate, p[X].f, p[Y].f));
    CHECK_OK(ref->shortcut_fwd(dev, OPS_BF16, s, 33, 5, 2, p[H].h, gate, p[X].h, p[Y].h));
    check_rounded(&p[Y], "y");
    CHECK_OK(ref->mean_bwd(dev, OPS_F32, s, dm, p[H].f));
    CHECK_OK(ref->mean_bwd(dev, OPS_BF16, s, dm, p[H].h));
    check_rounded(&p[H], "the mean's dx");
    ref->close(dev);
    free_pairs(p, N_PAIRS);
    free_pairs(&gates, 1);
    free_pairs(&slopes, 1);
}

static void input(void) {
    const struct ops_blc s = {2, 33, 3};
    const float scale[] = {0.005f, 0.0049f};
    const int lead[] = {3, 0, 2};
    struct pair x = numbers(2 * 33 * 3, 1);
    struct ops_dev *dev = NULL;
    int16_t ecg[2 * 4 * 33];

    for (int i = 0; i < 2 * 4 * 33; i++) ecg[i] = (int16_t)(i * 7919 % 4001 - 2000);
    if (!CHECK_OK(ops_ref()->open(&dev, 1))) return;
    for (int k = OPS_NORM_RECORD; k <= OPS_NORM_NONE; k++) {
        const enum ops_normalize how = (enum ops_normalize)k;
        CHECK_OK(ops_ref()->input_fwd(dev, OPS_F32, s, 4, ecg, scale, lead, how, x.f));
        CHECK_OK(ops_ref()->input_fwd(dev, OPS_BF16, s, 4, ecg, scale, lead, how, x.h));
        check_rounded(&x, "x");
    }
    ops_ref()->close(dev);
    free_pairs(&x, 1);
}

/* The composed entries round what they hand on: act(x) before the products, y before its statistics, da before act's
 * backward pass. */
static void composed(void) {
    const struct ops_conv s = ops_conv_same(2, 17, 5, 4, 3, 1, 1);
    const struct ops_blc in = {2, 17, 5}, out = {2, 17, 4};
    const struct ops_act act = {scales, shifts, 1, 0.25f, 11, 2, 3, 4};
    enum { X, A, Y, Y2, DN, DN2, N_PAIRS };
    struct pair p[N_PAIRS], w = numbers(4 * 5 * 3, 9);
    const struct ops *ref = ops_ref();
    struct ops_dev *dev = NULL;
    float mean[2][4], var[2][4], m[2][8], dw[2][60] = {{0}}, db[2][4] = {{0}};

    for (uint32_t i = 0; i < N_PAIRS; i++) p[i] = numbers(i == Y || i == Y2 ? 136 : 170, i);
    if (!CHECK_OK(ref->open(&dev, 1))) return;
    struct ops_ws ws = {.n = ref->conv_ws(dev, OPS_BF16, s, 0, 1)};
    if (!CHECK_OK(mem_alloc(&ws.p, ws.n, 1))) return;
    CHECK_OK(ref->act_conv_fwd(dev, OPS_BF16, s, &act, p[X].h, w.f, NULL, NULL, p[Y].h, mean[0],
                               var[0], m[0], ws));
    CHECK_OK(ref->act_fwd(dev, OPS_BF16, in, &act, p[X].h, p[A].h));
    CHECK_OK(ref->conv_fwd(dev, OPS_BF16, s, p[A].h, w.f, NULL, p[Y2].h, no_ws));
    CHECK_OK(ref->norm_stats(dev, OPS_BF16, out, p[Y2].h, mean[1], var[1], no_ws));
    CHECK_OK(ref->mean_fwd(dev, OPS_BF16, out, p[Y2].h, m[1]));
    CHECK(memcmp(p[Y].h, p[Y2].h, 136 * sizeof(uint16_t)) == 0);
    check_equal(mean[0], mean[1], 4, "mean");
    check_equal(var[0], var[1], 4, "var");
    check_equal(m[0], m[1], 8, "y_mean");
    CHECK_OK(ref->act_conv_bwd(dev, OPS_BF16, s, &act, p[X].h, w.f, NULL, p[Y].h, NULL, NULL, dw[0],
                               db[0], NULL, p[DN].h, NULL, ws));
    CHECK_OK(ref->conv_bwd_w(dev, OPS_BF16, s, p[A].h, p[Y].h, dw[1], db[1], no_ws));
    CHECK_OK(ref->conv_bwd_x(dev, OPS_BF16, s, p[Y].h, w.f, p[A].h, no_ws));
    CHECK_OK(ref->act_bwd(dev, OPS_BF16, in, &act, p[X].h, p[A].h, 0, p[DN2].h));
    CHECK(memcmp(p[DN].h, p[DN2].h, 170 * sizeof(uint16_t)) == 0);
    check_equal(dw[0], dw[1], 60, "dw");
    check_equal(db[0], db[1], 4, "db");
    free(ws.p);
    ref->close(dev);
    free_pairs(p, N_PAIRS);
    free_pairs(&w, 1);
}

int main(void) {
    CASE(known_values);
    CASE(nan_stays_nan);
    CASE(every_number_comes_back);
    CASE(nearest_of_its_neighbours);
    CASE(convolution);
    CASE(activation);
    CASE(normalisation);
    CASE(block);
    CASE(input);
    CASE(composed);
    return check_finish();
}
