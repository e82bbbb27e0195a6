/* SPDX-License-Identifier: MIT
 * Convolutions of 16 taps on tensor cores, bf16: the grouped ones with 16 channels a group, strides 1 and 2, and the
 * stem (1 to 16 leads, stride 2). Activations are (B, L, C) bf16, given as uint16_t; weights, biases, statistics and the
 * gradients of weights are fp32. Letters and padding as in kernels/ops.h; the left padding is 7, as SAME padding gives it
 * for 16 taps at both strides.
 *
 * Every call launches on `stream` and returns without waiting. ECG_ERR_FAIL names the call and the shape: a shape that
 * the kernels have not, scratch memory that is too small, or a launch that failed. Grids, splits and the order of every
 * sum follow from the shape alone, so results are the same on every GPU and in every run; a sample's y does not depend on
 * its place in the batch. act->drop must be 0: dropout is a pass of its own before these kernels.
 * Pointers are 16-byte aligned at least.
 */
#ifndef KERNELS_CUDA_GCONV_H
#define KERNELS_CUDA_GCONV_H

#include "kernels/cuda/compat.h"

#include "core/status.h"
#include "kernels/ops.h"

/* Whether the grouped kernels have the shape: K = 16, S = 1 or 2, Cin = Cout = 16 G, Lout = ceil(Lin/S), P = 7, and
 * fewer than 2^31 rows. */
int gconv_has(struct ops_conv s);
/* Whether the stem's kernels have it: K = 16, S = 2, G = 1, Cin = 1 .. 16, Cout a multiple of 16, and the same rules. */
int stem_has(struct ops_conv s);

/* ------------------------------------------------------------------ weights */

/* One convolution's weights w (Cout, Cin/G, 16) in the order in which a warp's lanes read them: for each 16 output
 * channels, tap and lane, 16 bytes (gconv_pack.cu). Backward: the transposed order, which the data gradient reads; the
 * stem has none. Made once per optimiser step. */
struct gconv_weights {
    struct ops_conv s;
    const float *w;
    void *packed; /* gconv_packed_bytes */
};
size_t gconv_packed_bytes(struct ops_conv s); /* of either direction; 0: neither kernel has the shape */
/* All n of a list, 64 to a launch. The list itself is host memory and may be gone when the call returns. */
enum ecg_status gconv_pack(int backward, int n, const struct gconv_weights *list, cudaStream_t stream);

/* ------------------------------------------------------------------ forward */

/* Which sums of a sample gconv_fwd gives: none, those of y, or those of swish(y) rounded to bf16 as the next convolution
 * reads it. */
enum gconv_sum { GCONV_NO_SUM, GCONV_SUM_Y, GCONV_SUM_SWISH };

struct gconv_fwd_out {
    void *y;          /* (B, Lout, Cout) = */
    float *mean, *var; /* (Cout) =: mean and population variance of y as rounded; both or neither NULL */
    enum gconv_sum sum;
    float *y_mean; /* (B, Cout) =: mean over Lout of what `sum` says; NULL without. Summed in double: the same bits at
                      every place of the batch, but for sums that cancel to 2^-29 of their terms */
};

size_t gconv_fwd_ws(struct ops_conv s); /* bytes that any choice of outputs needs */
/* y = conv(act(x)) + b; b may be NULL. `packed`: gconv_pack's, forward. */
enum ecg_status gconv_fwd(struct ops_conv s, const struct ops_act *act, const void *x, const void *packed,
                          const float *b, const struct gconv_fwd_out *out, struct ops_ws ws, cudaStream_t stream);
/* The same for the stem; x (B, Lin, Cin) without padding between its rows, no activation. */
size_t stem_fwd_ws(struct ops_conv s);
enum ecg_status stem_fwd(struct ops_conv s, const void *x, const void *packed, const float *b,
                         const struct gconv_fwd_out *out, struct ops_ws ws, cudaStream_t stream);

/* ------------------------------------------------------------------ backward */

size_t gconv_bwd_ws(struct ops_conv s);
/* dw += (16 G, 16, 16), db += (16 G) from act(x) and dy (B, Lout, Cout); dn (B, Lin, Cin) = the data gradient at
 * n = x*scale + shift: conv_bwd_x(dy) * swish'(n), not multiplied by scale. dw NULL: only dn (db NULL too); dn NULL: only
 * the weights' gradients; with both, one kernel reads x and dy once. db may be NULL. `packed`: gconv_pack's, backward;
 * unused without dn. x is unused for a dn without Swish. With both, behind (or
 * NULL): norm_dx(y, dy) is read instead of dy; norm (or NULL): norm_sums(x, dn). */
enum ecg_status gconv_bwd(struct ops_conv s, const struct ops_act *act, const void *x, const void *packed,
                          const void *dy, const struct ops_behind *behind, float *dw, float *db, void *dn,
                          const struct ops_norm *norm, struct ops_ws ws, cudaStream_t stream);

size_t stem_bwd_ws(struct ops_conv s);
/* dw += (Cout, Cin, 16), db += (Cout) or NULL */
enum ecg_status stem_bwd_w(struct ops_conv s, const void *x, const void *dy, float *dw, float *db, struct ops_ws ws,
                           cudaStream_t stream);

#endif
