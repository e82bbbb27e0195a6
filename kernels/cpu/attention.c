/* SPDX-License-Identifier: MIT
 * Attention pooling. A task has a sample, or, where the batch is summed over, a strip of channels; sums are in double, in an
 * order that depends on nothing but C. Next to the convolutions before it there is little to do: plain loops will do. */
#include "kernels/cpu/cpu.h"

#include <math.h>

#include "kernels/bf16.h"

enum {
    STRIP = 256, /* channels handled at once */
    SUMS = 8     /* partial sums of a row */
};

struct attention {
    const struct level *v;
    enum ops_dtype dtype;
    struct ops_blc s;
    const void *x;
    const float *w, *a, *dm;
    float *new_a, *m; /* forward */
    float *de, *dw;   /* backward */
    void *dx;
};

/* n channels from c0 on of row `row` as floats; `strip` is room for them. */
static const float *row_strip(const struct attention *j, size_t row, int c0, int n, float *strip) {
    const void *x = cpu_at(j->dtype, j->x, (int64_t)row * j->s.C + c0);
    if (j->dtype == OPS_F32) return x;
    j->v->widen((size_t)n, x, strip);
    return strip;
}

/* sum over C of v*x in row `row`. */
static double row_dot(const struct attention *j, size_t row, const float *v) {
    double part[SUMS] = {0}, sum = 0;
    float strip[STRIP];
    for (int c0 = 0; c0 < j->s.C; c0 += STRIP) {
        const int n = cpu_min(STRIP, j->s.C - c0);
        const float *x = row_strip(j, row, c0, n, strip);
        int c = 0;
        for (; c + SUMS <= n; c += SUMS)
            for (int i = 0; i < SUMS; i++) part[i] += (double)v[c0 + c + i] * (double)x[c + i];
        for (int i = 0; c + i < n; i++) part[i] += (double)v[c0 + c + i] * (double)x[c + i];
    }
    for (int i = 0; i < SUMS; i++) sum += part[i];
    return sum;
}

/* sum[c] = sum over rows [from, to) of weight*x, channels [c0, c0 + n). */
static void weighted_sum(const struct attention *j, const float *weight, size_t from, size_t to,
                         int c0, int n, double sum[STRIP]) {
    float strip[STRIP];
    for (int c = 0; c < n; c++) sum[c] = 0;
    for (size_t row = from; row < to; row++) {
        const float *x = row_strip(j, row, c0, n, strip);
        for (int c = 0; c < n; c++) sum[c] += (double)weight[row] * (double)x[c];
    }
}

/* Scores to their softmax, in place; the largest is taken off, so that no exponential overflows. */
static void softmax(int n, float *e) {
    float most = e[0];
    double total = 0;
    for (int i = 1; i < n; i++) most = fmaxf(most, e[i]);
    for (int i = 0; i < n; i++) total += e[i] = expf(e[i] - most);
    for (int i = 0; i < n; i++) e[i] = (float)(e[i] / total);
}

static void forward_task(void *context, size_t b, int worker) {
    const struct attention *j = context;
    const int L = j->s.L, C = j->s.C;
    const size_t from = b * (size_t)L;
    double sum[STRIP];
    (void)worker;
    for (int l = 0; l < L; l++) j->new_a[from + l] = (float)row_dot(j, from + l, j->w);
    softmax(L, j->new_a + from);
    for (int c0 = 0; c0 < C; c0 += STRIP) {
        const int n = cpu_min(STRIP, C - c0);
        weighted_sum(j, j->a, from, from + L, c0, n, sum);
        for (int c = 0; c < n; c++) j->m[b * (size_t)C + c0 + c] = (float)sum[c];
    }
}

/* dx of one row. */
static void row_gradient(const struct attention *j, size_t row, const float *dm) {
    const int64_t at = (int64_t)row * j->s.C;
    const float a = j->a[row], de = j->de[row];
    if (j->dtype == OPS_F32) {
        float *dx = (float *)j->dx + at;
        for (int c = 0; c < j->s.C; c++) dx[c] = a * dm[c] + de * j->w[c];
    } else {
        uint16_t *dx = (uint16_t *)j->dx + at;
        for (int c = 0; c < j->s.C; c++) dx[c] = bf16_from_float(a * dm[c] + de * j->w[c]);
    }
}

static void backward_task(void *context, size_t b, int worker) {
    const struct attention *j = context;
    const int L = j->s.L;
    const size_t from = b * (size_t)L;
    const float *dm = j->dm + b * (size_t)j->s.C, *a = j->a + from;
    float *de = j->de + from;
    double mean = 0;
    (void)worker;
    for (int l = 0; l < L; l++) {
        de[l] = (float)row_dot(j, from + l, dm);
        mean += (double)a[l] * (double)de[l];
    }
    for (int l = 0; l < L; l++) de[l] = (float)(a[l] * (de[l] - mean));
    for (int l = 0; l < L && j->dx; l++) row_gradient(j, from + l, dm);
}

static void weights_task(void *context, size_t task, int worker) {
    const struct attention *j = context;
    const int c0 = (int)task * STRIP, n = cpu_min(STRIP, j->s.C - c0);
    double sum[STRIP];
    (void)worker;
    weighted_sum(j, j->de, 0, (size_t)j->s.B * j->s.L, c0, n, sum);
    for (int c = 0; c < n; c++) j->dw[c0 + c] = (float)(j->dw[c0 + c] + sum[c]);
}

static double elements(struct ops_blc s) {
    return (double)s.B * s.L * s.C;
}

enum ecg_status cpu_attention_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                  const void *x, const float *w, float *a, float *m) {
    TRY(cpu_check_blc("attention_fwd", dtype, s));
    struct attention j = {
        .v = dev->level, .dtype = dtype, .s = s, .x = x, .w = w, .a = a, .new_a = a, .m = m};
    cpu_run(dev, (size_t)s.B, 4 * elements(s), forward_task, &j);
    return ECG_OK;
}

enum ecg_status cpu_attention_bwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                                  const void *x, const float *w, const float *a, const float *dm,
                                  float *de, float *dw, void *dx, struct ops_ws ws) {
    (void)ws;
    TRY(cpu_check_blc("attention_bwd", dtype, s));
    struct attention j = {.v = dev->level,
                          .dtype = dtype,
                          .s = s,
                          .x = x,
                          .w = w,
                          .a = a,
                          .dm = dm,
                          .de = de,
                          .dw = dw,
                          .dx = dx};
    cpu_run(dev, (size_t)s.B, 4 * elements(s), backward_task, &j);
    if (dw) cpu_run(dev, cpu_ceil_div((size_t)s.C, STRIP), 2 * elements(s), weights_task, &j);
    return ECG_OK;
}
