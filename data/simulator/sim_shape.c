/* SPDX-License-Identifier: MIT
 * One beat as a sum of Gaussian waves, each with its own direction of the heart vector. A QRS is drawn in rough
 * milliseconds for its kind (normal, LBBB, RBBB, ectopic), then brought to measure: turned in the frontal plane to the
 * patient's axis, scaled in voltage (Sokolow-Lyon index, limb lead voltage) and stretched in time, so that its duration is
 * the plan's by the definition that also measures it: the span in which the vector moves faster than a fraction of its
 * fastest. */
#include "data/simulator/sim.h"

#include <math.h>
#include <string.h>

#define MOVING_FRACTION 0.07  /* of the largest speed: QRS lasts while the vector moves faster */
#define GRID            0.001 /* s: step of the numeric measures below */
#define GRID_FROM       (-0.06)
enum { GRID_STEPS = 250 };

/* ------------------------------------------------------------------ waves */

static void add_wave(struct sim_complex *c, double top_ms, double left_ms, double right_ms,
                     double size, double x, double y, double z) {
    c->w[c->n++] = (struct sim_wave){.top = top_ms * 1e-3,
                                     .left = left_ms * 1e-3,
                                     .right = right_ms * 1e-3,
                                     .v = {size * x, size * y, size * z}};
}

/* The wave's height at t and, in *slope, its derivative. */
static double wave_at(const struct sim_wave *w, double t, double *slope) {
    *slope = 0;
    const double over = t - w->top - w->hold;
    if (t >= w->top && over <= 0) return 1;
    const double sigma = over > 0 ? w->right : w->left;
    const double x = (over > 0 ? over : t - w->top) / sigma;
    if (fabs(x) > 6) return 0;
    const double g = exp(-0.5 * x * x);
    *slope = -g * x / sigma;
    return g;
}

/* Vector and speed vector of a complex at t. */
static void complex_at(const struct sim_complex *c, double t, double v[3], double speed[3]) {
    memset(v, 0, 3 * sizeof v[0]);
    memset(speed, 0, 3 * sizeof speed[0]);
    for (int i = 0; i < c->n; i++) {
        double slope;
        const double g = wave_at(&c->w[i], t, &slope);
        for (int k = 0; k < 3; k++) {
            v[k] += g * c->w[i].v[k];
            speed[k] += slope * c->w[i].v[k];
        }
    }
}

static double length3(const double v[3]) {
    return sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
}

/* Turns by an angle (radians) in the plane of axes a and b, from a towards b. */
static void turn(struct sim_complex *c, int a, int b, double angle) {
    const double cs = cos(angle), sn = sin(angle);
    for (int i = 0; i < c->n; i++) {
        double *v = c->w[i].v;
        const double x = v[a], y = v[b];
        v[a] = cs * x - sn * y;
        v[b] = sn * x + cs * y;
    }
}

static void scale_voltage(struct sim_complex *c, double by) {
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < 3; k++) c->w[i].v[k] *= by;
}

static void scale_time(struct sim_complex *c, double shift, double by) {
    for (int i = 0; i < c->n; i++) {
        struct sim_wave *w = &c->w[i];
        w->top = (w->top + shift) * by;
        w->hold *= by;
        w->left *= by;
        w->right *= by;
    }
}

/* Integral of the heart vector: a Gaussian's area is known. */
static void net_area(const struct sim_complex *c, double area[3]) {
    memset(area, 0, 3 * sizeof area[0]);
    for (int i = 0; i < c->n; i++) {
        const struct sim_wave *w = &c->w[i];
        const double span = w->hold + sqrt(SIM_PI / 2) * (w->left + w->right);
        for (int k = 0; k < 3; k++) area[k] += span * w->v[k];
    }
}

/* ------------------------------------------------------------------ QRS by kind, rough milliseconds */

/* What a wave is drawn from, each value evenly between two; `chance` 1 = always there. */
struct wave_range {
    double chance;
    double top[2], left[2], right[2]; /* ms */
    double size[2], x[2], y[2], z[2];
};

static const struct wave_range normal_qrs[] = {
    /* septum: r in V1, q in I and V6 */
    {1, {10, 15}, {5.5, 8.5}, {6, 9}, {0.04, 0.32}, {-0.65, -0.65}, {-0.5, 0.35}, {-0.7, -0.7}},
    /* apex, free wall, base */
    {1, {25, 31}, {8, 10}, {8, 10}, {0.1, 0.75}, {0.5, 0.5}, {0.1, 0.7}, {-0.5, -0.5}},
    {1, {39, 45}, {8, 11}, {7.5, 10.5}, {0.8, 1.4}, {0.85, 0.85}, {0.25, 0.65}, {0.15, 0.75}},
    {1, {56, 64}, {7, 10}, {7, 11}, {0.25, 1.2}, {-0.45, 0.05}, {-0.6, 0}, {0.8, 0.8}},
    /* the right ventricle's outflow comes last: a small r' or a notch */
    {0.3, {68, 78}, {5, 5}, {6, 6}, {0.05, 0.3}, {-0.5, -0.5}, {-0.5, 0.3}, {-0.5, -0.5}},
    /* a Q wave in the inferior leads */
    {0.1, {16, 16}, {6, 6}, {7, 7}, {0.15, 0.5}, {-0.2, 0.3}, {-0.9, -0.9}, {0, 0}},
};

static const struct wave_range lbbb_qrs[] = {
    /* no septal q; two slow humps to the left and back make the notched R */
    {1, {18, 18}, {9, 9}, {11, 11}, {0.05, 0.28}, {0.6, 0.6}, {-0.2, 0.4}, {-0.7, 0.2}},
    {1, {48, 56}, {16, 18}, {17, 19}, {1, 1}, {0.8, 0.8}, {-0.1, 0.45}, {0.6, 0.8}},
    {1, {98, 108}, {18, 21}, {15, 17}, {0.85, 1.15}, {0.8, 0.8}, {-0.2, 0.3}, {0.55, 0.85}},
};

static const struct wave_range rbbb_qrs[] = {
    /* the left ventricle in its usual time */
    {1, {12, 12}, {7, 7}, {7, 7}, {0.14, 0.34}, {-0.6, -0.6}, {-0.4, 0.2}, {-0.75, -0.75}},
    {1, {27, 27}, {9, 9}, {9, 9}, {0.1, 0.5}, {0.5, 0.5}, {0.3, 0.6}, {-0.4, -0.4}},
    {1, {38, 44}, {9, 9}, {10, 10}, {0.8, 1.3}, {0.85, 0.85}, {0.2, 0.6}, {0.35, 0.55}},
};
/* then the right one alone, slow and unopposed, to the right and forward whatever the axis */
static const struct wave_range rbbb_end[] = {
    {1, {78, 90}, {14, 16}, {16, 20}, {0.45, 0.95}, {-0.72, -0.72}, {-0.2, 0.25}, {-0.85, -0.5}},
};

/* Of the right ventricle: to the left and back; the left ventricle's is its mirror image. */
static const struct wave_range ectopic_qrs[] = {
    {1, {32, 32}, {14, 14}, {16, 16}, {0.3, 0.8}, {0.3, 1}, {-0.3, 0.3}, {0.1, 0.9}},
    {1, {62, 72}, {17, 19}, {17, 19}, {1, 1}, {0.75, 0.75}, {-0.1, 0.1}, {0.3, 0.9}},
    {1, {98, 112}, {15, 17}, {16, 18}, {0.2, 0.75}, {0.4, 1}, {-0.4, 0.4}, {0.1, 0.9}},
};

static double draw(const double range[2], struct rng *r) {
    return sim_between(r, range[0], range[1]);
}

/* One draw a statement: C leaves the order of a call's arguments open, and a record must not. */
static void draw_waves(struct sim_complex *c, const struct wave_range *table, size_t n,
                       struct rng *r) {
    for (size_t i = 0; i < n; i++) {
        if (!sim_chance(r, table[i].chance)) continue;
        const double top = draw(table[i].top, r), left = draw(table[i].left, r),
                     right = draw(table[i].right, r);
        const double size = draw(table[i].size, r), x = draw(table[i].x, r),
                     y = draw(table[i].y, r);
        const double z = draw(table[i].z, r);
        add_wave(c, top, left, right, size, x, y, z);
    }
}

#define DRAW_WAVES(c, table, r) draw_waves((c), (table), sizeof(table) / sizeof((table)[0]), (r))

/* ------------------------------------------------------------------ bringing a QRS to measure */

/* First and last time at which the vector moves faster than the fraction of its fastest. */
static void moving_span(const struct sim_complex *c, double *from, double *to) {
    double speed[GRID_STEPS], fastest = 0;
    for (int i = 0; i < GRID_STEPS; i++) {
        double v[3], dv[3];
        complex_at(c, GRID_FROM + i * GRID, v, dv);
        speed[i] = length3(dv);
        fastest = fmax(fastest, speed[i]);
    }
    int first = 0, last = GRID_STEPS - 1;
    while (first < last && speed[first] < MOVING_FRACTION * fastest) first++;
    while (last > first && speed[last] < MOVING_FRACTION * fastest) last--;
    *from = GRID_FROM + first * GRID;
    *to = GRID_FROM + last * GRID;
}

static void set_duration(struct sim_complex *c, double seconds) {
    double from, to;
    moving_span(c, &from, &to);
    scale_time(c, -from, seconds / (to - from));
}

/* Einthoven's triangle: aVF = II - I/2 is 2/sqrt(3) short of the vertical axis. Degrees. */
static double axis_of(const double lead[SIM_LEADS]) {
    return atan2(2 * (lead[SIM_II] - 0.5 * lead[SIM_I]), sqrt(3) * lead[SIM_I]) * 180 / SIM_PI;
}

static void set_axis(struct sim_complex *c, const double field[SIM_LEADS][3], double degrees) {
    /* the leads' triangle isn't regular, so an angle of the vector is not the same angle of the axis */
    for (int i = 0; i < 6; i++) {
        double area[3], lead[SIM_LEADS];
        net_area(c, area);
        sim_project(field, area, lead);
        const double off = remainder(degrees - axis_of(lead), 360);
        turn(c, 0, 1, off * SIM_PI / 180);
    }
}

struct voltages {
    double sokolow; /* S in V1 + the larger R of V5, V6 */
    double limb;    /* largest peak-to-peak of I, II, III */
};

static struct voltages measure_voltages(const struct sim_complex *c,
                                        const double field[SIM_LEADS][3]) {
    double low[SIM_LEADS + 1] = {0}, high[SIM_LEADS + 1] = {0};
    for (int i = 0; i < GRID_STEPS; i++) {
        double v[3], dv[3], lead[SIM_LEADS + 1];
        complex_at(c, GRID_FROM + i * GRID, v, dv);
        sim_project(field, v, lead);
        lead[SIM_LEADS] = lead[SIM_II] - lead[SIM_I];
        for (int k = 0; k <= SIM_LEADS; k++) {
            low[k] = fmin(low[k], lead[k]);
            high[k] = fmax(high[k], lead[k]);
        }
    }
    const double limb = fmax(high[SIM_I] - low[SIM_I], high[SIM_II] - low[SIM_II]);
    return (struct voltages){.sokolow = fmax(high[SIM_V5], high[SIM_V6]) - low[SIM_V1],
                             .limb = fmax(limb, high[SIM_LEADS] - low[SIM_LEADS])};
}

static void set_voltage(struct sim_complex *c, const struct sim_patient *p,
                        const struct sim_plan *plan, struct rng *r) {
    struct voltages now = measure_voltages(c, p->field);
    if (plan->has[SIM_LVH]) {
        const double sokolow = sim_normal(r, 4.3, 0.6, 3.75, 6);
        /* more to the back where else the limb leads would grow beyond belief */
        for (int i = 0; i < 8 && now.limb * sokolow > 3.4 * now.sokolow; i++) {
            for (int k = 0; k < c->n; k++) c->w[k].v[2] *= 1.25;
            now = measure_voltages(c, p->field);
        }
        scale_voltage(c, sokolow / now.sokolow);
    } else if (plan->has[SIM_LOW_VOLTAGE]) {
        scale_voltage(c, fmin(sim_between(r, 0.26, 0.44) / now.limb, 3.0 / now.sokolow));
    } else {
        if (now.limb < 0.62) scale_voltage(c, 0.62 / now.limb);
        now = measure_voltages(c, p->field);
        const double over = fmax(now.sokolow / 3.1, now.limb / 2.8);
        if (over > 1) scale_voltage(c, sim_between(r, 0.85, 1) / over);
    }
}

static double largest(const struct sim_complex *c) {
    double size = 0;
    for (int i = 0; i < GRID_STEPS; i++) {
        double v[3], dv[3];
        complex_at(c, GRID_FROM + i * GRID, v, dv);
        size = fmax(size, length3(v));
    }
    return size;
}

static void make_qrs(struct sim_shape *s, const struct sim_patient *p, const struct sim_plan *plan,
                     struct rng *r) {
    if (plan->has[SIM_LBBB])
        DRAW_WAVES(&s->qrs, lbbb_qrs, r);
    else if (plan->has[SIM_RBBB])
        DRAW_WAVES(&s->qrs, rbbb_qrs, r);
    else
        DRAW_WAVES(&s->qrs, normal_qrs, r);
    /* A thick left ventricle draws the vector to the back. */
    turn(&s->qrs, 0, 2, p->tilt + (plan->has[SIM_LVH] ? 0.35 : 0));
    set_axis(&s->qrs, p->field, plan->axis);
    if (plan->has[SIM_RBBB]) DRAW_WAVES(&s->qrs, rbbb_end, r);
    scale_voltage(&s->qrs, p->voltage / largest(&s->qrs));
    set_voltage(&s->qrs, p, plan, r);
    set_duration(&s->qrs, plan->qrs);
    s->qrs_s = plan->qrs;
    /* What insulates the heart (fluid, fat, air) makes all waves small. */
    s->smallness =
        plan->has[SIM_LOW_VOLTAGE] ? fmin(fmax(largest(&s->qrs) / p->voltage, 0.3), 1) : 1;
}

/* ------------------------------------------------------------------ P */

/* Right atrium, then left: onset where the first Gaussian is two deviations before its top. */
static void make_p(struct sim_complex *c, double onset, double room, double size,
                   const double right[3], struct rng *r) {
    const double span = fmin(sim_normal(r, 0.098, 0.01, 0.075, 0.125), room);
    const double sigma = span * sim_between(r, 0.17, 0.20), gap = span - 4 * sigma;
    const double left_part = sim_between(r, 0.5, 0.9);
    add_wave(c, 1e3 * (onset + 2 * sigma), 1e3 * sigma, 1e3 * sigma, size, right[0], right[1],
             right[2]);
    const double x = sim_between(r, 0.6, 0.95), y = sim_between(r, 0.1, 0.5),
                 z = sim_between(r, 0.2, 0.7);
    add_wave(c, 1e3 * (onset + 2 * sigma + gap), 1e3 * sigma, 1e3 * sigma, size * left_part, x, y,
             z);
}

static void draw_vector(double v[3], const double low[3], const double high[3], struct rng *r) {
    for (int k = 0; k < 3; k++) v[k] = sim_between(r, low[k], high[k]);
}

static void make_atria(struct sim_shape *s, const struct sim_patient *p,
                       const struct sim_plan *plan, struct rng *r) {
    const bool is_sinus = !plan->has[SIM_FIBRILLATION] && !plan->has[SIM_FLUTTER];
    const double room = plan->pr - 0.018,
                 size = p->p_voltage * s->smallness * sim_between(r, 0.85, 1.15);
    double right[3], other[3], a[3], b[3], lead[SIM_LEADS];
    draw_vector(right, (const double[3]){0.1, 0.7, -0.6}, (const double[3]){0.5, 1.0, -0.1}, r);
    s->pr = NAN;
    if (is_sinus) {
        s->pr = plan->pr;
        make_p(&s->p, -plan->pr, room, size, right, r);
        /* another focus: another direction, often from below */
        draw_vector(other, (const double[3]){-0.4, -0.9, -0.6}, (const double[3]){0.8, 0.9, 0.6},
                    r);
        make_p(&s->early_p, -fmax(plan->pr - 0.01, 0.12), fmin(room, 0.1), size, other, r);
        return;
    }
    /* largest in V1; flutter runs up the septum: negative in II, III, aVF */
    const double down =
        plan->has[SIM_FLUTTER] ? sim_between(r, -1.0, -0.6) : sim_between(r, 0.1, 0.7);
    draw_vector(a, (const double[3]){-0.5, down, -1}, (const double[3]){-0.1, down, -0.6}, r);
    draw_vector(b, (const double[3]){-0.3, -0.5, -0.4}, (const double[3]){0.3, 0.5, 0.4}, r);
    sim_project(p->field, a, lead);
    const double to_mv =
        plan->atrial_mv * s->smallness / fmax(fmax(fabs(lead[SIM_V1]), fabs(lead[SIM_II])), 0.3);
    for (int k = 0; k < 3; k++) {
        s->atrial[0][k] = to_mv * a[k];
        s->atrial[1][k] = to_mv * b[k] * (plan->has[SIM_FLUTTER] ? 0.3 : 1);
    }
}

/* ------------------------------------------------------------------ ST and T */

/* A main wave whose tangent meets the baseline `end` after J, steeper behind than in front. */
static void make_t(struct sim_complex *c, double end, const double v[3], struct rng *r) {
    const double right = end * sim_between(r, 0.10, 0.135),
                 left = right * sim_between(r, 1.15, 1.75);
    add_wave(c, 1e3 * (end - 2 * right), 1e3 * left, 1e3 * right, 1, v[0], v[1], v[2]);
}

/* From the J point, flat, then into the T wave; `slope`: how far its end reaches, as a part of J to the end of T. */
static void make_st(struct sim_complex *c, double end, double slope, const double v[3]) {
    struct sim_wave w = {.top = 0.006, .hold = 0.12 * end, .left = 0.014, .right = slope * end};
    memcpy(w.v, v, sizeof w.v);
    c->w[c->n++] = w;
}

/* Scale of a direction that gives `mv` in a lead or the mean of two. */
static double scale_to(const struct sim_patient *p, const double v[3], int lead_a, int lead_b,
                       double mv) {
    double lead[SIM_LEADS];
    sim_project(p->field, v, lead);
    return mv / fmax(fmin(lead[lead_a], lead[lead_b]), 0.2);
}

/* Injury currents. Inferior: to the feet and a little to the right, so that I and aVL mirror it. */
static void injury(const struct sim_patient *p, const struct sim_plan *plan, double st[3],
                   struct rng *r) {
    double v[3], scale;
    if (plan->has[SIM_INFERIOR_ST]) {
        v[0] = sim_between(r, -0.5, -0.15), v[1] = 1, v[2] = sim_between(r, -0.05, 0.25);
        scale = scale_to(p, v, SIM_II, SIM_II, sim_between(r, 0.17, 0.42));
    } else {
        v[0] = sim_between(r, 0.05, 0.4), v[1] = sim_between(r, -0.15, 0.1), v[2] = -1;
        scale = scale_to(p, v, SIM_V2, SIM_V3, sim_between(r, 0.27, 0.6));
    }
    for (int k = 0; k < 3; k++) st[k] = scale * v[k];
}

static void usual_t(const struct sim_patient *p, const struct sim_plan *plan, double t[3],
                    double st[3], struct rng *r) {
    const double size = p->t_voltage * sim_spread(r, 1, 0.12),
                 lean = 0.35 * (plan->axis - 50) * SIM_PI / 180;
    const double x = sim_between(r, 0.55, 0.85), y = sim_between(r, 0.25, 0.65);
    t[0] = size * (cos(lean) * x - sin(lean) * y);
    t[1] = size * (sin(lean) * x + cos(lean) * y);
    t[2] = size * sim_between(r, -0.75, -0.1);
    const double rise = sim_between(r, -0.03, 0.16);
    for (int k = 0; k < 3; k++) st[k] = rise * t[k];
    if (plan->has[SIM_RBBB]) t[0] += 0.1 * size, t[2] += sim_between(r, 0.6, 1.2) * size;
    double by = 1;
    if (plan->repolarisation == SIM_T_FLAT) by = sim_between(r, 0.1, 0.3);
    if (plan->repolarisation == SIM_T_INVERTED) by = sim_between(r, -0.8, -0.3);
    for (int k = 0; k < 3; k++) t[k] *= by;
    if (plan->repolarisation == SIM_ST_DEPRESSED) {
        st[0] = -sim_between(r, 0.05, 0.13), st[1] = -sim_between(r, 0.03, 0.12),
        st[2] = sim_between(r, -0.02, 0.07);
        for (int k = 0; k < 3; k++) t[k] *= 0.6;
    }
}

/* Repolarisation that follows from an abnormal activation runs against the QRS. */
static void discordant_t(const struct sim_complex *qrs, double ratio, double t[3], double st[3]) {
    double area[3];
    net_area(qrs, area);
    const double size = largest(qrs) * ratio / length3(area);
    for (int k = 0; k < 3; k++) {
        t[k] = -size * area[k];
        st[k] = 0.3 * t[k];
    }
}

static void make_repolarisation(struct sim_shape *s, const struct sim_patient *p,
                                const struct sim_plan *plan, struct rng *r) {
    const double end = s->qt - s->qrs_s;
    double t[3], st[3];
    usual_t(p, plan, t, st, r);
    if (plan->has[SIM_LBBB]) discordant_t(&s->qrs, sim_between(r, 0.22, 0.42), t, st);
    if (plan->has[SIM_LVH] && sim_chance(r, 0.75))
        discordant_t(&s->qrs, sim_between(r, 0.08, 0.2), t, st);
    const bool is_injured = plan->has[SIM_INFERIOR_ST] || plan->has[SIM_ANTERIOR_ST];
    if (is_injured) {
        injury(p, plan, st, r);
        const double follow = sim_between(r, 0.5, 1.4);
        for (int k = 0; k < 3; k++) t[k] = 0.6 * t[k] + follow * st[k];
    }
    for (int k = 0; k < 3; k++) t[k] *= s->smallness, st[k] *= s->smallness;
    make_st(&s->t, end, is_injured ? 0.25 : 0.18, st);
    make_t(&s->t, end, t, r);
    if (plan->repolarisation == SIM_T_BIPHASIC) { /* an opposite first half */
        const struct sim_wave main = s->t.w[1];
        const double by = -sim_between(r, 0.5, 1.0);
        add_wave(&s->t, 1e3 * (main.top - 1.9 * main.left), 800 * main.left, 800 * main.left, by,
                 main.v[0], main.v[1], main.v[2]);
    }
    if (sim_chance(r, 0.12)) { /* U wave */
        const double after = sim_between(r, 60, 100), size = length3(t) * sim_between(r, 0.06, 0.2);
        add_wave(&s->t, 1e3 * end + after, 26, 30, size, 0.5, 0.4, -0.5);
    }
}

static void make_pvc(struct sim_shape *s, const struct sim_patient *p, struct rng *r) {
    DRAW_WAVES(&s->pvc, ectopic_qrs, r);
    turn(&s->pvc, 0, 1, sim_between(r, -0.9, 0.9));
    if (sim_chance(r, 0.4)) turn(&s->pvc, 0, 2, SIM_PI);
    const double normal = largest(&s->qrs);
    scale_voltage(&s->pvc,
                  fmax(normal, 0.6 * p->voltage) * sim_between(r, 1.1, 1.8) / largest(&s->pvc));
    s->pvc_s = sim_between(r, 0.135, 0.175);
    set_duration(&s->pvc, s->pvc_s);
    double t[3], st[3];
    discordant_t(&s->pvc, sim_between(r, 0.3, 0.5), t, st);
    make_st(&s->pvc_t, s->qt - s->qrs_s, 0.18, st);
    make_t(&s->pvc_t, s->qt - s->qrs_s, t, r);
}

/* The axis as it is read off a recording: from the area between onset and J, of which an elevated ST has its part. */
static double visible_axis(const struct sim_shape *s, const struct sim_patient *p) {
    double sum[3] = {0}, lead[SIM_LEADS];
    for (double t = 0.5 * GRID; t < s->qrs_s; t += GRID) {
        double v[3], st[3], speed[3];
        complex_at(&s->qrs, t, v, speed);
        complex_at(&s->t, t - s->qrs_s, st, speed);
        for (int k = 0; k < 3; k++) sum[k] += v[k] + st[k];
    }
    sim_project(p->field, sum, lead);
    return axis_of(lead);
}

void sim_shape_make(struct sim_shape *s, const struct sim_patient *p, const struct sim_plan *plan,
                    struct rng *r) {
    *s = (struct sim_shape){0};
    make_qrs(s, p, plan, r);
    s->qt = plan->qtc * sqrt(60 / plan->rate);
    make_atria(s, p, plan, r);
    make_repolarisation(s, p, plan, r);
    s->axis = visible_axis(s, p);
    if (plan->has[SIM_PVC]) make_pvc(s, p, r);
}
