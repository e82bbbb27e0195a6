/* SPDX-License-Identifier: MIT
 * Writes dataset.json. */
#include "data/dataset_json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"

void dataset_shard_file_name(size_t i, char out[SHARD_NAME_BYTES]) {
    snprintf(out, SHARD_NAME_BYTES, "shard-%05zu.h5", i);
}

static void put_text(struct json_writer *w, const char *key, const char *text) {
    json_put_key(w, key);
    json_put_string(w, text);
}

static void put_count(struct json_writer *w, const char *key, size_t n) {
    json_put_key(w, key);
    json_put_integer(w, (int64_t)n);
}

static void put_shards(struct json_writer *w, const struct dataset_summary *s) {
    json_put_key(w, "shards");
    json_begin_array(w);
    for (size_t i = 0; i < s->n_shards; i++) {
        char name[SHARD_NAME_BYTES], hash[17];
        dataset_shard_file_name(i, name);
        snprintf(hash, sizeof hash, "%016" PRIx64, s->shards[i].hash);
        json_begin_object(w);
        put_text(w, "file", name);
        put_count(w, "records", s->shards[i].n_records);
        put_text(w, "xxhash64", hash);
        json_end_object(w);
    }
    json_end_array(w);
}

static void put_columns(struct json_writer *w, const struct dataset_summary *s) {
    json_put_key(w, "labels");
    json_begin_object(w);
    for (int i = 0; i < s->schema->labels.n; i++) {
        json_put_key(w, s->schema->labels.v[i]);
        json_begin_object(w);
        put_count(w, "present", s->labels[i].present);
        put_count(w, "absent", s->labels[i].absent);
        put_count(w, "unknown", s->labels[i].unknown);
        json_end_object(w);
    }
    json_end_object(w);
    json_put_key(w, "targets");
    json_begin_object(w);
    for (int i = 0; i < s->schema->targets.n; i++) {
        json_put_key(w, s->schema->targets.v[i]);
        json_begin_object(w);
        put_count(w, "known", s->targets_known[i]);
        json_end_object(w);
    }
    json_end_object(w);
}

enum ecg_status dataset_json_write(const char *path, const struct dataset_summary *s) {
    struct json_writer w = {.pretty = true};
    char *leads, *text;
    TRY(leads_format(&s->schema->leads, &leads));
    json_begin_object(&w);
    put_text(&w, "format", "ecg-dataset");
    put_count(&w, "version", 1);
    put_text(&w, "made_by", s->made_by);
    put_count(&w, "records", s->n_records);
    json_put_key(&w, "sampling_rate");
    json_put_number(&w, s->schema->sampling_rate);
    put_count(&w, "length", (size_t)s->schema->length);
    put_text(&w, "leads", leads);
    put_text(&w, "units", s->schema->units);
    put_text(&w, "preprocessing", s->schema->preprocessing);
    put_shards(&w, s);
    put_columns(&w, s);
    json_end_object(&w);
    free(leads);
    TRY(json_writer_take(&w, &text));
    enum ecg_status status = file_write(path, text, strlen(text));
    free(text);
    return status;
}
