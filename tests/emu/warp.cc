/* SPDX-License-Identifier: MIT
 * The operations of a warp and cp.async. */
#include "block.h"

/* ---- shuffles, votes ---- */
static void sync_lanes(struct emu_warp *, uint32_t) {
}

void emu_syncwarp(uint32_t mask, EMU_PLACE_ARG) {
    emu_rendezvous(mask, sync_lanes, NULL, false, "__syncwarp", EMU_HERE);
}

struct vote {
    bool value;
    uint32_t result;
};

static void vote_lanes(struct emu_warp *w, uint32_t mask) {
    uint32_t result = 0;
    for (uint32_t set = mask; set != 0; set &= set - 1) {
        const unsigned lane = (unsigned)__builtin_ctz(set);
        if (((struct vote *)w->arg[lane])->value) result |= 1u << lane;
    }
    for (uint32_t set = mask; set != 0; set &= set - 1) ((struct vote *)w->arg[__builtin_ctz(set)])->result = result;
}

uint32_t emu_ballot(uint32_t mask, bool value, EMU_PLACE_ARG) {
    struct vote v = {value, 0};
    emu_rendezvous(mask, vote_lanes, &v, false, "__ballot_sync", EMU_HERE);
    return v.result;
}

struct shuffle {
    uint64_t value, result;
    int operand, width;
    char kind;
};

/* The lane that `lane` reads from: itself where the wanted one lies outside its part of `width` lanes. */
static unsigned source_lane(const struct shuffle *s, unsigned lane) {
    const int width = s->width, first = (int)lane / width * width, at = (int)lane - first;
    int from = at;
    switch (s->kind) {
    case 'i': from = s->operand & (width - 1); break;
    case 'x': from = at ^ s->operand; break;
    case 'd': from = at + s->operand; break;
    default: from = at - s->operand; break;
    }
    if (from < 0 || from >= width) from = at;
    return (unsigned)(first + from);
}

static void shuffle_lanes(struct emu_warp *w, uint32_t mask) {
    for (uint32_t set = mask; set != 0; set &= set - 1) {
        const unsigned lane = (unsigned)__builtin_ctz(set);
        struct shuffle *s = (struct shuffle *)w->arg[lane];
        const unsigned from = source_lane(s, lane);
        if (!(mask >> from & 1)) emu_fail("shuffle: lane %u reads lane %u, which is not in the mask %08x", lane, from, mask);
        s->result = ((struct shuffle *)w->arg[from])->value;
    }
}

uint64_t emu_shuffle(uint32_t mask, uint64_t value, char kind, int operand, int width, EMU_PLACE_ARG) {
    if (width < 1 || width > 32 || (width & (width - 1)) != 0) emu_fail("shuffle at %s:%d: width %d", EMU_HERE, width);
    struct shuffle s = {value, 0, operand, width, kind};
    emu_rendezvous(mask, shuffle_lanes, &s, false, "shuffle", EMU_HERE);
    return s.result;
}

/* ---- mma ---- */
struct mma {
    float *d;
    const uint32_t *a;
    uint32_t b0, b1;
};

typedef float float8 __attribute__((vector_size(32), aligned(32)));

static inline float low(uint32_t u) {
    return __uint_as_float(u << 16);
}

static inline float high(uint32_t u) {
    return __uint_as_float(u & 0xffff0000u);
}

static void mma_lanes(struct emu_warp *w, uint32_t) {
    alignas(32) float a[16][16], b[16][8], d[16][8];
    for (unsigned lane = 0; lane < 32; lane++) {
        const struct mma *m = (const struct mma *)w->arg[lane];
        const unsigned g = lane >> 2, q = 2 * (lane & 3);
        for (unsigned i = 0; i < 4; i++) {
            const unsigned row = g + 8 * (i & 1), k = q + 8 * (i >> 1);
            a[row][k] = low(m->a[i]);
            a[row][k + 1] = high(m->a[i]);
            d[g + 8 * (i >> 1)][q + (i & 1)] = m->d[i];
        }
        b[q][g] = low(m->b0);
        b[q + 1][g] = high(m->b0);
        b[q + 8][g] = low(m->b1);
        b[q + 9][g] = high(m->b1);
    }
    for (unsigned row = 0; row < 16; row++) {
        float8 sum = *(const float8 *)d[row];
        for (unsigned k = 0; k < 16; k++) sum += a[row][k] * *(const float8 *)b[k];
        *(float8 *)d[row] = sum;
    }
    for (unsigned lane = 0; lane < 32; lane++) {
        const struct mma *m = (const struct mma *)w->arg[lane];
        const unsigned g = lane >> 2, q = 2 * (lane & 3);
        for (unsigned i = 0; i < 4; i++) m->d[i] = d[g + 8 * (i >> 1)][q + (i & 1)];
    }
}

void emu_mma_bf16(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1, EMU_PLACE_ARG) {
    struct mma m = {d, a, b0, b1};
    emu_rendezvous(0xffffffffu, mma_lanes, &m, true, "mma", EMU_HERE);
}

/* ---- ldmatrix ---- */
struct ldsm {
    uint32_t *r;
    const void *row;
    int n;
    bool transpose;
};

static void ldsm_lanes(struct emu_warp *w, uint32_t) {
    const struct ldsm *first = (const struct ldsm *)w->arg[0];
    const int n = first->n;
    const bool transpose = first->transpose;
    for (int i = 0; i < n; i++) {
        uint16_t m[8][8];
        for (int row = 0; row < 8; row++) memcpy(m[row], ((const struct ldsm *)w->arg[8 * i + row])->row, 16);
        for (int lane = 0; lane < 32; lane++) {
            const int g = lane >> 2, q = 2 * (lane & 3);
            const uint32_t lo = transpose ? m[q][g] : m[g][q], hi = transpose ? m[q + 1][g] : m[g][q + 1];
            ((const struct ldsm *)w->arg[lane])->r[i] = lo | hi << 16;
        }
    }
}

void emu_ldsm(uint32_t *r, const void *row, int n, bool transpose, EMU_PLACE_ARG) {
    if ((int)emu_fiber_now()->lane < 8 * n) {
        if ((uintptr_t)row % 16 != 0) emu_fail("ldmatrix at %s:%d: the address is not 16-byte aligned", EMU_HERE);
        if (!emu_in_shared(row, 16)) emu_fail("ldmatrix at %s:%d: the row is not in shared memory", EMU_HERE);
        emu_note_read(row, 16);
    }
    struct ldsm l = {r, row, n, transpose};
    emu_rendezvous(0xffffffffu, ldsm_lanes, &l, true, "ldmatrix", EMU_HERE);
}

/* ---- cp.async ---- */
void emu_cp16(void *dst, const void *src, bool ok, EMU_PLACE_ARG) {
    struct emu_fiber *t = emu_fiber_now();
    if (((uintptr_t)dst | (uintptr_t)src) % 16 != 0) emu_fail("cp16 at %s:%d: an address is not 16-byte aligned", EMU_HERE);
    if (!emu_in_shared(dst, 16)) emu_fail("cp16 at %s:%d: the destination is not in shared memory", EMU_HERE);
    if (!emu_is_allocated(src, 16)) emu_fail("cp16 at %s:%d: the source is not in device memory", EMU_HERE);
    struct emu_copy c = {dst, src, ok, t->groups, {0}};
    if (ok) {
        emu_note_read(src, 16);
        memcpy(c.data, src, 16);
    }
    emu_note_write(dst, 16);
    memset(dst, 0xff, 16);
    t->copies.push_back(c);
}

void emu_cp_commit(void) {
    emu_fiber_now()->groups++;
}

void emu_cp_wait(int n, EMU_PLACE_ARG) {
    struct emu_fiber *t = emu_fiber_now();
    size_t done = 0;
    while (done < t->copies.size() && t->copies[done].group + (unsigned)n < t->groups) {
        const struct emu_copy *c = &t->copies[done++];
        if (c->ok && memcmp(c->src, c->data, 16) != 0) emu_fail("cp_wait at %s:%d: the source of a copy has changed", EMU_HERE);
        emu_note_write(c->dst, 16);
        memcpy(c->dst, c->data, 16);
    }
    t->copies.erase(t->copies.begin(), t->copies.begin() + (ptrdiff_t)done);
}

/* ---- atomics ---- */
int64_t emu_atomic_add(void *p, int64_t v, int bytes) {
    emu_note_read(p, (size_t)bytes);
    emu_note_write(p, (size_t)bytes);
    if (bytes == 8) return __atomic_fetch_add((int64_t *)p, v, __ATOMIC_RELAXED);
    return __atomic_fetch_add((int32_t *)p, (int32_t)v, __ATOMIC_RELAXED);
}

int64_t emu_atomic_max(void *p, int64_t v, bool is_signed) {
    emu_note_read(p, 4);
    emu_note_write(p, 4);
    uint32_t old = __atomic_load_n((uint32_t *)p, __ATOMIC_RELAXED);
    while (is_signed ? (int32_t)old < (int32_t)v : old < (uint32_t)v)
        if (__atomic_compare_exchange_n((uint32_t *)p, &old, (uint32_t)v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) break;
    return is_signed ? (int64_t)(int32_t)old : (int64_t)old;
}
