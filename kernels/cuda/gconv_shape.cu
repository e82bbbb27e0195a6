/* SPDX-License-Identifier: MIT
 * Which shapes the 16-tap convolution kernels have, how they are cut, and the checks before and after a launch. */
#include "kernels/cuda/gconv_host.h"

#include <limits.h>

#include "kernels/cuda/gconv_slab.cuh"

static int has_rows(struct ops_conv s) {
    return s.B > 0 && s.Lin > 0 && s.Lin < 1 << 21 && s.K == GCONV_TAPS && s.P == GCONV_PAD &&
           s.Lout == (s.Lin + s.S - 1) / s.S && (int64_t)s.B * (s.Lin + GCONV_TAPS) <= INT_MAX;
}

int gconv_has(struct ops_conv s) {
    return (s.S == 1 || s.S == 2) && s.G > 0 && s.G <= INT_MAX / 16 && s.Cin == 16 * s.G &&
           s.Cout == s.Cin && has_rows(s);
}

int stem_has(struct ops_conv s) {
    return s.S == 2 && s.G == 1 && s.Cin >= 1 && s.Cin <= 16 && s.Cout > 0 && s.Cout % 16 == 0 &&
           has_rows(s);
}

int gconv_groups_per_cta(int n_groups) {
    return n_groups % 4 == 0 ? 4 : n_groups % 5 == 0 ? 5 : n_groups % 2 == 0 ? 2 : 1;
}

int gconv_instance(int groups) {
    return groups == 1 ? 0 : groups == 2 ? 1 : groups == 4 ? 2 : 3;
}

int gconv_ctas(int n_tiles, int n_chunks, int slots) {
    const int wanted = slots > n_chunks ? slots / n_chunks : 1;
    const int each = (n_tiles - 1) / wanted + 1;
    return (n_tiles - 1) / each + 1;
}

static enum ecg_status fail(const char *op, struct ops_conv s, const char *why) {
    return ecg_fail(ECG_ERR_FAIL,
                    "cuda %s, B %d, Lin %d, Lout %d, Cin %d, Cout %d, K %d, S %d, G %d, P %d: %s",
                    op, s.B, s.Lin, s.Lout, s.Cin, s.Cout, s.K, s.S, s.G, s.P, why);
}

enum ecg_status gconv_check(const char *op, struct ops_conv s, int has, const struct ops_act *act,
                            struct ops_ws ws, size_t needed) {
    if (!has) return fail(op, s, "not a shape of the 16-tap kernels");
    if (act && act->drop > 0) return fail(op, s, "dropout is a pass of its own");
    if (ws.n < needed) return fail(op, s, "scratch memory is too small");
    return ECG_OK;
}

size_t gconv_max_shared(void) {
    int device = 0, bytes = 0;
    if (cudaGetDevice(&device) == cudaSuccess &&
        cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) ==
            cudaSuccess)
        return (size_t)bytes;
    (void)cudaGetLastError(); /* the launch will say it */
    return 0;
}

enum ecg_status gconv_check_launch(const char *op, struct ops_conv s) {
    const cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? ECG_OK : fail(op, s, cudaGetErrorString(error));
}

enum ecg_status gconv_allow_shared(const char *op, struct ops_conv s, const void *kernel,
                                   size_t bytes) {
    if (bytes <= 48 * 1024) return ECG_OK;
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    if (error == cudaSuccess) return ECG_OK;
    (void)cudaGetLastError(); /* or the next launch would be blamed */
    return fail(op, s, cudaGetErrorString(error));
}
