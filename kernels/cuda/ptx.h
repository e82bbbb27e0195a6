/* SPDX-License-Identifier: MIT
 * Every PTX instruction that the kernels use, each beside its twin for the emulation; nothing beyond sm_80.
 *
 * Fragments of a warp (PTX ISA, "Matrix fragments for mma.m16n8k16"): lane = 4g + q. A is 16 x 16, B 16 x 8 and D
 * 16 x 8; each 32-bit register of A and B holds two neighbouring values along k, the lower one in the lower half.
 *     a[0] row g,   k 2q..       a[1] row g+8, k 2q..      b0  k 2q..,   column g      d[0], d[1] row g,   columns 2q, 2q+1
 *     a[2] row g,   k 2q+8..     a[3] row g+8, k 2q+8..    b1  k 2q+8.., column g      d[2], d[3] row g+8, the same
 * ldsm: matrix i of 8 rows of 16 bytes; lanes 8i .. 8i+7 point at its rows; r[i] of lane 4g + q is row g, values 2q and
 * 2q+1; with ldsm4t it is column g, rows 2q and 2q+1. The whole warp must take part in mma and ldsm, at one place. */
#ifndef KERNELS_CUDA_PTX_H
#define KERNELS_CUDA_PTX_H

#include "kernels/cuda/compat.h"

#ifdef EINTHOVEN_EMU

/* D += A * B */
static inline void mma_bf16(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1, EMU_PLACE) {
    emu_mma_bf16(d, a, b0, b1, EMU_HERE);
}

/* row: this lane's row of 16 bytes in shared memory, 16-byte aligned; every lane's address must be valid */
static inline void ldsm4(uint32_t r[4], const void *row, EMU_PLACE) {
    emu_ldsm(r, row, 4, false, EMU_HERE);
}

static inline void ldsm4t(uint32_t r[4], const void *row, EMU_PLACE) {
    emu_ldsm(r, row, 4, true, EMU_HERE);
}

/* the addresses of lanes 16 .. 31 are not used */
static inline void ldsm2(uint32_t r[2], const void *row, EMU_PLACE) {
    emu_ldsm(r, row, 2, false, EMU_HERE);
}

/* Starts to copy 16 bytes from global to shared memory, both 16-byte aligned; !ok: to fill them with zeros (src must still be
 * a valid address). The bytes are there for this thread after its cp_wait, for others after a barrier that follows it. */
static inline void cp16(void *dst, const void *src, bool ok, EMU_PLACE) {
    emu_cp16(dst, src, ok, EMU_HERE);
}

/* Ends a group of copies; groups may be empty. */
static inline void cp_commit(void) {
    emu_cp_commit();
}

/* Waits until at most the newest N groups of this thread are unfinished. */
template <int N> static inline void cp_wait(EMU_PLACE) {
    emu_cp_wait(N, EMU_HERE);
}

/* Two floats as bf16, to the nearest even. */
static inline uint32_t pack_bf16(float lo, float hi) {
    return emu_bf16(lo) | (uint32_t)emu_bf16(hi) << 16;
}

/* 2^x and 1/x, relative error about 1e-7 and 1e-7; results below 2^-126 may be zero */
static inline float exp2_fast(float x) {
    return exp2f(x);
}

static inline float rcp_fast(float x) {
    return 1.0f / x;
}

#else

DEVICE void mma_bf16(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

DEVICE uint32_t shared_address(const void *p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

DEVICE void ldsm4(uint32_t r[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

DEVICE void ldsm4t(uint32_t r[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

DEVICE void ldsm2(uint32_t r[2], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
}

DEVICE void cp16(void *dst, const void *src, bool ok) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(dst)), "l"(__cvta_generic_to_global(src)),
                 "r"(ok ? 16 : 0)
                 : "memory");
}

DEVICE void cp_commit(void) {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int N> DEVICE void cp_wait(void) {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

DEVICE uint32_t pack_bf16(float lo, float hi) {
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}

DEVICE float exp2_fast(float x) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

DEVICE float rcp_fast(float x) {
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

#endif

/* The lower and the upper bf16 of a pair. */
DEVICE float lo_bf16(uint32_t u) {
    return __uint_as_float(u << 16);
}

DEVICE float hi_bf16(uint32_t u) {
    return __uint_as_float(u & 0xffff0000u);
}

DEVICE float bf16_load(const uint16_t *p) {
    return __uint_as_float((uint32_t)*p << 16);
}

DEVICE void bf16_store(uint16_t *p, float v) {
    *p = (uint16_t)pack_bf16(v, 0.0f);
}

/* 1 / (1 + e^-x), two operations of the special-function unit; relative error about 1e-6, 0 for x below -87, NaN stays NaN */
DEVICE float sigmoid_fast(float x) {
    return rcp_fast(1.0f + exp2_fast(-1.44269504f * x));
}

DEVICE float swish_fast(float x) {
    return x * sigmoid_fast(x);
}

/* d swish / dx */
DEVICE float swish_slope_fast(float x) {
    const float s = sigmoid_fast(x);
    return s * (1.0f + x * (1.0f - s));
}

#endif
