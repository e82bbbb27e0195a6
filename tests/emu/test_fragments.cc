/* SPDX-License-Identifier: MIT
 * The wrappers of kernels/cuda/ptx.h and the warp functions against index formulas. */
#include <stdlib.h>

#include "kernels/cuda/ptx.h"

extern "C" {
#include "tests/support/check.h"
}

enum { pitch = 24 }; /* of rows in shared memory, in elements: an odd number of 16-byte units */

template <class T> static T *on_device(const T *host, size_t n) {
    T *p;
    CHECK(cudaMalloc(&p, n * sizeof(T)) == cudaSuccess);
    CHECK(cudaMemcpy(p, host, n * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
    return p;
}

template <class T> static void to_host(T *host, T *p, size_t n) {
    CHECK(cudaGetLastError() == cudaSuccess);
    CHECK(cudaMemcpy(host, p, n * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
    CHECK(cudaFree(p) == cudaSuccess);
}

/* A small integer that depends on i. */
static uint16_t number(unsigned i) {
    return emu_bf16((float)((int)(i * 2654435761u >> 20) % 17 - 8));
}

static float value(uint16_t h) {
    return __uint_as_float((uint32_t)h << 16);
}

static int thread(void) {
    return (int)threadIdx.x;
}

/* ---- mma from registers: a (16, 16) by rows, b (8, 16) by columns, d (16, 8) ---- */
static __global__ void mma_kernel(const uint16_t *a, const uint16_t *b, float *d) {
    const int g = thread() >> 2, q = thread() & 3;
    uint32_t fa[4], fb[2];
    for (int i = 0; i < 4; i++)
        fa[i] = *(const uint32_t *)&a[(g + 8 * (i & 1)) * 16 + 2 * q + 8 * (i >> 1)];
    for (int i = 0; i < 2; i++) fb[i] = *(const uint32_t *)&b[g * 16 + 2 * q + 8 * i];
    float fd[4] = {1, 2, 3, 4};
    mma_bf16(fd, fa, fb[0], fb[1]);
    for (int i = 0; i < 4; i++) d[(g + 8 * (i >> 1)) * 8 + 2 * q + (i & 1)] = fd[i];
}

static void mma_is_a_matrix_product(void) {
    uint16_t a[256], b[128];
    float d[128] = {};
    for (unsigned i = 0; i < 256; i++) a[i] = number(i);
    for (unsigned i = 0; i < 128; i++) b[i] = number(1000 + i);
    uint16_t *da = on_device(a, 256), *db = on_device(b, 128);
    float *dd = on_device(d, 128);
    LAUNCH(mma_kernel, 1, 32, 0, 0, da, db, dd);
    to_host(d, dd, 128);
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 8; column++) {
            float sum = (float)(1 + (column & 1) + 2 * (row >> 3));
            for (int k = 0; k < 16; k++) sum += value(a[row * 16 + k]) * value(b[column * 16 + k]);
            CHECK(d[row * 8 + column] == sum);
        }
}

static __global__ void mma_nan_kernel(float *d) {
    const uint32_t nan = thread() == 0 ? 0x7fc0u : 0; /* a[row 0][k 0] */
    const uint32_t a[4] = {nan, 0, 0, 0};
    float fd[4] = {0, 0, 0, 0};
    mma_bf16(fd, a, 0x3f803f80u, 0x3f803f80u);
    for (int i = 0; i < 4; i++) d[4 * thread() + i] = fd[i];
}

static void mma_spreads_nan_along_its_row_only(void) {
    float d[128] = {};
    float *dd = on_device(d, 128);
    LAUNCH(mma_nan_kernel, 1, 32, 0, 0, dd);
    to_host(d, dd, 128);
    for (int i = 0; i < 128; i++) {
        const bool row0 = i / 4 < 4 && i % 4 < 2;
        CHECK(row0 ? isnan(d[i]) : d[i] == 0.0f);
    }
}

/* ---- ldsm ---- */
/* 32 rows of 8 elements, in an order of their own; r (4, 32) */
static __global__ void ldsm_kernel(const uint16_t *in, uint32_t *r, int kind) {
    SHARED(uint16_t, s, 32 * pitch);
    for (int i = 0; i < 8; i++) s[thread() * pitch + i] = in[thread() * 8 + i];
    __syncwarp();
    const uint16_t *row = &s[(thread() * 5 % 32) * pitch];
    uint32_t f[4] = {0, 0, 0, 0};
    if (kind == 0)
        ldsm4(f, row);
    else if (kind == 1)
        ldsm4t(f, row);
    else
        ldsm2(f, row);
    for (int i = 0; i < 4; i++) r[32 * i + thread()] = f[i];
}

static void ldsm_case(int kind) {
    uint16_t in[256];
    uint32_t r[128] = {};
    for (unsigned i = 0; i < 256; i++) in[i] = (uint16_t)(i * 257);
    uint16_t *din = on_device(in, 256);
    uint32_t *dr = on_device(r, 128);
    LAUNCH(ldsm_kernel, 1, 32, 0, 0, din, dr, kind);
    to_host(r, dr, 128);
    for (int i = 0; i < 4; i++)
        for (int lane = 0; lane < 32; lane++) {
            const int g = lane >> 2, q = 2 * (lane & 3);
            /* element (row, column) of matrix i */
            const auto at = [&](int row, int column) {
                return (uint32_t)in[(8 * i + row) * 5 % 32 * 8 + column];
            };
            uint32_t wanted =
                kind == 1 ? at(q, g) | at(q + 1, g) << 16 : at(g, q) | at(g, q + 1) << 16;
            if (kind == 2 && i >= 2) wanted = 0;
            CHECK(r[32 * i + lane] == wanted);
        }
}

static void ldsm4_gives_rows(void) {
    ldsm_case(0);
}

static void ldsm4t_gives_columns(void) {
    ldsm_case(1);
}

static void ldsm2_gives_rows_of_two(void) {
    ldsm_case(2);
}

/* ---- products from shared memory: the four ways in which KERNELS.md reads operands ---- */
/* y[16 pos][16 out] = x[16 pos][16 in] w[16 out][16 in]^T */
static __global__ void forward_kernel(const uint16_t *x, const uint16_t *w, float *y) {
    SHARED(uint16_t, sx, 16 * pitch);
    SHARED(uint16_t, sw, 16 * pitch);
    const int lane = thread(), row = lane >> 1, half = 8 * (lane & 1);
    cp16(&sx[row * pitch + half], &x[row * 16 + half], true);
    cp16(&sw[row * pitch + half], &w[row * 16 + half], true);
    cp_commit();
    cp_wait<0>();
    __syncthreads();
    uint32_t a[4], b[4];
    ldsm4(a, &sx[(lane & 15) * pitch + 8 * (lane >> 4)]);
    ldsm4(b, &sw[((lane & 7) + 8 * (lane >> 4)) * pitch + 8 * (lane >> 3 & 1)]);
    for (int j = 0; j < 2; j++) {
        float d[4] = {0, 0, 0, 0};
        mma_bf16(d, a, b[2 * j], b[2 * j + 1]);
        for (int i = 0; i < 4; i++)
            y[((lane >> 2) + 8 * (i >> 1)) * 16 + 8 * j + 2 * (lane & 3) + (i & 1)] = d[i];
    }
}

/* dw[16 out][16 in] = g[16 pos][16 out]^T x[16 pos][16 in] */
static __global__ void weights_kernel(const uint16_t *g, const uint16_t *x, float *dw) {
    SHARED(uint16_t, sg, 16 * pitch);
    SHARED(uint16_t, sx, 16 * pitch);
    const int lane = thread(), row = lane >> 1, half = 8 * (lane & 1);
    cp16(&sg[row * pitch + half], &g[row * 16 + half], true);
    cp16(&sx[row * pitch + half], &x[row * 16 + half], true);
    cp_commit();
    cp_wait<0>();
    __syncthreads();
    uint32_t a[4], b[4];
    ldsm4t(a, &sg[((lane & 7) + 8 * (lane >> 4)) * pitch + 8 * (lane >> 3 & 1)]);
    ldsm4t(b, &sx[(lane & 15) * pitch + 8 * (lane >> 4)]);
    for (int j = 0; j < 2; j++) {
        float d[4] = {0, 0, 0, 0};
        mma_bf16(d, a, b[2 * j], b[2 * j + 1]);
        for (int i = 0; i < 4; i++)
            dw[((lane >> 2) + 8 * (i >> 1)) * 16 + 8 * j + 2 * (lane & 3) + (i & 1)] = d[i];
    }
}

static void operands_from_shared_memory(void) {
    uint16_t p[256], q[256];
    float y[256] = {}, dw[256] = {};
    for (unsigned i = 0; i < 256; i++) p[i] = number(i), q[i] = number(500 + i);
    uint16_t *dp = on_device(p, 256), *dq = on_device(q, 256);
    float *dy = on_device(y, 256), *ddw = on_device(dw, 256);
    LAUNCH(forward_kernel, 1, 32, 0, 0, dp, dq, dy);
    LAUNCH(weights_kernel, 1, 32, 0, 0, dp, dq, ddw);
    to_host(y, dy, 256);
    to_host(dw, ddw, 256);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) {
            float sum = 0, sum_t = 0;
            for (int k = 0; k < 16; k++) {
                sum += value(p[i * 16 + k]) * value(q[j * 16 + k]);
                sum_t += value(p[k * 16 + i]) * value(q[k * 16 + j]);
            }
            CHECK(y[i * 16 + j] == sum);
            CHECK(dw[i * 16 + j] == sum_t);
        }
}

/* ---- cp.async: a ring of two stages, and zero fill ---- */
static __global__ void ring_kernel(const float *in, float *out, int n) {
    SHARED(float, s, 2 * 32 * 4);
    const int t = thread();
    out += 32 * (n + 1) * (int)blockIdx.x;
    cp16(&s[4 * t], &in[4 * t], true);
    cp_commit();
    for (int i = 0; i < n; i++) {
        float *next = &s[128 * (~i & 1)];
        const bool more = i + 1 < n;
        cp16(&next[4 * t], &in[more ? 128 * (i + 1) + 4 * t : 0], more);
        cp_commit();
        cp_wait<1>();
        __syncthreads();
        out[32 * i + t] = s[128 * (i & 1) + 4 * (31 - t)];
        __syncthreads();
    }
    cp_wait<0>();
    out[32 * n + t] = s[128 * (n & 1) + 4 * t + 3];
}

static void copies_arrive_group_by_group(void) {
    enum { n = 5, blocks = 3, each = 32 * (n + 1) };
    float in[128 * n], out[blocks * each] = {};
    for (int i = 0; i < 128 * n; i++) in[i] = (float)(i + 1);
    float *din = on_device(in, 128 * n), *dout = on_device(out, blocks * each);
    LAUNCH(ring_kernel, blocks, 32, 0, 0, din, dout, n);
    to_host(out, dout, blocks * each);
    for (int i = 0; i < blocks * each; i++) {
        const int step = i % each / 32;
        CHECK(out[i] == (step == n ? 0.0f : (float)(step * 128 + 4 * (31 - i % 32) + 1)));
    }
    cudaFree(din);
}

/* ---- shuffles and votes ---- */
static __global__ void shuffle_kernel(int *out) {
    const int t = thread();
    out[t] = __shfl_xor_sync(0xffffffffu, t, 5);
    out[32 + t] = __shfl_down_sync(0xffffffffu, t, 3);
    out[64 + t] = __shfl_up_sync(0xffffffffu, t, 3, 16);
    out[96 + t] = __shfl_sync(0xffffffffu, t, 9, 8);
    out[128 + t] = (int)__ballot_sync(0xffffffffu, t % 3 == 0);
    if (t < 16) out[160 + t] = __shfl_sync(0x0000ffffu, 2 * t, 15);
    double sum = t;
    for (int i = 16; i > 0; i /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, i);
    out[192 + t] = (int)sum;
}

static void shuffles(void) {
    int out[224] = {};
    int *d = on_device(out, 224);
    LAUNCH(shuffle_kernel, 1, 32, 0, 0, d);
    to_host(out, d, 224);
    unsigned thirds = 0;
    for (int i = 0; i < 32; i += 3) thirds |= 1u << i;
    for (int i = 0; i < 32; i++) {
        CHECK(out[i] == (i ^ 5));
        CHECK(out[32 + i] == (i + 3 < 32 ? i + 3 : i));
        CHECK(out[64 + i] == (i % 16 >= 3 ? i - 3 : i));
        CHECK(out[96 + i] == i / 8 * 8 + 1);
        CHECK(out[128 + i] == (int)thirds);
        if (i < 16) CHECK(out[160 + i] == 30);
        CHECK(out[192 + i] == 496);
    }
}

/* ---- numbers ---- */
static __global__ void numbers_kernel(const float *in, float *out, uint32_t *packed, int n) {
    for (int i = thread(); i < n; i += 32) {
        packed[i] = pack_bf16(in[i], -in[i]);
        uint16_t one;
        bf16_store(&one, in[i]);
        out[5 * i] = lo_bf16(packed[i]);
        out[5 * i + 1] = hi_bf16(packed[i]);
        out[5 * i + 2] = bf16_load(&one);
        out[5 * i + 3] = swish_fast(in[i]);
        out[5 * i + 4] = swish_slope_fast(in[i]);
    }
}

static void conversions_and_swish(void) {
    const float in[] = {0.0f,   1.0f,     -1.0f, 1.00390625f, 1.01171875f, 3.3e38f,
                        1e-30f, -4.0f,    20.0f, -100.0f,     -1000.0f,    1000.0f,
                        NAN,    INFINITY, 0.3f,  -0.7f};
    enum { n = sizeof in / sizeof *in };
    float out[5 * n] = {};
    uint32_t packed[n] = {};
    float *din = on_device(in, n), *dout = on_device(out, 5 * n);
    uint32_t *dp = on_device(packed, n);
    LAUNCH(numbers_kernel, 1, 32, 0, 0, din, dout, dp, n);
    to_host(out, dout, 5 * n);
    to_host(packed, dp, n);
    CHECK(out[5 * 3] == 1.0f);      /* 1 + 2^-8: a tie, to even */
    CHECK(out[5 * 4] == 1.015625f); /* 1 + 3 * 2^-8: a tie, to even */
    for (int i = 0; i < n; i++) {
        const double x = in[i], sigma = 1.0 / (1.0 + exp(-x));
        if (isnan(in[i])) {
            for (int j = 0; j < 5; j++) CHECK(isnan(out[5 * i + j]));
            continue;
        }
        CHECK(out[5 * i + 1] == -out[5 * i] && out[5 * i + 2] == out[5 * i]);
        if (fabs(x) < 3e38) CHECK(fabs(out[5 * i] - x) <= fabs(x) / 256.0);
        CHECK(fabs(out[5 * i + 3] - x * sigma) <= 2e-6 * fabs(x * sigma) + 1e-36 || isinf(x));
        CHECK(fabs(out[5 * i + 4] - sigma * (1.0 + x * (1.0 - sigma))) <= 1e-5 || isinf(x));
    }
}

int main(void) {
    CASE(mma_is_a_matrix_product);
    CASE(mma_spreads_nan_along_its_row_only);
    CASE(ldsm4_gives_rows);
    CASE(ldsm4t_gives_columns);
    CASE(ldsm2_gives_rows_of_two);
    CASE(operands_from_shared_memory);
    CASE(copies_arrive_group_by_group);
    CASE(shuffles);
    CASE(conversions_and_swish);
    return check_finish();
}
