/* SPDX-License-Identifier: MIT
 * dataset.json: what a data set holds and how it was made, for people and tools. Readers don't need it. */
#ifndef DATA_DATASET_JSON_H
#define DATA_DATASET_JSON_H

#include <stddef.h>
#include <stdint.h>

#include "data/shard.h"

struct shard_written {
    size_t n_records;
    uint64_t hash; /* xxhash64 of the file */
};

struct label_count {
    size_t present, absent, unknown;
};

struct dataset_summary {
    const struct shard_schema *schema;
    const char *made_by;
    size_t n_records, n_shards;
    const struct shard_written *shards; /* (n_shards) */
    const struct label_count *labels;   /* (K) */
    const size_t *targets_known;        /* (T) */
};

/* Name of shard i: "shard-00012.h5". */
#define SHARD_NAME_BYTES 32
void dataset_shard_file_name(size_t i, char out[SHARD_NAME_BYTES]);

enum ecg_status dataset_json_write(const char *path, const struct dataset_summary *s);

#endif
