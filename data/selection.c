/* SPDX-License-Identifier: MIT
 * Which records of a data set a run uses: by fold, by part of the patients, by a fraction of these. Patients are told apart
 * by the hash of their id, which also spreads them evenly over the unit interval. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/mem.h"
#include "data/loader.h"

/* hash / 2^64, below 1 also for the largest hash. */
static double place_of(uint64_t hash) {
    return (double)(hash >> 11) * 0x1p-53;
}

static enum ecg_status check_spec(const struct dataset *d, const struct selection_spec *spec) {
    if (spec->n_folds > 0 && d->fold == NULL)
        return ecg_fail(ECG_ERR_CONFIG, "%s: has no folds; choose by part: [from, to] instead",
                        d->path);
    if (spec->has_part && !selection_part_is_valid(spec->part))
        return ecg_fail(ECG_ERR_CONFIG, "%s: part [%g, %g] is no interval of [0, 1]", d->path,
                        spec->part[0], spec->part[1]);
    if (spec->has_fraction && !(spec->fraction > 0 && spec->fraction <= 1))
        return ecg_fail(ECG_ERR_CONFIG, "%s: fraction %g does not lie in (0, 1]", d->path,
                        spec->fraction);
    return ECG_OK;
}

bool selection_part_is_valid(const double part[2]) {
    return part[0] >= 0 && part[0] <= 1 && part[1] >= 0 && part[1] <= 1 && part[0] != part[1];
}

static bool in_part(const double part[2], double place) {
    return part[0] < part[1] ? place >= part[0] && place < part[1]
                             : place >= part[0] || place < part[1];
}

static bool takes(const struct dataset *d, const struct selection_spec *spec, size_t i) {
    if (spec->has_part && !in_part(spec->part, place_of(d->patient_hash[i]))) return false;
    if (spec->n_folds == 0) return true;
    for (int k = 0; k < spec->n_folds; k++)
        if (d->fold[i] == spec->folds[k]) return true;
    return false;
}

static int compare_hashes(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static enum ecg_status sorted_patients(const struct dataset *d, const size_t *index, size_t n,
                                       uint64_t **out) {
    TRY(MEM_NEW(out, n));
    for (size_t i = 0; i < n; i++) (*out)[i] = d->patient_hash[index[i]];
    qsort(*out, n, sizeof **out, compare_hashes);
    return ECG_OK;
}

/* Length of the run of equal values that begins at i. */
static size_t run_length(const uint64_t *v, size_t n, size_t i) {
    size_t j = i + 1;
    while (j < n && v[j] == v[i]) j++;
    return j - i;
}

/* ------------------------------------------------------------------ a fraction of the patients */

struct ranked {
    uint64_t rank, patient;
};

static struct ranked rank_of(uint64_t seed, uint64_t patient) {
    const uint64_t key[2] = {seed, patient};
    return (struct ranked){hash_bytes(key, sizeof key), patient};
}

/* Two patients of one rank are told apart by their own hash. */
static int compare_ranks(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->rank != y->rank) return (x->rank > y->rank) - (x->rank < y->rank);
    return compare_hashes(&x->patient, &y->patient);
}

/* Keeps the records of the first patients by rank; *n becomes their number. */
static enum ecg_status take_fraction(const struct dataset *d, const struct selection_spec *spec,
                                     size_t *index, size_t *n) {
    uint64_t *patients = NULL;
    struct ranked *ranks = NULL;
    size_t n_patients = 0, left = 0;
    enum ecg_status status;
    TRY_OUT(sorted_patients(d, index, *n, &patients));
    TRY_OUT(MEM_NEW(&ranks, *n));
    for (size_t i = 0; i < *n; i += run_length(patients, *n, i))
        ranks[n_patients++] = rank_of(spec->fraction_seed, patients[i]);
    qsort(ranks, n_patients, sizeof *ranks, compare_ranks);
    /* 0.07 of 100 patients are 7, though the product is a little more. */
    size_t keep = (size_t)ceil(spec->fraction * (double)n_patients * (1 - 1e-12));
    if (keep < 2) {
        status = ecg_fail(ECG_ERR_CONFIG,
                          "%s: fraction %g of %zu patients leaves %zu; at least 2 are needed",
                          d->path, spec->fraction, n_patients, keep);
        goto out;
    }
    for (size_t i = 0; i < *n; i++) {
        struct ranked r = rank_of(spec->fraction_seed, d->patient_hash[index[i]]);
        if (compare_ranks(&r, &ranks[keep - 1]) <= 0) index[left++] = index[i];
    }
    *n = left;
out:
    free(patients);
    free(ranks);
    return status;
}

enum ecg_status selection_make(const struct dataset *d, const struct selection_spec *spec,
                               size_t **index, size_t *n) {
    size_t *list, taken = 0;
    *index = NULL;
    *n = 0;
    if (d->n_records == 0) return ecg_fail(ECG_ERR_DATA, "%s: holds no record", d->path);
    TRY(check_spec(d, spec));
    TRY(MEM_NEW(&list, d->n_records));
    for (size_t i = 0; i < d->n_records; i++)
        if (takes(d, spec, i)) list[taken++] = i;
    if (taken == 0) {
        free(list);
        return ecg_fail(ECG_ERR_CONFIG, "%s: no record is left of %zu: check fold and part",
                        d->path, d->n_records);
    }
    enum ecg_status status = ECG_OK;
    if (spec->has_fraction && spec->fraction < 1) status = take_fraction(d, spec, list, &taken);
    if (status != ECG_OK) {
        free(list);
        return status;
    }
    *index = list;
    *n = taken;
    return ECG_OK;
}

/* ------------------------------------------------------------------ two selections */

static enum ecg_status patient_of(struct dataset *d, const size_t *index, size_t n, uint64_t hash,
                                  char **id) {
    size_t i = 0;
    while (i + 1 < n && d->patient_hash[index[i]] != hash) i++;
    return dataset_patient_id(d, index[i], id);
}

enum ecg_status selection_overlap(struct dataset *da, const size_t *a, size_t na,
                                  struct dataset *db, const size_t *b, size_t nb,
                                  size_t *n_patients, char **example) {
    uint64_t *pa = NULL, *pb = NULL, shared = 0;
    enum ecg_status status;
    *n_patients = 0;
    *example = NULL;
    TRY_OUT(sorted_patients(da, a, na, &pa));
    TRY_OUT(sorted_patients(db, b, nb, &pb));
    for (size_t i = 0, j = 0; i < na && j < nb;) {
        if (pa[i] == pb[j]) {
            if (++*n_patients == 1) shared = pa[i];
            i += run_length(pa, na, i);
        } else if (pa[i] < pb[j]) {
            i++;
        } else {
            j++;
        }
    }
    if (*n_patients > 0) TRY_OUT(patient_of(da, a, na, shared, example));
out:
    free(pa);
    free(pb);
    return status;
}
