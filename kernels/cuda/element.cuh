/* SPDX-License-Identifier: MIT
 * One element, or V neighbouring channels, on the device: loading and storing in either precision, the activation in
 * front of a convolution, and dropout. BF16 is 1 for bf16 activations and 0 for fp32; V is 1, 2, 4 or 8, and element i
 * then a multiple of V. */
#ifndef KERNELS_CUDA_ELEMENT_CUH
#define KERNELS_CUDA_ELEMENT_CUH

#include "kernels/cuda/compat.h"

#include "kernels/cuda/ptx.h"
#include "kernels/ops.h"

/* ------------------------------------------------------------------ memory */

template <int BF16> DEVICE float load_one(const void *x, size_t i) {
    if (BF16) return bf16_load((const uint16_t *)x + i);
    return ((const float *)x)[i];
}

template <int BF16> DEVICE void store_one(void *x, size_t i, float v) {
    if (BF16)
        bf16_store((uint16_t *)x + i, v);
    else
        ((float *)x)[i] = v;
}

/* What a float becomes as a factor of a convolution's product. */
template <int BF16> DEVICE float as_factor(float v) {
    return BF16 ? lo_bf16(pack_bf16(v, 0.0f)) : v;
}

DEVICE void unpack_bf16(uint32_t u, float v[2]) {
    v[0] = lo_bf16(u);
    v[1] = hi_bf16(u);
}

template <int V> DEVICE void load_floats(const float *x, float v[V]) {
    if (V % 4 == 0) {
#pragma unroll
        for (int j = 0; j < V / 4; j++) {
            const float4 f = ((const float4 *)(const void *)x)[j];
            v[4 * j] = f.x;
            v[4 * j + 1] = f.y;
            v[4 * j + 2] = f.z;
            v[4 * j + 3] = f.w;
        }
    } else {
#pragma unroll
        for (int j = 0; j < V; j++) v[j] = x[j];
    }
}

template <int BF16, int V> DEVICE void load_some(const void *x, size_t i, float v[V]) {
    if (!BF16) {
        load_floats<V>((const float *)x + i, v);
    } else if (V == 8) {
        const uint4 u = *(const uint4 *)(const void *)((const uint16_t *)x + i);
        unpack_bf16(u.x, v);
        unpack_bf16(u.y, v + 2);
        unpack_bf16(u.z, v + 4);
        unpack_bf16(u.w, v + 6);
    } else {
#pragma unroll
        for (int j = 0; j < V; j++) v[j] = bf16_load((const uint16_t *)x + i + j);
    }
}

template <int BF16, int V> DEVICE void store_some(void *x, size_t i, const float v[V]) {
    if (!BF16 && V % 4 == 0) {
        float4 *to = (float4 *)(void *)((float *)x + i);
#pragma unroll
        for (int j = 0; j < V / 4; j++)
            to[j] = make_float4(v[4 * j], v[4 * j + 1], v[4 * j + 2], v[4 * j + 3]);
    } else if (BF16 && V == 8) {
        *(uint4 *)(void *)((uint16_t *)x + i) =
            make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]),
                       pack_bf16(v[6], v[7]));
    } else if (BF16 && V == 4) {
        *(uint2 *)(void *)((uint16_t *)x + i) =
            make_uint2(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]));
    } else if (BF16 && V == 2) {
        *(uint32_t *)(void *)((uint16_t *)x + i) = pack_bf16(v[0], v[1]);
    } else {
#pragma unroll
        for (int j = 0; j < V; j++) store_one<BF16>(x, i + j, v[j]);
    }
}

/* ------------------------------------------------------------------ functions */

/* 1/(1 + e^-n), in full single precision; exact at both ends, NaN stays NaN. */
DEVICE float sigmoid_of(float n) {
    return 1.0f / (1.0f + expf(-n));
}

DEVICE float swish_of(float n) {
    return n * sigmoid_of(n);
}

/* sig(n) * (1 + n * sig(-n)); for n so small that e^-n is infinite sig(-n) is 1 and the product -0. */
DEVICE float swish_slope_of(float n) {
    return sigmoid_of(n) * (1.0f + n * sigmoid_of(-n));
}

/* ------------------------------------------------------------------ dropout */

/* struct ops_act as kernels take it. */
struct cuda_act {
    const float *scale, *shift; /* (C), or NULL */
    int swish;
    int drops;
    uint32_t threshold; /* a word below it drops the element */
    float keep;         /* 1 / (1 - drop) */
    uint32_t key0, key1, stream, step;
    uint64_t sample0;
};

/* What one block of the generator says of 4 elements from element i of sample b on; i is a multiple of 4. As
 * rng_philox4x32 (core/rng.h). */
DEVICE void philox_block(const struct cuda_act *act, int b, uint32_t i, uint32_t out[4]) {
    uint32_t c0 = i / 4, c1 = act->stream, c2 = act->step,
             c3 = (uint32_t)(act->sample0 + (uint64_t)b);
    uint32_t k0 = act->key0, k1 = act->key1;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Factors, 0 or keep, of V elements from element i of sample b on; V is 1, or a multiple of 4 that divides i. */
template <int V>
DEVICE void dropout_factors(const struct cuda_act *act, int b, uint32_t i, float factor[V]) {
    uint32_t words[4];
    if (V == 1) {
        philox_block(act, b, i & ~3u, words);
        const uint32_t at = i & 3u;
        const uint32_t word =
            at < 2 ? (at == 0 ? words[0] : words[1]) : (at == 2 ? words[2] : words[3]);
        factor[0] = word >= act->threshold ? act->keep : 0.0f;
    } else {
#pragma unroll
        for (int j = 0; j < V; j += 4) {
            philox_block(act, b, i + (uint32_t)j, words);
#pragma unroll
            for (int k = 0; k < 4; k++)
                factor[j + k] = words[k] >= act->threshold ? act->keep : 0.0f;
        }
    }
}

/* ------------------------------------------------------------------ activation */

/* x*scale + shift of channels c .. c+V-1. */
template <int V> DEVICE void act_normalise(const struct cuda_act *act, int c, float v[V]) {
    if (!act->scale) return;
#pragma unroll
    for (int j = 0; j < V; j++) v[j] = v[j] * act->scale[c + j] + act->shift[c + j];
}

/* v becomes act(v): channels c.. of element i of sample b. */
template <int V>
DEVICE void act_apply(const struct cuda_act *act, int b, uint32_t i, int c, float v[V]) {
    act_normalise<V>(act, c, v);
    if (act->swish) {
#pragma unroll
        for (int j = 0; j < V; j++) v[j] = swish_of(v[j]);
    }
    if (!act->drops) return;
    float factor[V];
    dropout_factors<V>(act, b, i, factor);
#pragma unroll
    for (int j = 0; j < V; j++) v[j] *= factor[j];
}

/* v = x becomes the factor that takes the gradient at act(x) to that at n. */
template <int V>
DEVICE void act_slope(const struct cuda_act *act, int b, uint32_t i, int c, float v[V]) {
    act_normalise<V>(act, c, v);
#pragma unroll
    for (int j = 0; j < V; j++) v[j] = act->swish ? swish_slope_of(v[j]) : 1.0f;
    if (!act->drops) return;
    float factor[V];
    dropout_factors<V>(act, b, i, factor);
#pragma unroll
    for (int j = 0; j < V; j++) v[j] *= factor[j];
}

/* On the host: the same activation for kernels. NULL: none. */
struct cuda_act cuda_act_of(const struct ops_act *act);

static inline int cuda_act_is_none(const struct ops_act *act) {
    return !act || (!act->scale && !act->swish && !(act->drop > 0));
}

/* ------------------------------------------------------------------ sums of a block */

/* The sum of `v` over a block of 256 threads, the same tree every time; all threads get it. `s` is shared, 256 long. */
DEVICE double block_sum(double v, double *s) {
    const int tid = (int)threadIdx.x;
    s[tid] = v;
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if (tid < half) s[tid] += s[tid + half];
        __syncthreads();
    }
    return s[0];
}

#endif
