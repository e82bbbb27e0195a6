/* SPDX-License-Identifier: MIT
 * What training does to a record on its way from the shard, in the loader's threads: another view of the heart in place of
 * lead I (ECGFounder's single-lead recipe), a few operations drawn from a list (RandAugment: Cubuk et al. 2019, arXiv
 * 1909.13719; for ECG: PulseNet, arXiv 2305.15424), mixing with another record (mixup: Zhang et al. 2018, arXiv 1710.09412).
 *
 * int16 in, int16 out. Views that the file holds, shift, crop, cutout and lead_drop move whole numbers and stay exact; after
 * the others the record gets a scale of its own, peak / 32767, so its error is at most half of that. All draws follow from
 * (seed, epoch, place in the epoch): not the record's number, as a balanced epoch holds a record several times. */
#ifndef DATA_AUGMENT_H
#define DATA_AUGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/mem.h"
#include "core/rng.h"
#include "core/status.h"
#include "data/leads.h"
#include "data/shard.h"

/* The operations, in the order in which a record gets those that it drew: what distorts comes before what masks, so what is
 * masked stays 0. Magnitude m (0 .. 1) bounds each; how far a record goes, up to the bound, is drawn uniformly. "sd" is the
 * record's, over all samples of the leads taken. */
#define AUGMENT_OPS(X)        \
    X(SCALING, "scaling")     \
    X(TIME_WARP, "time_warp") \
    X(WANDER, "wander")       \
    X(NOISE, "noise")         \
    X(POWERLINE, "powerline") \
    X(SHIFT, "shift")         \
    X(CROP, "crop")           \
    X(CUTOUT, "cutout")       \
    X(LEAD_DROP, "lead_drop")

/* Their bounds at magnitude 1. */
#define AUGMENT_MAX_SCALING   0.5 /* a factor 1 +- this for each lead, which z-scoring of all leads together keeps */
#define AUGMENT_MAX_TIME_WARP 0.2 /* speed of the time, 1 +- this, along 1 to 3 sine waves; both ends stay */
#define AUGMENT_MAX_WANDER    2.0 /* sds: largest sum of three sine waves of 0.05 to 0.5 Hz; each lead its own gain */
#define AUGMENT_MAX_NOISE     0.5 /* sds: the sd of white Gaussian noise */
#define AUGMENT_MAX_POWERLINE 0.5 /* sds: amplitude of a sine wave of 50 or 60 Hz; each lead its own gain */
#define AUGMENT_MAX_SHIFT     0.2 /* of the record, earlier or later; 0 where nothing comes in */
#define AUGMENT_MAX_CROP      0.5 /* of the record cut off at the ends; the rest moves to the start and 0 follows, as import pads
                                 a short record: stretched instead, it would change the heart rate */
#define AUGMENT_MAX_CUTOUT    0.3 /* of the record, one window of all leads set to 0 */
#define AUGMENT_MAX_LEAD_DROP 0.5 /* of the leads taken set to 0, one at least and never all */

#define AUGMENT_ID_(id, name) AUGMENT_##id,
enum augment_op { AUGMENT_OPS(AUGMENT_ID_) AUGMENT_N_OPS };
extern const char *const augment_op_names[AUGMENT_N_OPS + 1]; /* ends with NULL */

struct augment_options {
    unsigned ops; /* bit 1 << op: may be drawn */
    int n;        /* how many of them a record gets, none twice; at most the bits of `ops` */
    double magnitude;
    double probability;      /* that a record gets operations at all */
    bool lead;               /* lead augmentation */
    double lead_probability; /* that another view takes lead I's place */
    double mixup;            /* alpha of Beta(alpha, alpha); 0: no mixup */
};
bool augment_any(const struct augment_options *o); /* whether they change anything */

/* The single-lead recipe: lead I is the axis at 0 degrees, its other views stand 30 degrees apart. */
enum { AUGMENT_VIEWS = 6 }; /* aVL, -aVR, II, -III, aVF, -aVF */

/* Set up for a data set; constant from then on, so threads share it. */
struct augment {
    struct augment_options o;
    double sampling_rate; /* Hz */
    int length;
    const int *lead; /* (n_leads) rows of the file that are taken; the others are left as they are */
    int n_leads;
    struct lead_mix view[AUGMENT_VIEWS]; /* without its sign */
};
/* `lead` must outlive a. ECG_ERR_CONFIG names the key: lead augmentation where lead I is not the one lead taken or the file's
 * leads don't give the views, lead_drop of one lead, powerline below 120 Hz. A schema without sampling rate describes data that
 * are not there: what only the file could tell is not checked, and nothing may be augmented. */
enum ecg_status augment_init(struct augment *a, const struct augment_options *o,
                             const struct shard_schema *schema, const int *lead, int n_leads);

/* A thread's memory. */
struct augment_scratch {
    float *x;    /* (n_leads, length) */
    float *row;  /* (length) */
    float *part; /* (length) */
    int32_t *at; /* (length) */
};
void augment_carve(const struct augment *a, struct arena *arena, struct augment_scratch *s);

/* A record's place among an epoch's batches, from which all of its random numbers follow. */
struct augment_place {
    uint64_t seed;
    uint32_t epoch, place;
};
/* Lead augmentation, then operations: ecg (file's leads, length) and *scale, which is negative after a view with a minus. */
void augment_record(const struct augment *a, const struct augment_place *at,
                    struct augment_scratch *s, int16_t *ecg, float *scale);

/* The share that a record keeps of itself in mixup. */
float augment_lambda(const struct augment *a, const struct augment_place *at);
/* Beta(alpha, alpha), alpha > 0: from two Gamma variates (Marsaglia and Tsang 2000). */
double augment_beta(struct rng *r, double alpha);
/* Mixes two records with each other: record i becomes lambda[i] of itself and the rest of the other's, in physical units. */
void augment_mix(const struct augment *a, const float lambda[2], int16_t *const ecg[2],
                 float *const scale[2]);

#endif
