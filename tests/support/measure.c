/* SPDX-License-Identifier: MIT
 * Beats are where the twelve-lead signal moves fastest. Those of the commonest shape are averaged, and everything else is
 * read from that average: QRS lasts while the leads move faster than a fraction of their fastest; P begins and T ends where
 * the tangent at the steepest point meets the baseline. */
#include "tests/support/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEADS = 12, MAX_BEATS = 400 };
enum { I, II, III, AVR, AVL, AVF, V1, V2, V3, V4, V5, V6 };
#define BEFORE 0.45 /* s of the average beat before its anchor */
#define AFTER  0.65
#define MOVING 0.075 /* of the fastest */

/* The eight leads that say all: limb leads III to aVF repeat I and II. */
static const int independent[8] = {I, II, V1, V2, V3, V4, V5, V6};

struct trace {
    const double *mv; /* (LEADS, length) */
    int length;
    double rate;
};

struct beats {
    int n;
    int at[MAX_BEATS]; /* sample of the anchor */
    bool is_usual[MAX_BEATS];
    bool is_early[MAX_BEATS];
};

static int samples(const struct trace *t, double seconds) {
    return (int)lround(seconds * t->rate);
}

static double level(const struct trace *t, int lead, int i) {
    return t->mv[(size_t)lead * (size_t)t->length + (size_t)i];
}

/* How fast the leads move at sample i, mV/s. */
static double speed(const struct trace *t, int i) {
    const int reach = samples(t, 0.004) > 1 ? samples(t, 0.004) : 1;
    if (i < reach || i + reach >= t->length) return 0;
    double sum = 0;
    for (int k = 0; k < 8; k++) {
        const double d = level(t, independent[k], i + reach) - level(t, independent[k], i - reach);
        sum += d * d;
    }
    return sqrt(sum) * t->rate / (2 * reach);
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n) {
    qsort(v, (size_t)n, sizeof *v, compare);
    return n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

/* ------------------------------------------------------------------ beats */

/* energy[i]: mean of speed^2 over 90 ms around i. */
static void movement_energy(const struct trace *t, double *energy) {
    const int half = samples(t, 0.045);
    double *squared = calloc((size_t)t->length, sizeof *squared), sum = 0;
    for (int i = 0; i < t->length; i++) squared[i] = speed(t, i) * speed(t, i);
    for (int i = -half; i < t->length; i++) {
        if (i + half < t->length) sum += squared[i + half];
        if (i - half - 1 >= 0) sum -= squared[i - half - 1];
        if (i >= 0) energy[i] = sum / (2 * half + 1);
    }
    free(squared);
}

static void find_beats(const struct trace *t, struct beats *b) {
    double *energy = calloc((size_t)t->length, sizeof *energy), tops[MAX_BEATS];
    movement_energy(t, energy);
    const int piece = samples(t, 1.6), apart = samples(t, 0.22);
    int n_tops = 0;
    for (int from = 0; from + piece <= t->length && n_tops < MAX_BEATS; from += piece, n_tops++) {
        tops[n_tops] = 0;
        for (int i = from; i < from + piece; i++) tops[n_tops] = fmax(tops[n_tops], energy[i]);
    }
    qsort(tops, (size_t)n_tops, sizeof *tops, compare);
    const double enough = n_tops ? 0.1 * tops[n_tops / 4] : INFINITY;
    b->n = 0;
    for (int i = 0; i < t->length && b->n < MAX_BEATS; i++) {
        if (energy[i] < enough) continue;
        bool is_top = true;
        for (int k = i - apart; k <= i + apart && is_top; k++)
            if (k >= 0 && k < t->length && k != i)
                is_top = energy[k] < energy[i] || (energy[k] == energy[i] && k > i);
        if (is_top) b->at[b->n++] = i;
    }
    free(energy);
}

/* Correlation of the QRS complexes at a and b. */
static double likeness(const struct trace *t, int a, int b) {
    const int half = samples(t, 0.07);
    double ab = 0, aa = 0, bb = 0;
    if (a < half || b < half || a + half >= t->length || b + half >= t->length) return -1;
    for (int k = 0; k < 8; k++) {
        for (int i = -half; i <= half; i++) {
            const double x = level(t, independent[k], a + i) - level(t, independent[k], a - half);
            const double y = level(t, independent[k], b + i) - level(t, independent[k], b - half);
            ab += x * y, aa += x * x, bb += y * y;
        }
    }
    return ab / sqrt(aa * bb + 1e-30);
}

/* The beat most others look like, early ones left aside (every other beat may be an ectopic one). */
static int typical(const struct trace *t, const struct beats *b) {
    double rr[MAX_BEATS], best_sum = -INFINITY;
    int best = 0;
    for (int i = 0; i + 1 < b->n; i++) rr[i] = b->at[i + 1] - b->at[i];
    const double usual = median(rr, b->n - 1);
    for (int i = 1; i < b->n; i++) {
        double sum = 0;
        for (int k = 0; k < b->n; k++) sum += likeness(t, b->at[i], b->at[k]);
        if (b->at[i] - b->at[i - 1] >= 0.97 * usual && sum > best_sum) best_sum = sum, best = i;
    }
    return best;
}

/* Marks and aligns the beats that look like the typical one. False: fewer than three. */
static bool find_usual(const struct trace *t, struct beats *b) {
    const int anchor = b->at[typical(t, b)];
    int n = 0;
    for (int i = 0; i < b->n; i++) {
        const int start = b->at[i], reach = samples(t, 0.016);
        double top = -2;
        for (int shift = -reach; shift <= reach; shift++) {
            const double now = likeness(t, anchor, start + shift);
            if (now > top) top = now, b->at[i] = start + shift;
        }
        b->is_usual[i] = top > 0.93;
        n += b->is_usual[i];
    }
    return n >= 3;
}

/* ------------------------------------------------------------------ one QRS */

/* QRS around `anchor`: grows from its fastest point while nothing within the next 24 ms outside is slow for good. */
static void qrs_span(const struct trace *t, int anchor, int *on, int *off) {
    const int near = samples(t, 0.06), gap = samples(t, 0.024), far = samples(t, 0.16);
    int top = anchor;
    for (int i = anchor - near; i <= anchor + near; i++)
        if (i >= 0 && i < t->length && speed(t, i) > speed(t, top)) top = i;
    const double slow = MOVING * speed(t, top);
    *on = *off = top;
    for (int i = top; i > top - far && i > 0 && *on - i <= gap; i--)
        if (speed(t, i) >= slow) *on = i;
    for (int i = top; i < top + far && i < t->length && i - *off <= gap; i++)
        if (speed(t, i) >= slow) *off = i;
}

/* ------------------------------------------------------------------ rhythm */

static void measure_rhythm(const struct trace *t, struct beats *b, struct measured *m) {
    double rr[MAX_BEATS], sorted[MAX_BEATS], sum = 0, change = 0, calm_change = 0, calm_sum = 0;
    const int n = b->n - 1;
    int n_calm = 0;
    for (int i = 0; i < n; i++) sum += sorted[i] = rr[i] = (b->at[i + 1] - b->at[i]) / t->rate;
    const double usual = median(sorted, n);
    m->heart_rate = 60 * n / sum;
    for (int i = 0; i < n; i++) {
        /* interval i ends with beat i + 1 */
        const bool is_early = b->is_early[i + 1] = rr[i] < 0.86 * usual;
        int on, off;
        qrs_span(t, b->at[i + 1], &on, &off);
        if (is_early && b->is_usual[i + 1]) m->n_early_usual++;
        if (is_early && !b->is_usual[i + 1] && (off - on) / t->rate >= 0.12) m->n_early_wide++;
        if (i == 0) continue;
        const double d = fabs(rr[i] - rr[i - 1]);
        change += d;
        if (!b->is_usual[i - 1] || !b->is_usual[i] || !b->is_usual[i + 1]) continue;
        calm_change += d, calm_sum += rr[i], n_calm++;
    }
    m->rr_spread = n > 1 ? change / (n - 1) / (sum / n) : NAN;
    m->rr_spread_usual = n_calm > 0 ? calm_change / calm_sum : NAN;
}

/* ------------------------------------------------------------------ the average beat */

/* beat: (LEADS, length) of BEFORE + AFTER around the anchors of the usual beats that have it whole; `calm`: only those
 * between two usual ones, none of them early. Returns how many they were. */
static int average_beat(const struct trace *t, const struct beats *b, bool calm, struct trace *beat,
                        double *mv) {
    const int before = samples(t, BEFORE), n = before + samples(t, AFTER);
    int used = 0;
    memset(mv, 0, sizeof *mv * LEADS * (size_t)n);
    for (int i = 1; i < b->n; i++) {
        const int from = b->at[i] - before;
        const bool is_calm = b->is_usual[i - 1] && !b->is_early[i] &&
                             (i + 1 >= b->n || (b->is_usual[i + 1] && !b->is_early[i + 1]));
        if (!b->is_usual[i] || (calm && !is_calm) || from < 0 || from + n > t->length) continue;
        for (int k = 0; k < LEADS; k++)
            for (int j = 0; j < n; j++) mv[k * n + j] += level(t, k, from + j);
        used++;
    }
    for (int j = 0; j < LEADS * n; j++) mv[j] /= used > 0 ? used : 1;
    *beat = (struct trace){.mv = mv, .length = n, .rate = t->rate};
    return used;
}

/* Distance of all leads from their level at `rest`. */
static double height(const struct trace *t, int i, int rest) {
    double sum = 0;
    for (int k = 0; k < 8; k++) {
        const double d = level(t, independent[k], i) - level(t, independent[k], rest);
        sum += d * d;
    }
    return sqrt(sum);
}

/* Where the tangent at the steepest point between a top and `limit` (step away from the top) meets the baseline. */
static double tangent_foot(const struct trace *t, int top, int limit, int rest) {
    const int step = limit > top ? 1 : -1;
    int steepest = top;
    double slope = 0;
    for (int i = top; i != limit; i += step) {
        const double d = height(t, i - 1, rest) - height(t, i + 1, rest);
        if (step * d > slope) slope = step * d, steepest = i;
    }
    return slope > 0 ? steepest + step * height(t, steepest, rest) / (0.5 * slope) : NAN;
}

static int highest(const struct trace *t, int from, int to, int rest) {
    int top = from;
    for (int i = from; i < to; i++)
        if (height(t, i, rest) > height(t, top, rest)) top = i;
    return top;
}

/* The last top that is at least a fraction of the highest and `least` mV. */
static int last_top(const struct trace *t, int from, int to, double fraction, double least,
                    int rest) {
    const int reach = samples(t, 0.024);
    const double enough = fmax(fraction * height(t, highest(t, from, to, rest), rest), least);
    for (int i = to - 1; i > from; i--) {
        const double here = height(t, i, rest);
        bool is_top = here >= enough;
        for (int k = i - reach; k <= i + reach && is_top; k++)
            if (k > 0 && k < t->length) is_top = height(t, k, rest) <= here;
        if (is_top) return i;
    }
    return highest(t, from, to, rest);
}

static void measure_qrs(const struct trace *beat, int on, int off, struct measured *m) {
    double area[LEADS] = {0};
    for (int k = 0; k < LEADS; k++) {
        const double rest = level(beat, k, on);
        double late = 0;
        const int late_from = off - (off - on) / 3;
        m->r_mv[k] = m->s_mv[k] = 0;
        for (int i = on; i <= off; i++) {
            const double x = level(beat, k, i) - rest;
            area[k] += x;
            m->r_mv[k] = fmax(m->r_mv[k], x);
            m->s_mv[k] = fmax(m->s_mv[k], -x);
            if (i >= late_from) late += x;
        }
        m->late_mv[k] = late / (off - late_from + 1);
        const int st = off + samples(beat, 0.06);
        m->st_mv[k] = level(beat, k, st < beat->length ? st : beat->length - 1) - rest;
    }
    m->qrs_ms = 1e3 * (off - on) / beat->rate;
    m->axis_deg = atan2(2 * area[AVF], sqrt(3) * area[I]) * 180 / 3.14159265358979;
    m->sokolow_mv = m->s_mv[V1] + fmax(m->r_mv[V5], m->r_mv[V6]);
    m->limb_mv = 0;
    for (int k = I; k <= AVF; k++) m->limb_mv = fmax(m->limb_mv, m->r_mv[k] + m->s_mv[k]);
}

/* T ends before the next P begins; an ST segment may be higher than T. */
static void measure_t(const struct trace *beat, int on, int off, double rr, struct measured *m) {
    const bool has_p = m->p_likeness > 0.8 && m->pr_ms > 0;
    const double free = has_p ? rr - 1e-3 * m->pr_ms - 0.03 : 0.75 * rr;
    int to = on + samples(beat, fmin(free, 0.75));
    if (to > beat->length - 2) to = beat->length - 2;
    const int from = off + samples(beat, 0.08);
    if (from >= to) return;
    const int top = last_top(beat, from, to, 0.5, 0, on);
    int limit = top + samples(beat, 0.16);
    if (limit > to) limit = to;
    m->t_height_mv = height(beat, top, on);
    if (m->t_height_mv > 0.2)
        m->qt_ms = 1e3 * (tangent_foot(beat, top, limit, on) - on) / beat->rate;
    for (int k = 0; k < LEADS; k++) m->t_mv[k] = level(beat, k, top) - level(beat, k, on);
}

/* Mean correlation of the stretch [from, to) of the average beat with the same stretch of each usual beat. */
static double stretch_likeness(const struct trace *t, const struct beats *b,
                               const struct trace *beat, int from, int to) {
    const int anchor = samples(t, BEFORE);
    double sum = 0;
    int n = 0;
    for (int i = 1; i < b->n; i++) {
        const int shift = b->at[i] - anchor;
        if (!b->is_usual[i] || shift + from < 0 || shift + to >= t->length) continue;
        double xy = 0, xx = 0, yy = 0;
        for (int k = 0; k < 8; k++) {
            double mean_x = 0, mean_y = 0;
            for (int j = from; j < to; j++) {
                mean_x += level(beat, independent[k], j) / (to - from);
                mean_y += level(t, independent[k], shift + j) / (to - from);
            }
            for (int j = from; j < to; j++) {
                const double x = level(beat, independent[k], j) - mean_x;
                const double y = level(t, independent[k], shift + j) - mean_y;
                xy += x * y, xx += x * x, yy += y * y;
            }
        }
        sum += xy / sqrt(xx * yy + 1e-30);
        n++;
    }
    return n ? sum / n : NAN;
}

/* The last wave before QRS: its height, its onset, and whether it is there in every beat. */
static void measure_p(const struct trace *t, const struct beats *b, const struct trace *beat,
                      int on, double rr, struct measured *m) {
    int from = on - samples(beat, fmin(0.40, 0.62 * rr));
    const int to = on - samples(beat, 0.020), rest = on - samples(beat, 0.016);
    if (from < 4) from = 4;
    if (to <= from + 4) return;
    const int top = last_top(beat, from, to, 0.1, 0.035, rest);
    m->p_mv = height(beat, top, rest);
    /* back to where the wave has vanished or an earlier one begins */
    int begin = top;
    double lowest = m->p_mv;
    while (begin > 3 && lowest > 0.05 * m->p_mv &&
           height(beat, begin, rest) < lowest + 0.3 * m->p_mv) {
        begin--;
        lowest = fmin(lowest, height(beat, begin, rest));
    }
    m->pr_ms = 1e3 * (on - tangent_foot(beat, top, begin, rest)) / beat->rate;
    m->p_likeness = stretch_likeness(t, b, beat, begin, to);
}

bool measure_ecg(const double *mv, int length, double rate, struct measured *m) {
    const struct trace t = {.mv = mv, .length = length, .rate = rate};
    struct beats b;
    *m = (struct measured){
        .heart_rate = NAN, .pr_ms = NAN, .qrs_ms = NAN, .qt_ms = NAN, .axis_deg = NAN};
    find_beats(&t, &b);
    m->n_beats = b.n;
    if (b.n < 3 || !find_usual(&t, &b)) return false;
    measure_rhythm(&t, &b, m);

    double *sum = calloc(LEADS * (size_t)(samples(&t, BEFORE) + samples(&t, AFTER)), sizeof *sum);
    struct trace beat;
    const bool is_whole =
        average_beat(&t, &b, true, &beat, sum) > 1 || average_beat(&t, &b, false, &beat, sum) > 0;
    if (is_whole) {
        int on, off;
        const double rr = 60 / m->heart_rate;
        qrs_span(&beat, samples(&t, BEFORE), &on, &off);
        measure_qrs(&beat, on, off, m);
        measure_p(&t, &b, &beat, on, rr, m);
        measure_t(&beat, on, off, rr, m);
    }
    free(sum);
    return is_whole;
}
