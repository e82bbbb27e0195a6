/* SPDX-License-Identifier: MIT
 * Batch normalisation over the R = B*L rows of each channel, and plain sums over rows.
 *
 * A column kernel sums over one part of the rows (cuda_cut_rows) in double: a block takes 32 channels, 8 threads each, a
 * thread every eighth row; the 8 sums are added in order, and the part's sums written. A second kernel adds the parts in
 * a fixed tree and makes of them what the entry wants. With rstd = 1/sqrt(var + eps), sum = sum of dn, dot = sum of
 * dn*(x - mean),
 *
 *     var = sum(x^2)/R - mean^2 (in double: floats squared are exact there)
 *     dx = gamma*rstd * (dn - sum/R - (x - mean)*rstd^2*dot/R),   dgamma += dot*rstd,   dbeta += sum */
#include "kernels/cuda/cuda.cuh"

#include "kernels/cuda/element.cuh"
#include "kernels/cuda/norm_parts.h"

#define THREADS 256
#define LANES   8

/* What is summed over rows: x; x times a number of the row's; x and x^2; dn and dn*(x - mean). */
enum { SUM, SUM_SQUARE, SUM_DOT, SUM_WEIGHTED };

struct pair {
    double x, y;
};

/* ------------------------------------------------------------------ sums over rows */

/* part (parts, C): the sums of this block's rows. mean (C); or, of SUM_WEIGHTED, the rows' numbers. */
template <int BF16, int WHAT>
static __global__ void __launch_bounds__(32 * LANES)
    column_kernel(int rows, int C, int rows_a_part, const void *x, const void *dn,
                  const float *mean, struct pair *part) {
    SHARED(double, s_sum, 2 * 32 * LANES);
    const int c = (int)(blockIdx.x * 32 + threadIdx.x), lane = (int)threadIdx.y;
    const int from = (int)blockIdx.y * rows_a_part, to = min(rows, from + rows_a_part);
    double sum = 0, other = 0;

    if (c < C) {
        const double mu = WHAT == SUM_DOT ? (double)mean[c] : 0;
        for (int r = from + lane; r < to; r += LANES) {
            const size_t i = (size_t)r * C + c;
            const double v = (double)load_one<BF16>(x, i);
            if (WHAT == SUM_DOT) {
                const double d = (double)load_one<BF16>(dn, i);
                sum += d;
                other += d * (v - mu);
            } else {
                sum += WHAT == SUM_WEIGHTED ? v * (double)mean[r] : v;
                if (WHAT == SUM_SQUARE) other += v * v;
            }
        }
    }
    s_sum[lane * 32 + threadIdx.x] = sum;
    s_sum[(LANES + lane) * 32 + threadIdx.x] = other;
    __syncthreads();
    if (lane > 0 || c >= C) return;
    for (int j = 1; j < LANES; j++) {
        sum += s_sum[j * 32 + threadIdx.x];
        other += s_sum[(LANES + j) * 32 + threadIdx.x];
    }
    const struct pair both = {sum, other};
    part[(size_t)blockIdx.y * C + c] = both;
}

/* ------------------------------------------------------------------ second passes */

/* A block adds the parts of 4 channels, one sector of a row of float2; 128 threads a channel take every 128th part. */
enum { CHANNELS = 4, ADDERS = 128 };

/* The sum over all parts of what term(part, channel) adds; true in the threads that hold a channel's afterwards. */
template <class TERM>
DEVICE bool add_parts(int parts, int C, int *channel, double sum[2], const TERM &term) {
    SHARED(double, s_sum, 2 * CHANNELS * ADDERS);
    const int tid = (int)threadIdx.x, c = (int)blockIdx.x * CHANNELS + tid % CHANNELS;
    double *const mine = s_sum + 2 * tid;
    sum[0] = sum[1] = 0;
    if (c < C) {
#pragma unroll 4
        for (int p = tid / CHANNELS; p < parts; p += ADDERS) term(p, c, sum);
    }
    mine[0] = sum[0], mine[1] = sum[1];
    __syncthreads();
    for (int half = ADDERS / 2; half > 0; half /= 2) {
        if (tid < half * CHANNELS) {
            mine[0] += mine[2 * half * CHANNELS];
            mine[1] += mine[2 * half * CHANNELS + 1];
        }
        __syncthreads();
    }
    sum[0] = mine[0], sum[1] = mine[1];
    *channel = c;
    return tid < CHANNELS && c < C;
}

static __global__ void __launch_bounds__(CHANNELS *ADDERS)
    add_sums_kernel(int parts, int C, const struct pair *part, float *db) {
    double sum[2];
    int c;
    if (add_parts(parts, C, &c, sum,
                  [&](int p, int at, double s[2]) { s[0] += part[(size_t)p * C + at].x; }))
        db[c] = (float)(db[c] + sum[0]);
}

/* From sums of x and x^2 over `rows` rows. Rounding may leave less than 0; NaN stays. */
DEVICE void store_statistics(const double sum[2], double rows, float *mean, float *var) {
    const double mu = sum[0] / rows, v = sum[1] / rows - mu * mu;
    *mean = (float)mu;
    *var = v < 0 ? 0.0f : (float)v;
}

static __global__ void __launch_bounds__(CHANNELS *ADDERS)
    statistics_kernel(int parts, int C, double rows, const struct pair *part, float *mean,
                      float *var) {
    double sum[2];
    int c;
    if (add_parts(parts, C, &c, sum, [&](int p, int at, double s[2]) {
            const struct pair v = part[(size_t)p * C + at];
            s[0] += v.x, s[1] += v.y;
        }))
        store_statistics(sum, rows, mean + c, var + c);
}

/* Sums of n*mean, and of the squared deviations + n*mean^2. */
static __global__ void __launch_bounds__(CHANNELS *ADDERS)
    unit_statistics_kernel(int rows, int unit, int C, const float2 *part, float *mean, float *var) {
    double sum[2];
    int c;
    if (add_parts((rows - 1) / unit + 1, C, &c, sum, [&](int p, int at, double s[2]) {
            const float2 v = part[(size_t)p * C + at];
            const double n = min(unit, rows - p * unit);
            s[0] += n * (double)v.x;
            s[1] += (double)v.y + n * (double)v.x * (double)v.x;
        }))
        store_statistics(sum, rows, mean + c, var + c);
}

template <class PART>
static __global__ void __launch_bounds__(CHANNELS *ADDERS)
    gradient_sums_kernel(int parts, int C, double rows, const PART *part, struct ops_norm norm) {
    double sum[2];
    int c;
    if (!add_parts(parts, C, &c, sum, [&](int p, int at, double s[2]) {
            const PART v = part[(size_t)p * C + at];
            s[0] += (double)v.x, s[1] += (double)v.y;
        }))
        return;
    const double rstd = 1 / sqrt((double)norm.var[c] + norm.eps), a = norm.gamma[c] * rstd;
    norm.k[c] = (float)a;
    norm.k[C + c] = (float)(-a * rstd * rstd * sum[1] / rows);
    norm.k[2 * C + c] = (float)(-a * sum[0] / rows);
    norm.dgamma[c] = (float)(norm.dgamma[c] + sum[1] * rstd);
    norm.dbeta[c] = (float)(norm.dbeta[c] + sum[0]);
}

void norm_finish_stats(int rows, int unit, int C, const float2 *part, float *mean, float *var,
                       cudaStream_t stream) {
    LAUNCH(unit_statistics_kernel, (unsigned)cuda_ceil_div(C, CHANNELS), CHANNELS * ADDERS, 0,
           stream, rows, unit, C, part, mean, var);
}

void norm_finish_sums(int rows, int parts, int C, const float2 *part, const struct ops_norm *norm,
                      cudaStream_t stream) {
    LAUNCH((gradient_sums_kernel<float2>), (unsigned)cuda_ceil_div(C, CHANNELS), CHANNELS * ADDERS,
           0, stream, parts, C, (double)rows, part, *norm);
}

/* ------------------------------------------------------------------ scratch memory */

static size_t part_bytes(int rows, int C) {
    return (size_t)cuda_cut_rows(rows).parts * (size_t)C * sizeof(struct pair);
}

size_t cuda_column_ws(int rows, int C) {
    return cuda_room(part_bytes(rows, C));
}

/* Parts of float2 (tail.cu) have 16 rows at least, and these no more than 64. */
size_t cuda_norm_ws(struct ops_dev *dev, struct ops_blc s) {
    const size_t tail = cuda_tail_ws(s), columns = cuda_column_ws(s.B * s.L, s.C);
    (void)dev;
    return tail > columns ? tail : columns;
}

/* ------------------------------------------------------------------ entries */

/* How the kernels of a sum over rows are launched. */
struct columns {
    struct cuda_cut cut;
    dim3 grid, block, add; /* add: the grid of the second kernel */
};

static struct columns columns_of(int rows, int C) {
    struct columns k;
    k.cut = cuda_cut_rows(rows);
    k.grid = dim3((unsigned)cuda_ceil_div(C, 32), (unsigned)k.cut.parts);
    k.block = dim3(32, LANES);
    k.add = dim3((unsigned)cuda_ceil_div(C, CHANNELS));
    return k;
}

/* The first pass: part (parts, C). */
template <int WHAT>
static enum ecg_status launch_columns(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                      int rows, int C, const struct columns &k, const void *x,
                                      const void *dn, const float *mean, struct pair **part,
                                      struct ops_ws ws) {
    *part = (struct pair *)cuda_take(&ws, part_bytes(rows, C));
    if (!*part) return cuda_too_small(op, ws);
    if (dtype == OPS_F32)
        LAUNCH((column_kernel<0, WHAT>), k.grid, k.block, 0, dev->stream, rows, C, k.cut.rows, x,
               dn, mean, *part);
    else
        LAUNCH((column_kernel<1, WHAT>), k.grid, k.block, 0, dev->stream, rows, C, k.cut.rows, x,
               dn, mean, *part);
    return ECG_OK;
}

template <int WHAT>
static enum ecg_status add_columns(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                   int rows, int C, const void *x, const float *weight, float *db,
                                   struct ops_ws ws) {
    const struct columns k = columns_of(rows, C);
    struct pair *part;
    TRY(launch_columns<WHAT>(dev, op, dtype, rows, C, k, x, NULL, weight, &part, ws));
    LAUNCH(add_sums_kernel, k.add, CHANNELS * ADDERS, 0, dev->stream, k.cut.parts, C, part, db);
    const struct ops_blc s = {1, rows, C};
    return cuda_done_blc(dev, op, dtype, s);
}

enum ecg_status cuda_column_sums(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                 int rows, int C, const void *x, float *db, struct ops_ws ws) {
    return add_columns<SUM>(dev, op, dtype, rows, C, x, NULL, db, ws);
}

enum ecg_status cuda_weighted_sums(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                   int rows, int C, const void *x, const float *weight, float *db,
                                   struct ops_ws ws) {
    return add_columns<SUM_WEIGHTED>(dev, op, dtype, rows, C, x, weight, db, ws);
}

enum ecg_status cuda_norm_stats(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                const void *x, float *mean, float *var, struct ops_ws ws) {
    static const char *const op = "norm_stats";
    TRY(cuda_check_blc(op, dtype, s));
    const int rows = s.B * s.L;
    const struct columns k = columns_of(rows, s.C);
    struct pair *part;
    TRY(launch_columns<SUM_SQUARE>(dev, op, dtype, rows, s.C, k, x, NULL, NULL, &part, ws));
    LAUNCH(statistics_kernel, k.add, CHANNELS * ADDERS, 0, dev->stream, k.cut.parts, s.C,
           (double)rows, part, mean, var);
    return cuda_done_blc(dev, op, dtype, s);
}

enum ecg_status cuda_norm_sums(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                               const void *x, const void *dn, const struct ops_norm *norm,
                               struct ops_ws ws) {
    static const char *const op = "norm_sums";
    TRY(cuda_check_blc(op, dtype, s));
    const int rows = s.B * s.L;
    const struct columns k = columns_of(rows, s.C);
    struct pair *part;
    TRY(launch_columns<SUM_DOT>(dev, op, dtype, rows, s.C, k, x, dn, norm->mean, &part, ws));
    LAUNCH((gradient_sums_kernel<struct pair>), k.add, CHANNELS * ADDERS, 0, dev->stream,
           k.cut.parts, s.C, (double)rows, part, *norm);
    return cuda_done_blc(dev, op, dtype, s);
}

static __global__ void __launch_bounds__(THREADS)
    fold_kernel(int C, const float *mean, const float *var, const float *gamma, const float *beta,
                double eps, float *scale, float *shift, float *running_mean, float *running_var,
                double momentum, double rows) {
    const int c = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (c >= C) return;
    const double a = gamma[c] / sqrt(var[c] + eps);
    scale[c] = (float)a;
    shift[c] = (float)(beta[c] - mean[c] * a);
    if (!running_mean) return;
    const double unbiased = var[c] * rows / (rows - 1);
    running_mean[c] = (float)((1 - momentum) * running_mean[c] + momentum * mean[c]);
    running_var[c] = (float)((1 - momentum) * running_var[c] + momentum * unbiased);
}

enum ecg_status cuda_norm_fold(struct ops_dev *dev, int C, const float *mean, const float *var,
                               const float *gamma, const float *beta, double eps, float *scale,
                               float *shift, float *running_mean, float *running_var,
                               double momentum, double rows) {
    if (C < 1) return ecg_fail(ECG_ERR_FAIL, "cuda: norm_fold: no such shape: C %d", C);
    if (running_mean && !(rows > 1))
        return ecg_fail(
            ECG_ERR_FAIL,
            "cuda: norm_fold: batch statistics of %g row: the unbiased variance needs two", rows);
    LAUNCH(fold_kernel, cuda_blocks((size_t)C, THREADS), THREADS, 0, dev->stream, C, mean, var,
           gamma, beta, eps, scale, shift, running_mean, running_var, momentum, rows);
    return cuda_done_n(dev, "norm_fold", (size_t)C);
}
