/* SPDX-License-Identifier: MIT
 * What the families of the case table share: planning buffers, and from flags to structs. */
#include "kernels/case_plan.h"

#include <stdarg.h>

#include "core/rng.h"

static struct case_buffer *add(struct case_plan *plan, int at, const char *name,
                               enum case_role role, size_t n, size_t terms) {
    struct case_buffer *b = &plan->buffer[at];
    *b = (struct case_buffer){.name = name,
                              .role = role,
                              .lo = -1,
                              .hi = 1,
                              .n = n,
                              .terms = terms,
                              .gradient = CASE_NONE,
                              .upstream = CASE_NONE,
                              .same_as = CASE_NONE,
                              .mean_of = CASE_NONE};
    if (at >= plan->n) plan->n = at + 1;
    return b;
}

struct case_buffer *case_input(struct case_plan *plan, int at, const char *name, size_t n) {
    return add(plan, at, name, CASE_INPUT, n, 0);
}

struct case_buffer *case_output(struct case_plan *plan, int at, const char *name, size_t n,
                                size_t terms) {
    return add(plan, at, name, CASE_OUTPUT, n, terms);
}

struct case_buffer *case_updated(struct case_plan *plan, int at, const char *name, size_t n,
                                 size_t terms) {
    return add(plan, at, name, CASE_UPDATED, n, terms);
}

void case_range(struct case_buffer *b, double lo, double hi) {
    b->lo = lo;
    b->hi = hi;
}

void case_per_sample(struct case_buffer *b) {
    b->per_sample = 1;
}

void case_activations(const struct op_case *c, struct case_plan *plan, ...) {
    va_list indices;
    va_start(indices, plan);
    for (int at = va_arg(indices, int); at != CASE_NONE; at = va_arg(indices, int))
        plan->buffer[at].bf16 = (c->flags & CASE_BF16) != 0;
    va_end(indices);
}

void case_rounded_factors(const struct op_case *c, struct case_buffer *b, double product,
                          size_t n_factors) {
    if (!(c->flags & CASE_BF16)) return;
    b->product = product;
    b->n_factors = n_factors;
}

void case_mean_of(const struct op_case *c, struct case_buffer *b, int of, size_t rows, int power) {
    if (!(c->flags & CASE_BF16)) return;
    b->mean_of = of;
    b->mean_rows = rows;
    b->mean_power = power;
}

enum ops_dtype case_dtype(const struct op_case *c) {
    return c->flags & CASE_BF16 ? OPS_BF16 : OPS_F32;
}

struct ops_act case_act(const struct case_call *r, const void *scale, const void *shift) {
    const struct ops_act act = {
        .scale = scale,
        .shift = shift,
        .swish = (r->c->flags & CASE_SWISH) != 0,
        .drop = r->c->flags & CASE_DROP ? 0.25f : 0,
        .seed = UINT64_C(0x123456789abcdef0),
        .stream = RNG_DROPOUT,
        .step = 7,
        .sample0 = r->sample0,
    };
    return act;
}

struct ops_conv case_conv(const struct op_case *c) {
    return ops_conv_same(c->B, c->L, c->C, c->Cout, c->K, c->S, c->G);
}
