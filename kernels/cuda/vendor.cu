/* SPDX-License-Identifier: MIT
 * Opens cuBLAS and cuDNN and calls them. */
#include "kernels/cuda/vendor.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda.cuh"

/* Scratch memory of both libraries: what cuBLAS takes for itself on a Hopper GPU. */
#define SCRATCH ((size_t)32 << 20)

/* Ways that are asked of cuDNN, and shapes whose way is remembered. */
#define MAX_WAYS 10

struct cublas {
    void *library, *handle;
    char version[32];
    vendor_create_fn *create;
    vendor_destroy_fn *destroy;
    vendor_text_fn *text;
    vendor_set_stream_fn *set_stream;
    vendor_cublas_property_fn *property;
    vendor_cublas_workspace_fn *workspace;
    vendor_cublas_math_fn *math;
    vendor_cublas_gemm_fn *gemm;
};

struct cudnn {
    void *library, *handle, *x, *y, *w, *conv;
    char version[32];
    vendor_create_fn *create, *create_tensor, *create_filter, *create_conv;
    vendor_destroy_fn *destroy, *destroy_tensor, *destroy_filter, *destroy_conv;
    vendor_text_fn *text;
    vendor_set_stream_fn *set_stream;
    vendor_cudnn_version_fn *get_version;
    vendor_cudnn_tensor_fn *set_tensor;
    vendor_cudnn_filter_fn *set_filter;
    vendor_cudnn_conv_fn *set_conv;
    vendor_cudnn_conv_int_fn *set_groups, *set_math;
    vendor_cudnn_algo_fn *algo[3]; /* by pass */
    vendor_cudnn_run_fn *run[3];
};

/* The way chosen for a shape. */
struct way {
    enum vendor_pass pass;
    struct vendor_conv s;
    int algo, math;
    size_t memory;
};

struct vendor {
    struct cublas blas;
    struct cudnn dnn;
    void *scratch; /* SCRATCH bytes on the device */
    struct way *ways;
    int n_ways, room;
};

/* ------------------------------------------------------------------ opening */

static enum ecg_status open_library(const char *name, const char *file, void **library) {
    *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (*library) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL,
                    "kernels.conv: %s can't be opened: %s; install it or put its folder into "
                    "LD_LIBRARY_PATH, or use kernels.conv: custom, which needs no library",
                    name, dlerror());
}

struct symbol {
    const char *name;
    void *to; /* a pointer to a function pointer */
};

static enum ecg_status take_symbols(void *library, const char *file, const struct symbol *list,
                                    size_t n) {
    for (size_t i = 0; i < n; i++) {
        void *symbol = dlsym(library, list[i].name);
        if (!symbol) return ecg_fail(ECG_ERR_FAIL, "kernels.conv: %s: %s", file, dlerror());
        memcpy(list[i].to, &symbol, sizeof symbol);
    }
    return ECG_OK;
}

static enum ecg_status check_cublas(const struct cublas *b, int status, const char *what) {
    if (status == VENDOR_OK) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "cuda: cuBLAS: %s: %s", what, b->text(status));
}

static enum ecg_status check_cudnn(const struct cudnn *d, int status, const char *what) {
    if (status == VENDOR_OK) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "cuda: cuDNN: %s: %s", what, d->text(status));
}

static enum ecg_status open_cublas(struct cublas *b, cudaStream_t stream, void *scratch) {
    const struct symbol symbols[] = {
        {"cublasCreate_v2", &b->create},     {"cublasDestroy_v2", &b->destroy},
        {"cublasGetStatusString", &b->text}, {"cublasSetStream_v2", &b->set_stream},
        {"cublasGetProperty", &b->property}, {"cublasSetWorkspace_v2", &b->workspace},
        {"cublasSetMathMode", &b->math},     {"cublasGemmEx", &b->gemm},
    };
    int v[3];
    TRY(open_library("cuBLAS", VENDOR_CUBLAS_FILE, &b->library));
    TRY(take_symbols(b->library, VENDOR_CUBLAS_FILE, symbols, sizeof(symbols) / sizeof(*symbols)));
    for (int i = 0; i < 3; i++) TRY(check_cublas(b, b->property(i, &v[i]), "its version"));
    snprintf(b->version, sizeof b->version, "%d.%d.%d", v[0], v[1], v[2]);
    TRY(check_cublas(b, b->create(&b->handle), "opening it"));
    TRY(check_cublas(b, b->set_stream(b->handle, stream), "setting its stream"));
    /* After the stream, which takes the library's own memory again. */
    TRY(check_cublas(b, b->workspace(b->handle, scratch, SCRATCH), "setting its memory"));
    return check_cublas(b, b->math(b->handle, VENDOR_NO_REDUCED_REDUCTION), "setting its mode");
}

static enum ecg_status make_descriptors(struct cudnn *d) {
    static const char *const what = "making a descriptor";
    TRY(check_cudnn(d, d->create_tensor(&d->x), what));
    TRY(check_cudnn(d, d->create_tensor(&d->y), what));
    TRY(check_cudnn(d, d->create_filter(&d->w), what));
    return check_cudnn(d, d->create_conv(&d->conv), what);
}

static enum ecg_status open_cudnn(struct cudnn *d, cudaStream_t stream) {
    const struct symbol symbols[] = {
        {"cudnnCreate", &d->create},
        {"cudnnDestroy", &d->destroy},
        {"cudnnGetErrorString", &d->text},
        {"cudnnSetStream", &d->set_stream},
        {"cudnnGetVersion", &d->get_version},
        {"cudnnCreateTensorDescriptor", &d->create_tensor},
        {"cudnnDestroyTensorDescriptor", &d->destroy_tensor},
        {"cudnnCreateFilterDescriptor", &d->create_filter},
        {"cudnnDestroyFilterDescriptor", &d->destroy_filter},
        {"cudnnCreateConvolutionDescriptor", &d->create_conv},
        {"cudnnDestroyConvolutionDescriptor", &d->destroy_conv},
        {"cudnnSetTensor4dDescriptor", &d->set_tensor},
        {"cudnnSetFilter4dDescriptor", &d->set_filter},
        {"cudnnSetConvolution2dDescriptor", &d->set_conv},
        {"cudnnSetConvolutionGroupCount", &d->set_groups},
        {"cudnnSetConvolutionMathType", &d->set_math},
        {"cudnnGetConvolutionForwardAlgorithm_v7", &d->algo[VENDOR_FWD]},
        {"cudnnGetConvolutionBackwardDataAlgorithm_v7", &d->algo[VENDOR_BWD_X]},
        {"cudnnGetConvolutionBackwardFilterAlgorithm_v7", &d->algo[VENDOR_BWD_W]},
        {"cudnnConvolutionForward", &d->run[VENDOR_FWD]},
        {"cudnnConvolutionBackwardData", &d->run[VENDOR_BWD_X]},
        {"cudnnConvolutionBackwardFilter", &d->run[VENDOR_BWD_W]},
    };
    TRY(open_library("cuDNN", VENDOR_CUDNN_FILE, &d->library));
    TRY(take_symbols(d->library, VENDOR_CUDNN_FILE, symbols, sizeof(symbols) / sizeof(*symbols)));
    const size_t v = d->get_version();
    snprintf(d->version, sizeof d->version, "%zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
    TRY(check_cudnn(d, d->create(&d->handle), "opening it"));
    TRY(check_cudnn(d, d->set_stream(d->handle, stream), "setting its stream"));
    return make_descriptors(d);
}

enum ecg_status vendor_open(struct vendor **out, cudaStream_t stream) {
    struct vendor *v = (struct vendor *)calloc(1, sizeof *v);
    if (!v) return ecg_fail(ECG_ERR_NOMEM, "out of memory: %zu bytes", sizeof *v);
    enum ecg_status status =
        cuda_check(cudaMalloc(&v->scratch, SCRATCH), "allocating %zu bytes for cuBLAS", SCRATCH);
    if (status == ECG_OK) status = open_cublas(&v->blas, stream, v->scratch);
    if (status == ECG_OK) status = open_cudnn(&v->dnn, stream);
    if (status != ECG_OK) {
        vendor_close(v);
        return status;
    }
    *out = v;
    return ECG_OK;
}

/* The libraries stay loaded: they have memory and threads of their own that outlive a handle. */
void vendor_close(struct vendor *v) {
    if (!v) return;
    struct cudnn *d = &v->dnn;
    if (d->conv) d->destroy_conv(d->conv);
    if (d->w) d->destroy_filter(d->w);
    if (d->y) d->destroy_tensor(d->y);
    if (d->x) d->destroy_tensor(d->x);
    if (d->handle) d->destroy(d->handle);
    if (v->blas.handle) v->blas.destroy(v->blas.handle);
    if (v->scratch) cudaFree(v->scratch);
    free(v->ways);
    free(v);
}

const char *vendor_cublas_version(const struct vendor *v) {
    return v->blas.version;
}

const char *vendor_cudnn_version(const struct vendor *v) {
    return v->dnn.version;
}

/* ------------------------------------------------------------------ products */

static int type_of(enum ops_dtype dtype) {
    return dtype == OPS_F32 ? VENDOR_R_32F : VENDOR_R_16BF;
}

static enum ecg_status check_gemm(const struct cublas *b, int status, int M, int N, int K) {
    if (status == VENDOR_OK) return ECG_OK;
    return ecg_fail(ECG_ERR_FAIL, "cuda: cuBLAS: product of %d rows, N %d, K %d: %s", M, N, K,
                    b->text(status));
}

/* Row by row (M, N) is column by column (N, M), so that every product is written the other way round. */
enum ecg_status vendor_product(struct vendor *v, int M, int N, int K, enum ops_dtype in,
                               const void *x, const void *w, enum ops_dtype out, void *y) {
    const struct cublas *b = &v->blas;
    const float one = 1, zero = 0;
    const int type = type_of(in);
    return check_gemm(b,
                      b->gemm(b->handle, VENDOR_OP_T, VENDOR_OP_N, N, M, K, &one, w, type, K, x,
                              type, K, &zero, y, type_of(out), N, VENDOR_COMPUTE_32F,
                              VENDOR_GEMM_DEFAULT),
                      M, N, K);
}

enum ecg_status vendor_product_x(struct vendor *v, int M, int N, int K, enum ops_dtype dtype,
                                 const void *dy, const void *w, void *dx) {
    const struct cublas *b = &v->blas;
    const float one = 1, zero = 0;
    const int type = type_of(dtype);
    return check_gemm(b,
                      b->gemm(b->handle, VENDOR_OP_N, VENDOR_OP_N, K, M, N, &one, w, type, K, dy,
                              type, N, &zero, dx, type, K, VENDOR_COMPUTE_32F, VENDOR_GEMM_DEFAULT),
                      M, N, K);
}

enum ecg_status vendor_product_w(struct vendor *v, int M, int N, int K, enum ops_dtype dtype,
                                 const void *x, const void *dy, float *dw) {
    const struct cublas *b = &v->blas;
    const float one = 1;
    const int type = type_of(dtype);
    return check_gemm(b,
                      b->gemm(b->handle, VENDOR_OP_N, VENDOR_OP_T, K, N, M, &one, x, type, K, dy,
                              type, N, &one, dw, VENDOR_R_32F, K, VENDOR_COMPUTE_32F,
                              VENDOR_GEMM_DEFAULT),
                      M, N, K);
}

/* ------------------------------------------------------------------ convolutions */

static int same_shape(struct vendor_conv a, struct vendor_conv b) {
    return a.B == b.B && a.Lin == b.Lin && a.Lout == b.Lout && a.Cin == b.Cin && a.Cout == b.Cout &&
           a.K == b.K && a.S == b.S && a.G == b.G && a.exact == b.exact;
}

static enum ecg_status describe(struct cudnn *d, struct vendor_conv s) {
    static const char *const what = "describing a convolution";
    const int nhwc = VENDOR_TENSOR_NHWC, type = VENDOR_DATA_FLOAT;
    TRY(check_cudnn(d, d->set_tensor(d->x, nhwc, type, s.B, s.Cin, 1, s.Lin), what));
    TRY(check_cudnn(d, d->set_tensor(d->y, nhwc, type, s.B, s.Cout, 1, s.Lout), what));
    TRY(check_cudnn(d, d->set_filter(d->w, type, nhwc, s.Cout, s.Cin / s.G, 1, s.K), what));
    TRY(check_cudnn(d, d->set_conv(d->conv, 0, 0, 1, s.S, 1, 1, VENDOR_CROSS_CORRELATION, type),
                    what));
    TRY(check_cudnn(d, d->set_groups(d->conv, s.G), what));
    return check_cudnn(d, d->set_math(d->conv, s.exact ? VENDOR_DEFAULT_MATH : VENDOR_FMA_MATH),
                       what);
}

/* The descriptors of a pass's two inputs and its output. */
static void descriptors_of(const struct cudnn *d, enum vendor_pass pass, void *out[3]) {
    out[0] = pass == VENDOR_BWD_X ? d->w : d->x;
    out[1] = pass == VENDOR_FWD ? d->w : d->y;
    out[2] = pass == VENDOR_FWD ? d->y : pass == VENDOR_BWD_X ? d->x : d->w;
}

/* Sums of products in the order that the shape gives: no transforms, whose rounding is larger, and no atomics. */
static int is_fit(enum vendor_pass pass, const struct vendor_perf *p) {
    if (p->status != VENDOR_OK || p->determinism != VENDOR_DETERMINISTIC || p->memory > SCRATCH)
        return 0;
    if (p->math != VENDOR_DEFAULT_MATH && p->math != VENDOR_FMA_MATH) return 0; /* fp16 */
    if (pass == VENDOR_FWD) return p->algo <= VENDOR_FWD_GEMM;
    return p->algo == (pass == VENDOR_BWD_X ? VENDOR_BWD_DATA_1 : VENDOR_BWD_FILTER_1);
}

static enum ecg_status no_way(enum vendor_pass pass, struct vendor_conv s) {
    static const char *const names[] = {"output", "data gradient", "weight gradient"};
    return ecg_fail(ECG_ERR_FAIL,
                    "cuda: cuDNN has no deterministic way to the %s of B %d, Lout %d, Cin %d, Cout "
                    "%d, K %d, S %d, G %d; use kernels.conv: auto or custom",
                    names[pass], s.B, s.Lout, s.Cin, s.Cout, s.K, s.S, s.G);
}

static enum ecg_status keep(struct vendor *v, struct way way) {
    if (v->n_ways == v->room) {
        const int room = v->room > 0 ? 2 * v->room : 32;
        struct way *ways = (struct way *)realloc(v->ways, (size_t)room * sizeof *ways);
        if (!ways) return ecg_fail(ECG_ERR_NOMEM, "out of memory: %d convolutions", room);
        v->ways = ways;
        v->room = room;
    }
    v->ways[v->n_ways++] = way;
    return ECG_OK;
}

/* The first that fits of those that cuDNN advises, the fastest first; the descriptors describe s. */
static enum ecg_status find_way(struct vendor *v, enum vendor_pass pass, struct vendor_conv s,
                                struct way *out) {
    const struct cudnn *d = &v->dnn;
    struct vendor_perf list[MAX_WAYS];
    void *desc[3];
    int n = 0;
    for (int i = 0; i < v->n_ways; i++) {
        *out = v->ways[i];
        if (out->pass == pass && same_shape(out->s, s)) return ECG_OK;
    }
    descriptors_of(d, pass, desc);
    TRY(check_cudnn(
        d, d->algo[pass](d->handle, desc[0], desc[1], d->conv, desc[2], MAX_WAYS, &n, list),
        "choosing an algorithm"));
    for (int i = 0; i < n; i++) {
        if (!is_fit(pass, &list[i])) continue;
        *out = {pass, s, list[i].algo, s.exact ? list[i].math : VENDOR_FMA_MATH, list[i].memory};
        return keep(v, *out);
    }
    return no_way(pass, s);
}

enum ecg_status vendor_convolve(struct vendor *v, enum vendor_pass pass, struct vendor_conv s,
                                const float *one, const float *two, float *out) {
    struct cudnn *d = &v->dnn;
    const float alpha = 1, beta = 0;
    struct way way = {};
    void *desc[3];
    TRY(describe(d, s));
    TRY(find_way(v, pass, s, &way));
    TRY(check_cudnn(d, d->set_math(d->conv, way.math), "setting how it multiplies"));
    descriptors_of(d, pass, desc);
    return check_cudnn(d,
                       d->run[pass](d->handle, &alpha, desc[0], one, desc[1], two, d->conv,
                                    way.algo, v->scratch, way.memory, &beta, desc[2], out),
                       "a convolution");
}
