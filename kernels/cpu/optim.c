/* SPDX-License-Identifier: MIT
 * Losses, and the sums and updates over the flat parameter arrays. */
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>

#include "kernels/loss.h"

enum {
    TASK_FLOATS = 32768, /* elements of a task */
    SUM_PARTS = 64       /* parts of a sum of squares, whatever the number of threads */
};

struct vector {
    const struct level *v;
    size_t n;
    double a; /* scale, ema */
    struct level_adam adam;
    float lr, momentum, weight_decay; /* sgd */
    int is_first;
    float *p, *m, *moment2;
    const float *g;
    double part[SUM_PARTS];
};

static struct cpu_part elements_of(const struct vector *j, size_t task) {
    return cpu_part(j->n, cpu_ceil_div(j->n, TASK_FLOATS), task);
}

static void run_vector(struct ops_dev *dev, struct vector *j, pool_fn *fn) {
    j->v = dev->level;
    cpu_run(dev, cpu_ceil_div(j->n, TASK_FLOATS), 4.0 * (double)j->n, fn, j);
}

/* The labels or targets of one entry; 0 when it is unknown. */
static int loss_entry(const struct ops_loss *kind, double z, const uint8_t *labels,
                      const float *targets, const float *column_scale, size_t i, int n,
                      double *value, double *dz) {
    if (ops_loss_takes_targets(kind->kind)) {
        if (isnan(targets[i])) return 0;
        *value = ops_loss_target(kind, z, (double)targets[i],
                                 column_scale ? (double)column_scale[n] : 1, dz);
        return 1;
    }
    if (labels[i] == OPS_LABEL_UNKNOWN) return 0;
    *value = ops_loss_label(kind, z, labels[i], dz);
    return 1;
}

enum ecg_status cpu_loss(struct ops_dev *dev, const struct ops_loss *kind, int B, int N,
                         const float *logits, const uint8_t *labels, const float *targets,
                         const float *column_scale, double inv_known, double *loss_sum,
                         float *dlogits) {
    (void)dev;
    if (ops_loss_takes_targets(kind->kind) ? !targets : !labels)
        return ecg_fail(ECG_ERR_FAIL, "cpu: loss: kind %d without its labels or targets",
                        (int)kind->kind);
    for (int b = 0; b < B; b++) {
        for (int n = 0; n < N; n++) {
            const size_t i = (size_t)b * (size_t)N + (size_t)n;
            double value = 0, dz = 0;
            if (loss_entry(kind, (double)logits[i], labels, targets, column_scale, i, n, &value,
                           &dz))
                *loss_sum += value;
            if (dlogits) dlogits[i] = (float)(inv_known * dz);
        }
    }
    return ECG_OK;
}

static void sumsq_task(void *context, size_t task, int worker) {
    struct vector *j = context;
    const struct cpu_part e = cpu_part(j->n, SUM_PARTS, task);
    enum { LANES = 8 };
    double sum[LANES] = {0};
    size_t i = e.from;
    (void)worker;
    for (; i + LANES <= e.to; i += LANES) {
        for (int k = 0; k < LANES; k++) sum[k] += (double)j->g[i + k] * (double)j->g[i + k];
    }
    for (; i < e.to; i++) sum[0] += (double)j->g[i] * (double)j->g[i];
    j->part[task] = 0;
    for (int k = 0; k < LANES; k++) j->part[task] += sum[k];
}

enum ecg_status cpu_sumsq(struct ops_dev *dev, size_t n, const float *x, double *sum) {
    struct vector j = {.n = n, .g = x};
    cpu_run(dev, SUM_PARTS, 2.0 * (double)n, sumsq_task, &j);
    *sum = 0;
    for (int i = 0; i < SUM_PARTS; i++) *sum += j.part[i];
    return ECG_OK;
}

static void scale_task(void *context, size_t task, int worker) {
    const struct vector *j = context;
    const struct cpu_part e = elements_of(j, task);
    (void)worker;
    for (size_t i = e.from; i < e.to; i++) j->p[i] = (float)(j->a * (double)j->p[i]);
}

enum ecg_status cpu_scale(struct ops_dev *dev, size_t n, double a, float *x) {
    struct vector j = {.n = n, .a = a, .p = x};
    run_vector(dev, &j, scale_task);
    return ECG_OK;
}

static void zero_task(void *context, size_t task, int worker) {
    const struct vector *j = context;
    const struct cpu_part e = elements_of(j, task);
    (void)worker;
    memset((char *)j->p + e.from, 0, e.to - e.from);
}

enum ecg_status cpu_fill_zero(struct ops_dev *dev, void *x, size_t bytes) {
    struct vector j = {.n = bytes, .p = x};
    run_vector(dev, &j, zero_task);
    return ECG_OK;
}

static void adam_task(void *context, size_t task, int worker) {
    const struct vector *j = context;
    const struct cpu_part e = elements_of(j, task);
    (void)worker;
    j->v->adam(&j->adam, e.to - e.from, j->p + e.from, j->g + e.from, j->m + e.from,
               j->moment2 + e.from);
}

enum ecg_status cpu_adam(struct ops_dev *dev, const struct ops_adam *a, size_t n, float *p,
                         const float *g, float *m, float *v) {
    struct vector j = {.n = n, .p = p, .g = g, .m = m, .moment2 = v};
    j.adam = (struct level_adam){.beta1 = (float)a->beta1,
                                 .beta2 = (float)a->beta2,
                                 .one_minus_beta1 = (float)(1 - a->beta1),
                                 .one_minus_beta2 = (float)(1 - a->beta2),
                                 .keep = a->decoupled ? (float)(1 - a->lr * a->weight_decay) : 1,
                                 .l2 = a->decoupled ? 0 : (float)a->weight_decay,
                                 .step_size = (float)(a->lr / (1 - pow(a->beta1, (double)a->step))),
                                 .root_correct = (float)sqrt(1 - pow(a->beta2, (double)a->step)),
                                 .eps = (float)a->eps};
    run_vector(dev, &j, adam_task);
    return ECG_OK;
}

static void sgd_task(void *context, size_t task, int worker) {
    const struct vector *j = context;
    const struct cpu_part e = elements_of(j, task);
    (void)worker;
    for (size_t i = e.from; i < e.to; i++) {
        float d = j->g[i] + j->weight_decay * j->p[i];
        if (j->momentum > 0) d = j->m[i] = j->is_first ? d : j->momentum * j->m[i] + d;
        j->p[i] -= j->lr * d;
    }
}

enum ecg_status cpu_sgd(struct ops_dev *dev, double lr, double momentum, double weight_decay,
                        int64_t step, size_t n, float *p, const float *g, float *m) {
    struct vector j = {.n = n,
                       .p = p,
                       .g = g,
                       .m = m,
                       .lr = (float)lr,
                       .momentum = (float)momentum,
                       .weight_decay = (float)weight_decay,
                       .is_first = step == 1};
    run_vector(dev, &j, sgd_task);
    return ECG_OK;
}

/* In this form weights that rest are their own average, which decay * average + (1 - decay) * p in floats is not. */
static void ema_task(void *context, size_t task, int worker) {
    const struct vector *j = context;
    const struct cpu_part e = elements_of(j, task);
    const float rest = (float)j->a;
    (void)worker;
    for (size_t i = e.from; i < e.to; i++) j->p[i] += rest * (j->g[i] - j->p[i]);
}

enum ecg_status cpu_ema(struct ops_dev *dev, size_t n, double decay, const float *p,
                        float *average) {
    struct vector j = {.n = n, .a = 1 - decay, .p = average, .g = p};
    run_vector(dev, &j, ema_task);
    return ECG_OK;
}
