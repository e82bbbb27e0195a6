/* SPDX-License-Identifier: MIT
 * Packing the weights of whole convolutions, one or all of a network's, with one waking of the threads. */
#include "kernels/cpu/pass.h"

enum { SHARES = 16 }; /* of a convolution's panels, a task each */

struct packing {
    struct ops_dev *dev;
    enum ops_dtype dtype;
    const struct ops_pack *list;
    enum pass_kind kind; /* of a list of one; PASS_BOTH: what the list says */
    char *scratch;       /* per thread */
    size_t stride;
};

/* Pass i of a convolution: forward, then the phases. 0: there is none. */
static int pass_at(const struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                   enum pass_kind kind, int i, struct pass *p) {
    if (kind & PASS_FORWARD) {
        if (i == 0) *p = pass_forward(dev, dtype, s);
        if (i-- == 0) return 1;
    }
    if (!(kind & PASS_BACKWARD) || i >= s.S) return 0;
    *p = pass_backward(dev, dtype, s, i);
    return 1;
}

size_t pack_bytes(const struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                  enum pass_kind kind) {
    struct pass p;
    size_t bytes = 0;
    for (int i = 0; pass_at(dev, dtype, s, kind, i, &p); i++) bytes += pass_packed(&p);
    return bytes;
}

static size_t thread_bytes(const struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s) {
    struct pass p;
    size_t floats = 0;
    if (dtype == OPS_F32) return 0;
    for (int i = 0; pass_at(dev, dtype, s, PASS_BOTH, i, &p); i++)
        if (pass_panel_floats(&p) > floats) floats = pass_panel_floats(&p);
    return cpu_round_up(floats * sizeof(float), MEM_ALIGN);
}

size_t pack_ws(const struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s) {
    return thread_bytes(dev, dtype, s) * (size_t)dev->n_threads;
}

/* Task = (convolution, share of its panels). */
static void pack_task(void *context, size_t task, int worker) {
    const struct packing *j = context;
    const struct ops_pack *one = &j->list[task / SHARES];
    const enum pass_kind kind = j->kind != PASS_BOTH ? j->kind
                                : one->backward      ? PASS_BOTH
                                                     : PASS_FORWARD;
    float *scratch = (float *)(void *)(j->scratch + (size_t)worker * j->stride);
    char *packed = one->packed;
    struct pass p;
    for (int i = 0; pass_at(j->dev, j->dtype, one->s, kind, i, &p); i++) {
        const struct cpu_part panels = cpu_part(pass_n_panels(&p), SHARES, task % SHARES);
        for (size_t k = panels.from; k < panels.to; k++)
            pass_pack(j->dev->level, &p, k, one->w, packed, scratch);
        packed += pass_packed(&p);
    }
}

void pack_conv(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s, enum pass_kind kind,
               const float *w, void *packed, void *scratch) {
    const struct ops_pack one = {.s = s, .w = w, .backward = kind == PASS_BOTH, .packed = packed};
    struct packing j = {.dev = dev,
                        .dtype = dtype,
                        .list = &one,
                        .kind = kind,
                        .scratch = scratch,
                        .stride = thread_bytes(dev, dtype, s)};
    cpu_run(dev, SHARES, (double)pack_bytes(dev, dtype, s, kind), pack_task, &j);
}

size_t cpu_conv_packed_bytes(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                             int backward) {
    if (cpu_check_conv("conv_packed_bytes", dtype, s) != ECG_OK) return 0;
    return pack_bytes(dev, dtype, s, backward ? PASS_BOTH : PASS_FORWARD);
}

enum ecg_status cpu_conv_pack(struct ops_dev *dev, enum ops_dtype dtype, size_t n,
                              const struct ops_pack *list, struct ops_ws ws) {
    struct packing j = {
        .dev = dev, .dtype = dtype, .list = list, .kind = PASS_BOTH, .scratch = ws.p};
    struct arena arena;
    double bytes = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t mine = thread_bytes(dev, dtype, list[i].s);
        if (mine > j.stride) j.stride = mine;
        bytes += (double)pack_bytes(dev, dtype, list[i].s, PASS_BOTH);
    }
    TRY(cpu_scratch("conv_pack", ws, j.stride * (size_t)dev->n_threads, &arena));
    cpu_run(dev, n * SHARES, bytes, pack_task, &j);
    return ECG_OK;
}
