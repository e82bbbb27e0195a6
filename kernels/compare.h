/* SPDX-License-Identifier: MIT
 * One case on two backends, and how far apart they are. */
#ifndef KERNELS_COMPARE_H
#define KERNELS_COMPARE_H

#include "kernels/cases.h"

/* Bounds for fp32. The largest error of an element may be 8 * eps * sqrt(terms) of the buffer's scale, where terms
 * is the length of the sum behind it and the scale its largest element (or what the case states for sums that
 * cancel); the sum of squared errors COMPARE_NMSE of the sum of squares (or of n * scale^2 in the same cases). */
#define COMPARE_NMSE 1e-12

/* Bounds for bf16, on top of those. All sums are fp32 here too, so results differ only where a number of both
 * backends lies next to a tie and is rounded to neighbours, at most COMPARE_ULP of it apart. What may be rounded:
 *   - a bf16 output: COMPARE_ULP of the element. Backends flip few: COMPARE_NMSE_BF16 * share(elements), where
 *     share(n) = 1/64 + 16/n, at most 1, which weights or factors that are not rounded at all exceed;
 *   - a factor act(x) (y and dw of act_conv): 2 + terms/256 flips of one product each, and share(numbers act(x));
 *     x, dy and weights are the same for all, so that dw and db of conv and the sums over stored activations (mean,
 *     var, m, dgate, dgamma) have no bound but fp32's;
 *   - what a fused entry hands on inside itself, which the oracle rounds and another need not: da before act's
 *     backward, half a COMPARE_ULP of what is added to dn; and y before its mean and variance over R rows. There the
 *     errors, each below half a COMPARE_ULP of the largest |y|, are independent: COMPARE_ULP * |y| / sqrt(R) holds
 *     all of them where R is small and is six standard deviations and more where it is large; the variance twice that
 *     times |y|; and dn before its sums over R rows, R times what a mean may be off. COMPARE_NMSE_BF16 for all: half an
 *     ulp, uniform, squared is 3e-6, rounded again up to 9e-6. */
#define COMPARE_ULP       (1.016 / 128) /* 2^-7 of what has been rounded itself */
#define COMPARE_NMSE_BF16 (1.0 / 65536)

struct compare_result {
    int ok;
    char problem[160]; /* why not: the buffer and what is wrong with it; "" when ok */
    double nmse;       /* the largest of all buffers */
    double nmse_share; /* the largest NMSE / its bound of all buffers; at most 1 when ok */
    double error;      /* the largest |difference| / bound of all buffers; at most 1 when ok */
};

/* A status other than ECG_OK: the case could not be run at all. What the comparison found is in *result. Non-finite
 * numbers, writes outside a buffer and changed inputs are looked for before any difference is taken. */
enum ecg_status compare_case(const struct op_case *c, const struct ops *ops, struct ops_dev *dev,
                             const struct ops *oracle, struct ops_dev *oracle_dev,
                             struct compare_result *result);

/* The same between two devices of one backend (two numbers of threads): every byte must be equal. */
enum ecg_status compare_same(const struct op_case *c, const struct ops *ops, struct ops_dev *dev,
                             struct ops_dev *other, struct compare_result *result);

/* Every sample of a forward pass alone, in a batch of one, gives the bytes that it gives in its batch.
 * Families whose results belong to the batch as a whole pass. */
enum ecg_status compare_alone(const struct op_case *c, const struct ops *ops, struct ops_dev *dev,
                              struct compare_result *result);

#endif
