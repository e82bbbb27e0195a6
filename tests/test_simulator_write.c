/* SPDX-License-Identifier: MIT
 * `synth` as a data set: what the reader gives back is what the simulator made, for any number of threads; a failure
 * leaves nothing behind. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/log.h"
#include "data/shard.h"
#include "data/simulator.h"
#include "tests/support/check.h"

enum { RECORDS = 75, LENGTH = 500, SAMPLES = 12 * LENGTH };
static const struct simulator_options options = {
    .seed = 3, .sampling_rate = 100, .seconds = 5, .noise = 1, .outcomes = true};

static struct dataset *write_and_open(const char *name, int n_threads) {
    char *dir = NULL;
    struct dataset *d = NULL;
    if (!CHECK_OK(file_join(&dir, check_tmp(), name))) return NULL;
    if (CHECK_OK(simulator_write(&options, dir, RECORDS, n_threads, "test")))
        CHECK_OK(dataset_open(&d, dir));
    free(dir);
    return d;
}

static void check_record(struct dataset *d, size_t i) {
    static double mv[SAMPLES];
    static int16_t ecg[SAMPLES];
    float scale, targets[SIMULATOR_MAX_TARGETS];
    uint8_t labels[SIMULATOR_MAX_LABELS];
    struct simulated truth;
    char *id = NULL, expected[32];
    if (!CHECK_OK(simulator_record(&options, i, mv, &truth)) ||
        !CHECK_OK(dataset_read(d, i, ecg, &scale)))
        return;
    double worst = 0;
    for (int k = 0; k < SAMPLES; k++) {
        const double off = fabs(ecg[k] * (double)scale - mv[k]);
        if (!(off <= worst)) worst = off;
    }
    CHECK(worst <= 0.000501); /* half a microvolt */
    if (CHECK_OK(dataset_labels(d, i, labels)))
        CHECK(!memcmp(labels, truth.labels, (size_t)simulator_labels(&options)->n));
    if (CHECK_OK(dataset_targets(d, i, targets)))
        CHECK(!memcmp(targets, truth.targets,
                      (size_t)simulator_targets(&options)->n * sizeof targets[0]));
    CHECK(d->fold[i] == truth.fold);
    snprintf(expected, sizeof expected, "sim-%08zu", i + 1);
    if (CHECK_OK(dataset_record_id(d, i, &id))) CHECK_STR(id, expected);
    free(id);
    id = NULL;
    snprintf(expected, sizeof expected, "p-%08zu", (size_t)truth.patient + 1);
    if (CHECK_OK(dataset_patient_id(d, i, &id))) CHECK_STR(id, expected);
    free(id);
}

static void reader_gives_back_what_was_made(void) {
    struct dataset *d = write_and_open("two", 2);
    if (!d) return;
    CHECK(d->n_records == RECORDS);
    CHECK(d->schema.length == LENGTH && d->schema.leads.n == 12 && d->schema.sampling_rate == 100);
    CHECK_STR(d->schema.units, "mV");
    CHECK_STR(d->schema.preprocessing, "none");
    for (int k = 0; k < simulator_labels(&options)->n; k++)
        CHECK_STR(d->schema.labels.v[k], simulator_labels(&options)->v[k]);
    for (int k = 0; k < simulator_targets(&options)->n; k++)
        CHECK_STR(d->schema.targets.v[k], simulator_targets(&options)->v[k]);
    for (size_t i = 0; i < RECORDS; i++) check_record(d, i);
    dataset_close(d);
}

static void threads_write_the_same(void) {
    struct dataset *one = write_and_open("by-one", 1), *four = write_and_open("by-four", 4);
    for (size_t i = 0; one && four && i < RECORDS; i++) {
        static int16_t a[SAMPLES], b[SAMPLES];
        float scale_a, scale_b;
        if (!CHECK_OK(dataset_read(one, i, a, &scale_a)) ||
            !CHECK_OK(dataset_read(four, i, b, &scale_b)))
            break;
        CHECK(!memcmp(a, b, sizeof a) && scale_a == scale_b);
        float targets_a[SIMULATOR_MAX_TARGETS] = {0}, targets_b[SIMULATOR_MAX_TARGETS] = {0};
        if (!CHECK_OK(dataset_targets(one, i, targets_a)) ||
            !CHECK_OK(dataset_targets(four, i, targets_b)))
            break;
        CHECK(!memcmp(targets_a, targets_b, sizeof targets_a));
    }
    dataset_close(one);
    dataset_close(four);
}

static void failures_leave_nothing(void) {
    struct simulator_options bad = options;
    char *dir = NULL;
    if (!CHECK_OK(file_join(&dir, check_tmp(), "none"))) return;
    bad.sampling_rate = 0;
    CHECK_FAILS(simulator_write(&bad, dir, 3, 1, "test"), ECG_ERR_USAGE, "sampling rate");
    CHECK(!file_exists(dir));
    CHECK_FAILS(simulator_write(&options, dir, 0, 1, "test"), ECG_ERR_USAGE, "no records");
    CHECK(!file_exists(dir));
    if (CHECK_OK(simulator_write(&options, dir, 3, 1, "test")))
        CHECK_FAILS(simulator_write(&options, dir, 3, 1, "test"), ECG_ERR_CREATE, "none");
    struct dataset *d = NULL;
    if (CHECK_OK(dataset_open(&d, dir))) CHECK(d->n_records == 3); /* what was there is whole */
    dataset_close(d);
    free(dir);
}

int main(void) {
    log_set_level(LOG_ERROR);
    CASE(reader_gives_back_what_was_made);
    CASE(threads_write_the_same);
    CASE(failures_leave_nothing);
    return check_finish();
}
