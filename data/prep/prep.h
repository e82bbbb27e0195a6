/* SPDX-License-Identifier: MIT
 * From a recording as read to records of one rate, length and lead set: presets, resampling, windows, quantisation. */
#ifndef DATA_PREP_PREP_H
#define DATA_PREP_PREP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "data/record.h"

/* none: as it is. official: the repo's dataset.py (NaN -> 0, notch 50 Hz Q 30, Butterworth 4 band-pass 0.67-40 Hz, both
 * filtfilt, minus a median baseline of int(0.4 fs)+1 samples made odd). paper: linear to 500 Hz, notch 50 and 60 Hz,
 * 0.5 Hz high-pass, 2nd-order 50 Hz low-pass. ptbxl-eval: linear resampling to 5000 points, no filter. The z-score of all
 * three is not here: it is the network's input op (data.normalize). */
enum prep_preset { PREP_NONE, PREP_OFFICIAL, PREP_PAPER, PREP_PTBXL_EVAL };
extern const char *const prep_preset_names[]; /* NULL-terminated, in the enum's order */

enum prep_length { PREP_LENGTH_KEEP, PREP_LENGTH_CROP /* crop or right zero-pad */, PREP_LENGTH_WINDOWS };

struct prep {
    enum prep_preset preset;
    double rate;      /* Hz; 0 = the recording's own */
    double seconds;   /* with CROP and WINDOWS */
    enum prep_length length;
    struct leads leads; /* wanted, in this order; n 0 = the recording's own */
};

/* Replaces r->signal (and rate, length, leads; has_adc becomes false when any value changes). n_nan counts samples that
 * were NaN and became 0. An all-NaN or all-flat (every lead constant) recording is ECG_ERR_DATA with the reason. With
 * WINDOWS the recording stays whole here; prep_window cuts it. */
enum ecg_status prep_run(const struct prep *p, struct record *r, size_t *n_nan);
/* Number of windows (>= 1) and window w: (C, L) doubles, right zero-padded. Not WINDOWS: one window, the recording. */
size_t prep_windows(const struct prep *p, const struct record *r, size_t *length);
void prep_window(const struct prep *p, const struct record *r, size_t w, double *out);

/* int16 with one scale: the source's own integers where one gain serves all leads (scale = 1/gain), else
 * scale = peak/32767. out (C, L). */
enum ecg_status prep_quantize(const double *signal, size_t n, bool has_adc, double gain, int16_t *out, float *scale);

#endif
