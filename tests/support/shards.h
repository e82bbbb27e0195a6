/* SPDX-License-Identifier: MIT
 * Small data sets for tests: every value follows from the record's number, so any reader can check any record. */
#ifndef TESTS_SUPPORT_SHARDS_H
#define TESTS_SUPPORT_SHARDS_H

#include <stddef.h>
#include <stdint.h>

#include "data/shard.h"

enum { SHARDS_C = 3, SHARDS_L = 20, SHARDS_K = 2, SHARDS_T = 2 };

/* Leads I, II, V1; labels "af", "mi \xc3\xa4"; targets "age", "hr"; 500 Hz, mV; folds. Free it. */
void shards_schema(struct shard_schema *s);

/* Record i: id "r/<i>", patient "p<i/3>", fold i % 10 + 1. */
int16_t shards_sample(size_t i, int c, int l);
float shards_scale(size_t i);
uint8_t shards_label(size_t i, int k); /* 0, 1 and 255 all occur */
float shards_target(size_t i, int t);  /* every 5th is NaN */

/* Writes records 0 .. n-1 into a new folder. */
enum ecg_status shards_write(const char *dir, size_t n);

/* Whether record i of d holds what it should; prints the first difference. */
bool shards_check(struct dataset *d, size_t i);

#endif
