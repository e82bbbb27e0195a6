/* SPDX-License-Identifier: MIT
 * Sums and updates over the flat parameter arrays, as torch.optim.Adam, AdamW and SGD define them. */
#include "kernels/cuda/cuda.cuh"

#include "kernels/cuda/element.cuh"
#include "kernels/cuda/range.h"

#define THREADS 256

/* Part p of the sum of squares: a block over its own stretch of x. */
static __global__ void __launch_bounds__(THREADS)
    sumsq_kernel(size_t n, size_t a_part, const float *x, double *part) {
    SHARED(double, s, THREADS);
    const size_t from = blockIdx.x * a_part, to = from + a_part < n ? from + a_part : n;
    double v = 0;
    for (size_t i = from + threadIdx.x; i < to; i += THREADS) v += (double)x[i] * x[i];
    const double sum = block_sum(v, s);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

enum ecg_status cuda_sumsq(struct ops_dev *dev, size_t n, const float *x, double *sum) {
    *sum = 0;
    if (n == 0) return ECG_OK;
    const size_t least = 4 * THREADS, each = (n + CUDA_MAX_PARTS - 1) / CUDA_MAX_PARTS;
    const size_t a_part = each > least ? each : least;
    const int parts = cuda_blocks(n, (int)a_part);
    LAUNCH(sumsq_kernel, parts, THREADS, 0, dev->stream, n, a_part, x, dev->parts);
    TRY(cuda_done_n(dev, "sumsq", n));
    return cuda_promise_scalar(dev, "sumsq", parts, 0, sum);
}

static __global__ void __launch_bounds__(THREADS) scale_kernel(size_t n, double a, float *x) {
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n) x[i] = (float)(a * x[i]);
}

enum ecg_status cuda_scale(struct ops_dev *dev, size_t n, double a, float *x) {
    if (n == 0) return ECG_OK;
    LAUNCH(scale_kernel, cuda_blocks(n, THREADS), THREADS, 0, dev->stream, n, a, x);
    return cuda_done_n(dev, "scale", n);
}

/* A step's numbers, worked out once in double. */
struct adam_step {
    float beta1, rest1, beta2, rest2;
    float keep;  /* of w: 1 - lr*weight_decay when decoupled */
    float decay; /* added to the gradient, times w, when not */
    float step_size, root_correction, eps;
};

static __global__ void __launch_bounds__(THREADS)
    adam_kernel(size_t n, struct adam_step a, float *p, const float *g, float *m, float *v) {
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    const float w = p[i], d = g[i] + a.decay * w;
    const float mean = a.beta1 * m[i] + a.rest1 * d, square = a.beta2 * v[i] + a.rest2 * d * d;
    m[i] = mean;
    v[i] = square;
    p[i] = a.keep * w - a.step_size * mean / (sqrtf(square) / a.root_correction + a.eps);
}

enum ecg_status cuda_adam(struct ops_dev *dev, const struct ops_adam *a, size_t n, float *p,
                          const float *g, float *m, float *v) {
    if (n == 0) return ECG_OK;
    const struct cuda_range range("adam");
    struct adam_step k;
    k.beta1 = (float)a->beta1;
    k.rest1 = (float)(1 - a->beta1);
    k.beta2 = (float)a->beta2;
    k.rest2 = (float)(1 - a->beta2);
    k.keep = a->decoupled ? (float)(1 - a->lr * a->weight_decay) : 1.0f;
    k.decay = a->decoupled ? 0.0f : (float)a->weight_decay;
    k.step_size = (float)(a->lr / (1 - pow(a->beta1, (double)a->step)));
    k.root_correction = (float)sqrt(1 - pow(a->beta2, (double)a->step));
    k.eps = (float)a->eps;
    LAUNCH(adam_kernel, cuda_blocks(n, THREADS), THREADS, 0, dev->stream, n, k, p, g, m, v);
    return cuda_done_n(dev, "adam", n);
}

/* m NULL: no momentum. */
static __global__ void __launch_bounds__(THREADS)
    sgd_kernel(size_t n, float lr, float momentum, float weight_decay, int is_first, float *p,
               const float *g, float *m) {
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    float d = g[i] + weight_decay * p[i];
    if (m) {
        if (!is_first) d += momentum * m[i];
        m[i] = d;
    }
    p[i] -= lr * d;
}

enum ecg_status cuda_sgd(struct ops_dev *dev, double lr, double momentum, double weight_decay,
                         int64_t step, size_t n, float *p, const float *g, float *m) {
    if (n == 0) return ECG_OK;
    const struct cuda_range range("sgd");
    LAUNCH(sgd_kernel, cuda_blocks(n, THREADS), THREADS, 0, dev->stream, n, (float)lr,
           (float)momentum, (float)weight_decay, step == 1, p, g, momentum > 0 ? m : NULL);
    return cuda_done_n(dev, "sgd", n);
}

static __global__ void __launch_bounds__(THREADS)
    ema_kernel(size_t n, float rest, const float *p, float *average) {
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n) average[i] += rest * (p[i] - average[i]);
}

enum ecg_status cuda_ema(struct ops_dev *dev, size_t n, double decay, const float *p,
                         float *average) {
    if (n == 0) return ECG_OK;
    const struct cuda_range range("ema");
    LAUNCH(ema_kernel, cuda_blocks(n, THREADS), THREADS, 0, dev->stream, n, (float)(1 - decay), p,
           average);
    return cuda_done_n(dev, "ema", n);
}
