/* SPDX-License-Identifier: MIT
 * The operations of a warp and cp.async. */
#include "block.h"

/* ---- shuffles, votes ---- */
static void sync_lanes(struct emu_warp *w, uint32_t) {
    w->phase ^= 1;
}

void emu_syncwarp(uint32_t mask, EMU_PLACE_ARG) {
    struct emu_warp *w = emu_fiber_now()->warp;
    char *edge = emu_block_now->edges + emu_edge_warp + 16 * (w - emu_block_now->warps.data()) +
                 8 * w->phase;
    emu_release(edge);
    emu_rendezvous(mask, sync_lanes, false, "__syncwarp", EMU_HERE);
    emu_acquire(edge);
}

static void vote_lanes(struct emu_warp *w, uint32_t mask) {
    uint32_t result = 0;
    for (uint32_t set = mask; set != 0; set &= set - 1) {
        const unsigned lane = (unsigned)__builtin_ctz(set);
        result |= w->in[0][lane] << lane;
    }
    for (uint32_t set = mask; set != 0; set &= set - 1) w->out[0][__builtin_ctz(set)] = result;
}

uint32_t emu_ballot(uint32_t mask, bool value, EMU_PLACE_ARG) {
    const struct emu_fiber *t = emu_fiber_now();
    t->warp->in[0][t->lane] = value;
    emu_rendezvous(mask, vote_lanes, false, "__ballot_sync", EMU_HERE);
    return t->warp->out[0][t->lane];
}

/* The lane that `lane` reads from: itself where the wanted one lies outside its part of `width` lanes. */
static unsigned source_lane(unsigned kind, int operand, int width, unsigned lane) {
    const int first = (int)lane & ~(width - 1), at = (int)lane - first;
    int from = at;
    switch (kind) {
    case 'i':
        from = operand & (width - 1);
        break;
    case 'x':
        from = at ^ operand;
        break;
    case 'd':
        from = at + operand;
        break;
    default:
        from = at - operand;
        break;
    }
    if (from < 0 || from >= width) from = at;
    return (unsigned)(first + from);
}

/* in: the value's halves, operand, kind, width */
static void shuffle_lanes(struct emu_warp *w, uint32_t mask) {
    for (uint32_t set = mask; set != 0; set &= set - 1) {
        const unsigned lane = (unsigned)__builtin_ctz(set);
        const unsigned from =
            source_lane(w->in[3][lane], (int)w->in[2][lane], (int)w->in[4][lane], lane);
        if (!(mask >> from & 1))
            emu_fail("shuffle: lane %u reads lane %u, which is not in the mask %08x", lane, from,
                     mask);
        w->out[0][lane] = w->in[0][from];
        w->out[1][lane] = w->in[1][from];
    }
}

uint64_t emu_shuffle(uint32_t mask, uint64_t value, char kind, int operand, int width,
                     EMU_PLACE_ARG) {
    const struct emu_fiber *t = emu_fiber_now();
    struct emu_warp *w = t->warp;
    const unsigned lane = t->lane;
    if (width < 1 || width > 32 || (width & (width - 1)) != 0)
        emu_fail("shuffle at %s:%d: width %d", EMU_HERE, width);
    w->in[0][lane] = (uint32_t)value;
    w->in[1][lane] = (uint32_t)(value >> 32);
    w->in[2][lane] = (uint32_t)operand;
    w->in[3][lane] = (uint32_t)kind;
    w->in[4][lane] = (uint32_t)width;
    emu_rendezvous(mask, shuffle_lanes, false, "shuffle", EMU_HERE);
    return w->out[0][lane] | (uint64_t)w->out[1][lane] << 32;
}

/* ---- mma ---- in: a[0..3], b0, b1, d[0..3] as bits; out: d ---- */
typedef float float8 __attribute__((vector_size(32)));
typedef uint32_t uint8x32 __attribute__((vector_size(32)));

/* Sums over k in order, in fp32. The products of two bf16 are exact. */
static inline __attribute__((always_inline)) void mma_sum(struct emu_warp *w) {
    float8 b[16];
    for (unsigned k = 0; k < 16; k += 2) {
        uint8x32 pair;
        for (unsigned g = 0; g < 8; g++) pair[g] = w->in[4 + (k >> 3)][4 * g + (k >> 1 & 3)];
        b[k] = (float8)(pair << 16);
        b[k + 1] = (float8)(pair & 0xffff0000u);
    }
    for (unsigned row = 0; row < 16; row++) {
        const unsigned g = 4 * (row & 7), half = row >> 3;
        const uint32_t *d0 = w->in[6 + 2 * half] + g, *d1 = w->in[7 + 2 * half] + g;
        uint8x32 start = {d0[0], d1[0], d0[1], d1[1], d0[2], d1[2], d0[3], d1[3]};
        float8 sum = (float8)start;
        for (unsigned q = 0; q < 8; q++) {
            const uint32_t a = w->in[half + 2 * (q >> 2)][g + (q & 3)];
            sum += __uint_as_float(a << 16) * b[2 * q];
            sum += __uint_as_float(a & 0xffff0000u) * b[2 * q + 1];
        }
        start = (uint8x32)sum;
        for (unsigned q = 0; q < 4; q++) {
            w->out[2 * half][g + q] = start[2 * q];
            w->out[2 * half + 1][g + q] = start[2 * q + 1];
        }
    }
}

static __attribute__((target("avx2"))) void mma_avx2(struct emu_warp *w) {
    mma_sum(w);
}

static void mma_lanes(struct emu_warp *w, uint32_t) {
    if (EMU_COUNT) emu_count_mma();
    static const bool avx2 = __builtin_cpu_supports("avx2");
    if (avx2)
        mma_avx2(w);
    else
        mma_sum(w);
}

void emu_mma_bf16(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1, EMU_PLACE_ARG) {
    const struct emu_fiber *t = emu_fiber_now();
    struct emu_warp *w = t->warp;
    const unsigned lane = t->lane;
    for (unsigned i = 0; i < 4; i++) {
        w->in[i][lane] = a[i];
        w->in[6 + i][lane] = __float_as_uint(d[i]);
    }
    w->in[4][lane] = b0;
    w->in[5][lane] = b1;
    emu_rendezvous(0xffffffffu, mma_lanes, true, "mma", EMU_HERE);
    for (unsigned i = 0; i < 4; i++) d[i] = __uint_as_float(w->out[i][lane]);
}

/* ---- ldmatrix ---- */
template <int N, bool TRANSPOSE> static void ldsm_lanes(struct emu_warp *w, uint32_t) {
    for (int i = 0; i < N; i++) {
        if (TRANSPOSE) {
            uint16_t m[8][8];
            for (int row = 0; row < 8; row++) memcpy(m[row], w->row[8 * i + row], 16);
            for (int lane = 0; lane < 32; lane++) {
                const int g = lane >> 2, q = 2 * (lane & 3);
                w->out[i][lane] = m[q][g] | (uint32_t)m[q + 1][g] << 16;
            }
        } else {
            for (int row = 0; row < 8; row++) memcpy(&w->out[i][4 * row], w->row[8 * i + row], 16);
        }
    }
}

void emu_ldsm(uint32_t *r, const void *row, int n, bool transpose, EMU_PLACE_ARG) {
    const struct emu_fiber *t = emu_fiber_now();
    struct emu_warp *w = t->warp;
    const unsigned lane = t->lane;
    if ((int)lane < 8 * n) {
        if ((uintptr_t)row % 16 != 0)
            emu_fail("ldmatrix at %s:%d: the address is not 16-byte aligned", EMU_HERE);
        if (!emu_in_shared(row, 16))
            emu_fail("ldmatrix at %s:%d: the row is not in the block's shared memory", EMU_HERE);
        emu_note_read(row, 16, EMU_PC);
    }
    w->row[lane] = row;
    emu_rendezvous(0xffffffffu,
                   n == 2      ? ldsm_lanes<2, false>
                   : transpose ? ldsm_lanes<4, true>
                               : ldsm_lanes<4, false>,
                   true, "ldmatrix", EMU_HERE);
    for (int i = 0; i < n; i++) r[i] = w->out[i][lane];
}

/* ---- cp.async ---- */
#if EMU_TSAN
extern "C" void AnnotateIgnoreWritesBegin(const char *file, int line);
extern "C" void AnnotateIgnoreWritesEnd(const char *file, int line);
#endif

/* The list belongs to all threads that have this place in their block: its memory is no business of ThreadSanitizer's. */
static void keep(struct emu_fiber *t, const struct emu_copy *c) {
#if EMU_TSAN
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
    if (t->first_copy > 64) {
        t->copies.erase(t->copies.begin(), t->copies.begin() + (ptrdiff_t)t->first_copy);
        t->first_copy = 0;
    }
    t->copies.push_back(*c);
#if EMU_TSAN
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
#endif
}

static bool same16(const void *a, const void *b) {
    uint64_t x[2], y[2];
    memcpy(x, a, 16);
    memcpy(y, b, 16);
    return x[0] == y[0] && x[1] == y[1];
}

void emu_cp16(void *dst, const void *src, bool ok, EMU_PLACE_ARG) {
    struct emu_fiber *t = emu_fiber_now();
    if (((uintptr_t)dst | (uintptr_t)src) % 16 != 0)
        emu_fail("cp16 at %s:%d: an address is not 16-byte aligned", EMU_HERE);
    if (!emu_in_shared(dst, 16))
        emu_fail("cp16 at %s:%d: the destination is not in shared memory", EMU_HERE);
    if (!emu_is_allocated(src, 16))
        emu_fail("cp16 at %s:%d: the source is not in device memory", EMU_HERE);
    struct emu_copy c = {dst, src, ok, t->groups, {0}};
    if (ok) {
        emu_note_read(src, 16, EMU_PC);
        memcpy(c.data, src, 16);
    }
    emu_note_write(dst, 16, EMU_PC);
    memset(dst, 0xff, 16);
    keep(t, &c);
}

void emu_cp_commit(void) {
    emu_fiber_now()->groups++;
}

void emu_cp_wait(int n, EMU_PLACE_ARG) {
    struct emu_fiber *t = emu_fiber_now();
    size_t done = t->first_copy;
    while (done < t->copies.size() && t->copies[done].group + (unsigned)n < t->groups) {
        const struct emu_copy *c = &t->copies[done++];
        if (c->ok) {
            if (EMU_TSAN) emu_note_read(c->src, 16, EMU_PC);
            if (!same16(c->src, c->data))
                emu_fail("cp_wait at %s:%d: the source of a copy has changed", EMU_HERE);
        }
        emu_note_write(c->dst, 16, EMU_PC);
        memcpy(c->dst, c->data, 16);
    }
    t->first_copy = done;
    if (done != t->copies.size()) return;
    t->copies.clear();
    t->first_copy = 0;
}

/* ---- atomics, in no order with other accesses ---- */
#if EMU_TSAN
extern "C" int __tsan_atomic32_fetch_add(volatile int *p, int v, int order);
extern "C" long __tsan_atomic64_fetch_add(volatile long *p, long v, int order);
extern "C" int __tsan_atomic32_load(const volatile int *p, int order);
extern "C" int __tsan_atomic32_compare_exchange_strong(volatile int *p, int *old, int v, int order,
                                                       int on_failure);

static int add32(int *p, int v) {
    return __tsan_atomic32_fetch_add(p, v, __ATOMIC_RELAXED);
}

static long add64(long *p, long v) {
    return __tsan_atomic64_fetch_add(p, v, __ATOMIC_RELAXED);
}

static int load32(const int *p) {
    return __tsan_atomic32_load(p, __ATOMIC_RELAXED);
}

/* Was *p still *old? Else *old is what it is now. */
static bool replace32(int *p, int *old, int v) {
    return __tsan_atomic32_compare_exchange_strong(p, old, v, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}
#else
static void count_atomic(const void *p, size_t bytes) {
    if (!EMU_COUNT) return;
    emu_count_access(p, bytes, false);
    emu_count_access(p, bytes, true);
}

static int add32(int *p, int v) {
    count_atomic(p, 4);
    return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}

static long add64(long *p, long v) {
    count_atomic(p, 8);
    return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}

static int load32(const int *p) {
    count_atomic(p, 4);
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}

/* Was *p still *old? Else *old is what it is now. */
static bool replace32(int *p, int *old, int v) {
    return __atomic_compare_exchange_n(p, old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}
#endif

int64_t emu_atomic_add(void *p, int64_t v, int bytes) {
    return bytes == 8 ? add64((long *)p, v) : add32((int *)p, (int)v);
}

int64_t emu_atomic_max(void *p, int64_t v, bool is_signed) {
    int old = load32((const int *)p);
    while (is_signed ? old < (int)v : (uint32_t)old < (uint32_t)v)
        if (replace32((int *)p, &old, (int)v)) break;
    return is_signed ? (int64_t)old : (int64_t)(uint32_t)old;
}
