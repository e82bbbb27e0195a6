/* SPDX-License-Identifier: MIT
 * Part of level_template.h: Swish, and what stands between a stored tensor and a convolution. */

/* e^-x within 2 units in the last place: x = n ln 2 + r with |r| <= ln(2)/2, then the polynomial of Cephes'
 * expf in -r and -n into the exponent's bits. Adding 1.5 * 2^23 rounds -x / ln 2 to the integer that then stands
 * in the low bits of the sum. Beyond the range of normal numbers the result stays at its end; NaN stays. */
ALWAYS_INLINE level_vec vec_exp_minus(level_vec x) {
    const level_vec magic = vec_set1(12582912.0f);
    x = vec_max(vec_set1(-88.0f), vec_min(vec_set1(87.0f), x));
    const level_vec shifted = vec_fma(x, vec_set1(-1.44269504f), magic), n = shifted - magic;
    const level_vec r =
        vec_fma(n, vec_set1(-2.12194440e-4f), vec_fma(n, vec_set1(0.693359375f), x));
    level_vec p = vec_set1(-1.9875691500e-4f);
    p = vec_fma(p, r, vec_set1(1.3981999507e-3f));
    p = vec_fma(p, r, vec_set1(-8.3334519073e-3f));
    p = vec_fma(p, r, vec_set1(4.1665795894e-2f));
    p = vec_fma(p, r, vec_set1(-1.6666665459e-1f));
    p = vec_fma(p, r, vec_set1(5.0000001201e-1f));
    p = vec_fma(p * r, r, vec_set1(1.0f) - r);
    return (level_vec)((level_int)p + ((level_int)shifted << 23));
}

#ifndef LEVEL_HAS_AVX512
/* Splits x, or the nearest number in [-124, 126], into *whole and the rest, which is in [0, 1]. */
ALWAYS_INLINE level_vec vec_split(level_vec x, level_vec *whole) {
    const level_vec magic = vec_set1(12582912.0f);
    x = vec_min(vec_set1(126.0f), vec_max(vec_set1(-124.0f), x));
    *whole = x - vec_set1(0.5f) + magic - magic;
    return x - *whole;
}

/* x 2^n for x of about 1 and n from vec_split. */
ALWAYS_INLINE level_vec vec_scale(level_vec x, level_vec n) {
    return (level_vec)((level_int)x + ((level_int)(n + vec_set1(12582912.0f)) << 23));
}
#endif

/* e^-x for results of 8 bits: 2^n 2^(f - 1/2), relative error below 3e-6. */
ALWAYS_INLINE level_vec vec_exp_minus_half(level_vec x) {
    level_vec n;
    const level_vec f = vec_split(vec_fma(x, vec_set1(-1.44269504f), vec_set1(0.5f)), &n);
    level_vec p = vec_set1(9.57010221e-3f);
    p = vec_fma(p, f, vec_set1(3.67776565e-2f));
    p = vec_fma(p, f, vec_set1(1.70725808e-1f));
    p = vec_fma(p, f, vec_set1(4.90027696e-1f));
    p = vec_fma(p, f, vec_set1(7.07108617e-1f));
    return vec_scale(p, n);
}

/* x sigmoid(x) is the quotient x / sigmoid_divisor(x): divisions have a unit of their own, which a reciprocal by
 * Newton's steps would leave idle. */
ALWAYS_INLINE level_vec sigmoid_divisor(const int half, level_vec x) {
    return vec_set1(1.0f) + (half ? vec_exp_minus_half(x) : vec_exp_minus(x));
}

ALWAYS_INLINE level_vec vec_sigmoid(const int half, level_vec x) {
    return vec_set1(1.0f) / sigmoid_divisor(half, x);
}

ALWAYS_INLINE level_vec vec_swish(const int half, level_vec x) {
    return x / sigmoid_divisor(half, x);
}

/* d (n sigmoid(n)) / dn */
ALWAYS_INLINE level_vec swish_slope(const int half, level_vec n) {
    const level_vec s = vec_sigmoid(half, n);
    return vec_fma(n * s, vec_set1(1.0f) - s, s);
}

static void sigmoid(size_t n, const float *x, float *y) {
#define STEP(c, n) store_part(0, y, c, vec_sigmoid(0, load_part(0, x, c, n)), n)
    FOR_COLUMNS(0, n, STEP);
#undef STEP
}

/* n = x * scale + shift of columns [c, c+n). */
ALWAYS_INLINE level_vec normed(const int half, const int norm, const struct level_act *t,
                               const void *x, ptrdiff_t c, int n) {
    const level_vec v = load_part(half, x, c, n);
    return norm ? vec_fma(v, load_part(0, t->scale, c, n), load_part(0, t->shift, c, n)) : v;
}

/* half, norm, swish and drop are constants wherever the two loops are inlined: no branch is left inside. */
ALWAYS_INLINE void act_fwd_part(const int half, const int norm, const int swish, const int drop,
                                const struct level_act *t, const void *x, const float *factor,
                                void *a, ptrdiff_t c, ptrdiff_t to, int n) {
    level_vec v = normed(half, norm, t, x, c, n);
    if (swish) v = vec_swish(half, v);
    if (drop) v *= load_part(0, factor, c, n);
    store_part(half, a, to, v, n);
}

/* Rows of a few groups are short pieces of long ones, which the processor does not foresee: asks for the row AHEAD rows
 * further on. Past the end it asks for nothing that is read; a hint never faults. */
enum { AHEAD = 6, LINE_BYTES = 64 };

ALWAYS_INLINE ptrdiff_t row_bytes(const int half, int cols) {
    return cols * (ptrdiff_t)(half ? sizeof(uint16_t) : sizeof(float));
}

ALWAYS_INLINE const void *row_ahead(const int half, const void *x, ptrdiff_t row) {
    return (const void *)((uintptr_t)x + (uintptr_t)(AHEAD * row * row_bytes(half, 1)));
}

ALWAYS_INLINE void ask_for_row(const void *row, ptrdiff_t bytes) {
    for (ptrdiff_t at = 0; at < bytes; at += LINE_BYTES)
        __builtin_prefetch((const void *)((uintptr_t)row + (uintptr_t)at));
}

ALWAYS_INLINE void act_fwd_loop(const int half, const int norm, const int swish, const int drop,
                                const struct level_act *t, void *a, ptrdiff_t a_row, int panel,
                                ptrdiff_t panel_step) {
    for (int r = 0; r < t->rows; r++) {
        const void *x = element(half, t->x, r * t->x_row);
        const float *factor = drop ? t->factor + (ptrdiff_t)r * t->cols : NULL;
        if (t->x_row > t->cols) ask_for_row(row_ahead(half, x, t->x_row), row_bytes(half, t->cols));
        ptrdiff_t to = r * a_row, shift = to; /* shift: from a column to its place in a */
        if (panel == LEVEL_VECTOR && t->cols % LEVEL_VECTOR == 0) {
            for (ptrdiff_t c = 0; c < t->cols; c += LEVEL_VECTOR, to += panel_step)
                act_fwd_part(half, norm, swish, drop, t, x, factor, a, c, to, LEVEL_VECTOR);
            continue;
        }
        for (ptrdiff_t c = 0; c < t->cols; c += panel, shift += panel_step - panel) {
            const ptrdiff_t end = c + panel < t->cols ? c + panel : t->cols;
#define STEP(c, n) act_fwd_part(half, norm, swish, drop, t, x, factor, a, c, c + shift, n)
            FOR_COLUMNS(c, end, STEP);
#undef STEP
        }
    }
}

ALWAYS_INLINE void act_bwd_part(const int half, const int norm, const int swish, const int drop,
                                const struct level_act *t, const void *x, const float *factor,
                                const float *da, int add, void *dn, ptrdiff_t c, int n) {
    level_vec d = load_part(0, da, c, n);
    if (drop) d *= load_part(0, factor, c, n);
    if (swish) d *= swish_slope(half, normed(half, norm, t, x, c, n));
    if (add) d += load_part(half, dn, c, n);
    store_part(half, dn, c, d, n);
}

ALWAYS_INLINE void act_bwd_loop(const int half, const int norm, const int swish, const int drop,
                                const struct level_act *t, const float *da, ptrdiff_t da_row,
                                int add, void *dn, ptrdiff_t dn_row) {
    for (int r = 0; r < t->rows; r++) {
        const void *x = swish ? element(half, t->x, r * t->x_row) : NULL;
        const float *factor = drop ? t->factor + (ptrdiff_t)r * t->cols : NULL;
        void *out = element_of(half, dn, r * dn_row);
        if (swish && t->x_row > t->cols)
            ask_for_row(row_ahead(half, x, t->x_row), row_bytes(half, t->cols));
#define STEP(c, n)                                                                                 \
    act_bwd_part(half, norm, swish, drop, t, x, factor, da + r * da_row, add, out, c, n)
        FOR_COLUMNS(0, t->cols, STEP);
#undef STEP
    }
}

/* act(x) of one vector of bf16, each in the low half of a lane. */
ALWAYS_INLINE level_uint act_bits(const int norm, const int swish, const struct level_act *t,
                                  const void *x, ptrdiff_t c, int n) {
    level_vec v = normed(1, norm, t, x, c, n);
    if (swish) v = vec_swish(1, v);
    return __builtin_convertvector(VEC_TO_HALF(v), level_uint);
}

ALWAYS_INLINE void act_zip_loop(const int norm, const int swish, const struct level_act *t,
                                uint32_t *out, ptrdiff_t out_row, int panel, ptrdiff_t panel_step) {
    for (int r = 0; r < t->rows; r += 2) {
        const void *lo = element(1, t->x, r * t->x_row), *hi = element(1, t->x, (r + 1) * t->x_row);
        const int paired = r + 1 < t->rows;
        uint32_t *to = out + r / 2 * out_row;
        for (ptrdiff_t c = 0; c < t->cols; c += panel, to += panel_step - panel) {
            const ptrdiff_t end = c + panel < t->cols ? c + panel : t->cols;
#define STEP(c, n)                                                                                 \
    store_part(0, to, c,                                                                           \
               (level_vec)(act_bits(norm, swish, t, lo, c, n) |                                    \
                           (paired ? act_bits(norm, swish, t, hi, c, n) << 16 : (level_uint){0})), \
               n)
            FOR_COLUMNS(c, end, STEP);
#undef STEP
        }
    }
}

static void act_zip(const struct level_act *t, uint32_t *out, ptrdiff_t out_row, int panel,
                    ptrdiff_t panel_step) {
    switch ((t->scale ? 2 : 0) + (t->swish ? 1 : 0)) {
    case 0: act_zip_loop(0, 0, t, out, out_row, panel, panel_step); break;
    case 1: act_zip_loop(0, 1, t, out, out_row, panel, panel_step); break;
    case 2: act_zip_loop(1, 0, t, out, out_row, panel, panel_step); break;
    case 3: act_zip_loop(1, 1, t, out, out_row, panel, panel_step); break;
    }
}

#define ACT_FLAGS(t)                                                                               \
    (((t)->half ? 8 : 0) + ((t)->scale ? 4 : 0) + ((t)->swish ? 2 : 0) + ((t)->factor ? 1 : 0))
#define ACT_CASE(loop, flags, ...)                                                                 \
    case flags:                                                                                    \
        loop((flags) >> 3, (flags) >> 2 & 1, (flags) >> 1 & 1, (flags)&1, __VA_ARGS__);            \
        break;
#define ACT_CASES(loop, ...)                                                                       \
    ACT_CASE(loop, 0, __VA_ARGS__)                                                                 \
    ACT_CASE(loop, 1, __VA_ARGS__)                                                                 \
    ACT_CASE(loop, 2, __VA_ARGS__)                                                                 \
    ACT_CASE(loop, 3, __VA_ARGS__)                                                                 \
    ACT_CASE(loop, 4, __VA_ARGS__)                                                                 \
    ACT_CASE(loop, 5, __VA_ARGS__)                                                                 \
    ACT_CASE(loop, 6, __VA_ARGS__)                                                                 \
    ACT_CASE(loop, 7, __VA_ARGS__)                                                                 \
    ACT_CASE(loop, 8, __VA_ARGS__)                                                                 \
    ACT_CASE(loop, 9, __VA_ARGS__)                                                                 \
    ACT_CASE(loop, 10, __VA_ARGS__)                                                                \
    ACT_CASE(loop, 11, __VA_ARGS__)                                                                \
    ACT_CASE(loop, 12, __VA_ARGS__)                                                                \
    ACT_CASE(loop, 13, __VA_ARGS__)                                                                \
    ACT_CASE(loop, 14, __VA_ARGS__)                                                                \
    ACT_CASE(loop, 15, __VA_ARGS__)

static void act_fwd(const struct level_act *t, void *a, ptrdiff_t a_row, int panel,
                    ptrdiff_t panel_step) {
    switch (ACT_FLAGS(t)) { ACT_CASES(act_fwd_loop, t, a, a_row, panel, panel_step) }
}

static void act_bwd(const struct level_act *t, const float *da, ptrdiff_t da_row, int add, void *dn,
                    ptrdiff_t dn_row) {
    switch (ACT_FLAGS(t)) { ACT_CASES(act_bwd_loop, t, da, da_row, add, dn, dn_row) }
}
