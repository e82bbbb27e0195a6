/* SPDX-License-Identifier: MIT
 * Cox' partial likelihood (D. R. Cox 1972), ties after Breslow. With the samples in descending order of time, the risk
 * set of an event at time t is everyone seen so far, ties included. For each distinct time
 *
 *     R(t) = sum_{j: time_j >= t} exp(z_j),   d(t) = number of events at t,
 *     loss = sum_events (log R(time_i) - z_i) / n_events,
 *     dloss/dz_j = (exp(z_j) * sum_{t <= time_j} d(t)/R(t) - event_j) / n_events.
 *
 * The first walk (times falling) builds R, the second (times rising) the sum of d/R, both as logarithms, so that no z
 * is too large or too small for them. */
#include <math.h>
#include <stdlib.h>

#include "train/objective/objective.h"

struct cox_item {
    float time;
    uint8_t event;
    size_t place;       /* in the caller's arrays */
    double z, log_risk; /* log R(time) */
};

static int by_falling_time(const void *a, const void *b) {
    const struct cox_item *x = a, *y = b;
    if (x->time != y->time) return x->time > y->time ? -1 : 1;
    return x->place < y->place ? -1 : 1;
}

size_t objective_cox_bytes(size_t n) {
    return n * sizeof(struct cox_item);
}

/* Takes the samples whose event and time are known, in falling order of time; returns their number. */
static size_t collect(size_t n, const float *z, const uint8_t *event, const float *time,
                      struct cox_item *items) {
    size_t n_items = 0;
    for (size_t i = 0; i < n; i++) {
        if (event[i] > 1 || isnan(time[i])) continue;
        items[n_items++] =
            (struct cox_item){.time = time[i], .event = event[i], .place = i, .z = z[i]};
    }
    qsort(items, n_items, sizeof(*items), by_falling_time);
    return n_items;
}

/* log(exp(a) + exp(b)); -INFINITY stands for log 0. */
static double log_add(double a, double b) {
    double high = a > b ? a : b, low = a > b ? b : a;
    return low == -INFINITY ? high : high + log1p(exp(low - high));
}

/* The first walk: log_risk of every item, the loss and its events. */
static void value(struct cox_item *items, size_t n, double *loss_sum, size_t *n_events) {
    double log_risk = -INFINITY;
    *loss_sum = 0;
    *n_events = 0;
    for (size_t i = 0; i < n;) {
        size_t end = i;
        for (; end < n && items[end].time == items[i].time; end++)
            log_risk = log_add(log_risk, items[end].z);
        for (; i < end; i++) {
            items[i].log_risk = log_risk;
            if (items[i].event != 1) continue;
            *loss_sum += log_risk - items[i].z;
            ++*n_events;
        }
    }
}

/* The second walk. */
static void gradient(const struct cox_item *items, size_t n, double n_events, float *dz) {
    double log_sum = -INFINITY; /* log of the sum of d(t)/R(t) over the times up to the present */
    for (size_t end = n; end > 0;) {
        size_t first = end;
        for (; first > 0 && items[first - 1].time == items[end - 1].time; first--)
            if (items[first - 1].event == 1) log_sum = log_add(log_sum, -items[first - 1].log_risk);
        for (size_t i = first; i < end; i++) {
            double d = exp(items[i].z + log_sum) - (items[i].event == 1);
            dz[items[i].place] = n_events > 0 ? (float)(d / n_events) : 0;
        }
        end = first;
    }
}

void objective_cox(size_t n, const float *z, const uint8_t *event, const float *time, void *scratch,
                   double *loss_sum, size_t *n_events, float *dz) {
    struct cox_item *items = scratch;
    size_t n_items = collect(n, z, event, time, items);
    value(items, n_items, loss_sum, n_events);
    if (dz == NULL) return;
    for (size_t i = 0; i < n; i++) dz[i] = 0;
    gradient(items, n_items, (double)*n_events, dz);
}
