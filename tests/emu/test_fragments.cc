/* SPDX-License-Identifier: MIT
 * The wrappers of kernels/cuda/ptx.h against index formulas. */
#include <stdlib.h>

#include "kernels/cuda/ptx.h"

extern "C" {
#include "tests/support/check.h"
}

enum { pitch = 24 }; /* of rows in shared memory, in elements: an odd number of 16-byte units */

template <class T> static T *to_device(const T *host, size_t n) {
    T *p;
    CHECK(cudaMalloc(&p, n * sizeof(T)) == cudaSuccess);
    CHECK(cudaMemcpy(p, host, n * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
    return p;
}

template <class T> static void to_host(T *host, const T *p, size_t n) {
    CHECK(cudaGetLastError() == cudaSuccess);
    CHECK(cudaMemcpy(host, p, n * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
}

static uint16_t number(unsigned i) {
    return emu_bf16((float)((int)(i * 2654435761u >> 20) % 17 - 8));
}

static float value(uint16_t h) {
    return __uint_as_float((uint32_t)h << 16);
}

/* a (16, 16) by row, b (8, 16) by column, d (16, 8) */
static __global__ void mma_kernel(const uint16_t *a, const uint16_t *b, float *d) {
    const int lane = (int)threadIdx.x, g = lane >> 2, q = lane & 3;
    uint32_t fa[4], fb[2];
    for (int i = 0; i < 4; i++) fa[i] = *(const uint32_t *)&a[(g + 8 * (i & 1)) * 16 + 2 * q + 8 * (i >> 1)];
    for (int i = 0; i < 2; i++) fb[i] = *(const uint32_t *)&b[g * 16 + 2 * q + 8 * i];
    float fd[4] = {1, 2, 3, 4};
    mma_bf16(fd, fa, fb[0], fb[1]);
    for (int i = 0; i < 4; i++) d[(g + 8 * (i >> 1)) * 8 + 2 * q + (i & 1)] = fd[i];
}

static void mma_is_a_matrix_product(void) {
    uint16_t a[256], b[128];
    float d[128];
    for (unsigned i = 0; i < 256; i++) a[i] = number(i);
    for (unsigned i = 0; i < 128; i++) b[i] = number(1000 + i);
    uint16_t *da = to_device(a, 256), *db = to_device(b, 128);
    float *dd = to_device(d, 128);
    LAUNCH(mma_kernel, 1, 32, 0, 0, da, db, dd);
    to_host(d, dd, 128);
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 8; column++) {
            float sum = (float)(1 + (column & 1) + 2 * (row >> 3));
            for (int k = 0; k < 16; k++) sum += value(a[row * 16 + k]) * value(b[column * 16 + k]);
            CHECK(d[row * 8 + column] == sum);
        }
}

int main(void) {
    CASE(mma_is_a_matrix_product);
    return check_finish();
}
