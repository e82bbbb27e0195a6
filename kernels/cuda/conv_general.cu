/* SPDX-License-Identifier: MIT
 * Convolution and its data gradient as products of matrices, for every shape. With l an output, i = l*S - P + k the
 * input sample under tap k, and ci, co counting a group's own channels,
 *
 *     y[(b,l), co]  = sum over (k, ci) of act(x)[b, i, ci] * w[co, ci, k]
 *     dx[(b,i), ci] = sum over (u, co) of dy[b, (i+P)/S - u, co] * w[co, ci, f + S*u],     f = (i + P) mod S
 *
 * where rows outside the record count as zeros. The data gradient takes the S phases f one by one, so that no term is a
 * zero between outputs. A block computes BM rows by BN channels of one group; a thread TM by TN of them. Each output is
 * one sum in the order of its terms, whatever the tile: a sample's results do not depend on its batch. */
#include "kernels/cuda/conv_general.cuh"

/* ------------------------------------------------------------------ output */

template <int BF16, int BM, int BN, int TM, int TN, int ACT>
static __global__ void __launch_bounds__(BM / TM * (BN / TN))
    conv_fwd_kernel(struct ops_conv s, struct cuda_act act, const void *x, const float *w,
                    const float *b, void *y) {
    constexpr int T = BM / TM * (BN / TN), PA = BM + 4, PB = BN + 4;
    static_assert(T % CONV_STEP == 0 && BM % TM == 0 && BN % TN == 0,
                  "threads share the loads evenly");
    SHARED(float, s_a, CONV_STEP *PA);
    SHARED(float, s_b, CONV_STEP *PB);
    SHARED(int, s_start, BM);
    SHARED(int, s_first, BM);
    const int tid = (int)threadIdx.x, Cg = s.Cin / s.G, Co = s.Cout / s.G,
              n_tiles = (Co + BN - 1) / BN;
    const int g = (int)blockIdx.y / n_tiles, n0 = (int)blockIdx.y % n_tiles * BN;
    const int row0 = (int)blockIdx.x * BM, rows = s.B * s.Lout, terms = s.K * Cg;
    const int p = tid % CONV_STEP, m0 = tid / (BN / TN) * TM, n1 = tid % (BN / TN) * TN;
    float acc[TM * TN] = {};

    for (int m = tid; m < BM; m += T) {
        const int sample = (row0 + m) / s.Lout;
        s_start[m] = row0 + m < rows ? sample * s.Lin : -1;
        s_first[m] = (row0 + m - sample * s.Lout) * s.S - s.P;
    }
    __syncthreads();
    for (int t = p; t - p < terms; t += CONV_STEP) {
        const int k = t / Cg, ci = t - k * Cg, c = g * Cg + ci;
        for (int m = tid / CONV_STEP; m < BM; m += T / CONV_STEP) {
            const int i = s_first[m] + k, start = s_start[m];
            float v[1] = {};
            if (t < terms && start >= 0 && i >= 0 && i < s.Lin) {
                v[0] = load_one<BF16>(x, (size_t)(start + i) * s.Cin + c);
                if (ACT) {
                    act_apply<1>(&act, start / s.Lin, (uint32_t)i * s.Cin + c, c, v);
                    v[0] = as_factor<BF16>(v[0]);
                }
            }
            s_a[p * PA + m] = v[0];
        }
        for (int n = tid / CONV_STEP; n < BN; n += T / CONV_STEP) {
            const bool live = t < terms && n0 + n < Co;
            s_b[p * PB + n] =
                live ? as_factor<BF16>(w[((size_t)(g * Co + n0 + n) * Cg + ci) * s.K + k]) : 0.0f;
        }
        __syncthreads();
        conv_multiply<TM, TN>(s_a, PA, m0, s_b, PB, n1, acc);
        __syncthreads();
    }
    const int co = g * Co + n0 + n1;
    for (int i = 0; i < TM; i++) {
        if (row0 + m0 + i >= rows) break;
        const size_t at = (size_t)(row0 + m0 + i) * s.Cout + co;
        for (int j = 0; j < TN; j++) {
            if (n0 + n1 + j >= Co) break;
            if (b) acc[i * TN + j] += b[co + j];
            if (Co % TN != 0) store_one<BF16>(y, at + j, acc[i * TN + j]);
        }
        if (Co % TN == 0 && n0 + n1 < Co) store_some<BF16, TN>(y, at, acc + i * TN);
    }
}

template <int BM, int BN, int TM, int TN>
static void launch_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                       const struct ops_act *act, const void *x, const float *w, const float *b,
                       void *y) {
    const dim3 grid((unsigned)cuda_ceil_div(s.B * s.Lout, BM),
                    (unsigned)(s.G * cuda_ceil_div(s.Cout / s.G, BN)));
    const int threads = BM / TM * (BN / TN), acts = !cuda_act_is_none(act);
    const struct cuda_act k = cuda_act_of(act);
    if (dtype == OPS_F32 && acts)
        LAUNCH((conv_fwd_kernel<0, BM, BN, TM, TN, 1>), grid, threads, 0, dev->stream, s, k, x, w,
               b, y);
    else if (dtype == OPS_F32)
        LAUNCH((conv_fwd_kernel<0, BM, BN, TM, TN, 0>), grid, threads, 0, dev->stream, s, k, x, w,
               b, y);
    else if (acts)
        LAUNCH((conv_fwd_kernel<1, BM, BN, TM, TN, 1>), grid, threads, 0, dev->stream, s, k, x, w,
               b, y);
    else
        LAUNCH((conv_fwd_kernel<1, BM, BN, TM, TN, 0>), grid, threads, 0, dev->stream, s, k, x, w,
               b, y);
}

/* Tiles: narrow groups; few rows, as short records of a small batch have; all else. */
#define FEW_ROWS 1024

enum ecg_status conv_general_fwd(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                 struct ops_conv s, const struct ops_act *act, const void *x,
                                 const float *w, const float *b, void *y) {
    if (s.Cout / s.G <= 16)
        launch_fwd<128, 16, 8, 2>(dev, dtype, s, act, x, w, b, y);
    else if (s.B * s.Lout <= FEW_ROWS)
        launch_fwd<32, 32, 2, 2>(dev, dtype, s, act, x, w, b, y);
    else
        launch_fwd<128, 64, 8, 4>(dev, dtype, s, act, x, w, b, y);
    return cuda_done_conv(dev, op, dtype, s);
}

/* ------------------------------------------------------------------ data gradient */

/* Phase f: inputs first, first + S, ... of each sample (n of them); input number j meets output l0 + j under tap f, the
 * outputs before it under the next of `taps` taps. */
struct phase {
    int first, n, l0, taps;
};

DEVICE struct phase phase_of(struct ops_conv s, int f) {
    struct phase h;
    h.first = ((f - s.P) % s.S + s.S) % s.S;
    h.n = h.first < s.Lin ? (s.Lin - h.first + s.S - 1) / s.S : 0;
    h.l0 = (h.first + s.P) / s.S;
    h.taps = f < s.K ? (s.K - f + s.S - 1) / s.S : 0;
    return h;
}

template <int BF16, int BM, int BN, int TM, int TN>
static __global__ void __launch_bounds__(BM / TM * (BN / TN), 3)
    conv_bwd_x_kernel(struct ops_conv s, const void *dy, const float *w, struct cuda_act act,
                      int acts, const void *x, int add, void *dn) {
    constexpr int T = BM / TM * (BN / TN), PA = BM + 4, PB = BN + 4;
    static_assert(T % CONV_STEP == 0 && T % BN == 0, "threads share the loads evenly");
    SHARED(float, s_a, CONV_STEP *PA);
    SHARED(float, s_b, CONV_STEP *PB);
    SHARED(int, s_start, BM);
    SHARED(int, s_first, BM);
    SHARED(int, s_row, BM); /* of dn */
    const int tid = (int)threadIdx.x, Cg = s.Cin / s.G, Co = s.Cout / s.G,
              n_tiles = (Cg + BN - 1) / BN;
    const int g = (int)blockIdx.y / n_tiles, n0 = (int)blockIdx.y % n_tiles * BN,
              f = (int)blockIdx.z;
    const struct phase h = phase_of(s, f);
    const int row0 = (int)blockIdx.x * BM, rows = s.B * h.n, terms = h.taps * Co;
    const int p = tid % CONV_STEP, m0 = tid / (BN / TN) * TM, n1 = tid % (BN / TN) * TN;
    float acc[TM * TN] = {};

    if (row0 >= rows) return;
    for (int m = tid; m < BM; m += T) {
        const int sample = (row0 + m) / h.n, j = row0 + m - sample * h.n;
        s_start[m] = row0 + m < rows ? sample * s.Lout : -1;
        s_first[m] = h.l0 + j;
        s_row[m] = sample * s.Lin + h.first + j * s.S;
    }
    __syncthreads();
    for (int t = p; t - p < terms; t += CONV_STEP) {
        const int u = t / Co, co = t - u * Co;
        for (int m = tid / CONV_STEP; m < BM; m += T / CONV_STEP) {
            const int l = s_first[m] - u, start = s_start[m];
            const bool live = t < terms && start >= 0 && l >= 0 && l < s.Lout;
            s_a[p * PA + m] =
                live ? load_one<BF16>(dy, (size_t)(start + l) * s.Cout + g * Co + co) : 0.0f;
        }
        for (int q = tid / BN; q < CONV_STEP; q += T / BN) {
            const int n = tid % BN, tq = t - p + q, uq = tq / Co, cq = tq - uq * Co;
            const bool live = tq < terms && n0 + n < Cg;
            const size_t at = ((size_t)(g * Co + cq) * Cg + n0 + n) * s.K + f + s.S * uq;
            s_b[q * PB + n] = live ? as_factor<BF16>(w[at]) : 0.0f;
        }
        __syncthreads();
        conv_multiply<TM, TN>(s_a, PA, m0, s_b, PB, n1, acc);
        __syncthreads();
    }
#pragma unroll /* accumulators stay in registers */
    for (int i = 0; i < TM; i++) {
        if (row0 + m0 + i >= rows) break;
        const int row = s_row[m0 + i], sample = row / s.Lin;
#pragma unroll
        for (int j = 0; j < TN; j++) {
            const int c = g * Cg + n0 + n1 + j;
            const size_t at = (size_t)row * s.Cin + c;
            float slope[1] = {1.0f};
            if (n0 + n1 + j >= Cg) break;
            if (acts) {
                slope[0] = load_one<BF16>(x, at);
                act_slope<1>(&act, sample, (uint32_t)(row - sample * s.Lin) * s.Cin + c, c, slope);
            }
            store_one<BF16>(dn, at,
                            acc[i * TN + j] * slope[0] + (add ? load_one<BF16>(dn, at) : 0.0f));
        }
    }
}

template <int BM, int BN, int TM, int TN>
static void launch_bwd_x(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                         const void *dy, const float *w, const struct ops_act *act, const void *x,
                         int add, void *dn) {
    const int longest = cuda_ceil_div(s.Lin, s.S); /* of a phase */
    const dim3 grid((unsigned)cuda_ceil_div(s.B * longest, BM),
                    (unsigned)(s.G * cuda_ceil_div(s.Cin / s.G, BN)), (unsigned)s.S);
    const int threads = BM / TM * (BN / TN), acts = !cuda_act_is_none(act);
    const struct cuda_act k = cuda_act_of(act);
    if (dtype == OPS_F32)
        LAUNCH((conv_bwd_x_kernel<0, BM, BN, TM, TN>), grid, threads, 0, dev->stream, s, dy, w, k,
               acts, x, add, dn);
    else
        LAUNCH((conv_bwd_x_kernel<1, BM, BN, TM, TN>), grid, threads, 0, dev->stream, s, dy, w, k,
               acts, x, add, dn);
}

enum ecg_status conv_general_bwd_x(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                   struct ops_conv s, const void *dy, const float *w,
                                   const struct ops_act *act, const void *x, int add, void *dn) {
    if (s.Cin / s.G <= 16)
        launch_bwd_x<128, 16, 8, 2>(dev, dtype, s, dy, w, act, x, add, dn);
    else if (s.B * cuda_ceil_div(s.Lin, s.S) <= FEW_ROWS)
        launch_bwd_x<32, 32, 2, 2>(dev, dtype, s, dy, w, act, x, add, dn);
    else
        launch_bwd_x<128, 64, 8, 4>(dev, dtype, s, dy, w, act, x, add, dn);
    return cuda_done_conv(dev, op, dtype, s);
}
