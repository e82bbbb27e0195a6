/* SPDX-License-Identifier: MIT
 * Who is recorded: age, sex and anatomy, which all records of a patient share. Sex and age move the averages as
 * surveys of healthy people report: women have a shorter QRS, a longer QTc, smaller waves and a faster rate; with
 * age the axis turns left, T gets lower, PR longer and the heart rate varies less. Spread within a group is wider than
 * the difference between groups, so age and sex can be learned but not read off. */
#include "data/simulator/sim.h"

#include <math.h>

/* Dower 1980: the eight leads from Frank's X, Y, Z. */
static const double dower[SIM_LEADS][3] = {
    {0.632, -0.235, 0.059}, {0.235, 1.066, -0.132}, {-0.515, 0.157, -0.917}, {0.044, 0.164, -1.387},
    {0.882, 0.098, -1.277}, {1.213, 0.127, -0.601}, {1.125, 0.127, -0.086},  {0.831, 0.076, 0.230},
};

/* Place within 13 records -> place within 10 patients: one has two records, one has three. */
static const uint8_t patient_of_slot[13] = {0, 1, 1, 2, 3, 4, 5, 5, 5, 6, 7, 8, 9};

void sim_rng(struct rng *r, uint64_t seed, enum sim_use use, uint64_t number) {
    /* Numbers stay below 2^62: the two top bits name the use. */
    rng_init(r, seed, RNG_SYNTH, (uint32_t)number, (uint32_t)(number >> 32) | (uint32_t)use << 30);
}

bool sim_chance(struct rng *r, double probability) {
    return rng_uniform(r) < probability;
}

double sim_between(struct rng *r, double low, double high) {
    return low + (high - low) * rng_uniform(r);
}

double sim_normal(struct rng *r, double mean, double sd, double low, double high) {
    return fmin(fmax(mean + sd * rng_normal(r), low), high);
}

double sim_spread(struct rng *r, double median, double log_sd) {
    return median * exp(log_sd * rng_normal(r));
}

uint64_t sim_patient_of(uint64_t record) {
    return record / 13 * 10 + patient_of_slot[record % 13];
}

int sim_patient_fold(uint64_t patient) {
    /* Each ten patients fill the ten folds; the shift keeps those with many records from sharing one. */
    return 1 + (int)((patient + patient / 10 * 3) % 10);
}

static void draw_anatomy(struct sim_patient *p, struct rng *r) {
    for (int i = 0; i < SIM_LEADS; i++) {
        const double gain = 1 + 0.07 * rng_normal(r);
        for (int k = 0; k < 3; k++) p->field[i][k] = gain * dower[i][k] + 0.05 * rng_normal(r);
    }
    p->tilt = sim_normal(r, 0, 0.2, -0.45, 0.45);
    p->voltage = sim_spread(r, p->is_female ? 1.15 : 1.32, 0.2) * (1 - 0.003 * (p->age - 55));
    p->t_voltage = sim_spread(r, p->is_female ? 0.33 : 0.42, 0.28) * exp(-0.009 * (p->age - 50));
    p->p_voltage = sim_spread(r, 0.12, 0.3);
    if (sim_chance(r, 0.05 + 0.001 * (p->age - 50)))
        p->axis = sim_between(r, -75, -34);
    else if (sim_chance(r, 0.05))
        p->axis = sim_between(r, 97, 150);
    else
        p->axis = sim_normal(r, 62 - 0.65 * (p->age - 30), 22, -24, 84);
}

static void draw_conduction(struct sim_patient *p, struct rng *r) {
    p->rest_rate = sim_normal(r, p->is_female ? 73 : 69, 9, 58, 97);
    p->pr = sim_normal(r, 0.150 + 0.0005 * (p->age - 50), 0.016, 0.120, 0.192);
    p->qrs = sim_normal(r, p->is_female ? 0.085 : 0.094, 0.007, 0.070, 0.110);
    p->qtc = sim_normal(r, (p->is_female ? 0.420 : 0.403) + 0.00015 * (p->age - 50), 0.015, 0.360,
                        0.450);
    p->variability = sim_spread(r, exp(-0.018 * (p->age - 40)), 0.4);
}

/* What stays with a patient; such conditions grow commoner with age. */
static void draw_disease(struct sim_patient *p, struct rng *r) {
    const double ageing = 0.5 + (p->age - 20) / 76; /* about 1 on average */
    const double u = rng_uniform(r);
    p->has_lbbb = u < 0.065 * ageing;
    p->has_rbbb = !p->has_lbbb && u < 0.14 * ageing;
    const bool is_narrow = !p->has_lbbb && !p->has_rbbb;
    p->has_lvh = is_narrow && sim_chance(r, 0.11 * ageing);
    p->has_low_voltage = !p->has_lvh && !p->has_lbbb && sim_chance(r, 0.065);
}

void sim_patient_draw(struct sim_patient *p, uint64_t seed, uint64_t patient) {
    struct rng r;
    sim_rng(&r, seed, SIM_USE_PATIENT, patient);
    p->age = floor(sim_normal(&r, 58, 18, 18, 95));
    p->is_female = sim_chance(&r, 0.5);
    p->mains_hz = sim_chance(&r, 0.6) ? 50 : 60;
    draw_anatomy(p, &r);
    draw_conduction(p, &r);
    draw_disease(p, &r);
}
