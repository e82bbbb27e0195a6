/* SPDX-License-Identifier: MIT
 * One case of the table set up on one backend: its buffers in the backend's memory, filled with numbers that depend
 * only on the case, the buffer and the sample's number, between guards that show a write outside.
 *
 * Sample b of a per-sample buffer holds the numbers of sample sample0 + b; so a case of one sample at sample0 = 2
 * sees what a batch of three sees as its last. Inputs lie on a grid of 1/1024 so that the steps of the gradient
 * check are exact in float; activations of bf16 cases are rounded from there. */
#ifndef KERNELS_CASE_RUN_H
#define KERNELS_CASE_RUN_H

#include "kernels/cases.h"

struct case_run {
    struct case_call call;
    struct case_plan plan;
    void *base[CASE_MAX_BUFFERS];  /* guard, buffer, guard in the backend's memory */
    char *start[CASE_MAX_BUFFERS]; /* the same on the host, as it was before the call */
    char *now[CASE_MAX_BUFFERS];   /* the same on the host, as fetched */
    void *ws_base;
};

enum case_start {
    CASE_START_FULL, /* updated buffers hold numbers: shows "+=" apart from "=" */
    CASE_START_ZERO  /* updated buffers hold zeros, but for those that start as a copy */
};

/* Zero the struct before. On failure the caller still calls case_run_close. */
enum ecg_status case_run_open(struct case_run *r, const struct ops *ops, struct ops_dev *dev,
                              const struct op_case *c, uint64_t sample0, enum case_start start);
void case_run_close(struct case_run *r); /* idempotent */

/* Puts every buffer back to its start. */
enum ecg_status case_run_reset(struct case_run *r);
/* Calls the steps, forward or all, and waits for them. */
enum ecg_status case_run_steps(struct case_run *r, int forward_only);
/* Brings every buffer to the host. */
enum ecg_status case_run_fetch(struct case_run *r);
/* After a fetch: NULL when no guard was written over and no input changed; else says what, with the buffer's index. */
const char *case_run_damage(const struct case_run *r, int *buffer);

/* Fetched element i as double; float, bf16 and host buffers only. */
double case_run_get(const struct case_run *r, int buffer, size_t i);
/* Element i at the start. */
double case_run_start(const struct case_run *r, int buffer, size_t i);
/* Sends changed values of a float input: all n of it. */
enum ecg_status case_run_put(struct case_run *r, int buffer, const float *values);
/* Bytes of an element. */
size_t case_element(const struct case_buffer *b);
/* The fetched bytes of a buffer, n * case_element. */
const void *case_run_bytes(const struct case_run *r, int buffer);

#endif
