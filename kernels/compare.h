/* SPDX-License-Identifier: MIT
 * One case on two backends, and how far apart they are. */
#ifndef KERNELS_COMPARE_H
#define KERNELS_COMPARE_H

#include "kernels/cases.h"

/* Bounds for fp32. The largest error of an element may be 8 * eps * sqrt(terms) of the buffer's scale, where terms
 * is the length of the sum behind it and the scale its largest element (or what the case states for sums that
 * cancel); the sum of squared errors COMPARE_NMSE of the sum of squares (or of n * scale^2 in the same cases). */
#define COMPARE_NMSE 1e-12

struct compare_result {
    int ok;
    char problem[160]; /* why not: the buffer and what is wrong with it; "" when ok */
    double nmse;       /* the largest of all buffers */
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
