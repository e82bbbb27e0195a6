/* SPDX-License-Identifier: MIT
 * Heads and their losses: against plain second implementations by the likelihoods' definitions, gradients against finite
 * differences, micro-batches against the whole batch, mixup against its definition, metadata there and back. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "support/check.h"
#include "train/model/heads.h"
#include "train/objective/total.h"

enum { B = 24, N_LABELS = 10, N_TARGETS = 6, N_OUTPUTS = 17 };

static char *names[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "event"};
static char *numbers[] = {"x", "y", "z", "time"};
static double hazard_bins[] = {1, 2.5, 4}, cuts[] = {-0.5, 0.5};

/* labels 3 (bce), classes 3, ordinal of labels 3 (2 outputs), ordinal of a target (2), targets 1 (huber), gaussian 1 (2),
 * cox 1, hazard 3 = 17 outputs */
static bool make(struct heads *h, struct total *t) {
    static const struct {
        struct head head;
        enum objective_kind loss;
        double weight;
    } all[] = {
        {{.name = "labels", .kind = HEAD_LABELS, .labels = {3, names}}, OBJECTIVE_BCE, 1},
        {{.name = "classes", .kind = HEAD_CLASSES, .labels = {3, names + 3}}, OBJECTIVE_SOFTMAX, 2},
        {{.name = "grade", .kind = HEAD_ORDINAL, .labels = {3, names + 6}}, OBJECTIVE_ORDINAL, 1},
        {{.name = "cut", .kind = HEAD_ORDINAL, .targets = {1, numbers}, .n_bins = 2, .bins = cuts},
         OBJECTIVE_ORDINAL,
         0.5},
        {{.name = "value", .kind = HEAD_TARGETS, .targets = {1, numbers + 1}}, OBJECTIVE_HUBER, 1},
        {{.name = "normal", .kind = HEAD_GAUSSIAN, .targets = {1, numbers + 2}},
         OBJECTIVE_GAUSSIAN,
         3},
        {{.name = "death", .kind = HEAD_COX, .labels = {1, names + 9}, .targets = {1, numbers + 3}},
         OBJECTIVE_COX,
         1},
        {{.name = "stroke",
          .kind = HEAD_HAZARD,
          .labels = {1, names + 9},
          .targets = {1, numbers + 3},
          .n_bins = 3,
          .bins = hazard_bins},
         OBJECTIVE_HAZARD,
         0.25}};
    *h = (struct heads){0};
    *t = (struct total){0};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        struct objective o;
        if (!CHECK_OK(heads_add(h, &all[i].head)) ||
            !CHECK_OK(objective_init(&o, all[i].loss, NULL)))
            return false;
        total_add_head(t, &h->v[i], &o, all[i].weight);
    }
    return CHECK(t->n_outputs == N_OUTPUTS && h->n_outputs == N_OUTPUTS) &&
           CHECK(t->n_labels == 11 && t->n_targets == 5);
}

struct data {
    uint8_t labels[B * 11];
    float targets[B * 5], logits[B * N_OUTPUTS], mix[B];
    int partner[B];
};

/* One of three labels present, or none, or unknown; targets around 0, some unknown; times above 0 with ties. */
static void draw(struct data *d) {
    struct rng r;
    rng_init(&r, 5, RNG_INIT, 0, 0);
    for (int i = 0; i < B * N_OUTPUTS; i++) d->logits[i] = (float)(4 * rng_uniform(&r) - 2);
    for (int i = 0; i < B; i++) {
        uint8_t *y = d->labels + i * 11;
        float *t = d->targets + i * 5;
        for (int c = 0; c < 11; c++) y[c] = 0;
        for (int c = 0; c < 3; c++)
            y[c] = (uint8_t)(rng_below(&r, 5) == 0 ? 255 : rng_below(&r, 2));
        if (i % 7 != 0) y[3 + rng_below(&r, 3)] = 1;
        if (i % 5 != 0) y[6 + rng_below(&r, 3)] = 1;
        if (i % 6 == 1) y[3] = y[4] = 1; /* two classes: unknown */
        y[9] = y[10] = (uint8_t)(i % 9 == 4 ? 255 : rng_below(&r, 2));
        for (int c = 0; c < 3; c++) t[c] = i % 8 == c ? NAN : (float)(4 * rng_uniform(&r) - 2);
        t[3] = t[4] = i % 10 == 3 ? NAN : (float)(0.5 + 0.5 * (double)rng_below(&r, 10));
        d->mix[i] = i % 4 == 0 ? 1 : (float)rng_uniform(&r);
        d->partner[i] = i ^ 1;
    }
}

static double sigmoid(double z) {
    return 1 / (1 + exp(-z));
}

/* The loss of head k by its definition, summed over the records, in the simplest terms; *known its divisor. */
static double plain_loss(int k, const struct data *d, double *known) {
    double sum = 0;
    *known = 0;
    for (int i = 0; i < B; i++) {
        const uint8_t *y = d->labels + i * 11;
        const float *t = d->targets + i * 5, *z = d->logits + i * N_OUTPUTS;
        double p = 1;
        if (k == 0) {
            for (int c = 0; c < 3; c++) {
                if (y[c] == 255) continue;
                sum -= log(y[c] ? sigmoid((double)z[c]) : 1 - sigmoid((double)z[c]));
                ++*known;
            }
            continue;
        }
        if (k == 1) {
            if (y[3] + y[4] + y[5] != 1) continue;
            int class = y[3] ? 0 : y[4] ? 1 : 2;
            p = exp((double)z[3 + class]) /
                (exp((double)z[3]) + exp((double)z[4]) + exp((double)z[5]));
        } else if (k == 2 || k == 3) {
            const float *s = z + (k == 2 ? 6 : 8);
            int class = k == 2 ? (y[6]   ? 0
                                  : y[7] ? 1
                                  : y[8] ? 2
                                         : -1)
                               : (isnan(t[0])    ? -1
                                  : t[0] < -0.5f ? 0
                                  : t[0] < 0.5f  ? 1
                                                 : 2);
            if (class < 0) continue;
            double first = sigmoid((double)s[0]), second = sigmoid((double)s[1]);
            p = class == 0 ? first : class == 1 ? (1 - first) * second : (1 - first) * (1 - second);
        } else if (k == 4) {
            double e = fabs((double)z[10] - (double)t[1]);
            if (isnan(t[1])) continue;
            sum += e <= 1 ? 0.5 * e * e : e - 0.5;
        } else if (k == 5) {
            double v = exp((double)z[12]), e = (double)z[11] - (double)t[2];
            if (isnan(t[2])) continue;
            sum += 0.5 * (log(v) + e * e / v);
        } else if (k == 7) {
            double h[3] = {sigmoid((double)z[14]), sigmoid((double)z[15]), sigmoid((double)z[16])};
            if (y[10] == 255 || isnan(t[4])) continue;
            for (int b = 0; b < 3; b++) {
                double from = b == 0 ? 0 : hazard_bins[b - 1], to = hazard_bins[b];
                double time = (double)t[4];
                if (y[10] == 1 && time > from && time <= to) p *= h[b];
                if (y[10] == 1 ? time > to : time >= to) p *= 1 - h[b];
            }
        }
        sum -= log(p);
        ++*known;
    }
    return sum;
}

static void losses_by_definition(void) {
    struct heads h;
    struct total t;
    struct data d;
    double known[HEADS_MAX], sum[HEADS_MAX] = {0};
    draw(&d);
    if (!make(&h, &t)) return;
    const struct total_truth truth = {.B = B, .labels = d.labels, .targets = d.targets};
    CHECK(total_known(&t, &truth, known) && total_is_joint(&t) && !total_is_plain(&t));
    CHECK_OK(total_add(&t, &truth, known, 0, B, d.logits, d.logits, sum, NULL));
    double value = 0;
    for (int k = 0; k < t.n; k++) {
        double n, wanted = plain_loss(k, &d, &n);
        value += t.v[k].weight * sum[k] / known[k];
        if (k == 6) continue; /* cox: test_optim */
        CHECK(known[k] == n && n > 5);
        CHECK_NEAR(sum[k], wanted, 1e-12 * B);
    }
    CHECK_NEAR(total_value(&t, known, sum), value, 0);
    total_free(&t);
    heads_free(&h);
}

static double value_at(struct total *t, const struct total_truth *truth, const float *logits) {
    double known[HEADS_MAX], sum[HEADS_MAX] = {0};
    total_known(t, truth, known);
    if (!CHECK_OK(total_add(t, truth, known, 0, B, logits, logits, sum, NULL))) return NAN;
    return total_value(t, known, sum);
}

/* Central differences of the whole loss by each logit. */
static void check_gradient(struct total *t, const struct total_truth *truth, struct data *d) {
    float got[B * N_OUTPUTS] = {0}, step = 1.0f / 256;
    double known[HEADS_MAX], sum[HEADS_MAX] = {0}, worst = 0, largest = 0;
    total_known(t, truth, known);
    CHECK_OK(total_add(t, truth, known, 0, B, d->logits, d->logits, sum, got));
    for (int i = 0; i < B * N_OUTPUTS; i++) {
        float kept = d->logits[i];
        d->logits[i] = kept + step;
        double high = value_at(t, truth, d->logits), up = (double)d->logits[i];
        d->logits[i] = kept - step;
        double low = value_at(t, truth, d->logits), down = (double)d->logits[i];
        d->logits[i] = kept;
        double error = fabs((high - low) / (up - down) - (double)got[i]);
        if (!(error <= worst)) worst = error;
        if (fabs((double)got[i]) > largest) largest = fabs((double)got[i]);
    }
    CHECK(worst <= 3e-6 * largest + 3e-6);
    check_note("gradient off by %.1e of %.1e", worst, largest);
}

static void gradients(void) {
    struct heads h;
    struct total t;
    struct data d;
    draw(&d);
    if (!make(&h, &t)) return;
    struct total_truth truth = {.B = B, .labels = d.labels, .targets = d.targets};
    check_gradient(&t, &truth, &d);
    double weights[] = {0.5, 3, 2}, sd = 2.5;
    for (int k = 0; k < 3; k++) {
        if (!CHECK_OK(mem_alloc((void **)&t.v[k].column_weight, 3, sizeof(double)))) return;
        memcpy(t.v[k].column_weight, weights, sizeof(weights));
    }
    for (int k = 4; k < 6; k++) {
        if (!CHECK_OK(mem_alloc((void **)&t.v[k].sd, 1, sizeof(double)))) return;
        t.v[k].sd[0] = sd;
    }
    check_gradient(&t, &truth, &d);
    total_free(&t);
    heads_free(&h);
}

/* Without cox, which takes no mixed records. */
static void mixup_is_its_definition(void) {
    struct heads h;
    struct total t;
    struct data d;
    double known[HEADS_MAX], all[HEADS_MAX], sum[HEADS_MAX] = {0}, one[HEADS_MAX];
    float dz[B * N_OUTPUTS];
    draw(&d);
    if (!make(&h, &t)) return;
    for (int k = 6; k < t.n - 1; k++) t.v[k] = t.v[k + 1];
    t.n--;
    struct total_truth mixed = {
        .B = B, .labels = d.labels, .targets = d.targets, .mix = d.mix, .partner = d.partner};
    total_known(&t, &mixed, known);
    CHECK_OK(total_add(&t, &mixed, known, 0, B, d.logits, NULL, sum, dz));
    struct data own = d, other = d;
    for (int i = 0; i < B; i++) {
        memcpy(other.labels + i * 11, d.labels + d.partner[i] * 11, 11);
        memcpy(other.targets + i * 5, d.targets + d.partner[i] * 5, 5 * sizeof(float));
    }
    for (int k = 0; k < t.n; k++) all[k] = 0;
    for (int i = 0; i < B; i++) {
        struct total_truth a = {.B = B, .labels = own.labels, .targets = own.targets};
        struct total_truth b = {.B = B, .labels = other.labels, .targets = other.targets};
        const float *z = d.logits + i * N_OUTPUTS;
        double share = (double)d.mix[i];
        memset(one, 0, sizeof(one));
        CHECK_OK(total_add(&t, &a, known, i, 1, z, NULL, one, NULL));
        for (int k = 0; k < t.n; k++) all[k] += share * one[k];
        memset(one, 0, sizeof(one));
        CHECK_OK(total_add(&t, &b, known, i, 1, z, NULL, one, NULL));
        for (int k = 0; k < t.n; k++) all[k] += (1 - share) * one[k];
    }
    for (int k = 0; k < t.n; k++) CHECK_NEAR(sum[k], all[k], 1e-12 * B);
    check_gradient(&t, &mixed, &d);
    total_free(&t);
    heads_free(&h);
}

/* The sums and gradients of a batch in three pieces are those of the whole. */
static void micro_batches(void) {
    struct heads h;
    struct total t;
    struct data d;
    double known[HEADS_MAX], whole[HEADS_MAX] = {0}, parts[HEADS_MAX] = {0};
    float dz[B * N_OUTPUTS], pieces[B * N_OUTPUTS];
    draw(&d);
    if (!make(&h, &t)) return;
    const struct total_truth truth = {.B = B, .labels = d.labels, .targets = d.targets};
    total_known(&t, &truth, known);
    CHECK_OK(total_add(&t, &truth, known, 0, B, d.logits, d.logits, whole, dz));
    for (int first = 0; first < B; first += 10) {
        int n = B - first < 10 ? B - first : 10;
        size_t at = (size_t)first * N_OUTPUTS;
        CHECK_OK(
            total_add(&t, &truth, known, first, n, d.logits + at, d.logits, parts, pieces + at));
    }
    CHECK(!memcmp(dz, pieces, sizeof(dz)));
    for (int k = 0; k < t.n; k++) CHECK_NEAR(parts[k], whole[k], 1e-13 * B);
    total_free(&t);
    heads_free(&h);
}

/* Logits far out give finite losses and gradients; nothing known gives NaN and zeros. */
static void edges(void) {
    struct heads h;
    struct total t;
    struct data d;
    float dz[B * N_OUTPUTS];
    double known[HEADS_MAX], sum[HEADS_MAX] = {0};
    draw(&d);
    if (!make(&h, &t)) return;
    for (int i = 0; i < B * N_OUTPUTS; i++) d.logits[i] *= 500;
    const struct total_truth truth = {.B = B, .labels = d.labels, .targets = d.targets};
    total_known(&t, &truth, known);
    CHECK_OK(total_add(&t, &truth, known, 0, B, d.logits, d.logits, sum, dz));
    bool finite = isfinite(total_value(&t, known, sum));
    for (int i = 0; i < B * N_OUTPUTS; i++) finite = finite && isfinite(dz[i]);
    CHECK(finite);
    memset(d.labels, 255, sizeof(d.labels));
    for (int i = 0; i < B * 5; i++) d.targets[i] = NAN;
    memset(sum, 0, sizeof(sum));
    CHECK(!total_known(&t, &truth, known));
    CHECK_OK(total_add(&t, &truth, known, 0, B, d.logits, d.logits, sum, dz));
    CHECK(isnan(total_value(&t, known, sum)));
    bool zero = true;
    for (int i = 0; i < B * N_OUTPUTS; i++) zero = zero && dz[i] == 0;
    CHECK(zero);
    total_free(&t);
    heads_free(&h);
}

/* ---- what the outputs say ---- */

static void values_of_outputs(void) {
    struct heads h;
    struct total t;
    const float z[N_OUTPUTS] = {0.3f, -40, 2, 1, -1, 0.5f,  0.2f,  -0.7f, 60,
                                -60,  7,   8, 1, 3,  -0.5f, 0.25f, 2};
    float v[N_OUTPUTS + 2];
    double p[3], logit[3], sum = 0;
    struct names value_names, output_names;
    if (!make(&h, &t)) return;
    CHECK_OK(heads_value_names(&h, &value_names));
    CHECK_OK(heads_output_names(&h, &output_names));
    CHECK(value_names.n == N_OUTPUTS + 2 && output_names.n == N_OUTPUTS);
    CHECK_STR(value_names.v[9], "cut: x<-0.5");
    CHECK_STR(value_names.v[10], "cut: -0.5<=x<0.5");
    CHECK_STR(value_names.v[14], "z: sd");
    CHECK_STR(output_names.v[14], "stroke: to 1");
    heads_values(&h, z, v);
    CHECK_NEAR((double)v[0], sigmoid((double)z[0]), 1e-7);
    head_class_probabilities(&h.v[2], z + 6, p);
    for (int k = 0; k < 3; k++) sum += p[k];
    CHECK_NEAR(sum, 1, 1e-15);
    CHECK_NEAR(p[1], (1 - sigmoid((double)z[6])) * sigmoid((double)z[7]), 1e-15);
    for (int k = 0; k < 3; k++) CHECK_NEAR((double)v[6 + k], p[k], 1e-7);
    for (int head = 1; head < 3; head++) {
        head_class_probabilities(&h.v[head], z + h.v[head].first, p);
        head_class_logits(&h.v[head], z + h.v[head].first, logit);
        for (int k = 0; k < 3; k++) CHECK_NEAR(logit[k], log(p[k] / (1 - p[k])), 1e-13);
    }
    head_class_logits(&h.v[3], z + 8, logit); /* P of 1 - 1e-26: the logit still knows it */
    CHECK_NEAR(logit[0], 60, 1e-9);
    CHECK_NEAR((double)v[14], exp(0.5), 1e-6);
    head_event_probabilities(&h.v[7], z + 14, p);
    CHECK_NEAR(p[1], 1 - (1 - sigmoid(-0.5)) * (1 - sigmoid(0.25)), 1e-15);
    CHECK_NEAR(head_risk(&h.v[7], z + 14), p[0] + p[1] + p[2] - 3, 1e-14);
    names_free(&value_names);
    names_free(&output_names);
    total_free(&t);
    heads_free(&h);
}

static void there_and_back(void) {
    struct heads h, again;
    struct total t;
    char *text = NULL, *second = NULL;
    if (!make(&h, &t)) return;
    CHECK_OK(heads_json(&h, &text));
    if (CHECK_OK(heads_parse(&again, text, "x"))) {
        CHECK(again.n == h.n && again.n_outputs == h.n_outputs && !heads_are_plain(&again));
        CHECK_OK(heads_json(&again, &second));
        CHECK_STR(text, second);
        heads_free(&again);
    }
    free(text);
    free(second);
    total_free(&t);
    heads_free(&h);
}

static void impossible_heads(void) {
    static const struct {
        const char *json, *message;
    } bad[] = {
        {"{}", "no list of heads"},
        {"[]", "no list of heads"},
        {"[1]", "needs a name and a kind"},
        {"[{\"name\":\"a\",\"kind\":\"magic\"}]", "unknown kind of head magic"},
        {"[{\"name\":\"a\",\"kind\":\"labels\"}]", "names no column"},
        {"[{\"name\":\"a\",\"kind\":\"labels\",\"labels\":[1]}]", "a column's name that is none"},
        {"[{\"name\":\"a\",\"kind\":\"classes\",\"labels\":[\"x\"]}]", "two classes or more"},
        {"[{\"name\":\"a\",\"kind\":\"labels\",\"labels\":[\"x\",\"x\"]}]", "label x stands twice"},
        {"[{\"name\":\"a\",\"kind\":\"ordinal\",\"labels\":[\"x\",\"y\",\"x\"]}]",
         "label x stands twice"},
        {"[{\"name\":\"a\",\"kind\":\"labels\",\"labels\":[\"x\"]},"
         "{\"name\":\"b\",\"kind\":\"targets\",\"targets\":[\"x\"]}]",
         "output x stands twice"},
        {"[{\"name\":\"a\",\"kind\":\"cox\",\"labels\":[\"x\"]}]", "an event (a label) and a time"},
        {"[{\"name\":\"a\",\"kind\":\"hazard\",\"labels\":[\"x\"],\"targets\":[\"t\"]}]",
         "loss.bins must list"},
        {"[{\"name\":\"a\",\"kind\":\"hazard\",\"labels\":[\"x\"],\"targets\":[\"t\"],\"bins\":[2,1]}]",
         "numbers that rise"},
        {"[{\"name\":\"a\",\"kind\":\"hazard\",\"labels\":[\"x\"],\"targets\":[\"t\"],\"bins\":[\"1\"]}]",
         "numbers that rise"},
        {"[{\"name\":\"a\",\"kind\":\"targets\",\"targets\":[\"t\"]},"
         "{\"name\":\"a\",\"kind\":\"targets\",\"targets\":[\"u\"]}]",
         "another head has this name"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct heads h;
        CHECK_FAILS(heads_parse(&h, bad[i].json, "w: einthoven.heads"), ECG_ERR_DATA,
                    bad[i].message);
    }
}

int main(void) {
    CASE(losses_by_definition);
    CASE(gradients);
    CASE(mixup_is_its_definition);
    CASE(micro_batches);
    CASE(edges);
    CASE(values_of_outputs);
    CASE(there_and_back);
    CASE(impossible_heads);
    return check_finish();
}
