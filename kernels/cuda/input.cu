/* SPDX-License-Identifier: MIT
 * From a batch of stored records, int16 (B, leads of the file, L), to the network's input (B, L, C) in physical units,
 * normalised. A block takes a record: sums of the samples and of their squares, which are exact in 64-bit integers
 * whatever the order, then (v - mean) / (sd + 1e-8) in double for each output. */
#include "kernels/cuda/cuda.cuh"

#include "kernels/cuda/element.cuh"

#define THREADS   256
#define MAX_LEADS 1024

struct lead_list {
    uint16_t v[MAX_LEADS];
};

/* Sums over a block; all threads get them. */
DEVICE void block_sums(int64_t *sum, int64_t *square, int64_t *s) {
    const int tid = (int)threadIdx.x;
    s[tid] = *sum;
    s[THREADS + tid] = *square;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (tid < half) {
            s[tid] += s[tid + half];
            s[THREADS + tid] += s[THREADS + tid + half];
        }
        __syncthreads();
    }
    *sum = s[0];
    *square = s[THREADS];
    __syncthreads();
}

static __global__ void __launch_bounds__(THREADS)
    input_kernel(struct ops_blc s, int n_file_leads, const int16_t *ecg, const float *scale,
                 struct lead_list lead, int normalize, int bf16, void *x) {
    SHARED(int64_t, s_sum, 2 * THREADS);
    SHARED(double, s_mean, MAX_LEADS);
    SHARED(double, s_divisor, MAX_LEADS);
    const int b = (int)blockIdx.x, tid = (int)threadIdx.x;
    const int16_t *record = ecg + (size_t)b * n_file_leads * s.L;
    const double unit = (double)scale[b];

    for (int c = tid; c < s.C; c += THREADS) {
        s_mean[c] = 0;
        s_divisor[c] = 1;
    }
    __syncthreads();
    if (normalize != OPS_NORM_NONE) {
        int64_t sum = 0, square = 0;
        for (int c = 0; c < s.C; c++) {
            const int16_t *samples = record + (size_t)lead.v[c] * s.L;
            for (int l = tid; l < s.L; l += THREADS) {
                const int64_t v = samples[l];
                sum += v;
                square += v * v;
            }
            if (normalize == OPS_NORM_RECORD && c + 1 < s.C) continue;
            block_sums(&sum, &square, s_sum);
            const double n = normalize == OPS_NORM_RECORD ? (double)s.C * s.L : (double)s.L;
            const double mean = (double)sum / n, var = ((double)square - (double)sum * mean) / n;
            const double sd = var > 0 ? sqrt(var) : 0;
            const int from = normalize == OPS_NORM_RECORD ? 0 : c;
            for (int to = from + tid; to <= c; to += THREADS) {
                s_mean[to] = mean * unit;
                s_divisor[to] = sd * fabs(unit) + 1e-8;
            }
            sum = square = 0;
        }
        __syncthreads();
    }
    const int size = s.L * s.C;
    for (int i = tid; i < size; i += THREADS) {
        const int l = i / s.C, c = i - l * s.C;
        const double v = record[(size_t)lead.v[c] * s.L + l] * unit;
        const float y = (float)((v - s_mean[c]) / s_divisor[c]);
        const size_t at = (size_t)b * size + i;
        if (bf16)
            store_one<1>(x, at, y);
        else
            store_one<0>(x, at, y);
    }
}

enum ecg_status cuda_input_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                               int n_file_leads, const int16_t *ecg, const float *scale,
                               const int *lead, enum ops_normalize normalize, void *x) {
    struct lead_list list = {};
    TRY(cuda_check_blc("input_fwd", dtype, s));
    if (s.C > MAX_LEADS || n_file_leads > UINT16_MAX)
        return ecg_fail(ECG_ERR_FAIL, "cuda: input_fwd: %d leads of %d: %d of %d at most", s.C,
                        n_file_leads, MAX_LEADS, UINT16_MAX);
    for (int c = 0; c < s.C; c++) {
        if (lead[c] < 0 || lead[c] >= n_file_leads)
            return ecg_fail(ECG_ERR_FAIL, "cuda: input_fwd: channel %d takes lead %d of %d", c,
                            lead[c], n_file_leads);
        list.v[c] = (uint16_t)lead[c];
    }
    LAUNCH(input_kernel, s.B, THREADS, 0, dev->stream, s, n_file_leads, ecg, scale, list,
           (int)normalize, dtype == OPS_BF16, x);
    return cuda_done_blc(dev, "input_fwd", dtype, s);
}
