/* SPDX-License-Identifier: MIT
 * 1x1 convolutions in bf16 on tensor cores: forward with what stands before and behind it in a block, data and weight
 * gradients. B*L rows, K = Cin, N = Cout, both multiples of 16; any B and L.
 *
 * Activations (B, L, C) bf16 in device memory, parameters and statistics fp32 as in kernels/ops.h; pointers 64-byte
 * aligned. Products of bf16 factors, sums in fp32. Results do not depend on the GPU: sums over rows have an order that
 * follows from the shape alone. Functions start work on `stream` and return; shapes that gemm_has not, and launches that
 * fail, are ECG_ERR_FAIL with the op and the shape in the message. Dropout (ops_act.drop) is not done here: run act_fwd
 * first. */
#ifndef KERNELS_CUDA_GEMM_H
#define KERNELS_CUDA_GEMM_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cuda/compat.h"
#include "kernels/ops.h"

/* What the choice of tiles needs to know of a GPU. */
struct gemm_gpu {
    int sms;
    size_t shared_block; /* bytes of shared memory that a block may ask for (opt-in) */
    size_t shared_sm;    /* bytes of an SM */
};

/* Once per device, before anything else: allows every kernel its shared memory. */
enum ecg_status gemm_open(const struct gemm_gpu *gpu);

struct gemm_conv {
    int B, L, K, N;
};

/* Whether this shape is one for the functions below. */
int gemm_has(struct gemm_conv s);

/* ---- packed weights: bf16 copies (N, K) and, for backward, (K, N) behind it ---- */

/* Bytes of one convolution's packed weights. */
size_t gemm_packed_bytes(int N, int K, int backward);

struct gemm_weights {
    const float *w; /* (N, K) */
    void *packed;   /* gemm_packed_bytes */
    int N, K;
};

/* Packs n convolutions in one launch. `list` lies in device memory. */
enum ecg_status gemm_pack(int n, const struct gemm_weights *list, int backward, cudaStream_t stream);

/* ---- forward ---- */

/* The end of a block, written beside y: out(B,L,N) = gate(B,N)*y + shortcut(x), see shortcut_fwd in kernels/ops.h. */
struct gemm_tail {
    const uint16_t *x; /* (B, Li, Ci), Ci <= N a multiple of 16 */
    int Li, Ci, S;     /* S 1 or 2, L = ceil(Li/S) */
    const float *gate; /* NULL: 1 */
    uint16_t *out;
};

struct gemm_forward {
    struct gemm_conv s;
    const struct ops_act *act; /* of x; never NULL */
    const uint16_t *x;         /* (B, L, K) */
    const void *packed;
    const float *b; /* (N) or NULL */
    uint16_t *y;    /* (B, L, N), = */
    float *mean, *var;            /* (N) of y over B*L rows, =; both or none */
    float *y_mean;                /* (B, N) of y over L, =; or NULL */
    const struct gemm_tail *tail; /* or NULL; not together with the sums above */
    struct ops_ws ws;             /* gemm_ws */
};

/* y = conv(act(x), w) + b */
enum ecg_status gemm_fwd(const struct gemm_gpu *gpu, const struct gemm_forward *p, cudaStream_t stream);

/* ---- backward ---- */

struct gemm_backward {
    struct gemm_conv s;
    const struct ops_act *act; /* of x */
    const uint16_t *x;         /* (B, L, K) */
    const void *packed;        /* packed for backward; may be NULL where dn is */
    const uint16_t *dy;        /* (B, L, N) */
    const float *gate, *dm;    /* (B, N) both or none: dy' = gate*dy + dm/L is read instead of dy */
    const struct ops_behind *behind; /* or NULL, where gemm_has_behind: dy' = norm_dx(y, dy) is read instead of dy */
    float *dw, *db;            /* (N, K), (N), +=; both or none; db may be NULL */
    uint16_t *dn;              /* (B, L, K), =: the gradient at n = x*scale + shift; or NULL */
    /* dn += shortcut_bwd(x, side_dy): side_dy (B, side_L, side_C) or NULL, side_C >= K */
    const uint16_t *side_dy;
    int side_L, side_C, side_S;
    const struct ops_norm *norm; /* norm_sums(x, dn); or NULL; with dn, and neither side_dy nor dse */
    /* dse(B,K) = sum over L of dn*h, h (B, L, K); both or none, with dn */
    const uint16_t *h;
    float *dse;
    struct ops_ws ws; /* gemm_ws */
};

/* Whether gemm_bwd takes a normalisation behind, with both dn and dw. */
int gemm_has_behind(const struct gemm_gpu *gpu, struct gemm_conv s);

/* Through y = conv(act(x), w) + b. */
enum ecg_status gemm_bwd(const struct gemm_gpu *gpu, const struct gemm_backward *p, cudaStream_t stream);

/* Bytes of scratch memory that any of the above needs for this shape. */
size_t gemm_ws(struct gemm_conv s);

#endif
