/* SPDX-License-Identifier: MIT
 * Reads an ECG as a cardiologist with a ruler would: beats, intervals, axis, voltages and ST levels from the twelve leads
 * alone, with no knowledge of how they were made. For signals without noise. */
#ifndef TESTS_SUPPORT_MEASURE_H
#define TESTS_SUPPORT_MEASURE_H

#include <stdbool.h>

struct measured {
    int n_beats;
    double heart_rate; /* 1/min, from the first to the last beat */
    double rr_spread;  /* mean |RR[i+1] - RR[i]| / mean RR */
    double rr_spread_usual; /* the same over intervals between beats of the usual shape that no early beat disturbs */
    int n_early_wide;  /* premature beats of another shape, QRS >= 120 ms */
    int n_early_usual; /* premature beats of the usual shape */
    /* of the averaged beat of the usual shape: */
    double p_mv; /* height of the wave before QRS, over all leads (root of the sum of squares) */
    double p_likeness; /* correlation of each beat's stretch before QRS with the average: 1 = always the same wave */
    double pr_ms, qrs_ms;
    double qt_ms; /* NaN where T is too flat to have an end (t_height_mv of 0.2 and less) */
    double axis_deg;
    double st_mv[12];          /* at J + 60 ms, against the level at the onset of QRS */
    double r_mv[12], s_mv[12]; /* highest above, lowest below that level within QRS (s_mv >= 0) */
    double late_mv[12];        /* mean level of the last third of QRS */
    double t_mv[12];           /* level at the top of T */
    double t_height_mv;        /* over all leads */
    double sokolow_mv;         /* S in V1 + larger R of V5, V6 */
    double limb_mv;            /* largest peak-to-peak of QRS in a limb lead */
};

/* mv: (12, length), leads_standard12 order. False when fewer than three whole beats of one shape are found. */
bool measure_ecg(const double *mv, int length, double rate, struct measured *m);

#endif
