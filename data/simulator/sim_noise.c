/* SPDX-License-Identifier: MIT
 * What a recording adds to the heart. Noise arises at nine electrodes and reaches the leads as their potentials do (I = LA
 * - RA, V1 = its own - the mean of the limbs), so that limb leads obey Einthoven's law with noise as without, and a bad arm
 * electrode shows in every lead. Steady tones (wander, mains) are sums of sine and cosine by lead; muscle noise is
 * filtered chance; electrodes move and slip now and then. */
#include "data/simulator/sim.h"

#include <math.h>
#include <string.h>

enum { RA, LA, LL, CHEST, ELECTRODES = CHEST + 6 };
enum { RUN = 128 };

/* How 1 mV at an electrode shows in the eight leads. */
static void electrode_in_leads(int electrode, double lead[SIM_LEADS]) {
    memset(lead, 0, SIM_LEADS * sizeof lead[0]);
    if (electrode >= CHEST) {
        lead[SIM_V1 + electrode - CHEST] = 1;
        return;
    }
    for (int i = SIM_V1; i < SIM_LEADS; i++) lead[i] = -1.0 / 3;
    lead[SIM_I] = electrode == RA ? -1 : electrode == LA ? 1 : 0;
    lead[SIM_II] = electrode == RA ? -1 : electrode == LL ? 1 : 0;
}

static void add_tone(const struct sim_signal *s, double hz, const double in_sin[SIM_LEADS],
                     const double in_cos[SIM_LEADS]) {
    const double step = 2 * SIM_PI * hz / s->rate, cs = cos(step), sn = sin(step);
    double x[RUN], y[RUN];
    for (int from = 0; from < s->length; from += RUN) {
        const int n = s->length - from < RUN ? s->length - from : RUN;
        double a = cos(step * from), b = sin(step * from);
        for (int k = 0; k < n; k++) {
            x[k] = a;
            y[k] = b;
            const double next = cs * a - sn * b;
            b = sn * a + cs * b;
            a = next;
        }
        for (int i = 0; i < SIM_LEADS; i++) {
            sim_add(s->lead[i] + from, x, in_cos[i], n);
            sim_add(s->lead[i] + from, y, in_sin[i], n);
        }
    }
}

/* A tone of its own size and phase at each electrode. `alike`: 1 = the same phase everywhere, 0 = any. */
static void add_electrode_tone(const struct sim_signal *s, double hz, double mv, double alike,
                               struct rng *r) {
    double in_sin[SIM_LEADS] = {0}, in_cos[SIM_LEADS] = {0};
    const double phase = sim_between(r, 0, 2 * SIM_PI);
    for (int e = 0; e < ELECTRODES; e++) {
        double lead[SIM_LEADS];
        const double size = mv * sim_spread(r, 1, 0.7);
        const double own = phase + (1 - alike) * sim_between(r, -SIM_PI, SIM_PI);
        electrode_in_leads(e, lead);
        for (int i = 0; i < SIM_LEADS; i++) {
            in_sin[i] += size * sin(own) * lead[i];
            in_cos[i] += size * cos(own) * lead[i];
        }
    }
    add_tone(s, hz, in_sin, in_cos);
}

static void add_wander(const struct sim_signal *s, const struct sim_plan *plan, double amount,
                       struct rng *r) {
    const double mv = 0.03 * amount * sim_spread(r, 1, 0.5);
    add_electrode_tone(s, plan->breath_hz, mv, 0.8, r);
    for (int i = 0; i < 3; i++) add_electrode_tone(s, sim_between(r, 0.03, 0.5), mv, 0.3, r);
}

static void add_mains(const struct sim_signal *s, const struct sim_patient *p, double amount,
                      struct rng *r) {
    const double hz = p->mains_hz + sim_normal(r, 0, 0.02, -0.1, 0.1),
                 mv = 0.003 * amount * sim_spread(r, 1, 1.0);
    /* A recorder's own filter has removed what its rate can't carry. */
    for (int harmonic = 1; harmonic <= 3; harmonic += 2)
        if (hz * harmonic < 0.42 * s->rate)
            add_electrode_tone(s, hz * harmonic, mv / (harmonic * harmonic), 0.6, r);
}

/* White noise of one spectral density at any rate, through low-passes whose differences are bands: 15 to 90 Hz (muscle)
 * and 1 to 15 Hz (tremor and the skin's stretching, `tremor` times as dense). Bursts rise and fall like a breath. */
static void add_muscle(const struct sim_signal *s, int electrode, double mv, double tremor,
                       struct rng *r) {
    const double pole[3] = {1 - exp(-2 * SIM_PI * 90 / s->rate),
                            1 - exp(-2 * SIM_PI * 15 / s->rate),
                            1 - exp(-2 * SIM_PI * 1 / s->rate)};
    const double white = mv * sqrt(s->rate / 500) * 3.2 / 65536;
    const double burst_hz = sim_between(r, 0.05, 0.3),
                 burst = sim_chance(r, 0.15) ? sim_between(r, 0.5, 2) : 0;
    const double burst_phase = sim_between(r, 0, 2 * SIM_PI);
    double lead[SIM_LEADS], fast = 0, slow = 0, slowest = 0, x[RUN];
    electrode_in_leads(electrode, lead);
    for (int from = 0; from < s->length; from += RUN) {
        const int n = s->length - from < RUN ? s->length - from : RUN;
        const double swell = fmax(0, sin(2 * SIM_PI * burst_hz * from / s->rate + burst_phase));
        const double size = white * (1 + burst * swell * swell);
        for (int k = 0; k < n; k += 2) {
            const uint32_t word = rng_u32(r); /* two uniform numbers */
            for (int h = 0; h < 2 && k + h < n; h++) {
                const double u = size * ((double)(word >> 16 * h & 0xffff) - 32767.5);
                fast += pole[0] * (u - fast);
                slow += pole[1] * (fast - slow);
                slowest += pole[2] * (slow - slowest);
                x[k + h] = fast - slow + tremor * (slow - slowest);
            }
        }
        for (int i = 0; i < SIM_LEADS; i++)
            if (lead[i] != 0) sim_add(s->lead[i] + from, x, lead[i], n);
    }
}

/* An electrode that is touched (a bump) or loses contact for a moment (a step that the amplifier lets decay). */
static void add_contact(const struct sim_signal *s, double amount, struct rng *r) {
    const double seconds = s->length / s->rate;
    const int n = sim_chance(r, fmin(0.08 * amount, 0.6)) ? 1 + (int)rng_below(r, 3) : 0;
    for (int i = 0; i < n; i++) {
        const bool is_step = sim_chance(r, 0.5);
        const double mv = sim_normal(r, 0, 0.4, -1.2, 1.2), at = sim_between(r, 0, seconds);
        struct sim_wave w = {.left = is_step ? 0.008 : sim_between(r, 0.05, 0.4)};
        w.right = is_step ? sim_between(r, 0.2, 0.9) : w.left;
        double lead[SIM_LEADS];
        electrode_in_leads((int)rng_below(r, ELECTRODES), lead);
        for (int k = 0; k < SIM_LEADS; k++) lead[k] *= mv * fmin(amount, 1.5);
        sim_render_wave(s, &w, at, 1, lead);
    }
}

void sim_noise_add(const struct sim_signal *s, const struct sim_plan *plan,
                   const struct sim_patient *p, double amount, struct rng *r) {
    const double level = amount * plan->noise;
    if (level <= 0) return;
    add_wander(s, plan, level, r);
    add_mains(s, p, level, r);
    add_contact(s, level, r);
    const double muscle = 0.010 * level * sim_spread(r, 1, 0.5), tremor = sim_spread(r, 1.8, 0.6);
    for (int e = 0; e < ELECTRODES; e++) {
        const double mv = muscle * sim_spread(r, 1, 0.4);
        add_muscle(s, e, mv, tremor, r);
    }
}
