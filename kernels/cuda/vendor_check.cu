/* SPDX-License-Identifier: MIT
 * Holds vendor.h and sums.h against the libraries' own headers, where nvcc finds them. Nothing of this is in the plug-in. */
#include "kernels/cuda/vendor.h"

#include "kernels/cuda/sums.h"

#if !defined(EINTHOVEN_EMU) && defined(__has_include)

#include <type_traits>

/* A type as it is passed: every enum is int, every pointer void *. */
template <class T> struct passed {
    using type = std::conditional_t<std::is_enum<T>::value, int,
                                    std::conditional_t<std::is_pointer<T>::value, void *, T>>;
};
template <class R, class... P> struct passed<R(P...)> {
    using type = typename passed<R>::type(typename passed<P>::type...);
};
template <class Ours, class Theirs> static constexpr bool alike() {
    return std::is_same<typename passed<Ours>::type,
                        typename passed<std::remove_reference_t<Theirs>>::type>::value;
}
#define ALIKE(ours, theirs) static_assert(alike<ours, decltype(theirs)>(), #theirs)
#define EQUAL(ours, theirs) static_assert((int)ours == (int)theirs, #theirs)

#if __has_include(<nccl.h>)
#include <nccl.h>

template <> struct passed<ncclUniqueId> { using type = struct nccl_id; };
static_assert(sizeof(ncclUniqueId) == sizeof(struct nccl_id), "ncclUniqueId");
ALIKE(nccl_version_fn, ncclGetVersion);
ALIKE(nccl_id_fn, ncclGetUniqueId);
ALIKE(nccl_init_fn, ncclCommInitRankConfig);
ALIKE(nccl_comm_fn, ncclCommFinalize);
ALIKE(nccl_comm_fn, ncclCommDestroy);
ALIKE(nccl_comm_fn, ncclCommAbort);
ALIKE(nccl_async_fn, ncclCommGetAsyncError);
ALIKE(nccl_text_fn, ncclGetErrorString);
ALIKE(nccl_last_fn, ncclGetLastError);
ALIKE(nccl_sum_fn, ncclAllReduce);
EQUAL(NCCL_OK, ncclSuccess);
EQUAL(NCCL_IN_PROGRESS, ncclInProgress);
EQUAL(NCCL_FLOAT, ncclFloat);
EQUAL(NCCL_SUM, ncclSum);
EQUAL(NCCL_CONFIG_VERSION, NCCL_VERSION(2, 14, 0));
static_assert(offsetof(struct nccl_config, size) == offsetof(ncclConfig_t, size) &&
                  offsetof(struct nccl_config, magic) == offsetof(ncclConfig_t, magic) &&
                  offsetof(struct nccl_config, version) == offsetof(ncclConfig_t, version) &&
                  offsetof(struct nccl_config, blocking) == offsetof(ncclConfig_t, blocking),
              "ncclConfig_t");
static constexpr ncclConfig_t initial_config = NCCL_CONFIG_INITIALIZER;
static_assert(initial_config.magic == (unsigned)NCCL_MAGIC, "its magic");
#endif

#if __has_include(<cublas_v2.h>) && __has_include(<cudnn.h>)

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#pragma nv_diag_suppress 1444 /* the same for nvcc's own front end: cuDNN calls the functions that everybody uses deprecated */

#include <cublas_v2.h>
#include <cudnn.h>

ALIKE(vendor_create_fn, cublasCreate_v2);
ALIKE(vendor_destroy_fn, cublasDestroy_v2);
ALIKE(vendor_text_fn, cublasGetStatusString);
ALIKE(vendor_set_stream_fn, cublasSetStream_v2);
ALIKE(vendor_cublas_property_fn, cublasGetProperty);
ALIKE(vendor_cublas_workspace_fn, cublasSetWorkspace_v2);
ALIKE(vendor_cublas_math_fn, cublasSetMathMode);
/* In C++ there are two of this name. */
typedef cublasStatus_t theirs_gemm(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int,
                                   int, const void *, const void *, cudaDataType, int, const void *,
                                   cudaDataType, int, const void *, void *, cudaDataType, int,
                                   cublasComputeType_t, cublasGemmAlgo_t);
ALIKE(vendor_cublas_gemm_fn, *static_cast<theirs_gemm *>(cublasGemmEx));

ALIKE(vendor_create_fn, cudnnCreate);
ALIKE(vendor_create_fn, cudnnCreateTensorDescriptor);
ALIKE(vendor_create_fn, cudnnCreateFilterDescriptor);
ALIKE(vendor_create_fn, cudnnCreateConvolutionDescriptor);
ALIKE(vendor_destroy_fn, cudnnDestroy);
ALIKE(vendor_destroy_fn, cudnnDestroyTensorDescriptor);
ALIKE(vendor_destroy_fn, cudnnDestroyFilterDescriptor);
ALIKE(vendor_destroy_fn, cudnnDestroyConvolutionDescriptor);
ALIKE(vendor_text_fn, cudnnGetErrorString);
ALIKE(vendor_set_stream_fn, cudnnSetStream);
ALIKE(vendor_cudnn_version_fn, cudnnGetVersion);
ALIKE(vendor_cudnn_tensor_fn, cudnnSetTensor4dDescriptor);
ALIKE(vendor_cudnn_filter_fn, cudnnSetFilter4dDescriptor);
ALIKE(vendor_cudnn_conv_fn, cudnnSetConvolution2dDescriptor);
ALIKE(vendor_cudnn_conv_int_fn, cudnnSetConvolutionGroupCount);
ALIKE(vendor_cudnn_conv_int_fn, cudnnSetConvolutionMathType);
ALIKE(vendor_cudnn_algo_fn, cudnnGetConvolutionForwardAlgorithm_v7);
ALIKE(vendor_cudnn_algo_fn, cudnnGetConvolutionBackwardDataAlgorithm_v7);
ALIKE(vendor_cudnn_algo_fn, cudnnGetConvolutionBackwardFilterAlgorithm_v7);
ALIKE(vendor_cudnn_run_fn, cudnnConvolutionForward);
ALIKE(vendor_cudnn_run_fn, cudnnConvolutionBackwardData);
ALIKE(vendor_cudnn_run_fn, cudnnConvolutionBackwardFilter);

EQUAL(VENDOR_OK, CUBLAS_STATUS_SUCCESS);
EQUAL(VENDOR_OK, CUDNN_STATUS_SUCCESS);
EQUAL(VENDOR_R_32F, CUDA_R_32F);
EQUAL(VENDOR_R_16BF, CUDA_R_16BF);
EQUAL(VENDOR_OP_N, CUBLAS_OP_N);
EQUAL(VENDOR_OP_T, CUBLAS_OP_T);
EQUAL(VENDOR_COMPUTE_32F, CUBLAS_COMPUTE_32F);
EQUAL(VENDOR_GEMM_DEFAULT, CUBLAS_GEMM_DEFAULT);
EQUAL(VENDOR_NO_REDUCED_REDUCTION, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
EQUAL(0, CUBLAS_DEFAULT_MATH);
EQUAL(0, MAJOR_VERSION);
EQUAL(VENDOR_DATA_FLOAT, CUDNN_DATA_FLOAT);
EQUAL(VENDOR_TENSOR_NHWC, CUDNN_TENSOR_NHWC);
EQUAL(VENDOR_CROSS_CORRELATION, CUDNN_CROSS_CORRELATION);
EQUAL(VENDOR_DEFAULT_MATH, CUDNN_DEFAULT_MATH);
EQUAL(VENDOR_FMA_MATH, CUDNN_FMA_MATH);
EQUAL(VENDOR_DETERMINISTIC, CUDNN_DETERMINISTIC);
EQUAL(VENDOR_FWD_GEMM, CUDNN_CONVOLUTION_FWD_ALGO_GEMM);
EQUAL(VENDOR_BWD_DATA_1, CUDNN_CONVOLUTION_BWD_DATA_ALGO_1);
EQUAL(VENDOR_BWD_FILTER_1, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1);
static_assert(CUDNN_MAJOR == 9, VENDOR_CUDNN_FILE);
static_assert(CUBLAS_VER_MAJOR == 13, VENDOR_CUBLAS_FILE);

#define SAME_PERF(theirs)                                                                          \
    static_assert(sizeof(struct vendor_perf) == sizeof(theirs) &&                                  \
                      offsetof(struct vendor_perf, algo) == offsetof(theirs, algo) &&              \
                      offsetof(struct vendor_perf, status) == offsetof(theirs, status) &&          \
                      offsetof(struct vendor_perf, time) == offsetof(theirs, time) &&              \
                      offsetof(struct vendor_perf, memory) == offsetof(theirs, memory) &&          \
                      offsetof(struct vendor_perf, determinism) ==                                 \
                          offsetof(theirs, determinism) &&                                         \
                      offsetof(struct vendor_perf, math) == offsetof(theirs, mathType),            \
                  #theirs)
SAME_PERF(cudnnConvolutionFwdAlgoPerf_t);
SAME_PERF(cudnnConvolutionBwdDataAlgoPerf_t);
SAME_PERF(cudnnConvolutionBwdFilterAlgoPerf_t);

#endif
#endif
