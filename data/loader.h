/* SPDX-License-Identifier: MIT
 * Which records, in which order, and batches of them read ahead by worker threads. */
#ifndef DATA_LOADER_H
#define DATA_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "data/augment.h"
#include "data/shard.h"

/* A part of a data set, as data.train / data.valid / data.test give it. */
struct selection_spec {
    char *path;
    int *folds; /* records whose fold is in the list; n_folds 0 = no fold rule */
    int n_folds;
    bool has_part;
    double part[2]; /* patients whose hash / 2^64 lies in [from, to); from > to: in [from, 1) or [0, to), so that [b, a] is
                     * what [a, b] leaves */
    bool has_fraction;
    double fraction; /* (0, 1]: of the patients that are left, the first ceil(fraction * patients) in an order by hash of
                      * (fraction_seed, patient): with one seed a smaller fraction lies inside a larger one */
    uint64_t fraction_seed;
};
bool selection_part_is_valid(const double part[2]); /* two different numbers of [0, 1] */
/* Fresh sorted list of the record numbers that all rules take. ECG_ERR_CONFIG: folds asked of a data set without
 * fold, a part that is no interval of [0, 1], nothing left, or a fraction below 1 that leaves fewer than two patients. */
enum ecg_status selection_make(const struct dataset *d, const struct selection_spec *spec,
                               size_t **index, size_t *n);
/* Patients that stand in both lists (by hash); for the check that no patient is on both sides. `example` (fresh
 * patient id of one, or NULL). */
enum ecg_status selection_overlap(struct dataset *da, const size_t *a, size_t na,
                                  struct dataset *db, const size_t *b, size_t nb,
                                  size_t *n_patients, char **example);

/* The order of an epoch: position -> place in the selection, a Fisher-Yates shuffle by Philox (seed, RNG_SHUFFLE,
 * epoch); without shuffle the identity. */
void sampler_order(size_t n, bool shuffle, uint64_t seed, uint32_t epoch, size_t *order);
/* The order of a balanced epoch: n places drawn with replacement, place i with probability weight[i] / their sum, by Philox
 * (seed, RNG_BALANCE, epoch). upto: the weights' running sums. */
void sampler_cumulate(size_t n, const double *weight, double *upto);
void sampler_draw(size_t n, const double *upto, uint64_t seed, uint32_t epoch, size_t *order);

struct loader_options {
    const size_t *index; /* the selection; like the columns the caller's, and must outlive the loader */
    size_t n;
    const int *label_columns; /* columns to hand on, in this order */
    int n_labels;
    const int *target_columns;
    int n_targets;
    int batch_size;
    bool shuffle;
    const double *weight; /* (n) of a balanced epoch, which is drawn and not shuffled; NULL: every record once */
    const struct augment *augment; /* NULL: records as they are stored; outlives the loader like the selection */
    uint64_t seed;
    uint32_t epoch;     /* first epoch */
    size_t first_batch; /* batches of it to skip: resume in the middle of an epoch */
    int workers;        /* reading threads; 0 = 1 */
    bool columns_only;  /* labels and targets alone: no ecg, no scale (both NULL) */
    int rank, ranks;    /* only this rank's slice of each batch is read; ranks 0: all of it */
    bool repeat;        /* after an epoch go on with the next; else NULL batches at the end */
};

/* All arrays belong to the loader's ring and stay valid until the next loader_next. */
struct batch {
    int B;     /* the last batch of an epoch may be smaller; of several ranks this one's slice, which may be empty */
    int first; /* the slice's place in the batch */
    int total; /* records of the batch, over all ranks */
    uint32_t epoch;
    size_t number; /* in its epoch */
    bool last_of_epoch;
    int16_t *ecg;    /* (B, C, L), all leads of the file */
    float *scale;    /* (B) */
    uint8_t *labels; /* (B, n_labels) */
    float *targets;  /* (B, n_targets) */
    size_t *record;  /* (B) record numbers in the data set */
    /* Mixup, else NULL: record i's waveform is mix[i] of its own and 1 - mix[i] of record partner[i]'s, which is mixed with i
     * in turn (2k with 2k + 1; the last of an odd batch is its own partner). Labels and targets stay each record's own. */
    float *mix;   /* (B) */
    int *partner; /* (B) */
};

/* Rank r's slice of n records: [*first, *first + the count returned), whole pairs, for mixup. */
size_t loader_slice(size_t n, int rank, int ranks, size_t *first);

struct loader;
/* ECG_ERR_CONFIG: no record, a batch size below 1, a column, record or first_batch that is not there, weights that are no
 * probabilities. first_batch =
 * batches of an epoch stands for the start of the next one. */
enum ecg_status loader_open(struct loader **l, struct dataset *d, const struct loader_options *o);
/* *b = NULL at the end. A record that can't be read is the failure of its batch, with shard and record; the next call
 * goes on with the next batch. */
enum ecg_status loader_next(struct loader *l, struct batch **b);
/* Bytes of the batches that a loader with these options reads ahead, of its order and its threads; record_values: C * L. */
size_t loader_bytes(const struct loader_options *o, size_t record_values);
size_t loader_batches_per_epoch(const struct loader *l);
void loader_close(struct loader *l); /* joins the workers; NULL is fine */

#endif
