/* SPDX-License-Identifier: MIT
 * A pass of windows (windows.h) against packed weights: y = conv(x) is one pass, its data gradient one pass for each
 * phase of the stride. What a pass reads and writes, how it is cut, and how its weights are packed. */
#ifndef KERNELS_CPU_PASS_H
#define KERNELS_CPU_PASS_H

#include "kernels/cpu/windows.h"

enum { PASS_PANEL_MOST = 32 }; /* columns of a panel, at any level */

/* Where the weight of (group, tap, channel in, channel out) of a pass lies in w. */
struct weight_map {
    ptrdiff_t base, group, tap, in, out;
};

struct pass {
    struct windows win;
    struct weight_map map;
    int out; /* output channels of a group */
    /* window m's output is row dst_first + m * dst_step of a sample */
    int dst_rows, dst_first, dst_step;
    int dst_L; /* the result's true rows of a sample, for dropout */

    int panel, n_panels;  /* columns of a packed panel; panels of a group */
    int batch, n_batches; /* groups of an item */
    int block, n_blocks;  /* windows of a block at most; blocks of a sample */
    int n_shares;         /* shares of the panels */
    size_t n_items, n_tasks;
    double work;
};

/* The passes of a convolution, cut into items and tasks: forward, and of phase 0 .. S-1 of the data gradient. Panels
 * depend on level and weights alone. A phase without windows or taps has win.n or win.taps 0. */
struct pass pass_forward(const struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s);
struct pass pass_backward(const struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                          int phase);
int pass_is_empty(const struct pass *p);

/* Places of a panel's column: taps * in, in bf16 by pairs. */
int pass_depth(const struct pass *p);

/* Packed weights: (groups, panels, depth, panel) places, columns past the last channel zero. Panels of all groups, bytes
 * of all, a multiple of MEM_ALIGN, and where a group's panel begins. */
size_t pass_n_panels(const struct pass *p);
size_t pass_packed(const struct pass *p);
const void *pass_panel(const struct pass *p, const void *packed, int g, int panel);
/* Packs panel `index` of all of them; scratch of pass_panel_floats. */
size_t pass_panel_floats(const struct pass *p);
void pass_pack(const struct level *v, const struct pass *p, size_t index, const float *w,
               void *packed, float *scratch);

/* Which of a convolution's passes. */
enum pass_kind { PASS_FORWARD = 1, PASS_BACKWARD = 2, PASS_BOTH = 3 };

/* Bytes of the packed weights of these passes, those of both with the forward pass's first. */
size_t pack_bytes(const struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                  enum pass_kind kind);
/* Bytes of scratch memory for packing them. */
size_t pack_ws(const struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s);
/* Packs w of one convolution; scratch of pack_ws bytes. */
void pack_conv(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s, enum pass_kind kind,
               const float *w, void *packed, void *scratch);

#endif
