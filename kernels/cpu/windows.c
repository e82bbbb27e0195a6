/* SPDX-License-Identifier: MIT
 * Slabs: which source rows they hold, and filling them.
 *
 * The data gradient dx[l] = sum over the k with (l + P - k) % S == 0 of dy[(l + P - k) / S] w[k]. For the rows
 * l + P = q S + r of one phase r these are k = r + j S, j = 0 .. J-1, J = ceil((K - r) / S), and dy's rows
 * q - j: a convolution of stride 1 with J taps, taken backwards. */
#include "kernels/cpu/windows.h"

#include <string.h>

enum {
    LINE = 64,           /* bytes of a cache line */
    ROW_BYTES = 4 * LINE /* of a row that are worth reading at once */
};

int windows_mergeable(struct ops_conv s) {
    return s.K == 1 && s.S == 1 && s.P == 0 && s.Lin == s.Lout;
}

/* A slab of single rows gets rows of an odd number of cache lines, so that rows some powers of two apart
 * do not fall on the same set of the cache; a slab of overlapping windows must be dense. */
static ptrdiff_t slab_row(enum ops_dtype dtype, int taps, int in) {
    const int line = (int)(LINE / cpu_size(dtype));
    return taps > 1 ? in : ((in + line - 1) / line | 1) * line;
}

int windows_readable(enum ops_dtype dtype, int C) {
    enum { PAGE = 4096 };
    return (size_t)C * cpu_size(dtype) % PAGE != 0 && (dtype == OPS_F32 || C % 2 == 0);
}

int windows_in_place(const struct windows *w, const struct ops_act *act) {
    return w->taps == 1 && w->step == 1 && w->first == 0 && w->n == w->rows &&
           cpu_act_is_none(act) && windows_readable(w->dtype, w->G * w->in);
}

int windows_batch(enum ops_dtype dtype, int in, int out, int G) {
    const int widest = cpu_max(in, out);
    return cpu_min(G, cpu_max(1, (int)(ROW_BYTES / cpu_size(dtype)) / widest));
}

struct windows windows_fwd(enum ops_dtype dtype, struct ops_conv s) {
    struct windows w = {.dtype = dtype,
                        .B = s.B,
                        .G = s.G,
                        .rows = s.Lin,
                        .in = s.Cin / s.G,
                        .taps = s.K,
                        .step = s.S,
                        .first = -s.P,
                        .n = s.Lout,
                        .L = s.Lin};
    if (windows_mergeable(s)) {
        w.B = 1;
        w.rows = w.n = s.B * s.Lin;
    }
    w.row = slab_row(dtype, w.taps, w.in);
    return w;
}

/* Smallest q with q * d >= n, for any sign of n. */
static int ceil_div(int n, int d) {
    return n > 0 ? (n + d - 1) / d : -(-n / d);
}

struct windows windows_bwd(enum ops_dtype dtype, struct ops_conv s, int phase, int *l0) {
    const int q0 = ceil_div(s.P - phase, s.S), first = q0 * s.S + phase - s.P;
    struct windows w = {.dtype = dtype,
                        .B = s.B,
                        .G = s.G,
                        .rows = s.Lout,
                        .in = s.Cout / s.G,
                        .taps = phase < s.K ? (s.K - phase + s.S - 1) / s.S : 0,
                        .step = 1,
                        .n = first < s.Lin ? (s.Lin - 1 - first) / s.S + 1 : 0,
                        .L = s.Lout};
    w.first = q0 - w.taps + 1;
    if (windows_mergeable(s)) {
        w.B = 1;
        w.rows = w.n = s.B * s.Lin;
    }
    w.row = slab_row(dtype, w.taps, w.in);
    *l0 = first;
    return w;
}

size_t windows_slab(const struct windows *w, int n) {
    const size_t place = LEVEL_PLACE / cpu_size(w->dtype);            /* elements */
    const size_t last = (size_t)(n - 1) * (size_t)(w->step * w->row); /* window's first element */
    return cpu_round_up(last + cpu_round_up((size_t)(w->taps * w->row), place), place);
}

/* Elements [from, to) of a slab become zero. */
static void clear(const struct windows *w, void *slab, int64_t from, int64_t to) {
    memset(cpu_out(w->dtype, slab, from), 0, (size_t)(to - from) * cpu_size(w->dtype));
}

/* Slab rows [begin, end) have a source: zeros around them, and behind a single row of an odd number of bf16, or the
 * slab of such rows, where the last place of a window ends. */
static void pad(const struct windows *w, void *slab, int64_t begin, int64_t end, int64_t n_rows,
                size_t size) {
    clear(w, slab, 0, begin * w->row);
    clear(w, slab, end * w->row, n_rows * w->row);
    clear(w, slab, n_rows * w->row, (int64_t)size);
    if (w->dtype == OPS_F32 || w->taps > 1 || w->in % 2 == 0) return;
    for (int64_t r = begin; r < end; r++)
        clear(w, slab, r * w->row + w->in, r * w->row + w->in + 1);
}

void windows_fill(const struct level *v, const struct windows *w, const struct ops_act *act,
                  const void *src, int b, int g0, int n_groups, int m0, int n, float *factor,
                  void *slab, size_t next) {
    const int64_t from = (int64_t)m0 * w->step + w->first; /* source row of the slab's row 0 */
    const int64_t n_rows = (int64_t)(n - 1) * w->step + w->taps;
    const size_t each = windows_slab(w, n);
    const int64_t begin = from >= 0 ? 0 : -from < n_rows ? -from : n_rows;
    int64_t end = w->rows - from < n_rows ? w->rows - from : n_rows;
    if (end < begin) end = begin;
    const struct cpu_rows t = {.act = act,
                               .dtype = w->dtype,
                               .x = src,
                               .C = w->G * w->in,
                               .L = w->L,
                               .row0 = (int64_t)b * w->rows + from + begin,
                               .row_step = 1,
                               .n = (int)(end - begin),
                               .c0 = g0 * w->in,
                               .cols = n_groups * w->in,
                               .factor = factor};
    cpu_act_rows(v, &t, cpu_out(w->dtype, slab, begin * w->row), w->row, w->in, (ptrdiff_t)next);
    for (int g = 0; g < n_groups; g++)
        pad(w, cpu_out(w->dtype, slab, g * (int64_t)next), begin, end, n_rows, each);
}
