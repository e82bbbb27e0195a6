/* SPDX-License-Identifier: MIT
 * The weight gradient of a convolution of any shape,
 *
 *     dw[co, (k, ci)] += sum over the rows (b, l) of dy[(b,l), co] * act(x)[b, l*S - P + k, ci]
 *
 * A block computes BM channels co of a group by BN columns (k, ci), over one part of the rows; the parts' sums go to
 * scratch memory and are added in order. The number of parts follows from the shape. Within a part a sum is taken
 * in stretches of FLUSH rows, so that its error grows with their root, not with the rows'. */
#include "kernels/cuda/conv_general.cuh"

#define THREADS 256
#define FLUSH   256 /* rows; a multiple of CONV_STEP */
#define BN      64

/* Row r of a batch as sample and output, moved on by a step. */
struct row_place {
    int sample, l;
};

DEVICE struct row_place row_step(struct row_place r, int step, int Lout) {
    r.l += step;
    while (r.l >= Lout) {
        r.l -= Lout;
        r.sample++;
    }
    return r;
}

/* part (parts, Cout, Cin/G, K). */
template <int BF16, int BM, int TM, int TN, int ACT>
static __global__ void __launch_bounds__(BM / TM * (BN / TN))
    conv_bwd_w_kernel(struct ops_conv s, int rows_a_part, struct cuda_act act, const void *x,
                      const void *dy, float *part) {
    constexpr int T = BM / TM * (BN / TN), PA = BM + 4, PB = BN + 4, OWN = CONV_STEP / (T / BN);
    static_assert(T % BN == 0 && T % BM == 0 && OWN * (T / BN) == CONV_STEP,
                  "threads share the loads evenly");
    SHARED(float, s_a, CONV_STEP *PA);
    SHARED(float, s_b, CONV_STEP *PB);
    const int tid = (int)threadIdx.x, Cg = s.Cin / s.G, Co = s.Cout / s.G,
              m_tiles = (Co + BM - 1) / BM;
    const int g = (int)blockIdx.y / m_tiles, m0 = (int)blockIdx.y % m_tiles * BM,
              n0 = (int)blockIdx.x * BN;
    const int rows = s.B * s.Lout, columns = s.K * Cg;
    const int from = (int)blockIdx.z * rows_a_part, to = min(rows, from + rows_a_part);
    const int m1 = tid / (BN / TN) * TM, n1 = tid % (BN / TN) * TN;
    const int n = tid % BN, k = (n0 + n) / Cg, ci = n0 + n - k * Cg,
              c = g * Cg + ci; /* the column that it loads */
    float acc[TM * TN] = {}, sum[TM * TN] = {};
    struct row_place own[OWN];

#pragma unroll
    for (int j = 0; j < OWN; j++) {
        const int r = from + tid / BN + j * (T / BN);
        own[j].sample = r / s.Lout;
        own[j].l = r - own[j].sample * s.Lout;
    }
    for (int r = from; r < to; r += CONV_STEP) {
        for (int p = tid / BM; p < CONV_STEP; p += T / BM) {
            const int m = tid % BM;
            const bool live = r + p < to && m0 + m < Co;
            s_a[p * PA + m] =
                live ? load_one<BF16>(dy, (size_t)(r + p) * s.Cout + g * Co + m0 + m) : 0.0f;
        }
#pragma unroll
        for (int j = 0; j < OWN; j++) {
            const int p = tid / BN + j * (T / BN), i = own[j].l * s.S - s.P + k;
            float v[1] = {};
            if (r + p < to && n0 + n < columns && i >= 0 && i < s.Lin) {
                v[0] = load_one<BF16>(x, ((size_t)own[j].sample * s.Lin + i) * s.Cin + c);
                if (ACT) {
                    act_apply<1>(&act, own[j].sample, (uint32_t)i * s.Cin + c, c, v);
                    v[0] = as_factor<BF16>(v[0]);
                }
            }
            s_b[p * PB + n] = v[0];
            own[j] = row_step(own[j], CONV_STEP, s.Lout);
        }
        __syncthreads();
        conv_multiply<TM, TN>(s_a, PA, m1, s_b, PB, n1, acc);
        __syncthreads();
        if ((r - from) % FLUSH == FLUSH - CONV_STEP || r + CONV_STEP >= to) {
#pragma unroll
            for (int i = 0; i < TM * TN; i++) {
                sum[i] += acc[i];
                acc[i] = 0.0f;
            }
        }
    }
    for (int i = 0; i < TM; i++) {
        if (m0 + m1 + i >= Co) break;
        const size_t at = ((size_t)blockIdx.z * s.Cout + g * Co + m0 + m1 + i) * Cg;
        for (int j = 0; j < TN; j++) {
            const int column = n0 + n1 + j, tap = column / Cg;
            if (column < columns) part[(at + column - tap * Cg) * s.K + tap] = sum[i * TN + j];
        }
    }
}

/* dw[i] += the parts' sums in order. */
static __global__ void __launch_bounds__(THREADS)
    add_weights_kernel(int n, int parts, const float *part, float *dw) {
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (i >= n) return;
    double sum = 0;
    for (int p = 0; p < parts; p++) sum += (double)part[(size_t)p * n + i];
    dw[i] = (float)(dw[i] + sum);
}

/* ------------------------------------------------------------------ host */

/* How the rows are cut: about 512 blocks in all, of FLUSH rows at least. */
static struct cuda_cut cut_of(struct ops_conv s) {
    const int rows = s.B * s.Lout, BM = s.Cout / s.G <= 16 ? 16 : 64;
    const int tiles =
        cuda_ceil_div(s.K * (s.Cin / s.G), BN) * s.G * cuda_ceil_div(s.Cout / s.G, BM);
    const int parts = cuda_max(1, cuda_min(512 / tiles, cuda_ceil_div(rows, FLUSH)));
    struct cuda_cut cut;
    cut.rows = cuda_ceil_div(cuda_ceil_div(rows, parts), CONV_STEP) * CONV_STEP;
    cut.parts = cuda_ceil_div(rows, cut.rows);
    return cut;
}

static size_t weights_of(struct ops_conv s) {
    return (size_t)s.Cout * (size_t)(s.Cin / s.G) * (size_t)s.K;
}

static size_t part_bytes(struct ops_conv s) {
    return (size_t)cut_of(s).parts * weights_of(s) * sizeof(float);
}

size_t conv_general_ws(struct ops_conv s) {
    const size_t parts = cuda_room(part_bytes(s)), columns = cuda_column_ws(s.B * s.Lout, s.Cout);
    return parts > columns ? parts : columns;
}

template <int BM, int TM, int TN>
static void launch_bwd_w(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                         const struct ops_act *act, const void *x, const void *dy, float *part) {
    const struct cuda_cut cut = cut_of(s);
    const dim3 grid((unsigned)cuda_ceil_div(s.K * (s.Cin / s.G), BN),
                    (unsigned)(s.G * cuda_ceil_div(s.Cout / s.G, BM)), (unsigned)cut.parts);
    const int threads = BM / TM * (BN / TN), acts = !cuda_act_is_none(act);
    const struct cuda_act k = cuda_act_of(act);
    if (dtype == OPS_F32 && acts)
        LAUNCH((conv_bwd_w_kernel<0, BM, TM, TN, 1>), grid, threads, 0, dev->stream, s, cut.rows, k,
               x, dy, part);
    else if (dtype == OPS_F32)
        LAUNCH((conv_bwd_w_kernel<0, BM, TM, TN, 0>), grid, threads, 0, dev->stream, s, cut.rows, k,
               x, dy, part);
    else if (acts)
        LAUNCH((conv_bwd_w_kernel<1, BM, TM, TN, 1>), grid, threads, 0, dev->stream, s, cut.rows, k,
               x, dy, part);
    else
        LAUNCH((conv_bwd_w_kernel<1, BM, TM, TN, 0>), grid, threads, 0, dev->stream, s, cut.rows, k,
               x, dy, part);
}

enum ecg_status conv_general_bwd_w(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                   struct ops_conv s, const struct ops_act *act, const void *x,
                                   const void *dy, float *dw, float *db, struct ops_ws ws) {
    const int n = (int)weights_of(s), parts = cut_of(s).parts;
    struct ops_ws rest = ws;
    float *part = (float *)cuda_take(&rest, part_bytes(s));
    if (!part) return cuda_too_small(op, ws);
    if (s.Cout / s.G <= 16)
        launch_bwd_w<16, 4, 2>(dev, dtype, s, act, x, dy, part);
    else
        launch_bwd_w<64, 4, 4>(dev, dtype, s, act, x, dy, part);
    TRY(cuda_done_conv(dev, op, dtype, s));
    LAUNCH(add_weights_kernel, cuda_blocks((size_t)n, THREADS), THREADS, 0, dev->stream, n, parts,
           part, dw);
    TRY(cuda_done_conv(dev, op, dtype, s));
    return db ? cuda_column_sums(dev, op, dtype, s.B * s.Lout, s.Cout, dy, db, ws) : ECG_OK;
}
