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

/* The struct ops_act that the case's flags ask for. */
struct ops_act case_act(const struct case_call *r, const void *scale, const void *shift);
/* The convolution of the case: SAME padding. */
struct ops_conv case_conv(const struct op_case *c);

#define CASE_FAMILY(family, plan, ws, steps)                                                       \
    const struct op_family family_##family = {#family, plan, ws, steps,                            \
                                              sizeof(steps) / sizeof((steps)[0])}

#endif
