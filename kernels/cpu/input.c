/* SPDX-License-Identifier: MIT
 * From stored records to the network's input. The samples are integers, so their sum and the sum of their
 * squares are taken exactly; one task a record. */
#include "kernels/cpu/cpu.h"

#include <math.h>

#include "kernels/bf16.h"

struct input {
    struct ops_blc s;
    int n_file_leads;
    const int16_t *ecg;
    const float *scale;
    const int *lead;
    enum ops_normalize normalize;
    enum ops_dtype dtype;
    void *x;
};

struct sums {
    int64_t n, sum, square;
};

static void add_lead(struct sums *t, const int16_t *lead, int L) {
    int64_t sum = 0, square = 0;
    for (int l = 0; l < L; l++) {
        sum += lead[l];
        square += (int32_t)lead[l] * lead[l];
    }
    t->n += L;
    t->sum += sum;
    t->square += square;
}

/* One channel of a record: x = (v - mean) / (sd + 1e-8) in physical units; t NULL: x = v. */
static void write_channel(const struct input *j, int b, int c, const struct sums *t) {
    const int16_t *lead =
        j->ecg + ((size_t)b * j->n_file_leads + (size_t)j->lead[c]) * (size_t)j->s.L;
    const double scale = (double)j->scale[b];
    const size_t C = (size_t)j->s.C;
    const size_t start = (size_t)b * (size_t)j->s.L * C + (size_t)c;
    double mean = 0, divisor = 1;
    if (t) {
        const __int128 spread =
            (__int128)t->n * t->square - (__int128)t->sum * t->sum; /* n^2 variance */
        mean = (double)t->sum / (double)t->n * scale;
        divisor = sqrt((double)spread) / (double)t->n * fabs(scale) + 1e-8;
    }
    if (j->dtype == OPS_F32) {
        float *x = (float *)j->x + start;
        for (int l = 0; l < j->s.L; l++)
            x[(size_t)l * C] = (float)((lead[l] * scale - mean) / divisor);
    } else {
        uint16_t *x = (uint16_t *)j->x + start;
        for (int l = 0; l < j->s.L; l++)
            x[(size_t)l * C] = bf16_from_float((float)((lead[l] * scale - mean) / divisor));
    }
}

static void input_task(void *context, size_t task, int worker) {
    const struct input *j = context;
    const int b = (int)task;
    const int16_t *record = j->ecg + (size_t)b * j->n_file_leads * (size_t)j->s.L;
    struct sums all = {0};
    (void)worker;
    if (j->normalize == OPS_NORM_RECORD) {
        for (int c = 0; c < j->s.C; c++)
            add_lead(&all, record + (size_t)j->lead[c] * (size_t)j->s.L, j->s.L);
    }
    for (int c = 0; c < j->s.C; c++) {
        struct sums own = {0};
        if (j->normalize == OPS_NORM_LEAD)
            add_lead(&own, record + (size_t)j->lead[c] * (size_t)j->s.L, j->s.L);
        write_channel(j, b, c,
                      j->normalize == OPS_NORM_NONE   ? NULL
                      : j->normalize == OPS_NORM_LEAD ? &own
                                                      : &all);
    }
}

enum ecg_status cpu_input_fwd(struct ops_dev *dev, enum ops_dtype dtype, struct ops_blc s,
                              int n_file_leads, const int16_t *ecg, const float *scale,
                              const int *lead, enum ops_normalize normalize, void *x) {
    TRY(cpu_check_blc("input_fwd", dtype, s));
    for (int c = 0; c < s.C; c++) {
        if (lead[c] < 0 || lead[c] >= n_file_leads)
            return ecg_fail(ECG_ERR_FAIL, "cpu: input_fwd: channel %d takes lead %d of %d", c,
                            lead[c], n_file_leads);
    }
    struct input j = {s, n_file_leads, ecg, scale, lead, normalize, dtype, x};
    cpu_run(dev, (size_t)s.B, 8.0 * s.B * s.L * s.C, input_task, &j);
    return ECG_OK;
}
