/* SPDX-License-Identifier: MIT
 * SciPy's filters in double, in transfer-function ("ba") form, so that results agree with the
 * official code to 1e-6 of the peak. One lead at a time, arrays of n samples. */
#ifndef DATA_PREP_FILTERS_H
#define DATA_PREP_FILTERS_H

#include <stddef.h>

#include "core/status.h"

#define FILTER_MAX 17 /* coefficients */

struct filter {
    int nb, na;
    double b[FILTER_MAX], a[FILTER_MAX]; /* a[0] == 1 */
};

/* scipy.signal.iirnotch(f0, q, fs). 0 < f0 <= fs/2 as there, else ECG_ERR_CONFIG. */
enum ecg_status filter_notch(struct filter *f, double f0, double q, double fs);
/* scipy.signal.butter(order, [low, high], 'bandpass'), 'highpass' (high 0), 'lowpass' (low 0);
 * order <= 8. */
enum ecg_status filter_butter(struct filter *f, int order, double low, double high, double fs);
/* scipy.signal.filtfilt(b, a, x): odd padding of 3*max(na, nb), lfilter_zi start. In place; n <=
 * padlen is ECG_ERR_DATA. */
enum ecg_status filter_filtfilt(const struct filter *f, double *x, size_t n);
/* scipy.signal.medfilt(x, k): zero padded, k odd. y != x. O(n log k) or better. */
enum ecg_status filter_median(const double *x, size_t n, int k, double *y);

/* Linear interpolation to n_out samples, endpoints included (the official resample_unequal). */
void resample_linear(const double *x, size_t n, double *y, size_t n_out);
/* Rational resampling fs_in -> fs_out with an anti-aliasing low-pass: scipy.signal.resample_poly's
 * default Kaiser window (beta 5, half length 10*max(up, down)), zeros beyond the ends. n_out =
 * ceil(n*up/down) as SciPy's; 0: rates that can't be had (ratio beyond 1/5000 .. 5000). */
size_t resample_poly_length(size_t n, double fs_in, double fs_out);
enum ecg_status resample_poly(const double *x, size_t n, double fs_in, double fs_out, double *y,
                              size_t n_out);

#endif
