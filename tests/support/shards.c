/* SPDX-License-Identifier: MIT
 * Small data sets for tests. */
#include "tests/support/shards.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void shards_schema(struct shard_schema *s) {
    *s = (struct shard_schema){
        .sampling_rate = 500, .length = SHARDS_L, .units = "mV", .preprocessing = "none"};
    s->has_fold = true;
    leads_parse(&s->leads, "I,II,V1");
    names_parse(&s->labels, "af\nmi \xc3\xa4", "labels");
    names_parse(&s->targets, "age\nhr", "targets");
}

int16_t shards_sample(size_t i, int c, int l) {
    return (int16_t)((i * 977 + (size_t)c * 131 + (size_t)l * 7) % 60000 - 30000);
}

float shards_scale(size_t i) {
    return 0.001f * (float)(1 + i % 7);
}

uint8_t shards_label(size_t i, int k) {
    size_t m = (i + (size_t)k) % 4;
    return m == 0 ? 1 : m == 3 ? SHARD_LABEL_UNKNOWN : 0;
}

float shards_target(size_t i, int t) {
    return (i + (size_t)t) % 5 == 0 ? NAN : (float)i * 0.5f + (float)t;
}

enum ecg_status shards_write(const char *dir, size_t n) {
    struct shard_schema schema;
    struct shard_writer *w = NULL;
    enum ecg_status status;
    shards_schema(&schema);
    TRY_OUT(shard_writer_open(&w, dir, &schema));
    for (size_t i = 0; i < n; i++) {
        int16_t ecg[SHARDS_C * SHARDS_L];
        uint8_t labels[SHARDS_K];
        float targets[SHARDS_T];
        char id[32], patient[32];
        for (int c = 0; c < SHARDS_C; c++)
            for (int l = 0; l < SHARDS_L; l++) ecg[c * SHARDS_L + l] = shards_sample(i, c, l);
        for (int k = 0; k < SHARDS_K; k++) labels[k] = shards_label(i, k);
        for (int t = 0; t < SHARDS_T; t++) targets[t] = shards_target(i, t);
        snprintf(id, sizeof id, "r/%zu", i);
        snprintf(patient, sizeof patient, "p%zu", i / 3);
        struct shard_record r = {.record_id = id,
                                 .patient_id = patient,
                                 .ecg = ecg,
                                 .scale = shards_scale(i),
                                 .labels = labels,
                                 .targets = targets,
                                 .fold = (int16_t)(i % 10 + 1)};
        TRY_OUT(shard_writer_add(w, &r));
    }
    TRY_OUT(shard_writer_finish(w, "test"));
out:
    shard_writer_close(w);
    shard_schema_free(&schema);
    return status;
}

static bool differs(size_t i, const char *what) {
    printf("    record %zu: %s differs\n", i, what);
    return false;
}

static bool same_text(size_t i, enum ecg_status status, char *text, const char *wanted,
                      const char *what) {
    bool same = status == ECG_OK && strcmp(text, wanted) == 0;
    free(text);
    return same ? true : differs(i, what);
}

bool shards_check(struct dataset *d, size_t i) {
    int16_t ecg[SHARDS_C * SHARDS_L];
    float scale, targets[SHARDS_T];
    uint8_t labels[SHARDS_K];
    char wanted[32], *id;
    if (dataset_read(d, i, ecg, &scale) != ECG_OK || dataset_labels(d, i, labels) != ECG_OK ||
        dataset_targets(d, i, targets) != ECG_OK)
        return differs(i, ecg_message());
    for (int c = 0; c < SHARDS_C; c++)
        for (int l = 0; l < SHARDS_L; l++)
            if (ecg[c * SHARDS_L + l] != shards_sample(i, c, l)) return differs(i, "ecg");
    if (scale != shards_scale(i)) return differs(i, "scale");
    for (int k = 0; k < SHARDS_K; k++)
        if (labels[k] != shards_label(i, k)) return differs(i, "labels");
    for (int t = 0; t < SHARDS_T; t++) {
        float want = shards_target(i, t);
        if (!(targets[t] == want || (isnan(targets[t]) && isnan(want))))
            return differs(i, "targets");
    }
    snprintf(wanted, sizeof wanted, "r/%zu", i);
    enum ecg_status status = dataset_record_id(d, i, &id);
    if (!same_text(i, status, id, wanted, "record_id")) return false;
    snprintf(wanted, sizeof wanted, "p%zu", i / 3);
    status = dataset_patient_id(d, i, &id);
    return same_text(i, status, id, wanted, "patient_id");
}
