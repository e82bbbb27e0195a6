/* SPDX-License-Identifier: MIT
 * One simulated record from end to end: patient, plan, shape, beats, signal, noise, twelve leads, truth. */
#include "data/simulator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/simulator/sim.h"

static char *label_names[SIM_ALL_LABELS] = {
    [SIM_NORMAL] = "normal_ecg",
    [SIM_SINUS] = "sinus_rhythm",
    [SIM_BRADYCARDIA] = "sinus_bradycardia",
    [SIM_TACHYCARDIA] = "sinus_tachycardia",
    [SIM_FIBRILLATION] = "atrial_fibrillation",
    [SIM_FLUTTER] = "atrial_flutter",
    [SIM_AV_BLOCK] = "first_degree_av_block",
    [SIM_PVC] = "pvc",
    [SIM_PAC] = "pac",
    [SIM_LBBB] = "lbbb",
    [SIM_RBBB] = "rbbb",
    [SIM_LVH] = "lvh",
    [SIM_LOW_VOLTAGE] = "low_voltage",
    [SIM_LEFT_AXIS] = "left_axis_deviation",
    [SIM_RIGHT_AXIS] = "right_axis_deviation",
    [SIM_INFERIOR_ST] = "inferior_st_elevation",
    [SIM_ANTERIOR_ST] = "anterior_st_elevation",
    [SIM_LONG_QT] = "long_qt",
    [SIM_DEATH] = "death",
    [SIM_LOW_LVEF] = "low_lvef",
};
static char *target_names[SIM_ALL_TARGETS] = {
    [SIM_AGE] = "age",
    [SIM_SEX] = "sex",
    [SIM_HEART_RATE] = "heart_rate",
    [SIM_PR] = "pr_ms",
    [SIM_QRS] = "qrs_ms",
    [SIM_QT] = "qt_ms",
    [SIM_AXIS] = "axis_deg",
    [SIM_FOLLOW_UP] = "follow_up_days",
    [SIM_LOG_HAZARD] = "log_hazard",
    [SIM_LVEF] = "lvef",
    [SIM_LVEF_MEAN] = "lvef_mean",
    [SIM_LVEF_SD] = "lvef_sd",
};
_Static_assert((int)SIM_ALL_LABELS <= (int)SIMULATOR_MAX_LABELS, "room for all labels");
_Static_assert((int)SIM_ALL_TARGETS <= (int)SIMULATOR_MAX_TARGETS, "room for all targets");

const struct names *simulator_labels(const struct simulator_options *o) {
    static const struct names shown = {SIM_LABELS, label_names},
                              all = {SIM_ALL_LABELS, label_names};
    return o->outcomes ? &all : &shown;
}

const struct names *simulator_targets(const struct simulator_options *o) {
    static const struct names shown = {SIM_TARGETS, target_names},
                              all = {SIM_ALL_TARGETS, target_names};
    return o->outcomes ? &all : &shown;
}

enum ecg_status simulator_length(const struct simulator_options *o, int *length) {
    if (!(o->sampling_rate >= 1 && o->sampling_rate <= 1e5))
        return ecg_fail(ECG_ERR_USAGE, "a sampling rate of %g Hz: give one from 1 to 100000 Hz",
                        o->sampling_rate);
    if (!(o->seconds > 0 && o->seconds <= 86400))
        return ecg_fail(ECG_ERR_USAGE, "records of %g s: give a length above 0 and up to 86400 s",
                        o->seconds);
    if (!(o->noise >= 0 && o->noise <= 100))
        return ecg_fail(ECG_ERR_USAGE, "a noise of %g: give 0 (none) to 100 (1 = as in a clinic)",
                        o->noise);
    const double samples = round(o->seconds * o->sampling_rate);
    if (!(samples >= 1 && samples <= SIMULATOR_MAX_LENGTH))
        return ecg_fail(ECG_ERR_USAGE, "%g s at %g Hz are %.0f samples: a record holds 1 to %d",
                        o->seconds, o->sampling_rate, samples, SIMULATOR_MAX_LENGTH);
    *length = (int)samples;
    return ECG_OK;
}

/* III and the augmented leads by their definitions; rows of mv in leads_standard12 order. */
static void derive_limb_leads(double *mv, int length) {
    const double *one = mv, *two = mv + (size_t)length;
    for (int i = 0; i < length; i++) {
        mv[2 * (size_t)length + i] = two[i] - one[i];
        mv[3 * (size_t)length + i] = -0.5 * (one[i] + two[i]);
        mv[4 * (size_t)length + i] = one[i] - 0.5 * two[i];
        mv[5 * (size_t)length + i] = two[i] - 0.5 * one[i];
    }
}

/* Labels that the drawn shape and beats decide. */
static void settle_labels(struct sim_plan *plan, const struct sim_shape *shape,
                          const struct sim_beats *beats, double seconds) {
    bool *has = plan->has;
    has[SIM_PVC] = sim_rhythm_count(beats, SIM_BEAT_PVC, seconds) > 0;
    has[SIM_PAC] = sim_rhythm_count(beats, SIM_BEAT_PAC, seconds) > 0;
    has[SIM_LEFT_AXIS] = shape->axis < -30 && shape->axis > -90;
    has[SIM_RIGHT_AXIS] = shape->axis > 90;
    int n_findings = 0;
    for (int i = SIM_SINUS + 1; i < SIM_LABELS; i++) n_findings += has[i];
    has[SIM_NORMAL] = has[SIM_SINUS] && n_findings == 0 && plan->repolarisation == SIM_T_UPRIGHT;
}

static void fill_truth(struct simulated *truth, const struct sim_patient *p,
                       const struct sim_plan *plan, const struct sim_shape *shape,
                       double heart_rate) {
    for (int i = 0; i < SIM_LABELS; i++) truth->labels[i] = plan->has[i];
    float *t = truth->targets;
    t[SIM_AGE] = (float)p->age;
    t[SIM_SEX] = p->is_female;
    t[SIM_HEART_RATE] = (float)heart_rate;
    t[SIM_PR] = (float)(1e3 * shape->pr);
    t[SIM_QRS] = (float)(1e3 * shape->qrs_s);
    t[SIM_QT] = (float)(1e3 * shape->qt);
    t[SIM_AXIS] = (float)shape->axis;
}

static void fill_outcome(struct simulated *truth, const struct sim_outcome *out) {
    float *t = truth->targets;
    truth->labels[SIM_DEATH] = out->died;
    truth->labels[SIM_LOW_LVEF] = out->lvef < 50;
    t[SIM_FOLLOW_UP] = (float)out->days;
    t[SIM_LOG_HAZARD] = (float)out->log_hazard;
    t[SIM_LVEF] = (float)out->lvef;
    t[SIM_LVEF_MEAN] = (float)out->lvef_mean;
    t[SIM_LVEF_SD] = (float)out->lvef_sd;
}

enum ecg_status simulator_record(const struct simulator_options *o, uint64_t number, double *mv,
                                 struct simulated *truth) {
    int length;
    TRY(simulator_length(o, &length));
    *truth = (struct simulated){.patient = sim_patient_of(number)};
    truth->fold = sim_patient_fold(truth->patient);

    struct sim_patient patient;
    struct sim_plan plan;
    struct sim_shape shape;
    struct sim_beats beats = {0};
    struct rng r;
    sim_patient_draw(&patient, o->seed, truth->patient);
    sim_rng(&r, o->seed, SIM_USE_RECORD, number);
    sim_plan_draw(&plan, &patient, &r);
    sim_shape_make(&shape, &patient, &plan, &r);
    enum ecg_status status;
    TRY_OUT(sim_rhythm_make(&beats, &plan, &shape, o->seconds, &r));

    struct sim_signal s = {.length = length, .rate = o->sampling_rate};
    for (int i = 0; i < SIM_LEADS; i++)
        s.lead[i] = mv + (size_t)(i < SIM_V1 ? i : i + 4) * (size_t)length;
    memset(mv, 0, 12 * (size_t)length * sizeof *mv);
    sim_render_beats(&s, &beats, &shape, &plan, &patient);
    sim_render_atria(&s, &shape, &plan, &patient, &r);
    sim_rng(&r, o->seed, SIM_USE_NOISE, number);
    sim_noise_add(&s, &plan, &patient, o->noise, &r);
    derive_limb_leads(mv, length);

    settle_labels(&plan, &shape, &beats, o->seconds);
    const double heart_rate = sim_rhythm_rate(&beats, o->seconds);
    fill_truth(truth, &patient, &plan, &shape, heart_rate);
    if (o->outcomes) {
        struct sim_outcome outcome;
        sim_rng(&r, o->seed, SIM_USE_OUTCOME, number);
        sim_outcome_draw(&outcome, &plan, heart_rate, &r);
        fill_outcome(truth, &outcome);
    }
out:
    free(beats.v);
    return status;
}
