/* SPDX-License-Identifier: MIT
 * Weights of the 16-tap convolutions in the order of mma's operand B (kernels/cuda/ptx.h): for each 16 output channels of
 * the product, tap t and lane 4g + q, four words
 *
 *     word 2j + h = the two values k = 2q + 8h, 2q + 8h + 1 of column 4 (g>>1) + 2j + (g&1)        (j, h = 0, 1)
 *
 * where k counts the product's 16 input channels. The columns are those of mma's two halves j, permuted so that a lane of
 * the result owns the four neighbouring channels 4q .. 4q+3 and stores them at once.
 * Forward: column = output channel of the convolution, k = input channel (a stem's channels past Cin are zeros).
 * Backward: column = input channel, k = output channel. Taps keep their order in both. */
#include "kernels/cuda/gconv_host.h"

#include "kernels/cuda/gconv_slab.cuh"

enum { PACK_THREADS = 128, PACK_LIST = 64, GROUP_WEIGHTS = 16 * 16 * GCONV_TAPS };

struct pack_item {
    const float *w; /* (Cout, Cg, 16) */
    uint4 *packed;
    int group0; /* of all the launch's groups, this item's first */
    int Cg;     /* input channels of a group: 16, or the stem's leads */
};

struct pack_list {
    struct pack_item item[PACK_LIST];
    int n;
};

size_t gconv_packed_bytes(struct ops_conv s) {
    if (gconv_has(s) || stem_has(s)) return (size_t)s.Cout / 16 * GCONV_GROUP_BYTES;
    return 0;
}

/* One CTA packs one group: s_w[co][ci][tap] as in w, Cg input channels. */
template <bool BACKWARD>
static __global__ void __launch_bounds__(PACK_THREADS) gconv_pack_kernel(struct pack_list list) {
    SHARED(float, s_w, GROUP_WEIGHTS);
    const int tid = (int)threadIdx.x;
    int i = 0;
    while (i + 1 < list.n && (int)blockIdx.x >= list.item[i + 1].group0) i++;
    const struct pack_item item = list.item[i];
    const int group = (int)blockIdx.x - item.group0, n = 16 * item.Cg * GCONV_TAPS;

    for (int e = tid; e < n; e += PACK_THREADS) s_w[e] = item.w[(size_t)group * n + e];
    __syncthreads();

    for (int e = tid; e < GCONV_TAPS * 32; e += PACK_THREADS) {
        const int tap = e >> 5, lane = e & 31, row = lane >> 2, q = lane & 3;
        uint32_t word[4];
        for (int j = 0; j < 2; j++) {
            const int column = 4 * (row >> 1) + 2 * j + (row & 1);
            for (int h = 0; h < 2; h++) {
                float v[2];
                for (int k = 0; k < 2; k++) {
                    const int at = 2 * q + 8 * h + k;
                    const int co = BACKWARD ? at : column, ci = BACKWARD ? column : at;
                    v[k] = ci < item.Cg ? s_w[(co * item.Cg + ci) * GCONV_TAPS + tap] : 0.0f;
                }
                word[2 * j + h] = pack_bf16(v[0], v[1]);
            }
        }
        item.packed[(size_t)group * GCONV_TAPS * 32 + e] =
            make_uint4(word[0], word[1], word[2], word[3]);
    }
}

/* One launch: items from list[0] on, PACK_LIST at most. */
static enum ecg_status pack_some(int backward, int n, const struct gconv_weights *list,
                                 cudaStream_t stream) {
    const struct ops_ws no_scratch = {NULL, 0};
    struct pack_list items = {};
    int n_groups = 0;

    for (int i = 0; i < n; i++) {
        const struct ops_conv s = list[i].s;
        const int has = gconv_has(s) || (stem_has(s) && !backward);
        TRY(gconv_check("conv_pack", s, has, NULL, no_scratch, 0));
        items.item[i].w = list[i].w;
        items.item[i].packed = (uint4 *)list[i].packed;
        items.item[i].group0 = n_groups;
        items.item[i].Cg = s.Cin / s.G;
        n_groups += s.Cout / 16;
    }
    items.n = n;
    if (backward)
        LAUNCH((gconv_pack_kernel<true>), n_groups, PACK_THREADS, 0, stream, items);
    else
        LAUNCH((gconv_pack_kernel<false>), n_groups, PACK_THREADS, 0, stream, items);
    return gconv_check_launch("conv_pack", list[0].s);
}

enum ecg_status gconv_pack(int backward, int n, const struct gconv_weights *list,
                           cudaStream_t stream) {
    for (int i = 0; i < n; i += PACK_LIST)
        TRY(pack_some(backward, n - i < PACK_LIST ? n - i : PACK_LIST, list + i, stream));
    return ECG_OK;
}
