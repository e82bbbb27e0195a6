/* SPDX-License-Identifier: MIT
 * Losses over a batch: the entries of kernels/loss.h in double, those that are unknown left out. A block sums a stretch of
 * the entries, a second kernel adds the blocks' sums. */
#include "kernels/cuda/cuda.cuh"

#include "kernels/cuda/element.cuh"
#include "kernels/loss.h"

#define LOSS_FN DEVICE
#include "kernels/loss_template.h"

#define THREADS 256

/* Part p of the sum over n entries of N columns. */
static __global__ void __launch_bounds__(THREADS)
    loss_kernel(struct ops_loss kind, int n, int N, int a_part, const float *logits,
                const uint8_t *labels, const float *targets, const float *column_scale,
                double inv_known, double *part, float *dlogits) {
    SHARED(double, s, THREADS);
    const int from = (int)blockIdx.x * a_part, to = min(n, from + a_part);
    double sum = 0;
    for (int i = from + (int)threadIdx.x; i < to; i += THREADS) {
        double dz = 0;
        if (targets) {
            const double unit = column_scale ? (double)column_scale[i % N] : 1;
            const double t = (double)targets[i];
            if (!isnan(t)) sum += loss_target(&kind, (double)logits[i], t, unit, &dz);
        } else if (labels[i] != OPS_LABEL_UNKNOWN) {
            sum += loss_label(&kind, (double)logits[i], labels[i], &dz);
        }
        if (dlogits) dlogits[i] = (float)(inv_known * dz);
    }
    sum = block_sum(sum, s);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

enum ecg_status cuda_loss(struct ops_dev *dev, const struct ops_loss *kind, int B, int N,
                          const float *logits, const uint8_t *labels, const float *targets,
                          const float *column_scale, double inv_known, double *loss_sum,
                          float *dlogits) {
    const int takes_targets = ops_loss_takes_targets(kind->kind);
    const struct ops_blc s = {B, 1, N};
    TRY(cuda_check_blc("loss", OPS_F32, s));
    if (takes_targets ? !targets : !labels)
        return ecg_fail(ECG_ERR_FAIL, "cuda: loss: kind %d without its labels or targets",
                        (int)kind->kind);
    const int n = B * N, a_part = cuda_max(THREADS, cuda_ceil_div(n, CUDA_MAX_PARTS)),
              parts = cuda_ceil_div(n, a_part);
    LAUNCH(loss_kernel, parts, THREADS, 0, dev->stream, *kind, n, N, a_part, logits, labels,
           takes_targets ? targets : NULL, column_scale, inv_known, dev->parts, dlogits);
    TRY(cuda_done_blc(dev, "loss", OPS_F32, s));
    return cuda_promise_scalar(dev, "loss", parts, 1, loss_sum);
}
