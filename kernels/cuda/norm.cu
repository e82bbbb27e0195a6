/* SPDX-License-Identifier: MIT
 * Batch normalisation over the R = B*L rows of each channel, and plain sums over rows.
 *
 * A column kernel sums over one part of the rows (cuda_cut_rows) in double: a block takes 32 channels, 8 threads each, a
 * thread every eighth row; the 8 sums are added in order, and the part's sums written. A second kernel adds the parts in
 * order and makes of them what the entry wants. With xhat = (x - mean) * rstd,
 *
 *     var = sum(x^2)/R - mean^2 (in double: floats squared are exact there)
 *     dx = gamma * rstd * (dn - mean(dn) - xhat * mean(dn * xhat)),   dgamma += sum dn*xhat,   dbeta += sum dn */
#include "kernels/cuda/cuda.cuh"

#include "kernels/cuda/element.cuh"

#define THREADS 256
#define LANES   8

/* What is summed over rows: x; x and x^2; dn and dn*xhat. */
enum { SUM, SUM_SQUARE, SUM_DOT };

/* ------------------------------------------------------------------ sums over rows */

/* part (parts, 2, C): the sums of this block's rows. */
template <int BF16, int WHAT>
static __global__ void __launch_bounds__(32 * LANES)
    column_kernel(int rows, int C, int rows_a_part, const void *x, const void *dn,
                  const float *mean, const float *var, double eps, double *part) {
    SHARED(double, s_sum, 2 * 32 * LANES);
    const int c = (int)(blockIdx.x * 32 + threadIdx.x), lane = (int)threadIdx.y;
    const int from = (int)blockIdx.y * rows_a_part, to = min(rows, from + rows_a_part);
    double sum = 0, other = 0;

    if (c < C) {
        const double mu = WHAT == SUM_DOT ? (double)mean[c] : 0;
        const double rstd = WHAT == SUM_DOT ? 1 / sqrt((double)var[c] + eps) : 0;
        for (int r = from + lane; r < to; r += LANES) {
            const size_t i = (size_t)r * C + c;
            const double v = (double)load_one<BF16>(x, i);
            if (WHAT == SUM_DOT) {
                const double d = (double)load_one<BF16>(dn, i);
                sum += d;
                other += d * ((v - mu) * rstd);
            } else {
                sum += v;
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
    part[(size_t)blockIdx.y * 2 * C + c] = sum;
    part[((size_t)blockIdx.y * 2 + 1) * C + c] = other;
}

/* The sums of all parts for 32 channels: thread (x, lane) adds every eighth part, then lane 0 the 8. True in the threads
 * that hold a channel's sums afterwards. */
DEVICE bool add_column_parts(int parts, int C, const double *part, double sum[2]) {
    SHARED(double, s_sum, 2 * 32 * LANES);
    const int c = (int)(blockIdx.x * 32 + threadIdx.x), lane = (int)threadIdx.y;
    sum[0] = sum[1] = 0;
    if (c < C) {
        for (int p = lane; p < parts; p += LANES) {
            sum[0] += part[(size_t)p * 2 * C + c];
            sum[1] += part[((size_t)p * 2 + 1) * C + c];
        }
    }
    s_sum[lane * 32 + threadIdx.x] = sum[0];
    s_sum[(LANES + lane) * 32 + threadIdx.x] = sum[1];
    __syncthreads();
    if (lane > 0 || c >= C) return false;
    for (int j = 1; j < LANES; j++) {
        sum[0] += s_sum[j * 32 + threadIdx.x];
        sum[1] += s_sum[(LANES + j) * 32 + threadIdx.x];
    }
    return true;
}

static __global__ void __launch_bounds__(32 * LANES)
    add_sums_kernel(int parts, int C, const double *part, float *db) {
    double sum[2];
    const int c = (int)(blockIdx.x * 32 + threadIdx.x);
    if (add_column_parts(parts, C, part, sum)) db[c] = (float)(db[c] + sum[0]);
}

static __global__ void __launch_bounds__(32 * LANES)
    statistics_kernel(int parts, int C, double rows, const double *part, float *mean, float *var) {
    double sum[2];
    const int c = (int)(blockIdx.x * 32 + threadIdx.x);
    if (!add_column_parts(parts, C, part, sum)) return;
    const double mu = sum[0] / rows, v = sum[1] / rows - mu * mu;
    mean[c] = (float)mu;
    var[c] = v < 0 ? 0.0f : (float)v;
}

/* means (2, C): mean(dn) and mean(dn * xhat). */
static __global__ void __launch_bounds__(32 * LANES)
    gradient_sums_kernel(int parts, int C, double rows, const double *part, float *means,
                         float *dgamma, float *dbeta) {
    double sum[2];
    const int c = (int)(blockIdx.x * 32 + threadIdx.x);
    if (!add_column_parts(parts, C, part, sum)) return;
    means[c] = (float)(sum[0] / rows);
    means[C + c] = (float)(sum[1] / rows);
    dbeta[c] = (float)(dbeta[c] + sum[0]);
    dgamma[c] = (float)(dgamma[c] + sum[1]);
}

/* ------------------------------------------------------------------ scratch memory */

static size_t part_bytes(int rows, int C) {
    return (size_t)cuda_cut_rows(rows).parts * 2 * (size_t)C * sizeof(double);
}

size_t cuda_column_ws(int rows, int C) {
    return cuda_room(part_bytes(rows, C));
}

size_t cuda_norm_ws(struct ops_dev *dev, struct ops_blc s) {
    (void)dev;
    return cuda_room(part_bytes(s.B * s.L, s.C)) + cuda_room(2 * (size_t)s.C * sizeof(float));
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
    k.add = dim3(k.grid.x);
    return k;
}

enum ecg_status cuda_column_sums(struct ops_dev *dev, const char *op, enum ops_dtype dtype,
                                 int rows, int C, const void *x, float *db, struct ops_ws ws) {
    const struct columns k = columns_of(rows, C);
    double *part = (double *)cuda_take(&ws, part_bytes(rows, C));
    if (!part) return cuda_too_small(op, ws);
    if (dtype == OPS_F32)
        LAUNCH((column_kernel<0, SUM>), k.grid, k.block, 0, dev->stream, rows, C, k.cut.rows, x,
               NULL, NULL, NULL, 0, part);
    else
        LAUNCH((column_kernel<1, SUM>), k.grid, k.block, 0, dev->stream, rows, C, k.cut.rows, x,
               NULL, NULL, NULL, 0, part);
    LAUNCH(add_sums_kernel, k.add, k.block, 0, dev->stream, k.cut.parts, C, part, db);
    const struct ops_blc s = {1, rows, C};
    return cuda_done_blc(dev, op, dtype, s);
}

enum ecg_status cuda_norm_stats(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                const void *x, float *mean, float *var, struct ops_ws ws) {
    TRY(cuda_check_blc("norm_stats", dtype, s));
    const int rows = s.B * s.L;
    const struct columns k = columns_of(rows, s.C);
    double *part = (double *)cuda_take(&ws, part_bytes(rows, s.C));
    if (!part) return cuda_too_small("norm_stats", ws);
    if (dtype == OPS_F32)
        LAUNCH((column_kernel<0, SUM_SQUARE>), k.grid, k.block, 0, dev->stream, rows, s.C,
               k.cut.rows, x, NULL, NULL, NULL, 0, part);
    else
        LAUNCH((column_kernel<1, SUM_SQUARE>), k.grid, k.block, 0, dev->stream, rows, s.C,
               k.cut.rows, x, NULL, NULL, NULL, 0, part);
    LAUNCH(statistics_kernel, k.add, k.block, 0, dev->stream, k.cut.parts, s.C, (double)rows, part,
           mean, var);
    return cuda_done_blc(dev, "norm_stats", dtype, s);
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

template <int BF16, int V>
static __global__ void __launch_bounds__(THREADS)
    norm_bwd_kernel(int C, unsigned n, const void *x, const void *dn, const float *mean,
                    const float *var, const float *gamma, double eps, const float *means, int add,
                    void *dx) {
    const unsigned t = blockIdx.x * THREADS + threadIdx.x;
    if (t >= n) return;
    const int c = (int)(t % ((unsigned)C / V)) * V;
    float v[V], d[V], before[V] = {};
    load_some<BF16, V>(x, (size_t)t * V, v);
    load_some<BF16, V>(dn, (size_t)t * V, d);
    if (add) load_some<BF16, V>(dx, (size_t)t * V, before);
#pragma unroll
    for (int j = 0; j < V; j++) {
        const float rstd = (float)(1 / sqrt(var[c + j] + eps)), xhat = (v[j] - mean[c + j]) * rstd;
        d[j] = gamma[c + j] * rstd * (d[j] - means[c + j] - xhat * means[C + c + j]) + before[j];
    }
    store_some<BF16, V>(dx, (size_t)t * V, d);
}

static void launch_norm_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                            const void *x, const void *dn, const float *mean, const float *var,
                            const float *gamma, double eps, const float *means, int add, void *dx) {
    const int width = cuda_width(s.C, 0, 0);
    const unsigned n = (unsigned)(cuda_elements(s) / width);
    const int blocks = cuda_blocks(n, THREADS);
    if (dtype == OPS_F32 && width == 8)
        LAUNCH((norm_bwd_kernel<0, 8>), blocks, THREADS, 0, dev->stream, s.C, n, x, dn, mean, var,
               gamma, eps, means, add, dx);
    else if (dtype == OPS_F32)
        LAUNCH((norm_bwd_kernel<0, 1>), blocks, THREADS, 0, dev->stream, s.C, n, x, dn, mean, var,
               gamma, eps, means, add, dx);
    else if (width == 8)
        LAUNCH((norm_bwd_kernel<1, 8>), blocks, THREADS, 0, dev->stream, s.C, n, x, dn, mean, var,
               gamma, eps, means, add, dx);
    else
        LAUNCH((norm_bwd_kernel<1, 1>), blocks, THREADS, 0, dev->stream, s.C, n, x, dn, mean, var,
               gamma, eps, means, add, dx);
}

enum ecg_status cuda_norm_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                              const void *x, const void *dn, const float *mean, const float *var,
                              const float *gamma, double eps, int add, void *dx, float *dgamma,
                              float *dbeta, struct ops_ws ws) {
    TRY(cuda_check_blc("norm_bwd", dtype, s));
    const int rows = s.B * s.L;
    const struct columns k = columns_of(rows, s.C);
    double *part = (double *)cuda_take(&ws, part_bytes(rows, s.C));
    float *means = (float *)cuda_take(&ws, 2 * (size_t)s.C * sizeof(float));
    if (!part || !means) return cuda_too_small("norm_bwd", ws);
    if (dtype == OPS_F32)
        LAUNCH((column_kernel<0, SUM_DOT>), k.grid, k.block, 0, dev->stream, rows, s.C, k.cut.rows,
               x, dn, mean, var, eps, part);
    else
        LAUNCH((column_kernel<1, SUM_DOT>), k.grid, k.block, 0, dev->stream, rows, s.C, k.cut.rows,
               x, dn, mean, var, eps, part);
    LAUNCH(gradient_sums_kernel, k.add, k.block, 0, dev->stream, k.cut.parts, s.C, (double)rows,
           part, means, dgamma, dbeta);
    launch_norm_bwd(dev, dtype, s, x, dn, mean, var, gamma, eps, means, add, dx);
    return cuda_done_blc(dev, "norm_bwd", dtype, s);
}
