/* SPDX-License-Identifier: MIT
 * From waves in seconds to samples. A Gaussian on an even grid needs no exp per sample: the ratio of neighbours is
 * itself a geometric sequence, g[n+1] = g[n] q[n], q[n+1] = q[n] exp(-h^2); each short run starts from fresh exps, so that
 * nothing drifts. A wave is evaluated once and added to the eight leads with its projection. */
#include "data/simulator/sim.h"

#include <math.h>

enum { RUN = 128, LANES = 8 }; /* a fixed inner count is what a compiler turns into SIMD */
#define REACH 4.2              /* deviations: beyond, a 1 mV wave is below 0.2 uV */

void sim_project(const double field[SIM_LEADS][3], const double v[3], double lead[SIM_LEADS]) {
    for (int i = 0; i < SIM_LEADS; i++)
        lead[i] = field[i][0] * v[0] + field[i][1] * v[1] + field[i][2] * v[2];
}

void sim_add(double *restrict x, const double *restrict g, double a, int n) {
    int k = 0;
    for (; k + LANES <= n; k += LANES)
        for (int j = 0; j < LANES; j++) x[k + j] += a * g[k + j];
    for (; k < n; k++) x[k] += a * g[k];
}

static void add_run(const struct sim_signal *s, int from, int n, const double *g,
                    const double *amplitude) {
    for (int i = 0; i < SIM_LEADS; i++) sim_add(s->lead[i] + from, g, amplitude[i], n);
}

/* First sample at or after t, within [0, length]. */
static int sample_at(const struct sim_signal *s, double t) {
    return (int)fmin(fmax(ceil(t * s->rate), 0), s->length);
}

/* The part of a Gaussian that lies in [begin, end). sigma 0 stands for a flat top. */
static void add_part(const struct sim_signal *s, double center, double sigma, double begin,
                     double end, const double *amplitude) {
    double g[RUN];
    const int stop = sample_at(s, end);
    for (int from = sample_at(s, begin); from < stop; from += RUN) {
        const int n = stop - from < RUN ? stop - from : RUN;
        double value = 1, ratio = 1, shrink = 1;
        if (sigma > 0) {
            const double x = (from / s->rate - center) / sigma, h = 1 / (s->rate * sigma);
            value = exp(-0.5 * x * x);
            ratio = exp(-h * (x + 0.5 * h));
            shrink = exp(-h * h);
        }
        for (int k = 0; k < n; k++) {
            g[k] = value;
            value *= ratio;
            ratio *= shrink;
        }
        add_run(s, from, n, g, amplitude);
    }
}

void sim_render_wave(const struct sim_signal *s, const struct sim_wave *w, double at,
                     double stretch, const double *amplitude) {
    const double left = w->left * stretch, right = w->right * stretch, end = at + w->hold * stretch;
    add_part(s, at, left, at - REACH * left, at, amplitude);
    add_part(s, at, 0, at, end, amplitude);
    add_part(s, end, right, end, end + REACH * right, amplitude);
}

/* A complex whose time zero is `at`; the heart vector is turned in the frontal plane and scaled by the breath. */
static void render_complex(const struct sim_signal *s, const struct sim_complex *c, double at,
                           double stretch, const struct sim_plan *plan,
                           const struct sim_patient *p) {
    const double breath = sin(2 * SIM_PI * plan->breath_hz * at + plan->breath_phase);
    const double angle = plan->breath_turn * breath, gain = 1 + plan->breath_gain * breath;
    const double cs = gain * cos(angle), sn = gain * sin(angle);
    for (int i = 0; i < c->n; i++) {
        const double *w = c->w[i].v;
        const double v[3] = {cs * w[0] - sn * w[1], sn * w[0] + cs * w[1], gain * w[2]};
        double amplitude[SIM_LEADS];
        sim_project(p->field, v, amplitude);
        sim_render_wave(s, &c->w[i], at + c->w[i].top * stretch, stretch, amplitude);
    }
}

void sim_render_beats(const struct sim_signal *s, const struct sim_beats *b,
                      const struct sim_shape *shape, const struct sim_plan *plan,
                      const struct sim_patient *p) {
    for (size_t i = 0; i < b->n; i++) {
        const struct sim_beat *beat = &b->v[i];
        const bool is_pvc = beat->kind == SIM_BEAT_PVC;
        const double j = beat->t + (is_pvc ? shape->pvc_s : shape->qrs_s);
        if (beat->kind == SIM_BEAT_NORMAL) render_complex(s, &shape->p, beat->t, 1, plan, p);
        if (beat->kind == SIM_BEAT_PAC) render_complex(s, &shape->early_p, beat->t, 1, plan, p);
        render_complex(s, is_pvc ? &shape->pvc : &shape->qrs, beat->t, 1, plan, p);
        render_complex(s, is_pvc ? &shape->pvc_t : &shape->t, j, beat->qt_stretch, plan, p);
    }
}

/* Fibrillation after Stridh and Soernmo 2001: a few harmonics of a frequency and an amplitude that both wander. Flutter is
 * the same where nothing wanders. */
struct atrial_wave {
    double hz, start;               /* Hz, radians */
    double sway_hz[2], sway_rad[2]; /* of the phase */
    double swell_hz, swell;         /* of the amplitude */
    double sharp;                   /* size of the second harmonic */
};

static struct atrial_wave draw_fibrillation(double hz, struct rng *r) {
    struct atrial_wave w = {.hz = hz, .start = sim_between(r, 0, 2 * SIM_PI)};
    w.sway_hz[0] = sim_between(r, 0.1, 0.4);
    w.sway_hz[1] = sim_between(r, 0.8, 1.8);
    w.sway_rad[0] = sim_between(r, 0.5, 2.5);
    w.sway_rad[1] = sim_between(r, 0.1, 0.5);
    w.swell_hz = sim_between(r, 0.15, 0.9);
    w.swell = sim_between(r, 0.2, 0.6);
    w.sharp = sim_between(r, 0.1, 0.5);
    return w;
}

/* A sine that is turned on from sample to sample. */
struct turning {
    double sn, cs, step_sn, step_cs;
};

static struct turning turning_at(double hz, double phase, double t, double step) {
    const double turns = 2 * SIM_PI * hz;
    return (struct turning){sin(turns * t + phase), cos(turns * t + phase), sin(turns * step),
                            cos(turns * step)};
}

static double turn_on(struct turning *x) {
    const double now = x->sn;
    x->sn = now * x->step_cs + x->cs * x->step_sn;
    x->cs = x->cs * x->step_cs - now * x->step_sn;
    return now;
}

/* g: n samples of the wave from sample `from` on. */
static void atrial_run(const struct atrial_wave *w, double rate, int from, int n, double *g) {
    const double t = from / rate, step = 1 / rate;
    struct turning slow = turning_at(w->sway_hz[0], 0, t, step),
                   quick = turning_at(w->sway_hz[1], 0, t, step);
    struct turning swell = turning_at(w->swell_hz, w->start, t, step);
    for (int k = 0; k < n; k++) {
        const double steady = 2 * SIM_PI * w->hz * ((from + k) / rate) + w->start;
        const double phase =
            steady + w->sway_rad[0] * turn_on(&slow) + w->sway_rad[1] * turn_on(&quick);
        const double sn = sin(phase), cs = cos(phase);
        /* the second and third harmonic by the double and triple angle */
        const double wave = sn + w->sharp * (2 * sn * cs) + 0.4 * w->sharp * sn * (3 - 4 * sn * sn);
        g[k] = wave * (1 + w->swell * turn_on(&swell));
    }
}

void sim_render_atria(const struct sim_signal *s, const struct sim_shape *shape,
                      const struct sim_plan *plan, const struct sim_patient *p, struct rng *r) {
    if (plan->atrial_mv <= 0) return;
    /* The atria lie behind V1; further leads see less of them than of a dipole at the heart's centre. */
    static const double nearness[6] = {1, 0.6, 0.4, 0.35, 0.35, 0.35};
    /* Two directions with their own phases: the leads are not copies of each other. */
    for (int d = 0; d < 2; d++) {
        struct atrial_wave w = {.hz = plan->atrial_hz, .start = 0.6 * d, .sharp = 0.5};
        if (!plan->has[SIM_FLUTTER]) w = draw_fibrillation(plan->atrial_hz, r);
        double amplitude[SIM_LEADS], g[RUN];
        sim_project(p->field, shape->atrial[d], amplitude);
        for (int i = SIM_V1; i < SIM_LEADS; i++) amplitude[i] *= nearness[i - SIM_V1];
        for (int from = 0; from < s->length; from += RUN) {
            const int n = s->length - from < RUN ? s->length - from : RUN;
            atrial_run(&w, s->rate, from, n, g);
            add_run(s, from, n, g, amplitude);
        }
    }
}
