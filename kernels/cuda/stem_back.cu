/* SPDX-License-Identifier: MIT
 * Gradients of the stem's weights: the backward kernel of gback.cu with one slab of 16 input channels for all groups. The
 * stem's input is the ECG, so there is no data gradient. */
#include "kernels/cuda/gconv_back.cuh"

static int n_splits_of(struct ops_conv s) {
    return back_ctas(gconv_rows_of(s.B, s.Lout), s.Cout, BACK_STEM);
}

size_t stem_bwd_ws(struct ops_conv s) {
    return stem_has(s) ? back_partial_bytes(n_splits_of(s), s.Cout) : 0;
}

enum ecg_status stem_bwd_w(struct ops_conv s, const void *x, const void *dy, float *dw, float *db,
                           struct ops_ws ws, cudaStream_t stream) {
    static const char op[] = "conv_bwd_w";
    struct back_args a = {};

    TRY(gconv_check(op, s, stem_has(s), NULL, ws, stem_bwd_ws(s)));
    a.g = gconv_rows_of(s.B, s.Lout);
    a.x = gconv_source_of(x, s.Lin, s.Cin, GCONV_PAD, a.g, s.S, GCONV_TAPS - s.S);
    a.dy = gconv_source_of(dy, s.Lout, s.Cout, 0, a.g, 1, 0);
    a.C = s.Cout;
    const int n_splits = n_splits_of(s);
    a.weights = (float *)ws.p;
    a.bias = a.weights + (size_t)n_splits * a.C * GCONV_TAPS * 16;
    TRY((back_launch_any<2, BACK_STEM>(op, s, a, stream)));
    return back_finish(op, s, n_splits, a.weights, a.bias, dw, db, stream);
}
