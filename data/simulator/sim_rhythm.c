/* SPDX-License-Identifier: MIT
 * When the beats come. Sinus rhythm: RR follows the breath (respiratory sinus arrhythmia), a 0.1 Hz wave and a little
 * chance. Fibrillation: RR intervals are independent draws, skewed to the long side. Flutter: a whole number of atrial
 * cycles. A ventricular ectopic leaves the sinus node's clock alone (compensatory pause), an atrial one resets it. */
#include "data/simulator/sim.h"

#include <math.h>

#include "core/mem.h"

#define BEFORE 3.0 /* s of rhythm before the record begins */
#define AFTER  1.2

struct clock {
    const struct sim_plan *plan;
    struct rng *r;
    double ratio; /* flutter: the present n to 1 */
};

/* The time to the next beat of the dominant rhythm after one at t. */
static double next_rr(struct clock *c, double t) {
    const struct sim_plan *plan = c->plan;
    const double rr = 60 / plan->rate;
    if (plan->has[SIM_FIBRILLATION]) {
        /* exp(normal) less its mean: the average stays rr; no ventricle follows faster than its refractory time */
        const double sd = plan->rr_random;
        return fmax(rr * exp(sd * rng_normal(c->r) - 0.5 * sd * sd), fmax(0.27, 0.5 * rr));
    }
    if (plan->has[SIM_FLUTTER]) {
        if (plan->conduction == 0 && sim_chance(c->r, 0.4))
            c->ratio = 2 + (double)rng_below(c->r, 3);
        return c->ratio / plan->atrial_hz;
    }
    const double breath = sin(2 * SIM_PI * plan->breath_hz * t + plan->breath_phase);
    const double slow = sin(2 * SIM_PI * plan->slow_hz * t + plan->slow_phase);
    const double chance = sim_normal(c->r, 0, 1, -3, 3);
    return rr * (1 + plan->rr_breath * breath + plan->rr_slow * slow + plan->rr_random * chance);
}

static enum ecg_status push(struct sim_beats *b, double t, enum sim_beat_kind kind, double rr,
                            double mean_rr) {
    TRY(mem_grow((void **)&b->v, &b->cap, b->n + 1, sizeof *b->v));
    /* repolarisation follows the interval before it, but only in part within a few beats */
    const double stretch = fmin(fmax(pow(rr / mean_rr, 0.2), 0.88), 1.1);
    b->v[b->n++] = (struct sim_beat){.t = t, .qt_stretch = stretch, .kind = kind};
    return ECG_OK;
}

/* Kind of the ectopic beat that falls due now; SIM_BEAT_NORMAL where the plan has none. */
static enum sim_beat_kind ectopic_kind(const struct sim_plan *plan, struct rng *r) {
    const bool is_pvc = plan->has[SIM_PVC] && (!plan->has[SIM_PAC] || sim_chance(r, 0.5));
    return is_pvc ? SIM_BEAT_PVC : plan->has[SIM_PAC] ? SIM_BEAT_PAC : SIM_BEAT_NORMAL;
}

enum ecg_status sim_rhythm_make(struct sim_beats *b, const struct sim_plan *plan,
                                const struct sim_shape *s, double seconds, struct rng *r) {
    struct clock c = {.plan = plan, .r = r, .ratio = plan->conduction ? plan->conduction : 3};
    const double mean_rr = 60 / plan->rate;
    const bool has_p = !isnan(s->pr), has_ectopy = plan->has[SIM_PVC] || plan->has[SIM_PAC];
    const enum sim_beat_kind usual = has_p ? SIM_BEAT_NORMAL : SIM_BEAT_NO_P;
    double due = has_ectopy ? sim_between(r, 0.2, 0.6) * fmin(seconds, 10) : INFINITY;
    double t = -BEFORE - mean_rr * rng_uniform(r), rr = mean_rr;
    while (t < seconds + AFTER) {
        TRY(push(b, t, usual, rr, mean_rr));
        rr = next_rr(&c, t);
        if (t < due) {
            t += rr;
            continue;
        }
        const enum sim_beat_kind kind = ectopic_kind(plan, r);
        const bool is_pvc = kind == SIM_BEAT_PVC;
        const double earliest =
            is_pvc ? s->qt * 0.92 : fmax(s->qt, 0.26) + (s->pr > 0 ? 0.5 * s->pr : 0);
        const double early =
            fmax(sim_between(r, 0.5, is_pvc ? 0.72 : 0.8) * rr, fmin(earliest, 0.84 * rr));
        TRY(push(b, t + early, kind, early, mean_rr));
        if (is_pvc && has_p) {
            t += rr + next_rr(&c, t + rr);
        } else {
            t += early + next_rr(&c, t + early);
            t += sim_between(r, 0, 0.12) * mean_rr;
        }
        due = t + plan->ectopic_every * sim_between(r, 0.4, 1.6);
    }
    return ECG_OK;
}

double sim_rhythm_rate(const struct sim_beats *b, double seconds) {
    double first = NAN, last = NAN;
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++) {
        if (b->v[i].t < 0 || b->v[i].t >= seconds) continue;
        if (n++ == 0) first = b->v[i].t;
        last = b->v[i].t;
    }
    return n >= 2 ? 60 * (double)(n - 1) / (last - first) : NAN;
}

size_t sim_rhythm_count(const struct sim_beats *b, enum sim_beat_kind kind, double seconds) {
    size_t n = 0;
    for (size_t i = 1; i < b->n; i++)
        n += b->v[i].kind == kind && b->v[i - 1].t > 0.1 && b->v[i].t < seconds - 0.5;
    return n;
}
