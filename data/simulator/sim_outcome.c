/* SPDX-License-Identifier: MIT
 * What happens to the patient, and one measurement beside the ECG. Both hang on what the ECG shows alone, by laws that are
 * written down here, so that the best that any model can reach is known. Survival times come by inversion of the
 * exponential law (Bender 2005); sizes of the effects are round numbers, their directions those of the clinic. */
#include "data/simulator/sim.h"

#include <math.h>

#define DAYS_FOLLOWED_LEAST 180.0
#define DAYS_FOLLOWED_MOST  3650.0

/* Log of deaths a day. */
static double log_hazard(const bool *has, double heart_rate) {
    return -8.3 + 0.035 * (heart_rate - 75) + 1.2 * has[SIM_FIBRILLATION] + 1.5 * has[SIM_LBBB] +
           1.0 * has[SIM_LVH] + 0.8 * has[SIM_LONG_QT];
}

static double lvef_mean(const bool *has, double heart_rate) {
    return 62 - 0.15 * (heart_rate - 75) - 16 * has[SIM_LBBB] - 10 * has[SIM_FIBRILLATION] -
           6 * has[SIM_LVH] - 12 * has[SIM_ANTERIOR_ST];
}

void sim_outcome_draw(struct sim_outcome *out, const struct sim_plan *plan, double heart_rate,
                      struct rng *r) {
    /* Too short a record to count beats in still has a rhythm. */
    const double rate = isnan(heart_rate) ? plan->rate : heart_rate;
    out->log_hazard = log_hazard(plan->has, rate);
    const double death = -log1p(-rng_uniform(r)) / exp(out->log_hazard);
    const double end = sim_between(r, DAYS_FOLLOWED_LEAST, DAYS_FOLLOWED_MOST);
    out->died = death <= end;
    out->days = fmax(1, ceil(fmin(death, end)));
    out->lvef_mean = lvef_mean(plan->has, rate);
    /* Beats of different length pump differently: a few of them say less of the average. */
    out->lvef_sd = plan->has[SIM_FIBRILLATION] ? 8 : 4;
    out->lvef = out->lvef_mean + out->lvef_sd * rng_normal(r);
}
