/* SPDX-License-Identifier: MIT
 * The linear layer y = x w^T + b of the head and of squeeze and excitation: x (M, K), w (N, K), y (M, N).
 *
 *     dx[m,k] = sum over n of dy[m,n] * w[n,k]     dw[n,k] += sum over m of dy[m,n] * x[m,k]
 *     db[n]  += sum over m of dy[m,n] */
#include "kernels/ref/ref.h"

static enum ecg_status check_linear(const char *op, int M, int K, int N) {
    if (M >= 1 && K >= 1 && N >= 1) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "ref: %s: no such shape: M %d, K %d, N %d", op, M, K, N);
}

enum ecg_status ref_linear_fwd(struct ops_dev *dev, int M, int K, int N, const float *x,
                               const float *w, const float *b, float *y, struct ops_ws ws) {
    (void)dev, (void)ws;
    TRY(check_linear("linear_fwd", M, K, N));
    for (int m = 0; m < M; m++) {
        for (int n = 0; n < N; n++) {
            double sum = b[n];
            for (int k = 0; k < K; k++) sum += (double)x[(size_t)m * K + k] * w[(size_t)n * K + k];
            y[(size_t)m * N + n] = (float)sum;
        }
    }
    return ECG_OK;
}

enum ecg_status ref_linear_bwd_x(struct ops_dev *dev, int M, int K, int N, const float *dy,
                                 const float *w, float *dx, struct ops_ws ws) {
    (void)dev, (void)ws;
    TRY(check_linear("linear_bwd_x", M, K, N));
    for (int m = 0; m < M; m++) {
        for (int k = 0; k < K; k++) {
            double sum = 0;
            for (int n = 0; n < N; n++) sum += (double)dy[(size_t)m * N + n] * w[(size_t)n * K + k];
            dx[(size_t)m * K + k] = (float)sum;
        }
    }
    return ECG_OK;
}

enum ecg_status ref_linear_bwd_w(struct ops_dev *dev, int M, int K, int N, const float *x,
                                 const float *dy, float *dw, float *db, struct ops_ws ws) {
    (void)dev, (void)ws;
    TRY(check_linear("linear_bwd_w", M, K, N));
    for (int n = 0; n < N; n++) {
        for (int k = 0; k < K; k++) {
            double sum = 0;
            for (int m = 0; m < M; m++) sum += (double)dy[(size_t)m * N + n] * x[(size_t)m * K + k];
            dw[(size_t)n * K + k] = (float)(dw[(size_t)n * K + k] + sum);
        }
        double sum = 0;
        for (int m = 0; m < M; m++) sum += dy[(size_t)m * N + n];
        db[n] = (float)(db[n] + sum);
    }
    return ECG_OK;
}
