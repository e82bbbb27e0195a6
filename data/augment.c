/* SPDX-License-Identifier: MIT
 * From int16 to floats and back, around the operations. A sample is kept in the file's integers, not in mV, so what
 * only moves samples needs no rounding and the scale stays a factor beside them. */
#include "data/augment.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/augment_ops.h"

#define NAME_(id, name) name,
const char *const augment_op_names[] = {AUGMENT_OPS(NAME_) NULL};

static const struct {
    const char *lead;
    float sign;
} views[AUGMENT_VIEWS] = {{"aVL", 1}, {"aVR", -1}, {"II", 1}, {"III", -1}, {"aVF", 1}, {"aVF", -1}};

bool augment_any(const struct augment_options *o) {
    return (o->ops != 0 && o->n > 0 && o->magnitude > 0 && o->probability > 0) ||
           (o->lead && o->lead_probability > 0) || o->mixup > 0;
}

/* ------------------------------------------------------------------ setting up */

static bool may_draw(const struct augment *a, enum augment_op op) {
    return (a->o.ops >> op & 1) != 0;
}

static enum ecg_status find_views(struct augment *a, const struct leads *file) {
    if (a->n_leads != 1 || a->lead[0] != leads_find(file, "I"))
        return ecg_fail(
            ECG_ERR_CONFIG,
            "augment.lead: it gives other views of lead I to a network of lead I alone: "
            "set model.in_leads to [I], or augment.lead to false");
    if (!(a->sampling_rate > 0)) return ECG_OK;
    for (int v = 0; v < AUGMENT_VIEWS; v++) {
        enum ecg_status status = leads_mix(file, views[v].lead, &a->view[v]);
        if (status == ECG_ERR_DATA)
            return ecg_fail(ECG_ERR_CONFIG,
                            "augment.lead: the data holds lead I and neither %s nor a second limb "
                            "lead to derive it from: import it with lead II, or set augment.lead "
                            "to false",
                            views[v].lead);
        TRY(status);
    }
    return ECG_OK;
}

enum ecg_status augment_init(struct augment *a, const struct augment_options *o,
                             const struct shard_schema *schema, const int *lead, int n_leads) {
    *a = (struct augment){.o = *o,
                          .sampling_rate = schema->sampling_rate,
                          .length = schema->length,
                          .lead = lead,
                          .n_leads = n_leads};
    if (may_draw(a, AUGMENT_LEAD_DROP) && n_leads < 2)
        return ecg_fail(ECG_ERR_CONFIG,
                        "augment.ops: lead_drop needs two leads, and the network has one");
    if (may_draw(a, AUGMENT_POWERLINE) && a->sampling_rate > 0 && a->sampling_rate <= 120)
        return ecg_fail(
            ECG_ERR_CONFIG,
            "augment.ops: powerline, up to 60 Hz, needs more than 120 samples a second, "
            "and the data has %g",
            a->sampling_rate);
    return o->lead ? find_views(a, &schema->leads) : ECG_OK;
}

void augment_carve(const struct augment *a, struct arena *arena, struct augment_scratch *s) {
    size_t n = (size_t)a->length;
    s->x = arena_carve(arena, (size_t)a->n_leads * n * sizeof *s->x);
    s->row = arena_carve(arena, n * sizeof *s->row);
    s->part = arena_carve(arena, n * sizeof *s->part);
    s->at = arena_carve(arena, n * sizeof *s->at);
}

/* ------------------------------------------------------------------ drawing */

/* -1: lead I itself. */
static int draw_view(const struct augment *a, struct rng *r) {
    if (!a->o.lead || rng_uniform(r) >= a->o.lead_probability) return -1;
    return (int)rng_below(r, AUGMENT_VIEWS);
}

/* n of the list, as bits. */
static unsigned draw_ops(const struct augment *a, struct rng *r) {
    int list[AUGMENT_N_OPS], n = 0;
    unsigned drawn = 0;
    for (int op = 0; op < AUGMENT_N_OPS; op++)
        if (may_draw(a, (enum augment_op)op)) list[n++] = op;
    if (n == 0 || !(a->o.magnitude > 0) || rng_uniform(r) >= a->o.probability) return 0;
    for (int i = 0; i < a->o.n && i < n; i++) {
        int j = i + (int)rng_below(r, (uint64_t)(n - i)), op = list[j];
        list[j] = list[i];
        drawn |= 1u << op;
    }
    return drawn;
}

/* ------------------------------------------------------------------ floats and back */

static int16_t *file_row(const struct augment *a, int16_t *ecg, int lead) {
    return ecg + (size_t)lead * (size_t)a->length;
}

static void load(const struct augment *a, int16_t *ecg, float *x) {
    for (int c = 0; c < a->n_leads; c++) {
        const int16_t *from = file_row(a, ecg, a->lead[c]);
        for (int t = 0; t < a->length; t++) *x++ = from[t];
    }
}

/* A derived lead has halves and may leave the range of int16. */
static void load_mix(const struct augment *a, int16_t *ecg, const struct lead_mix *mix, float *x) {
    const int16_t *p = file_row(a, ecg, mix->source[0]), *q = file_row(a, ecg, mix->source[1]);
    for (int t = 0; t < a->length; t++)
        x[t] = (float)(mix->weight[0] * p[t] + mix->weight[1] * q[t]);
}

static void store(const struct augment *a, const float *x, float factor, int16_t *ecg) {
    for (int c = 0; c < a->n_leads; c++) {
        int16_t *to = file_row(a, ecg, a->lead[c]);
        for (int t = 0; t < a->length; t++) to[t] = (int16_t)lrintf(*x++ * factor);
    }
}

static float larger(float peak, float x) {
    return fabsf(x) > peak ? fabsf(x) : peak;
}

/* The factor that makes `peak` the largest integer; a record of next to nothing becomes 0. */
static float to_integers(float peak) {
    return peak > 1e-30f ? INT16_MAX / peak : 0;
}

static void store_rounded(const struct augment *a, const float *x, int16_t *ecg, float *scale) {
    size_t n = (size_t)a->n_leads * (size_t)a->length;
    float peak = 0;
    for (size_t i = 0; i < n; i++) peak = larger(peak, x[i]);
    store(a, x, to_integers(peak), ecg);
    *scale *= peak / INT16_MAX;
}

/* In double, in two passes. */
static double standard_deviation(const float *x, size_t n) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    return sqrt(squares / (double)n);
}

/* Whether whole numbers stayed whole. */
static bool run_ops(const struct augment *a, unsigned ops, struct rng *r,
                    const struct augment_scratch *s) {
    struct augment_work w = {
        .s = s, .n_leads = a->n_leads, .length = a->length, .sampling_rate = a->sampling_rate};
    bool exact = true, wants_sd = false;
    for (int op = 0; op < AUGMENT_N_OPS; op++)
        if (ops >> op & 1) {
            exact = exact && augment_op_is_exact((enum augment_op)op);
            wants_sd = wants_sd || augment_op_wants_sd((enum augment_op)op);
        }
    if (wants_sd) w.sd = standard_deviation(s->x, (size_t)a->n_leads * (size_t)a->length);
    for (int op = 0; op < AUGMENT_N_OPS; op++)
        if (ops >> op & 1) augment_op_run((enum augment_op)op, &w, r, a->o.magnitude);
    return exact;
}

void augment_record(const struct augment *a, const struct augment_place *at,
                    struct augment_scratch *s, int16_t *ecg, float *scale) {
    struct rng r;
    rng_init(&r, at->seed, RNG_AUGMENT, at->epoch, at->place);
    int view = draw_view(a, &r);
    unsigned ops = draw_ops(a, &r);
    const struct lead_mix *mix = view >= 0 ? &a->view[view] : NULL;
    bool derived = mix != NULL && mix->n == 2;
    if (view >= 0) *scale *= views[view].sign;
    if (mix != NULL && !derived)
        memcpy(file_row(a, ecg, a->lead[0]), file_row(a, ecg, mix->source[0]),
               (size_t)a->length * sizeof *ecg);
    if (ops == 0 && !derived) return;
    if (derived)
        load_mix(a, ecg, mix, s->x);
    else
        load(a, ecg, s->x);
    bool exact = run_ops(a, ops, &r, s) && !derived;
    if (exact)
        store(a, s->x, 1, ecg);
    else
        store_rounded(a, s->x, ecg, scale);
}

/* ------------------------------------------------------------------ mixup */

/* The logarithm of a Gamma(alpha, 1) variate: for a small alpha the variate itself would often be 0. */
static double log_gamma_variate(struct rng *r, double alpha) {
    double boost = alpha < 1 ? log(1 - rng_uniform(r)) / alpha : 0;
    double d = (alpha < 1 ? alpha + 1 : alpha) - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = rng_normal(r), root = 1 + c * x, u = 1 - rng_uniform(r);
        if (!(root > 0)) continue;
        double log_v = 3 * log(root), v = root * root * root;
        if (log(u) < 0.5 * x * x + d - d * v + d * log_v) return log(d) + log_v + boost;
    }
}

double augment_beta(struct rng *r, double alpha) {
    double p = log_gamma_variate(r, alpha), q = log_gamma_variate(r, alpha);
    return 1 / (1 + exp(q - p));
}

float augment_lambda(const struct augment *a, const struct augment_place *at) {
    struct rng r;
    rng_init(&r, at->seed, RNG_MIXUP, at->epoch, at->place);
    return (float)augment_beta(&r, a->o.mixup);
}

/* Both records' samples number t of a row, mixed. */
static void mix_sample(const float weight[2][2], int16_t p, int16_t q, float out[2]) {
    for (int i = 0; i < 2; i++) out[i] = weight[i][0] * p + weight[i][1] * q;
}

void augment_mix(const struct augment *a, const float lambda[2], int16_t *const ecg[2],
                 float *const scale[2]) {
    const float weight[2][2] = {{lambda[0] * *scale[0], (1 - lambda[0]) * *scale[1]},
                                {(1 - lambda[1]) * *scale[0], lambda[1] * *scale[1]}};
    float peak[2] = {0, 0}, factor[2], mixed[2];
    for (int c = 0; c < a->n_leads; c++) {
        const int16_t *p = file_row(a, ecg[0], a->lead[c]), *q = file_row(a, ecg[1], a->lead[c]);
        for (int t = 0; t < a->length; t++) {
            mix_sample(weight, p[t], q[t], mixed);
            for (int i = 0; i < 2; i++) peak[i] = larger(peak[i], mixed[i]);
        }
    }
    for (int i = 0; i < 2; i++) factor[i] = to_integers(peak[i]);
    for (int c = 0; c < a->n_leads; c++) {
        int16_t *p = file_row(a, ecg[0], a->lead[c]), *q = file_row(a, ecg[1], a->lead[c]);
        for (int t = 0; t < a->length; t++) {
            mix_sample(weight, p[t], q[t], mixed);
            p[t] = (int16_t)lrintf(mixed[0] * factor[0]);
            q[t] = (int16_t)lrintf(mixed[1] * factor[1]);
        }
    }
    for (int i = 0; i < 2; i++) *scale[i] = peak[i] / INT16_MAX;
}
