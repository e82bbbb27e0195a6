/* SPDX-License-Identifier: MIT
 * Second passes over the partial sums of the 16-tap convolutions: mean and variance of a batch and means of each sample,
 * which the forward kernel leaves by tile, and the gradients of weights, which the backward kernel leaves by split. All in
 * the order of their index. */
#include "kernels/cuda/gconv_fwd.cuh"

#include "kernels/cuda/gconv_back.cuh"

enum { STATS_CHANNELS = 8, STATS_PARTS = 32, SUM_THREADS = 128 };
/* A CTA adds the splits of one output channel's 16 x 16 weights, in this many parts. */
enum { WEIGHTS = 16 * GCONV_TAPS, WEIGHT_PARTS = 4 };

static size_t round_up(size_t n) {
    return (n + 255) / 256 * 256;
}

static size_t stats_bytes(struct gconv_rows g, int C) {
    return round_up((size_t)g.n_tiles * C * sizeof(float2));
}

size_t fwd_sums_bytes(struct gconv_rows g, int C) {
    return stats_bytes(g, C) + round_up((size_t)g.n_tiles * g.max_segments * C * sizeof(double));
}

void fwd_place_sums(struct fwd_args *a, const struct gconv_fwd_out *out, struct ops_ws ws) {
    a->y = (uint16_t *)out->y;
    a->sum = out->y_mean ? out->sum : GCONV_NO_SUM;
    a->stats = out->mean ? (float2 *)ws.p : NULL;
    a->sums = a->sum != GCONV_NO_SUM ? (double *)((char *)ws.p + stats_bytes(a->g, a->C)) : NULL;
}

/* Grid: C / 8. Thread (part, channel) adds its part of the tiles; then one thread a channel adds the parts. With n_i, s_i
 * and q_i a tile's rows, sum and squared deviations from its own mean: the squared deviations from the mean of all N rows
 * are the sum of q_i + s_i^2/n_i, less (sum of s_i)^2/N. */
static __global__ void __launch_bounds__(STATS_CHANNELS *STATS_PARTS)
    gconv_stats_kernel(struct gconv_rows g, int C, const float2 *stats, float *mean, float *var) {
    SHARED(double, s_sum, STATS_CHANNELS *STATS_PARTS);
    SHARED(double, s_squares, STATS_CHANNELS *STATS_PARTS);
    const int tid = (int)threadIdx.x, part = tid / STATS_CHANNELS;
    const int c = (int)blockIdx.x * STATS_CHANNELS + tid % STATS_CHANNELS;
    const int each = (g.n_tiles - 1) / STATS_PARTS + 1;
    const int to = min((part + 1) * each, g.n_tiles);
    const double per_row = 1.0 / g.tile, per_last = 1.0 / (g.n - (g.n_tiles - 1) * g.tile);
    double sum = 0, squares = 0;

#pragma unroll 4
    for (int tile = part * each; tile < to; tile++) {
        const float2 v = stats[(size_t)tile * C + c];
        sum += v.x;
        squares += v.y + (double)v.x * v.x * (tile + 1 < g.n_tiles ? per_row : per_last);
    }
    s_sum[tid] = sum;
    s_squares[tid] = squares;
    __syncthreads();
    if (part > 0) return;
    for (int p = 1; p < STATS_PARTS; p++) {
        sum += s_sum[p * STATS_CHANNELS + tid];
        squares += s_squares[p * STATS_CHANNELS + tid];
    }
    mean[c] = (float)(sum / g.n);
    var[c] = (float)(fmax(squares - sum * sum / g.n, 0.0) / g.n);
}

/* One thread a (sample, channel). */
static __global__ void __launch_bounds__(SUM_THREADS)
    gconv_sample_mean_kernel(struct gconv_rows g, int C, const double *sums, float *y_mean) {
    const int64_t i = (int64_t)blockIdx.x * SUM_THREADS + threadIdx.x;
    const int b = (int)(i / C), c = (int)(i % C);
    if ((int64_t)b * g.L >= g.n) return;
    const int last = ((b + 1) * g.L - 1) / g.tile;
    double sum = 0;

    for (int tile = b * g.L / g.tile; tile <= last; tile++) {
        const int segment = b - tile * g.tile / g.L;
        sum += sums[((size_t)tile * g.max_segments + segment) * C + c];
    }
    y_mean[i] = (float)(sum / g.L);
}

enum ecg_status fwd_finish_sums(const char *op, struct ops_conv s, const struct fwd_args &a,
                                const struct gconv_fwd_out *out, cudaStream_t stream) {
    if (a.stats) {
        LAUNCH(gconv_stats_kernel, a.C / STATS_CHANNELS, STATS_CHANNELS * STATS_PARTS, 0, stream,
               a.g, a.C, a.stats, out->mean, out->var);
        TRY(gconv_check_launch(op, s));
    }
    if (a.sums) {
        const int64_t n = (int64_t)s.B * a.C;
        LAUNCH(gconv_sample_mean_kernel, (unsigned)((n + SUM_THREADS - 1) / SUM_THREADS),
               SUM_THREADS, 0, stream, a.g, a.C, a.sums, out->y_mean);
        TRY(gconv_check_launch(op, s));
    }
    return ECG_OK;
}

/* Grid: one CTA an output channel. Thread (part, tap, ci) adds its part of the splits; then thread (ci, tap), which is the
 * order of dw (Cout, Cg, 16), adds the parts. */
static __global__ void __launch_bounds__(WEIGHTS *WEIGHT_PARTS)
    gconv_sum_weights_kernel(int n_splits, int C, int Cg, const float *weights, const float *bias,
                             float *dw, float *db) {
    SHARED(float, s_sum, WEIGHTS *WEIGHT_PARTS);
    const int tid = (int)threadIdx.x, part = tid / WEIGHTS, e = tid % WEIGHTS;
    const int co = (int)blockIdx.x, tap = e >> 4, ci = e & 15;
    const size_t split_size = (size_t)C * WEIGHTS;
    const size_t at = (size_t)(co >> 4) * 16 * WEIGHTS + (size_t)tap * 256 + (co & 15) * 16 + ci;
    const int each = (n_splits - 1) / WEIGHT_PARTS + 1, to = min((part + 1) * each, n_splits);
    float sum = 0;

#pragma unroll 4
    for (int split = part * each; split < to; split++) sum += weights[split * split_size + at];
    s_sum[tid] = sum;
    __syncthreads();
    if (tid < Cg * GCONV_TAPS) {
        const int from = (tid & 15) * 16 + (tid >> 4);
        float total = s_sum[from];
        for (int p = 1; p < WEIGHT_PARTS; p++) total += s_sum[p * WEIGHTS + from];
        dw[(size_t)co * Cg * GCONV_TAPS + tid] += total;
    }
    if (db && tid < 32) {
        float total = 0;
        for (int split = tid; split < n_splits; split += 32) total += bias[(size_t)split * C + co];
        for (int lanes = 16; lanes > 0; lanes >>= 1)
            total += __shfl_xor_sync(0xffffffffu, total, lanes);
        if (tid == 0) db[co] += total;
    }
}

enum ecg_status back_finish(const char *op, struct ops_conv s, int n_splits, const float *weights,
                            const float *bias, float *dw, float *db, cudaStream_t stream) {
    LAUNCH(gconv_sum_weights_kernel, s.Cout, WEIGHTS * WEIGHT_PARTS, 0, stream, n_splits, s.Cout,
           s.Cin / s.G, weights, bias, dw, db);
    return gconv_check_launch(op, s);
}
