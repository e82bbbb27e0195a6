/* SPDX-License-Identifier: MIT
 * From a recording as read to records of one rate, length and lead set: presets, resampling,
 * windows, quantisation. */
#ifndef DATA_PREP_PREP_H
#define DATA_PREP_PREP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "data/record.h"

/* What a preset does; whatever it is, samples that are no numbers become 0 first and the lead
 * order is `leads`:
 *   none        nothing
 *   official    the repo's dataset.py at the recording's own rate: notch 50 Hz Q 30, Butterworth 4
 *               band-pass 0.67-40 Hz, both filtfilt, minus a median baseline of int(0.4 fs)+1
 *               samples made odd. 100 to 1000 Hz; a faster recording is resampled to `rate` before
 *               the filters, any other after them.
 *   paper       linear interpolation to 500 Hz (to `rate` where it is given), then filtfilt of
 *               notches 50 and 60 Hz Q 30, a Butterworth 2 high-pass at 0.5 Hz and low-pass at
 *               50 Hz. For its windows: seconds 10, WINDOWS.
 *   ptbxl-eval  linear interpolation to 5000 points, no filter; `rate` must be 0. A recording that
 *               is no 10 s long is stretched to them and its rate says so; with CROP it is first
 *               cut or padded to `seconds`.
 * `rate` resamples with anti-aliasing (resample_poly) where not said otherwise. The z-score that
 * goes with all three is not here: it is the network's input op (data.normalize). */
enum prep_preset { PREP_NONE, PREP_OFFICIAL, PREP_PAPER, PREP_PTBXL_EVAL };
extern const char *const prep_preset_names[]; /* NULL-terminated, in the enum's order */

/* CROP: cut, or zeros on the right. WINDOWS: one after another, zeros behind the last. */
enum prep_length { PREP_LENGTH_KEEP, PREP_LENGTH_CROP, PREP_LENGTH_WINDOWS };

struct prep {
    enum prep_preset preset;
    double rate;    /* Hz; 0 = the recording's own */
    double seconds; /* with CROP and WINDOWS */
    enum prep_length length;
    struct leads leads; /* wanted, in this order; n 0 = the recording's own */
};

/* Options that contradict each other: ECG_ERR_CONFIG. */
enum ecg_status prep_check(const struct prep *p);

/* Replaces r->signal (and rate, length, leads; has_adc becomes false when any value changes).
 * n_nan counts samples that were NaN and became 0. An all-NaN or all-flat (every lead constant)
 * recording is ECG_ERR_DATA with the reason. With WINDOWS the recording stays whole here;
 * prep_window cuts it. */
enum ecg_status prep_run(const struct prep *p, struct record *r, size_t *n_nan);
/* Number of windows (>= 1) and window w: (C, L) doubles, right zero-padded. Not WINDOWS: one
 * window, the recording. */
size_t prep_windows(const struct prep *p, const struct record *r, size_t *length);
void prep_window(const struct prep *p, const struct record *r, size_t w, double *out);

/* Whether every lead of (C, L) is constant. */
bool prep_is_flat(const double *signal, int n_leads, size_t length);

/* int16 with one scale: the source's own integers where one gain serves all leads (scale =
 * 1/gain), else scale = peak/32767. out (n). ECG_ERR_DATA: values beyond single precision. */
enum ecg_status prep_quantize(const double *signal, size_t n, bool has_adc, double gain,
                              int16_t *out, float *scale);

#endif
