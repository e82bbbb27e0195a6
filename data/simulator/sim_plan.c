/* SPDX-License-Identifier: MIT
 * What a record shows: its rhythm, which conditions go together, its rate and intervals. Between a condition's limit and
 * the values drawn there is always a gap, on both sides, so that a label never hangs on a millisecond. Findings that no
 * label names (flat, inverted T waves, ST depression, marked sinus arrhythmia) are drawn too: real ECGs have them. */
#include "data/simulator/sim.h"

#include <math.h>

static void draw_rhythm(struct sim_plan *plan, const struct sim_patient *p, struct rng *r) {
    const double fibrillates = 0.12 * (0.5 + (p->age - 20) / 76);
    const double u = rng_uniform(r);
    if (u < fibrillates) {
        plan->has[SIM_FIBRILLATION] = true;
        plan->rate = fmin(fmax(sim_spread(r, 90, 0.27), 50), 170);
    } else if (u < fibrillates + 0.05) {
        static const int ratios[8] = {2, 2, 3, 3, 4, 4, 4, 0};
        plan->has[SIM_FLUTTER] = true;
        plan->conduction = ratios[rng_below(r, 8)];
        plan->atrial_hz = sim_between(r, 4.1, 5.6);
        plan->rate = 60 * plan->atrial_hz / (plan->conduction ? plan->conduction : 3);
    } else if (u < fibrillates + 0.14) {
        plan->has[SIM_BRADYCARDIA] = true;
        plan->rate = sim_between(r, 38, 53);
    } else if (u < fibrillates + 0.24) {
        plan->has[SIM_TACHYCARDIA] = true;
        plan->rate = sim_normal(r, 118, 14, 104, 150);
    } else {
        plan->has[SIM_SINUS] = true;
        plan->rate = sim_normal(r, p->rest_rate, 5, 58, 97);
    }
}

static void draw_conditions(struct sim_plan *plan, const struct sim_patient *p, struct rng *r) {
    bool *has = plan->has;
    const bool is_sinus = has[SIM_SINUS] || has[SIM_BRADYCARDIA] || has[SIM_TACHYCARDIA];
    has[SIM_LBBB] = p->has_lbbb;
    has[SIM_RBBB] = p->has_rbbb;
    has[SIM_LVH] = p->has_lvh;
    has[SIM_LOW_VOLTAGE] = p->has_low_voltage;
    has[SIM_PVC] = !has[SIM_FLUTTER] && sim_chance(r, has[SIM_TACHYCARDIA] ? 0.04 : 0.11);
    has[SIM_PAC] = is_sinus && !has[SIM_TACHYCARDIA] && sim_chance(r, 0.09);
    has[SIM_AV_BLOCK] = is_sinus && plan->rate <= 95 && sim_chance(r, 0.13);
    has[SIM_LONG_QT] = is_sinus && plan->rate <= 90 && sim_chance(r, 0.12);
    /* Bundle branch block, hypertrophy and low voltage hide or mimic the ST changes of an infarction. */
    if (!has[SIM_LBBB] && !has[SIM_LVH] && !has[SIM_LOW_VOLTAGE]) {
        const double u = rng_uniform(r);
        has[SIM_INFERIOR_ST] = u < 0.085;
        has[SIM_ANTERIOR_ST] = !has[SIM_INFERIOR_ST] && !has[SIM_RBBB] && u < 0.18;
    }
}

static void draw_intervals(struct sim_plan *plan, const struct sim_patient *p, struct rng *r) {
    const bool *has = plan->has;
    /* A fast rate shortens conduction a little. */
    plan->pr = sim_normal(r, p->pr - 0.0003 * (plan->rate - 70), 0.006, 0.118, 0.192);
    if (has[SIM_AV_BLOCK])
        plan->pr = sim_between(r, 0.212, fmin(0.340, 0.212 + 0.4 * (60 / plan->rate - 0.5)));
    plan->qrs = p->qrs;
    if (has[SIM_LBBB]) plan->qrs = sim_normal(r, 0.150, 0.012, 0.130, 0.180);
    if (has[SIM_RBBB]) plan->qrs = sim_normal(r, 0.140, 0.010, 0.128, 0.170);
    if (has[SIM_LVH]) plan->qrs = fmin(plan->qrs + 0.006, 0.112);
    /* A wide QRS delays the end of T as well. */
    plan->qtc =
        fmin(sim_normal(r, p->qtc, 0.006, 0.355, 0.455) + fmax(0, 0.6 * (plan->qrs - 0.1)), 0.465);
    if (has[SIM_LONG_QT]) plan->qtc = sim_between(r, 0.492, 0.580);
    /* A left ventricle that is activated late or has grown never points to the right. */
    plan->axis = has[SIM_LBBB] || has[SIM_LVH] ? fmin(fmax(p->axis - 15, -62), 68) : p->axis;
}

static void draw_variability(struct sim_plan *plan, const struct sim_patient *p, struct rng *r) {
    plan->breath_hz = sim_normal(r, 0.26, 0.05, 0.15, 0.45);
    plan->breath_phase = sim_between(r, 0, 2 * SIM_PI);
    plan->breath_gain = sim_between(r, 0.01, 0.08);
    plan->breath_turn = sim_between(r, 0.01, 0.09);
    plan->slow_hz = sim_between(r, 0.07, 0.13);
    plan->slow_phase = sim_between(r, 0, 2 * SIM_PI);
    /* A fast sinus node varies less. */
    const double level = p->variability * fmin(60 / plan->rate, 1.2);
    plan->rr_breath = fmin(0.035 * level, 0.10);
    plan->rr_slow = fmin(0.020 * level, 0.05);
    plan->rr_random = fmin(0.008 * level + 0.002, 0.02);
    if (plan->has[SIM_SINUS] && sim_chance(r, p->age < 45 ? 0.15 : 0.04))
        plan->rr_breath = sim_between(r, 0.10, 0.17);
    if (plan->has[SIM_FIBRILLATION]) plan->rr_random = sim_between(r, 0.17, 0.32);
    plan->ectopic_every = sim_chance(r, 0.12) ? 0 : sim_between(r, 2.5, 9);
}

static enum sim_repolarisation draw_repolarisation(const struct sim_plan *plan, struct rng *r) {
    const bool *has = plan->has;
    if (has[SIM_LBBB] || has[SIM_INFERIOR_ST] || has[SIM_ANTERIOR_ST]) return SIM_T_UPRIGHT;
    const double u = rng_uniform(r);
    if (u < 0.08) return SIM_T_FLAT;
    if (u < 0.14) return SIM_T_INVERTED;
    if (u < 0.18) return SIM_T_BIPHASIC;
    if (u < 0.23) return SIM_ST_DEPRESSED;
    return SIM_T_UPRIGHT;
}

static void draw_surroundings(struct sim_plan *plan, struct rng *r) {
    /* Fibrillation waves: from none to coarse. */
    if (plan->has[SIM_FIBRILLATION]) {
        plan->atrial_hz = sim_normal(r, 6.2, 1.1, 4, 9);
        plan->atrial_mv = sim_chance(r, 0.12) ? 0.005 : fmin(sim_spread(r, 0.065, 0.5), 0.22);
    }
    if (plan->has[SIM_FLUTTER]) plan->atrial_mv = sim_between(r, 0.09, 0.26);
    const double u = rng_uniform(r);
    plan->noise = u < 0.35   ? sim_between(r, 0.05, 0.5)
                  : u < 0.92 ? sim_spread(r, 0.9, 0.4)
                             : sim_between(r, 2, 4.5);
}

void sim_plan_draw(struct sim_plan *plan, const struct sim_patient *p, struct rng *r) {
    *plan = (struct sim_plan){0};
    draw_rhythm(plan, p, r);
    draw_conditions(plan, p, r);
    draw_intervals(plan, p, r);
    draw_variability(plan, p, r);
    plan->repolarisation = draw_repolarisation(plan, r);
    draw_surroundings(plan, r);
}
