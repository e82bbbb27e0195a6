/* SPDX-License-Identifier: MIT
 * A recording's way through leads, gaps, presets, resampling and length. Each step replaces the
 * signal as a whole; the source's integers (has_adc) survive only steps that copy or zero
 * samples. */
#include "data/prep/prep.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "data/prep/filters.h"

const char *const prep_preset_names[] = {"none", "official", "paper", "ptbxl-eval", NULL};

enum {
    PTBXL_EVAL_LENGTH = 5000,
    MAX_SAMPLES = 1 << 24 /* of a lead: 9 hours at 500 Hz */
};
static const double paper_rate = 500;
/* Above this rate the official band-pass in SciPy's "ba" form loses its digits (3e-4 of the peak
 * at 1000 Hz) and then its stability (2000 Hz). */
static const double official_max_rate = 1000;

enum ecg_status prep_check(const struct prep *p) {
    if (!(p->rate >= 0 && isfinite(p->rate)))
        return ecg_fail(ECG_ERR_CONFIG, "rate %g Hz: it must be above 0", p->rate);
    if (p->length != PREP_LENGTH_KEEP && !(p->seconds > 0 && isfinite(p->seconds)))
        return ecg_fail(ECG_ERR_CONFIG, "length %g s: it must be above 0", p->seconds);
    if (p->preset == PREP_PTBXL_EVAL && p->rate > 0)
        return ecg_fail(ECG_ERR_CONFIG,
                        "preset ptbxl-eval resamples every recording to %d points: "
                        "it takes no rate",
                        PTBXL_EVAL_LENGTH);
    if (p->preset == PREP_PTBXL_EVAL && p->length == PREP_LENGTH_WINDOWS)
        return ecg_fail(ECG_ERR_CONFIG, "preset ptbxl-eval makes one record of every recording: "
                                        "it takes no windows");
    return ECG_OK;
}

/* The wanted leads in their order; what is missing among the limb leads is derived. */
static enum ecg_status select_leads(const struct leads *wanted, struct record *r) {
    double *signal;
    TRY(MEM_NEW(&signal, (size_t)wanted->n * r->length));
    for (int c = 0; c < wanted->n; c++) {
        struct lead_mix mix;
        enum ecg_status status = leads_mix(&r->leads, wanted->name[c], &mix);
        if (status != ECG_OK) {
            free(signal);
            return status;
        }
        double *out = signal + (size_t)c * r->length;
        const double *a = r->signal + (size_t)mix.source[0] * r->length;
        if (mix.n == 1) {
            memcpy(out, a, r->length * sizeof *out);
            continue;
        }
        const double *b = r->signal + (size_t)mix.source[1] * r->length;
        for (size_t i = 0; i < r->length; i++) out[i] = mix.weight[0] * a[i] + mix.weight[1] * b[i];
        r->has_adc = false; /* halves of the source's integers */
    }
    free(r->signal);
    r->signal = signal;
    r->leads = *wanted;
    return ECG_OK;
}

/* Samples that are no numbers become 0. */
static enum ecg_status fill_gaps(struct record *r, size_t *n_nan) {
    size_t n = (size_t)r->leads.n * r->length, bad = 0;
    for (size_t i = 0; i < n; i++) {
        if (isfinite(r->signal[i])) continue;
        r->signal[i] = 0;
        bad++;
    }
    *n_nan = bad;
    if (bad == n) return ecg_fail(ECG_ERR_DATA, "all samples are invalid (NaN)");
    return ECG_OK;
}

bool prep_is_flat(const double *signal, int n_leads, size_t length) {
    for (int c = 0; c < n_leads; c++, signal += length)
        for (size_t i = 1; i < length; i++)
            if (signal[i] != signal[0]) return false;
    return true;
}

static enum ecg_status reject_flat(const struct record *r) {
    if (prep_is_flat(r->signal, r->leads.n, r->length))
        return ecg_fail(ECG_ERR_DATA, "flat: every lead has one value throughout");
    return ECG_OK;
}

/* All leads at a new length and rate. */
static enum ecg_status resample(struct record *r, double rate, size_t length, bool linear) {
    if (length < 1 || length > MAX_SAMPLES)
        return ecg_fail(ECG_ERR_DATA,
                        "%zu samples at %g Hz can't be resampled to %g Hz: 1 to %d samples "
                        "can be had",
                        r->length, r->sampling_rate, rate, MAX_SAMPLES);
    double *signal;
    TRY(MEM_NEW(&signal, (size_t)r->leads.n * length));
    enum ecg_status status = ECG_OK;
    for (int c = 0; c < r->leads.n && status == ECG_OK; c++) {
        const double *x = r->signal + (size_t)c * r->length;
        double *y = signal + (size_t)c * length;
        if (linear)
            resample_linear(x, r->length, y, length);
        else
            status = resample_poly(x, r->length, r->sampling_rate, rate, y, length);
    }
    if (status != ECG_OK) {
        free(signal);
        return status;
    }
    free(r->signal);
    r->signal = signal;
    r->length = length;
    r->sampling_rate = rate;
    r->has_adc = false;
    return ECG_OK;
}

static bool same_rate(double a, double b) {
    return fabs(a - b) <= 1e-6 * b;
}

static enum ecg_status to_rate(struct record *r, double rate, bool linear) {
    if (same_rate(r->sampling_rate, rate)) return ECG_OK;
    double points = round((double)r->length * rate / r->sampling_rate);
    if (linear) return resample(r, rate, points <= MAX_SAMPLES ? (size_t)points : 0, true);
    return resample(r, rate, resample_poly_length(r->length, r->sampling_rate, rate), false);
}

/* Zero-phase filters one after another, then minus the median baseline if any, on every lead. */
static enum ecg_status apply_filters(struct record *r, const struct filter *filters, int n,
                                     int median_window) {
    double *baseline;
    TRY(MEM_NEW(&baseline, r->length));
    enum ecg_status status = ECG_OK;
    for (int c = 0; c < r->leads.n; c++) {
        double *x = r->signal + (size_t)c * r->length;
        for (int i = 0; i < n; i++) TRY_OUT(filter_filtfilt(&filters[i], x, r->length));
        if (median_window == 0) continue;
        TRY_OUT(filter_median(x, r->length, median_window, baseline));
        for (size_t i = 0; i < r->length; i++) x[i] -= baseline[i];
    }
    r->has_adc = false;
out:
    free(baseline);
    return status;
}

static enum ecg_status run_official(struct record *r, double rate) {
    if (r->sampling_rate > official_max_rate && rate > 0 && rate <= official_max_rate)
        TRY(to_rate(r, rate, false));
    double fs = r->sampling_rate;
    if (fs > official_max_rate)
        return ecg_fail(ECG_ERR_DATA,
                        "%g Hz: preset official's filters lose their precision above %g Hz: "
                        "choose a lower rate",
                        fs, official_max_rate);
    struct filter filters[2];
    TRY(filter_notch(&filters[0], 50, 30, fs));
    TRY(filter_butter(&filters[1], 4, 0.67, 40, fs));
    int window = (int)(0.4 * fs) + 1;
    return apply_filters(r, filters, 2, window + (window % 2 == 0));
}

static enum ecg_status run_paper(struct record *r, double rate) {
    TRY(to_rate(r, rate, true));
    struct filter filters[4];
    TRY(filter_notch(&filters[0], 50, 30, rate));
    TRY(filter_notch(&filters[1], 60, 30, rate));
    TRY(filter_butter(&filters[2], 2, 0.5, 0, rate));
    TRY(filter_butter(&filters[3], 2, 0, 50, rate));
    return apply_filters(r, filters, 4, 0);
}

/* Window w of the recording, zeros past its end. */
static void cut(const struct record *r, size_t w, size_t length, double *out) {
    size_t from = w * length;
    size_t n = from < r->length ? r->length - from : 0;
    if (n > length) n = length;
    for (int c = 0; c < r->leads.n; c++, out += length) {
        memcpy(out, r->signal + (size_t)c * r->length + from, n * sizeof *out);
        memset(out + n, 0, (length - n) * sizeof *out);
    }
}

static enum ecg_status wanted_length(const struct prep *p, const struct record *r, size_t *length) {
    double n = round(p->seconds * r->sampling_rate);
    if (!(n >= 1 && n <= MAX_SAMPLES))
        return ecg_fail(ECG_ERR_DATA, "a length of %g s at %g Hz: 1 to %d samples can be had",
                        p->seconds, r->sampling_rate, MAX_SAMPLES);
    *length = (size_t)n;
    return ECG_OK;
}

static enum ecg_status crop(const struct prep *p, struct record *r) {
    size_t length = 0;
    TRY(wanted_length(p, r, &length));
    if (length == r->length) return ECG_OK;
    double *signal;
    TRY(MEM_NEW(&signal, (size_t)r->leads.n * length));
    cut(r, 0, length, signal);
    free(r->signal);
    r->signal = signal;
    r->length = length;
    return reject_flat(r);
}

static enum ecg_status run_ptbxl_eval(const struct prep *p, struct record *r) {
    if (p->length == PREP_LENGTH_CROP) TRY(crop(p, r));
    if (r->length == PTBXL_EVAL_LENGTH) return ECG_OK;
    double rate = r->sampling_rate * PTBXL_EVAL_LENGTH / (double)r->length;
    return resample(r, rate, PTBXL_EVAL_LENGTH, true);
}

enum ecg_status prep_run(const struct prep *p, struct record *r, size_t *n_nan) {
    *n_nan = 0;
    TRY(prep_check(p));
    if (!(r->sampling_rate > 0 && isfinite(r->sampling_rate)))
        return ecg_fail(ECG_ERR_DATA, "a sampling rate of %g Hz", r->sampling_rate);
    if (r->length == 0 || r->leads.n == 0) return ecg_fail(ECG_ERR_DATA, "no samples");
    if (p->leads.n > 0) TRY(select_leads(&p->leads, r));
    TRY(fill_gaps(r, n_nan));
    TRY(reject_flat(r));
    switch (p->preset) {
    case PREP_NONE:
        break;
    case PREP_OFFICIAL:
        TRY(run_official(r, p->rate));
        break;
    case PREP_PAPER:
        TRY(run_paper(r, p->rate > 0 ? p->rate : paper_rate));
        break;
    case PREP_PTBXL_EVAL:
        return run_ptbxl_eval(p, r);
    }
    if (p->rate > 0) TRY(to_rate(r, p->rate, false));
    if (p->length == PREP_LENGTH_CROP) return crop(p, r);
    size_t length = 0;
    return p->length == PREP_LENGTH_WINDOWS ? wanted_length(p, r, &length) : ECG_OK;
}

size_t prep_windows(const struct prep *p, const struct record *r, size_t *length) {
    *length = r->length;
    if (p->length == PREP_LENGTH_WINDOWS) *length = (size_t)round(p->seconds * r->sampling_rate);
    return (r->length + *length - 1) / *length;
}

void prep_window(const struct prep *p, const struct record *r, size_t w, double *out) {
    size_t length = 0;
    prep_windows(p, r, &length);
    cut(r, w, length, out);
}

enum ecg_status prep_quantize(const double *signal, size_t n, bool has_adc, double gain,
                              int16_t *out, float *scale) {
    double peak = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(signal[i])) return ecg_fail(ECG_ERR_DATA, "a value that is no number");
        if (fabs(signal[i]) > peak) peak = fabs(signal[i]);
    }
    double step = has_adc ? 1 / gain : peak > 0 ? peak / 32767 : 1;
    *scale = (float)step;
    if (!(*scale >= FLT_MIN && *scale <= FLT_MAX))
        return ecg_fail(ECG_ERR_DATA,
                        "values up to %g are outside the range that single precision holds", peak);
    for (size_t i = 0; i < n; i++) {
        double q = rint(has_adc ? signal[i] * gain : signal[i] / (double)*scale);
        if (q > 32767) q = 32767;
        if (q < -32768) q = -32768;
        out[i] = (int16_t)q;
    }
    return ECG_OK;
}
