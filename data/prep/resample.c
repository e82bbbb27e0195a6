/* SPDX-License-Identifier: MIT
 * Changing the sampling rate: the official linear interpolation, and rational resampling behind an
 * anti-aliasing low-pass, scipy.signal.resample_poly's: a Kaiser window (beta 5) over 20 * max(up,
 * down) + 1 taps. With h the low-pass at the rate up * fs_in and zeros beyond the ends, y[m] = sum
 * over j of x[j] * h[m*down - j*up + half]. */
#include "data/prep/filters.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/mem.h"

/* up and down are at most this; ratios that need more are rounded, by less than 1e-8 of their
 * value. */
#define MAX_FACTOR 10000

void resample_linear(const double *x, size_t n, double *y, size_t n_out) {
    for (size_t i = 0; i < n_out; i++) {
        double at = n_out > 1 ? (double)i * (double)(n - 1) / (double)(n_out - 1) : 0;
        size_t left = (size_t)at;
        if (left >= n - 1) {
            y[i] = x[n - 1];
            continue;
        }
        y[i] = x[left] + (x[left + 1] - x[left]) * (at - (double)left);
    }
}

/* fs_out / fs_in as up / down: the last convergent of the continued fraction that fits. */
static void ratio(double fs_in, double fs_out, long *up, long *down) {
    double rest = fs_out / fs_in;
    long p0 = 0, q0 = 1, p1 = 1, q1 = 0;
    for (int i = 0; i < 40; i++) {
        double whole = floor(rest + 1e-9);
        double p = whole * (double)p1 + (double)p0, q = whole * (double)q1 + (double)q0;
        if (!(p <= MAX_FACTOR && q <= MAX_FACTOR)) break;
        p0 = p1, q0 = q1;
        p1 = (long)p, q1 = (long)q;
        double fraction = rest - whole;
        if (!(fraction > 1e-9)) break;
        rest = 1 / fraction;
    }
    *up = p1;
    *down = q1;
}

/* The rates whose ratio can be had. */
static bool can_resample(double fs_in, double fs_out) {
    if (!(fs_in > 0 && fs_out > 0)) return false;
    double r = fs_out / fs_in;
    return r <= MAX_FACTOR / 2 && r >= 2.0 / MAX_FACTOR;
}

size_t resample_poly_length(size_t n, double fs_in, double fs_out) {
    if (!can_resample(fs_in, fs_out)) return 0;
    long up, down;
    ratio(fs_in, fs_out, &up, &down);
    if (n > SIZE_MAX / MAX_FACTOR) return 0;
    return (n * (size_t)up + (size_t)down - 1) / (size_t)down;
}

/* The modified Bessel function I0 by its power series. */
static double bessel_i0(double x) {
    double sum = 1, term = 1;
    for (int k = 1; term > sum * 1e-17; k++) {
        term *= (x / (2 * k)) * (x / (2 * k));
        sum += term;
    }
    return sum;
}

/* 2*half + 1 taps with unit gain at 0 Hz, times up. */
static void lowpass(double *h, long half, long max_rate, long up) {
    const double pi = 3.14159265358979323846, beta = 5;
    double sum = 0;
    for (long i = -half; i <= half; i++) {
        double u = (double)i / (double)half, arg = pi * (double)i / (double)max_rate;
        double sinc = i == 0 ? 1 : sin(arg) / arg;
        h[half + i] = sinc * bessel_i0(beta * sqrt(1 - u * u)) / bessel_i0(beta);
        sum += h[half + i];
    }
    for (long i = 0; i <= 2 * half; i++) h[i] = h[i] / sum * (double)up;
}

enum ecg_status resample_poly(const double *x, size_t n, double fs_in, double fs_out, double *y,
                              size_t n_out) {
    if (!can_resample(fs_in, fs_out))
        return ecg_fail(ECG_ERR_DATA, "resampling from %g Hz to %g Hz: the ratio is out of reach",
                        fs_in, fs_out);
    long up, down;
    ratio(fs_in, fs_out, &up, &down);
    long max_rate = up > down ? up : down, half = 10 * max_rate;
    double *h;
    TRY(MEM_NEW(&h, 2 * (size_t)half + 1));
    lowpass(h, half, max_rate, up);
    for (size_t m = 0; m < n_out; m++) {
        /* the taps that meet a sample: 0 <= at - j*up <= 2*half */
        long long at = (long long)m * down + half;
        long long first = at > 2 * half ? (at - 2 * half + up - 1) / up : 0;
        long long last = at / up < (long long)n ? at / up : (long long)n - 1;
        double sum = 0;
        for (long long j = first; j <= last; j++) sum += x[j] * h[at - j * up];
        y[m] = sum;
    }
    free(h);
    return ECG_OK;
}
