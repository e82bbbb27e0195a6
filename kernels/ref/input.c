/* SPDX-License-Identifier: MIT
 * From a batch of stored records, int16 (B, leads of the file, L), to the network's input (B, L, C) in physical
 * units, normalised. */
#include <math.h>

#include "kernels/ref/ref.h"

struct stats {
    double mean, divisor; /* x = (v - mean) / divisor */
};

/* Mean and sd + 1e-8 of the leads lead[from .. to) of one record. */
static struct stats lead_stats(const int16_t *record, double scale, const int *lead, int from,
                               int to, int L) {
    const double n = (double)(to - from) * L;
    double sum = 0, square = 0;

    for (int c = from; c < to; c++) {
        for (int l = 0; l < L; l++) sum += record[(size_t)lead[c] * L + l] * scale;
    }
    for (int c = from; c < to; c++) {
        for (int l = 0; l < L; l++) {
            const double d = record[(size_t)lead[c] * L + l] * scale - sum / n;
            square += d * d;
        }
    }
    const struct stats s = {sum / n, sqrt(square / n) + 1e-8};
    return s;
}

enum ecg_status ref_input_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                              int n_file_leads, const int16_t *ecg, const float *scale,
                              const int *lead, enum ops_normalize normalize, void *x) {
    (void)dev;
    TRY(ref_check_blc("input_fwd", dtype, s));
    for (int c = 0; c < s.C; c++) {
        if (lead[c] < 0 || lead[c] >= n_file_leads)
            return ecg_fail(ECG_ERR_FAIL, "ref: input_fwd: channel %d takes lead %d of %d", c,
                            lead[c], n_file_leads);
    }
    for (int b = 0; b < s.B; b++) {
        const int16_t *record = ecg + (size_t)b * n_file_leads * s.L;
        const size_t start = (size_t)b * s.L * s.C;
        struct stats st = {0, 1};
        if (normalize == OPS_NORM_RECORD) st = lead_stats(record, scale[b], lead, 0, s.C, s.L);
        for (int c = 0; c < s.C; c++) {
            if (normalize == OPS_NORM_LEAD) st = lead_stats(record, scale[b], lead, c, c + 1, s.L);
            for (int l = 0; l < s.L; l++) {
                const double v = record[(size_t)lead[c] * s.L + l] * (double)scale[b];
                ref_put(dtype, x, start + (size_t)l * s.C + c, (v - st.mean) / st.divisor);
            }
        }
    }
    return ECG_OK;
}
