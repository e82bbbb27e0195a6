/* SPDX-License-Identifier: MIT
 * Grouped convolution of 16 taps and 16 channels a group on tensor cores: forward, and the data gradient at stride 1.
 *
 *     y[b,l,co] = bias[co] + sum over taps t and channels ci of the group of act(x)[b, l*S - 7 + t, ci] * w[co,ci,t]
 *     da[b,i,ci] = sum over t and co of dy[b, i + 7 - t, co] * w[co,ci,t]        dn = da * swish'(n)        (S = 1)
 *
 * One tap of one group is one k16 step of mma: 16 rows by 16 input channels, times 16 by 16 weights. The rows under a tap
 * are an offset into the slab (gconv_slab.cuh), so nothing is copied into columns: 16 taps make a sum over 256.
 * The data gradient is the same sum over a slab of dy with the taps' offsets reversed and the padding of the other side. */
#include "kernels/cuda/gconv_fwd.cuh"

static struct gconv_act activation(const struct ops_act *act) {
    struct gconv_act a;
    a.scale = act->scale;
    a.shift = act->shift;
    a.swish = act->swish;
    return a;
}

size_t gconv_fwd_ws(struct ops_conv s) {
    return gconv_has(s) ? fwd_sums_bytes(gconv_rows_of(s.B, s.Lout), s.Cout) : 0;
}

enum ecg_status gconv_fwd(struct ops_conv s, const struct ops_act *act, const void *x,
                          const void *packed, const float *b, const struct gconv_fwd_out *out,
                          struct ops_ws ws, cudaStream_t stream) {
    static const char op[] = "act_conv_fwd";
    struct fwd_args a = {};
    const int has_sums = out->mean != NULL || out->y_mean != NULL;

    TRY(gconv_check(op, s, gconv_has(s), act, ws, has_sums ? gconv_fwd_ws(s) : 0));
    a.g = gconv_rows_of(s.B, s.Lout);
    a.src = gconv_source_of(x, s.Lin, s.Cin, GCONV_PAD, a.g, s.S, GCONV_TAPS - s.S);
    a.act = activation(act);
    a.weights = (const uint4 *)packed;
    a.b = b;
    a.C = s.Cout;
    fwd_place_sums(&a, out, ws);
    if (s.S == 1)
        TRY((fwd_launch_any<1, FWD_CONV>(op, s, a, stream)));
    else
        TRY((fwd_launch_any<2, FWD_CONV>(op, s, a, stream)));
    return fwd_finish_sums(op, s, a, out, stream);
}

enum ecg_status gconv_data_stride1(struct ops_conv s, const struct ops_act *act, const void *x,
                                   const void *packed, const void *dy, void *dn,
                                   cudaStream_t stream) {
    struct fwd_args a = {};

    a.g = gconv_rows_of(s.B, s.Lin);
    a.src = gconv_source_of(dy, s.Lout, s.Cout, GCONV_TAPS - 1 - GCONV_PAD, a.g, 1, GCONV_TAPS - 1);
    a.act = activation(act);
    a.weights = (const uint4 *)packed;
    a.x = (const uint16_t *)x;
    a.y = (uint16_t *)dn;
    a.C = s.Cin;
    return fwd_launch_any<1, FWD_DATA>("act_conv_bwd", s, a, stream);
}
