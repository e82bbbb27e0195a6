/* SPDX-License-Identifier: MIT
 * Batch normalisation over the R = B * L rows of each channel. The sums run over a number of chunks of rows that the
 * shape fixes; the chunks' sums are added in their order, in double.
 *
 * Variance: each chunk sums squares about its own mean, so that a mean far from zero costs no digits; the
 * total about the common mean adds n_q (mean_q - mean)^2 of every chunk (Chan, Golub and LeVeque 1983).
 * Backward, with sum = sum of dn, dot = sum of dn (x - mean):
 *     dgamma += dot rstd,  dbeta += sum,
 *     dx = gamma rstd (dn - sum / R - (x - mean) rstd^2 dot / R). */
#include "kernels/cpu/cpu.h"

#include <math.h>

#define CHUNK_FLOATS 32768
#define MOST_CHUNKS  64

struct norm {
    struct ops_dev *dev;
    int C;
    size_t rows, n_chunks;
    enum ops_dtype dtype;
    const void *x, *dn;
    const float *mean; /* (C), backward */
    double *a, *b;     /* (n_chunks, C): sum of x and of squares; backward: sum and dot */
    float *chunk_mean; /* (n_chunks, C), forward */
    const float *k;    /* (3, C): of dn, of x - mean, constant; backward */
    int add;
    void *dx;
};

static struct norm plan(struct ops_dev *dev, struct ops_blc s) {
    struct norm j = {.dev = dev, .C = s.C, .rows = (size_t)s.B * s.L};
    j.n_chunks = j.rows * (size_t)s.C / CHUNK_FLOATS + 1;
    if (j.n_chunks > MOST_CHUNKS) j.n_chunks = MOST_CHUNKS;
    if (j.n_chunks > j.rows) j.n_chunks = j.rows;
    return j;
}

static void carve(struct norm *j, struct arena *arena) {
    const size_t n = j->n_chunks * (size_t)j->C;
    j->a = arena_carve(arena, n * sizeof(double));
    j->b = arena_carve(arena, n * sizeof(double));
    j->chunk_mean = arena_carve(arena, n * sizeof(float));
}

size_t cpu_norm_ws(struct ops_dev *dev, struct ops_blc s) {
    struct arena counted = {0};
    struct norm j = plan(dev, s);
    carve(&j, &counted);
    return counted.used;
}

/* Adds the chunks' rows to the first one's. */
static void add_chunks(double *sum, size_t n_chunks, int C) {
    for (size_t q = 1; q < n_chunks; q++) {
        for (int c = 0; c < C; c++) sum[c] += sum[q * (size_t)C + c];
    }
}

static void stats_task(void *context, size_t q, int worker) {
    const struct norm *j = context;
    const struct cpu_part rows = cpu_part(j->rows, j->n_chunks, q);
    const int C = j->C, n = (int)(rows.to - rows.from), half = j->dtype == OPS_BF16;
    const void *x = cpu_at(j->dtype, j->x, (int64_t)rows.from * C);
    double *sum = j->a + q * (size_t)C, *square = j->b + q * (size_t)C;
    float *mean = j->chunk_mean + q * (size_t)C;
    (void)worker;
    for (int c = 0; c < C; c++) sum[c] = square[c] = 0;
    j->dev->level->sum_rows(half, n, C, x, C, sum);
    for (int c = 0; c < C; c++) mean[c] = (float)(sum[c] / n);
    j->dev->level->deviation_rows(half, n, C, x, C, mean, square);
}

enum ecg_status cpu_norm_stats(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                               const void *x, float *mean, float *var, struct ops_ws ws) {
    struct arena arena;
    TRY(cpu_check_blc("norm_stats", dtype, s));
    struct norm j = plan(dev, s);
    TRY(cpu_scratch("norm_stats", ws, cpu_norm_ws(dev, s), &arena));
    carve(&j, &arena);
    j.dtype = dtype;
    j.x = x;
    cpu_run(dev, j.n_chunks, 3.0 * (double)j.rows * s.C, stats_task, &j);

    for (int c = 0; c < s.C; c++) {
        double sum = 0, square = 0;
        for (size_t q = 0; q < j.n_chunks; q++) sum += j.a[q * (size_t)s.C + c];
        const double mu = sum / (double)j.rows;
        for (size_t q = 0; q < j.n_chunks; q++) {
            const struct cpu_part rows = cpu_part(j.rows, j.n_chunks, q);
            const size_t at = q * (size_t)s.C + c;
            const double n = (double)(rows.to - rows.from), own = j.a[at] / n;
            const double slip =
                own - (double)j.chunk_mean[at]; /* the squares are about the rounded mean */
            square += j.b[at] - n * slip * slip + n * (own - mu) * (own - mu);
        }
        mean[c] = (float)mu;
        var[c] = (float)(square > 0 ? square / (double)j.rows : square * 0);
    }
    return ECG_OK;
}

enum ecg_status cpu_norm_fold(struct ops_dev *dev, int C, const float *mean, const float *var,
                              const float *gamma, const float *beta, double eps, float *scale,
                              float *shift, float *running_mean, float *running_var,
                              double momentum, double rows) {
    (void)dev;
    if (running_mean && !(rows > 1))
        return ecg_fail(
            ECG_ERR_FAIL,
            "cpu: norm_fold: batch statistics of %g row: the unbiased variance needs two", rows);
    for (int c = 0; c < C; c++) {
        const double a = gamma[c] / sqrt(var[c] + eps);
        scale[c] = (float)a;
        shift[c] = (float)(beta[c] - mean[c] * a);
        if (!running_mean) continue;
        const double unbiased = var[c] * rows / (rows - 1);
        running_mean[c] = (float)((1 - momentum) * running_mean[c] + momentum * mean[c]);
        running_var[c] = (float)((1 - momentum) * running_var[c] + momentum * unbiased);
    }
    return ECG_OK;
}

static void sums_task(void *context, size_t q, int worker) {
    const struct norm *j = context;
    const struct cpu_part rows = cpu_part(j->rows, j->n_chunks, q);
    const int C = j->C, n = (int)(rows.to - rows.from), half = j->dtype == OPS_BF16;
    const int64_t start = (int64_t)rows.from * C;
    const void *dn = cpu_at(j->dtype, j->dn, start), *x = cpu_at(j->dtype, j->x, start);
    double *sum = j->a + q * (size_t)C, *dot = j->b + q * (size_t)C;
    (void)worker;
    for (int c = 0; c < C; c++) sum[c] = dot[c] = 0;
    j->dev->level->sum_rows(half, n, C, dn, C, sum);
    j->dev->level->deviation_dot_rows(half, n, C, dn, x, C, j->mean, dot);
}

static void dx_task(void *context, size_t q, int worker) {
    const struct norm *j = context;
    const struct cpu_part rows = cpu_part(j->rows, j->n_chunks, q);
    const size_t C = (size_t)j->C;
    const int64_t start = (int64_t)(rows.from * C);
    const float *k = j->k;
    (void)worker;
    j->dev->level->affine_rows(j->dtype == OPS_BF16, (int)(rows.to - rows.from), j->C,
                               cpu_at(j->dtype, j->dn, start), cpu_at(j->dtype, j->x, start),
                               j->mean, k, k + C, k + 2 * C, j->add,
                               cpu_out(j->dtype, j->dx, start));
}

enum ecg_status cpu_norm_sums(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                              const void *x, const void *dn, const struct ops_norm *norm,
                              struct ops_ws ws) {
    struct arena arena;
    TRY(cpu_check_blc("norm_sums", dtype, s));
    struct norm j = plan(dev, s);
    TRY(cpu_scratch("norm_sums", ws, cpu_norm_ws(dev, s), &arena));
    carve(&j, &arena);
    j.dtype = dtype;
    j.x = x;
    j.dn = dn;
    j.mean = norm->mean;
    cpu_run(dev, j.n_chunks, 4.0 * (double)j.rows * s.C, sums_task, &j);
    add_chunks(j.a, j.n_chunks, s.C);
    add_chunks(j.b, j.n_chunks, s.C);

    const double rows = (double)j.rows;
    for (int c = 0; c < s.C; c++) {
        const double rstd = 1 / sqrt(norm->var[c] + norm->eps), a = norm->gamma[c] * rstd;
        norm->k[c] = (float)a;
        norm->k[s.C + c] = (float)(-a * rstd * rstd * j.b[c] / rows);
        norm->k[2 * s.C + c] = (float)(-a * j.a[c] / rows);
        norm->dgamma[c] = (float)(norm->dgamma[c] + j.b[c] * rstd);
        norm->dbeta[c] = (float)(norm->dbeta[c] + j.a[c]);
    }
    return ECG_OK;
}

enum ecg_status cpu_norm_dx(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                            const void *x, const void *dn, const struct ops_norm *norm,
                            const struct ops_side *side, void *dx) {
    TRY(cpu_check_blc("norm_dx", dtype, s));
    if (side) TRY(cpu_shortcut_bwd(dev, dtype, side->s, s.L, s.C, side->S, x, side->dy, dx));
    struct norm j = plan(dev, s);
    j.dtype = dtype;
    j.x = x;
    j.dn = dn;
    j.mean = norm->mean;
    j.k = norm->k;
    j.add = side != NULL;
    j.dx = dx;
    cpu_run(dev, j.n_chunks, 4.0 * (double)j.rows * s.C, dx_task, &j);
    return ECG_OK;
}
