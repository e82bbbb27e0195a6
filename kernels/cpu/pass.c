/* SPDX-License-Identifier: MIT
 * Passes: their shape, their cut, and the order of their weights. */
#include "kernels/cpu/pass.h"

#include <string.h>

enum {
    SLAB_BYTES = 512 * 1024,  /* of single rows: half of a second-level cache */
    WINDOW_BYTES = 64 * 1024, /* of a group's overlapping windows, which are read taps times */
    MOST_WINDOWS =
        112, /* four of the highest tiles: a buffer of BUFFER_COLS then stays in the nearest cache */
    LEAST_WINDOWS = 56,
    SPAN = 64 /* neighbouring taps turned over at once */
};
#define TASK_WORK 1e6 /* operations that a task should hold at least */

/* Cuts the pass into items and tasks. Every output is one task's, so threads may have a say in the cut. */
static void cut(const struct ops_dev *dev, struct pass *p) {
    const struct windows *w = &p->win;
    const size_t window_bytes = (size_t)(w->row * w->step) * cpu_size(w->dtype);
    const size_t budget = w->taps > 1 ? WINDOW_BYTES : SLAB_BYTES;
    const int fit =
        budget / window_bytes < MOST_WINDOWS ? (int)(budget / window_bytes) : MOST_WINDOWS;
    const int most = cpu_max(fit, LEAST_WINDOWS);
    const int wanted = 4 * dev->n_threads; /* items, for balance */

    p->panel = p->out <= dev->level->vector ? dev->level->vector : dev->level->panel_cols;
    p->n_panels = (int)cpu_ceil_div((size_t)p->out, (size_t)p->panel);
    p->batch = windows_batch(w->dtype, w->in, p->out, w->G);
    p->n_batches = (int)cpu_ceil_div((size_t)w->G, (size_t)p->batch);
    p->n_blocks = (int)cpu_ceil_div((size_t)w->n, (size_t)most);
    const int64_t lanes = (int64_t)w->B * p->n_batches;
    while (lanes * p->n_blocks < wanted && w->n / (p->n_blocks + 1) >= LEAST_WINDOWS) p->n_blocks++;
    p->block = (int)cpu_ceil_div((size_t)w->n, (size_t)p->n_blocks);
    p->n_shares = 1;
    while (lanes * p->n_blocks * p->n_shares < wanted && p->n_panels / (p->n_shares + 1) >= 2)
        p->n_shares++;

    p->n_items = (size_t)lanes * (size_t)p->n_blocks * (size_t)p->n_shares;
    p->work = 2.0 * w->B * w->G * w->n * ((double)w->taps * w->in * p->out + 8.0 * w->in);
    p->n_tasks = (size_t)(p->work / TASK_WORK) + 1;
    if (p->n_tasks > p->n_items) p->n_tasks = p->n_items;
}

struct pass pass_forward(const struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s) {
    struct pass p = {
        .win = windows_fwd(dtype, s), .out = s.Cout / s.G, .dst_step = 1, .dst_L = s.Lout};
    const ptrdiff_t in = s.Cin / s.G, out = p.out;
    p.dst_rows = p.win.n;
    p.map = (struct weight_map){.group = out * in * s.K, .tap = 1, .in = s.K, .out = in * s.K};
    cut(dev, &p);
    return p;
}

/* Tap j of phase r is the convolution's tap r + (J-1-j) S. */
struct pass pass_backward(const struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                          int phase) {
    struct pass p = {.out = s.Cin / s.G, .dst_step = s.S, .dst_L = s.Lin};
    p.win = windows_bwd(dtype, s, phase, &p.dst_first);
    const ptrdiff_t in = s.Cin / s.G, out = s.Cout / s.G;
    p.dst_rows = p.win.B == s.B ? s.Lin : p.win.n;
    p.map = (struct weight_map){.base = phase + (ptrdiff_t)(p.win.taps - 1) * s.S,
                                .group = out * in * s.K,
                                .tap = -s.S,
                                .in = in * s.K,
                                .out = s.K};
    if (!pass_is_empty(&p)) cut(dev, &p);
    return p;
}

int pass_is_empty(const struct pass *p) {
    return p->win.n == 0 || p->win.taps == 0;
}

/* ------------------------------------------------------------------------------------- weights */

static int is_half(const struct pass *p) {
    return p->win.dtype == OPS_BF16;
}

int pass_depth(const struct pass *p) {
    const int rows = p->win.taps * p->win.in;
    return is_half(p) ? (rows + 1) / 2 : rows;
}

size_t pass_n_panels(const struct pass *p) {
    return pass_is_empty(p) ? 0 : (size_t)p->win.G * (size_t)p->n_panels;
}

static size_t panel_bytes(const struct pass *p) {
    return (size_t)pass_depth(p) * (size_t)p->panel * LEVEL_PLACE;
}

size_t pass_packed(const struct pass *p) {
    return cpu_round_up(pass_n_panels(p) * panel_bytes(p), MEM_ALIGN);
}

const void *pass_panel(const struct pass *p, const void *packed, int g, int panel) {
    return (const char *)packed +
           ((size_t)g * (size_t)p->n_panels + (size_t)panel) * panel_bytes(p);
}

size_t pass_panel_floats(const struct pass *p) {
    return (size_t)p->win.taps * (size_t)p->win.in * (size_t)p->panel;
}

/* Row by row, where channels out are neighbours: `cols` of them from w on, for every tap and channel in. */
static void pack_rows(const struct pass *p, const float *w, int cols, float *to) {
    const struct weight_map *map = &p->map;
    for (int t = 0; t < p->win.taps; t++) {
        for (int i = 0; i < p->win.in; i++, to += p->panel) {
            memcpy(to, w + t * map->tap + i * map->in, (size_t)cols * sizeof *to);
        }
    }
}

/* Every map->tap-th tap: a span of neighbours is turned over, and the rows wanted are taken from it. */
static void pack_spans(const struct level *v, const struct pass *p, const float *w, int cols,
                       float *to) {
    const struct weight_map *map = &p->map;
    const int in = p->win.in, taps = p->win.taps;
    const int stride = (int)(map->tap > 0 ? map->tap : -map->tap), most = (SPAN - 1) / stride + 1;
    float turned[SPAN * PASS_PANEL_MOST];
    for (int i = 0; i < in; i++) {
        for (int t0 = 0; t0 < taps; t0 += most) {
            const int n = cpu_min(most, taps - t0);
            const int least = map->tap > 0 ? t0 : t0 + n - 1;
            v->transpose(cols, (n - 1) * stride + 1, w + least * map->tap + i * map->in, map->out,
                         turned, PASS_PANEL_MOST);
            for (int k = 0; k < n; k++) {
                const int row = (map->tap > 0 ? k : n - 1 - k) * stride;
                memcpy(to + ((ptrdiff_t)(t0 + k) * in + i) * p->panel,
                       turned + row * PASS_PANEL_MOST, (size_t)cols * sizeof *to);
            }
        }
    }
}

/* Rows (tap, channel in) of floats; columns past the last channel are zero. */
static void pack_floats(const struct level *v, const struct pass *p, const float *w, int cols,
                        float *to) {
    const struct weight_map *map = &p->map;
    const int in = p->win.in, taps = p->win.taps;
    if (cols < p->panel) {
        for (ptrdiff_t d = 0; d < (ptrdiff_t)taps * in; d++) {
            for (int j = cols; j < p->panel; j++) to[d * p->panel + j] = 0;
        }
    }
    if (taps == 1 && map->in == 1) {
        v->transpose(cols, in, w, map->out, to, p->panel);
    } else if (map->out > 1 &&
               (map->tap == 1 || map->tap == -1)) { /* taps lie side by side, in order or not */
        const float *least = map->tap > 0 ? w : w - (taps - 1);
        float *row = map->tap > 0 ? to : to + (ptrdiff_t)(taps - 1) * in * p->panel;
        for (int i = 0; i < in; i++)
            v->transpose(cols, taps, least + i * map->in, map->out, row + i * p->panel,
                         map->tap * in * p->panel);
    } else if (map->out > 1) {
        pack_spans(v, p, w, cols, to);
    } else {
        pack_rows(p, w, cols, to);
    }
}

void pass_pack(const struct level *v, const struct pass *p, size_t index, const float *w,
               void *packed, float *scratch) {
    const int g = (int)(index / (size_t)p->n_panels), panel = (int)(index % (size_t)p->n_panels);
    const int first = panel * p->panel, cols = cpu_min(p->panel, p->out - first);
    float *to = (float *)(void *)((char *)packed + index * panel_bytes(p));
    w += p->map.base + g * p->map.group + first * p->map.out;
    pack_floats(v, p, w, cols, is_half(p) ? scratch : to);
    if (is_half(p)) v->pair_rows(p->win.taps * p->win.in, p->panel, scratch, to);
}
