/* SPDX-License-Identifier: MIT
 * Products of fp32 matrices where one side is short, as the layers behind the mean over time have them (se.cu):
 *
 *     out[m][n] = sum over k of A[m][k] * B[n][k]
 *
 * A block of 8 warps, WM x WN x WK, computes 16 WM x 32 WN outputs. It takes the terms in slabs of 16 WK, of which each of
 * the WK warps behind one place of the tile has 16; a lane has 4 x 4 outputs. Small tiles and the cut of the terms inside the
 * block keep a GPU busy on 16 to 128 rows. The next slab is on its way into registers while this one is multiplied.
 * At last the WK sums of an output are added in their order, so that the order of all its terms follows from K alone.
 *
 * An operand lies in memory with its terms side by side (ALONG 1: x[r][k]) or with its rows side by side (ALONG 0: x[k][r]),
 * and likewise in shared memory. V: 4 where the lines of all operands are whole float4, else 1. */
#ifndef KERNELS_CUDA_LINEAR_CUH
#define KERNELS_CUDA_LINEAR_CUH

#include "kernels/cuda/compat.h"

enum { LINEAR_THREADS = 256, LINEAR_STEP = 16 /* terms of a slab that a warp has */ };

/* One operand's part of a slab: ROWS rows x BK terms. */
template <int ALONG_, int ROWS, int BK> struct linear_side {
    static constexpr int ALONG = ALONG_;
    static constexpr int LINE = ALONG ? BK : ROWS; /* floats side by side */
    static constexpr int PITCH =
        ALONG ? LINE + 4 : LINE; /* rows of 8 lanes in 8 different groups of banks */
    static constexpr int FLOATS = ROWS * BK / LINE * PITCH;
    static constexpr int OWN = ROWS * BK / 4 / LINEAR_THREADS; /* float4 that a thread brings */
    static_assert(OWN * 4 * LINEAR_THREADS == ROWS * BK, "threads share the loads evenly");
};

template <int A_ALONG, int B_ALONG, int WM_, int WN_, int WK_> struct linear_tile {
    static constexpr int WM = WM_, WN = WN_, WK = WK_, BM = 16 * WM, BN = 32 * WN,
                         BK = LINEAR_STEP * WK;
    static_assert(WM * WN * WK * 32 == LINEAR_THREADS, "each warp has a place");
    using A = linear_side<A_ALONG, BM, BK>;
    using B = linear_side<B_ALONG, BN, BK>;
    /* Of the warps' sums at the end: first those of outputs, then those of A's rows. */
    static constexpr int PITCH = BN + (A_ALONG ? 8 : 4); /* few of a warp's stores meet in a bank */
    static constexpr int SUMS = WK * BM * PITCH;
    static constexpr int SLAB = A::FLOATS + B::FLOATS, END = SUMS + WK * BM;
    static constexpr int FLOATS = SLAB > END ? SLAB : END; /* of shared memory */
};

struct linear_args {
    int M, N, K;
    const float *a, *b;
    const float *gate; /* of a's shape: A = a * gate * (1 - gate); NULL: A = a */
};

/* Four floats of a line, of which `left` exist; zeros for the others. */
template <int V> DEVICE void linear_load(const float *x, int left, float v[4]) {
    if (V == 4) {
        const float4 f = left > 0 ? *(const float4 *)(const void *)x : make_float4(0, 0, 0, 0);
        v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
    } else {
#pragma unroll
        for (int j = 0; j < 4; j++) v[j] = j < left ? x[j] : 0.0f;
    }
}

/* v = this thread's share of the slab at row r0, term k0. */
template <class S, int V>
DEVICE void linear_fetch(float (&v)[S::OWN][4], const float *x, int rows, int K, int r0, int k0) {
    const int width = S::ALONG ? K : rows, lines = S::ALONG ? rows : K;
#pragma unroll
    for (int i = 0; i < S::OWN; i++) {
        const int at = ((int)threadIdx.x + i * LINEAR_THREADS) * 4;
        const int line = (S::ALONG ? r0 : k0) + at / S::LINE,
                  c = (S::ALONG ? k0 : r0) + at % S::LINE;
        linear_load<V>(x + (size_t)line * width + c, line < lines ? width - c : 0, v[i]);
    }
}

template <class S> DEVICE void linear_put(float *s, const float (&v)[S::OWN][4]) {
#pragma unroll
    for (int i = 0; i < S::OWN; i++) {
        const int at = ((int)threadIdx.x + i * LINEAR_THREADS) * 4;
        *(float4 *)(void *)(s + at / S::LINE * S::PITCH + at % S::LINE) =
            make_float4(v[i][0], v[i][1], v[i][2], v[i][3]);
    }
}

/* Row i of the 4 that lane `lane` of `LANES` has of a warp's rows. */
template <class S, int LANES> DEVICE int linear_row(int lane, int i) {
    return S::ALONG ? lane + LANES * i : 4 * lane + i;
}

/* f[i][j] = row i of the lane's, from row r0 on, and term k + j. */
template <class S, int LANES>
DEVICE void linear_fragment(const float *s, int r0, int lane, int k, float (&f)[4][4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float *const at = S::ALONG ? s + (r0 + linear_row<S, LANES>(lane, i)) * S::PITCH + k
                                         : s + (k + i) * S::PITCH + r0 + 4 * lane;
        const float4 q = *(const float4 *)(const void *)at;
        f[S::ALONG ? i : 0][S::ALONG ? 0 : i] = q.x;
        f[S::ALONG ? i : 1][S::ALONG ? 1 : i] = q.y;
        f[S::ALONG ? i : 2][S::ALONG ? 2 : i] = q.z;
        f[S::ALONG ? i : 3][S::ALONG ? 3 : i] = q.w;
    }
}

/* Where a thread works: its warp's place in the tile, its part of the terms, its lane's rows and columns. Lanes with equal
 * columns are neighbours and those with equal rows the next but one, so that the two quarters of half a warp, which may ask
 * for 16 bytes a lane, can be served together. */
struct linear_place {
    int m, n, part, lane_m, lane_n;
};

template <class T> DEVICE struct linear_place linear_place_of(void) {
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    struct linear_place p;
    p.part = warp % T::WK;
    p.n = warp / T::WK % T::WN * 32;
    p.m = warp / (T::WK * T::WN) * 16;
    p.lane_m = (lane & 1) | (lane >> 1 & 2);
    p.lane_n = (lane >> 1 & 1) | (lane >> 2 & 6);
    return p;
}

/* acc += this warp's terms of the slab in s; sums += A's, where wanted. */
template <class T>
DEVICE void linear_multiply(const float *s, struct linear_place at, int wants_sums,
                            float (&acc)[4][4], float (&sums)[4]) {
#pragma unroll
    for (int step = 0; step < LINEAR_STEP; step += 4) {
        float a[4][4], b[4][4];
        const int k0 = at.part * LINEAR_STEP + step;
        linear_fragment<typename T::A, 4>(s, at.m, at.lane_m, k0, a);
        linear_fragment<typename T::B, 8>(s + T::A::FLOATS, at.n, at.lane_n, k0, b);
#pragma unroll
        for (int k = 0; k < 4; k++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) acc[i][j] += a[i][k] * b[j][k];
            }
        }
        if (wants_sums) {
#pragma unroll
            for (int k = 0; k < 4; k++) {
#pragma unroll
                for (int i = 0; i < 4; i++) sums[i] += a[i][k];
            }
        }
    }
}

/* The warps' sums to shared memory, where linear_total adds them. */
template <class T>
DEVICE void linear_leave(float *s, struct linear_place at, int wants_sums, const float (&acc)[4][4],
                         const float (&sums)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int m = at.m + linear_row<typename T::A, 4>(at.lane_m, i);
        float *const to = s + (at.part * T::BM + m) * T::PITCH + at.n;
        if (T::B::ALONG) {
#pragma unroll
            for (int j = 0; j < 4; j++) to[linear_row<typename T::B, 8>(at.lane_n, j)] = acc[i][j];
        } else {
            *(float4 *)(void *)(to + 4 * at.lane_n) =
                make_float4(acc[i][0], acc[i][1], acc[i][2], acc[i][3]);
        }
        if (wants_sums && at.n == 0 && at.lane_n == 0) s[T::SUMS + at.part * T::BM + m] = sums[i];
    }
}

/* A thread's share of the next slab. */
template <class T> struct linear_share {
    float a[T::A::OWN][4], gate[T::A::OWN][4], b[T::B::OWN][4];
};

template <class T, int V>
DEVICE void linear_bring(struct linear_share<T> &own, const struct linear_args &p, int m0, int n0,
                         int k0) {
    linear_fetch<typename T::A, V>(own.a, p.a, p.M, p.K, m0, k0);
    if (p.gate) linear_fetch<typename T::A, V>(own.gate, p.gate, p.M, p.K, m0, k0);
    linear_fetch<typename T::B, V>(own.b, p.b, p.N, p.K, n0, k0);
}

template <class T>
DEVICE void linear_store(float *s, struct linear_share<T> &own, const struct linear_args &p) {
    if (p.gate) {
#pragma unroll
        for (int i = 0; i < T::A::OWN; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++)
                own.a[i][j] = own.a[i][j] * own.gate[i][j] * (1.0f - own.gate[i][j]);
        }
    }
    linear_put<typename T::A>(s, own.a);
    linear_put<typename T::B>(s + T::A::FLOATS, own.b);
}

/* The tile at row m0, column n0: afterwards linear_total and linear_row_total tell its outputs and, where wanted, the sums
 * of A's rows over all terms. s: T::FLOATS. */
template <class T, int V>
DEVICE void linear_product(const struct linear_args &p, float *s, int m0, int n0, int wants_sums) {
    const struct linear_place at = linear_place_of<T>();
    float acc[4][4] = {}, sums[4] = {};
    struct linear_share<T> own;

    linear_bring<T, V>(own, p, m0, n0, 0);
    for (int k0 = 0; k0 < p.K; k0 += T::BK) {
        linear_store<T>(s, own, p);
        __syncthreads();
        if (k0 + T::BK < p.K) linear_bring<T, V>(own, p, m0, n0, k0 + T::BK);
        if (k0 + at.part * LINEAR_STEP < p.K) linear_multiply<T>(s, at, wants_sums, acc, sums);
        __syncthreads();
    }
    linear_leave<T>(s, at, wants_sums, acc, sums);
    __syncthreads();
}

template <class T> DEVICE float linear_total(const float *s, int m, int n) {
    float sum = s[m * T::PITCH + n];
#pragma unroll
    for (int part = 1; part < T::WK; part++) sum += s[(part * T::BM + m) * T::PITCH + n];
    return sum;
}

template <class T> DEVICE float linear_row_total(const float *s, int m) {
    float sum = s[T::SUMS + m];
#pragma unroll
    for (int part = 1; part < T::WK; part++) sum += s[T::SUMS + part * T::BM + m];
    return sum;
}

#endif
