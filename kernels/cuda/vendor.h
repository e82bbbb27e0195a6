/* SPDX-License-Identifier: MIT
 * NVIDIA's libraries beside the backend's own kernels: cuBLAS for products of matrices, cuDNN for other convolutions. They
 * are opened by name when they are asked for, never linked, and what is used of them is declared here, so that no
 * header of theirs is needed; vendor_check.cu holds the declarations against the headers where those are installed.
 *
 * All work goes to one stream, with one block of scratch memory that belongs to the handles: the same call gives the same
 * bits each time on one kind of GPU with one version of the libraries. fp32 is never rounded to TF32 where that
 * changes it. */
#ifndef KERNELS_CUDA_VENDOR_H
#define KERNELS_CUDA_VENDOR_H

#include "kernels/cuda/compat.h"

#include "kernels/ops.h"

/* ------------------------------------------------------------------ what the libraries declare */

#define VENDOR_CUBLAS_FILE "libcublas.so.13"
#define VENDOR_CUDNN_FILE  "libcudnn.so.9"

/* Handles and descriptors are pointers, enums are int. */
enum {
    VENDOR_OK = 0, /* of both */
    /* cuBLAS */
    VENDOR_R_32F = 0,
    VENDOR_R_16BF = 14,
    VENDOR_OP_N = 0,
    VENDOR_OP_T = 1,
    VENDOR_COMPUTE_32F = 68,
    VENDOR_GEMM_DEFAULT = -1,
    VENDOR_NO_REDUCED_REDUCTION = 16, /* CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION, a flag */
    /* cuDNN */
    VENDOR_DATA_FLOAT = 0,
    VENDOR_TENSOR_NHWC = 1,
    VENDOR_CROSS_CORRELATION = 1,
    VENDOR_DEFAULT_MATH = 0, /* TF32 for fp32 */
    VENDOR_FMA_MATH = 3,
    VENDOR_DETERMINISTIC = 1,
    VENDOR_FWD_GEMM = 2,       /* CUDNN_CONVOLUTION_FWD_ALGO_GEMM, the last that multiplies as is */
    VENDOR_BWD_DATA_1 = 1,     /* CUDNN_CONVOLUTION_BWD_DATA_ALGO_1 */
    VENDOR_BWD_FILTER_1 = 1    /* CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1 */
};

/* One of cudnnConvolution{Fwd,BwdData,BwdFilter}AlgoPerf_t, which are alike. */
struct vendor_perf {
    int algo, status;
    float time;
    size_t memory;
    int determinism, math;
    int reserved[3];
};

typedef int vendor_create_fn(void **handle);
typedef int vendor_destroy_fn(void *handle);
typedef const char *vendor_text_fn(int status);
typedef int vendor_set_stream_fn(void *handle, cudaStream_t stream);
typedef int vendor_cublas_property_fn(int property, int *value);
typedef int vendor_cublas_workspace_fn(void *handle, void *p, size_t bytes);
typedef int vendor_cublas_math_fn(void *handle, int mode);
/* Column-major: C (m, n) = alpha * op(A) (m, k) * op(B) (k, n) + beta * C. */
typedef int vendor_cublas_gemm_fn(void *handle, int op_a, int op_b, int m, int n, int k,
                                  const void *alpha, const void *a, int type_a, int lda,
                                  const void *b, int type_b, int ldb, const void *beta, void *c,
                                  int type_c, int ldc, int compute, int algo);
typedef size_t vendor_cudnn_version_fn(void);
typedef int vendor_cudnn_tensor_fn(void *tensor, int format, int type, int n, int c, int h, int w);
typedef int vendor_cudnn_filter_fn(void *filter, int type, int format, int k, int c, int h, int w);
typedef int vendor_cudnn_conv_fn(void *conv, int pad_h, int pad_w, int stride_h, int stride_w,
                                 int dilation_h, int dilation_w, int mode, int compute);
typedef int vendor_cudnn_conv_int_fn(void *conv, int value);
/* Of forward (x, w, conv, y), data gradient (w, dy, conv, dx) and weight gradient (x, dy, conv, dw). */
typedef int vendor_cudnn_algo_fn(void *handle, void *one, void *two, void *conv, void *out,
                                 int wanted, int *found, struct vendor_perf *list);
typedef int vendor_cudnn_run_fn(void *handle, const void *alpha, void *one_desc, const void *one,
                                void *two_desc, const void *two, void *conv, int algo, void *ws,
                                size_t ws_bytes, const void *beta, void *out_desc, void *out);

/* ------------------------------------------------------------------ what the backend uses */

struct vendor;

/* Opens both libraries for a stream's work. ECG_ERR_FAIL says what is missing and what to do. */
enum ecg_status vendor_open(struct vendor **out, cudaStream_t stream);
void vendor_close(struct vendor *v); /* NULL is fine */
/* "13.1.0" and "9.19.0" */
const char *vendor_cublas_version(const struct vendor *v);
const char *vendor_cudnn_version(const struct vendor *v);

/* Y (M, N) = X (M, K) W (N, K)^T, all row by row; X, W of type `in`, Y of type `out`. */
enum ecg_status vendor_product(struct vendor *v, int M, int N, int K, enum ops_dtype in,
                               const void *x, const void *w, enum ops_dtype out, void *y);
/* dX (M, K) = dY (M, N) W (N, K), all of one type */
enum ecg_status vendor_product_x(struct vendor *v, int M, int N, int K, enum ops_dtype dtype,
                                 const void *dy, const void *w, void *dx);
/* dW (N, K) += dY (M, N)^T X (M, K), dW in fp32 */
enum ecg_status vendor_product_w(struct vendor *v, int M, int N, int K, enum ops_dtype dtype,
                                 const void *x, const void *dy, float *dw);

/* A convolution without padding in fp32, channels last: x (B, Lin, Cin), w (Cout, K, Cin/G), y (B, Lout, Cout),
 * Lin = (Lout-1)*S + K. `exact`: factors are bf16 numbers, which TF32 holds as they are, so that tensor cores may multiply. */
struct vendor_conv {
    int B, Lin, Lout, Cin, Cout, K, S, G;
    int exact;
};
enum vendor_pass { VENDOR_FWD, VENDOR_BWD_X, VENDOR_BWD_W };

/* FWD (x, w): out = y; BWD_X (w, dy): out = dx; BWD_W (x, dy): out = dw. ECG_ERR_FAIL where cuDNN has no deterministic
 * way within the scratch memory. */
enum ecg_status vendor_convolve(struct vendor *v, enum vendor_pass pass, struct vendor_conv s,
                                const float *one, const float *two, float *out);

#endif
