/* SPDX-License-Identifier: MIT
 * SciPy's notch and Butterworth designs and its zero-phase filtering, step for step in SciPy's own
 * order of operations. The order matters: in transfer-function form an order-8 band-pass from 0.67
 * Hz at 500 Hz has four poles within 0.01 of z = 1, and a change of its coefficients by a few
 * units in the last place shows in the sixth digit of the result. */
#include "data/prep/filters.h"

#include <complex.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

static const double pi = 3.14159265358979323846;

enum { MAX_ORDER = 8, MAX_ROOTS = 2 * MAX_ORDER };

/* A design by its zeros, poles and gain. */
struct zpk {
    int nz, np;
    double complex z[MAX_ROOTS], p[MAX_ROOTS];
    double k;
};

enum ecg_status filter_notch(struct filter *f, double f0, double q, double fs) {
    double w0 = 2 * f0 / fs;
    if (!(w0 > 0 && w0 <= 1 && q > 0))
        return ecg_fail(ECG_ERR_CONFIG,
                        "a notch at %g Hz needs a sampling rate of %g Hz or more, not %g Hz", f0,
                        2 * f0, fs);
    double bandwidth = w0 / q * pi;
    w0 *= pi;
    double beta = tan(bandwidth / 2); /* the -3 dB edges: sqrt(1 - g^2)/g = 1 for g = 1/sqrt(2) */
    double gain = 1 / (1 + beta);
    *f = (struct filter){.nb = 3,
                         .na = 3,
                         .b = {gain, gain * (-2 * cos(w0)), gain},
                         .a = {1, -2 * gain * cos(w0), 2 * gain - 1}};
    return ECG_OK;
}

/* Smith's division, as NumPy divides. */
static double complex divide(double complex x, double complex y) {
    double xr = creal(x), xi = cimag(x), yr = creal(y), yi = cimag(y);
    if (fabs(yr) >= fabs(yi)) {
        double ratio = yi / yr, scale = 1 / (yr + yi * ratio);
        return CMPLX((xr + xi * ratio) * scale, (xi - xr * ratio) * scale);
    }
    double ratio = yr / yi, scale = 1 / (yi + yr * ratio);
    return CMPLX((xr * ratio + xi) * scale, (xi * ratio - xr) * scale);
}

/* The analog low-pass prototype of cut-off 1: poles on the left half of the unit circle. */
static void prototype(struct zpk *d, int order) {
    *d = (struct zpk){.np = order, .k = 1};
    for (int i = 0; i < order; i++) {
        int m = -order + 1 + 2 * i;
        d->p[i] = -cexp(CMPLX(0, pi * m * (1.0 / (2 * order))));
    }
}

/* The square as NumPy's AVX-512 loops round it: one fused multiply-add for the real part. */
static double complex square(double complex x) {
    double r = creal(x), i = cimag(x);
    return CMPLX(fma(r, r, -(i * i)), r * i + i * r);
}

static void to_bandpass(struct zpk *d, double w0, double bandwidth) {
    int n = d->np;
    for (int i = 0; i < n; i++) {
        double complex p = d->p[i] * bandwidth / 2;
        double complex root = csqrt(square(p) - w0 * w0);
        d->p[i] = p + root;
        d->p[n + i] = p - root;
        d->z[i] = 0;
    }
    d->nz = n;
    d->np = 2 * n;
    d->k *= pow(bandwidth, n);
}

static void to_lowpass(struct zpk *d, double w0) {
    for (int i = 0; i < d->np; i++) d->p[i] *= w0;
    d->k *= pow(w0, d->np);
}

static void to_highpass(struct zpk *d, double w0) {
    double complex product = 1;
    for (int i = 0; i < d->np; i++) product *= -d->p[i];
    for (int i = 0; i < d->np; i++) {
        d->p[i] = divide(w0, d->p[i]);
        d->z[i] = 0;
    }
    d->nz = d->np;
    d->k *= creal(divide(1, product));
}

/* The bilinear transform at SciPy's normalised rate of 2. */
static void to_digital(struct zpk *d) {
    const double fs2 = 4;
    double complex zeros = 1, poles = 1;
    for (int i = 0; i < d->nz; i++) zeros *= fs2 - d->z[i];
    for (int i = 0; i < d->np; i++) poles *= fs2 - d->p[i];
    for (int i = 0; i < d->nz; i++) d->z[i] = divide(fs2 + d->z[i], fs2 - d->z[i]);
    for (int i = 0; i < d->np; i++) d->p[i] = divide(fs2 + d->p[i], fs2 - d->p[i]);
    for (; d->nz < d->np; d->nz++) d->z[d->nz] = -1;
    d->k *= creal(divide(zeros, poles));
}

/* Real coefficients of the polynomial with these roots, highest power first. A complex product is
 * summed as BLAS's zdotu does under numpy.poly: all real-by-real terms, then all
 * imaginary-by-imaginary ones. */
static void polynomial(const double complex *roots, int n, double *out) {
    double complex c[MAX_ROOTS + 1] = {1};
    for (int i = 0; i < n; i++) {
        double rr = -creal(roots[i]), ri = -cimag(roots[i]);
        for (int j = i + 1; j > 0; j--) {
            double cr = creal(c[j - 1]), ci = cimag(c[j - 1]);
            c[j] = CMPLX((cr * rr + creal(c[j])) - ci * ri, cr * ri + (ci * rr + cimag(c[j])));
        }
    }
    for (int i = 0; i <= n; i++) out[i] = creal(c[i]);
}

/* The bilinear transform's frequency 4 tan(pi f / fs), by the half angle: at 500 Hz it then has the
 * last bit of the official numbers. (NumPy's own tan differs in it from build to build.) */
static double warp(double f, double fs) {
    double t = tan(pi * (2 * f / fs) / 2 / 2);
    return 4 * (2 * t / (1 - t * t));
}

enum ecg_status filter_butter(struct filter *f, int order, double low, double high, double fs) {
    double top = high > 0 ? high : low;
    if (order < 1 || order > MAX_ORDER)
        return ecg_fail(ECG_ERR_CONFIG, "a Butterworth filter of order %d: 1 to %d can be had",
                        order, MAX_ORDER);
    if (!(low >= 0 && high >= 0 && top > 0 && top < fs / 2 && (high <= 0 || low < high)))
        return ecg_fail(ECG_ERR_CONFIG,
                        "a filter at %g Hz needs a sampling rate above %g Hz, not %g Hz", top,
                        2 * top, fs);
    struct zpk d;
    prototype(&d, order);
    if (low > 0 && high > 0)
        to_bandpass(&d, sqrt(warp(low, fs) * warp(high, fs)), warp(high, fs) - warp(low, fs));
    else if (low > 0)
        to_highpass(&d, warp(low, fs));
    else
        to_lowpass(&d, warp(high, fs));
    to_digital(&d);
    *f = (struct filter){.nb = d.nz + 1, .na = d.np + 1};
    polynomial(d.z, d.nz, f->b);
    polynomial(d.p, d.np, f->a);
    for (int i = 0; i < f->nb; i++) f->b[i] *= d.k;
    return ECG_OK;
}

/* The state in which a constant input of 1 gives a constant output (scipy.signal.lfilter_zi, in
 * closed form). Both coefficient arrays count as n long: what is missing is 0. */
static void steady_state(const struct filter *f, int n, double *zi) {
    double sum_a = 0, sum_rest = 0;
    for (int i = 0; i < n; i++) sum_a += f->a[i];
    for (int i = 1; i < n; i++) sum_rest += f->b[i] - f->a[i] * f->b[0];
    zi[0] = sum_rest / sum_a;
    double a = 1, c = 0;
    for (int i = 1; i < n - 1; i++) {
        a += f->a[i];
        c += f->b[i] - f->a[i] * f->b[0];
        zi[i] = a * zi[0] - c;
    }
}

/* One pass in place, transposed direct form II, starting from zi * x[0]. `step` -1 runs backwards
 * from the end. */
static void pass(const struct filter *f, int n, const double *zi, double *x, size_t length,
                 int step) {
    double z[FILTER_MAX] = {0};
    double *p = step > 0 ? x : x + length - 1;
    for (int i = 0; i < n - 1; i++) z[i] = zi[i] * *p;
    for (size_t t = 0; t < length; t++, p += step) {
        double in = *p, out = z[0] + f->b[0] * in;
        for (int i = 1; i < n; i++) z[i - 1] = z[i] + in * f->b[i] - out * f->a[i];
        *p = out;
    }
}

enum ecg_status filter_filtfilt(const struct filter *f, double *x, size_t n) {
    int taps = f->na > f->nb ? f->na : f->nb;
    size_t pad = 3 * (size_t)taps;
    if (n <= pad)
        return ecg_fail(ECG_ERR_DATA,
                        "%zu samples are too few for this filter: more than %zu are needed", n,
                        pad);
    double *ext;
    TRY(MEM_NEW(&ext, n + 2 * pad));
    memcpy(ext + pad, x, n * sizeof *x);
    for (size_t i = 0; i < pad; i++) {
        ext[i] = 2 * x[0] - x[pad - i];
        ext[pad + n + i] = 2 * x[n - 1] - x[n - 2 - i];
    }
    double zi[FILTER_MAX];
    steady_state(f, taps, zi);
    pass(f, taps, zi, ext, n + 2 * pad, 1);
    pass(f, taps, zi, ext, n + 2 * pad, -1);
    memcpy(x, ext + pad, n * sizeof *x);
    free(ext);
    return ECG_OK;
}
