/* SPDX-License-Identifier: MIT
 * What the files of the 1x1 convolutions share: arguments of the kernels, second passes, the choice of a tile. */
#ifndef KERNELS_CUDA_GEMM_INTERNAL_H
#define KERNELS_CUDA_GEMM_INTERNAL_H

#include "kernels/cuda/gemm.h"

/* The activation between the stored x and the convolution's input, without dropout (struct ops_act). */
struct gemm_norm {
    const float *scale, *shift; /* (C) or both NULL */
    int swish;
};

/* dy' = gate(b,c)*dy + dm(b,c)/L, the gradient at the convolution's output behind a gated branch; gate NULL: dy' = dy. */
struct gemm_gate {
    const float *gate, *dm; /* (B, C) each */
    int C, L;
};

/* dy' = k[0]*dy + k[1]*(y - mean) + k[2], the gradient at the convolution's output before a normalisation; y NULL: dy' = dy. */
struct gemm_behind {
    const uint16_t *y;     /* (M, N) */
    const float *mean, *k; /* (N), (3, N) */
};

/* A block's shortcut: x (B, Li, Ci) beside a branch of (B, L, C), see shortcut_fwd in kernels/ops.h; S 1 or 2. */
struct gemm_side {
    const uint16_t *x; /* (B, Li, Ci) */
    int Li, Ci, S;
    int L, C; /* the branch's */
};

/* The gradient that comes back through a shortcut from dy (B, L, C) to rows (B, Li) of Ci channels: see shortcut_bwd. */
struct gemm_side_grad {
    const uint16_t *dy; /* (B, L, C); NULL: none */
    int L, C, S;
    int Li, Ci;
};

struct gemm_args {
    const uint16_t *a, *w; /* (M, K), (N, K) */
    uint16_t *y;           /* (M, N) */
    int M, N, K, L;        /* L: rows of a sample */
    struct gemm_norm act;  /* forward: of a, (K); data gradient: of x, (N) */
    float2 *stats;         /* (units, N), or NULL: mean and squared deviations; data gradient: sums of dn, dn*(x - mean) */
    double *sums;          /* (units, slots, N): of y, or of dn*h; or NULL */
    /* forward */
    const float *bias;     /* (N) or NULL */
    uint16_t *out;         /* the tail's (M, N), or NULL */
    const float *out_gate; /* (B, N) or NULL */
    struct gemm_side side;
    /* data gradient */
    struct gemm_gate branch;
    const uint16_t *x; /* (M, N) */
    const float *mean; /* (N), of x, with stats */
    const uint16_t *h; /* (M, N) where sums are wanted */
    struct gemm_side_grad side_grad;
};

/* Sums over rows are kept for units of 32 rows, whatever the tile: they then do not depend on which tile a GPU runs. */
#define GEMM_UNIT 32

/* Most samples of L rows that GEMM_UNIT neighbouring rows touch. */
static __host__ __device__ inline int gemm_slots(int L) {
    return (GEMM_UNIT - 2 + L) / L + 1;
}

static __host__ __device__ inline size_t gemm_up(size_t bytes) {
    return (bytes + 255) / 256 * 256;
}

static inline int gemm_ceil(int a, int b) {
    return (a - 1) / b + 1;
}

static inline int gemm_units(struct gemm_conv s) {
    return gemm_ceil(s.B * s.L, GEMM_UNIT);
}

/* ECG_OK, or CUDA's words on the launch just made, with the op and the shape. */
enum ecg_status gemm_launched(const char *op, struct gemm_conv s);
/* Raises a kernel's limit of dynamic shared memory to what the GPU has. */
enum ecg_status gemm_allow(const struct gemm_gpu *gpu, const void *kernel);

/* The product itself, in one of its two directions (N and K are those of `a`). */
enum { GEMM_FWD, GEMM_BWD };
enum ecg_status gemm_fwd_product(const struct gemm_gpu *gpu, const struct gemm_args *a,
                                 struct gemm_conv s, cudaStream_t stream);
enum ecg_status gemm_bwd_product(const struct gemm_gpu *gpu, const struct gemm_args *a,
                                 struct gemm_conv s, cudaStream_t stream);
enum ecg_status gemm_fwd_allow(const struct gemm_gpu *gpu);
enum ecg_status gemm_bwd_allow(const struct gemm_gpu *gpu);

struct gemm_wgrad_args {
    const uint16_t *a, *g; /* x (M, K), dy (M, N) */
    float *dw, *db;        /* partial sums (splits, N, K), (splits, N); db may be NULL */
    int M, N, K;
    int rows; /* of a split */
    struct gemm_norm act;
    struct gemm_gate branch;
    struct gemm_behind behind; /* gemm_fused_product alone */
};

/* Partial sums of dw and db, one set a split of the rows. */
enum ecg_status gemm_wgrad_product(const struct gemm_wgrad_args *a, struct gemm_conv s,
                                   cudaStream_t stream);
enum ecg_status gemm_wgrad_allow(const struct gemm_gpu *gpu);
/* Rows of a split: from the shape alone. */
int gemm_split_rows(struct gemm_conv s);

/* Both gradients in one kernel, where gemm_fused_has: the same bits. */
int gemm_fused_has(const struct gemm_gpu *gpu, struct gemm_conv s);
enum ecg_status gemm_fused_product(const struct gemm_args *d, const struct gemm_wgrad_args *w,
                                   struct gemm_conv s, cudaStream_t stream);
enum ecg_status gemm_fused_allow(const struct gemm_gpu *gpu);

/* The same for up to 400 and 1024 channels, where gemm_joint_has: blocks of both kinds in one launch. */
int gemm_joint_has(const struct gemm_gpu *gpu, struct gemm_conv s);
enum ecg_status gemm_joint_product(const struct gemm_args *d, const struct gemm_wgrad_args *w,
                                   struct gemm_conv s, cudaStream_t stream);
enum ecg_status gemm_joint_allow(const struct gemm_gpu *gpu);

/* Second passes. */
/* mean, var (N) = from (units, N) of GEMM_UNIT rows, the last of what is left of M */
enum ecg_status gemm_finish_stats(int M, int N, const float2 *part, float *mean, float *var,
                                  struct gemm_conv s, cudaStream_t stream);
/* out(B,N) = factor * the samples' sums */
enum ecg_status gemm_finish_sums(int B, int L, int N, const double *part, float factor, float *out,
                                 struct gemm_conv s, cudaStream_t stream);
/* dw(N,K) += and db(N) += (or NULL) the sums of their `splits` parts in `a`, in one launch. 16-byte aligned. */
enum ecg_status gemm_finish_splits(int splits, const struct gemm_wgrad_args *a, float *dw,
                                   float *db, struct gemm_conv s, cudaStream_t stream);

#endif
