/* SPDX-License-Identifier: MIT
 * A stand-in for cuDNN: convolutions of fp32 tensors, channels last, of one row, with sums in fp32. */
#include "library.h"

enum { OK = 0, BAD_PARAM = 2000, NOT_SUPPORTED = 3000 };
enum {
    DATA_FLOAT = 0,
    NHWC = 1,
    CROSS_CORRELATION = 1,
    DEFAULT_MATH = 0,
    FP16_MATH = 2,
    FMA_MATH = 3
};
enum pass { FORWARD, BACKWARD_DATA, BACKWARD_FILTER };
static const uint64_t alive = 0x6375646e;

struct handle {
    uint64_t alive;
    cudaStream_t stream;
};
/* A tensor (n, l, c), or a filter (n outputs, l taps, c inputs of a group). */
struct descriptor {
    int n, c, l;
};
struct convolution {
    int stride, groups, math;
};
/* cudnnConvolution*AlgoPerf_t */
struct perf {
    int algo, status;
    float time;
    size_t memory;
    int determinism, math;
    int reserved[3];
};

/* The convolution of a call. */
struct shape {
    struct descriptor x, y, w;
    struct convolution conv;
};

static size_t size_of(struct descriptor d) {
    return (size_t)d.n * (size_t)d.c * (size_t)d.l;
}

static bool is_one(const struct shape *s) {
    const int G = s->conv.groups;
    return size_of(s->x) > 0 && size_of(s->y) > 0 && size_of(s->w) > 0 && G > 0 &&
           s->conv.stride > 0 && s->x.n == s->y.n && s->x.c == s->w.c * G && s->y.c == s->w.n &&
           s->w.n % G == 0 && s->x.l >= s->w.l && s->y.l == (s->x.l - s->w.l) / s->conv.stride + 1;
}

/* Visits every product: element of x, of w and of y. */
template <class F> static void visit(const struct shape *s, F product) {
    const int per = s->w.n / s->conv.groups;
    for (int b = 0; b < s->y.n; b++)
        for (int l = 0; l < s->y.l; l++)
            for (int o = 0; o < s->y.c; o++)
                for (int k = 0; k < s->w.l; k++)
                    for (int c = 0; c < s->w.c; c++) {
                        const size_t row = (size_t)b * s->x.l + (size_t)l * s->conv.stride + k;
                        product(row * s->x.c + (size_t)(o / per) * s->w.c + c,
                                ((size_t)o * s->w.l + k) * s->w.c + c,
                                ((size_t)b * s->y.l + l) * s->y.c + o);
                    }
}

static void convolve(enum pass pass, struct shape s, const float *one, const float *two, float *out,
                     size_t n_one, size_t n_two, size_t n_out) {
    emu_moves(one, n_one * sizeof(float), false);
    emu_moves(two, n_two * sizeof(float), false);
    emu_moves(out, n_out * sizeof(float), true);
    for (size_t i = 0; i < n_out; i++) out[i] = 0;
    if (pass == FORWARD)
        visit(&s, [=](size_t x, size_t w, size_t y) { out[y] += one[x] * two[w]; });
    if (pass == BACKWARD_DATA)
        visit(&s, [=](size_t x, size_t w, size_t y) { out[x] += one[w] * two[y]; });
    if (pass == BACKWARD_FILTER)
        visit(&s, [=](size_t x, size_t w, size_t y) { out[w] += one[x] * two[y]; });
    if (emu_libraries_are("wrong")) out[0] = NAN;
}

/* What a pass's descriptors say, in its own order. */
static struct shape shape_of(enum pass pass, const void *one, const void *two, const void *conv,
                             const void *out) {
    const struct descriptor a = *(const struct descriptor *)one,
                            b = *(const struct descriptor *)two,
                            c = *(const struct descriptor *)out;
    const struct convolution how = *(const struct convolution *)conv;
    if (pass == FORWARD) return {a, c, b, how};
    if (pass == BACKWARD_DATA) return {c, b, a, how};
    return {a, b, c, how};
}

static const int steady[3] = {1, 1, 1}; /* by pass: an algorithm with a fixed order */

/* First one that has no fixed order, one that wants too much memory and one that rounds to fp16, which the backend must pass
 * over. */
static int advise(enum pass pass, const void *h, const void *one, const void *two, const void *conv,
                  const void *out, int wanted, int *found, struct perf *list) {
    const struct shape s = shape_of(pass, one, two, conv, out);
    if (((const struct handle *)h)->alive != alive || !is_one(&s) || wanted < 4)
        return emu_refuse(BAD_PARAM, "cudnnGet...Algorithm: shapes that don't belong together");
    const int math = s.conv.math;
    list[0] = {pass == FORWARD ? 4 : 0, OK, 0.1f, 0, pass == FORWARD, math, {}};
    list[1] = {steady[pass], OK, 0.2f, (size_t)1 << 40, 1, math, {}};
    list[2] = {steady[pass], OK, 0.3f, 4096, 1, FP16_MATH, {}};
    list[3] = {steady[pass], OK, 0.4f, 4096, 1, math, {}};
    *found = 4;
    return OK;
}

static int start(enum pass pass, void *h, const void *alpha, void *one_desc, const void *one,
                 void *two_desc, const void *two, void *conv, int algo, void *ws, size_t ws_bytes,
                 const void *beta, void *out_desc, void *out) {
    const struct shape s = shape_of(pass, one_desc, two_desc, conv, out_desc);
    const size_t n_one = size_of(*(struct descriptor *)one_desc),
                 n_two = size_of(*(struct descriptor *)two_desc),
                 n_out = size_of(*(struct descriptor *)out_desc);
    const struct handle *handle = (const struct handle *)h;
    if (handle->alive != alive || !is_one(&s))
        return emu_refuse(BAD_PARAM, "cudnnConvolution*: shapes that don't belong together");
    if (algo != steady[pass] || *(const float *)alpha != 1 || *(const float *)beta != 0 ||
        ws_bytes < 4096 || !emu_holds(ws, ws_bytes, 1))
        return emu_refuse(NOT_SUPPORTED, "cudnnConvolution*: algorithm %d, %zu bytes", algo,
                          ws_bytes);
    if (!emu_holds(one, n_one, 4) || !emu_holds(two, n_two, 4) || !emu_holds(out, n_out, 4))
        return emu_refuse(BAD_PARAM, "cudnnConvolution*: a tensor is not all there");
    emu_library_work(pass == FORWARD         ? "cudnnConvolutionForward"
                     : pass == BACKWARD_DATA ? "cudnnConvolutionBackwardData"
                                             : "cudnnConvolutionBackwardFilter",
                     handle->stream, [=] {
                         convolve(pass, s, (const float *)one, (const float *)two, (float *)out,
                                  n_one, n_two, n_out);
                     });
    return OK;
}

#define MAKE(name, type)                                                                           \
    int cudnnCreate##name##Descriptor(void **out) {                                                \
        *out = new type();                                                                         \
        return OK;                                                                                 \
    }                                                                                              \
    int cudnnDestroy##name##Descriptor(void *p) {                                                  \
        delete (type *)p;                                                                          \
        return OK;                                                                                 \
    }
#define PASS(pass, algorithm, run)                                                                 \
    int algorithm(void *h, void *one, void *two, void *conv, void *out, int wanted, int *found,    \
                  struct perf *list) {                                                             \
        return advise(pass, h, one, two, conv, out, wanted, found, list);                          \
    }                                                                                              \
    int run(void *h, const void *alpha, void *one_desc, const void *one, void *two_desc,           \
            const void *two, void *conv, int algo, void *ws, size_t bytes, const void *beta,       \
            void *out_desc, void *out) {                                                           \
        return start(pass, h, alpha, one_desc, one, two_desc, two, conv, algo, ws, bytes, beta,    \
                     out_desc, out);                                                               \
    }

extern "C" {

size_t cudnnGetVersion(void) {
    return 90100;
}

const char *cudnnGetErrorString(int status) {
    return status == OK ? "CUDNN_STATUS_SUCCESS" : "refused by the stand-in";
}

int cudnnCreate(void **out) {
    *out = new handle{alive, NULL};
    return OK;
}

int cudnnDestroy(void *p) {
    struct handle *h = (struct handle *)p;
    if (h == NULL || h->alive != alive) return emu_refuse(BAD_PARAM, "cudnnDestroy: no handle");
    h->alive = 0;
    delete h;
    return OK;
}

int cudnnSetStream(void *p, cudaStream_t stream) {
    ((struct handle *)p)->stream = stream;
    return OK;
}

MAKE(Tensor, descriptor)
MAKE(Filter, descriptor)
MAKE(Convolution, convolution)

int cudnnSetTensor4dDescriptor(void *p, int format, int type, int n, int c, int h, int w) {
    if (format != NHWC || type != DATA_FLOAT || h != 1)
        return emu_refuse(NOT_SUPPORTED, "cudnnSetTensor4d: format %d, type %d, height %d", format,
                          type, h);
    *(struct descriptor *)p = {n, c, w};
    return OK;
}

int cudnnSetFilter4dDescriptor(void *p, int type, int format, int k, int c, int h, int w) {
    return cudnnSetTensor4dDescriptor(p, format, type, k, c, h, w);
}

int cudnnSetConvolution2dDescriptor(void *p, int pad_h, int pad_w, int stride_h, int stride_w,
                                    int dilation_h, int dilation_w, int mode, int compute) {
    if (pad_h != 0 || pad_w != 0 || stride_h != 1 || dilation_h != 1 || dilation_w != 1 ||
        mode != CROSS_CORRELATION || compute != DATA_FLOAT)
        return emu_refuse(NOT_SUPPORTED, "cudnnSetConvolution2d: padding, dilation, mode or type");
    *(struct convolution *)p = {stride_w, 1, DEFAULT_MATH};
    return OK;
}

int cudnnSetConvolutionGroupCount(void *p, int groups) {
    ((struct convolution *)p)->groups = groups;
    return OK;
}

int cudnnSetConvolutionMathType(void *p, int math) {
    if (math != DEFAULT_MATH && math != FMA_MATH)
        return emu_refuse(NOT_SUPPORTED, "cudnnSetConvolutionMathType: %d", math);
    ((struct convolution *)p)->math = math;
    return OK;
}

PASS(FORWARD, cudnnGetConvolutionForwardAlgorithm_v7, cudnnConvolutionForward)
PASS(BACKWARD_DATA, cudnnGetConvolutionBackwardDataAlgorithm_v7, cudnnConvolutionBackwardData)
PASS(BACKWARD_FILTER, cudnnGetConvolutionBackwardFilterAlgorithm_v7, cudnnConvolutionBackwardFilter)
}
