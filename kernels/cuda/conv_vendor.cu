/* SPDX-License-Identifier: MIT
 * What a library's convolution is given and what becomes of its result. */
#include "kernels/cuda/conv_vendor.cuh"

#include "kernels/cuda/choose.h"
#include "kernels/cuda/element.cuh"

#define THREADS 256

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t rows_of(struct ops_conv s) {
    return (size_t)s.B * s.Lout;
}

static size_t weights_of(struct ops_conv s) {
    return (size_t)s.Cout * (s.Cin / s.G) * s.K;
}

static int is_product(struct ops_conv s) {
    return s.K == 1 && s.S == 1 && s.G == 1 && s.P == 0 && s.Lin == s.Lout;
}

/* ------------------------------------------------------------------ around a product */

/* The result of a product with its bias: y = acc + b, V channels a thread; y may be acc. */
template <int BF16, int V>
static __global__ void __launch_bounds__(THREADS)
    bias_kernel(size_t n, int C, const float *acc, const float *b, void *y) {
    const size_t t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (t >= n) return;
    const int c = (int)(t % (unsigned)(C / V)) * V;
    float v[V];
    load_floats<V>(acc + t * V, v);
#pragma unroll
    for (int j = 0; j < V; j++) v[j] += b ? b[c + j] : 0.0f;
    store_some<BF16, V>(y, t * V, v);
}

static void add_bias(struct ops_dev *dev, enum ops_dtype dtype, size_t rows, int C,
                     const float *acc, const float *b, void *y) {
    const int width = cuda_width(C, 0, 0);
    const size_t n = rows * (size_t)(C / width);
    const int blocks = cuda_blocks(n, THREADS);
    if (dtype == OPS_F32 && width == 8)
        LAUNCH((bias_kernel<0, 8>), blocks, THREADS, 0, dev->stream, n, C, acc, b, y);
    else if (dtype == OPS_F32)
        LAUNCH((bias_kernel<0, 1>), blocks, THREADS, 0, dev->stream, n, C, acc, b, y);
    else if (width == 8)
        LAUNCH((bias_kernel<1, 8>), blocks, THREADS, 0, dev->stream, n, C, acc, b, y);
    else
        LAUNCH((bias_kernel<1, 1>), blocks, THREADS, 0, dev->stream, n, C, acc, b, y);
}

static __global__ void __launch_bounds__(THREADS)
    round_kernel(size_t n, const float *w, uint16_t *rounded) {
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n) bf16_store(&rounded[i], w[i]);
}

/* The weights as factors of a product: as they are, packed, or rounded into scratch memory. */
static enum ecg_status get_factors(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                   struct ops_conv s, const float *w, const void *packed,
                                   const void **out, struct ops_ws *ws) {
    const size_t n = weights_of(s);
    *out = dtype == OPS_F32 ? (const void *)w : packed;
    if (*out) return ECG_OK;
    uint16_t *rounded = (uint16_t *)cuda_take(ws, n * sizeof *rounded);
    if (!rounded) return cuda_too_small(op, *ws);
    LAUNCH(round_kernel, cuda_blocks(n, THREADS), THREADS, 0, dev->stream, n, w, rounded);
    *out = rounded;
    return cuda_done_conv(dev, op, dtype, s);
}

/* act(x), in scratch memory where it isn't x itself. */
static enum ecg_status get_activated(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                     struct ops_conv s, const struct ops_act *act, const void **x,
                                     struct ops_ws *ws) {
    const struct ops_blc in = {s.B, s.Lin, s.Cin};
    if (cuda_act_is_none(act)) return ECG_OK;
    void *a = cuda_take(ws, rows_of(s) * s.Cin * cuda_size(dtype));
    if (!a) return cuda_too_small(op, *ws);
    TRY(cuda_act_fwd(dev, dtype, in, act, *x, a));
    *x = a;
    return ECG_OK;
}

static enum ecg_status product_fwd(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                   struct ops_conv s, const struct ops_act *act, const void *x,
                                   const float *w, const void *packed, const float *b, void *y,
                                   struct ops_ws ws) {
    const int M = (int)rows_of(s);
    const void *factors;
    TRY(get_factors(dev, op, dtype, s, w, packed, &factors, &ws));
    TRY(get_activated(dev, op, dtype, s, act, &x, &ws));
    if (!b)
        return vendor_product(dev->choose->vendor, M, s.Cout, s.Cin, dtype, x, factors, dtype, y);
    /* Rounded once, with its bias in it. */
    float *acc = (float *)y;
    if (dtype == OPS_BF16) acc = (float *)cuda_take(&ws, rows_of(s) * s.Cout * sizeof *acc);
    if (!acc) return cuda_too_small(op, ws);
    TRY(vendor_product(dev->choose->vendor, M, s.Cout, s.Cin, dtype, x, factors, OPS_F32, acc));
    add_bias(dev, dtype, rows_of(s), s.Cout, acc, b, y);
    return cuda_done_conv(dev, op, dtype, s);
}

static enum ecg_status product_bwd_x(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                     struct ops_conv s, const void *dy, const float *w,
                                     const void *packed, const struct ops_act *act, const void *x,
                                     int add, void *dn, struct ops_ws ws) {
    const struct ops_act none = {};
    const struct ops_blc in = {s.B, s.Lin, s.Cin};
    const int M = (int)rows_of(s), passes_through = cuda_act_is_none(act) && !add;
    const void *factors;
    TRY(get_factors(dev, op, dtype, s, w, packed, &factors, &ws));
    void *da = passes_through ? dn : cuda_take(&ws, rows_of(s) * s.Cin * cuda_size(dtype));
    if (!da) return cuda_too_small(op, ws);
    TRY(vendor_product_x(dev->choose->vendor, M, s.Cout, s.Cin, dtype, dy, factors, da));
    return passes_through
               ? ECG_OK
               : cuda_act_bwd(dev, dtype, in, act ? act : &none, act ? x : da, da, add, dn);
}

/* ------------------------------------------------------------------ around cuDNN */

static struct vendor_conv conv_of(enum ops_dtype dtype, struct ops_conv s) {
    const struct vendor_conv c = {s.B, (s.Lout - 1) * s.S + s.K, s.Lout, s.Cin, s.Cout, s.K, s.S,
                                  s.G, dtype == OPS_BF16};
    return c;
}

/* a (B, La, C) in fp32 from x (B, L, C): row l is act(x) of row l - P, zeros where there is none. */
template <int BF16, int V>
static __global__ void __launch_bounds__(THREADS)
    widen_kernel(struct ops_blc s, int La, int P, size_t n, struct cuda_act act, const void *x,
                 float *a) {
    const size_t t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (t >= n) return;
    const size_t C = (size_t)(s.C / V), row = t / C;
    const int c = (int)(t % C) * V, b = (int)(row / (size_t)La), l = (int)(row % (size_t)La) - P;
    float v[V] = {};
    if (l >= 0 && l < s.L) {
        const size_t i = (size_t)l * s.C + c;
        load_some<BF16, V>(x, (size_t)b * s.L * s.C + i, v);
        act_apply<V>(&act, b, (uint32_t)i, c, v);
#pragma unroll
        for (int j = 0; j < V; j++) v[j] = as_factor<BF16>(v[j]);
    }
    store_some<0, V>(a, t * V, v);
}

/* dn (B, L, C) from da (B, La, C): row l of row l + P, through act. */
template <int BF16, int V>
static __global__ void __launch_bounds__(THREADS)
    narrow_kernel(struct ops_blc s, int La, int P, size_t n, struct cuda_act act, int acts,
                  const void *x, const float *da, int add, void *dn) {
    const size_t t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (t >= n) return;
    const size_t C = (size_t)(s.C / V), row = t / C;
    const int c = (int)(t % C) * V, b = (int)(row / (size_t)s.L), l = (int)(row % (size_t)s.L);
    float d[V] = {}, slope[V], before[V] = {};
    if (l + P < La) load_floats<V>(da + ((size_t)b * La + l + P) * s.C + c, d);
    if (add) load_some<BF16, V>(dn, t * V, before);
    if (acts) {
        load_some<BF16, V>(x, t * V, slope);
        act_slope<V>(&act, b, (uint32_t)((size_t)l * s.C + c), c, slope);
    }
#pragma unroll
    for (int j = 0; j < V; j++) d[j] = d[j] * (acts ? slope[j] : 1.0f) + before[j];
    store_some<BF16, V>(dn, t * V, d);
}

/* Weights (Cout, Cin/G, K) as factors in cuDNN's order (Cout, K, Cin/G). */
template <int BF16>
static __global__ void __launch_bounds__(THREADS)
    to_taps_kernel(size_t n, int C, int K, const float *w, float *taps) {
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    const size_t one = (size_t)C * K, out = i / one, k = i % one / C, c = i % C;
    taps[i] = as_factor<BF16>(w[out * one + c * K + k]);
}

static __global__ void __launch_bounds__(THREADS)
    add_taps_kernel(size_t n, int C, int K, const float *taps, float *dw) {
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    const size_t one = (size_t)C * K, out = i / one, c = i % one / K, k = i % K;
    dw[i] += taps[out * one + k * C + c];
}

/* What cuDNN reads for x (B, L, C), to be padded to La rows: x itself where it is that already. */
static enum ecg_status widen(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                             struct ops_blc s, int La, int P, const struct ops_act *act,
                             const void *x, const float **out, struct ops_ws *ws) {
    const struct cuda_act k = cuda_act_of(act);
    const int width = cuda_width(s.C, 0, 0);
    const size_t n = (size_t)s.B * La * (s.C / width);
    const int blocks = cuda_blocks(n, THREADS);
    *out = (const float *)x;
    if (dtype == OPS_F32 && La == s.L && P == 0 && cuda_act_is_none(act)) return ECG_OK;
    float *a = (float *)cuda_take(ws, n * (size_t)width * sizeof *a);
    if (!a) return cuda_too_small(op, *ws);
    if (dtype == OPS_F32 && width == 8)
        LAUNCH((widen_kernel<0, 8>), blocks, THREADS, 0, dev->stream, s, La, P, n, k, x, a);
    else if (dtype == OPS_F32)
        LAUNCH((widen_kernel<0, 1>), blocks, THREADS, 0, dev->stream, s, La, P, n, k, x, a);
    else if (width == 8)
        LAUNCH((widen_kernel<1, 8>), blocks, THREADS, 0, dev->stream, s, La, P, n, k, x, a);
    else
        LAUNCH((widen_kernel<1, 1>), blocks, THREADS, 0, dev->stream, s, La, P, n, k, x, a);
    *out = a;
    return cuda_done_blc(dev, op, dtype, s);
}

static void narrow(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s, int La, int P,
                   const struct ops_act *act, const void *x, const float *da, int add, void *dn) {
    const struct cuda_act k = cuda_act_of(act);
    const int width = cuda_width(s.C, 0, 0), acts = !cuda_act_is_none(act);
    const size_t n = (size_t)s.B * s.L * (s.C / width);
    const int blocks = cuda_blocks(n, THREADS);
    if (dtype == OPS_F32 && width == 8)
        LAUNCH((narrow_kernel<0, 8>), blocks, THREADS, 0, dev->stream, s, La, P, n, k, acts, x, da,
               add, dn);
    else if (dtype == OPS_F32)
        LAUNCH((narrow_kernel<0, 1>), blocks, THREADS, 0, dev->stream, s, La, P, n, k, acts, x, da,
               add, dn);
    else if (width == 8)
        LAUNCH((narrow_kernel<1, 8>), blocks, THREADS, 0, dev->stream, s, La, P, n, k, acts, x, da,
               add, dn);
    else
        LAUNCH((narrow_kernel<1, 1>), blocks, THREADS, 0, dev->stream, s, La, P, n, k, acts, x, da,
               add, dn);
}

static enum ecg_status get_taps(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                struct ops_conv s, const float *w, float **out, struct ops_ws *ws) {
    const size_t n = weights_of(s);
    const int blocks = cuda_blocks(n, THREADS), C = s.Cin / s.G;
    *out = (float *)cuda_take(ws, n * sizeof **out);
    if (!*out) return cuda_too_small(op, *ws);
    if (dtype == OPS_F32)
        LAUNCH((to_taps_kernel<0>), blocks, THREADS, 0, dev->stream, n, C, s.K, w, *out);
    else
        LAUNCH((to_taps_kernel<1>), blocks, THREADS, 0, dev->stream, n, C, s.K, w, *out);
    return cuda_done_conv(dev, op, dtype, s);
}

static enum ecg_status taps_fwd(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                struct ops_conv s, const struct ops_act *act, const void *x,
                                const float *w, const float *b, void *y, struct ops_ws ws) {
    const struct vendor_conv c = conv_of(dtype, s);
    const struct ops_blc in = {s.B, s.Lin, s.Cin};
    const float *a;
    float *taps, *acc = (float *)y;
    TRY(get_taps(dev, op, dtype, s, w, &taps, &ws));
    TRY(widen(dev, op, dtype, in, c.Lin, s.P, act, x, &a, &ws));
    if (dtype == OPS_BF16) acc = (float *)cuda_take(&ws, rows_of(s) * s.Cout * sizeof *acc);
    if (!acc) return cuda_too_small(op, ws);
    TRY(vendor_convolve(dev->choose->vendor, VENDOR_FWD, c, a, taps, acc));
    if (b || dtype == OPS_BF16) add_bias(dev, dtype, rows_of(s), s.Cout, acc, b, y);
    return cuda_done_conv(dev, op, dtype, s);
}

static enum ecg_status taps_bwd_x(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                  struct ops_conv s, const void *dy, const float *w,
                                  const struct ops_act *act, const void *x, int add, void *dn,
                                  struct ops_ws ws) {
    const struct vendor_conv c = conv_of(dtype, s);
    const struct ops_blc in = {s.B, s.Lin, s.Cin}, out = {s.B, s.Lout, s.Cout};
    const float *d;
    float *taps;
    TRY(get_taps(dev, op, dtype, s, w, &taps, &ws));
    TRY(widen(dev, op, dtype, out, s.Lout, 0, NULL, dy, &d, &ws));
    float *da = (float *)cuda_take(&ws, (size_t)s.B * c.Lin * s.Cin * sizeof *da);
    if (!da) return cuda_too_small(op, ws);
    TRY(vendor_convolve(dev->choose->vendor, VENDOR_BWD_X, c, taps, d, da));
    narrow(dev, dtype, in, c.Lin, s.P, act, x, da, add, dn);
    return cuda_done_conv(dev, op, dtype, s);
}

static enum ecg_status taps_bwd_w(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                  struct ops_conv s, const struct ops_act *act, const void *x,
                                  const void *dy, float *dw, struct ops_ws ws) {
    const struct vendor_conv c = conv_of(dtype, s);
    const struct ops_blc in = {s.B, s.Lin, s.Cin}, out = {s.B, s.Lout, s.Cout};
    const size_t n = weights_of(s);
    const float *a, *d;
    TRY(widen(dev, op, dtype, in, c.Lin, s.P, act, x, &a, &ws));
    TRY(widen(dev, op, dtype, out, s.Lout, 0, NULL, dy, &d, &ws));
    float *taps = (float *)cuda_take(&ws, n * sizeof *taps);
    if (!taps) return cuda_too_small(op, ws);
    TRY(vendor_convolve(dev->choose->vendor, VENDOR_BWD_W, c, a, d, taps));
    LAUNCH(add_taps_kernel, cuda_blocks(n, THREADS), THREADS, 0, dev->stream, n, s.Cin / s.G, s.K,
           taps, dw);
    return cuda_done_conv(dev, op, dtype, s);
}

/* ------------------------------------------------------------------ both */

size_t conv_vendor_ws(enum ops_dtype dtype, struct ops_conv s, int backward) {
    const size_t n = weights_of(s), y = rows_of(s) * s.Cout,
                 columns = cuda_column_ws((int)rows_of(s), s.Cout);
    if (is_product(s)) {
        const size_t a = cuda_room(rows_of(s) * s.Cin * cuda_size(dtype));
        const size_t w = cuda_room(n * sizeof(uint16_t)), acc = cuda_room(y * sizeof(float));
        return larger(w + a + acc, backward ? a + columns : 0);
    }
    const size_t a = cuda_room((size_t)s.B * conv_of(dtype, s).Lin * s.Cin * sizeof(float));
    return cuda_room(n * sizeof(float)) + a +
           larger(cuda_room(y * sizeof(float)), backward ? columns : 0);
}

enum ecg_status conv_vendor_fwd(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                struct ops_conv s, const struct ops_act *act, const void *x,
                                const float *w, const void *packed, const float *b, void *y,
                                struct ops_ws ws) {
    return is_product(s) ? product_fwd(dev, op, dtype, s, act, x, w, packed, b, y, ws)
                         : taps_fwd(dev, op, dtype, s, act, x, w, b, y, ws);
}

enum ecg_status conv_vendor_bwd_x(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                  struct ops_conv s, const void *dy, const float *w,
                                  const void *packed, const struct ops_act *act, const void *x,
                                  int add, void *dn, struct ops_ws ws) {
    return is_product(s) ? product_bwd_x(dev, op, dtype, s, dy, w, packed, act, x, add, dn, ws)
                         : taps_bwd_x(dev, op, dtype, s, dy, w, act, x, add, dn, ws);
}

enum ecg_status conv_vendor_bwd_w(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                  struct ops_conv s, const struct ops_act *act, const void *x,
                                  const void *dy, float *dw, float *db, struct ops_ws ws) {
    const int M = (int)rows_of(s);
    if (db) TRY(cuda_column_sums(dev, op, dtype, M, s.Cout, dy, db, ws));
    if (!is_product(s)) return taps_bwd_w(dev, op, dtype, s, act, x, dy, dw, ws);
    TRY(get_activated(dev, op, dtype, s, act, &x, &ws));
    return vendor_product_w(dev->choose->vendor, M, s.Cout, s.Cin, dtype, x, dy, dw);
}
