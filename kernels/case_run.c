/* SPDX-License-Identifier: MIT
 * Memory, guards and contents of one case. Every buffer has GUARD bytes of a pattern before and directly behind its
 * last element; the scratch memory too, and it is exactly as large as the backend asked for. */
#include "kernels/case_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "kernels/bf16.h"

enum {
    GUARD = MEM_ALIGN,
    PATTERN = 0xA5,
    UNSET = 0xFF /* all ones is NaN as bf16, float and double */
};

size_t case_element(const struct case_buffer *b) {
    if (b->bf16) return sizeof(uint16_t);
    switch (b->fill) {
    case CASE_HOST:
        return sizeof(double);
    case CASE_LABELS:
        return sizeof(uint8_t);
    case CASE_SAMPLES:
        return sizeof(int16_t);
    case CASE_UNIFORM:
    case CASE_SEPARATED:
    case CASE_TIED:
    case CASE_ENDS:
    case CASE_TARGETS:
        break;
    }
    return sizeof(float);
}

static size_t bytes_of(const struct case_buffer *b) {
    return b->n * case_element(b);
}

static size_t guarded(const struct case_buffer *b) {
    return bytes_of(b) + 2 * (size_t)GUARD;
}

/* Uniform in [lo, hi] on the grid of 1/1024. */
static double on_grid(const struct case_buffer *b, struct rng *r) {
    const double steps = (b->hi - b->lo) * 1024;
    if (steps < 1) return b->lo;
    return b->lo + (double)rng_below(r, (uint64_t)steps + 1) / 1024;
}

/* A value for element i that differs from those of the neighbouring rows by 3/8 at least, and from 0 by 1/8. */
static double separated(size_t i, int row, struct rng *r) {
    const int level = (int)(i / (size_t)row * 5 % 7) - 3;
    return level * 0.5 + 0.25 + ((double)rng_below(r, 129) - 64) / 1024;
}

static double draw(const struct case_buffer *b, size_t i, struct rng *r) {
    switch (b->fill) {
    case CASE_SEPARATED:
        return separated(i, b->row, r);
    case CASE_TIED:
        return (double)rng_below(r, 3) - 1;
    case CASE_ENDS:
        return rng_below(r, 2) ? b->hi : b->lo;
    case CASE_TARGETS:
        if (rng_below(r, 8) == 0) return NAN;
        return b->lo + (double)rng_below(r, (uint64_t)(b->hi - b->lo) + 1);
    case CASE_SAMPLES:
        return b->lo + (double)rng_below(r, (uint64_t)(b->hi - b->lo) + 1);
    case CASE_LABELS: {
        const uint64_t u = rng_below(r, 8);
        return u == 0 ? 255 : (double)(u % 2);
    }
    case CASE_UNIFORM:
    case CASE_HOST:
        break;
    }
    return on_grid(b, r);
}

static void store(const struct case_buffer *b, char *data, size_t i, double v) {
    if (b->bf16)
        ((uint16_t *)(void *)data)[i] = bf16_from_float((float)v);
    else if (b->fill == CASE_HOST)
        ((double *)(void *)data)[i] = v;
    else if (b->fill == CASE_LABELS)
        ((uint8_t *)data)[i] = (uint8_t)v;
    else if (b->fill == CASE_SAMPLES)
        ((int16_t *)(void *)data)[i] = (int16_t)v;
    else
        ((float *)(void *)data)[i] = (float)v;
}

/* Numbers of buffer `at`: one sequence a sample, or one for the buffer. */
static void fill(const struct case_buffer *b, char *data, int at, int B, uint64_t sample0) {
    const size_t parts = b->per_sample ? (size_t)B : 1, size = b->n / parts;
    struct rng r;

    for (size_t part = 0; part < parts; part++) {
        const uint64_t sample = b->per_sample ? sample0 + part : 0;
        rng_init(&r, 2024, (uint32_t)at, (uint32_t)sample, 0);
        for (size_t i = 0; i < size; i++) store(b, data, part * size + i, draw(b, i, &r));
    }
}

static void fill_start(struct case_run *r, int at, enum case_start start) {
    const struct case_buffer *b = &r->plan.buffer[at];
    char *whole = r->start[at], *data = whole + GUARD;

    memset(whole, PATTERN, guarded(b));
    if (b->same_as != CASE_NONE)
        memcpy(data, r->start[b->same_as] + GUARD, bytes_of(b));
    else if (b->role == CASE_OUTPUT)
        memset(data, UNSET, bytes_of(b));
    else if (b->role == CASE_UPDATED && start == CASE_START_ZERO)
        memset(data, 0, bytes_of(b));
    else
        fill(b, data, at, r->call.c->B, r->call.sample0);
}

static enum ecg_status open_buffer(struct case_run *r, int at, enum case_start start) {
    const struct case_buffer *b = &r->plan.buffer[at];

    if (b->n == 0) return ECG_OK;
    TRY(mem_alloc((void **)&r->start[at], guarded(b), 1));
    TRY(mem_alloc((void **)&r->now[at], guarded(b), 1));
    fill_start(r, at, start);
    if (b->fill == CASE_HOST) {
        r->call.p[at] = r->now[at] + GUARD;
        return ECG_OK;
    }
    TRY(r->call.ops->alloc(r->call.dev, &r->base[at], guarded(b)));
    r->call.p[at] = (char *)r->base[at] + GUARD;
    return ECG_OK;
}

static enum ecg_status open_ws(struct case_run *r) {
    struct case_call *call = &r->call;
    if (!call->c->family->ws) return ECG_OK;
    call->ws.n = call->c->family->ws(call);
    TRY(call->ops->alloc(call->dev, &r->ws_base, call->ws.n + 2 * (size_t)GUARD));
    call->ws.p = (char *)r->ws_base + GUARD;
    return ECG_OK;
}

enum ecg_status case_run_open(struct case_run *r, const struct ops *ops, struct ops_dev *dev,
                              const struct op_case *c, uint64_t sample0, enum case_start start) {
    r->call.ops = ops;
    r->call.dev = dev;
    r->call.c = c;
    r->call.sample0 = sample0;
    c->family->plan(c, &r->plan);
    /* Copies come after what they copy. */
    for (int at = 0; at < r->plan.n; at++) {
        if (r->plan.buffer[at].same_as == CASE_NONE) TRY(open_buffer(r, at, start));
    }
    for (int at = 0; at < r->plan.n; at++) {
        if (r->plan.buffer[at].same_as != CASE_NONE) TRY(open_buffer(r, at, start));
    }
    TRY(open_ws(r));
    return case_run_reset(r);
}

void case_run_close(struct case_run *r) {
    for (int at = 0; at < r->plan.n; at++) {
        if (r->base[at]) r->call.ops->free(r->call.dev, r->base[at]);
        free(r->start[at]);
        free(r->now[at]);
    }
    if (r->ws_base) r->call.ops->free(r->call.dev, r->ws_base);
    memset(r, 0, sizeof(*r));
}

/* The scratch memory starts as NaN: what reads it before writing shows. */
static enum ecg_status reset_ws(struct case_run *r) {
    const size_t n = r->call.ws.n + 2 * (size_t)GUARD;
    char *host = NULL;
    if (!r->ws_base) return ECG_OK;
    TRY(mem_alloc((void **)&host, n, 1));
    memset(host, PATTERN, n);
    memset(host + GUARD, UNSET, r->call.ws.n);
    const enum ecg_status status = r->call.ops->upload(r->call.dev, r->ws_base, host, n);
    free(host);
    return status;
}

enum ecg_status case_run_reset(struct case_run *r) {
    for (int at = 0; at < r->plan.n; at++) {
        const size_t n = guarded(&r->plan.buffer[at]);
        if (!r->start[at]) continue;
        if (r->base[at])
            TRY(r->call.ops->upload(r->call.dev, r->base[at], r->start[at], n));
        else
            memcpy(r->now[at], r->start[at], n);
    }
    return reset_ws(r);
}

enum ecg_status case_run_steps(struct case_run *r, int forward_only) {
    const struct op_family *family = r->call.c->family;
    for (int i = 0; i < family->n_steps; i++) {
        if (forward_only && family->steps[i].is_backward) continue;
        TRY(family->steps[i].call(&r->call));
    }
    return r->call.ops->sync(r->call.dev);
}

/* Host buffers are written where they lie; the scratch memory's guards are looked at here, where it can be read. */
static enum ecg_status fetch_ws(struct case_run *r) {
    const size_t n = r->call.ws.n + 2 * (size_t)GUARD;
    char *host = NULL;
    enum ecg_status status;

    if (!r->ws_base) return ECG_OK;
    TRY(mem_alloc((void **)&host, n, 1));
    TRY_OUT(r->call.ops->download(r->call.dev, host, r->ws_base, n));
    for (size_t i = 0; i < (size_t)GUARD; i++) {
        if ((unsigned char)host[i] != PATTERN || (unsigned char)host[n - 1 - i] != PATTERN) {
            status = ecg_fail(ECG_ERR_FAIL, "%s: wrote outside its scratch memory of %zu bytes",
                              r->call.ops->name, r->call.ws.n);
            goto out;
        }
    }
out:
    free(host);
    return status;
}

enum ecg_status case_run_fetch(struct case_run *r) {
    for (int at = 0; at < r->plan.n; at++) {
        if (!r->base[at]) continue;
        TRY(r->call.ops->download(r->call.dev, r->now[at], r->base[at],
                                  guarded(&r->plan.buffer[at])));
    }
    return fetch_ws(r);
}

const char *case_run_damage(const struct case_run *r, int *buffer) {
    for (int at = 0; at < r->plan.n; at++) {
        const struct case_buffer *b = &r->plan.buffer[at];
        const char *before = r->start[at], *after = r->now[at];
        const size_t end = (size_t)GUARD + bytes_of(b);
        if (!before) continue;
        *buffer = at;
        if (memcmp(before, after, GUARD) != 0) return "written before its start";
        if (memcmp(before + end, after + end, GUARD) != 0) return "written behind its end";
        if (b->role == CASE_INPUT && memcmp(before, after, end) != 0) return "an input was changed";
    }
    return NULL;
}

static double get(const struct case_buffer *b, const char *data, size_t i) {
    if (b->bf16) return bf16_to_float(((const uint16_t *)(const void *)data)[i]);
    if (b->fill == CASE_HOST) return ((const double *)(const void *)data)[i];
    return ((const float *)(const void *)data)[i];
}

double case_run_get(const struct case_run *r, int buffer, size_t i) {
    return get(&r->plan.buffer[buffer], r->now[buffer] + GUARD, i);
}

double case_run_start(const struct case_run *r, int buffer, size_t i) {
    return get(&r->plan.buffer[buffer], r->start[buffer] + GUARD, i);
}

enum ecg_status case_run_put(struct case_run *r, int buffer, const float *values) {
    return r->call.ops->upload(r->call.dev, r->call.p[buffer], values,
                               bytes_of(&r->plan.buffer[buffer]));
}

const void *case_run_bytes(const struct case_run *r, int buffer) {
    return r->now[buffer] + GUARD;
}
