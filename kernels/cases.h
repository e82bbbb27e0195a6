/* SPDX-License-Identifier: MIT
 * The case table: which operations are tried at which shapes. One table serves the comparison of a backend with the
 * oracle, the gradient check and the benchmark.
 *
 * A FAMILY ties together operations that belong to one function and its gradient (conv_fwd, conv_bwd_x, conv_bwd_w).
 * It plans named buffers for a case and lists STEPS, the calls in their order, first forward, then backward. Buffer
 * names say what belongs together: the gradient check takes every input with a `gradient`, and every output with an
 * `upstream`, and asks whether `gradient` is the derivative of sum(output * upstream).
 * Valid C and C++17. */
#ifndef KERNELS_CASES_H
#define KERNELS_CASES_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Options of a case. Which of them a family knows stands beside the family in case_families.c. */
enum case_flag {
    CASE_FOLD = 1 << 0,     /* act: scale and shift given */
    CASE_SWISH = 1 << 1,    /* act: swish */
    CASE_DROP = 1 << 2,     /* act: dropout of 0.25 */
    CASE_ADD = 1 << 3,      /* backward adds to what is there */
    CASE_IN_PLACE = 1 << 4, /* output on top of the input, where the contract allows it */
    CASE_PLAIN =
        1 << 5, /* optional pointers NULL: conv's bias and db, shortcut's gate, norm's running
                                statistics, loss's column scale and dlogits */
    CASE_STATS = 1 << 6,  /* act_conv, shortcut: mean and var asked for */
    CASE_Y_MEAN = 1 << 7, /* act_conv: y_mean asked for */
    CASE_FROZEN = 1 << 8, /* weights' gradients not wanted */
    CASE_NO_DN = 1 << 9,  /* act_conv, attention: input's gradient not wanted */
    CASE_TIES = 1 << 10,  /* shortcut: equal samples and zeros in many windows */
    CASE_EXTREME =
        1 << 11, /* loss: logits up to 1e4; norm: a mean of 100 sd; pointwise: up to 200; attention:
                    scores beyond 1e4 */
    CASE_VARIANT = 1 << 12,   /* hill: focal margin; adam: decoupled */
    CASE_BF16 = 1 << 13,      /* activations are bf16, else fp32 */
    CASE_DEGENERATE = 1 << 14, /* differences in float mean nothing here: no gradient check */
    CASE_PACKED = 1 << 15,     /* act_conv: weights packed before */
    CASE_BRANCH = 1 << 16,     /* act_conv: a gate and, by Y_MEAN, a mean behind it */
    CASE_SIDE = 1 << 17,       /* act_conv, norm: a shortcut beside it */
    CASE_BEHIND = 1 << 18,     /* act_conv: a normalisation behind it */
    CASE_SUMS = 1 << 19        /* act_conv: the sums of the normalisation before it asked for */
};

struct op_family;

struct op_case {
    const struct op_family *family;
    int B, L, C, Cout, K, S, G; /* what each is in a family stands beside it; 0 where it has none */
    int flags;
};

enum case_role {
    CASE_INPUT,  /* read; must come out unchanged */
    CASE_OUTPUT, /* "=": holds NaN before */
    CASE_UPDATED /* "+=" or in place: holds numbers before */
};

enum case_fill {
    CASE_UNIFORM,   /* float, [lo, hi] */
    CASE_SEPARATED, /* float (.., L, C): neighbours in time differ by 3/8 at least, none is near 0 */
    CASE_TIED,      /* float of {-1, 0, 1} */
    CASE_ENDS,      /* float of {lo, hi} */
    CASE_TARGETS,   /* float integers of [lo, hi], an eighth of them NaN */
    CASE_LABELS,    /* uint8 of {0, 1, 255} */
    CASE_SAMPLES,   /* int16, [lo, hi] */
    CASE_HOST       /* double in host memory, uniform */
};

#define CASE_NONE (-1)

struct case_buffer {
    const char *name;
    enum case_role role;
    enum case_fill fill;
    double lo, hi;
    size_t n;     /* elements; 0: absent, the operation gets NULL */
    size_t terms; /* output: terms of the longest sum behind one element */
    double scale; /* output: size of the terms where they may cancel; else 0, its own maximum counts */
    int per_sample; /* leading dimension is B */
    int row;        /* CASE_SEPARATED: channels C of a row */
    int gradient;   /* input: index of the buffer with its gradient, or CASE_NONE */
    int upstream;   /* output: index of the buffer with the gradient from above, or CASE_NONE */
    int same_as;    /* starts as a copy of that buffer, or CASE_NONE */
    /* Of a bf16 case; see compare.h for what a backend may do with these. */
    int bf16;          /* activation: two bytes an element, filled with rounded numbers */
    double product;    /* output: bound of one product with a factor act(x), whose rounding may flip; 0: none */
    size_t n_factors;  /* output with a `product`: numbers act(x) of the whole case */
    double beside;     /* output: bound of what an entry adds inside itself to a number that it hands on */
    int hands_on;      /* output: the entry hands on a number inside itself, unrounded if it likes */
    int mean_of;       /* output: index of the bf16 buffer that it is the mean, variance or sum of, or CASE_NONE */
    size_t mean_rows;  /* how many elements of that buffer go into one of this */
    int mean_power;    /* 1: mean, 2: variance, 0: sum of products with numbers of [-1, 1] */
};

#define CASE_MAX_BUFFERS 32

struct case_plan {
    struct case_buffer buffer[CASE_MAX_BUFFERS];
    int n;
    double work; /* multiply-adds of the forward steps, roughly */
};

/* One case on one backend, ready to be called. */
struct case_call {
    const struct ops *ops;
    struct ops_dev *dev;
    const struct op_case *c;
    uint64_t sample0;          /* number of the batch's first sample, see case_run.h */
    void *p[CASE_MAX_BUFFERS]; /* the family's buffers; NULL where absent */
    struct ops_ws ws;
};

struct op_step {
    const char *op; /* the entry's name in struct ops */
    int is_backward;
    enum ecg_status (*call)(const struct case_call *r);
};

struct op_family {
    const char *name;
    void (*plan)(const struct op_case *c, struct case_plan *plan);
    size_t (*ws)(const struct case_call *r); /* scratch bytes; NULL: none */
    const struct op_step *steps;
    int n_steps;
};

extern const struct op_family family_input, family_conv, family_linear, family_norm, family_act,
    family_mean, family_swish, family_sigmoid, family_shortcut, family_loss, family_sums,
    family_adam, family_sgd, family_ema, family_act_conv, family_se, family_attention;

/* The table. */
const struct op_case *cases_table(size_t *n);

/* "act_conv B2 L157 C16 Cout16 K16 S2 G1 fold swish" into label[n]. */
void cases_label(const struct op_case *c, char *label, size_t n);

#ifdef __cplusplus
}
#endif
#endif
