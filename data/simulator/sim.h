/* SPDX-License-Identifier: MIT
 * The simulator's private parts and their order:
 *
 *     patient (age, sex, anatomy)  ->  plan (rhythm, conditions, intervals)  ->  shape (Gaussian waves of one beat)
 *                                                                           \->  beats (when, of which kind)
 *     shape x beats -> heart vector -> 8 independent leads (render), + noise, -> 12 leads
 *
 * Everything before `render` is laid out in seconds and millivolts and never sees the sampling rate.
 * The heart vector is Frank's: X to the left, Y to the feet, Z to the back. */
#ifndef DATA_SIMULATOR_SIM_H
#define DATA_SIMULATOR_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/rng.h"
#include "core/status.h"
#include "data/simulator.h"

#define SIM_PI 3.14159265358979323846

/* The leads that a dipole and the chest make independent: rows of a lead field. */
enum { SIM_I, SIM_II, SIM_V1, SIM_V2, SIM_V3, SIM_V4, SIM_V5, SIM_V6, SIM_LEADS };

enum sim_label {
    SIM_NORMAL,
    SIM_SINUS,
    SIM_BRADYCARDIA,
    SIM_TACHYCARDIA,
    SIM_FIBRILLATION,
    SIM_FLUTTER,
    SIM_AV_BLOCK,
    SIM_PVC,
    SIM_PAC,
    SIM_LBBB,
    SIM_RBBB,
    SIM_LVH,
    SIM_LOW_VOLTAGE,
    SIM_LEFT_AXIS,
    SIM_RIGHT_AXIS,
    SIM_INFERIOR_ST,
    SIM_ANTERIOR_ST,
    SIM_LONG_QT,
    SIM_LABELS,
    /* with outcomes */
    SIM_DEATH = SIM_LABELS,
    SIM_LOW_LVEF,
    SIM_ALL_LABELS
};

enum sim_target {
    SIM_AGE,
    SIM_SEX,
    SIM_HEART_RATE,
    SIM_PR,
    SIM_QRS,
    SIM_QT,
    SIM_AXIS,
    SIM_TARGETS,
    /* with outcomes */
    SIM_FOLLOW_UP = SIM_TARGETS,
    SIM_LOG_HAZARD,
    SIM_LVEF,
    SIM_LVEF_MEAN,
    SIM_LVEF_SD,
    SIM_ALL_TARGETS
};

/* ------------------------------------------------------------------ random numbers */

/* What a sequence is for; each has its own place in the counter, so that more noise never moves a beat. */
enum sim_use { SIM_USE_RECORD, SIM_USE_PATIENT, SIM_USE_NOISE, SIM_USE_OUTCOME };

void sim_rng(struct rng *r, uint64_t seed, enum sim_use use, uint64_t number);
bool sim_chance(struct rng *r, double probability);
double sim_between(struct rng *r, double low, double high);
double sim_normal(struct rng *r, double mean, double sd, double low, double high); /* clipped */
double sim_spread(struct rng *r, double median, double log_sd);                    /* log-normal */

/* ------------------------------------------------------------------ patient */

struct sim_patient {
    double age; /* years */
    bool is_female;
    double mains_hz;
    double field[SIM_LEADS][3];  /* lead = field . heart vector */
    double voltage;              /* mV, largest heart vector of QRS */
    double axis;                 /* degrees */
    double tilt;                 /* radians, about the body's long axis */
    double rest_rate;            /* beats a minute */
    double pr, qrs, qtc;         /* s; QTc after Bazett */
    double variability;          /* scale of RR changes, 1 at about 40 years */
    double p_voltage, t_voltage; /* mV */
    bool has_lbbb, has_rbbb, has_lvh, has_low_voltage;
};
/* 13 records in a row belong to 10 patients. */
uint64_t sim_patient_of(uint64_t record);
int sim_patient_fold(uint64_t patient); /* 1..10 */
void sim_patient_draw(struct sim_patient *p, uint64_t seed, uint64_t patient);

/* ------------------------------------------------------------------ plan */

enum sim_repolarisation {
    SIM_T_UPRIGHT,
    SIM_T_FLAT,
    SIM_T_INVERTED,
    SIM_T_BIPHASIC,
    SIM_ST_DEPRESSED
};

struct sim_plan {
    bool has[SIM_LABELS];
    double rate;               /* beats a minute, on average */
    double pr, qrs, qtc, axis; /* s, s, s, degrees */
    enum sim_repolarisation repolarisation;
    double breath_hz, breath_phase;  /* respiration */
    double breath_gain, breath_turn; /* of the heart vector: fraction, radians */
    double rr_breath, rr_slow, rr_random; /* fractions of RR: respiratory, 0.1 Hz and beat-to-beat */
    double slow_hz, slow_phase;
    double atrial_mv, atrial_hz; /* fibrillation or flutter waves in V1 */
    int conduction;              /* flutter: n to 1; 0 = variable */
    double ectopic_every;        /* s between ectopic beats; 0 = every other beat */
    double noise;                /* 1 = usual */
};
void sim_plan_draw(struct sim_plan *plan, const struct sim_patient *p, struct rng *r);

/* ------------------------------------------------------------------ shape of a beat */

/* A Gaussian with its own width on each side and, for ST segments, a flat top. */
struct sim_wave {
    double top, hold;   /* s: where the top begins, how long it is */
    double left, right; /* s: standard deviations */
    double v[3];        /* mV: heart vector at the top */
};
enum { SIM_WAVES_MAX = 8 };
struct sim_complex {
    int n;
    struct sim_wave w[SIM_WAVES_MAX];
};

/* Times of P and QRS count from the QRS onset, those of ST and T from the J point. */
struct sim_shape {
    struct sim_complex p, qrs, t;
    struct sim_complex early_p; /* of a premature atrial beat */
    struct sim_complex pvc, pvc_t;
    double pr, qrs_s, qt; /* s; pr NaN without P waves */
    double pvc_s;         /* s, duration of the wide complex */
    double axis;          /* degrees, of the net QRS area in I and aVF */
    double smallness;     /* 1, less with low voltage: scale of all other waves */
    double atrial[2][3];  /* mV: directions of fibrillation or flutter waves */
};
void sim_shape_make(struct sim_shape *s, const struct sim_patient *p, const struct sim_plan *plan,
                    struct rng *r);

/* ------------------------------------------------------------------ beats */

enum sim_beat_kind { SIM_BEAT_NORMAL, SIM_BEAT_NO_P, SIM_BEAT_PAC, SIM_BEAT_PVC };
struct sim_beat {
    double t;          /* s, QRS onset */
    double qt_stretch; /* of the time from J to the end of T */
    enum sim_beat_kind kind;
};
struct sim_beats {
    struct sim_beat *v;
    size_t n, cap;
};
/* From before 0 to past `seconds`. */
enum ecg_status sim_rhythm_make(struct sim_beats *b, const struct sim_plan *plan,
                                const struct sim_shape *s, double seconds, struct rng *r);
double sim_rhythm_rate(const struct sim_beats *b,
                       double seconds); /* beats a minute within [0, seconds) */
/* Ectopic beats of a kind that lie whole within the record, with a beat before them. */
size_t sim_rhythm_count(const struct sim_beats *b, enum sim_beat_kind kind, double seconds);

/* ------------------------------------------------------------------ signal */

struct sim_signal {
    double *lead[SIM_LEADS]; /* each (length), mV */
    int length;
    double rate; /* Hz */
};
/* Adds a wave whose top begins at `at` seconds, `amplitude` (SIM_LEADS) mV in each lead. */
void sim_render_wave(const struct sim_signal *s, const struct sim_wave *w, double at,
                     double stretch, const double *amplitude);
void sim_render_beats(const struct sim_signal *s, const struct sim_beats *b,
                      const struct sim_shape *shape, const struct sim_plan *plan,
                      const struct sim_patient *p);
void sim_render_atria(const struct sim_signal *s, const struct sim_shape *shape,
                      const struct sim_plan *plan, const struct sim_patient *p, struct rng *r);
/* Wander, mains, muscle and electrode noise, `amount` times the plan's. */
void sim_noise_add(const struct sim_signal *s, const struct sim_plan *plan,
                   const struct sim_patient *p, double amount, struct rng *r);

/* ------------------------------------------------------------------ outcome */

struct sim_outcome {
    double log_hazard; /* of deaths a day */
    bool died;         /* else censored */
    double days;       /* until then, whole, 1 or more */
    double lvef, lvef_mean, lvef_sd;
};
/* heart_rate: beats a minute of the record, NaN: the plan's. */
void sim_outcome_draw(struct sim_outcome *out, const struct sim_plan *plan, double heart_rate,
                      struct rng *r);

/* x += a g over n samples. */
void sim_add(double *restrict x, const double *restrict g, double a, int n);
/* The lead field times a vector. */
void sim_project(const double field[SIM_LEADS][3], const double v[3], double lead[SIM_LEADS]);

#endif
