/* SPDX-License-Identifier: MIT
 * The stem's convolution, 16 taps at stride 2 from 1 to 16 leads to C channels, forward: the grouped kernel of gconv.cu,
 * whose groups all read the same 16 input channels. Rows of the input are padded to 16 channels on their way into shared
 * memory, so that the input stays as the contract has it; weights of the channels that do not exist are zeros. */
#include "kernels/cuda/gconv_fwd.cuh"

size_t stem_fwd_ws(struct ops_conv s) {
    return stem_has(s) ? fwd_sums_bytes(gconv_rows_of(s.B, s.Lout), s.Cout) : 0;
}

enum ecg_status stem_fwd(struct ops_conv s, const void *x, const void *packed, const float *b,
                         const struct gconv_fwd_out *out, struct ops_ws ws, cudaStream_t stream) {
    static const char op[] = "act_conv_fwd";
    struct fwd_args a = {};
    const int has_sums = out->mean != NULL || out->y_mean != NULL;

    TRY(gconv_check(op, s, stem_has(s), NULL, ws, has_sums ? stem_fwd_ws(s) : 0));
    a.g = gconv_rows_of(s.B, s.Lout);
    a.src = gconv_source_of(x, s.Lin, s.Cin, GCONV_PAD, a.g, s.S, GCONV_TAPS - s.S);
    a.weights = (const uint4 *)packed;
    a.b = b;
    a.C = s.Cout;
    fwd_place_sums(&a, out, ws);
    TRY((fwd_launch_any<2, FWD_STEM>(op, s, a, stream)));
    return fwd_finish_sums(op, s, a, out, stream);
}
