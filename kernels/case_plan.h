/* SPDX-License-Identifier: MIT
 * How families describe their buffers; shared by the files that define families. */
#ifndef KERNELS_CASE_PLAN_H
#define KERNELS_CASE_PLAN_H

#include "kernels/cases.h"

/* Each adds buffer `at` and returns it for what is special about it. Inputs are uniform in [-1, 1]. */
struct case_buffer *case_input(struct case_plan *plan, int at, const char *name, size_t n);
struct case_buffer *case_output(struct case_plan *plan, int at, const char *name, size_t n,
                                size_t terms);
struct case_buffer *case_updated(struct case_plan *plan, int at, const char *name, size_t n,
                                 size_t terms);

/* Range of an input. */
void case_range(struct case_buffer *b, double lo, double hi);
/* An activation (B, ...). */
void case_per_sample(struct case_buffer *b);

/* What a backend calls activations, each by its index, CASE_NONE behind the last: bf16 in bf16 cases. */
void case_activations(const struct op_case *c, struct case_plan *plan, ...);
/* An output over sums of products with act(x), a number below `product` each; n_factors: numbers act(x). */
void case_rounded_factors(const struct op_case *c, struct case_buffer *b, double product,
                          size_t n_factors);
/* The mean (power 1), variance (2) or sum (0) over `rows` elements of the bf16 buffer `of`, inside one entry. */
void case_mean_of(const struct op_case *c, struct case_buffer *b, int of, size_t rows, int power);

enum ops_dtype case_dtype(const struct op_case *c);
/* The struct ops_act that the case's flags ask for. */
struct ops_act case_act(const struct case_call *r, const void *scale, const void *shift);
/* The convolution of the case: SAME padding. */
struct ops_conv case_conv(const struct op_case *c);

#define CASE_FAMILY(family, plan, ws, steps)                                                       \
    const struct op_family family_##family = {#family, plan, ws, steps,                            \
                                              sizeof(steps) / sizeof((steps)[0])}

#endif
